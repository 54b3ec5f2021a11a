//! Which files were verified, remembered by what the file system says of them.
//!
//! Hashing a base of hundreds of megabytes in every build would cost more than the build. A blob that was once found whole,
//! or written here, is the same as long as its file has the same identity, size and modification time; whoever changes
//! it by accident changes the last. (Its change time says less: another name for the file changes that, too.) Bytes that
//! leave the machine are hashed on the way in any case.

use crate::digest::Digest;
use crate::error::Result;
use crate::root::Root;
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
    /// Remembers in the cache directory `root`, where everything that is kept there finds it.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn in_cache_directory(root: &Root) -> Result<Self> {
        root.create_directory("verified")?.create_directory("v2").map(VerifiedFiles::new)
    }

    /// What is remembered in the cache directory `root`, if anything is.
    pub fn existing(root: &Root) -> Option<Self> {
        root.directory("verified").and_then(|verified| verified.directory("v2")).ok().map(VerifiedFiles::new)
    }

    /// Remembers in the directory `root`.
    pub fn new(root: Root) -> Self {
        VerifiedFiles { root }
    }

    /// The digest that `file` was found to have, if it is still that file.
    pub fn recall(&self, file: &File) -> Option<Digest> {
        let (name, stamp) = described(file)?;
        let note = self.root.open_file(&name).ok()?;
        let note = crate::bounded::read(note, 1024, &name).ok()?;
        let note = String::from_utf8(note).ok()?;
        let (digest, rest) = note.split_once(' ')?;
        if rest == stamp { digest.parse().ok() } else { None }
    }

    /// Notes that `file`, which is durable, has `digest`. That this may fail is no harm.
    pub fn remember(&self, file: &File, digest: &Digest) {
        if let Some((name, stamp)) = described(file) {
            self.note(&name, &format!("{digest} {stamp}")).ok();
        }
    }

    /// Believes nothing of `file` any more, whatever was noted.
    pub fn forget(&self, file: &File) {
        if let Some((name, _)) = described(file) {
            self.root.dir().remove_file(name).ok();
        }
    }

    fn note(&self, name: &str, note: &str) -> Result<()> {
        let mut temporary = self.root.temporary()?;
        temporary
            .write_all(note.as_bytes())
            .map_err(|error| crate::Error::io(self.root.display(name), "write", error))?;
        // Torn by a crash, the note does not parse or does not fit.
        temporary.rename_unsynced(name)
    }
}

/// The name of the note about `file`, and what must not have changed since.
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
    fn a_file_is_recalled_until_it_changes() {
        let keep = tempfile::tempdir().unwrap();
        fs::create_dir(keep.path().join("notes")).unwrap();
        let verified = VerifiedFiles::new(Root::open(&keep.path().join("notes")).unwrap());
        let path = keep.path().join("blob");
        fs::write(&path, "content").unwrap();
        let open = || fs::File::open(&path).unwrap();
        assert_eq!(verified.recall(&open()), None);
        let digest = Digest::of(b"content");
        verified.remember(&open(), &digest);
        assert_eq!(verified.recall(&open()), Some(digest));
        fs::hard_link(&path, keep.path().join("other name")).unwrap();
        assert_eq!(verified.recall(&open()), Some(digest));
        verified.forget(&open());
        assert_eq!(verified.recall(&open()), None);
        verified.remember(&open(), &digest);
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "Content").unwrap();
        assert_eq!(verified.recall(&open()), None);
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
            assert_eq!(verified.recall(&file), None, "cut at {cut}");
        }
    }
}
