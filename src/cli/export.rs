//! `ocibuild export`.

use super::layout_lock::LayoutLockArguments;
use super::network::NetworkArguments;
use super::output::{is_standard_output, open_stream, print};
use super::replaced::{replaced_json, report_replaced};
use super::source::{Opened, SourceArguments};
use super::watch::Watch;
use super::{Common, Format};
use super::{seen, shared_cache};
use clap::Args;
use ocibuild::progress::warn;
use ocibuild::root::{Destination as Output, Root};
use ocibuild::spec::Descriptor;
use ocibuild::store::archive::{ArchiveForm, ArchiveWriter, OciArchive, check_replaceable};
use ocibuild::store::layout::Locking;
use ocibuild::store::{Complement, ImageName, Layout, LeftOut, MirroredRepository, Moved, StoredImage, copy};
use ocibuild::{Digest, Error, Location, Reference, Result, Tag};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Destinations:
  docker-archive:FILE[:REFERENCE]  a tar that docker, podman, containerd and skopeo load
  oci-archive:FILE[:TAG]           a tar of an OCI image layout
  oci:DIR[:TAG]                    another OCI image layout
  docker://REFERENCE               a repository of a registry
  -                                a docker-archive on standard output

Examples:
  ocibuild export ./out:v1 docker-archive:app.tar:team/app:v1
  ocibuild export ./out - | docker load
  ocibuild export ./out:v1 docker://registry.example/team/app:v1 docker://registry.example/team/app:latest")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// Where to copy it; several names of one repository are given to one copy
    #[arg(required = true)]
    destinations: Vec<String>,
    #[command(flatten)]
    lock: LayoutLockArguments,
    /// Take layers that are not in the layout from this repository, if no build on this machine left them out. Repeatable
    #[arg(long = "complete-from", value_name = "docker://REPOSITORY", value_parser = shared_cache::repository)]
    complete_from: Vec<Reference>,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Copies the image and prints the digest of its manifest.
pub(super) fn run(arguments: &ExportArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let destinations = destinations(&arguments.destinations)?;
    let admission = arguments.source.admission(&arguments.network)?;
    let opened = arguments.source.open(&arguments.network, &watch)?;
    admission.admit(&opened.image, arguments.source.cache_directory(), &arguments.network, &watch)?;
    let is_in_registry = opened.image.source.repository(&opened.image.descriptor).is_some();
    let registries = destinations.iter().flatten().filter_map(Destination::registry).collect::<Vec<_>>();
    let seen = seen::open(arguments.source.cache_directory(), &watch);
    let left_out = seen.as_ref().map(|seen| seen.left_out(&opened.image.descriptor.digest)).unwrap_or_default();
    let places = Places { recorded: &left_out, named: &arguments.complete_from, registries: &registries };
    let image = completed(opened.image, places, &arguments.network, &watch)?;
    if let (Some(place), Some(seen), true) = (image.source.repository(&image.descriptor), &seen, is_in_registry) {
        seen::remember(seen, place, &image.manifest, &watch);
    }
    let opened = Opened { image, ..opened };
    let Some(destinations) = destinations else {
        return to_stdout(&opened, &watch).map(|()| ExitCode::SUCCESS);
    };
    if arguments.common.format == Format::Json && destinations.iter().any(Destination::is_standard_output) {
        return Err(Error::usage("--format json", "standard output is for the archive"));
    }
    let mut moved = Moved::default();
    for destination in &destinations {
        moved.add(match destination {
            Destination::Layout(directory, tag) => {
                to_layout(&opened, directory, arguments.lock.locking(), tag.as_deref(), &watch)?
            }
            Destination::File(file, form, names) => {
                to_file(&opened, file, *form, names.as_deref().unwrap_or(&opened.names), &watch)?
            }
            Destination::Repository(reference, names) => {
                let repository = arguments.network.repository_with_seen(reference, seen.clone(), watch.clone())?;
                let moved = copy(&opened.image, &*repository, names, &watch)?;
                if let Some(seen) = &seen {
                    seen::remember(seen, reference, &opened.image.manifest, &watch);
                }
                moved
            }
        });
    }
    report_replaced(&moved.replaced, &watch);
    let digest = opened.image.descriptor.digest.to_string();
    match arguments.common.format {
        // The archive is there already, and its readers take no line behind it.
        Format::Text if destinations.iter().any(Destination::is_standard_output) => watch.say(&digest),
        Format::Text => print(&digest)?,
        Format::Json => {
            let Moved { copied, copied_bytes, present, mounted, replaced } = moved;
            let blobs = json!({"copied": copied, "copiedBytes": copied_bytes, "present": present, "mounted": mounted});
            let result = json!({
                "digest": digest,
                "destinations": arguments.destinations,
                "blobs": blobs,
                "replaced": replaced_json(&replaced),
            });
            print(&result.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the layers of an image may be that its layout does not hold.
#[derive(Clone, Copy)]
pub(super) struct Places<'p> {
    /// What a build on this machine left out.
    pub(super) recorded: &'p LeftOut,
    /// The repositories that the command line names.
    pub(super) named: &'p [Reference],
    /// The registries that the image goes to, which can mount what they hold.
    pub(super) registries: &'p [&'p str],
}

/// The image with the repositories at its side that have what was left out of it, or that spare an upload. What its layout says
/// of repositories is not followed: who made the layout could choose what is asked with this person's credentials.
pub(super) fn completed(
    image: StoredImage,
    Places { recorded, named, registries }: Places<'_>,
    network: &NetworkArguments,
    watch: &Arc<Watch>,
) -> Result<StoredImage> {
    if image.source.repository(&image.descriptor).is_some() {
        return Ok(image);
    }
    let absent: Vec<Descriptor> = image.absent_layers().cloned().collect();
    let is_absent = |layer: &Digest| absent.iter().any(|absent| absent.digest == *layer);
    let mut complement = Complement::default();
    let mut known: BTreeMap<Reference, Arc<MirroredRepository>> = BTreeMap::new();
    for (layer, name) in recorded.iter() {
        if !is_absent(layer) && !registries.contains(&name.registry()) {
            continue;
        }
        let repository = match known.get(name) {
            Some(repository) => repository.clone(),
            None => network.mirrored_repository(name, watch).map_err(|error| error.within("layers left out"))?,
        };
        known.insert(name.clone(), repository.clone());
        complement.blobs.insert(*layer, repository);
    }
    let unknown = || absent.iter().filter(|layer| recorded.repository(&layer.digest).is_none());
    if unknown().next().is_none() {
        return Ok(image.completed_by(complement));
    }
    for name in named {
        let repository = network.repository(name, watch.clone())?;
        let mirrored = MirroredRepository::new(name.clone(), vec![repository.clone()], watch.clone());
        let mirrored = Arc::new(mirrored);
        for layer in unknown() {
            if !complement.blobs.contains_key(&layer.digest) && repository.offers(layer)? {
                complement.blobs.insert(layer.digest, mirrored.clone());
            }
        }
    }
    let said = LeftOut::of(&image.descriptor);
    let said = unknown().find_map(|layer| said.repository(&layer.digest));
    complement.advice = Some(match said {
        Some(said) => {
            format!("the layout says that it is in {said}; if you trust that: --complete-from docker://{said}")
        }
        None => "--complete-from docker://REPOSITORY names where it is".to_owned(),
    });
    Ok(image.completed_by(complement))
}

/// A place to copy to.
enum Destination {
    Layout(PathBuf, Option<String>),
    /// A file, and the names that the image gets there, if not its own.
    File(PathBuf, ArchiveForm, Option<Vec<ImageName>>),
    /// A repository, and all names that the image gets in it.
    Repository(Reference, Vec<ImageName>),
}

impl Destination {
    fn is_standard_output(&self) -> bool {
        matches!(self, Destination::File(file, ..) if is_standard_output(file))
    }

    fn registry(&self) -> Option<&str> {
        match self {
            Destination::Repository(reference, _) => Some(reference.registry()),
            Destination::Layout(..) | Destination::File(..) => None,
        }
    }
}

/// What the texts name: standard output if nothing, and each repository once.
fn destinations(texts: &[String]) -> Result<Option<Vec<Destination>>> {
    if texts.iter().any(|text| text == "-") {
        return match texts {
            [_] => Ok(None),
            _ => Err(Error::usage("-", "standard output is for one archive and nothing else")),
        };
    }
    let mut destinations: Vec<Destination> = Vec::new();
    for text in texts {
        let destination = match Location::of_destination(text)? {
            Location::Layout { directory, tag } => Destination::Layout(directory, tag),
            Location::OciArchive { file, tag } => {
                let names = tag.map(|tag| tag.parse().map(|name| vec![name])).transpose()?;
                Destination::File(file, ArchiveForm::Oci, names)
            }
            Location::DockerArchive { file, reference } => {
                let names = reference.map(|reference| full_name(&reference).map(|name| vec![name])).transpose()?;
                Destination::File(file, ArchiveForm::Docker, names)
            }
            Location::Registry(reference) => {
                let name = full_name(&reference.to_string())?;
                let same = destinations.iter_mut().find_map(|known| match known {
                    Destination::Repository(known, names) if known.is_beside(&reference) => Some(names),
                    _ => None,
                });
                if let Some(names) = same {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                    continue;
                }
                Destination::Repository(reference, vec![name])
            }
        };
        destinations.push(destination);
    }
    Ok(Some(destinations))
}

/// Docker knows images by repository and tag.
fn full_name(text: &str) -> Result<ImageName> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        return Err(Error::usage(format!("`{text}`"), "a digest cannot be chosen: it follows from the content"));
    }
    Ok(ImageName::of_reference(&reference))
}

/// Writes a docker-archive of an image that was just built.
pub(super) fn save(image: &StoredImage, file: &Path, names: &[ImageName], watch: &Watch) -> Result<()> {
    let opened = Opened { image: image.clone(), names: names.to_vec() };
    to_file(&opened, file, ArchiveForm::Docker, names, watch).map(|_| ())
}

fn to_layout(opened: &Opened, directory: &Path, locking: Locking, tag: Option<&str>, watch: &Watch) -> Result<Moved> {
    let layout = Arc::new(Layout::create_locking(directory, locking)?);
    let names = match tag {
        Some(tag) => vec![tag.parse()?],
        None if opened.names.is_empty() => vec![ImageName::of_tag(&Tag::latest())],
        None => opened.names.clone(),
    };
    let moved = copy(&opened.image, &*layout, &names, watch)?;
    layout.warn_of_repairs(watch);
    Ok(moved)
}

fn to_file(opened: &Opened, file: &Path, form: ArchiveForm, names: &[ImageName], watch: &Watch) -> Result<Moved> {
    warn_of_zstd(opened, form, watch);
    let output = Output::find(file, Root::create)?;
    let Output::File(root, name) = &output else {
        let stream = open_stream(&output)?.ok_or_else(|| Error::invalid(file.display().to_string(), "no stream"))?;
        return to_stream(opened, stream, &file.display().to_string(), (form, names), watch);
    };
    check_replaceable(file)?;
    root.sweep_temporaries();
    let writer =
        ArchiveWriter::new(BufWriter::with_capacity(1 << 20, root.temporary()?), form, file.display().to_string());
    let mut replaced = Vec::new();
    if let (ArchiveForm::Oci, Ok(earlier)) = (form, OciArchive::open(file)) {
        replaced = writer.keep(&earlier, names, watch)?;
    }
    let image = in_one_compression(opened, form, &|| Ok(root.clone()), watch)?;
    let mut moved = copy(&image, &writer, names, watch)?;
    replaced.retain(|replaced| replaced.digest != image.descriptor.digest);
    moved.replaced.extend(replaced);
    let temporary =
        writer.finish().into_inner().map_err(|error| Error::io(file.display(), "write", error.into_error()))?;
    temporary.persist(name)?;
    root.sync()?;
    Ok(moved)
}

fn to_stdout(opened: &Opened, watch: &Watch) -> Result<()> {
    warn_of_zstd(opened, ArchiveForm::Docker, watch);
    let form = (ArchiveForm::Docker, &opened.names[..]);
    to_stream(opened, std::io::stdout(), "standard output", form, watch).map(|_| ())
}

/// Writes an archive to what takes bytes as they come, and is called `object`.
fn to_stream<W: Write + IsTerminal + Send>(
    opened: &Opened,
    stream: W,
    object: &str,
    (form, names): (ArchiveForm, &[ImageName]),
    watch: &Watch,
) -> Result<Moved> {
    if stream.is_terminal() {
        let object = if object == "standard output" { "-" } else { object };
        return Err(Error::usage(object, "an archive is not for a terminal").hint("redirect it, or name a file"));
    }
    let writer = ArchiveWriter::new(BufWriter::with_capacity(1 << 20, stream), form, object);
    #[expect(clippy::disallowed_methods, reason = "no directory is beside a stream")]
    let spool = || Root::open(&std::env::temp_dir());
    let image = in_one_compression(opened, form, &spool, watch)?;
    let moved = copy(&image, &writer, names, watch)?;
    writer.finish().flush().map_err(|error| Error::io(object, "write", error))?;
    Ok(moved)
}

/// The image as it goes into an archive. Readers of a docker-archive take all layers to be compressed as one of them is; an
/// oci-archive says of each layer how it is, and keeps the manifest.
fn in_one_compression(
    opened: &Opened,
    form: ArchiveForm,
    spool: &dyn Fn() -> Result<Root>,
    watch: &Watch,
) -> Result<StoredImage> {
    let made = match form {
        ArchiveForm::Docker => opened.image.with_one_compression(spool, watch)?,
        ArchiveForm::Oci => None,
    };
    let Some(image) = made else { return Ok(opened.image.clone()) };
    let digest = image.descriptor.digest;
    if !opened.image.referrers.is_empty() {
        warn(watch, "docker-archive", "the referrers of the image stay behind, since its manifest changes");
    }
    watch.say(&format!(
        "docker-archive: its layers were compressed differently and are all gzip now; its manifest is {digest}"
    ));
    Ok(image)
}

fn warn_of_zstd(opened: &Opened, form: ArchiveForm, watch: &Watch) {
    if form == ArchiveForm::Docker && opened.image.has_zstd_layers() {
        warn(watch, "docker-archive", "the layers are zstd, which Docker before version 23 does not load");
    }
}
