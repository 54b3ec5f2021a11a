//! The sizes and contents of a tree's files, 16 bytes for each.
//!
//! Nearly every content is a number in a directory or in a store of another program. A reference to it in each file would take
//! twice as much memory.

use super::{Content, SourceDirectory, SourceFile, StoredFile, StoredFiles};
use std::sync::Arc;

/// The number of origins that are compared with that of the next file. A store has files in up to four forms, and the files of
/// a directory come one after the other.
const RECENT: usize = 4;

/// The files of a tree, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct FileContents {
    files: Vec<FileContent>,
    origins: Vec<ContentOrigin>,
}

#[derive(Debug, Clone, Copy)]
struct FileContent {
    size: u64,
    /// The index of its origin.
    origin: u32,
    /// Its number there.
    number: u32,
}

/// Where contents are.
#[derive(Debug, Clone)]
enum ContentOrigin {
    Directory(Arc<SourceDirectory>),
    Store(Arc<dyn StoredFiles>),
    /// The content of one file.
    Own(Content),
}

impl FileContents {
    /// Adds a file of `size` bytes, and returns its number.
    pub(super) fn push(&mut self, size: u64, content: Content) -> u32 {
        let file = self.file(size, content);
        self.files.push(file);
        self.count() - 1
    }

    /// Replaces a file.
    pub(super) fn set(&mut self, file: u32, size: u64, content: Content) {
        self.files[file as usize] = self.file(size, content);
    }

    pub(super) fn size(&self, file: u32) -> u64 {
        self.files[file as usize].size
    }

    pub(super) fn content(&self, file: u32) -> Content {
        let FileContent { origin, number, .. } = self.files[file as usize];
        match &self.origins[origin as usize] {
            ContentOrigin::Directory(directory) => Content::File(SourceFile::of(directory, number)),
            ContentOrigin::Store(files) => Content::Stored(StoredFile { files: files.clone(), number }),
            ContentOrigin::Own(content) => content.clone(),
        }
    }

    /// Returns the contents of all files.
    pub(super) fn contents(&self) -> impl Iterator<Item = Content> {
        (0..self.count()).map(|file| self.content(file))
    }

    /// Returns the size of all files together, in bytes.
    pub(super) fn total_size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.files.shrink_to_fit();
        self.origins.shrink_to_fit();
    }

    /// The builder limits the number of files, so it fits.
    fn count(&self) -> u32 {
        self.files.len() as u32
    }

    fn file(&mut self, size: u64, content: Content) -> FileContent {
        let (origin, number) = match content {
            Content::File(file) => {
                let (directory, number) = file.into_parts();
                (ContentOrigin::Directory(directory), number)
            }
            Content::Stored(StoredFile { files, number }) => (ContentOrigin::Store(files), number),
            content @ (Content::Bytes(_) | Content::Spooled { .. }) => (ContentOrigin::Own(content), 0),
        };
        let recent = self.origins.len().saturating_sub(RECENT)..self.origins.len();
        let known = recent.rev().find(|&known| self.origins[known].is(&origin));
        let origin = known.unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        // There are no more origins than files.
        FileContent { size, origin: origin as u32, number }
    }
}

impl ContentOrigin {
    /// Returns whether both are the same directory or store.
    fn is(&self, other: &ContentOrigin) -> bool {
        match (self, other) {
            (ContentOrigin::Directory(one), ContentOrigin::Directory(other)) => Arc::ptr_eq(one, other),
            (ContentOrigin::Store(one), ContentOrigin::Store(other)) => Arc::ptr_eq(one, other),
            (ContentOrigin::Own(_), _) | (_, ContentOrigin::Own(_)) => false,
            (ContentOrigin::Directory(_), ContentOrigin::Store(_))
            | (ContentOrigin::Store(_), ContentOrigin::Directory(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::error::Result;
    use std::io::Read;

    #[derive(Debug)]
    struct Numbered(u8);

    impl StoredFiles for Numbered {
        fn open(&self, number: u32) -> Result<Box<dyn Read + Send>> {
            Ok(Box::new(std::io::Cursor::new([self.0, number as u8])))
        }
    }

    #[test]
    fn each_file_keeps_its_own_content() {
        let stores: Vec<Arc<dyn StoredFiles>> = (0..6).map(|number| Arc::new(Numbered(number)) as _).collect();
        let mut files = FileContents::default();
        for number in 0..60_u8 {
            let files_of_store = stores[usize::from(number) % 6].clone();
            let content = match number % 7 {
                6 => Content::Bytes([number % 6, number].into()),
                _ => Content::Stored(StoredFile { files: files_of_store, number: number.into() }),
            };
            assert_eq!(files.push(number.into(), content), u32::from(number));
        }
        files.set(5, 2, Content::Bytes([5, 5].into()));
        for (number, content) in (0..).zip(files.contents()) {
            let mut found = Vec::new();
            content.append(0, 2, 2, &mut found).unwrap();
            assert_eq!(found, [(number % 6) as u8, number as u8]);
            assert_eq!(files.size(number), if number == 5 { 2 } else { number.into() });
        }
        assert_eq!(files.total_size(), (0..60).sum::<u64>() - 3);
        assert_eq!(size_of::<FileContent>(), 16);
    }
}
