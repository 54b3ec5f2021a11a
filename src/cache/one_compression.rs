//! Images whose layers are compressed in different ways, made ready for readers that look at the first layer only.
//!
//! crane and others that read what `docker save` writes look at one layer to learn how all are compressed, and push the
//! others broken. So if the compressions differ, each layer that is not gzip is compressed as gzip, a block at a time on all
//! threads. The result is cached under the digest of the original layer, for the next archive.

use super::record::CacheRecord;
use super::{Cache, LayerKey};
use crate::cache::LayerFacts;
use crate::codec::compression::{Compression, Compressor, Encoding, decode};
use crate::common::bounded_read;
use crate::common::digest::{Algorithm, DiffId, Digest, Hasher};
use crate::common::error::{Error, Result};
use crate::common::file_section::Section;
use crate::common::human_numbers;
use crate::common::json;
use crate::common::progress::{Activity, Progress, warn};
use crate::common::root::{Root, Temporary};
use crate::layers::Layer;
use crate::spec::reference::Reference;
use crate::spec::{Descriptor, Manifest, media_type};
use crate::store::layout::BlobWriter;
use crate::store::{BlobSink, BlobSource, Layout, StoredImage, Verified};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

/// The size of a chunk that one thread compresses, in bytes.
const BLOCK: usize = 1 << 20;

/// The compression of layers that are compressed again.
const COMPRESSION: Compression = Compression::DEFAULT_GZIP;

/// The storage for layers that are compressed again.
#[derive(Debug, Clone, Copy)]
pub enum Spool<'a> {
    /// Into the cache, which keeps them for the next archive.
    Cache(&'a Cache),
    /// Into unnamed files of a directory.
    Unnamed(&'a Root),
}

/// A layer that was compressed on the way.
struct Compressed {
    descriptor: Descriptor,
    place: Place,
}

/// The location of such a layer's bytes.
enum Place {
    Unnamed(Arc<File>),
    Kept(Layout),
}

/// The layers that were compressed, and where all other blobs are.
struct WithCompressed {
    others: Arc<dyn BlobSource>,
    compressed: BTreeMap<Digest, Compressed>,
}

/// Returns the image with gzip for all layers, where its layers are compressed in different ways; `None` if they are not. Its
/// config is the same, and so is what engines call its ID; its manifest and the digest of that are others, so nothing refers to
/// it.
///
/// # Errors
/// Fails if a layer is of a type that cannot be read, is missing or damaged, or the spool cannot be written.
pub fn with_one_compression(
    image: &StoredImage,
    spool: Spool<'_>,
    progress: &dyn Progress,
) -> Result<Option<StoredImage>> {
    if !image.has_several_compressions() {
        return Ok(None);
    }
    let mut compressed: BTreeMap<Digest, Compressed> = BTreeMap::new();
    for (layer, diff_id) in image.manifest.layers.iter().zip(image.config.diff_ids()) {
        let object = format!("layer {}", layer.digest);
        let unknown = || Error::invalid(&object, format!("`{}` cannot be read", layer.media_type));
        let encoding = media_type::layer_encoding(&layer.media_type).ok_or_else(unknown)?;
        if encoding != Encoding::Gzip && !compressed.contains_key(&layer.digest) {
            let source = Source { blobs: &*image.source, layer, encoding, diff_id };
            compressed.insert(layer.digest, source.find_or_compress(spool, progress)?);
        }
    }
    let manifest_bytes = manifest_with(image, &compressed)?;
    let descriptor = Descriptor {
        digest: Digest::of(&manifest_bytes),
        size: manifest_bytes.len() as u64,
        ..image.descriptor.clone()
    };
    let manifest = Manifest::read(&manifest_bytes, &descriptor.media_type, "manifest")?;
    let compressed = compressed.into_values().map(|made| (made.descriptor.digest, made)).collect();
    let source = Arc::new(WithCompressed { others: image.source.clone(), compressed });
    Ok(Some(StoredImage {
        descriptor,
        manifest,
        manifest_bytes: manifest_bytes.into(),
        source,
        referrers: Vec::new(),
        ..image.clone()
    }))
}

/// Returns the manifest with other layers, preserving unknown members.
fn manifest_with(image: &StoredImage, compressed: &BTreeMap<Digest, Compressed>) -> Result<Vec<u8>> {
    let mut document = json::parse(&image.manifest_bytes, json::DOCUMENT_DEPTH, "manifest")?;
    for (place, layer) in image.manifest.layers.iter().enumerate() {
        if let Some(Compressed { descriptor, .. }) = compressed.get(&layer.digest) {
            let listed = &mut document["layers"][place];
            listed["mediaType"] = descriptor.media_type.as_str().into();
            listed["digest"] = descriptor.digest.to_string().into();
            listed["size"] = descriptor.size.into();
        }
    }
    Ok(json::canonical(&document))
}

/// A layer that is not gzip.
struct Source<'a> {
    blobs: &'a dyn BlobSource,
    layer: &'a Descriptor,
    encoding: Encoding,
    diff_id: &'a DiffId,
}

impl Source<'_> {
    /// Returns the layer as gzip: from the cache, or made now.
    fn find_or_compress(&self, spool: Spool<'_>, progress: &dyn Progress) -> Result<Compressed> {
        let cache = match spool {
            Spool::Unnamed(directory) => return self.compress_unnamed(directory, progress),
            Spool::Cache(cache) => cache,
        };
        let key = LayerKey::of_blob_compressed_again(&self.layer.digest, COMPRESSION);
        if let Some(kept) = cache.kept(&key) {
            return Ok(Compressed { descriptor: self.described(&kept), place: Place::Kept(cache.own_store()?) });
        }
        let mut writer = cache.store.blob_writer()?;
        let tar_size = self.compress(&mut |packed| BlobWriter::write(&mut writer, packed), progress)?;
        let (digest, size) = cache.store.finish_blob(writer)?;
        let descriptor = self.described(&Descriptor::new(media_type::gzip_of(&self.layer.media_type), digest, size));
        let layer = Layer { descriptor: descriptor.clone(), diff_id: *self.diff_id, tar_size };
        let record = CacheRecord { layer, facts: LayerFacts::None, from: None, recorded: cache.now };
        if let Err(error) = record.write(&cache.layers, &key) {
            warn(progress, &error.object(), &format!("{}; the next archive compresses it again", error.reason()));
        }
        Ok(Compressed { descriptor, place: Place::Kept(cache.own_store()?) })
    }

    fn compress_unnamed(&self, directory: &Root, progress: &dyn Progress) -> Result<Compressed> {
        let mut file = directory.temporary().and_then(Temporary::into_unnamed)?;
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
        let mut write = |packed: &[u8]| {
            hasher.update(packed);
            size += packed.len() as u64;
            file.write_all(packed).map_err(|error| Error::file(directory.path(), "write", error))
        };
        self.compress(&mut write, progress)?;
        let made = Descriptor::new(media_type::gzip_of(&self.layer.media_type), hasher.finish(), size);
        Ok(Compressed { descriptor: self.described(&made), place: Place::Unnamed(Arc::new(file)) })
    }

    /// Returns the descriptor of the layer, for other bytes.
    fn described(&self, made: &Descriptor) -> Descriptor {
        let media_type = media_type::gzip_of(&self.layer.media_type).to_owned();
        Descriptor { media_type, digest: made.digest, size: made.size, ..self.layer.clone() }
    }

    /// Compresses the layer as gzip, passes it to `write`, and returns the length of its tar.
    fn compress(&self, write: &mut dyn FnMut(&[u8]) -> Result<()>, progress: &dyn Progress) -> Result<u64> {
        let Source { blobs, layer, encoding, diff_id: _ } = self;
        let object = format!("layer {}", layer.digest);
        let activity = Activity::start(progress, &format!("compress {}", layer.digest), Some(layer.size));
        let read_failed = |error| Error::io(&object, "read", error);
        let mut stored = Verified::new(blobs.open(layer)?, layer);
        let mut content = decode(&mut stored, *encoding).map_err(read_failed)?;
        let (mut tar_size, mut size) = (0, 0);
        let mut blocks = vec![Vec::with_capacity(BLOCK); 2 * rayon::current_num_threads()];
        let mut is_first = true;
        loop {
            let mut filled = 0;
            for block in &mut blocks {
                block.clear();
                bounded_read::read_start(&mut content, BLOCK as u64, block).map_err(read_failed)?;
                activity.advance(block.len() as u64);
                tar_size += block.len() as u64;
                filled += usize::from(!block.is_empty());
            }
            // Also an empty layer is a gzip member.
            let packed = blocks[..filled.max(usize::from(is_first))].par_iter().map_init(
                || Compressor::new(COMPRESSION),
                |compressor, block| {
                    let mut packed = Vec::new();
                    let compressor =
                        compressor.as_mut().map_err(|_| Error::invalid(&object, "cannot be compressed"))?;
                    compressor.compress(block, &mut packed).map(|()| packed)
                },
            );
            for packed in packed.collect::<Result<Vec<_>>>()? {
                size += packed.len() as u64;
                write(&packed)?;
            }
            is_first = false;
            if filled < blocks.len() {
                break;
            }
        }
        drop(content);
        // Data that the decoder did not read is still part of the blob, and its digest is compared at the end.
        std::io::copy(&mut stored, &mut std::io::sink()).map_err(read_failed)?;
        activity.finish(&human_numbers::size(size));
        Ok(tar_size)
    }
}

impl Cache {
    /// Returns the blob of `key`, if it is known and complete.
    fn kept(&self, key: &LayerKey) -> Option<Descriptor> {
        let Layer { descriptor, .. } = self.record(key)?.layer;
        self.layers.touch(&key.hex(), self.now);
        self.store.contains(&descriptor).unwrap_or(false).then_some(descriptor)
    }

    /// Opens the layout of the cache again, for a source of blobs that owns it.
    fn own_store(&self) -> Result<Layout> {
        Layout::open(self.store.root().path())
    }
}

impl BlobSource for WithCompressed {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        match self.compressed.get(&descriptor.digest).map(|Compressed { place, .. }| place) {
            Some(Place::Unnamed(file)) => Ok(Box::new(Section::new(file.clone(), 0, descriptor.size))),
            Some(Place::Kept(store)) => store.open(descriptor),
            None => self.others.open(descriptor),
        }
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<&Reference> {
        self.others.repository(descriptor)
    }

    fn has_another(&self, descriptor: &Descriptor, error: &Error) -> bool {
        self.others.has_another(descriptor, error)
    }
}
