//! Where the commands that build an image put it.

use super::destination::ExportDestination;
use super::taken_place::TakenPlace;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::{ImageName, Result};
use std::path::{Path, PathBuf};

/// Where an image goes.
pub(super) struct BuildTarget {
    /// The layout that lists it. Without one, its blobs are in the cache on the way to the destinations.
    pub(super) layout: Option<PathBuf>,
    /// Where it is copied to.
    pub(super) destinations: Vec<ExportDestination>,
    /// The texts that name the destinations.
    pub(super) texts: Vec<String>,
    /// The flag that names files among the destinations.
    pub(super) flag: &'static str,
}

impl BuildTarget {
    /// Returns `true` if a tar comes out of standard output.
    pub(super) fn is_on_standard_output(&self) -> bool {
        self.destinations.iter().any(ExportDestination::is_standard_output)
    }

    /// Returns its name in messages.
    pub(super) fn place(&self) -> String {
        match &self.layout {
            Some(layout) => layout.display().to_string(),
            None => self.texts.join(", "),
        }
    }

    /// Returns all places as `build --output` takes them.
    pub(super) fn all_texts(&self) -> Vec<String> {
        let layout = self.layout.iter().map(|layout| format!("oci:{}", layout.display()));
        layout.chain(self.texts.iter().cloned()).collect()
    }

    /// Returns what an image with these names takes for itself, in containerd in this namespace.
    ///
    /// # Errors
    /// Fails if the name that it gets in a layout is malformed.
    pub(super) fn taken(&self, names: &[ImageName], namespace: Option<&str>) -> Result<Vec<TakenPlace>> {
        let layout = self.layout.iter().map(|layout| ExportDestination::Layout(layout.clone(), None));
        let mut taken = Vec::new();
        for destination in layout.chain(self.destinations.iter().cloned()) {
            taken.extend(destination.taken(names, namespace)?);
        }
        Ok(taken)
    }

    /// Returns the directory in which a dry run spools an archive.
    pub(super) fn spool(&self) -> Result<Root> {
        nearest_directory(self.layout.as_deref().unwrap_or(Path::new(".")))
    }
}

/// Returns the directory in which a dry run spools an archive: `output`, or its nearest existing parent.
fn nearest_directory(output: &Path) -> Result<Root> {
    for path in output.ancestors() {
        if PathStatus::of(path)?.is_directory() {
            return Root::open(path);
        }
    }
    Root::open(Path::new("."))
}
