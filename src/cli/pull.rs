//! `ocibuild pull`.

use super::base::{self, Freshness};
use super::cache_directory::CacheDirectory;
use super::layout_lock::WriteCheckArguments;
use super::network::NetworkArguments;
use super::output::print;
use super::progress_display::Watch;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::build;
use ocibuild::layers::rootfs::Listings;
use ocibuild::store::{StoredImage, TransferStats};
use ocibuild::{Location, Platform, Reference, Result};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints each reference with its current digest, in the form that --base takes.

Examples:
  ocibuild pull debian:stable-slim
  ocibuild pull registry.example/team/base:v1 --platform linux/arm64")]
pub(super) struct PullArguments {
    /// Base images to pull
    #[arg(value_name = "REFERENCE", required = true, value_parser = Location::of_registry)]
    references: Vec<Reference>,
    /// Select a platform of a multi-platform image [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    cache: CacheDirectory,
    #[command(flatten)]
    write_check: WriteCheckArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Brings the images into the base store, and prints what they are.
pub(super) fn run(arguments: &PullArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let store = base::open_store_checking(&arguments.cache, Freshness::Content, arguments.write_check.check(), &watch)?;
    let platform = arguments.platform.as_ref();
    // Listings that cannot be stored are made again by the next build.
    let listings = Listings::in_cache_directory(&arguments.cache.open()?).ok();
    let mut results = Vec::new();
    for reference in &arguments.references {
        let admission = arguments.network.admission(&Location::Registry(reference.clone()))?;
        let stores = (&store, &arguments.cache);
        let admit = |image: &StoredImage| admission.admit(image, &arguments.cache, &arguments.network, &watch);
        let pulled = base::pull(stores, &arguments.network, reference, platform, Freshness::Content, (&admit, &watch))?;
        arguments.cache.note_use(&pulled.base.image.descriptor.digest);
        // So that builds with --sparse know it, also when the base is gone from here.
        build::list_base(&pulled.base.image, listings.as_ref(), &*watch)?;
        let pinned = reference.clone().with_digest(pulled.base.named).to_string();
        let TransferStats { copied, copied_bytes, present, mounted: _, replaced: _ } = pulled.moved;
        match arguments.common.format {
            OutputFormat::Text => print(&pinned)?,
            OutputFormat::Json => results.push(json!({
                "reference": pinned,
                "digest": pulled.base.image.descriptor.digest.to_string(),
                "platform": pulled.base.image.config.platform().to_string(),
                "mirror": pulled.base.mirror.map(|mirror| mirror.to_string()),
                "movedFrom": pulled.before.map(|before| before.to_string()),
                "blobs": {"copied": copied, "copiedBytes": copied_bytes, "present": present},
            })),
        }
    }
    if arguments.common.format == OutputFormat::Json {
        print(&json!(results).to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
