//! Images as a stranger might write them: documents and tars made by hand, so that each may be wrong in one way.

use ocibuild::Digest;
use ocibuild::codec::tar::{EntryType, Header};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A header of an empty file of root, for struct updates.
pub(crate) const FILE: Header<'_> = Header {
    path: b"f",
    kind: EntryType::File,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 0,
    link: b"",
    xattrs: &[],
    device: (0, 0),
};
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout with one image of one gzip layer, tagged `base`, whose every document can be changed. A changed document gets
/// a new digest, and documents that refer to it are updated, so that the only fault is the one of the test.
pub(crate) struct Forged {
    pub(crate) directory: PathBuf,
}

impl Forged {
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Forged {
        let forged = Forged { directory: directory.into() };
        fs::create_dir_all(forged.directory.join("blobs/sha256")).unwrap();
        fs::write(forged.directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let tar = tar(&[Member::file("base", b"from the base\n")]);
        let layer = gzip(&tar);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "a stranger"}],
        });
        let config = config.to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": forged.descriptor(CONFIG, config.as_bytes()),
            "layers": [forged.descriptor(GZIP, &layer)],
        });
        let manifest = manifest.to_string();
        let mut listed = forged.descriptor(MANIFEST, manifest.as_bytes());
        listed["annotations"] = json!({"org.opencontainers.image.ref.name": "base"});
        forged.set_index(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}));
        forged
    }

    /// `oci:DIRECTORY:base`
    pub(crate) fn location(&self) -> String {
        format!("oci:{}:base", self.directory.display())
    }

    /// Stores a blob and describes it.
    pub(crate) fn descriptor(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.blob(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replacen(':', "/", 1))
    }

    pub(crate) fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.directory.join("index.json")).unwrap()).unwrap()
    }

    pub(crate) fn manifest_digest(&self) -> String {
        text(&self.index()["manifests"][0]["digest"])
    }

    pub(crate) fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.blob(&self.manifest_digest())).unwrap()).unwrap()
    }

    pub(crate) fn config_digest(&self) -> String {
        text(&self.manifest()["config"]["digest"])
    }

    pub(crate) fn layer_digest(&self) -> String {
        text(&self.manifest()["layers"][0]["digest"])
    }

    pub(crate) fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.blob(&self.config_digest())).unwrap()).unwrap()
    }

    pub(crate) fn set_index(&self, index: &Value) {
        fs::write(self.directory.join("index.json"), index.to_string()).unwrap();
    }

    /// Replaces the manifest by `bytes`, whatever they are.
    pub(crate) fn set_manifest(&self, bytes: &[u8]) {
        fs::remove_file(self.blob(&self.manifest_digest())).unwrap();
        let mut index = self.index();
        self.descriptor(MANIFEST, bytes);
        index["manifests"][0]["digest"] = digest(bytes).into();
        index["manifests"][0]["size"] = bytes.len().into();
        self.set_index(&index);
    }

    /// Replaces the config by `bytes`, whatever they are.
    pub(crate) fn set_config(&self, bytes: &[u8]) {
        fs::remove_file(self.blob(&self.config_digest())).unwrap();
        let mut manifest = self.manifest();
        self.descriptor(CONFIG, bytes);
        manifest["config"]["digest"] = digest(bytes).into();
        manifest["config"]["size"] = bytes.len().into();
        self.set_manifest(manifest.to_string().as_bytes());
    }

    /// Replaces the layer by `stored`, which is said to hold `tar`.
    pub(crate) fn set_layer(&self, stored: &[u8], media_type: &str, tar: &[u8]) {
        fs::remove_file(self.blob(&self.layer_digest())).unwrap();
        let layer = self.descriptor(media_type, stored);
        self.edit_manifest(|manifest| manifest["layers"][0] = layer.clone());
        self.edit_config(|config| config["rootfs"]["diff_ids"][0] = digest(tar).into());
    }

    pub(crate) fn edit_index(&self, edit: impl FnOnce(&mut Value)) {
        let mut index = self.index();
        edit(&mut index);
        self.set_index(&index);
    }

    pub(crate) fn edit_manifest(&self, edit: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest();
        edit(&mut manifest);
        self.set_manifest(manifest.to_string().as_bytes());
    }

    pub(crate) fn edit_config(&self, edit: impl FnOnce(&mut Value)) {
        let mut config = self.config();
        edit(&mut config);
        self.set_config(config.to_string().as_bytes());
    }

    /// Makes the image so that an index, and in it another one, and so on, leads to it.
    pub(crate) fn nest_in_indexes(&self, depth: usize) {
        for _ in 0..depth {
            self.edit_index(|index| {
                let mut inner = index["manifests"][0].take();
                inner.as_object_mut().unwrap().remove("annotations");
                let nested = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}).to_string();
                let mut listed = self.descriptor(INDEX, nested.as_bytes());
                listed["annotations"] = json!({"org.opencontainers.image.ref.name": "base"});
                index["manifests"][0] = listed;
            });
        }
    }

    /// Adds a file to the layout.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.directory.join(name), bytes).unwrap();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar member with arbitrary fields.
#[derive(Clone, Default)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) content: Vec<u8>,
    /// What the size field holds, where that is not the length of the content.
    pub(crate) size_field: Option<Vec<u8>>,
    /// What the checksum field holds, where that is not the checksum.
    pub(crate) checksum_field: Option<Vec<u8>>,
}

impl Member {
    pub(crate) fn file(name: &str, content: &[u8]) -> Member {
        Member::of(b'0', name, content)
    }

    pub(crate) fn of(flag: u8, name: &str, content: &[u8]) -> Member {
        Member { name: name.into(), flag, content: content.to_vec(), ..Member::default() }
    }

    pub(crate) fn link(flag: u8, name: &str, link: &str) -> Member {
        Member { link: link.into(), ..Member::of(flag, name, b"") }
    }

    /// A PAX extended header with one record.
    pub(crate) fn pax(key: &str, value: &[u8]) -> Member {
        Member::of(b'x', "pax", &record(key, value))
    }

    pub(crate) fn append(&self, out: &mut Vec<u8>) {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, b"0000644\x000000000\x000000000\0");
        let size = self.size_field.clone().unwrap_or_else(|| format!("{:011o}\0", self.content.len()).into_bytes());
        put(124, &size);
        put(136, b"00000000000\0        ");
        put(156, &[self.flag]);
        put(157, &self.link);
        put(257, b"ustar\x0000");
        put(345, &self.prefix);
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let checksum = self.checksum_field.clone().unwrap_or_else(|| format!("{sum:06o}\0 ").into_bytes());
        block[148..148 + checksum.len()].copy_from_slice(&checksum);
        out.extend_from_slice(&block);
        out.extend_from_slice(&self.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

/// `LENGTH KEY=VALUE\n`
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap();
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// The members without the two blocks that end a tar.
pub(crate) fn unended(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    members.iter().for_each(|member| member.append(&mut out));
    out
}

/// A whole tar.
pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    [unended(members), vec![0; 1024]].concat()
}

/// What `docker save` writes for one image of one layer, whose every member may be changed.
#[derive(Clone)]
pub(crate) struct DockerSaved {
    pub(crate) members: Vec<Member>,
}

impl DockerSaved {
    pub(crate) fn new() -> DockerSaved {
        let layer = tar(&[Member::file("base", b"from the base\n")]);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let list = json!([{"Config": "config.json", "RepoTags": ["team/base:1"], "Layers": ["one/layer.tar"]}]);
        let members = vec![
            Member::file("config.json", config.to_string().as_bytes()),
            Member::file("one/layer.tar", &layer),
            Member::file("manifest.json", list.to_string().as_bytes()),
        ];
        DockerSaved { members }
    }

    /// The member called `name`.
    pub(crate) fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name == name.as_bytes()).unwrap()
    }

    /// Changes `manifest.json`.
    pub(crate) fn edit_list(&mut self, edit: impl FnOnce(&mut Value)) {
        let member = self.member("manifest.json");
        let mut list: Value = serde_json::from_slice(&member.content).unwrap();
        edit(&mut list);
        member.content = list.to_string().into_bytes();
    }

    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, tar(&self.members)).unwrap();
    }
}
