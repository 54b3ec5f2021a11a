//! Python virtual environments, relocated to where they are copied.
//!
//! An environment (PEP 405) holds the absolute paths of the place where it was made and of the interpreter that made it. These change
//! with the place; all other bytes stay as they are:
//!
//! ```text
//! pyvenv.cfg                              home, executable and command
//! bin/python3                             the link to the interpreter
//! bin/activate*                           the place
//! bin/*                                   the first line of scripts
//! lib/python3.11/site-packages/*.pth      directories, also in *.egg-link and __editable__*.py
//!     */direct_url.json                   where a package was installed from
//!     */RECORD                            digests and sizes of the changed files
//! ```
//!
//! It works on the whole image, when all layers are planned: the interpreter is in the base, and a source that an editable installation
//! refers to may be in another copy.

mod found;
mod installed;
mod interpreter;
mod modules;
mod rewrite;
mod settings;

use super::PlannedLayer;
use super::loaders::Loaders;
use super::placement::Unchecked;
use crate::common::error::{Error, Result};
use crate::layers::rootfs::{Resolved, Rootfs};
use crate::layers::tree::Tree;
use crate::spec::{ImagePath, Platform};
use found::{FileRole, FoundFile, PlannedEntry, VirtualEnvironment};
use installed::MovedText;
use interpreter::{InterpreterSearch, SearchedImage};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most bytes of changed files in an image.
const MOST_CHANGED: usize = 64 << 20;

/// A virtual environment that is in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PythonEnvironment {
    /// Its directory in the image.
    pub path: ImagePath,
    /// Where it was made, if it says so.
    pub made_at: Option<String>,
    /// The name of its interpreter, such as `python3.11`.
    pub python: String,
    /// The interpreter in the image; `None` if a layer of the base is unknown.
    pub interpreter: Option<ImagePath>,
    /// The files and links that are changed, by their paths in the environment.
    pub changed: Vec<String>,
}

impl PythonEnvironment {
    /// Returns it as JSON.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "path": self.path.to_string(),
            "madeAt": self.made_at,
            "python": self.python,
            "interpreter": self.interpreter.as_ref().map(ToString::to_string),
            "changed": self.changed,
        })
    }
}

/// What becomes of an entry.
#[derive(Debug)]
enum EntryChange {
    Content(Vec<u8>),
    Target(String),
}

/// The changes of an image, not yet made.
#[derive(Debug, Default)]
pub(super) struct PythonRelocation {
    environments: Vec<PythonEnvironment>,
    changes: BTreeMap<PlannedEntry, EntryChange>,
    changed_bytes: usize,
}

impl PythonRelocation {
    /// Plans the changes of the environments in `layers`, in an image with these files and this config.
    ///
    /// # Errors
    /// Fails if an environment cannot work in the image, or a file has changed since it was found.
    pub(super) fn plan(
        layers: &[PlannedLayer],
        (rootfs, loaders): (&Rootfs<'_>, Loaders),
        (config, platform): (&Value, &Platform),
        unchecked: &mut Unchecked,
    ) -> Result<PythonRelocation> {
        let mut relocation = PythonRelocation::default();
        let environments = found::environments(layers, rootfs)?;
        if environments.is_empty() {
            return Ok(relocation);
        }
        let image = SearchedImage::new(rootfs, config);
        for environment in &environments {
            modules::check(&environment.root, &environment.modules, platform, loaders)?;
            relocation.add(environment, &image, unchecked)?;
        }
        Ok(relocation)
    }

    /// Makes the changes. Returns the environments.
    pub(super) fn apply(self, layers: &mut [PlannedLayer]) -> Vec<PythonEnvironment> {
        for (place, change) in self.changes {
            let tree: Option<&mut Tree> = layers.get_mut(place.layer).and_then(PlannedLayer::tree_mut);
            match (tree, change) {
                (Some(tree), EntryChange::Content(content)) => tree.set_content(place.entry, content.into()),
                (Some(tree), EntryChange::Target(target)) => tree.set_target(place.entry, target.into_bytes().into()),
                (None, _) => {}
            }
        }
        self.environments
    }

    fn add(
        &mut self,
        environment: &VirtualEnvironment,
        image: &SearchedImage<'_>,
        unchecked: &mut Unchecked,
    ) -> Result<()> {
        if environment.root.is_root() {
            let reason = "a Python environment cannot be the root of an image";
            return Err(Error::invalid("/", reason).hint("copy it to another path, such as /venv"));
        }
        let python = environment.python()?;
        let interpreter = match image.find(&python, &environment.root, &environment.recorded(&python), unchecked)? {
            InterpreterSearch::At(path) => Some(path),
            InterpreterSearch::Unknown => None,
            InterpreterSearch::Nowhere(other) => return Err(environment.without_interpreter(&python, image, other)),
        };
        let made_at = environment.made_at()?;
        let new = environment.root.to_string();
        let mut moving =
            Moving { environment, made_at: made_at.as_deref(), new: &new, interpreter: interpreter.as_ref() };
        let mut changed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut links = Vec::new();
        for file in environment.files.iter().filter(|file| file.role != FileRole::Record) {
            if let Some(target) = moving.target(file) {
                links.push(file.path.clone());
                self.changes.insert(file.place, EntryChange::Target(target));
            }
            if let Some(content) = moving.content(file, image.rootfs, unchecked)? {
                self.count(&environment.root, content.len())?;
                changed.insert(file.path.clone(), content.clone());
                self.changes.insert(file.place, EntryChange::Content(content));
            }
        }
        let mut records = Vec::new();
        for file in environment.files.iter().filter(|file| file.role == FileRole::Record && !changed.is_empty()) {
            let Some(text) = file.content()? else { continue };
            if let Some(content) = installed::record(&text, file, &changed) {
                self.count(&environment.root, content.len())?;
                records.push(file.path.clone());
                self.changes.insert(file.place, EntryChange::Content(content));
            }
        }
        let mut changed: Vec<String> = changed.into_keys().chain(links).chain(records).collect();
        changed.sort_unstable();
        let path = environment.root.clone();
        self.environments.push(PythonEnvironment { path, made_at, python, interpreter, changed });
        Ok(())
    }

    fn count(&mut self, root: &ImagePath, bytes: usize) -> Result<()> {
        self.changed_bytes += bytes;
        if self.changed_bytes > MOST_CHANGED {
            let reason = "the files to be changed for its new place are larger than 64 MiB together";
            return Err(Error::invalid(root.to_string(), reason).hint("--python-venv keep"));
        }
        Ok(())
    }
}

/// An environment on the way to its new place.
struct Moving<'a> {
    environment: &'a VirtualEnvironment,
    made_at: Option<&'a str>,
    new: &'a str,
    interpreter: Option<&'a ImagePath>,
}

impl Moving<'_> {
    /// Returns where it was made and where it goes.
    fn place(&self) -> (&str, &str) {
        (self.made_at.unwrap_or(self.new), self.new)
    }

    /// Returns the new target of a link in `bin`; `None` if it stays unchanged.
    fn target(&self, file: &FoundFile) -> Option<String> {
        let target = file.target().filter(|_| file.role == FileRole::Program)?;
        let (old, new) = self.place();
        let moved = match target.strip_prefix(old) {
            Some(rest) if rest.starts_with('/') => format!("{new}{rest}"),
            _ if is_interpreter(file.name()) && target.contains('/') => self.interpreter?.to_string(),
            _ => return None,
        };
        (moved != target).then_some(moved)
    }

    /// Returns the new content of a file; `None` if it stays unchanged.
    fn content(&mut self, file: &FoundFile, rootfs: &Rootfs<'_>, unchecked: &mut Unchecked) -> Result<Option<Vec<u8>>> {
        let (old, new) = self.place();
        match file.role {
            FileRole::Settings => Ok(self.environment.settings.moved(self.made_at, new, self.interpreter)),
            FileRole::Program if is_activation(file.name()) => {
                let Some(text) = file.content()? else { return Ok(None) };
                Ok(rewrite::replaced(&text, old.as_bytes(), new.as_bytes()))
            }
            FileRole::Program => {
                if rewrite::script(&file.start()?, old, new).is_none() {
                    return Ok(None);
                }
                self.check_new_place()?;
                Ok(file.content()?.and_then(|text| rewrite::script(&text, old, new)))
            }
            FileRole::Directories => self.moved_text(file, installed::directories, rootfs, unchecked),
            FileRole::Finder => self.moved_text(file, installed::finder, rootfs, unchecked),
            FileRole::Origin => self.moved_text(file, installed::origin, rootfs, unchecked),
            FileRole::Record => Ok(None),
        }
    }

    /// Requires that the first line of a script can name the interpreter at the new place.
    fn check_new_place(&self) -> Result<()> {
        // The limit of kernels before 5.1, with the longest name of an interpreter.
        const LONGEST: usize = 127 - "#!/bin/python3.99t".len();
        let reason = match self.new {
            new if new.contains([' ', '\t', '"', '\'', '$', '`', '\\']) => "a path with a space or quote",
            new if new.len() > LONGEST => "so long a path",
            _ => return Ok(()),
        };
        let reason = format!("a Python environment cannot be at {reason}: its scripts begin with it");
        Err(Error::invalid(self.new, reason).hint("copy it to another path; --python-venv keep copies it unchanged"))
    }

    fn moved_text(
        &self,
        file: &FoundFile,
        moved: fn(&[u8], (&str, &str)) -> MovedText,
        rootfs: &Rootfs<'_>,
        unchecked: &mut Unchecked,
    ) -> Result<Option<Vec<u8>>> {
        let Some(text) = file.content()? else { return Ok(None) };
        let MovedText { text, directories } = moved(&text, self.place());
        for (before, after) in directories {
            // A path that is too long or leads above the root is no directory of the image.
            let found = ImagePath::new(after.as_bytes()).ok().map(|path| rootfs.resolve(&path)).transpose()?;
            match found {
                Some(Resolved::Node(..)) => {}
                Some(Resolved::Unseen(_, unseen)) => {
                    unchecked.note(format!("whether {after} is there, from which {} has packages", self.new), &unseen);
                }
                _ => return Err(self.outside(file, &before, &after)),
            }
        }
        Ok(text)
    }

    /// Creates the error for an editable installation whose source is not in the image.
    fn outside(&self, file: &FoundFile, before: &str, after: &str) -> Error {
        let place = match before == after {
            true => String::new(),
            false => format!(", nor is {after}, where it would belong"),
        };
        let reason = format!("{} refers to {before}, which is not in the image{place}", file.path);
        Error::invalid(self.new, reason)
            .hint("install it without `-e`, or copy that directory as well; --python-venv keep copies it unchanged")
    }
}

impl VirtualEnvironment {
    /// Returns the name of the interpreter, which is that of its library.
    fn python(&self) -> Result<String> {
        let recorded = self.settings.version().map(|version| format!("python{version}"));
        let refuse = |reason: &str| {
            Err(Error::invalid(self.root.to_string(), format!("cannot run in the image: {reason}"))
                .hint("an environment made on Linux; --python-venv keep copies it unchanged"))
        };
        match (recorded, self.libraries.len()) {
            (Some(recorded), _) if self.libraries.contains(&recorded) => Ok(recorded),
            (_, 0) => refuse("it has no lib/pythonX.Y, so it was not made on Linux"),
            (_, 1) => Ok(self.libraries.first().cloned().unwrap_or_default()),
            _ => refuse("it has several directories lib/pythonX.Y, and pyvenv.cfg names none of them"),
        }
    }

    /// Returns the paths of its interpreter outside of it, as it records them.
    fn recorded(&self, python: &str) -> Vec<String> {
        let programs = self.files.iter().filter(|file| file.role == FileRole::Program && is_interpreter(file.name()));
        let targets = programs.filter_map(FoundFile::target).filter(|target| target.starts_with('/'));
        targets.map(str::to_owned).chain([format!("{}/{python}", self.settings.home())]).collect()
    }

    /// Returns where it was made.
    fn made_at(&self) -> Result<Option<String>> {
        let programs = || self.files.iter().filter(|file| file.role == FileRole::Program);
        let mut place = None;
        if let Some(activate) = programs().find(|file| file.name() == "activate") {
            place = activate.content()?.and_then(|text| settings::place_in_activate(&text));
        }
        place = place.or_else(|| self.settings.place().map(str::to_owned));
        for file in programs() {
            if place.is_some() {
                break;
            }
            place = settings::place_in_script(&file.start()?, self.settings.home());
        }
        let place = place.map(|place| place.trim_end_matches('/').to_owned());
        Ok(place.filter(|place| !place.is_empty()))
    }

    fn without_interpreter(&self, python: &str, image: &SearchedImage<'_>, other: Option<ImagePath>) -> Error {
        let recorded = self.recorded(python).into_iter().next().unwrap_or_default();
        let other = other.map(|other| format!("; it has {other}")).unwrap_or_default();
        let reason = format!(
            "needs {python}, which the image does not have, neither as {recorded} nor in {}{other}",
            image.searched(&self.root)
        );
        let version = python.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let hint = format!("a base with Python {version}; --python-venv keep copies it unchanged");
        Error::invalid(self.root.to_string(), reason).hint(hint)
    }

    /// Returns the directory `site-packages` that a file is in, by its path in the environment.
    fn packages_of(path: &str) -> Option<&str> {
        const PACKAGES: &str = "/site-packages/";
        path.find(PACKAGES).map(|at| &path[..at + PACKAGES.len() - 1])
    }
}

fn is_interpreter(name: &str) -> bool {
    name.starts_with("python") || name.starts_with("pypy")
}

fn is_activation(name: &str) -> bool {
    name.starts_with("activate") || name.starts_with("Activate")
}
