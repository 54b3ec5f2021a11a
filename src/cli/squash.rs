//! `ocibuild squash`.

use super::Common;
use super::progress_display::Watch;
use super::rewriting::{RewritingArguments, Target};
use clap::{Args, ValueEnum};
use ocibuild::build::rewrite::ChangedImage;
use ocibuild::build::squash::Squash;
use ocibuild::codec::compression::{Compression, Encoding};
use ocibuild::layers::rootfs::Listings;
use ocibuild::store::LAYERS;
use ocibuild::{Layout, Result, StoredImage};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
The files of the image stay the same. What a later layer deletes or replaces is not in the new layer; deletions of files of the
layers that stay remain. The same layers give the same digest everywhere. Layers that are one already stay as they are.

Examples:
  ocibuild squash ./out:v1
  ocibuild squash ./out:v1 --from 2 --to oci:./out:v1-squashed
  ocibuild squash docker://registry.example/team/app:v1 --from 2")]
pub(super) struct SquashArguments {
    #[command(flatten)]
    rewriting: RewritingArguments,
    /// Keep the layers below layer N; the lowest is 1
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Layers")]
    from: NonZeroUsize,
    /// Set the compression of the new layer
    #[arg(long, value_name = "KIND", default_value = "gzip", help_heading = "Layers")]
    compression: LayerCompression,
    /// Set the compression level: gzip 1-12 [default: 5], zstd 1-19 [default: 3]
    #[arg(long, value_name = "LEVEL", help_heading = "Layers")]
    compression_level: Option<u8>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayerCompression {
    /// Supported by all engines and registries
    Gzip,
    /// Smaller and faster than gzip; needs Docker 23 or later
    Zstd,
    /// No compression
    None,
}

/// Makes one layer of several, and prints the digest of the result.
pub(super) fn run(arguments: &SquashArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let compression = arguments.compression()?;
    let target = arguments.rewriting.target()?;
    let change = |image: StoredImage| arguments.squash(image, compression, &target, &watch);
    arguments.rewriting.run(&target, &change, &arguments.common, &watch)?;
    Ok(ExitCode::SUCCESS)
}

impl SquashArguments {
    fn compression(&self) -> Result<Compression> {
        let encoding = match self.compression {
            LayerCompression::Gzip => Encoding::Gzip,
            LayerCompression::Zstd => Encoding::Zstd,
            LayerCompression::None => Encoding::Plain,
        };
        Compression::new(encoding, self.compression_level)
    }

    fn squash(
        &self,
        image: StoredImage,
        compression: Compression,
        target: &Target,
        watch: &Arc<Watch>,
    ) -> Result<Option<ChangedImage>> {
        let cache = &self.rewriting.cache;
        let layout = match target {
            Target::Layout(layout, _) => layout.clone(),
            // On the way to another place, the layer is in the cache.
            Target::Registry(_) | Target::Elsewhere(_) => Arc::new(Layout::kept(&cache.open()?, LAYERS, &**watch)?),
        };
        let listings = cache.open().and_then(|cache| Listings::in_cache_directory(&cache)).ok();
        let kept = self.from.get() - 1;
        Squash { kept, compression, layout: &layout, listings: listings.as_ref(), progress: &**watch }.apply(image)
    }
}
