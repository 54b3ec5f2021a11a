//! Environments among the entries of planned layers, and the files of each that may need changes.

use super::modules::ModuleTag;
use super::settings::{self, Settings};
use crate::build::PlannedLayer;
use crate::common::error::{Error, Result};
use crate::layers::rootfs::{Resolved, Rootfs};
use crate::layers::tree::{Entry, Kind, PythonEnvironments, Tree};
use crate::spec::ImagePath;
use std::collections::{BTreeMap, BTreeSet};

/// The file that makes a directory an environment.
const SETTINGS: &[u8] = b"pyvenv.cfg";

/// The largest file that is changed, in bytes.
const LARGEST: u64 = 16 << 20;

/// The longest start of a script that is looked at, in bytes.
const START: usize = 8 << 10;

/// An entry of a planned layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlannedEntry {
    /// The number of the layer.
    pub(super) layer: usize,
    /// The number of the entry in it.
    pub(super) entry: usize,
}

/// An environment.
#[derive(Debug)]
pub(super) struct VirtualEnvironment {
    /// Its directory in the image.
    pub(super) root: ImagePath,
    pub(super) settings: Settings,
    /// The names of its directories below `lib`, such as `python3.11`.
    pub(super) libraries: BTreeSet<String>,
    /// `pyvenv.cfg`, programs, and what installers leave in `site-packages`.
    pub(super) files: Vec<FoundFile>,
    /// One compiled module for each platform that the names of modules have.
    pub(super) modules: BTreeMap<ModuleTag, ImagePath>,
}

/// A file or link that may need changes.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) place: PlannedEntry,
    /// Its path in the environment.
    pub(super) path: String,
    pub(super) role: FileRole,
    pub(super) entry: Entry,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileRole {
    Settings,
    /// A file or link in `bin`.
    Program,
    /// A `.pth` or `.egg-link` file: lines with directories.
    Directories,
    /// The module of an editable installation.
    Finder,
    /// `direct_url.json`: where a package was installed from.
    Origin,
    /// `RECORD`: the files of a package with their digests.
    Record,
}

/// Returns the environments in layers, except for those that stay unchanged.
///
/// # Errors
/// Fails if a file has changed since it was found.
pub(super) fn environments(layers: &[PlannedLayer], rootfs: &Rootfs<'_>) -> Result<Vec<VirtualEnvironment>> {
    let mut found = BTreeMap::new();
    for (number, layer) in layers.iter().enumerate() {
        let Some(tree) = layer.tree() else { continue };
        for entry in tree.named(SETTINGS) {
            let place = PlannedEntry { layer: number, entry };
            let Some(entry) = tree.entry(entry) else { continue };
            let Some(root) = entry.path.parent() else { continue };
            if !is_relocated(layer, &root, rootfs)? {
                continue;
            }
            let Some(settings) = read(&entry, settings::LARGEST)?.and_then(Settings::read) else { continue };
            let path = String::from_utf8_lossy(SETTINGS).into_owned();
            found.insert(root, (settings, FoundFile { place, path, role: FileRole::Settings, entry }));
        }
    }
    let mut environments = Vec::new();
    for (root, (settings, file)) in found {
        let mut environment = VirtualEnvironment {
            root,
            settings,
            libraries: BTreeSet::new(),
            files: vec![file],
            modules: BTreeMap::new(),
        };
        for (number, layer) in layers.iter().enumerate() {
            if let Some(tree) = layer.tree() {
                environment.add_from(tree, number);
            }
        }
        // Without programs and without a library it is a stray file.
        if environment.files.len() > 1 || !environment.libraries.is_empty() {
            environments.push(environment);
        }
    }
    Ok(environments)
}

/// Returns whether the copy that has the environment at `root` wants it to be relocated.
fn is_relocated(layer: &PlannedLayer, root: &ImagePath, rootfs: &Rootfs<'_>) -> Result<bool> {
    let mut innermost: Option<(ImagePath, PythonEnvironments)> = None;
    for (destination, policy) in &layer.copied {
        // Links of the layers below may lead to the place of the copy.
        let real = match rootfs.resolve(destination)? {
            Resolved::Node(real, _) | Resolved::Absent(real) => real,
            _ => destination.clone(),
        };
        let is_inner = innermost.as_ref().is_none_or(|(other, _)| real.is_in(other));
        if is_inner && (root.is_in(&real) || root.is_in(destination)) {
            innermost = Some((real, *policy));
        }
    }
    Ok(innermost.is_some_and(|(_, policy)| policy == PythonEnvironments::Relocate))
}

impl VirtualEnvironment {
    fn add_from(&mut self, tree: &Tree, layer: usize) {
        let start = if self.root.is_root() { 0 } else { self.root.as_bytes().len() + 1 };
        for (number, entry) in tree.entries_below(&self.root) {
            let Some(path) = entry.path.as_bytes().get(start..).and_then(|path| std::str::from_utf8(path).ok()) else {
                continue;
            };
            let names: Vec<&str> = path.split('/').collect();
            if let ["lib" | "lib64", library, ..] = names[..]
                && (library.starts_with("python") || library.starts_with("pypy"))
                && (names.len() > 2 || matches!(entry.kind, Kind::Directory))
            {
                self.libraries.insert(library.to_owned());
            }
            if let Some(tag) = names.last().and_then(|name| ModuleTag::of(name)) {
                self.modules.entry(tag).or_insert_with(|| entry.path.clone());
            }
            let Some(role) = role(&names) else { continue };
            if matches!(entry.kind, Kind::File { .. } | Kind::Symlink { .. }) {
                let path = path.to_owned();
                self.files.push(FoundFile { place: PlannedEntry { layer, entry: number }, path, role, entry });
            }
        }
    }
}

fn role(names: &[&str]) -> Option<FileRole> {
    match names {
        ["bin", _] => Some(FileRole::Program),
        ["lib" | "lib64", _, "site-packages", name] if name.ends_with(".pth") || name.ends_with(".egg-link") => {
            Some(FileRole::Directories)
        }
        ["lib" | "lib64", _, "site-packages", name] if name.starts_with("__editable__") && name.ends_with(".py") => {
            Some(FileRole::Finder)
        }
        ["lib" | "lib64", _, "site-packages", package, "direct_url.json"] if package.ends_with(".dist-info") => {
            Some(FileRole::Origin)
        }
        ["lib" | "lib64", _, "site-packages", package, "RECORD"] if package.ends_with(".dist-info") => {
            Some(FileRole::Record)
        }
        _ => None,
    }
}

impl FoundFile {
    /// Returns the content of a file; `None` for a link.
    ///
    /// # Errors
    /// Fails if the file has changed since it was found, or is too large to be changed.
    pub(super) fn content(&self) -> Result<Option<Vec<u8>>> {
        if self.entry.size() > LARGEST {
            let reason = "larger than 16 MiB, so it cannot be changed for its new place";
            return Err(Error::invalid(self.entry.path.to_string(), reason).hint("--python-venv keep"));
        }
        read(&self.entry, LARGEST)
    }

    /// Returns the start of a file; empty for a link.
    ///
    /// # Errors
    /// Fails if the file has changed since it was found.
    pub(super) fn start(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Kind::File { size, content } = &self.entry.kind {
            content.append(0, START.min(usize::try_from(*size).unwrap_or(START)), *size, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Returns the target of a link.
    pub(super) fn target(&self) -> Option<&str> {
        match &self.entry.kind {
            Kind::Symlink { target } => std::str::from_utf8(target).ok(),
            _ => None,
        }
    }

    /// Returns the name of the file.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Returns the content of a file of at most `most` bytes.
fn read(entry: &Entry, most: u64) -> Result<Option<Vec<u8>>> {
    let Kind::File { size, content } = &entry.kind else { return Ok(None) };
    let Some(length) = usize::try_from(*size).ok().filter(|_| *size <= most) else { return Ok(None) };
    let mut bytes = Vec::new();
    content.append(0, length, *size, &mut bytes)?;
    Ok(Some(bytes))
}
