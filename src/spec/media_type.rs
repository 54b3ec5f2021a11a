//! Media types of OCI and Docker, and the encodings that they imply.

use crate::codec::compression::Encoding;

/// An image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An artifact manifest of a withdrawn draft of the specification, which oras 0.x wrote.
pub const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// An uncompressed layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer compressed with gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer compressed with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Docker's name for an index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's name for a manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's name for a config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// Returns the OCI media type of a layer with this compression.
pub fn of_layer(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Plain => LAYER,
        Encoding::Gzip => LAYER_GZIP,
        Encoding::Zstd => LAYER_ZSTD,
    }
}

/// Returns whether `media_type` is that of an index.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_INDEX)
}

/// Returns whether `media_type` is that of a manifest.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, MANIFEST | DOCKER_MANIFEST)
}

/// Returns whether `media_type` is that of a document that refers to blobs: an index, a manifest, or an artifact manifest.
pub fn refers_to_blobs(media_type: &str) -> bool {
    is_index(media_type) || is_manifest(media_type) || media_type == ARTIFACT
}

/// Returns whether `media_type` may be that of a manifest of another specification, such as Docker's schema 1.
pub fn may_be_unknown_manifest(media_type: &str) -> bool {
    !refers_to_blobs(media_type) && (media_type.ends_with("json") || media_type.ends_with("prettyjws"))
}

/// Returns whether `media_type` is that of an image config.
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, CONFIG | DOCKER_CONFIG)
}

/// Returns the compression of a layer of this type, or `None` if the type is not supported.
pub fn layer_encoding(media_type: &str) -> Option<Encoding> {
    match media_type {
        LAYER | DOCKER_LAYER => Some(Encoding::Plain),
        LAYER_GZIP | DOCKER_LAYER_GZIP => Some(Encoding::Gzip),
        LAYER_ZSTD | DOCKER_LAYER_ZSTD => Some(Encoding::Zstd),
        _ => None,
    }
}

/// Returns the gzip variant of a layer type: Docker's type for Docker's.
pub fn gzip_of(media_type: &str) -> &'static str {
    match media_type {
        DOCKER_LAYER | DOCKER_LAYER_GZIP | DOCKER_LAYER_ZSTD => DOCKER_LAYER_GZIP,
        _ => LAYER_GZIP,
    }
}

/// Returns whether layers of this type are stored elsewhere and must not be distributed.
pub fn is_foreign_layer(media_type: &str) -> bool {
    media_type.starts_with(NONDISTRIBUTABLE) || media_type == DOCKER_FOREIGN_LAYER
}

/// Returns the name of a layer type for a manifest of type `manifest`: Docker's name for Docker's. An unknown type is returned
/// unchanged.
pub fn layer_in<'t>(manifest: &str, layer: &'t str) -> &'t str {
    match (manifest, layer_encoding(layer)) {
        (DOCKER_MANIFEST, Some(Encoding::Plain)) => DOCKER_LAYER,
        (DOCKER_MANIFEST, Some(Encoding::Gzip)) => DOCKER_LAYER_GZIP,
        (DOCKER_MANIFEST, Some(Encoding::Zstd)) => DOCKER_LAYER_ZSTD,
        _ => to_oci_layer(layer),
    }
}

/// Returns the OCI name of a layer type. An unknown type is returned unchanged.
pub fn to_oci_layer(media_type: &str) -> &str {
    match layer_encoding(media_type) {
        Some(encoding) => of_layer(encoding),
        None => media_type,
    }
}
