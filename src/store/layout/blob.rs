//! The writer of a blob.

use crate::common::bounded_read::for_each_piece;
use crate::common::digest::{Algorithm, Digest, HashState, Hasher};
use crate::common::error::{Error, Result};
use crate::common::file_section::copy_range;
use crate::common::root::{Root, Temporary, WriteCheck, sync_content};
use crate::spec::{Descriptor, media_type};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::OpenBlob;
use super::flush::{AT_ONCE, Flush};

/// Writes and hashes a blob.
///
/// The blob exists under its digest only after [`finish_blob`](super::Layout::finish_blob). A writer that is dropped before
/// leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    directory: Root,
    // Dropped before the file, so that it is closed when its name is removed.
    flush: Flush,
    temporary: Temporary,
    hasher: Hasher,
    size: u64,
    /// Whether the skipped range at the start is still missing.
    is_open: Arc<AtomicBool>,
    check: WriteCheck,
}

/// The skipped start of an unfinished blob, which is filled from another blob.
#[derive(Debug)]
pub struct Gap {
    file: File,
    size: u64,
    is_open: Arc<AtomicBool>,
}

impl Gap {
    /// Fills the gap with as many bytes from the start of `blob`, and makes them durable. The system copies the bytes itself if
    /// it can.
    ///
    /// # Errors
    /// Fails if `blob` is too short or cannot be read, or the file cannot be written.
    pub fn fill(self, blob: &OpenBlob) -> Result<()> {
        let not_written = |error| Error::io("blob", "write", error);
        let (mut flush, mut filled) = (Flush::default(), 0);
        while filled < self.size {
            let end = self.size.min(filled + AT_ONCE);
            copy_range(blob.file(), &self.file, filled..end)
                .map_err(|error| Error::io(blob.object(), "copy", error))?;
            flush.advance(end - filled, || self.file.try_clone()).map_err(not_written)?;
            filled = end;
        }
        flush.wait().and_then(|()| sync_content(&self.file)).map_err(not_written)?;
        self.is_open.store(false, Ordering::Release);
        Ok(())
    }
}

impl BlobWriter {
    pub(super) fn start(directory: Root, algorithm: Algorithm, check: WriteCheck) -> Result<Self> {
        let temporary = directory.temporary()?;
        let (flush, hasher) = (Flush::default(), Hasher::new(algorithm));
        Ok(BlobWriter { directory, flush, temporary, hasher, size: 0, is_open: Arc::default(), check })
    }

    /// Skips the first `size` bytes, whose hash state is `hasher`.
    ///
    /// Nothing may have been written before. The blob cannot be finished before the gap is filled.
    ///
    /// # Errors
    /// Fails if the file is no longer open.
    pub fn begin_behind(&mut self, size: u64, hasher: Hasher) -> Result<Gap> {
        let file = self.temporary.share().map_err(|error| self.not_written(error))?;
        self.is_open.store(true, Ordering::Release);
        (self.size, self.hasher) = (size, hasher);
        Ok(Gap { file, size, is_open: self.is_open.clone() })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// Fails if these bytes, or some before them, cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let BlobWriter { flush, temporary, .. } = self;
        temporary
            .write_all_at(bytes, self.size)
            .and_then(|()| flush.advance(bytes.len() as u64, || temporary.share()))
            .map_err(|error| self.not_written(error))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Starts to sync a blob whose last bytes were written. It is finished later, with others.
    ///
    /// # Errors
    /// Fails if some of the bytes cannot be written.
    pub fn start_sync(&mut self) -> Result<()> {
        let BlobWriter { flush, temporary, .. } = self;
        flush.start_last(|| temporary.share()).map_err(|error| self.not_written(error))
    }

    /// Returns the hash state after everything so far.
    pub fn state(&self) -> Option<HashState> {
        self.hasher.state()
    }

    /// Appends everything from `content`, and stops at the first byte beyond `size`.
    pub(super) fn write_all_of(&mut self, content: &mut dyn Read, size: u64) -> Result<()> {
        for_each_piece(content, "blob", |piece| {
            if self.size + piece.len() as u64 > size {
                return Err(Error::corrupt("blob", format!("longer than its {size} bytes")));
            }
            self.write(piece)
        })
    }

    /// Returns the descriptor of the blob so far, with a generic media type.
    pub(super) fn describe(&self) -> Descriptor {
        Descriptor::new("application/octet-stream", self.hasher.clone().finish(), self.size)
    }

    /// Names the blob by the digest of its content, and returns its file.
    pub(super) fn finish(self) -> Result<File> {
        if self.is_open.load(Ordering::Acquire) {
            return Err(Error::invalid("blob", "its start was skipped and never written"));
        }
        let digest = self.hasher.clone().finish();
        self.temporary.make_read_only()?;
        self.persist(&digest)
    }

    /// Finishes a blob whose descriptor was known in advance, if it matches.
    pub(super) fn finish_as(self, descriptor: &Descriptor) -> Result<File> {
        let object = format!("blob {}", descriptor.digest);
        let corrupt = |reason: String| Error::corrupt(&object, reason).about_blob(&descriptor.digest);
        if self.size != descriptor.size {
            let reason = format!("expected {} bytes, found {}", descriptor.size, self.size);
            return Err(corrupt(reason));
        }
        let digest = self.hasher.clone().finish();
        if digest != descriptor.digest {
            return Err(corrupt(format!("its content has the digest {digest}")));
        }
        // Manifests stay writable, since skopeo overwrites them in place.
        if !media_type::is_manifest(&descriptor.media_type) && !media_type::is_index(&descriptor.media_type) {
            self.temporary.make_read_only()?;
        }
        self.persist(&digest)
    }

    fn persist(mut self, digest: &Digest) -> Result<File> {
        // The system reports a failed write only once, so the last sync would not report what this one does.
        self.flush.wait().map_err(|error| self.not_written(error))?;
        if self.check == WriteCheck::ReadBack {
            let object = format!("{}: blob {digest}", self.directory.path().display());
            self.temporary.check_on_disk(digest, &object).map_err(|error| error.about_blob(digest))?;
        }
        self.temporary.persist(digest.hex())
    }

    fn not_written(&self, error: io::Error) -> Error {
        Error::file(self.directory.path(), "write a blob", error)
    }
}
