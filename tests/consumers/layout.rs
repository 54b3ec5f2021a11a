//! An image in an OCI image layout, read the plain way: whole files, parsed as JSON.

use serde_json::Value;
use std::path::PathBuf;

/// One image of a layout directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The directory.
    pub(crate) path: PathBuf,
    /// The image's tag.
    pub(crate) tag: String,
}

impl Layout {
    /// Names the image `tag` of the layout at `path`.
    pub(crate) fn new(path: impl Into<PathBuf>, tag: &str) -> Layout {
        Layout { path: path.into(), tag: tag.to_owned() }
    }

    /// `PATH:TAG`, as umoci takes it.
    pub(crate) fn image(&self) -> String {
        format!("{}:{}", self.path.display(), self.tag)
    }

    /// `oci:PATH:TAG`, as skopeo, podman and buildah take it.
    pub(crate) fn location(&self) -> String {
        format!("oci:{}", self.image())
    }

    /// The layout's index.json.
    #[track_caller]
    pub(crate) fn index(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path.join("index.json")).unwrap()).unwrap()
    }

    /// The digest of the image's manifest, as index.json has it.
    #[track_caller]
    pub(crate) fn manifest_digest(&self) -> String {
        let index = self.index();
        let manifests = index["manifests"].as_array().unwrap();
        let is_ours = |manifest: &&Value| manifest["annotations"]["org.opencontainers.image.ref.name"] == self.tag;
        let ours = manifests.iter().find(is_ours).unwrap_or_else(|| panic!("no tag {} in {index:#}", self.tag));
        ours["digest"].as_str().unwrap().to_owned()
    }

    /// The image's manifest.
    #[track_caller]
    pub(crate) fn manifest(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.blob(&self.manifest_digest())).unwrap()).unwrap()
    }

    /// The digest of the image's config, which podman and docker call the image ID.
    #[track_caller]
    pub(crate) fn config_digest(&self) -> String {
        self.manifest()["config"]["digest"].as_str().unwrap().to_owned()
    }

    /// The image's config.
    #[track_caller]
    pub(crate) fn config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.blob(&self.config_digest())).unwrap()).unwrap()
    }

    /// The descriptors of the image's layers, lowest first.
    #[track_caller]
    pub(crate) fn layers(&self) -> Vec<Value> {
        self.manifest()["layers"].as_array().unwrap().clone()
    }

    /// The path of the blob `digest`.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.path.join("blobs").join(digest.replacen(':', "/", 1))
    }
}
