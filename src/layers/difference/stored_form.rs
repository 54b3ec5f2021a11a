//! Why two blobs differ that hold the same tar, or layers that are stored in different ways.

use super::{LayerAspect, LayerReason};
use crate::codec::compression::CompressedPieces;
use crate::common::error::{Error, Result};
use crate::common::human_numbers::counted;
use crate::spec::{Descriptor, media_type};
use crate::store::{BlobSource, Verified};
use serde_json::{Map, Value};
use std::io;

/// Returns the differences between the types of two layers.
pub(super) fn reasons_of_types(before: &Descriptor, after: &Descriptor) -> Vec<LayerReason> {
    let (one, other) = (&before.media_type, &after.media_type);
    if one == other {
        return Vec::new();
    }
    match (media_type::layer_encoding(one), media_type::layer_encoding(other)) {
        (Some(one), Some(other)) if one != other => {
            vec![LayerReason::new(LayerAspect::Compression, format!("{} -> {}", one.name(), other.name()))]
        }
        _ => vec![LayerReason::new(LayerAspect::MediaType, format!("{one} -> {other}"))],
    }
}

/// Returns the members of two descriptors that differ, beside type, digest and size.
pub(super) fn reasons_of_descriptors(before: Option<&Value>, after: Option<&Value>) -> Vec<LayerReason> {
    let rest = |value: Option<&Value>| {
        let mut members: Map<String, Value> = value.and_then(Value::as_object).cloned().unwrap_or_default();
        members.retain(|key, _| !["mediaType", "digest", "size"].contains(&key.as_str()));
        members
    };
    let (one, other) = (rest(before), rest(after));
    let differs = |key: &&String| one.get(*key) != other.get(*key);
    let mut keys: Vec<&str> = one.keys().chain(other.keys()).filter(differs).map(String::as_str).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() { Vec::new() } else { vec![LayerReason::new(LayerAspect::Descriptor, keys.join(", "))] }
}

/// Returns why two blobs with one compression and one tar differ. Both are read, except for those in a registry.
///
/// # Errors
/// Fails if a blob is missing or damaged.
pub(super) fn reasons_of_compression(
    before: (&dyn BlobSource, &Descriptor),
    after: (&dyn BlobSource, &Descriptor),
) -> Result<Vec<LayerReason>> {
    let sizes = format!("{} B -> {} B", before.1.size, after.1.size);
    let is_remote = |(source, layer): (&dyn BlobSource, &Descriptor)| source.repository(layer).is_some();
    if is_remote(before) || is_remote(after) {
        return Ok(vec![LayerReason::new(LayerAspect::Compressor, sizes)]);
    }
    let (Some(one), Some(other)) = (pieces(before)?, pieces(after)?) else {
        return Ok(vec![LayerReason::new(LayerAspect::Compressor, sizes)]);
    };
    if (one.count, one.first) != (other.count, other.first) {
        let described = |pieces: &CompressedPieces| {
            let count = counted(usize::try_from(pieces.count).unwrap_or(usize::MAX), "block");
            format!("{count}, the first of {} B", pieces.first)
        };
        let detail = format!("{} -> {}", described(&one), described(&other));
        return Ok(vec![LayerReason::new(LayerAspect::Blocks, detail)]);
    }
    Ok(vec![LayerReason::new(LayerAspect::Compressor, sizes)])
}

fn pieces((source, layer): (&dyn BlobSource, &Descriptor)) -> Result<Option<CompressedPieces>> {
    let Some(encoding) = media_type::layer_encoding(&layer.media_type) else { return Ok(None) };
    let object = format!("blob {}", layer.digest);
    let failed = |error| Error::io(&object, "read", error);
    let mut stored = Verified::new(source.open(layer)?, layer);
    let pieces = CompressedPieces::read(&mut stored, encoding).map_err(failed)?;
    io::copy(&mut stored, &mut io::sink()).map_err(failed)?;
    Ok(pieces)
}
