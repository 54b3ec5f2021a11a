//! Finds the blocks of a tree in an earlier layer.
//!
//! A block equals an earlier one if its entries are the same and it begins at the same offset in the first of them. If
//! the metadata of every entry is unchanged (names, attributes and stamps are equal), no file is opened. If only names,
//! attributes and sizes are equal, as in a fresh checkout, the block is made and compared with the data of the earlier
//! blob, byte by byte. That is still several times faster than compressing it.

use crate::codec::compression::Compression;
use crate::common::digest::{Digest, Hasher};
use crate::common::error::Result;
use crate::common::progress::{Activity, Progress};
use crate::layers::block_boundaries::{Block, Blocks, Run, cut};
use crate::layers::fill_block::{fill, is_part_of_stream};
use crate::layers::incremental::block_comparer::BlockComparer;
use crate::layers::incremental::block_reuse::{BlockPlace, Prefix, Reuse, copied};
use crate::layers::incremental::previous_layer::{DoneBlock, Fingerprint, PreviousLayer, span};
use crate::layers::tree::Tree;
use crate::store::OpenBlob;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The result of a comparison.
#[derive(Debug)]
pub enum Comparison {
    /// The tree makes exactly the same layer.
    Same,
    /// The tree makes another layer, which reuses these blocks.
    Other(Box<Reuse>),
}

/// Compares `tree` with an earlier layer, whose blob is `blob`.
///
/// The entries of the tree have the `fingerprints`. Messages call the layer `name`.
///
/// # Errors
/// Returns an error if a file that must be read cannot be read, or has changed.
pub fn compare(
    tree: &Tree,
    fingerprints: &[Fingerprint],
    earlier: &PreviousLayer,
    blob: OpenBlob,
    compression: Compression,
    name: &str,
    progress: &dyn Progress,
) -> Result<Comparison> {
    let (blocks, known) = rayon::join(|| cut(tree), || KnownBlocks::of(earlier));
    let places = places(earlier);
    let found = known.find_all(&blocks, fingerprints);
    let activity = activity(&blocks, &found, name, progress);
    let compared: Vec<Option<(usize, usize)>> = found
        .into_par_iter()
        .map_init(Default::default, |(comparer, filled): &mut (BlockComparer, Vec<u8>), (number, found)| {
            let known = match found {
                BlockMatch::Same(known) => return Ok(Some((number, known))),
                BlockMatch::SameShape(known) if !is_part_of_stream(tree, &blocks, number) => known,
                BlockMatch::SameShape(_) => return Ok(None),
            };
            let Some(block) = blocks.get(number) else { return Ok(None) };
            fill(tree, &block, &mut None, None, filled).map_err(|error| error.within(name))?;
            activity.iter().for_each(|activity| activity.advance(block.length));
            Ok(is_at(comparer, filled, &blob, places[known], compression).then_some((number, known)))
        })
        .collect::<Result<_>>()?;
    activity.into_iter().for_each(|activity| activity.finish("compared"));
    let compared: BTreeMap<usize, usize> = compared.into_iter().flatten().collect();
    let in_place = (0..blocks.len()).take_while(|number| compared.get(number) == Some(number)).count();
    if in_place == blocks.len() && in_place == earlier.blocks.len() {
        return Ok(Comparison::Same);
    }
    let prefix = prefix(&blocks, in_place, earlier);
    let places = compared.into_iter().map(|(number, known)| (number, places[known])).collect();
    Ok(Comparison::Other(Box::new(Reuse { blob, blocks, places, prefix })))
}

/// A candidate for the same block in the earlier layer.
#[derive(Debug, Clone, Copy)]
enum BlockMatch {
    /// The same block, according to the metadata of its files.
    Same(usize),
    /// The same block, unless the content differs.
    SameShape(usize),
}

/// The blocks of an earlier layer, by their identifying digests.
struct KnownBlocks {
    whole: BTreeMap<Digest, usize>,
    shapes: BTreeMap<Digest, usize>,
    /// The shapes of the earlier layer's entries.
    entries: BTreeSet<u64>,
}

impl KnownBlocks {
    fn of(earlier: &PreviousLayer) -> KnownBlocks {
        let (mut whole, mut shapes) = (BTreeMap::new(), BTreeMap::new());
        let blocks: Blocks = earlier.blocks.iter().map(|done| done.block).collect();
        let fingerprints: Vec<Fingerprint> = earlier.entries.iter().map(|entry| entry.fingerprint).collect();
        for number in 0..blocks.len() {
            let names = names(&blocks, number, &fingerprints);
            shapes.insert(names.shape, number);
            if let Some(name) = names.whole {
                whole.insert(name, number);
            }
        }
        let entries = fingerprints.iter().map(|fingerprint| fingerprint.shape).collect();
        KnownBlocks { whole, shapes, entries }
    }

    /// Returns the numbers of those `blocks` that may be in the earlier layer, with their candidates.
    fn find_all(&self, blocks: &Blocks, fingerprints: &[Fingerprint]) -> Vec<(usize, BlockMatch)> {
        // The blocks of a large file, of which there may be any number, are only searched if the earlier layer had a file
        // of its size.
        let may_be_here = |run: &&Run| {
            run.count == 1 || fingerprints.get(run.block.entry).is_some_and(|file| self.entries.contains(&file.shape))
        };
        let numbers = blocks.runs().iter().filter(may_be_here).flat_map(Run::numbers);
        numbers.filter_map(|number| Some((number, self.find(&names(blocks, number, fingerprints))?))).collect()
    }

    fn find(&self, names: &BlockNames) -> Option<BlockMatch> {
        match names.whole.and_then(|name| self.whole.get(&name)) {
            Some(&number) => Some(BlockMatch::Same(number)),
            None => self.shapes.get(&names.shape).map(|&number| BlockMatch::SameShape(number)),
        }
    }
}

/// Starts the progress of reading blocks, if any have to be read.
fn activity<'a>(
    blocks: &Blocks,
    found: &[(usize, BlockMatch)],
    name: &str,
    progress: &'a dyn Progress,
) -> Option<Activity<'a>> {
    let read = found.iter().filter(|(_, found)| matches!(found, BlockMatch::SameShape(_)));
    let bytes: u64 = read.filter_map(|(number, _)| blocks.get(*number)).map(|block| block.length).sum();
    (bytes > 0).then(|| Activity::start(progress, name, Some(bytes)))
}

/// The identifying digests of a block.
struct BlockNames {
    shape: Digest,
    whole: Option<Digest>,
}

fn names(blocks: &Blocks, number: usize, fingerprints: &[Fingerprint]) -> BlockNames {
    let mut shape = Hasher::sha256();
    if let Some(Block { entry: _, offset, length }) = blocks.get(number) {
        shape.update(&offset.to_be_bytes());
        shape.update(&length.to_be_bytes());
    }
    let mut whole = Some(shape.clone());
    for Fingerprint { shape: part, whole: whole_part } in &fingerprints[span(blocks, number, fingerprints.len())] {
        shape.update(&part.to_be_bytes());
        whole = whole.zip(*whole_part).map(|(mut whole, part)| {
            whole.update(&part);
            whole
        });
    }
    BlockNames { shape: shape.finish(), whole: whole.map(Hasher::finish) }
}

/// Returns the location of each block in the earlier blob.
fn places(earlier: &PreviousLayer) -> Vec<BlockPlace> {
    let places = earlier.blocks.iter().scan(0, |offset, done| {
        let place = BlockPlace { offset: *offset, length: done.packed, tar_length: done.block.length, sum: done.sum };
        *offset += u64::from(done.packed);
        Some(place)
    });
    places.collect()
}

/// Returns the prefix that need not be read: the blocks at the start that both layers have, `in_place` of them, up to the
/// last complete entry.
fn prefix(blocks: &Blocks, in_place: usize, earlier: &PreviousLayer) -> Prefix {
    let begins_an_entry = |number: &usize| blocks.get(*number).is_none_or(|block| block.offset == 0);
    let count = match begins_an_entry(&in_place) {
        true => in_place,
        false => (0..in_place).rev().find(begins_an_entry).unwrap_or(0),
    };
    let done: Vec<DoneBlock> = earlier.blocks[..count].to_vec();
    let resumed = done.last().and_then(|last| Some((Hasher::resume(&last.tar)?, Hasher::resume(&last.blob)?)));
    let Some((tar, blob)) = resumed else { return Prefix::nothing() };
    let entries = blocks.get(count).map_or(earlier.entries.len(), |next| next.entry);
    Prefix {
        size: done.iter().map(|done| u64::from(done.packed)).sum(),
        contents: earlier.entries.iter().take(entries).map(|entry| entry.content).collect(),
        done,
        tar,
        blob,
    }
}

/// Returns whether `block` is at `place` of the blob. A block that cannot be read counts as different.
fn is_at(
    comparer: &mut BlockComparer,
    block: &[u8],
    blob: &OpenBlob,
    place: BlockPlace,
    compression: Compression,
) -> bool {
    place.tar_length == block.len() as u64
        && copied(blob, place).is_ok_and(|packed| comparer.is_packed(block, &packed, compression))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::progress::Silent;
    use crate::layers::incremental::previous_layer::PreviousEntry;
    use crate::layers::tree::{Entry, Rules, TreeBuilder};
    use crate::layers::write::{LayerRequest, MadeLayer, write_layers};
    use crate::store::Layout;

    const COMPRESSION: Compression = Compression::Gzip(1);

    /// Files by name, each with its content and a number for its stamp.
    type Files = Vec<(&'static str, Vec<u8>, u8)>;

    fn tree(files: &Files) -> (Tree, Vec<Fingerprint>) {
        let mut builder = TreeBuilder::new(&Rules::default());
        for (path, content, _) in files {
            builder.add(Entry::test_file(path, content)).unwrap();
        }
        let fingerprint = |(_, content, stamp): &(&str, Vec<u8>, u8)| Fingerprint {
            shape: content.len() as u64,
            whole: Some([*stamp; 16]),
        };
        (builder.finish().unwrap(), files.iter().map(fingerprint).collect())
    }

    fn write(tree: &Tree, layout: &Layout, reuse: Option<&Reuse>) -> Result<MadeLayer> {
        let request =
            LayerRequest { tree, name: "layer", compression: COMPRESSION.into(), reuse, store: None, visitor: None };
        write_layers(&[request], layout, &Silent).map(|mut made| made.remove(0))
    }

    struct Scene {
        _keep: tempfile::TempDir,
        layout: Layout,
        earlier: PreviousLayer,
    }

    impl Scene {
        fn new(files: &Files) -> Scene {
            let keep = tempfile::tempdir().unwrap();
            let layout = Layout::create(&keep.path().join("out")).unwrap();
            let (tree, fingerprints) = tree(files);
            let MadeLayer { layer, blocks, contents, work: _ } = write(&tree, &layout, None).unwrap();
            let entries = tree.entries().zip(fingerprints).zip(contents);
            let entries = entries.map(|((entry, fingerprint), content)| PreviousEntry {
                path: entry.path.as_bytes().into(),
                fingerprint,
                size: entry.size(),
                content,
            });
            let earlier = PreviousLayer { layer, entries: entries.collect(), blocks };
            assert!(earlier.is_consistent());
            Scene { _keep: keep, layout, earlier }
        }

        fn compare(&self, files: &Files) -> Comparison {
            let (tree, fingerprints) = tree(files);
            let blob = self.layout.open_verified(&self.earlier.layer.descriptor).unwrap().unwrap();
            compare(&tree, &fingerprints, &self.earlier, blob, COMPRESSION, "layer", &Silent).unwrap()
        }

        /// Makes the layer of `files` with data of the earlier one. Checks that it equals the layer made without.
        #[track_caller]
        fn reuse(&self, files: &Files) -> MadeLayer {
            let Comparison::Other(reuse) = self.compare(files) else { panic!("the same") };
            let (tree, _) = tree(files);
            let made = write(&tree, &self.layout, Some(&reuse)).unwrap();
            let MadeLayer { layer, blocks, contents, work: _ } = write(&tree, &self.layout, None).unwrap();
            assert_eq!((&made.layer, &made.blocks, &made.contents), (&layer, &blocks, &contents));
            made
        }
    }

    fn content(seed: u8, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 11) as u8 ^ (at / 700) as u8 ^ seed).collect()
    }

    /// Six blocks: a; two of large; the rest of large and m; z; the end.
    fn files() -> Files {
        vec![
            ("a", content(1, 700_000), 1),
            ("large", content(2, 2_500_000), 2),
            ("m", content(3, 300_000), 3),
            ("z", content(4, 800_000), 4),
        ]
    }

    #[test]
    fn the_same_entries_need_no_look() {
        let scene = Scene::new(&files());
        assert_eq!(scene.earlier.blocks.len(), 6);
        assert!(matches!(scene.compare(&files()), Comparison::Same));
        let mut touched = files();
        touched.iter_mut().for_each(|(_, _, stamp)| *stamp += 100);
        assert!(matches!(scene.compare(&touched), Comparison::Same), "other files of the same content");
    }

    #[test]
    fn what_was_done_before_the_change_is_taken_over() {
        let scene = Scene::new(&files());
        for (place, first) in [(0, 0), (1, 1), (2, 1), (3, 4)] {
            let mut changed = files();
            changed[place].1[0] ^= 1;
            changed[place].2 += 100;
            let Comparison::Other(reuse) = scene.compare(&changed) else { panic!("the same") };
            assert_eq!(reuse.prefix.done.len(), first, "a change of file {place}");
            let work = scene.reuse(&changed).work;
            assert_eq!((work.reused, work.compressed), (5, 1), "a change of file {place}");
        }
    }

    #[test]
    fn entries_that_come_and_go_leave_the_others_alone() {
        let scene = Scene::new(&files());
        let mut files = files();
        files.insert(0, ("0", content(9, 2_000_000), 9));
        assert_eq!(scene.reuse(&files).work.reused, 6);
        files.remove(2);
        assert!(scene.reuse(&files).work.reused >= 2);
        files.truncate(1);
        assert_eq!(scene.reuse(&files).work.reused, 0);
        files.clear();
        // All tars end in the same bytes.
        assert_eq!(scene.reuse(&files).work.reused, 1);
    }

    #[test]
    fn stamps_that_lie_cost_a_compression_and_not_the_truth() {
        let scene = Scene::new(&files());
        let mut lying = files();
        lying[0].1[0] ^= 1;
        lying[0].2 += 100;
        // The metadata of this file claims that it is unchanged.
        lying[3].1[1000] ^= 1;
        let work = scene.reuse(&lying).work;
        assert_eq!((work.reused, work.compressed), (4, 2));
    }

    #[test]
    fn a_blob_that_changes_while_it_is_copied_fails_the_build() {
        let scene = Scene::new(&files());
        let mut changed = files();
        changed[3].1[0] ^= 1;
        changed[3].2 += 100;
        let Comparison::Other(reuse) = scene.compare(&changed) else { panic!("the same") };
        let name = scene.earlier.layer.descriptor.digest.hex();
        let path = scene.layout.root().path().join("blobs/sha256").join(name);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let error = write(&tree(&changed).0, &scene.layout, Some(&reuse)).unwrap_err();
        assert!(error.to_string().contains("modified during the build"), "{error}");
    }
}
