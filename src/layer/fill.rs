//! Making the bytes of one block.

use super::blocks::{Block, entry_length};
use crate::error::Result;
use crate::tar;
use crate::tree::{Entry, Kind, Tree};

/// Replaces the content of `buffer` by the bytes of `block`.
pub(super) fn fill(tree: &Tree, block: &Block, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let length = block.length as usize;
    buffer.reserve(length);
    let mut skip = block.offset;
    for entry in &tree.entries()[block.entry..] {
        let left = (length - buffer.len()) as u64;
        if left == 0 {
            return Ok(());
        }
        append(entry, skip, left.min(entry_length(entry) - skip), buffer)?;
        skip = 0;
    }
    // Only the last block of a layer goes beyond its last entry.
    buffer.resize(length, 0);
    Ok(())
}

/// Appends `length` bytes of an entry, from `skip` on: parts of its header, its content and its padding.
fn append(entry: &Entry, skip: u64, length: u64, buffer: &mut Vec<u8>) -> Result<()> {
    let start = buffer.len();
    let end = skip + length;
    let header = entry.header();
    let header_length = tar::encoded_length(&header);
    if skip < header_length {
        if skip == 0 && end >= header_length {
            tar::append(&header, buffer);
        } else {
            let mut whole = Vec::new();
            tar::append(&header, &mut whole);
            buffer.extend_from_slice(&whole[skip as usize..end.min(header_length) as usize]);
        }
    }
    if let Kind::File { size, content } = &entry.kind {
        let from = skip.max(header_length) - header_length;
        let to = end.saturating_sub(header_length).min(*size);
        // An empty file is looked at, too: it may not be empty any more.
        if from < to || (*size == 0 && skip == 0) {
            let at = buffer.len();
            buffer.resize(at + (to - from) as usize, 0);
            content.read(from, *size, &mut buffer[at..])?;
        }
    }
    buffer.resize(start + length as usize, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::blocks::cut;
    use super::*;
    use crate::tree::{Content, ImagePath, Rules, TreeBuilder};
    use std::sync::Arc;

    fn entry(path: &[u8], content: Vec<u8>) -> Entry {
        let kind = Kind::File { size: content.len() as u64, content: Content::Bytes(content.into()) };
        Entry { path: ImagePath::new(path).unwrap(), kind, attributes: Rules::default().file(0o644) }
    }

    #[test]
    fn blocks_of_any_cut_join_to_the_same_tar() {
        let mut builder = TreeBuilder::new(&Rules::default());
        builder.add(entry(&[b'x'; 200], (0..3_000_000_u32).map(|number| number as u8).collect())).unwrap();
        builder.add(entry(b"z", b"small".to_vec())).unwrap();
        builder.add(entry(b"empty", Vec::new())).unwrap();
        let tree = builder.finish().unwrap();
        let mut joined = Vec::new();
        let mut buffer = Vec::new();
        for block in cut(&tree) {
            fill(&tree, &block, &mut buffer).unwrap();
            assert_eq!(buffer.len() as u64, block.length);
            joined.extend_from_slice(&buffer);
        }
        let whole = Block { entry: 0, offset: 0, length: joined.len() as u64 };
        fill(&tree, &whole, &mut buffer).unwrap();
        assert_eq!(joined, buffer);
        let mut bytewise = Vec::new();
        for offset in 0..2000 {
            fill(&tree, &Block { entry: 1, offset, length: 1 }, &mut buffer).unwrap();
            bytewise.extend_from_slice(&buffer);
        }
        assert_eq!(bytewise, joined[512..2512]);
    }

    #[test]
    fn a_content_of_the_wrong_size_never_reaches_a_block() {
        let mut builder = TreeBuilder::new(&Rules::default());
        let mut lying = entry(b"f", b"content".to_vec());
        lying.kind = Kind::File { size: 3, content: Content::Bytes(Arc::from(&b"content"[..])) };
        builder.add(lying).unwrap();
        let tree = builder.finish().unwrap();
        assert!(fill(&tree, &cut(&tree)[0], &mut Vec::new()).is_err());
    }
}
