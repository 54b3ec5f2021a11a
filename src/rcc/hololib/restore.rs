//! The content of restored files: library objects with the name of the space written into them.

use super::Hololib;
use crate::error::{Error, Result};
use crate::progress::{self, Progress};
use crate::rcc::{Catalog, FileEntry, NamedObject};
use memchr::memmem::Finder;
use std::io::{self, Cursor, Read};

/// How much of a large file is looked at once.
const WINDOW: usize = 128 << 10;

/// Gives the files of an environment as RCC would restore them into one space. Used from many threads at once.
pub struct Restorer<'a> {
    hololib: &'a Hololib,
    catalog: &'a Catalog,
    space: String,
    identity: Finder<'a>,
    watcher: &'a (dyn Progress + 'a),
}

impl std::fmt::Debug for Restorer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restorer").field("catalog", self.catalog.name()).field("space", &self.space).finish()
    }
}

impl<'a> Restorer<'a> {
    /// Prepares to restore `catalog` into the space that is called `space`.
    ///
    /// # Errors
    /// When the name has not the length of the one that stands in the files.
    pub fn new(
        hololib: &'a Hololib,
        catalog: &'a Catalog,
        space: &str,
        watcher: &'a dyn Progress,
    ) -> Result<Restorer<'a>> {
        catalog.space_path(space)?;
        let identity = Finder::new(catalog.identity().as_bytes());
        Ok(Restorer { hololib, catalog, space: space.to_owned(), identity, watcher })
    }

    /// Reads the file that the catalog has at `path`: exactly its size in bytes, and an end without error only if its object
    /// was whole and every rewrite met the identity.
    ///
    /// A build path that stands in the file and is not listed (RCC misses some) is warned about.
    ///
    /// # Errors
    /// When the object is missing or found damaged at once. Damage to a large one is an error of the reader.
    pub fn open<'r>(&'r self, path: &'r str, file: &'r FileEntry) -> Result<Box<dyn Read + Send + 'r>> {
        let stored = self.hololib.object(&NamedObject { digest: file.digest, size: file.size })?;
        let mut rewriting = Rewriting { restorer: self, path, file, is_warned: false };
        match stored.small_content()? {
            Some(mut content) => {
                rewriting.apply(&mut content, 0)?;
                Ok(Box::new(Cursor::new(content)))
            }
            None => Ok(Box::new(RewritingReader {
                source: stored.stream()?,
                rewriting,
                window: Vec::new(),
                start: 0,
                ready: 0..0,
                is_at_end: false,
            })),
        }
    }
}

/// Rewrites one file.
struct Rewriting<'r> {
    restorer: &'r Restorer<'r>,
    path: &'r str,
    file: &'r FileEntry,
    is_warned: bool,
}

impl Rewriting<'_> {
    /// Rewrites in `window`, which begins at `start` in the file, what lies completely in it.
    fn apply(&mut self, window: &mut [u8], start: u64) -> Result<()> {
        let Rewriting { restorer, path, file, .. } = self;
        let (identity, space) = (restorer.catalog.identity().as_bytes(), restorer.space.as_bytes());
        let object = || format!("catalog {}: `{path}`", restorer.catalog.name());
        if !self.is_warned {
            let mut found = restorer.identity.find_iter(window).map(|at| start + at as u64);
            if found.any(|offset| file.rewrites.binary_search(&offset).is_err()) {
                self.is_warned = true;
                progress::warn(restorer.watcher, &object(), "an unrewritten build path stays in it");
            }
        }
        let first = file.rewrites.partition_point(|offset| *offset < start);
        for offset in &file.rewrites[first..] {
            // A window is at most a small file, so the difference fits once it is known to lie inside.
            let at = usize::try_from(offset - start).unwrap_or(usize::MAX);
            let Some(place) = at.checked_add(identity.len()).and_then(|end| window.get_mut(at..end)) else { break };
            if place != identity {
                return Err(Error::corrupt(
                    object(),
                    format!("rewrite mismatch: no `{}` at offset {offset}", restorer.catalog.identity()),
                ));
            }
            place.copy_from_slice(space);
        }
        Ok(())
    }
}

/// Rewrites a large file as it is read. The end of each window waits for the next, so that nothing is cut in two.
struct RewritingReader<'r> {
    source: Box<dyn Read + Send>,
    rewriting: Rewriting<'r>,
    window: Vec<u8>,
    /// Where the window begins in the file.
    start: u64,
    /// What of the window can be given out.
    ready: std::ops::Range<usize>,
    is_at_end: bool,
}

impl RewritingReader<'_> {
    fn fill(&mut self) -> io::Result<()> {
        self.window.drain(..self.ready.end);
        self.start += self.ready.end as u64;
        let kept = self.window.len();
        self.window.resize(kept + WINDOW, 0);
        let mut filled = kept;
        while filled < self.window.len() && !self.is_at_end {
            match self.source.read(&mut self.window[filled..]) {
                Ok(0) => self.is_at_end = true,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(filled);
        self.rewriting.apply(&mut self.window, self.start)?;
        let waiting = if self.is_at_end { 0 } else { self.rewriting.restorer.catalog.identity().len() - 1 };
        self.ready = 0..filled.saturating_sub(waiting);
        Ok(())
    }
}

impl Read for RewritingReader<'_> {
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
