//! Records of verified files, identified by their metadata.
//!
//! Hashing a base of hundreds of megabytes in every build would cost more than the build. A blob that was verified or written
//! on this machine is unchanged as long as its file has the same identity, size and modification time; an accidental change
//! also changes the modification time. (The change time is less useful: a new hard link changes it, too.) Bytes that leave the
//! machine are always hashed on the way.

use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::root::Root;
use cap_fs_ext::MetadataExt as _;
use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// A directory of small files, one for each verified file. Losing one costs a hash.
#[derive(Debug, Clone)]
pub struct VerifiedFiles {
    root: Root,
}

impl VerifiedFiles {
    /// Opens the records in the cache directory `root`, which everything in the cache shares.
    ///
    /// # Errors
    /// Fails if the directory cannot be created.
    pub fn in_cache_directory(root: &Root) -> Result<Self> {
        root.create_directory("verified")?.create_directory("v2").map(VerifiedFiles::new)
    }

    /// Opens the records in the cache directory `root`, if they exist.
    pub fn existing(root: &Root) -> Option<Self> {
        root.directory("verified").and_then(|verified| verified.directory("v2")).ok().map(VerifiedFiles::new)
    }

    /// Opens the records in the directory `root`.
    pub fn new(root: Root) -> Self {
        VerifiedFiles { root }
    }

    /// Returns the recorded digest of `file`, if the file has not changed since.
    pub fn digest_of(&self, file: &File) -> Option<Digest> {
        let (name, stamp) = described(file)?;
        let note = self.root.open_file(&name).ok()?;
        let note = crate::common::bounded_read::read(note, 1024, &name).ok()?;
        let note = String::from_utf8(note).ok()?;
        let (digest, rest) = note.split_once(' ')?;
        if rest == stamp { digest.parse().ok() } else { None }
    }

    /// Records that `file`, which is durable, has `digest`. A failure is harmless and ignored.
    pub fn remember(&self, file: &File, digest: &Digest) {
        if let Some((name, stamp)) = described(file) {
            self.note(&name, &format!("{digest} {stamp}")).ok();
        }
    }

    /// Removes any record of `file`.
    pub fn forget(&self, file: &File) {
        if let Some((name, _)) = described(file) {
            // There may be none. If it cannot be removed, no build can write to the cache either.
            self.root.dir().remove_file(name).ok();
        }
    }

    fn note(&self, name: &str, note: &str) -> Result<()> {
        let mut temporary = self.root.temporary()?;
        temporary.write_all(note.as_bytes()).map_err(|error| self.root.failed(name, "write", error))?;
        // A record that a crash has truncated does not parse or does not match.
        temporary.rename_unsynced(name)
    }
}

/// Returns the name of the record of `file`, and the metadata that must not change.
fn described(file: &File) -> Option<(String, String)> {
    let metadata = cap_std::fs::Metadata::from_file(file).ok()?;
    let modified = metadata.modified().ok()?.into_std();
    let modified = SystemTime::duration_since(&modified, UNIX_EPOCH).ok()?.as_nanos();
    let name = Digest::of(format!("{} {}", metadata.dev(), metadata.ino()).as_bytes()).hex();
    Some((name[..32].to_owned(), format!("{} {modified}", metadata.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_digest_is_found_until_the_file_changes() {
        let keep = tempfile::tempdir().unwrap();
        fs::create_dir(keep.path().join("notes")).unwrap();
        let verified = VerifiedFiles::new(Root::open(&keep.path().join("notes")).unwrap());
        let path = keep.path().join("blob");
        fs::write(&path, "content").unwrap();
        let open = || fs::File::open(&path).unwrap();
        assert_eq!(verified.digest_of(&open()), None);
        let digest = Digest::of(b"content");
        verified.remember(&open(), &digest);
        assert_eq!(verified.digest_of(&open()), Some(digest));
        fs::hard_link(&path, keep.path().join("other name")).unwrap();
        assert_eq!(verified.digest_of(&open()), Some(digest));
        verified.forget(&open());
        assert_eq!(verified.digest_of(&open()), None);
        verified.remember(&open(), &digest);
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "Content").unwrap();
        assert_eq!(verified.digest_of(&open()), None);
    }

    #[test]
    fn a_damaged_note_is_none() {
        let keep = tempfile::tempdir().unwrap();
        fs::create_dir(keep.path().join("notes")).unwrap();
        let verified = VerifiedFiles::new(Root::open(&keep.path().join("notes")).unwrap());
        fs::write(keep.path().join("blob"), "content").unwrap();
        let file = fs::File::open(keep.path().join("blob")).unwrap();
        verified.remember(&file, &Digest::of(b"content"));
        let note = fs::read_dir(keep.path().join("notes")).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&note).unwrap();
        for cut in 0..whole.len() {
            fs::write(&note, &whole[..cut]).unwrap();
            assert_eq!(verified.digest_of(&file), None, "cut at {cut}");
        }
    }
}
