//! The content of restored files: library objects with the name of the space written into them.

use super::Hololib;
use super::stored::{GzipUse, ObjectContent};
use crate::codec::compression::GzipMembers;
use crate::common::bounded_read::read_full;
use crate::common::error::{Error, Result};
use crate::rcc::{Catalog, FileEntry};
use memchr::memmem::Finder;
use std::collections::BTreeSet;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// The number of bytes of a large file that are read at a time.
const WINDOW: usize = 128 << 10;

/// Reads the files of an environment as RCC would restore them into one space.
///
/// Cheap to clone, and usable from many threads at once.
#[derive(Clone)]
pub struct Restorer(Arc<Shared>);

struct Shared {
    hololib: Hololib,
    catalog: Arc<Catalog>,
    space: String,
    identity: Finder<'static>,
    unrewritten: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restorer").field("catalog", self.0.catalog.name()).field("space", &self.0.space).finish()
    }
}

impl Restorer {
    /// Prepares to restore `catalog` into the space called `space`.
    ///
    /// # Errors
    /// Returns an error if the name is not as long as the recorded identity in the files.
    pub fn new(hololib: &Hololib, catalog: &Arc<Catalog>, space: &str) -> Result<Restorer> {
        catalog.space_path(space)?;
        let identity = Finder::new(catalog.identity().as_bytes()).into_owned();
        Ok(Restorer(Arc::new(Shared {
            hololib: hololib.clone(),
            catalog: catalog.clone(),
            space: space.to_owned(),
            identity,
            unrewritten: Mutex::default(),
        })))
    }

    /// Opens the file that the catalog has at `path`.
    ///
    /// The reader yields exactly the file's size in bytes, and ends without error only if the object was intact and
    /// every rewrite found the identity.
    ///
    /// # Errors
    /// Returns an error if the object is missing or found damaged on opening. The reader returns an error for damage to
    /// a large object.
    pub fn open(&self, path: &str, file: &FileEntry<'_>) -> Result<Box<dyn Read + Send>> {
        Ok(self.open_for(path, file, GzipUse::Decode)?.0)
    }

    /// Reads the file that the catalog has at `path` into `content`, which must be as long as the file.
    ///
    /// # Errors
    /// Returns an error if the object is missing or damaged, or a rewrite does not find the identity.
    pub fn read(&self, path: &str, file: &FileEntry<'_>, content: &mut [u8]) -> Result<()> {
        self.0.hololib.read(&file.named_object(), content)?;
        self.0.note_unrewritten(path, file.rewrites, content, 0);
        self.0.rewrite(path, file.rewrites, content, 0)
    }

    /// Opens a file as [`Restorer::open`] does, and returns the gzip members that hold it.
    ///
    /// There are no members if the file is rewritten, or if its object is stored in another form.
    ///
    /// # Errors
    /// Fails if [`Restorer::open`] does.
    pub fn open_with_members(
        &self,
        path: &str,
        file: &FileEntry<'_>,
    ) -> Result<(Box<dyn Read + Send>, Option<GzipMembers>)> {
        let gzip_use = if file.rewrites.is_empty() { GzipUse::Keep } else { GzipUse::Decode };
        self.open_for(path, file, gzip_use)
    }

    fn open_for(
        &self,
        path: &str,
        file: &FileEntry<'_>,
        gzip_use: GzipUse,
    ) -> Result<(Box<dyn Read + Send>, Option<GzipMembers>)> {
        let (content, members) = self.0.hololib.object(&file.named_object())?.open(gzip_use)?;
        let (shared, path, rewrites) = (self.0.clone(), path.to_owned(), file.rewrites.into());
        let rewriting = Rewriting { shared, path, rewrites, is_noted: false };
        let reader = match content {
            ObjectContent::Whole(content) => rewriting.of_small(content)?,
            ObjectContent::Stream(stream) => rewriting.of_stream(stream),
        };
        Ok((reader, members))
    }

    /// Returns the files read so far that contain an unlisted build path.
    ///
    /// The catalog does not list such a path, since RCC misses some when recording.
    pub fn unrewritten(&self) -> Vec<String> {
        self.0.unrewritten.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Shared {
    /// Records the file at `path` if `window` holds an identity that is not to be rewritten.
    ///
    /// `window` begins at offset `start` of the file. Returns whether it holds such an identity.
    fn note_unrewritten(&self, path: &str, rewrites: &[u64], window: &[u8], start: u64) -> bool {
        let mut found = self.identity.find_iter(window).map(|at| start + at as u64);
        let is_unlisted = found.any(|offset| rewrites.binary_search(&offset).is_err());
        if is_unlisted {
            self.unrewritten.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        }
        is_unlisted
    }

    /// Applies the rewrites that are completely in `window`.
    ///
    /// `window` begins at `start` in the file at `path`.
    fn rewrite(&self, path: &str, rewrites: &[u64], window: &mut [u8], start: u64) -> Result<()> {
        let (identity, space) = (self.catalog.identity().as_bytes(), self.space.as_bytes());
        let first = rewrites.partition_point(|offset| *offset < start);
        for offset in &rewrites[first..] {
            // A window is at most as large as a small file, so the difference fits if the offset is inside it.
            let at = usize::try_from(offset - start).unwrap_or(usize::MAX);
            let Some(place) = at.checked_add(identity.len()).and_then(|end| window.get_mut(at..end)) else { break };
            if place != identity {
                return Err(Error::corrupt(
                    format!("catalog {}: `{path}`", self.catalog.name()),
                    format!("rewrite mismatch: no `{}` at offset {offset}", self.catalog.identity()),
                ));
            }
            place.copy_from_slice(space);
        }
        Ok(())
    }
}

/// The rewriting of one file.
struct Rewriting {
    shared: Arc<Shared>,
    path: String,
    rewrites: Box<[u64]>,
    is_noted: bool,
}

impl Rewriting {
    fn of_small(mut self, mut content: Vec<u8>) -> Result<Box<dyn Read + Send>> {
        self.apply(&mut content, 0)?;
        Ok(Box::new(Cursor::new(content)))
    }

    fn of_stream(self, source: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        let (window, start, ready) = (Vec::new(), 0, 0..0);
        Box::new(RewritingReader { source, rewriting: self, window, start, ready, is_at_end: false })
    }

    /// Applies the rewrites that are completely in `window`, which begins at `start` in the file.
    fn apply(&mut self, window: &mut [u8], start: u64) -> Result<()> {
        let Rewriting { shared, path, rewrites, is_noted } = self;
        *is_noted = *is_noted || shared.note_unrewritten(path, rewrites, window, start);
        shared.rewrite(path, rewrites, window, start)
    }
}

/// A reader that rewrites a large file.
///
/// The end of each window is held back until the next is read, so that no identity is split between two windows.
struct RewritingReader {
    source: Box<dyn Read + Send>,
    rewriting: Rewriting,
    window: Vec<u8>,
    /// The offset of the window in the file.
    start: u64,
    /// The range of the window that can be returned.
    ready: std::ops::Range<usize>,
    is_at_end: bool,
}

impl RewritingReader {
    fn fill(&mut self) -> io::Result<()> {
        self.window.drain(..self.ready.end);
        self.start += self.ready.end as u64;
        let kept = self.window.len();
        self.window.resize(kept + WINDOW, 0);
        let filled = kept + read_full(&mut self.source, &mut self.window[kept..])?;
        self.is_at_end = filled < self.window.len();
        self.window.truncate(filled);
        self.rewriting.apply(&mut self.window, self.start)?;
        let waiting = if self.is_at_end { 0 } else { self.rewriting.shared.catalog.identity().len() - 1 };
        self.ready = 0..filled.saturating_sub(waiting);
        Ok(())
    }
}

impl Read for RewritingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.is_at_end {
            self.fill()?;
        }
        let length = buffer.len().min(self.ready.len());
        let from = self.ready.start;
        buffer[..length].copy_from_slice(&self.window[from..from + length]);
        self.ready.start += length;
        Ok(length)
    }
}
