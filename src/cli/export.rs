//! `ocibuild export`.

use super::network::NetworkArguments;
use super::output::print;
use super::source::{self, Opened};
use super::watch::Watch;
use super::{Common, Format};
use clap::Args;
use ocibuild::progress::warn;
use ocibuild::root::Root;
use ocibuild::store::archive::{ArchiveForm, ArchiveWriter};
use ocibuild::store::{ImageName, Layout, Moved, StoredImage, copy};
use ocibuild::{Error, Location, Platform, Reference, Result, Tag};
use serde_json::json;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

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
  ocibuild export ./out:v1 docker://registry.example/team/app:v1")]
pub(super) struct ExportArguments {
    /// The image: LAYOUT[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REFERENCE] or docker://REFERENCE
    #[arg(value_name = "LAYOUT[:TAG]", value_parser = source::location)]
    source: Location,
    /// Where to copy it
    destination: String,
    /// Which platform of a multi-platform image to take
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// How many seconds to wait for another process that holds the other layout locked
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    lock_timeout: u64,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Copies the image and prints the digest of its manifest.
pub(super) fn run(arguments: &ExportArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let opened = source::open(&arguments.source, arguments.platform.as_ref(), &arguments.network, watch.clone())?;
    if arguments.destination == "-" {
        return to_stdout(&opened, &watch).map(|()| ExitCode::SUCCESS);
    }
    let moved = match arguments.destination.parse()? {
        Location::Layout { directory, tag } => {
            let timeout = Duration::from_secs(arguments.lock_timeout);
            to_layout(&opened, &directory, timeout, tag.as_deref(), &watch)?
        }
        Location::OciArchive { file, tag } => {
            let names = match tag {
                Some(tag) => vec![tag.parse()?],
                None => opened.names.clone(),
            };
            to_file(&opened, &file, ArchiveForm::Oci, &names, &watch)?
        }
        Location::DockerArchive { file, reference } => {
            let names = match reference {
                Some(reference) => vec![full_name(&reference)?],
                None => opened.names.clone(),
            };
            to_file(&opened, &file, ArchiveForm::Docker, &names, &watch)?
        }
        Location::Registry(reference) => to_registry(&opened, &reference, arguments, &watch)?,
    };
    let digest = opened.image.descriptor.digest.to_string();
    match arguments.common.format {
        Format::Text => print(&digest)?,
        Format::Json => {
            let Moved { copied, copied_bytes, present, mounted } = moved;
            let blobs = json!({"copied": copied, "copiedBytes": copied_bytes, "present": present, "mounted": mounted});
            print(&json!({"digest": digest, "destination": arguments.destination, "blobs": blobs}).to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Docker knows images by repository and tag.
fn full_name(text: &str) -> Result<ImageName> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        return Err(Error::usage(format!("`{text}`"), "a digest cannot be chosen: it follows from the content"));
    }
    let tag = reference.tag_or_latest();
    reference.with_tag(tag).to_string().parse()
}

/// Writes a docker-archive of an image that was just built.
pub(super) fn save(image: &StoredImage, file: &Path, names: &[ImageName], watch: &Watch) -> Result<()> {
    let opened = Opened { image: image.clone(), names: names.to_vec() };
    to_file(&opened, file, ArchiveForm::Docker, names, watch).map(|_| ())
}

fn to_layout(opened: &Opened, directory: &Path, timeout: Duration, tag: Option<&str>, watch: &Watch) -> Result<Moved> {
    let layout = Arc::new(Layout::create(directory)?.with_lock_timeout(timeout));
    let names = match tag {
        Some(tag) => vec![tag.parse()?],
        None if opened.names.is_empty() => vec![ImageName::of_tag(&Tag::latest())],
        None => opened.names.clone(),
    };
    copy(&opened.image, &*layout, &names, watch)
}

fn to_registry(
    opened: &Opened,
    reference: &Reference,
    arguments: &ExportArguments,
    watch: &Arc<Watch>,
) -> Result<Moved> {
    let name = full_name(&reference.to_string())?;
    let repository = arguments.network.repository(reference, watch.clone())?;
    copy(&opened.image, &*repository, &[name], &**watch)
}

fn to_file(opened: &Opened, file: &Path, form: ArchiveForm, names: &[ImageName], watch: &Watch) -> Result<Moved> {
    warn_of_zstd(opened, form, watch);
    if file.is_dir() {
        return Err(Error::invalid(file.display().to_string(), "is a directory"));
    }
    let (root, name) = Root::of_file(file, Root::create)?;
    root.sweep_temporaries();
    let writer =
        ArchiveWriter::new(BufWriter::with_capacity(1 << 20, root.temporary()?), form, file.display().to_string());
    let moved = copy(&opened.image, &writer, names, watch)?;
    let temporary =
        writer.finish().into_inner().map_err(|error| Error::io(file.display(), "write", error.into_error()))?;
    temporary.persist(name)?;
    root.sync()?;
    Ok(moved)
}

fn to_stdout(opened: &Opened, watch: &Watch) -> Result<()> {
    warn_of_zstd(opened, ArchiveForm::Docker, watch);
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Error::usage("-", "an archive is not for a terminal").hint("redirect it, or name a file"));
    }
    let writer = ArchiveWriter::new(BufWriter::with_capacity(1 << 20, stdout), ArchiveForm::Docker, "standard output");
    copy(&opened.image, &writer, &opened.names, watch)?;
    writer.finish().flush().map_err(|error| Error::io("standard output", "write", error))
}

fn warn_of_zstd(opened: &Opened, form: ArchiveForm, watch: &Watch) {
    if form == ArchiveForm::Docker && opened.image.has_zstd_layers() {
        warn(watch, "docker-archive", "the layers are zstd, which Docker before version 23 does not load");
    }
}
