//! What an image takes for itself at its destinations, so that no other image of one run can have it.

use super::destination::{ExportDestination, names_in_layout};
use ocibuild::common::root::Root;
use ocibuild::store::ContainerEngine;
use ocibuild::store::archive::ArchiveForm;
use ocibuild::{ImageName, Result};
use std::path::{Path, PathBuf};

/// A place of one image, or a name in a place of several.
#[derive(Debug)]
pub(super) struct TakenPlace {
    place: RealPlace,
    /// The name that the image gets there; `None` where one image only can be.
    pub(super) name: Option<ImageName>,
    /// The place as messages show it.
    pub(super) shown: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RealPlace {
    /// A file or directory, however its path is written.
    Path(PathBuf),
    /// A registry or an engine.
    Service(String),
}

impl TakenPlace {
    /// Returns whether not both can be taken.
    pub(super) fn excludes(&self, other: &TakenPlace) -> bool {
        let has_other_name = self.name.is_some() && other.name.is_some() && self.name != other.name;
        self.place == other.place && !has_other_name
    }
}

impl ExportDestination {
    /// Returns what an image with the names `own` takes here; one without names is called `latest`. `namespace` is that of
    /// containerd, if one is given.
    ///
    /// # Errors
    /// Fails if the name that it gets in a layout is malformed.
    pub(super) fn taken(&self, own: &[ImageName], namespace: Option<&str>) -> Result<Vec<TakenPlace>> {
        let (place, names) = match self {
            ExportDestination::Layout(directory, tag) => (real(directory), Some(names_in_layout(tag.as_deref(), own)?)),
            ExportDestination::File(file, ArchiveForm::Oci, names) => {
                (real(file), Some(names_in_layout(None, names.as_deref().unwrap_or(own))?))
            }
            ExportDestination::Directory(path)
            | ExportDestination::File(path, ArchiveForm::Docker, _)
            | ExportDestination::Files(Some(path)) => (real(path), None),
            ExportDestination::Files(None) => (RealPlace::Path("-".into()), None),
            ExportDestination::Engine(engine, references) => {
                let names = references.iter().map(ImageName::of_reference).collect();
                let namespace = namespace.filter(|_| *engine == ContainerEngine::Containerd);
                (RealPlace::Service([engine.transport(), namespace.unwrap_or_default()].join(" ")), Some(names))
            }
            ExportDestination::Repository(_, names) => (RealPlace::Service("docker".to_owned()), Some(names.clone())),
        };
        let shown = self.to_string();
        let names: Vec<_> = names.map_or_else(|| vec![None], |names| names.into_iter().map(Some).collect());
        let place = |name| TakenPlace { place: place.clone(), name, shown: shown.clone() };
        Ok(names.into_iter().map(place).collect())
    }
}

/// Returns the real path, or the path itself where nothing can be seen.
fn real(path: &Path) -> RealPlace {
    RealPlace::Path(Root::resolve_new(path).unwrap_or_else(|| path.to_owned()))
}
