//! Blobs on their way to a client.
//!
//! All bytes of a blob are hashed on their way, and its last piece is held back until its digest is known to be right: a client
//! never gets the end of a damaged blob. A range of a blob proves nothing, so it is served only of a file that has been hashed
//! and has not changed since.

use crate::common::bounded_read::read_full;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::spec::Descriptor;
use crate::store::{Verified, VerifiedFiles};
use cap_fs_ext::MetadataExt as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The size of the pieces in which a blob is sent, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// The largest blob that is hashed before the response begins, so that damage is an error and not a broken connection.
const SMALL: u64 = 1 << 20;

/// The largest number of files whose state is remembered.
const MOST_REMEMBERED: usize = 100_000;

/// The identity and state of a file. An accidental change gives it another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlobFileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl BlobFileState {
    fn of(file: &File) -> Result<BlobFileState> {
        let metadata = cap_std::fs::Metadata::from_file(file).map_err(|error| Error::io("blob", "read", error))?;
        let modified = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
        Ok(BlobFileState { device: metadata.dev(), inode: metadata.ino(), size: metadata.len(), modified })
    }
}

/// Whether the content of a file has the digest of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlobVerdict {
    Intact,
    Damaged,
}

/// The files that were hashed.
#[derive(Debug, Default)]
pub(super) struct HashedFiles {
    verdicts: Mutex<BTreeMap<Digest, (BlobFileState, BlobVerdict)>>,
    /// The records of earlier processes.
    records: Option<VerifiedFiles>,
    /// Held while a file is hashed for a range: requests for other parts of it wait for the result.
    hashing: Mutex<()>,
}

/// A blob, or a range of one, that can be sent.
#[derive(Debug)]
pub(super) struct ServedBlob {
    file: File,
    digest: Digest,
    state: BlobFileState,
    /// The bytes that are asked for.
    pub(super) range: Range<u64>,
}

impl HashedFiles {
    pub(super) fn new(records: Option<VerifiedFiles>) -> Self {
        HashedFiles { records, ..HashedFiles::default() }
    }

    /// Prepares the blob in `file`.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is known to be damaged.
    pub(super) fn admit(&self, file: File, digest: Digest) -> Result<ServedBlob> {
        let state = BlobFileState::of(&file)?;
        let mut blob = ServedBlob { file, digest, state, range: 0..state.size };
        match self.known(&blob) {
            Some(known) => known.map(|()| blob),
            None if state.size <= SMALL => self.hash(&mut blob).map(|()| blob),
            None => Ok(blob),
        }
    }

    /// Makes sure that the whole file of `blob` is intact, before a range of it is sent.
    ///
    /// # Errors
    /// Fails if it cannot be read or is damaged.
    pub(super) fn prove(&self, blob: &mut ServedBlob) -> Result<()> {
        // What is known does not wait for another file that is being hashed.
        if let Some(known) = self.known(blob) {
            return known;
        }
        let _alone = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        self.known(blob).unwrap_or_else(|| self.hash(blob))
    }

    /// Returns whether the file is intact, if that is known.
    fn known(&self, blob: &ServedBlob) -> Option<Result<()>> {
        Some(match self.verdict(blob)? {
            BlobVerdict::Intact => Ok(()),
            BlobVerdict::Damaged => Err(damaged(&blob.digest)),
        })
    }

    /// Passes the bytes of `blob` to `send`, at most [`PIECE`] at a time.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is damaged or has changed, before the last piece is sent; or as `send` does.
    pub(super) fn send(&self, blob: ServedBlob, send: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if blob.range == (0..blob.state.size) {
            let descriptor = blob.descriptor();
            let result = send_all(Verified::new(&blob.file, &descriptor), send);
            self.note_result(&blob, &result);
            return result;
        }
        (&blob.file).seek(SeekFrom::Start(blob.range.start))?;
        let length = blob.range.end - blob.range.start;
        let unchanged =
            || if BlobFileState::of(&blob.file)? == blob.state { Ok(()) } else { Err(changed(&blob.digest)) };
        let mut last_check = Unchanged { source: (&blob.file).take(length), left: length, check: unchanged };
        send_all(&mut last_check, send)
    }

    fn hash(&self, blob: &mut ServedBlob) -> Result<()> {
        let read = send_all(Verified::new(&blob.file, &blob.descriptor()), &mut |_| Ok(()));
        self.note_result(blob, &read);
        read.map_err(|error| Error::io(format!("blob {}", blob.digest), "read", error))?;
        let rewound = blob.file.rewind();
        rewound.map_err(|error| Error::io(format!("blob {}", blob.digest), "read", error))
    }

    fn verdict(&self, blob: &ServedBlob) -> Option<BlobVerdict> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        match verdicts.get(&blob.digest) {
            Some((state, verdict)) if *state == blob.state => Some(*verdict),
            _ => {
                let recorded = self.records.as_ref().and_then(|records| records.digest_of(&blob.file));
                (recorded == Some(blob.digest)).then_some(BlobVerdict::Intact)
            }
        }
    }

    /// Remembers what was found out about a file, if anything was.
    fn note_result(&self, blob: &ServedBlob, result: &io::Result<()>) {
        let verdict = match result {
            Ok(()) => BlobVerdict::Intact,
            Err(error) if is_damage(error) => BlobVerdict::Damaged,
            Err(_) => return,
        };
        // What was read may have been written to at the same time.
        if BlobFileState::of(&blob.file).is_ok_and(|state| state == blob.state) {
            let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            if verdicts.len() >= MOST_REMEMBERED {
                verdicts.clear();
            }
            verdicts.insert(blob.digest, (blob.state, verdict));
        }
    }
}

impl ServedBlob {
    /// Returns the size of the whole blob, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.state.size
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::new("", self.digest, self.state.size)
    }
}

/// Passes everything in `source` to `send`. The last piece is sent only if reading reached the end without an error.
fn send_all(mut source: impl Read, send: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut piece, mut next) = (vec![0; PIECE], vec![0; PIECE]);
    let mut filled = read_full(&mut source, &mut piece)?;
    while filled > 0 {
        let read = read_full(&mut source, &mut next)?;
        send(&piece[..filled])?;
        std::mem::swap(&mut piece, &mut next);
        filled = read;
    }
    Ok(())
}

/// A reader of a known number of bytes that fails at its end if `check` does.
struct Unchanged<R, C> {
    source: R,
    left: u64,
    check: C,
}

impl<R: Read, C: Fn() -> Result<()>> Read for Unchanged<R, C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.left -= read as u64;
        if read == 0 {
            (self.check)()?;
            if self.left > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(read)
    }
}

/// Returns whether reading failed because the bytes are others than the digest says.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    ours.is_some_and(|error| error.kind() == ErrorKind::Corrupt)
}

fn damaged(digest: &Digest) -> Error {
    Error::corrupt(format!("blob {digest}"), "is damaged").about_blob(digest)
}

fn changed(digest: &Digest) -> Error {
    Error::new(ErrorKind::Changed, format!("blob {digest}"), "changed while it was sent").about_blob(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        scratch: tempfile::TempDir,
        content: Vec<u8>,
    }

    impl Case {
        fn new(size: usize) -> Case {
            let content = (0..size).map(|at| (at / 7) as u8).collect();
            let case = Case { scratch: tempfile::tempdir().unwrap(), content };
            std::fs::write(case.scratch.path().join("blob"), &case.content).unwrap();
            case
        }

        fn open(&self) -> File {
            File::options().read(true).write(true).open(self.scratch.path().join("blob")).unwrap()
        }

        fn digest(&self) -> Digest {
            Digest::of(&self.content)
        }

        /// Changes the last byte, and not the time.
        fn damage(&self) {
            let file = self.open();
            let modified = file.metadata().unwrap().modified().unwrap();
            let mut damaged = self.content.clone();
            *damaged.last_mut().unwrap() ^= 1;
            std::fs::write(self.scratch.path().join("blob"), damaged).unwrap();
            file.set_modified(modified).unwrap();
        }
    }

    fn sent(files: &HashedFiles, blob: ServedBlob) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let result = files.send(blob, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        (bytes, result.is_ok())
    }

    #[test]
    fn the_end_of_a_damaged_blob_is_never_sent() {
        let case = Case::new(3 << 20);
        case.damage();
        let files = HashedFiles::default();
        let (bytes, is_whole) = sent(&files, files.admit(case.open(), case.digest()).unwrap());
        assert!(!is_whole && bytes.len() < case.content.len(), "{}", bytes.len());
        assert!(files.admit(case.open(), case.digest()).is_err(), "known to be damaged");
        let mut blob = HashedFiles::default().admit(case.open(), case.digest()).unwrap();
        blob.range = 0..10;
        assert!(HashedFiles::default().prove(&mut blob).is_err());
    }

    #[test]
    fn a_small_damaged_blob_is_refused_at_once() {
        let case = Case::new(100);
        case.damage();
        assert!(HashedFiles::default().admit(case.open(), case.digest()).is_err());
    }

    #[test]
    fn whole_blobs_and_ranges_are_sent() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 << 20] {
            let case = Case::new(size);
            let files = HashedFiles::default();
            let blob = files.admit(case.open(), case.digest()).unwrap();
            assert_eq!(sent(&files, blob), (case.content.clone(), true), "{size}");
            if size > 10 {
                let mut blob = files.admit(case.open(), case.digest()).unwrap();
                blob.range = 1..size as u64 - 1;
                files.prove(&mut blob).unwrap();
                assert_eq!(sent(&files, blob), (case.content[1..size - 1].to_vec(), true), "{size}");
            }
        }
    }

    #[test]
    fn a_range_of_a_known_file_does_not_wait_for_another_file() {
        let case = Case::new(3 << 20);
        let files = HashedFiles::default();
        files.prove(&mut files.admit(case.open(), case.digest()).unwrap()).unwrap();
        let _busy = files.hashing.try_lock().unwrap();
        files.prove(&mut files.admit(case.open(), case.digest()).unwrap()).unwrap();
    }

    #[test]
    fn a_file_that_changes_while_a_range_is_sent_is_cut() {
        let case = Case::new(3 << 20);
        let files = HashedFiles::default();
        let mut blob = files.admit(case.open(), case.digest()).unwrap();
        files.prove(&mut blob).unwrap();
        blob.range = 5..2 << 20;
        case.open().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let (bytes, is_whole) = sent(&files, blob);
        assert!(!is_whole && bytes.len() < 2 << 20);
        case.open().set_len(100).unwrap();
        let mut blob = HashedFiles::default().admit(case.open(), Digest::of(&case.content[..100])).unwrap();
        blob.range = 5..50;
        case.open().set_len(20).unwrap();
        assert!(!sent(&files, blob).1);
    }
}
