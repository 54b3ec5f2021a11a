//! `ocibuild export`.

use super::blob_locations;
use super::destination::{ExportDestination, Writing, check_is_read_back, destinations, holds_one, to_stdout};
use super::into_index::{self, IntoIndexArguments};
use super::layer_cache;
use super::layout_lock::{LayoutLockArguments, WriteCheckArguments};
use super::namespace::NamespaceArguments;
use super::network::NetworkArguments;
use super::output::print;
use super::progress_display::Watch;
use super::replaced::{replaced_json, report_replaced};
use super::result_files::ResultFiles;
use super::source::{OpenedImage, SourceArguments};
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::common::human_numbers::counted;
use ocibuild::common::progress::warn;
use ocibuild::registry::LayerSources;
use ocibuild::store::{StoredImage, StoredIndex, TransferStats};
use ocibuild::{Digest, Error, ImageName, Reference, Result};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Destinations:
  docker-archive:FILE[:REFERENCE]  a tar for docker load, podman load, ctr and skopeo
  oci-archive:FILE[:TAG]           a tar of an OCI image layout
  oci:DIR[:TAG]                    another OCI image layout
  dir:DIR                          one image in a directory, in the format of skopeo
  docker-daemon:NAME               the image store of docker, through its CLI (that of containerd without docker)
  containers-storage:NAME          the image store of podman, through its CLI
  containerd:NAME                  the image store of containerd, through ctr
  docker://REFERENCE               a repository of a registry
  rootfs:FILE                      a tar of the files that a container of the image starts with
  -                                a docker-archive on standard output

Examples:
  ocibuild export ./out:v1 docker-archive:app.tar:team/app:v1
  ocibuild export ./out - | docker load
  ocibuild export ./out:v1 docker://registry.example/team/app:v1 docker://registry.example/team/app:latest")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// Destinations to copy to; names of one repository share one copy
    #[arg(required = true)]
    destinations: Vec<String>,
    /// Copy a multi-platform image whole, with all of its platforms
    #[arg(long, conflicts_with_all = ["platform", "complete_from"], visible_alias = "all")]
    all_platforms: bool,
    #[command(flatten)]
    into_index: IntoIndexArguments,
    #[command(flatten)]
    namespace: NamespaceArguments,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    write_check: WriteCheckArguments,
    /// Fetch layers that are missing from the layout, and have no recorded source, from this repository. Repeatable
    #[arg(long = "complete-from", value_name = "docker://REPOSITORY", value_parser = super::values::repository)]
    complete_from: Vec<Reference>,
    #[command(flatten)]
    results: ResultFiles,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Copies the image and prints the digest of its manifest.
pub(super) fn run(arguments: &ExportArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let destinations = destinations(&arguments.destinations)?;
    arguments.results.check()?;
    let check = arguments.write_check.check();
    match &destinations {
        Some(destinations) => destinations.iter().try_for_each(|destination| destination.check(check))?,
        None => check_is_read_back(check, "standard output")?,
    }
    let to_stream = destinations.iter().flatten().any(ExportDestination::is_standard_output);
    if arguments.common.format == OutputFormat::Json && (destinations.is_none() || to_stream) {
        return Err(Error::usage("--format json", "standard output is for the tar"));
    }
    arguments.namespace.check(destinations.as_deref().unwrap_or_default())?;
    if arguments.into_index.is_wanted() {
        let Some(destinations) = &destinations else {
            return Err(Error::usage(
                "--into-index",
                "adds to images in layouts and registries, not to standard output",
            ));
        };
        arguments.results.check_has_no_image_id()?;
        arguments.into_index.check(destinations.len(), destinations)?;
    }
    if arguments.all_platforms {
        return all_platforms(arguments, destinations, &watch);
    }
    let admission = arguments.source.admission(&arguments.network)?;
    let opened = arguments.source.open(&arguments.network, &watch)?;
    admission.admit(&opened.image, arguments.source.cache_directory(), &arguments.network, &watch)?;
    let is_in_registry = opened.image.source.repository(&opened.image.descriptor).is_some();
    let registries = destinations.iter().flatten().filter_map(ExportDestination::registry).collect::<Vec<_>>();
    let locations = blob_locations::open(arguments.source.cache_directory(), &watch);
    let left_out = locations
        .as_ref()
        .map(|locations| locations.remote_layers(&opened.image.descriptor.digest))
        .unwrap_or_default();
    let places = LayerSources { recorded: &left_out, named: &arguments.complete_from, registries: &registries };
    let image = arguments.network.with_layer_sources(opened.image, places, &watch)?;
    if let (Some(place), Some(locations), true) =
        (image.source.repository(&image.descriptor), &locations, is_in_registry)
    {
        blob_locations::record(locations, place, &image.manifest, &watch);
    }
    for oddity in &image.warnings {
        warn(&*watch, "image", oddity);
    }
    let opened = OpenedImage { image, ..opened };
    let is_for_archive = destinations.as_ref().is_none_or(|all| all.iter().any(ExportDestination::is_docker_archive));
    let cache = match is_for_archive && opened.image.has_several_compressions() {
        true => layer_cache::open_unless_off(arguments.source.cache_directory(), &watch)?,
        false => None,
    };
    let writing = Writing {
        locking: arguments.lock.locking(),
        check,
        network: &arguments.network,
        namespace: arguments.namespace.name(),
        locations: locations.as_ref(),
        cache: cache.as_ref(),
        cache_directory: arguments.source.cache_directory(),
        watch: &watch,
    };
    let Some(destinations) = destinations else {
        to_stdout(&opened, &writing)?;
        arguments.results.write(&opened.image.descriptor, Some(opened.image.manifest.config.digest), &opened.names)?;
        return Ok(ExitCode::SUCCESS);
    };
    if let (true, [only]) = (arguments.into_index.is_wanted(), &destinations[..]) {
        return into_index(arguments, only, (&[opened.image], &opened.names), &writing);
    }
    let mut moved = TransferStats::default();
    for destination in &destinations {
        moved.add(destination.write(&opened, &writing)?);
    }
    arguments.results.write(&opened.image.descriptor, Some(opened.image.manifest.config.digest), &opened.names)?;
    report(arguments, &destinations, opened.image.descriptor.digest, moved, None, &watch)
}

/// Copies every platform of a multi-platform image, and prints the digest of its index.
fn all_platforms(
    arguments: &ExportArguments,
    destinations: Option<Vec<ExportDestination>>,
    watch: &Arc<Watch>,
) -> Result<ExitCode> {
    let flag = "--all-platforms";
    let destinations = destinations.ok_or_else(|| holds_one(flag, "the docker-archive on standard output"))?;
    destinations.iter().try_for_each(|destination| destination.check_holds_several(flag))?;
    arguments.results.check_has_no_image_id()?;
    let (index, names) = arguments.source.open_index(&arguments.network, watch)?;
    let admission = arguments.source.admission(&arguments.network)?;
    let images = index.images()?;
    for image in &images {
        admission.admit(image, arguments.source.cache_directory(), &arguments.network, watch)?;
    }
    warn_of_artifacts(&index, &images, watch)?;
    let locations = blob_locations::open(arguments.source.cache_directory(), watch);
    let writing = Writing {
        locking: arguments.lock.locking(),
        check: arguments.write_check.check(),
        network: &arguments.network,
        namespace: arguments.namespace.name(),
        locations: locations.as_ref(),
        cache: None,
        cache_directory: arguments.source.cache_directory(),
        watch,
    };
    if let (true, [only]) = (arguments.into_index.is_wanted(), &destinations[..]) {
        return into_index(arguments, only, (&images, &names), &writing);
    }
    let mut moved = TransferStats::default();
    for destination in &destinations {
        moved.add(destination.write_index(&index, &names, &writing)?);
    }
    arguments.results.write(&index.descriptor, None, &names)?;
    report(arguments, &destinations, index.descriptor.digest, moved, None, watch)
}

/// Adds the images to the index at the destination, and prints its digest.
fn into_index(
    arguments: &ExportArguments,
    destination: &ExportDestination,
    (images, names): (&[StoredImage], &[ImageName]),
    writing: &Writing<'_>,
) -> Result<ExitCode> {
    let grown = into_index::add(destination, names, images, writing)?;
    arguments.results.write(&grown.descriptor, None, names)?;
    writing.watch.say(&into_index::platforms(&grown));
    let listed = Some(into_index::listed_json(&grown));
    let destinations = std::slice::from_ref(destination);
    report(arguments, destinations, grown.descriptor.digest, grown.moved, listed, writing.watch)
}

/// Warns of artifacts about the images of a layout, since they are not copied with an index.
fn warn_of_artifacts(index: &StoredIndex, images: &[StoredImage], watch: &Watch) -> Result<()> {
    let Some(layout) = index.source.layout(&index.descriptor) else { return Ok(()) };
    let images = images.iter().map(|image| image.descriptor.digest);
    let artifacts = layout.artifacts_about(images.chain([index.descriptor.digest]))?;
    if artifacts > 0 {
        let reason = format!("{} about the image stay behind", counted(artifacts, "artifact"));
        warn(watch, &layout.root().path().display().to_string(), &reason);
    }
    Ok(())
}

fn report(
    arguments: &ExportArguments,
    destinations: &[ExportDestination],
    digest: Digest,
    moved: TransferStats,
    listed: Option<Value>,
    watch: &Watch,
) -> Result<ExitCode> {
    report_replaced(&moved.replaced, watch);
    let digest = digest.to_string();
    match arguments.common.format {
        // The archive is there already, and its readers take no line behind it.
        OutputFormat::Text if destinations.iter().any(ExportDestination::is_standard_output) => watch.say(&digest),
        OutputFormat::Text => print(&digest)?,
        OutputFormat::Json => {
            let TransferStats { copied, copied_bytes, present, mounted, replaced } = moved;
            let blobs = json!({"copied": copied, "copiedBytes": copied_bytes, "present": present, "mounted": mounted});
            let mut result = json!({
                "digest": digest,
                "destinations": arguments.destinations,
                "blobs": blobs,
                "replaced": replaced_json(&replaced),
            });
            if let Some(listed) = listed {
                result["listed"] = listed;
            }
            print(&result.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
