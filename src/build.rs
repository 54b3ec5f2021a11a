//! The story from a request to an image: [`BuildSpec`] → [`Plan`] → [`Built`].

use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::image::{Base, ConfigEdit, Image, NewLayer, assemble};
use crate::layer::{Layer, LayerRequest, write_layers};
use crate::progress::{Progress, warn};
use crate::root::Root;
use crate::spec::{MOST_LAYERS, media_type};
use crate::store::{BlobSink, ImageName, Layout, StoredImage, copy_blobs};
use crate::time::Timestamp;
use crate::tree::{Attributes, Entry, ImagePath, PathKind, Rules, Tree, TreeBuilder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A request for an image: everything that decides its bytes.
#[derive(Debug)]
pub struct BuildSpec {
    /// What to build on.
    pub base: Base,
    /// The layers to add, lowest first.
    pub layers: Vec<LayerSpec>,
    /// Changes to the base's config.
    pub config: ConfigEdit,
    /// Notes in the manifest.
    pub annotations: BTreeMap<String, String>,
    /// When the image says that it was made, and when its files say that they were changed.
    pub created: Timestamp,
    /// How the new layers are wrapped.
    pub compression: Compression,
}

/// A layer to be made.
#[derive(Debug)]
pub struct LayerSpec {
    /// What messages call it. Unlike its history entry it may say where things are on this machine.
    pub name: String,
    /// What its history entry says.
    pub created_by: String,
    /// What goes into it, in any order.
    pub sources: Vec<Source>,
    /// What directories are like that its entries need and no source names.
    pub known_directories: BTreeMap<ImagePath, Attributes>,
}

/// Something that goes into a layer.
#[derive(Debug)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// What it is.
    pub content: SourceContent,
    /// Where it goes.
    pub destination: ImagePath,
    /// What happens to owners, modes and times on the way.
    pub rules: Rules,
}

/// What a source is.
pub enum SourceContent {
    /// Everything in a directory.
    Directory(Root),
    /// One file of a directory.
    File(Root, OsString),
    /// The entries of a tar, plain or compressed.
    Archive(Mutex<Box<dyn Read + Send>>),
    /// Entries that are known already. Their paths are from the root of the image, whatever the destination.
    Entries(Vec<Entry>),
    /// The removal of the destination from the layers below.
    Removal,
}

impl std::fmt::Debug for SourceContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SourceContent::Directory(_) => "Directory",
            SourceContent::File(..) => "File",
            SourceContent::Archive(_) => "Archive",
            SourceContent::Entries(_) => "Entries",
            SourceContent::Removal => "Removal",
        })
    }
}

/// An image of which everything is decided and nothing is hashed: every path is known, no file has been opened for its
/// content.
#[derive(Debug)]
pub struct Plan {
    /// What it stands on.
    pub base: Base,
    /// The layers to add, lowest first.
    pub layers: Vec<PlannedLayer>,
    /// What the image is besides its layers.
    pub image: Image,
    /// How the new layers are wrapped.
    pub compression: Compression,
}

/// A layer of which everything is decided and nothing is hashed.
#[derive(Debug)]
pub struct PlannedLayer {
    /// What messages call it.
    pub name: String,
    /// What its history entry says.
    pub created_by: String,
    /// What it will hold.
    pub tree: Tree,
}

/// A finished image.
#[derive(Debug)]
pub struct Built {
    /// The image, in its layout.
    pub image: StoredImage,
    /// The new layers, lowest first.
    pub layers: Vec<Layer>,
}

impl BuildSpec {
    /// Walks the sources.
    ///
    /// Archives are unpacked into an unnamed file in `spool`.
    ///
    /// # Errors
    /// When a source is missing, malformed or not readable, the sources do not fit together, or there are more layers than
    /// an image can have.
    pub fn plan(self, spool: &Root, progress: &dyn Progress) -> Result<Plan> {
        let base = self.base;
        for oddity in base.oddities() {
            warn(progress, "base image", &oddity);
        }
        check_layer_count(base.layers().len() + self.layers.len())?;
        let layers = self.layers.into_iter().map(|layer| layer.plan(spool, progress)).collect::<Result<Vec<_>>>()?;
        let image = Image { edit: self.config, annotations: self.annotations, created: self.created };
        image.config(&base)?;
        Ok(Plan { base, layers, image, compression: self.compression })
    }
}

/// Known before anything is walked or written.
fn check_layer_count(count: usize) -> Result<()> {
    if count > MOST_LAYERS {
        return Err(Error::invalid("image", format!("{count} layers, more than {MOST_LAYERS}")));
    }
    Ok(())
}

impl LayerSpec {
    fn plan(self, spool: &Root, progress: &dyn Progress) -> Result<PlannedLayer> {
        let rules = self.sources.first().map(|source| source.rules.clone()).unwrap_or_default();
        let mut builder = TreeBuilder::new(&rules).with_known_directories(self.known_directories);
        for source in self.sources {
            builder.begin_source(&source.name);
            source.add_to(&mut builder, spool, progress)?;
        }
        Ok(PlannedLayer { name: self.name, created_by: self.created_by, tree: builder.finish()? })
    }
}

impl Source {
    fn add_to(self, builder: &mut TreeBuilder, spool: &Root, progress: &dyn Progress) -> Result<()> {
        let Source { name, content, destination, rules } = self;
        match content {
            SourceContent::Directory(root) => builder.add_directory(&root, &destination, &rules, progress),
            SourceContent::File(root, file) => builder.add_file(&root, &file, &destination, &rules),
            SourceContent::Archive(reader) => {
                let reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                builder.add_archive(reader, &name, spool, &destination, &rules, progress)
            }
            SourceContent::Entries(entries) => entries.into_iter().try_for_each(|entry| builder.add(entry)),
            SourceContent::Removal => builder.remove(&destination),
        }
    }
}

impl Plan {
    /// Makes the image in `layout` and lists it there under `names`.
    ///
    /// When this answers, every blob of the image is durable, and so is the index that names it.
    ///
    /// # Errors
    /// When a source cannot be read or has changed, a blob of the base is missing or damaged, or the layout cannot be
    /// written. The images that were in the layout before are then as they were.
    pub fn build(&self, layout: &Arc<Layout>, names: &[ImageName], progress: &dyn Progress) -> Result<Built> {
        self.warn_of_many_layers(progress);
        let requests: Vec<LayerRequest<'_>> = self
            .layers
            .iter()
            .map(|layer| LayerRequest { tree: &layer.tree, name: &layer.name, compression: self.compression })
            .collect();
        let layers = std::thread::scope(|scope| {
            let base = scope.spawn(|| self.copy_base(layout, progress));
            let layers = write_layers(&requests, layout, progress);
            let base =
                base.join().unwrap_or_else(|_| Err(Error::invalid("base image", "the copy stopped unexpectedly")));
            base.and(layers)
        })?;
        let new: Vec<NewLayer<'_>> = layers
            .iter()
            .zip(&self.layers)
            .map(|(layer, planned)| NewLayer { layer, created_by: &planned.created_by })
            .collect();
        let image = assemble(&self.image, &self.base, &new, layout)?;
        layout.commit(&image, names)?;
        Ok(Built { image, layers })
    }

    /// The plan as JSON: what `--dry-run` shows.
    ///
    /// # Errors
    /// When the base's config has members of impossible types.
    pub fn to_json(&self) -> Result<Value> {
        let base_layers: Vec<Value> = self.base.layers().iter().map(crate::spec::Descriptor::to_json).collect();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "createdBy": layer.created_by,
                    "entries": layer.tree.entries().len(),
                    "bytes": layer.tree.content_size(),
                    "mediaType": media_type::of_layer(self.compression.encoding()),
                })
            })
            .collect();
        Ok(json!({
            "baseLayers": base_layers,
            "layers": layers,
            "config": self.image.config(&self.base)?,
            "annotations": self.image.manifest_annotations(&self.base),
        }))
    }

    fn copy_base(&self, layout: &Layout, progress: &dyn Progress) -> Result<()> {
        match &self.base {
            Base::Scratch(_) => Ok(()),
            Base::Image { image, .. } => copy_blobs(&*image.source, &image.manifest.layers, layout, progress)
                .map(|_| ())
                .map_err(|error| error.within("base image")),
        }
    }

    fn warn_of_many_layers(&self, progress: &dyn Progress) {
        let count = self.base.layers().len() + self.layers.len();
        // Docker's and containerd's overlay mounts stop there.
        const MOST_STACKED: usize = 127;
        if count > MOST_STACKED {
            warn(progress, "image", &format!("{count} layers; many engines stack no more than {MOST_STACKED}"));
        }
    }
}

/// Requires that no two names are the same, which could only be a mistake.
///
/// # Errors
/// When two are.
pub fn check_names(names: &[ImageName]) -> Result<()> {
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            return Err(Error::usage(format!("tag `{name}`"), "given twice"));
        }
        if let Some(other) = names[..at].iter().find(|other| other.tag() == name.tag()) {
            let reason = format!("has the same tag as `{other}`, and a layout keeps one image for each tag");
            return Err(Error::usage(format!("tag `{name}`"), reason));
        }
    }
    Ok(())
}

/// Requires that the layout is not among what is copied into it.
///
/// # Errors
/// When the layout is a source directory, or lies in one and is not left out by its rules.
pub fn check_output(layers: &[LayerSpec], output: &std::path::Path) -> Result<()> {
    for source in layers.iter().flat_map(|layer| &layer.sources) {
        let SourceContent::Directory(root) = &source.content else { continue };
        let Some(inside) = Root::path_inside(root.path(), output) else { continue };
        let object = output.display().to_string();
        if inside == PathBuf::new() {
            return Err(Error::invalid(object, "is both the layout and a source"));
        }
        if !source.rules.ignore.leaves_out(&inside, PathKind::Directory) {
            let hint = format!("--exclude {}", inside.display());
            return Err(Error::invalid(object, format!("the layout lies inside the source {}", source.name)).hint(hint));
        }
    }
    Ok(())
}
