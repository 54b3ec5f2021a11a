//! Images whose layers are compressed in different ways, made ready for readers that look at the first layer only.
//!
//! crane and others that read what `docker save` writes look at one layer to learn how all are compressed, and push the
//! others broken. So each layer that is not gzip is made gzip, a block at a time on all threads, where they differ.

use super::{BlobSource, StoredImage, Verified};
use crate::bounded;
use crate::compression::{Compression, Compressor, Encoding, decode};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::json;
use crate::progress::{Activity, Progress};
use crate::reference::Reference;
use crate::root::Root;
use crate::section::Section;
use crate::spec::{Descriptor, Manifest, media_type};
use crate::wording;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

/// How much one thread compresses at once, in bytes.
const BLOCK: usize = 1 << 20;

/// A layer that was compressed on the way.
#[derive(Debug)]
struct Compressed {
    descriptor: Descriptor,
    file: Arc<File>,
}

/// The layers that were compressed, and where all other blobs are.
struct WithCompressed {
    others: Arc<dyn BlobSource>,
    compressed: BTreeMap<Digest, Compressed>,
}

impl StoredImage {
    /// The image with gzip for all layers, where its layers are compressed in different ways; `None` if they are not.
    /// Its config is the same, and so is what engines call its ID; its manifest and the digest of that are others, so nothing
    /// refers to it.
    ///
    /// What is compressed is kept in unnamed files of the directory that `spool` opens.
    ///
    /// # Errors
    /// When a layer is of a type that cannot be read, is missing or damaged, or the directory cannot be written.
    pub fn with_one_compression(
        &self,
        spool: &dyn Fn() -> Result<Root>,
        progress: &dyn Progress,
    ) -> Result<Option<StoredImage>> {
        let encodings = self.manifest.layers.iter().map(|layer| media_type::layer_encoding(&layer.media_type));
        let encodings: Vec<Option<Encoding>> = encodings.collect();
        if encodings.iter().all(|encoding| *encoding == encodings[0]) {
            return Ok(None);
        }
        let spool = spool()?;
        let mut compressed: BTreeMap<Digest, Compressed> = BTreeMap::new();
        for (layer, encoding) in self.manifest.layers.iter().zip(encodings) {
            let object = format!("layer {}", layer.digest);
            let unknown = || Error::invalid(&object, format!("`{}` cannot be read", layer.media_type));
            let encoding = encoding.ok_or_else(unknown)?;
            if encoding != Encoding::Gzip && !compressed.contains_key(&layer.digest) {
                let made = compress(&*self.source, layer, encoding, &spool, progress)?;
                compressed.insert(layer.digest, made);
            }
        }
        let manifest_bytes = self.manifest_with(&compressed)?;
        let descriptor = Descriptor {
            digest: Digest::of(&manifest_bytes),
            size: manifest_bytes.len() as u64,
            ..self.descriptor.clone()
        };
        let manifest = Manifest::read(&manifest_bytes, &descriptor.media_type, "manifest")?;
        let compressed = compressed.into_values().map(|made| (made.descriptor.digest, made)).collect();
        let source = Arc::new(WithCompressed { others: self.source.clone(), compressed });
        Ok(Some(StoredImage {
            descriptor,
            manifest,
            manifest_bytes: manifest_bytes.into(),
            source,
            referrers: Vec::new(),
            ..self.clone()
        }))
    }

    /// The manifest with other layers, and with every member that we do not know.
    fn manifest_with(&self, compressed: &BTreeMap<Digest, Compressed>) -> Result<Vec<u8>> {
        let mut document = json::parse(&self.manifest_bytes, json::DOCUMENT_DEPTH, "manifest")?;
        for (place, layer) in self.manifest.layers.iter().enumerate() {
            if let Some(Compressed { descriptor, .. }) = compressed.get(&layer.digest) {
                let listed = &mut document["layers"][place];
                listed["mediaType"] = descriptor.media_type.as_str().into();
                listed["digest"] = descriptor.digest.to_string().into();
                listed["size"] = descriptor.size.into();
            }
        }
        Ok(json::canonical(&document))
    }
}

/// Makes gzip of a layer.
fn compress(
    source: &dyn BlobSource,
    layer: &Descriptor,
    encoding: Encoding,
    spool: &Root,
    progress: &dyn Progress,
) -> Result<Compressed> {
    let object = format!("layer {}", layer.digest);
    let activity = Activity::start(progress, &format!("compress {}", layer.digest), Some(layer.size));
    let read_failed = |error| Error::io(&object, "read", error);
    let mut stored = Verified::new(source.open(layer)?, layer);
    let mut content = decode(&mut stored, encoding).map_err(read_failed)?;
    let mut file = spool.temporary()?.into_unnamed()?;
    let (mut hasher, mut length) = (Hasher::new(Algorithm::Sha256), 0);
    let mut blocks = vec![Vec::with_capacity(BLOCK); 2 * rayon::current_num_threads()];
    let mut is_first = true;
    loop {
        let mut filled = 0;
        for block in &mut blocks {
            block.clear();
            bounded::read_start(&mut content, BLOCK as u64, block).map_err(read_failed)?;
            activity.advance(block.len() as u64);
            filled += usize::from(!block.is_empty());
        }
        // Also an empty layer is a gzip member.
        let packed = blocks[..filled.max(usize::from(is_first))].par_iter().map_init(
            || Compressor::new(Compression::DEFAULT_GZIP),
            |compressor, block| {
                let mut packed = Vec::new();
                let compressor = compressor.as_mut().map_err(|_| Error::invalid(&object, "cannot be compressed"))?;
                compressor.compress(block, &mut packed).map(|()| packed)
            },
        );
        for packed in packed.collect::<Result<Vec<_>>>()? {
            hasher.update(&packed);
            length += packed.len() as u64;
            file.write_all(&packed).map_err(|error| Error::io(spool.path().display(), "write", error))?;
        }
        is_first = false;
        if filled < blocks.len() {
            break;
        }
    }
    drop(content);
    // What a decoder leaves unread is still part of the blob, and its digest is compared at the end.
    std::io::copy(&mut stored, &mut std::io::sink()).map_err(read_failed)?;
    activity.finish(&wording::size(length));
    let gzip = media_type::gzip_of(&layer.media_type);
    let descriptor = Descriptor { media_type: gzip.to_owned(), digest: hasher.finish(), size: length, ..layer.clone() };
    Ok(Compressed { descriptor, file: Arc::new(file) })
}

impl BlobSource for WithCompressed {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        match self.compressed.get(&descriptor.digest) {
            Some(Compressed { file, .. }) => Ok(Box::new(Section::new(file.clone(), 0, descriptor.size))),
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
