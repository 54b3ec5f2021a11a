//! Images made byte by byte, so that two of them differ in one way only.

use ocibuild::Digest;
use ocibuild::codec::tar::{EntryType, Header, append, padding};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;

/// An entry of a tar.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) path: &'static str,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) owner: u64,
    pub(super) mtime: i64,
    pub(super) content: &'static str,
    pub(super) link: &'static str,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A PAX record before the header.
    pub(super) record: &'static str,
    /// Bytes of the header, with their offset in it.
    pub(super) bytes: &'static [(usize, &'static [u8])],
}

pub(super) fn file(path: &'static str, content: &'static str) -> Entry {
    Entry {
        path,
        kind: EntryType::File,
        mode: 0o644,
        owner: 0,
        mtime: 1000,
        content,
        link: "",
        xattrs: Vec::new(),
        record: "",
        bytes: &[],
    }
}

pub(super) fn directory(path: &'static str) -> Entry {
    Entry { kind: EntryType::Directory, mode: 0o755, ..file(path, "") }
}

pub(super) fn link(kind: EntryType, path: &'static str, target: &'static str) -> Entry {
    Entry { kind, link: target, ..file(path, "") }
}

impl Entry {
    fn append(&self, tar: &mut Vec<u8>) {
        if !self.record.is_empty() {
            let record = format!("{} {}\n", self.record.len() + 4, self.record);
            assert_eq!(record.len(), self.record.len() + 4, "records have a length of two digits");
            raw(b'x', record.as_bytes(), tar);
        }
        let header = Header {
            path: self.path.as_bytes(),
            kind: self.kind,
            mode: self.mode,
            uid: self.owner,
            gid: self.owner,
            size: self.content.len() as u64,
            mtime: self.mtime,
            link: self.link.as_bytes(),
            xattrs: &self.xattrs,
            device: (0, 0),
        };
        append(&header, tar);
        let start = tar.len() - 512;
        for (offset, bytes) in self.bytes {
            tar[start + offset..start + offset + bytes.len()].copy_from_slice(bytes);
        }
        set_checksum(&mut tar[start..]);
        tar.extend_from_slice(self.content.as_bytes());
        tar.resize(tar.len() + padding(self.content.len() as u64) as usize, 0);
    }
}

/// Appends an extended header.
fn raw(flag: u8, content: &[u8], tar: &mut Vec<u8>) {
    let start = tar.len();
    file("extended", "").append(tar);
    tar[start + 124..start + 136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    tar[start + 156] = flag;
    set_checksum(&mut tar[start..start + 512]);
    tar.extend_from_slice(content);
    tar.resize(tar.len() + padding(content.len() as u64) as usize, 0);
}

fn set_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// How a layer is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Plain,
    Gzip(u32),
    /// Several gzip members of as many bytes.
    Members(usize),
    Zstd,
}

#[derive(Clone)]
pub(super) struct Layer {
    pub(super) entries: Vec<Entry>,
    pub(super) stored: Stored,
    /// The zeros at the end, in bytes.
    pub(super) zeros: usize,
    /// Members of the descriptor.
    pub(super) described: Value,
    /// The type of Docker instead of that of OCI.
    pub(super) media_type: Option<&'static str>,
}

pub(super) fn layer(entries: &[Entry]) -> Layer {
    let (stored, described) = (Stored::Gzip(6), json!({}));
    Layer { entries: entries.to_vec(), stored, zeros: 1024, described, media_type: None }
}

impl Layer {
    fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        self.entries.iter().for_each(|entry| entry.append(&mut tar));
        tar.resize(tar.len() + self.zeros, 0);
        tar
    }

    fn blob(&self, tar: &[u8]) -> (Vec<u8>, &'static str) {
        let gzip = |content: &[u8], level| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let (blob, media_type) = match self.stored {
            Stored::Plain => (tar.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
            Stored::Gzip(level) => (gzip(tar, level), "application/vnd.oci.image.layer.v1.tar+gzip"),
            Stored::Members(length) => {
                let members = tar.chunks(length).flat_map(|chunk| gzip(chunk, 6)).collect();
                (members, "application/vnd.oci.image.layer.v1.tar+gzip")
            }
            Stored::Zstd => (zstd::encode_all(tar, 3).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
        };
        (blob, self.media_type.unwrap_or(media_type))
    }
}

/// An image of which every byte can be chosen.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) layers: Vec<Layer>,
    /// The config, without its diff IDs.
    pub(super) config: Value,
    /// Members of the manifest beside config and layers.
    pub(super) manifest: Value,
    /// Members of the entry of `index.json`.
    pub(super) entry: Value,
    pub(super) config_type: &'static str,
    /// White space behind the documents.
    pub(super) space: [&'static str; 2],
}

impl Image {
    /// Writes the image layout `layout` with this image and the tag `v1`.
    pub(super) fn write(&self, layout: &Path) {
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let entry = self.write_blobs(layout);
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
    }

    /// Writes all blobs, and returns the entry of an index for the image.
    pub(super) fn write_blobs(&self, layout: &Path) -> Value {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            let tar = layer.tar();
            let (bytes, media_type) = layer.blob(&tar);
            diff_ids.push(Digest::of(&tar).to_string());
            layers.push(with(&blob(layout, media_type, &bytes), &layer.described));
        }
        let config = with(&self.config, &json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}));
        let config = blob(layout, self.config_type, format!("{config}{}", self.space[0]).as_bytes());
        let manifest = with(&self.manifest, &json!({"schemaVersion": 2, "config": config, "layers": layers}));
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        let manifest = blob(layout, &media_type, format!("{manifest}{}", self.space[1]).as_bytes());
        with(&manifest, &self.entry)
    }
}

fn with(object: &Value, more: &Value) -> Value {
    let mut all = object.as_object().unwrap().clone();
    all.extend(more.as_object().unwrap().clone());
    all.into()
}

pub(super) fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// An image of two layers.
pub(super) fn image() -> Image {
    let base = [
        directory("etc"),
        file("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
        directory("srv"),
        file("srv/one", "1"),
        file("srv/two", "2"),
    ];
    let app = [
        directory("app"),
        directory("app/data"),
        file("app/data/file", "some content"),
        file("app/main", "print 'hello'"),
        link(EntryType::Symlink, "app/link", "main"),
        link(EntryType::HardLink, "app/same", "app/main"),
        Entry {
            bytes: &[(329, b"0000001\0"), (337, b"0000003\0")],
            ..link(EntryType::CharacterDevice, "app/null", "")
        },
    ];
    Image {
        layers: vec![layer(&base), layer(&app)],
        config: json!({
            "os": "linux",
            "architecture": "arm64",
            "created": "2024-01-01T00:00:00Z",
            "author": "one",
            "config": {
                "Env": ["PATH=/bin", "LANG=C"],
                "Labels": {"label": "one"},
                "Entrypoint": ["/app/main"],
                "Cmd": ["--help"],
                "User": "1000",
                "WorkingDir": "/app",
                "StopSignal": "SIGTERM",
                "ExposedPorts": {"80/tcp": {}},
                "Volumes": {"/data": {}},
                "Healthcheck": {"Test": ["CMD", "true"]},
            },
            "history": [{"created_by": "base"}, {"created_by": "app"}],
        }),
        manifest: json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "annotations": {"org.example.one": "1"},
        }),
        entry: json!({
            "annotations": {"org.opencontainers.image.ref.name": "v1", "org.example.entry": "1"},
            "platform": {"os": "linux", "architecture": "arm64"},
        }),
        config_type: "application/vnd.oci.image.config.v1+json",
        space: ["", ""],
    }
}
