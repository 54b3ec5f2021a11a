//! The search for the interpreter of an environment in the image.

use crate::build::placement::Unchecked;
use crate::common::error::Result;
use crate::layers::rootfs::{ListedKind, Resolved, Rootfs, StackedEntry};
use crate::spec::{DEFAULT_PATH, ImagePath};
use serde_json::Value;

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InterpreterSearch {
    /// It is here.
    At(ImagePath),
    /// It is nowhere. If there is another Python, this is where.
    Nowhere(Option<ImagePath>),
    /// It depends on a layer whose entries are unknown.
    Unknown,
}

/// What is searched: the whole image.
pub(super) struct SearchedImage<'a> {
    pub(super) rootfs: &'a Rootfs<'a>,
    /// The directories of programs, in order.
    directories: Vec<ImagePath>,
}

enum Judged {
    Right,
    OtherPython(ImagePath),
    Wrong,
    Unknown,
}

impl<'a> SearchedImage<'a> {
    /// Creates the image of these layers with this config, whose `PATH` is searched.
    pub(super) fn new(rootfs: &'a Rootfs<'a>, config: &Value) -> SearchedImage<'a> {
        let variables = config["config"]["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let path = variables.filter_map(|variable| variable.strip_prefix("PATH=")).next_back().unwrap_or_default();
        let mut directories = Vec::new();
        for directory in path.split(':').chain(DEFAULT_PATH.split(':')).filter(|directory| directory.starts_with('/')) {
            if let Ok(directory) = ImagePath::new(directory.as_bytes())
                && !directories.contains(&directory)
            {
                directories.push(directory);
            }
        }
        SearchedImage { rootfs, directories }
    }

    /// Returns the directories of programs, for messages.
    pub(super) fn searched(&self, environment: &ImagePath) -> String {
        let outside = self.directories.iter().filter(|directory| !directory.is_in(environment));
        outside.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Looks for `python`, such as `python3.11`: at the paths that the environment has recorded, and in the directories of programs.
    ///
    /// # Errors
    /// Fails if a layer has to be read and cannot be.
    pub(super) fn find(
        &self,
        python: &str,
        environment: &ImagePath,
        recorded: &[String],
        unchecked: &mut Unchecked,
    ) -> Result<InterpreterSearch> {
        let mut candidates: Vec<ImagePath> = Vec::new();
        candidates.extend(recorded.iter().filter_map(|path| ImagePath::new(path.as_bytes()).ok()));
        for directory in &self.directories {
            candidates.push(directory.join_name(python.as_bytes())?);
        }
        for directory in &self.directories {
            candidates.push(directory.join_name(b"python3")?);
        }
        let mut other = None;
        for candidate in candidates.into_iter().filter(|candidate| !candidate.is_in(environment)) {
            match self.judge(&candidate, python, environment, unchecked)? {
                Judged::Right => return Ok(InterpreterSearch::At(candidate)),
                Judged::OtherPython(real) => drop(other.get_or_insert(real)),
                Judged::Wrong => {}
                Judged::Unknown => return Ok(InterpreterSearch::Unknown),
            }
        }
        Ok(InterpreterSearch::Nowhere(other))
    }

    fn judge(
        &self,
        candidate: &ImagePath,
        python: &str,
        environment: &ImagePath,
        unchecked: &mut Unchecked,
    ) -> Result<Judged> {
        let real = match self.rootfs.resolve(candidate)? {
            Resolved::Node(real, below) if is_program(&below) && !real.is_in(environment) => real,
            Resolved::Unseen(_, unseen) => {
                unchecked.note(format!("whether the image has {python} for {environment}"), &unseen);
                return Ok(Judged::Unknown);
            }
            _ => return Ok(Judged::Wrong),
        };
        if real.name() == python.as_bytes() {
            return Ok(Judged::Right);
        }
        // The name alone does not say the version; the library beside it does.
        let prefix = real.parent().and_then(|directory| directory.parent()).unwrap_or_else(ImagePath::root);
        let library = prefix.join(&ImagePath::new(format!("lib/{python}").as_bytes())?)?;
        let has_library =
            matches!(self.rootfs.resolve(&library)?, Resolved::Node(_, below) if below.node.kind.is_directory());
        let says_other = real.name().strip_prefix(b"python3.").is_some_and(|minor| !minor.is_empty());
        Ok(if has_library && !says_other { Judged::Right } else { Judged::OtherPython(real) })
    }
}

fn is_program(below: &StackedEntry) -> bool {
    matches!(below.node.kind, ListedKind::File { .. }) && below.node.mode & 0o111 != 0
}
