//! Default attributes of directories that no layer below has.

use crate::common::time::Timestamp;
use crate::layers::tree::Attributes;
use crate::spec::ImagePath;
use std::collections::BTreeMap;

/// Directories whose mode is not 0755.
const SPECIAL: [(&[u8], u16); 3] = [(b"root", 0o700), (b"tmp", 0o1777), (b"var/tmp", 0o1777)];

/// Returns the default attributes of directories that differ from others.
pub(crate) fn default_directories(mtime: Timestamp) -> BTreeMap<ImagePath, Attributes> {
    let attributes = |mode| Attributes { mode, uid: 0, gid: 0, mtime: mtime.seconds(), xattrs: None };
    let special = SPECIAL.iter().filter_map(|(path, mode)| Some((ImagePath::new(path).ok()?, attributes(*mode))));
    special.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tree::{Entry, Rules, Tree, TreeBuilder};

    fn tree(path: &[u8]) -> Tree {
        let rules = Rules::default();
        let mut builder = TreeBuilder::new(&rules).with_known_directories(default_directories(rules.mtime));
        builder.add(Entry::test_file(path, b"")).unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn a_file_in_tmp_leaves_tmp_open_to_all() {
        let modes: Vec<u16> = tree(b"var/tmp/x").entries().map(|entry| entry.attributes.mode).collect();
        assert_eq!(modes, [0o755, 0o1777, 0o644]);
    }
}
