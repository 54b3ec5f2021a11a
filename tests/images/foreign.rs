//! Images whose layers are written entry by entry, as no builder would.

use super::Yard;
use ocibuild::codec::tar::{END, EntryType, Header, append, padding};
use serde_json::{Value, json};

/// Writes a tar of `lines`: a letter for the kind, a path, and
///
/// * `f PATH [CONTENT]`, `d PATH`, `p PATH`: files, directories, pipes; the mode may follow the letter, as in `d0700`,
///   and the owner the mode, as in `d0700@1:2`; `p+NAME=VALUE` has an extended attribute, and so has every kind,
/// * `l PATH TARGET`, `h PATH TARGET`: links,
/// * `c PATH MAJOR:MINOR`, `b PATH MAJOR:MINOR`: devices.
fn tar_of(lines: &[&str]) -> Vec<u8> {
    let mut tar = Vec::new();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (kind, path, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        let (kind, xattr) = kind.split_once('+').unwrap_or((kind, ""));
        let xattr = xattr.split_once('=').map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let xattrs: Vec<_> = xattr.into_iter().collect();
        let (mode, owner) = kind[1..].split_once('@').unwrap_or((&kind[1..], "0:0"));
        let pair = |text: &str| -> (u32, u32) {
            let (one, other) = text.split_once(':').unwrap();
            (one.parse().unwrap(), other.parse().unwrap())
        };
        let (uid, gid) = pair(owner);
        let (entry, default) = match &kind[..1] {
            "f" => (EntryType::File, 0o644),
            "d" => (EntryType::Directory, 0o755),
            "p" => (EntryType::Fifo, 0o600),
            "l" => (EntryType::Symlink, 0o777),
            "h" => (EntryType::HardLink, 0o644),
            "c" => (EntryType::CharacterDevice, 0o666),
            "b" => (EntryType::BlockDevice, 0o660),
            other => panic!("{other}"),
        };
        let is_link = matches!(entry, EntryType::Symlink | EntryType::HardLink);
        let is_device = matches!(entry, EntryType::CharacterDevice | EntryType::BlockDevice);
        let content = if entry == EntryType::File { rest.as_bytes() } else { b"" };
        let header = Header {
            path: path.as_bytes(),
            kind: entry,
            mode: u32::from_str_radix(mode, 8).unwrap_or(default),
            uid: uid.into(),
            gid: gid.into(),
            size: content.len() as u64,
            mtime: 1_000_000_000,
            link: if is_link { rest.as_bytes() } else { b"" },
            xattrs: &xattrs,
            device: if is_device { pair(rest) } else { (0, 0) },
        };
        append(&header, &mut tar);
        tar.extend(content);
        tar.resize(tar.len() + padding(header.size) as usize, 0);
    }
    tar.extend(END);
    tar
}

impl Yard {
    /// Adds an image to the layout `out`, each of whose layers has the entries of `lines`.
    pub(super) fn foreign(&self, tag: &str, layers: &[&[&str]]) {
        std::fs::create_dir_all(self.scratch.join("out/blobs/sha256")).unwrap();
        if !self.scratch.join("out/index.json").exists() {
            self.scratch.write("out/oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#);
            self.scratch.write("out/index.json", r#"{"schemaVersion": 2, "manifests": []}"#);
        }
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let layers: Vec<Value> = layers.iter().map(|lines| self.blob("out", layer_type, &tar_of(lines))).collect();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}});
        let config = self.blob("out", "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers});
        let mut listed = self.blob("out", manifest_type, manifest.to_string().as_bytes());
        listed["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.edit_index("out", |manifests| manifests.push(listed));
    }
}
