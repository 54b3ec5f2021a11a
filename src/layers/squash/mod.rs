//! Several layers as one, with the same result in a container.
//!
//! ```text
//!  listings ──▶ plan ──▶ directories, whiteouts and opaque markers, sorted by path
//!  layers   ──▶ read ──▶ files, links and devices that are visible in the end, in the order of the layers
//!                           └──▶ tar ──▶ compressed in blocks on every thread ──▶ blob
//! ```
//!
//! Each layer is read once, from start to end. What was deleted or replaced by a higher layer of the range is left out. A
//! deletion stays if the layers below the range have something to delete. The bytes depend on the layers alone.

mod markers;
mod output;
mod plan;
mod read;

use super::Layer;
use super::rootfs::{LayerListing, Rootfs};
use crate::codec::compression::Compression;
use crate::common::error::Result;
use crate::common::progress::Progress;
use crate::spec::Descriptor;
use crate::store::{BlobSource, Layout};
use output::TarOutput;
use plan::SquashPlan;
use std::sync::Arc;

/// Layers to be made one.
pub struct SquashRequest<'a> {
    /// The layers, lowest first.
    pub layers: &'a [Descriptor],
    /// The listing of each of them.
    pub listings: &'a [Arc<LayerListing>],
    /// The layers below them.
    pub below: &'a Rootfs<'a>,
    /// The source of the layers.
    pub source: &'a dyn BlobSource,
    /// The compression of the result.
    pub compression: Compression,
}

impl std::fmt::Debug for SquashRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SquashRequest").field("layers", &self.layers).finish_non_exhaustive()
    }
}

/// Writes one layer with the result of all layers into `layout`. Nothing refers to it yet.
///
/// # Errors
/// Fails if a layer is missing, damaged or not of a type that can be read, holds a path that leads out of it or a hard link
/// whose file is replaced in the layers below, or if the layout cannot be written.
pub fn squash_layers(request: &SquashRequest<'_>, layout: &Layout, progress: &dyn Progress) -> Result<Layer> {
    let mut output = TarOutput::start(layout.blob_writer()?, request.compression, progress);
    let plan = SquashPlan::make(request, &mut output)?;
    for number in 0..request.layers.len() {
        read::copy_visible(request, number, &plan, &mut output)?;
    }
    output.finish(layout)
}
