//! Directories that are asked for by name, with a mode and an owner.

use super::placement::{kept_attributes, unknown};
use super::{NewDirectory, Source, SourceContent};
use crate::common::error::{Error, Result};
use crate::layers::rootfs::{Resolved, Rootfs};
use crate::layers::tree::{Access, Attributes, Entry, Kind, Owner, Rules, TreeBuilder};
use crate::spec::ImagePath;
use std::collections::BTreeMap;

/// Adds the directories among `sources` that are asked for with attributes, and returns the other sources. Of two entries for a
/// directory the first one counts, so these attributes hold whatever the other sources say. Directories without attributes come last.
///
/// # Errors
/// Fails if a directory is asked for with different attributes, or its own ones depend on a layer whose content is unknown.
pub(super) fn add_those_with_attributes(
    sources: Vec<Source>,
    builder: &mut TreeBuilder,
    rootfs: &Rootfs<'_>,
) -> Result<Vec<Source>> {
    let (mut others, mut plain) = (Vec::new(), Vec::new());
    let mut made: BTreeMap<ImagePath, NewDirectory> = BTreeMap::new();
    for source in sources {
        let directory = match source.content {
            SourceContent::NewDirectory(directory) if directory == NewDirectory::default() => {
                plain.push(source);
                continue;
            }
            SourceContent::NewDirectory(directory) => directory,
            _ => {
                others.push(source);
                continue;
            }
        };
        let path = source.destination;
        if made.insert(path.clone(), directory).is_some_and(|earlier| earlier != directory) {
            return Err(Error::usage(path.to_string(), "is made twice in one layer, with different modes or owners"));
        }
        builder.begin_source(&source.name);
        directory.add_to(builder, path, &source.rules, rootfs)?;
    }
    others.extend(plain);
    Ok(others)
}

impl NewDirectory {
    fn add_to(self, builder: &mut TreeBuilder, path: ImagePath, rules: &Rules, rootfs: &Rootfs<'_>) -> Result<()> {
        let NewDirectory { mode, owner } = self;
        let new = usual_attributes(rules);
        // A link to a directory is followed. Everything else that is in the way is an error of the placement.
        let (path, known) = match rootfs.resolve(&path)? {
            Resolved::Node(real, below) if below.node.kind.is_directory() => {
                let known = kept_attributes(&below, new.mtime);
                (real, known)
            }
            Resolved::Absent(real) => (real, new),
            Resolved::Unseen(at, unseen) if mode.is_none() || owner.is_none() => return Err(unknown(&at, &unseen)),
            _ => (path, new),
        };
        let Owner { uid, gid } = owner.unwrap_or(Owner { uid: known.uid, gid: known.gid });
        let attributes = Attributes { mode: mode.unwrap_or(known.mode), uid, gid, ..known };
        builder.add(Entry { path, kind: Kind::Directory, attributes })
    }
}

/// Returns the attributes of a directory of which nothing is said.
pub(super) fn usual_attributes(rules: &Rules) -> Attributes {
    rules.directory(Access { mode: 0o755, owner: Owner::default() })
}
