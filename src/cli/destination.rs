//! The places that an image is copied to.

use super::blob_locations;
use super::cache_directory::CacheDirectory;
use super::engines;
use super::flat_tar;
use super::network::NetworkArguments;
use super::output::open_stream;
use super::progress_display::Watch;
use super::source::OpenedImage;
use ocibuild::cache::{Cache, Spool, with_one_compression};
use ocibuild::common::progress::warn;
use ocibuild::common::root::{Destination as Output, Root, WriteCheck};
use ocibuild::spec::ImagePath;
use ocibuild::store::archive::{ArchiveForm, ArchiveWriter, archive_to_replace};
use ocibuild::store::layout::LayoutLocking;
use ocibuild::store::{
    BlobLocations, BlobSink, ContainerEngine, DirectoryWriter, EngineStore, ImageName, Layout, StoredImage,
    StoredIndex, TransferStats, copy,
};
use ocibuild::{Digest, Error, Location, Reference, Result, Tag};
use std::fmt;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place to copy to.
#[derive(Debug, Clone)]
pub(super) enum ExportDestination {
    Layout(PathBuf, Option<String>),
    Directory(PathBuf),
    /// The store of an engine, and all names that the image gets in it.
    Engine(ContainerEngine, Vec<Reference>),
    /// A file, and the names that the image gets there, if not its own.
    File(PathBuf, ArchiveForm, Option<Vec<ImageName>>),
    /// A tar of the files of the image; standard output without a path.
    Files(Option<PathBuf>),
    /// A repository, and all names that the image gets in it.
    Repository(Reference, Vec<ImageName>),
}

impl ExportDestination {
    /// Returns `true` if what is written comes out of standard output.
    pub(super) fn is_standard_output(&self) -> bool {
        match self {
            ExportDestination::File(file, ..) | ExportDestination::Files(Some(file)) => {
                Output::is_standard_output(file)
            }
            ExportDestination::Files(None) => true,
            _ => false,
        }
    }

    /// Returns the path that is written.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            ExportDestination::Layout(path, _)
            | ExportDestination::Directory(path)
            | ExportDestination::File(path, ..)
            | ExportDestination::Files(Some(path)) => Some(path),
            ExportDestination::Files(None) | ExportDestination::Engine(..) | ExportDestination::Repository(..) => None,
        }
    }

    /// Returns `true` if all layers have to be compressed in one way there.
    pub(super) fn is_docker_archive(&self) -> bool {
        matches!(self, ExportDestination::File(_, ArchiveForm::Docker, _) | ExportDestination::Engine(..))
    }

    /// Returns the registry that the image goes to.
    pub(super) fn registry(&self) -> Option<&str> {
        match self {
            ExportDestination::Repository(reference, _) => Some(reference.registry()),
            ExportDestination::Layout(..)
            | ExportDestination::Directory(_)
            | ExportDestination::Engine(..)
            | ExportDestination::File(..)
            | ExportDestination::Files(_) => None,
        }
    }

    /// Returns the destination that `text` names.
    ///
    /// # Errors
    /// Fails if nothing is there and no transport says what to make, or as [`ExportDestination::of`].
    fn named(text: &str) -> Result<ExportDestination> {
        match text.strip_prefix("rootfs:") {
            Some("") => {
                Err(Error::usage(text, "no file is named").hint("rootfs:FILE, or rootfs:- for standard output"))
            }
            Some("-") => Ok(ExportDestination::Files(None)),
            Some(file) => Ok(ExportDestination::Files(Some(file.into()))),
            None => ExportDestination::of(Location::of_destination(text)?),
        }
    }

    /// Returns the destination at `location`.
    ///
    /// # Errors
    /// Fails if the name that the image gets there is malformed, or is a digest.
    pub(super) fn of(location: Location) -> Result<ExportDestination> {
        Ok(match location {
            Location::Layout { directory, tag } => ExportDestination::Layout(directory, tag),
            Location::OciArchive { file, tag } => {
                let names = tag.map(|tag| tag.parse().map(|name| vec![name])).transpose()?;
                ExportDestination::File(file, ArchiveForm::Oci, names)
            }
            Location::DockerArchive { file, reference } => {
                let names = reference.map(|reference| full_name(&reference).map(|name| vec![name])).transpose()?;
                ExportDestination::File(file, ArchiveForm::Docker, names)
            }
            Location::Directory(directory) => ExportDestination::Directory(directory),
            Location::Engine(engine, name) => ExportDestination::Engine(engine, vec![name]),
            Location::Registry(reference) => {
                let name = full_name(&reference.to_string())?;
                ExportDestination::Repository(reference, vec![name])
            }
        })
    }

    /// Refuses to read back what is written there, unless it is a layout or an archive.
    ///
    /// # Errors
    /// Fails if `check` demands it, and the place is another one.
    pub(super) fn check(&self, check: WriteCheck) -> Result<()> {
        match self {
            ExportDestination::Layout(..) | ExportDestination::File(..) => Ok(()),
            _ => check_is_read_back(check, self),
        }
    }

    /// Refuses a multi-platform image, which `flag` asks for, where one image only can be.
    ///
    /// # Errors
    /// Fails if it does not fit there.
    pub(super) fn check_holds_several(&self, flag: &str) -> Result<()> {
        match self {
            ExportDestination::Layout(..)
            | ExportDestination::File(_, ArchiveForm::Oci, _)
            | ExportDestination::Repository(..) => Ok(()),
            _ => Err(holds_one(flag, self)),
        }
    }

    /// Takes over the names of `other` if both are one repository or one engine, and returns whether they are.
    fn takes_names_of(&mut self, other: &ExportDestination) -> bool {
        match (self, other) {
            (ExportDestination::Repository(here, names), ExportDestination::Repository(there, more))
                if here.same_repository(there) =>
            {
                add_new(names, more);
                true
            }
            (ExportDestination::Engine(here, names), ExportDestination::Engine(there, more)) if here == there => {
                add_new(names, more);
                true
            }
            _ => false,
        }
    }

    /// Copies an index there, with all of its images.
    ///
    /// # Errors
    /// Fails as [`ExportDestination::write`], and if one image only can be there.
    pub(super) fn write_index(
        &self,
        index: &StoredIndex,
        own_names: &[ImageName],
        writing: &Writing<'_>,
    ) -> Result<TransferStats> {
        let watch = writing.watch;
        match self {
            ExportDestination::Layout(directory, tag) => {
                let layout = Layout::create_locking(directory, writing.locking)?.checking(writing.check);
                let moved = index.copy(&layout, &names_in_layout(tag.as_deref(), own_names)?, &**watch)?;
                layout.warn_of_repairs(&**watch);
                Ok(moved)
            }
            ExportDestination::File(file, ArchiveForm::Oci, names) => {
                let names = names.as_deref().unwrap_or(own_names);
                to_file(file, (ArchiveForm::Oci, names), writing, &|Place { sink, .. }| {
                    Ok((index.copy(sink, names, &**watch)?, index.descriptor.digest))
                })
            }
            ExportDestination::Repository(reference, names) => {
                let locations = writing.locations.cloned();
                let repository = writing.network.repository_with_blob_locations(reference, locations, watch.clone())?;
                index.copy(&*repository, names, &**watch)
            }
            ExportDestination::Directory(_)
            | ExportDestination::Engine(..)
            | ExportDestination::File(_, ArchiveForm::Docker, _)
            | ExportDestination::Files(_) => Err(holds_one("--platform", self)),
        }
    }

    /// Copies the image there.
    ///
    /// # Errors
    /// Fails if the image cannot be read, or the place cannot be written or refuses it.
    pub(super) fn write(&self, opened: &OpenedImage, writing: &Writing<'_>) -> Result<TransferStats> {
        let watch = writing.watch;
        match self {
            ExportDestination::Layout(directory, tag) => to_layout(opened, directory, tag.as_deref(), writing),
            ExportDestination::Directory(directory) => {
                copy(&opened.image, &DirectoryWriter::create(directory)?, &[], &**watch)
            }
            ExportDestination::Engine(engine, references) => {
                let store = engines::store(*engine, listed(references), writing.network)?;
                let store = store.in_namespace(writing.namespace);
                let verified = writing.cache.map(|cache| cache.verified_files().clone());
                match engines::pulled((*engine, &store), &opened.image, references, verified, watch)? {
                    Some(moved) => Ok(moved),
                    None => to_engine(&store, opened, references, writing),
                }
            }
            ExportDestination::File(file, form, names) => {
                let names = names.as_deref().unwrap_or(&opened.names);
                let content = ArchivedImage { opened, form: *form, names, writing };
                content.warn_of_zstd();
                to_file(file, (*form, names), writing, &|place| content.fill(place))
            }
            ExportDestination::Files(file) => {
                let (image, cache) = (&opened.image, writing.cache_directory);
                match file {
                    Some(file) => flat_tar::to_file(image, file, cache, watch)?,
                    None => flat_tar::to_stdout(image, &ImagePath::root(), cache, watch)?,
                }
                Ok(TransferStats::default())
            }
            ExportDestination::Repository(reference, names) => {
                let locations = writing.locations;
                let repository =
                    writing.network.repository_with_blob_locations(reference, locations.cloned(), watch.clone())?;
                let moved = copy(&opened.image, &*repository, names, &**watch)?;
                if let Some(locations) = locations {
                    blob_locations::record(locations, reference, &opened.image.manifest, watch);
                }
                Ok(moved)
            }
        }
    }
}

/// Returns the error of a multi-platform image, which `flag` asks for, for a place of one image.
pub(super) fn holds_one(flag: &str, place: impl fmt::Display) -> Error {
    Error::usage(flag, format!("{place} holds one platform"))
        .hint("oci:DIR, oci-archive:FILE and docker://REFERENCE hold several")
}

impl fmt::Display for ExportDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportDestination::Layout(path, _) => write!(f, "oci:{}", path.display()),
            ExportDestination::Directory(path) => write!(f, "dir:{}", path.display()),
            ExportDestination::Engine(engine, names) => {
                write!(f, "{}:{}", engine.transport(), listed(names))
            }
            ExportDestination::File(path, ArchiveForm::Oci, _) => write!(f, "oci-archive:{}", path.display()),
            ExportDestination::File(path, ArchiveForm::Docker, _) => write!(f, "docker-archive:{}", path.display()),
            ExportDestination::Files(Some(path)) => write!(f, "rootfs:{}", path.display()),
            ExportDestination::Files(None) => write!(f, "rootfs:-"),
            ExportDestination::Repository(reference, _) => write!(f, "docker://{reference}"),
        }
    }
}

/// Refuses to read back what is written to `place`, which is no layout and no file.
pub(super) fn check_is_read_back(check: WriteCheck, place: impl fmt::Display) -> Result<()> {
    match check {
        WriteCheck::Synced => Ok(()),
        WriteCheck::ReadBack => {
            let reason = format!("only layouts and archives can be read back, not {place}");
            Err(Error::usage("--verify-writes", reason))
        }
    }
}

/// The context for writing to a destination.
#[derive(Clone, Copy)]
pub(super) struct Writing<'w> {
    pub(super) locking: LayoutLocking,
    pub(super) check: WriteCheck,
    pub(super) network: &'w NetworkArguments,
    /// The namespace of containerd, if not that of the environment.
    pub(super) namespace: Option<&'w str>,
    /// The recorded locations of blobs in registries.
    pub(super) locations: Option<&'w Arc<BlobLocations>>,
    /// The cache of layers that an archive compresses again.
    pub(super) cache: Option<&'w Cache>,
    /// The directory of listings, and for unnamed files.
    pub(super) cache_directory: &'w CacheDirectory,
    pub(super) watch: &'w Arc<Watch>,
}

/// Returns the destinations in the texts: standard output without any, and each repository and engine once.
pub(super) fn destinations(texts: &[String]) -> Result<Option<Vec<ExportDestination>>> {
    if texts.iter().any(|text| text == "-") {
        return match texts {
            [_] => Ok(None),
            _ => Err(Error::usage("-", "standard output can have only one archive")),
        };
    }
    let mut destinations: Vec<ExportDestination> = Vec::new();
    for text in texts {
        let destination = ExportDestination::named(text)?;
        if !destinations.iter_mut().any(|known| known.takes_names_of(&destination)) {
            destinations.push(destination);
        }
    }
    Ok(Some(destinations))
}

/// Returns the names as they are shown.
pub(super) fn listed(names: &[Reference]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn add_new<T: Clone + PartialEq>(known: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !known.contains(one) {
            known.push(one.clone());
        }
    }
}

/// Docker knows images by repository and tag.
fn full_name(text: &str) -> Result<ImageName> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        return Err(Error::usage(format!("`{text}`"), "a digest cannot be chosen: it is computed from the content"));
    }
    Ok(ImageName::of_reference(&reference))
}

/// Loads an archive of the image into an engine, and checks that it is there.
fn to_engine(
    store: &EngineStore,
    opened: &OpenedImage,
    references: &[Reference],
    writing: &Writing<'_>,
) -> Result<TransferStats> {
    let mut loading = store.load()?;
    let object = loading.object();
    let names: Vec<ImageName> = references.iter().map(ImageName::of_reference).collect();
    let content = ArchivedImage { opened, form: ArchiveForm::Docker, names: &names, writing };
    content.warn_of_zstd();
    let written = write_archive(&mut loading, &object, ArchiveForm::Docker, &|place| content.fill(place));
    let (moved, digest) = loading.finish(written)?;
    store.check_has(references, &[opened.image.manifest.config.digest, digest])?;
    Ok(moved)
}

fn to_layout(
    opened: &OpenedImage,
    directory: &Path,
    tag: Option<&str>,
    writing: &Writing<'_>,
) -> Result<TransferStats> {
    let watch: &Watch = writing.watch;
    let layout = Arc::new(Layout::create_locking(directory, writing.locking)?.checking(writing.check));
    let names = names_in_layout(tag, &opened.names)?;
    let moved = copy(&opened.image, &*layout, &names, watch)?;
    layout.warn_of_repairs(watch);
    Ok(moved)
}

/// Returns the names that an image gets in a layout: the one that is given, else its own.
pub(super) fn names_in_layout(tag: Option<&str>, own: &[ImageName]) -> Result<Vec<ImageName>> {
    Ok(match tag {
        Some(tag) => vec![tag.parse()?],
        None if own.is_empty() => vec![ImageName::of_tag(&Tag::latest())],
        None => own.to_vec(),
    })
}

/// Where an archive is made.
struct Place<'p> {
    sink: &'p dyn BlobSink,
    /// Returns the directory for files without a name.
    spool: &'p dyn Fn() -> Result<Root>,
}

/// Fills an archive with an image or an index, and returns the digest of that, too.
type Filling<'f> = &'f dyn Fn(Place<'_>) -> Result<(TransferStats, Digest)>;

/// An image that goes into an archive.
struct ArchivedImage<'i> {
    opened: &'i OpenedImage,
    form: ArchiveForm,
    names: &'i [ImageName],
    writing: &'i Writing<'i>,
}

/// Writes an archive to `file`: an existing one is replaced, and an oci-archive keeps its other images.
fn to_file(
    file: &Path,
    (form, names): (ArchiveForm, &[ImageName]),
    writing: &Writing<'_>,
    fill: Filling<'_>,
) -> Result<TransferStats> {
    let output = Output::find(file, Root::create)?;
    let object = file.display().to_string();
    let Output::File(root, name) = &output else {
        check_is_read_back(writing.check, &object)?;
        let stream = open_stream(&output)?.ok_or_else(|| Error::invalid(&object, "no stream"))?;
        return to_stream(stream, &object, form, fill);
    };
    let earlier = archive_to_replace(file)?;
    root.sweep_temporaries();
    let temporary = BufWriter::with_capacity(1 << 20, root.temporary()?.checking(writing.check));
    let writer = ArchiveWriter::new(temporary, form, &object);
    let mut replaced = Vec::new();
    if let (ArchiveForm::Oci, Some(earlier)) = (form, earlier) {
        replaced = writer.keep(&earlier, names, &**writing.watch)?;
    }
    let (mut moved, digest) = fill(Place { sink: &writer, spool: &|| Ok(root.clone()) })?;
    replaced.retain(|replaced| replaced.image.digest != digest);
    moved.replaced.extend(replaced);
    let temporary = writer.finish().into_inner().map_err(|error| Error::io(object, "write", error.into_error()))?;
    temporary.persist(name)?;
    root.sync()?;
    Ok(moved)
}

/// Writes a docker-archive to standard output.
pub(super) fn to_stdout(opened: &OpenedImage, writing: &Writing<'_>) -> Result<()> {
    let content = ArchivedImage { opened, form: ArchiveForm::Docker, names: &opened.names, writing };
    content.warn_of_zstd();
    to_stream(std::io::stdout(), "standard output", ArchiveForm::Docker, &|place| content.fill(place)).map(|_| ())
}

/// Writes an archive to what takes bytes as they come, and is called `object`.
fn to_stream<W: Write + IsTerminal + Send>(
    stream: W,
    object: &str,
    form: ArchiveForm,
    fill: Filling<'_>,
) -> Result<TransferStats> {
    if stream.is_terminal() {
        let object = if object == "standard output" { "-" } else { object };
        return Err(
            Error::usage(object, "an archive cannot be written to a terminal").hint("redirect it, or name a file")
        );
    }
    write_archive(stream, object, form, fill).map(|(moved, _)| moved)
}

fn write_archive<W: Write + Send>(
    stream: W,
    object: &str,
    form: ArchiveForm,
    fill: Filling<'_>,
) -> Result<(TransferStats, Digest)> {
    let writer = ArchiveWriter::new(BufWriter::with_capacity(1 << 20, stream), form, object);
    #[expect(clippy::disallowed_methods, reason = "no directory is beside a stream")]
    let spool = || Root::open(&std::env::temp_dir());
    let filled = fill(Place { sink: &writer, spool: &spool })?;
    writer.finish().flush().map_err(|error| Error::io(object, "write", error))?;
    Ok(filled)
}

impl ArchivedImage<'_> {
    fn fill(&self, place: Place<'_>) -> Result<(TransferStats, Digest)> {
        let image = self.in_one_compression(place.spool)?;
        Ok((copy(&image, place.sink, self.names, &**self.writing.watch)?, image.descriptor.digest))
    }

    /// Returns the image as it goes into an archive. Readers of a docker-archive take all layers to be compressed as one of them is;
    /// an oci-archive says of each layer how it is, and keeps the manifest.
    fn in_one_compression(&self, spool: &dyn Fn() -> Result<Root>) -> Result<StoredImage> {
        let image = &self.opened.image;
        let watch: &Watch = self.writing.watch;
        if self.form == ArchiveForm::Oci || !image.has_several_compressions() {
            return Ok(image.clone());
        }
        let made = match self.writing.cache {
            Some(cache) => with_one_compression(image, Spool::Cache(cache), watch)?,
            None => with_one_compression(image, Spool::Unnamed(&spool()?), watch)?,
        };
        let Some(made) = made else { return Ok(image.clone()) };
        let digest = made.descriptor.digest;
        if !image.referrers.is_empty() {
            warn(watch, "docker-archive", "the referrers of the image are not copied, since its manifest changes");
        }
        watch.say(&format!("docker-archive: its layers were recompressed with gzip; its manifest is {digest}"));
        Ok(made)
    }

    fn warn_of_zstd(&self) {
        if self.form == ArchiveForm::Docker && self.opened.image.has_zstd_layers() {
            let reason = "the layers are zstd, which Docker before version 23 does not load";
            warn(&**self.writing.watch, "docker-archive", reason);
        }
    }
}
