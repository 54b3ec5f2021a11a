//! The places that an image is copied to.

use super::blob_locations;
use super::cache_directory::CacheDirectory;
use super::engines;
use super::flat_tar;
use super::network::NetworkArguments;
use super::output::{is_standard_output, open_stream};
use super::progress_display::Watch;
use super::source::OpenedImage;
use ocibuild::cache::{Cache, Spool, with_one_compression};
use ocibuild::common::progress::warn;
use ocibuild::common::root::{Destination as Output, Root, Temporary, WriteCheck};
use ocibuild::spec::ImagePath;
use ocibuild::store::archive::{ArchiveForm, ArchiveWriter, archive_to_replace};
use ocibuild::store::layout::LayoutLocking;
use ocibuild::store::{
    BlobLocations, ContainerEngine, DirectoryWriter, ImageName, Layout, StoredImage, StoredIndex, TransferStats, copy,
};
use ocibuild::{Digest, Error, Location, Reference, Result, Tag};
use std::ffi::OsStr;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place to copy to.
#[derive(Debug, Clone)]
pub(super) enum ExportDestination {
    Layout(PathBuf, Option<String>),
    Directory(PathBuf),
    Engine(ContainerEngine, Reference),
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
            ExportDestination::File(file, ..) | ExportDestination::Files(Some(file)) => is_standard_output(file),
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

    /// Returns `true` if a multi-platform image can be there whole.
    pub(super) fn holds_several(&self) -> bool {
        matches!(
            self,
            ExportDestination::Layout(..)
                | ExportDestination::File(_, ArchiveForm::Oci, _)
                | ExportDestination::Repository(..)
        )
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
            Location::Engine(engine, name) => ExportDestination::Engine(engine, name),
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
            ExportDestination::Directory(directory) => check_is_read_back(check, directory.display()),
            ExportDestination::Engine(_, reference) | ExportDestination::Repository(reference, _) => {
                check_is_read_back(check, reference)
            }
            ExportDestination::Files(_) => check_is_read_back(check, "files"),
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
                index_to_file(index, file, names.as_deref().unwrap_or(own_names), writing)
            }
            ExportDestination::Repository(reference, names) => {
                let locations = writing.locations.cloned();
                let repository = writing.network.repository_with_blob_locations(reference, locations, watch.clone())?;
                index.copy(&*repository, names, &**watch)
            }
            ExportDestination::Directory(_)
            | ExportDestination::Engine(..)
            | ExportDestination::File(_, ArchiveForm::Docker, _)
            | ExportDestination::Files(_) => Err(Error::invalid("destination", "holds one platform")),
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
            ExportDestination::Engine(engine, name) => {
                let mut loading = engines::store(*engine, name, writing.network)?.load()?;
                let (object, names) = (loading.object(), [ImageName::of_reference(name)]);
                warn_of_zstd(opened, ArchiveForm::Docker, watch);
                let archive = (ArchiveForm::Docker, &names[..]);
                let written = write_archive(opened, &mut loading, &object, archive, writing.cache, watch);
                loading.finish(written)
            }
            ExportDestination::File(file, form, names) => {
                to_file(opened, file, (*form, names.as_deref().unwrap_or(&opened.names)), writing)
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

/// Refuses to read back what is written to `place`, which is no layout and no file.
pub(super) fn check_is_read_back(check: WriteCheck, place: impl std::fmt::Display) -> Result<()> {
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
    /// The recorded locations of blobs in registries.
    pub(super) locations: Option<&'w Arc<BlobLocations>>,
    /// The cache of layers that an archive compresses again.
    pub(super) cache: Option<&'w Cache>,
    /// The directory of listings, and for unnamed files.
    pub(super) cache_directory: &'w CacheDirectory,
    pub(super) watch: &'w Arc<Watch>,
}

/// Returns the destinations in the texts: standard output without any, and each repository once.
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
        if let ExportDestination::Repository(reference, names) = &destination {
            let same = destinations.iter_mut().find_map(|known| match known {
                ExportDestination::Repository(known, names) if known.same_repository(reference) => Some(names),
                _ => None,
            });
            if let Some(same) = same {
                let new: Vec<_> = names.iter().filter(|name| !same.contains(name)).cloned().collect();
                same.extend(new);
                continue;
            }
        }
        destinations.push(destination);
    }
    Ok(Some(destinations))
}

/// Docker knows images by repository and tag.
fn full_name(text: &str) -> Result<ImageName> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        return Err(Error::usage(format!("`{text}`"), "a digest cannot be chosen: it is computed from the content"));
    }
    Ok(ImageName::of_reference(&reference))
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
fn names_in_layout(tag: Option<&str>, own: &[ImageName]) -> Result<Vec<ImageName>> {
    Ok(match tag {
        Some(tag) => vec![tag.parse()?],
        None if own.is_empty() => vec![ImageName::of_tag(&Tag::latest())],
        None => own.to_vec(),
    })
}

fn to_file(
    opened: &OpenedImage,
    file: &Path,
    (form, names): (ArchiveForm, &[ImageName]),
    writing: &Writing<'_>,
) -> Result<TransferStats> {
    let (cache, watch): (_, &Watch) = (writing.cache, writing.watch);
    warn_of_zstd(opened, form, watch);
    let output = Output::find(file, Root::create)?;
    let Output::File(root, name) = &output else {
        check_is_read_back(writing.check, file.display())?;
        let stream = open_stream(&output)?.ok_or_else(|| Error::invalid(file.display().to_string(), "no stream"))?;
        return to_stream(opened, stream, &file.display().to_string(), (form, names), cache, watch);
    };
    replace_archive((root, name), file, (form, names), writing, |writer| {
        let image = in_one_compression(opened, form, cache, &|| Ok(root.clone()), watch)?;
        Ok((copy(&image, writer, names, watch)?, image.descriptor.digest))
    })
}

fn index_to_file(
    index: &StoredIndex,
    file: &Path,
    names: &[ImageName],
    writing: &Writing<'_>,
) -> Result<TransferStats> {
    let watch: &Watch = writing.watch;
    let output = Output::find(file, Root::create)?;
    let Output::File(root, name) = &output else {
        let object = file.display().to_string();
        check_is_read_back(writing.check, &object)?;
        let stream = open_stream(&output)?.ok_or_else(|| Error::invalid(&object, "no stream"))?;
        refuse_terminal(&stream, &object)?;
        let writer = ArchiveWriter::new(BufWriter::with_capacity(1 << 20, stream), ArchiveForm::Oci, &object);
        let moved = index.copy(&writer, names, watch)?;
        writer.finish().flush().map_err(|error| Error::io(&object, "write", error))?;
        return Ok(moved);
    };
    replace_archive((root, name), file, (ArchiveForm::Oci, names), writing, |writer| {
        Ok((index.copy(writer, names, watch)?, index.descriptor.digest))
    })
}

/// Replaces the file `name` in `root`, which is at the path `file`, by an archive that `write` fills; an oci-archive keeps its
/// other images. `write` returns the digest of what it has written, too.
fn replace_archive(
    (root, name): (&Root, &OsStr),
    file: &Path,
    (form, names): (ArchiveForm, &[ImageName]),
    writing: &Writing<'_>,
    write: impl FnOnce(&ArchiveWriter<BufWriter<Temporary>>) -> Result<(TransferStats, Digest)>,
) -> Result<TransferStats> {
    let earlier = archive_to_replace(file)?;
    root.sweep_temporaries();
    let temporary = BufWriter::with_capacity(1 << 20, root.temporary()?.checking(writing.check));
    let writer = ArchiveWriter::new(temporary, form, file.display().to_string());
    let mut replaced = Vec::new();
    if let (ArchiveForm::Oci, Some(earlier)) = (form, earlier) {
        replaced = writer.keep(&earlier, names, &**writing.watch)?;
    }
    let (mut moved, digest) = write(&writer)?;
    replaced.retain(|replaced| replaced.image.digest != digest);
    moved.replaced.extend(replaced);
    let temporary =
        writer.finish().into_inner().map_err(|error| Error::io(file.display(), "write", error.into_error()))?;
    temporary.persist(name)?;
    root.sync()?;
    Ok(moved)
}

/// Writes a docker-archive to standard output.
pub(super) fn to_stdout(opened: &OpenedImage, cache: Option<&Cache>, watch: &Watch) -> Result<()> {
    warn_of_zstd(opened, ArchiveForm::Docker, watch);
    let form = (ArchiveForm::Docker, &opened.names[..]);
    to_stream(opened, std::io::stdout(), "standard output", form, cache, watch).map(|_| ())
}

/// Writes an archive to what takes bytes as they come, and is called `object`.
fn to_stream<W: Write + IsTerminal + Send>(
    opened: &OpenedImage,
    stream: W,
    object: &str,
    archive: (ArchiveForm, &[ImageName]),
    cache: Option<&Cache>,
    watch: &Watch,
) -> Result<TransferStats> {
    refuse_terminal(&stream, object)?;
    write_archive(opened, stream, object, archive, cache, watch)
}

fn refuse_terminal(stream: &impl IsTerminal, object: &str) -> Result<()> {
    if !stream.is_terminal() {
        return Ok(());
    }
    let object = if object == "standard output" { "-" } else { object };
    Err(Error::usage(object, "an archive cannot be written to a terminal").hint("redirect it, or name a file"))
}

fn write_archive<W: Write + Send>(
    opened: &OpenedImage,
    stream: W,
    object: &str,
    (form, names): (ArchiveForm, &[ImageName]),
    cache: Option<&Cache>,
    watch: &Watch,
) -> Result<TransferStats> {
    let writer = ArchiveWriter::new(BufWriter::with_capacity(1 << 20, stream), form, object);
    #[expect(clippy::disallowed_methods, reason = "no directory is beside a stream")]
    let spool = || Root::open(&std::env::temp_dir());
    let image = in_one_compression(opened, form, cache, &spool, watch)?;
    let moved = copy(&image, &writer, names, watch)?;
    writer.finish().flush().map_err(|error| Error::io(object, "write", error))?;
    Ok(moved)
}

/// Returns the image as it goes into an archive. Readers of a docker-archive take all layers to be compressed as one of them is; an
/// oci-archive says of each layer how it is, and keeps the manifest.
fn in_one_compression(
    opened: &OpenedImage,
    form: ArchiveForm,
    cache: Option<&Cache>,
    directory: &dyn Fn() -> Result<Root>,
    watch: &Watch,
) -> Result<StoredImage> {
    if form == ArchiveForm::Oci || !opened.image.has_several_compressions() {
        return Ok(opened.image.clone());
    }
    let made = match cache {
        Some(cache) => with_one_compression(&opened.image, Spool::Cache(cache), watch)?,
        None => with_one_compression(&opened.image, Spool::Unnamed(&directory()?), watch)?,
    };
    let Some(image) = made else { return Ok(opened.image.clone()) };
    let digest = image.descriptor.digest;
    if !opened.image.referrers.is_empty() {
        warn(watch, "docker-archive", "the referrers of the image are not copied, since its manifest changes");
    }
    watch.say(&format!("docker-archive: its layers were recompressed with gzip; its manifest is {digest}"));
    Ok(image)
}

fn warn_of_zstd(opened: &OpenedImage, form: ArchiveForm, watch: &Watch) {
    if form == ArchiveForm::Docker && opened.image.has_zstd_layers() {
        warn(watch, "docker-archive", "the layers are zstd, which Docker before version 23 does not load");
    }
}
