//! The uncompressed tar of one layer.

use crate::common::error::{Error, Result};
use crate::common::progress::{Activity, Progress};
use crate::layers::block_boundaries::cut;
use crate::layers::fill_block::fill;
use crate::layers::tree::Tree;
use std::io::Write;

/// Writes the tar of `tree` into `out`: the bytes whose digest is the layer's diff ID. Messages call it `name`.
///
/// # Errors
/// Returns an error if a source cannot be read or has changed, or if `out` cannot be written.
pub fn write_tar(tree: &Tree, name: &str, out: &mut dyn Write, progress: &dyn Progress) -> Result<()> {
    let blocks = cut(tree);
    let size = blocks.bytes();
    let activity = Activity::start(progress, name, Some(size));
    let (mut half_read, mut buffer) = (None, Vec::new());
    for block in blocks.iter() {
        fill(tree, &block, &mut half_read, None, &mut buffer).map_err(|error| error.within(name))?;
        out.write_all(&buffer).map_err(|error| Error::io(name, "write", error))?;
        activity.advance(buffer.len() as u64);
    }
    activity.finish(&crate::common::human_numbers::size(size));
    Ok(())
}
