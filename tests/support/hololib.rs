//! A recorder that creates hololibs as RCC does, without RCC.
//!
//! It shares no code with the reader under test, and is itself compared with recordings of the real rcc.

use flate2::write::{DeflateEncoder, GzEncoder};
use serde_json::{Map, Value, json};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::collections::BTreeMap;
use std::fs;
use std::hash::Hasher;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The names and last extensions that RCC does not record.
const IGNORED: [&str; 7] = ["__MACOSX", "__pycache__", ".pyc", ".git", ".hg", ".svn", ".gitignore"];

/// The format of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// SHA-256 and gzip, as RCC does by default.
    Gzip,
    /// SHA-256 and zstd, as a branch of RCC did.
    Zstd,
    /// Checksums and uncompressed content: RCC's uncompressed mode.
    Raw,
}

/// A recorded environment.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The catalog document, which tests may change before it is written.
    pub(crate) document: Value,
    /// The content of each object, by its digest.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    storage: Storage,
}

impl Recording {
    /// Records `tree` as if it were at `path`, with `blueprint` in its `identity.yaml`.
    pub(crate) fn of(tree: &Path, path: &str, blueprint: &str, hash: &str, storage: Storage) -> Recording {
        fs::write(tree.join("identity.yaml"), blueprint).unwrap();
        fs::set_permissions(tree.join("identity.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
        let identity = path.rsplit('/').next().unwrap();
        let mut recording = Recording { document: Value::Null, objects: BTreeMap::new(), storage };
        let stage = Stage { tree, path, identity };
        let root = recording.directory(&stage, tree, "", Kind::Real);
        recording.document = json!({
            "rcc": "v19.0.2", "identity": identity, "path": path, "controller": "", "space": "",
            "platform": "linux_amd64", "blueprint": hash, "lifted": true, "tree": root,
        });
        recording
    }

    /// Returns the file name of the catalog.
    pub(crate) fn catalog_name(&self) -> String {
        let [blueprint, platform] = ["blueprint", "platform"].map(|member| self.document[member].as_str().unwrap());
        format!("{blueprint}v12.{platform}")
    }

    /// Writes catalog and objects below `hololib`.
    pub(crate) fn write(&self, hololib: &Path) {
        for (name, content) in self.files() {
            let path = hololib.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        if self.storage == Storage::Raw {
            fs::write(hololib.join("catalog/compress.no"), "").unwrap();
        }
    }

    /// Writes catalog and objects as a `hololib.zip`.
    pub(crate) fn write_zip(&self, path: &Path) {
        write_zip(path, &self.files());
    }

    /// Returns the names and bytes of all files, the catalog last.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for (digest, content) in &self.objects {
            let stored = match self.storage {
                Storage::Gzip => gzip(content),
                Storage::Zstd => zstd::bulk::compress(content, 1).unwrap(),
                Storage::Raw => content.clone(),
            };
            files.push((library_path(digest), stored));
        }
        let document = serde_json::to_vec_pretty(&self.document).unwrap();
        files.push((format!("catalog/{}", self.catalog_name()), gzip(&document)));
        files
    }

    fn directory(&mut self, stage: &Stage<'_>, directory: &Path, name: &str, kind: Kind) -> Value {
        let (mut directories, mut files) = (Map::new(), Map::new());
        for entry in fs::read_dir(directory).unwrap() {
            let mut path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
            if IGNORED.contains(&name.as_str()) || IGNORED.contains(&extension) {
                continue;
            }
            let link = fs::read_link(&path).ok();
            // A link is recorded with everything behind it; a target below the recorded path is in the stage.
            if let Some(inner) = link.as_ref().and_then(|target| target.strip_prefix(stage.path).ok()) {
                path = stage.tree.join(inner);
            }
            let metadata = fs::metadata(&path).unwrap();
            let (mut value, of) = if metadata.is_dir() {
                let below = if link.is_some() { Kind::Shadow } else { kind };
                let mut value = self.directory(stage, &path, &name, below);
                if kind == Kind::Shadow {
                    value["shadow"] = json!(true);
                }
                (value, &mut directories)
            } else {
                let store = link.is_none() && kind == Kind::Real;
                (self.file(&path, &name, stage.identity, metadata.permissions().mode(), store), &mut files)
            };
            if let Some(target) = link {
                value["symlink"] = json!(target.to_str().unwrap());
            }
            of.insert(name, value);
        }
        let mode = fs::metadata(directory).unwrap().permissions().mode();
        json!({ "name": name, "mode": go_mode(mode) | 1 << 31, "subdirs": directories, "files": files })
    }

    fn file(&mut self, path: &Path, name: &str, identity: &str, mode: u32, store: bool) -> Value {
        let content = fs::read(path).unwrap();
        let digest = match self.storage {
            Storage::Gzip | Storage::Zstd => ocibuild::Digest::of(&content).hex(),
            Storage::Raw => checksum(&content),
        };
        let rewrites = occurrences(&content, identity.as_bytes());
        let value = json!({ "name": name, "size": content.len(), "mode": go_mode(mode), "digest": digest, "rewrite": rewrites });
        if store {
            self.objects.insert(digest, content);
        }
        value
    }
}

/// Writes a zip in the format of Go: deflated, with data descriptors.
pub(crate) fn write_zip(path: &Path, files: &[(String, Vec<u8>)]) {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        let data = encoder.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let sums = [crc.sum(), u32::try_from(data.len()).unwrap(), u32::try_from(content.len()).unwrap()];
        let sums: Vec<u8> = sums.iter().flat_map(|number| number.to_le_bytes()).collect();
        let name_length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let offset = u32::try_from(out.len()).unwrap().to_le_bytes();
        let method = [20, 0, 8, 0, 8, 0, 0, 0, 0, 0];
        let empty = [0; 12];
        out.extend([&b"PK\x03\x04"[..], &method, &empty, &name_length, &[0; 2], name.as_bytes(), &data].concat());
        out.extend([&b"PK\x07\x08"[..], &sums].concat());
        let head = [&b"PK\x01\x02\x14\x00"[..], &method, &sums, &name_length, &empty].concat();
        directory.extend([&head[..], &offset, name.as_bytes()].concat());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let places = [directory.len(), out.len()].map(|place| u32::try_from(place).unwrap().to_le_bytes()).concat();
    out.extend_from_slice(&directory);
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &places, &[0; 2]].concat());
    fs::write(path, out).unwrap();
}

/// Returns the digest of an object in RCC's uncompressed mode.
pub(crate) fn checksum(content: &[u8]) -> String {
    let mut hasher = SipHasher24::new_with_key(b"Very_Random-Seed");
    hasher.write(content);
    hasher.finish128().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tree to record, and the path that it is recorded for.
struct Stage<'a> {
    tree: &'a Path,
    path: &'a str,
    identity: &'a str,
}

/// The kind of a recorded directory: real, or reached through a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Real,
    Shadow,
}

/// Returns the offsets of the needle. RCC overlooks one at the end of a file that follows nothing or a `t`.
fn occurrences(content: &[u8], needle: &[u8]) -> Vec<usize> {
    let found = content.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle).map(|(at, _)| at);
    found.filter(|&at| at + needle.len() < content.len() || at > 0 && content[at - 1] != b't').collect()
}

fn go_mode(mode: u32) -> u32 {
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    special.iter().filter(|(unix, _)| mode & unix != 0).map(|(_, go)| go).sum::<u32>() | mode & 0o777
}

fn library_path(digest: &str) -> String {
    format!("library/{}/{}/{}/{digest}", &digest[..2], &digest[2..4], &digest[4..6])
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
