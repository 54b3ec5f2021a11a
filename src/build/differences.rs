//! Differences between a layer and the layer that the previous build made.

use crate::layers::incremental::{Fingerprint, PreviousEntry};
use crate::layers::tree::Tree;
use std::cmp::Ordering;

/// The differences between a layer and the previous one, entry by entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// The number of entries in the layer.
    pub entries: usize,
    /// Added entries.
    pub added: Option<DifferenceGroup>,
    /// Removed entries.
    pub removed: Option<DifferenceGroup>,
    /// Entries with different content.
    pub changed: Option<DifferenceGroup>,
    /// Entries with the same content, but a different owner, mode, time or kind.
    pub attributes: Option<DifferenceGroup>,
}

/// Entries of one kind of difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferenceGroup {
    /// The number of entries.
    pub count: usize,
    /// The deepest directory that contains all of them; empty for the root.
    pub under: Vec<u8>,
    /// The path of the first entry.
    pub first: Vec<u8>,
}

impl Differences {
    /// Compares a previous tree with `tree`, whose entries have the `fingerprints`, and whose contents have the checksums
    /// `contents`.
    pub(super) fn between(
        earlier: &[PreviousEntry],
        tree: &Tree,
        fingerprints: &[Fingerprint],
        contents: &[u32],
    ) -> Differences {
        let mut differences = Differences { entries: tree.len(), ..Differences::default() };
        let mut before = earlier.iter().peekable();
        let mut now = tree.entries().zip(fingerprints).zip(contents).peekable();
        loop {
            let order = match (before.peek(), now.peek()) {
                (None, None) => return differences,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(((now, _), _))) => (*before.path).cmp(now.path.as_bytes()),
            };
            // Paths are sorted, so the smaller path is missing from the other side.
            let before = before.next_if(|_| order.is_le());
            let now = now.next_if(|_| order.is_ge());
            match (before, now) {
                (Some(before), None) => DifferenceGroup::extend(&mut differences.removed, &before.path),
                (None, Some(((entry, _), _))) => DifferenceGroup::extend(&mut differences.added, entry.path.as_bytes()),
                (Some(before), Some(((entry, fingerprint), content))) => {
                    let group = if (before.size, before.content) != (entry.size(), *content) {
                        &mut differences.changed
                    } else if before.fingerprint.shape != fingerprint.shape {
                        &mut differences.attributes
                    } else {
                        continue;
                    };
                    DifferenceGroup::extend(group, entry.path.as_bytes());
                }
                (None, None) => return differences,
            }
        }
    }
}

impl DifferenceGroup {
    /// Adds `path`. Paths must be added in order.
    fn extend(group: &mut Option<DifferenceGroup>, path: &[u8]) {
        match group {
            None => {
                *group =
                    Some(DifferenceGroup { count: 1, under: parent(path, path.len()).to_vec(), first: path.to_vec() })
            }
            Some(group) => {
                group.count += 1;
                let shared = group.under.iter().zip(path).take_while(|(a, b)| a == b).count();
                let is_inside = shared == group.under.len() && path.get(shared).is_none_or(|&byte| byte == b'/');
                if !is_inside {
                    group.under = parent(path, shared).to_vec();
                }
            }
        }
    }
}

/// Returns the deepest directory that `path` names within its first `length` bytes.
fn parent(path: &[u8], length: usize) -> &[u8] {
    let start = &path[..length.min(path.len())];
    start.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |slash| &start[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tree::{Entry, Rules, TreeBuilder};

    fn group(paths: &[&str]) -> (usize, String, String) {
        let mut group = None;
        for path in paths {
            DifferenceGroup::extend(&mut group, path.as_bytes());
        }
        let DifferenceGroup { count, under, first } = group.unwrap();
        (count, String::from_utf8(under).unwrap(), String::from_utf8(first).unwrap())
    }

    #[test]
    fn a_group_names_its_directory_and_its_first() {
        assert_eq!(group(&["a"]), (1, String::new(), "a".to_owned()));
        assert_eq!(group(&["a/b/c"]), (1, "a/b".to_owned(), "a/b/c".to_owned()));
        assert_eq!(group(&["a/b/c", "a/b/d", "a/b/e/f"]), (3, "a/b".to_owned(), "a/b/c".to_owned()));
        assert_eq!(group(&["a/b/c", "a/bc/d"]).1, "a");
        assert_eq!(group(&["a/bc/d", "a/b/d"]).1, "a");
        assert_eq!(group(&["a/b/c", "b"]).1, "");
    }

    #[test]
    fn every_kind_of_difference_is_reported() {
        let shape = |shape| Fingerprint { shape, whole: None };
        let before: Vec<PreviousEntry> = [("changed", 1, 7), ("gone", 2, 8), ("mode", 3, 9), ("same", 4, 10)]
            .map(|(path, number, content)| PreviousEntry {
                path: path.as_bytes().into(),
                fingerprint: shape(number),
                size: 3,
                content,
            })
            .into();
        let mut builder = TreeBuilder::new(&Rules::default());
        for path in ["changed", "mode", "new", "same"] {
            builder.add(Entry::test_file(path, b"abc")).unwrap();
        }
        let tree = builder.finish().unwrap();
        let fingerprints = [1, 33, 5, 4].map(shape);
        let differences = Differences::between(&before, &tree, &fingerprints, &[77, 9, 1, 10]);
        let one = |path: &str| Some(DifferenceGroup { count: 1, under: Vec::new(), first: path.into() });
        assert_eq!(
            differences,
            Differences {
                entries: 4,
                added: one("new"),
                removed: one("gone"),
                changed: one("changed"),
                attributes: one("mode"),
            }
        );
    }
}
