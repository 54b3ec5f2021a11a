//! The lists of the blocks of shared layers, as an artifact in a registry.
//!
//! ```text
//! manifest  config ─▶ format of the blocks, and for each layer its blocks (`block_table`, in base64)
//!           layers ─▶ the blobs, in the same order: those that were shared last first
//! ```

use super::block_table::BlockList;
use super::shared_artifact::ArtifactDocuments;
use super::{Cache, keys};
use crate::codec::compression::Compression;
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::layers::Layer;
use crate::spec::Descriptor;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The media type of the config.
pub(super) const CONFIG_TYPE: &str = "application/vnd.ocibuild.cache.blocks.v1+json";

/// The smallest block that is requested from a registry, in bytes. Compressing a smaller one takes less time.
pub(super) const SMALLEST: u64 = 64 << 10;
/// The largest number of blocks of all layers that one tag keeps in a registry, about 8 GB of files.
const MOST_BLOCKS: usize = 1 << 14;
/// The largest number of layers that one tag keeps.
const MOST_LAYERS: usize = 256;

/// A layer with its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlocks {
    pub(super) descriptor: Descriptor,
    pub(super) list: BlockList,
}

impl Cache {
    /// Returns the blocks of a layer, if it was made here with `compression`, they are known, and one is large enough for
    /// others to fetch.
    ///
    /// # Errors
    /// Fails if the cache cannot be read.
    pub fn layer_blocks(&self, layer: &Layer, compression: Compression) -> Result<Option<LayerBlocks>> {
        let descriptor = layer.descriptor.clone();
        let list = self.listed_blocks(descriptor.digest, compression)?;
        Ok(list.filter(|list| list.has_block_of(SMALLEST)).map(|list| LayerBlocks { descriptor, list }))
    }
}

/// Returns those of `layers` that one tag keeps: the first ones for which there is room, each one once.
pub(super) fn with_room<'a>(layers: impl IntoIterator<Item = &'a LayerBlocks>) -> Vec<&'a LayerBlocks> {
    let (mut kept, mut room): (Vec<&LayerBlocks>, usize) = (Vec::new(), MOST_BLOCKS);
    for layer in layers {
        let is_new = kept.iter().all(|known| known.descriptor.digest != layer.descriptor.digest);
        if is_new && layer.list.len() <= room && kept.len() < MOST_LAYERS {
            room -= layer.list.len();
            kept.push(layer);
        }
    }
    kept
}

/// Creates the documents that share `layers`.
pub(super) fn documents(layers: &[&LayerBlocks], compression: Compression) -> ArtifactDocuments {
    let described: Vec<Value> = layers
        .iter()
        .map(|LayerBlocks { descriptor, list }| {
            json!({"blocks": STANDARD.encode(list.to_bytes()), "digest": descriptor.digest.to_string()})
        })
        .collect();
    let config = json!({"format": keys::block_format(compression).hex(), "layers": described});
    ArtifactDocuments::new(CONFIG_TYPE, &config, layers.iter().map(|layer| &layer.descriptor))
}

/// Reads the config of an artifact with these blobs.
///
/// # Errors
/// Returns an error if the config is malformed, of another format, or does not describe exactly the blobs.
pub(super) fn read(
    config: &[u8],
    blobs: Vec<Descriptor>,
    compression: Compression,
    object: &str,
) -> Result<Vec<LayerBlocks>> {
    let wrong = |reason: &str| Error::invalid(object, reason);
    let value = json::parse(config, json::DOCUMENT_DEPTH, object)?;
    if json::string_at(&value, "format", object)? != Some(&keys::block_format(compression).hex()) {
        return Err(wrong("its content does not match its tag"));
    }
    let described = json::array_at(&value, "layers", object)?.map_or(&[][..], Vec::as_slice);
    if described.len() != blobs.len() {
        return Err(wrong("its description does not match its layers"));
    }
    let layer = |(described, blob): (&Value, Descriptor)| {
        let text = |key| json::string_at(described, key, object).map(Option::unwrap_or_default);
        if text("digest")? != blob.digest.to_string() {
            return Err(wrong("its description does not match its layers"));
        }
        let list = STANDARD.decode(text("blocks")?).ok().and_then(|bytes| BlockList::read(&bytes, blob.size));
        let list = list.ok_or_else(|| wrong("a list of blocks does not match its layer"))?;
        Ok(LayerBlocks { descriptor: Descriptor::new(&blob.media_type, blob.digest, blob.size), list })
    };
    described.iter().zip(blobs).map(layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::shared_artifact::CacheManifest;
    use crate::spec::media_type;

    fn layer(number: usize, blocks: usize) -> LayerBlocks {
        let list: Vec<u8> = (0..blocks).flat_map(|_| [[0, 0, 0, 7], [0, 1, 0, 0], [0, 0, 0, 2]].concat()).collect();
        let size = 2 * blocks as u64;
        let descriptor = Descriptor { size, ..Descriptor::of(media_type::LAYER_GZIP, number.to_string().as_bytes()) };
        LayerBlocks { descriptor, list: BlockList::read(&list, size).unwrap() }
    }

    #[test]
    fn as_many_layers_are_shared_as_there_may_be() {
        let kept = |layers: &[LayerBlocks]| {
            let made = documents(&with_room(layers), Compression::DEFAULT_GZIP);
            let manifest = CacheManifest::read(&made.manifest_bytes, CONFIG_TYPE, "artifact").unwrap();
            let read = read(&made.config_bytes, manifest.layers, Compression::DEFAULT_GZIP, "artifact").unwrap();
            assert!(layers.starts_with(&read), "the first ones stay");
            assert!(made.config_bytes.len() < 1 << 19, "{}", made.config_bytes.len());
            read.len()
        };
        let small: Vec<LayerBlocks> = (0..=MOST_LAYERS).map(|number| layer(number, 1)).collect();
        assert_eq!((kept(&small[1..]), kept(&small)), (MOST_LAYERS, MOST_LAYERS));
        let large = [layer(0, MOST_BLOCKS / 2), layer(1, MOST_BLOCKS / 2), layer(2, 1)];
        assert_eq!((kept(&large[..2]), kept(&large)), (2, 2));
        assert_eq!(kept(&[layer(0, 1), layer(1, MOST_BLOCKS)]), 1);
        assert_eq!(with_room(&[layer(0, 1), layer(0, 1)]).len(), 1);
    }
}
