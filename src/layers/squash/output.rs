//! The tar of a new layer, compressed while it is written.

use crate::codec::compression::{Compression, Compressor};
use crate::codec::tar;
use crate::codec::tar::{END, EntryType, Header};
use crate::common::digest::{DiffId, Hasher};
use crate::common::error::{Error, Result, one_line};
use crate::common::human_numbers;
use crate::common::progress::{Activity, Progress};
use crate::layers::Layer;
use crate::layers::rootfs::ListedNode;
use crate::spec::{Descriptor, media_type};
use crate::store::Layout;
use crate::store::layout::BlobWriter;
use rayon::prelude::*;

/// The size of a block, which becomes a gzip member or a zstd frame of its own, in bytes.
const BLOCK: usize = 1 << 20;

/// A tar that is hashed, and compressed in blocks on every thread.
pub(super) struct TarOutput<'a> {
    blob: BlobWriter,
    compression: Compression,
    hasher: Hasher,
    size: u64,
    /// Full blocks, and one that is being filled.
    blocks: Vec<Vec<u8>>,
    activity: Activity<'a>,
}

impl std::fmt::Debug for TarOutput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarOutput").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<'a> TarOutput<'a> {
    /// Starts an empty tar in `blob`.
    pub(super) fn start(blob: BlobWriter, compression: Compression, progress: &'a dyn Progress) -> Self {
        let activity = Activity::start(progress, "squash", None);
        let blocks = vec![Vec::with_capacity(BLOCK)];
        TarOutput { blob, compression, hasher: Hasher::sha256(), size: 0, blocks, activity }
    }

    /// Appends the header of an entry.
    pub(super) fn header(&mut self, header: &Header<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        tar::append(header, &mut bytes);
        self.write(&bytes)
    }

    /// Appends the zeros that follow a content of `size` bytes.
    pub(super) fn pad(&mut self, size: u64) -> Result<()> {
        self.write(&[0; tar::BLOCK as usize][..tar::padding(size) as usize])
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.activity.advance(bytes.len() as u64);
        while !bytes.is_empty() {
            if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
                if self.blocks.len() >= 2 * rayon::current_num_threads() {
                    self.flush()?;
                }
                self.blocks.push(Vec::with_capacity(BLOCK));
            }
            let Some(block) = self.blocks.last_mut() else { continue };
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
            block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Compresses and writes the blocks.
    fn flush(&mut self) -> Result<()> {
        let compression = self.compression;
        let packed = self.blocks.par_iter().map_init(
            || Compressor::new(compression),
            |compressor, block| {
                let mut packed = Vec::new();
                let compressor = compressor.as_mut().map_err(|_| Error::invalid("layer", "cannot be compressed"))?;
                compressor.compress(block, &mut packed).map(|()| packed)
            },
        );
        for packed in packed.collect::<Result<Vec<_>>>()? {
            self.blob.write(&packed)?;
        }
        self.blocks.clear();
        Ok(())
    }

    /// Ends the tar, and stores the layer in `layout`.
    pub(super) fn finish(mut self, layout: &Layout) -> Result<Layer> {
        self.write(&END)?;
        self.flush()?;
        let TarOutput { blob, compression, hasher, size, activity, .. } = self;
        let (digest, length) = layout.finish_blob(blob)?;
        activity.finish(&human_numbers::size(length));
        let media_type = media_type::of_layer(compression.encoding());
        Ok(Layer {
            descriptor: Descriptor::new(media_type, digest, length),
            diff_id: DiffId::of_tar(hasher.finish()),
            tar_size: size,
        })
    }
}

/// Returns the error about a directory of a layer that is something else in a lower one. Some engines follow the link, and others
/// replace it.
pub(super) fn ambiguous(path: &[u8]) -> Error {
    let reason = "is a link or file that a higher layer has files below, which engines unpack in different ways";
    Error::invalid(display(path), reason).hint("squash other layers: --from N")
}

/// Returns a path as messages name it.
pub(super) fn display(path: &[u8]) -> String {
    one_line(&format!("/{}", String::from_utf8_lossy(path)))
}

/// Returns the header of a listed entry without content.
pub(super) fn header<'a>(path: &'a [u8], kind: EntryType, node: &'a ListedNode) -> Header<'a> {
    Header {
        path,
        kind,
        mode: node.mode.into(),
        uid: node.uid.into(),
        gid: node.gid.into(),
        size: 0,
        mtime: node.mtime,
        link: b"",
        xattrs: &node.xattrs,
        device: (0, 0),
    }
}
