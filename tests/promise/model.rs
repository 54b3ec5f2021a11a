//! A model of the commit protocol (`docs/design/commit-protocol.md`), explored to the end.
//!
//! Three writers and a garbage collection work on one layout in memory. Every order of their steps is tried, and after each step
//! the power may be cut. What was not synced may then be there or not, in any combination:
//!
//! * a name leads to what it led to at the last sync of its directory, or to anything that it has led to since;
//! * a file that was not synced may hold anything.
//!
//! In each state, every index that the disk may show is whole, leads to whole blobs, and lists the image that was there and those of
//! the writers that have succeeded. In the end all writers have succeeded. A step that is left out or moved is found.

use super::injector::Class;
use super::scenario::Rehearsed;
use super::scenarios::SCENARIOS;
use std::collections::HashSet;

const WRITERS: usize = 3;

/// The blobs: one of each writer, then the one that all of them need and that another program has left there, and that of the
/// image that is there.
const SHARED: usize = WRITERS;
const OLD: usize = WRITERS + 1;
const BLOBS: usize = WRITERS + 2;

/// The images of an index, as bits.
type Images = u8;

/// The image that is there before.
const OLD_IMAGE: Images = 1 << WRITERS;

/// A step of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Waits until no garbage is collected, and keeps collections waiting.
    KeepGarbageOut,
    /// Removes temporaries that belong to no running process.
    Sweep,
    /// Removes all temporaries.
    SweepLiving,
    WriteTemporary,
    SyncTemporary,
    RenameTo(Target),
    /// Syncs a blob that was there, whoever wrote it, or goes on to write it.
    SyncPresent(Target),
    /// Takes the shared blob as it is, if it is there.
    BelievePresent,
    SyncBlobs,
    LockIndex,
    ReadIndex,
    WriteIndex,
    WriteIndexInPlace,
    SyncIndex,
    RenameIndex,
    SyncLayout,
    UnlockIndex,
    LetGarbageIn,
}

/// Which blob a writer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Own,
    Shared,
}

/// A step of a garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collect {
    KeepWritersOut,
    ReadIndex,
    Remove,
    LetWritersIn,
}

/// The protocol: what a writer and a garbage collection do.
#[derive(Debug, Clone)]
struct Protocol {
    writer: Vec<Step>,
    collection: Vec<Collect>,
}

impl Protocol {
    fn of_the_program() -> Protocol {
        use Step::*;
        let blobs = [
            SyncPresent(Target::Shared),
            WriteTemporary,
            SyncTemporary,
            RenameTo(Target::Shared),
            WriteTemporary,
            SyncTemporary,
            RenameTo(Target::Own),
            SyncBlobs,
        ];
        let index = [LockIndex, ReadIndex, WriteIndex, SyncIndex, RenameIndex, SyncLayout, UnlockIndex];
        let writer = [&[KeepGarbageOut, Sweep][..], &blobs, &index, &[LetGarbageIn]].concat();
        let collection = vec![Collect::KeepWritersOut, Collect::ReadIndex, Collect::Remove, Collect::LetWritersIn];
        Protocol { writer, collection }
    }

    /// Returns the step behind those that write a blob.
    fn after_writing(&self, target: Target) -> usize {
        self.writer.iter().position(|step| *step == Step::RenameTo(target)).unwrap() + 1
    }

    fn without(mut self, step: Step) -> Protocol {
        self.writer.retain(|other| *other != step);
        self
    }

    fn with(mut self, step: Step, other: &[Step]) -> Protocol {
        let place = self.writer.iter().position(|there| *there == step).unwrap();
        self.writer.splice(place..=place, other.iter().copied());
        self
    }
}

/// A file: whether it was synced, so that a power cut leaves it whole.
type IsSynced = bool;

/// What a name of a blob leads to.
type Entry = Option<IsSynced>;

/// What a name may lead to after a power cut: what it leads to now, and what it has led to since the last sync of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    now: Entry,
    possible: Vec<Entry>,
}

impl Name {
    fn durable(now: Entry) -> Name {
        Name { now, possible: vec![now] }
    }

    fn lead_to(&mut self, entry: Entry) {
        self.now = entry;
        if !self.possible.contains(&entry) {
            self.possible.push(entry);
        }
    }

    /// Syncs the file itself, wherever its name is.
    fn sync_file(&mut self) {
        if self.now == Some(false) {
            self.now = Some(true);
            self.possible.iter_mut().filter(|entry| **entry == Some(false)).for_each(|entry| *entry = Some(true));
            self.possible.dedup();
        }
    }

    fn sync_directory(&mut self) {
        self.possible = vec![self.now];
    }
}

/// An index: its images, and whether it was synced.
type IndexFile = (Images, IsSynced);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Writer {
    step: usize,
    temporary: Entry,
    read: Images,
    index: Option<IndexFile>,
    keeps_garbage_out: bool,
    has_failed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    writers: [Writer; WRITERS],
    collection: usize,
    needed: Images,
    keeps_writers_out: bool,
    index_lock: Option<usize>,
    blobs: [Name; BLOBS],
    index: IndexFile,
    possible_indexes: Vec<IndexFile>,
}

/// The blobs that images need.
fn blobs_of(images: Images) -> impl Iterator<Item = usize> {
    let own = (0..WRITERS).filter(move |writer| images & (1 << writer) != 0);
    let shared = (images & !OLD_IMAGE != 0).then_some(SHARED);
    own.chain(shared).chain((images & OLD_IMAGE != 0).then_some(OLD))
}

impl State {
    fn first() -> State {
        let mut blobs: [Name; BLOBS] = std::array::from_fn(|_| Name::durable(None));
        blobs[OLD] = Name::durable(Some(true));
        // Another program has written it and synced nothing.
        blobs[SHARED] = Name { now: Some(false), possible: vec![None, Some(false)] };
        State {
            writers: std::array::from_fn(|_| Writer::default()),
            collection: 0,
            needed: 0,
            keeps_writers_out: false,
            index_lock: None,
            blobs,
            index: (OLD_IMAGE, true),
            possible_indexes: vec![(OLD_IMAGE, true)],
        }
    }

    /// Returns the states after one more step of anybody.
    fn next(&self, protocol: &Protocol) -> Vec<State> {
        let written = (0..WRITERS).filter_map(|writer| self.after_writer(writer, protocol));
        written.chain(self.after_collection(protocol)).collect()
    }

    fn after_writer(&self, number: usize, protocol: &Protocol) -> Option<State> {
        if self.writers[number].has_failed {
            return None;
        }
        let step = *protocol.writer.get(self.writers[number].step)?;
        let mut next = self.clone();
        next.writers[number].step += 1;
        let blob = |target: Target| if target == Target::Own { number } else { SHARED };
        match step {
            Step::KeepGarbageOut if self.keeps_writers_out => return None,
            Step::KeepGarbageOut => next.writers[number].keeps_garbage_out = true,
            Step::LetGarbageIn => next.writers[number].keeps_garbage_out = false,
            Step::Sweep => {}
            Step::SweepLiving => {
                for (other, writer) in next.writers.iter_mut().enumerate() {
                    writer.temporary = writer.temporary.filter(|_| other == number);
                }
            }
            // A blob that is there is synced and not written again: the three steps of writing it are passed over.
            Step::SyncPresent(target) if self.blobs[blob(target)].now.is_some() => {
                next.blobs[blob(target)].sync_file();
                next.writers[number].step = protocol.after_writing(target);
            }
            Step::BelievePresent if self.blobs[SHARED].now.is_some() => {
                next.writers[number].step = protocol.after_writing(Target::Shared);
            }
            Step::SyncPresent(_) | Step::BelievePresent => {}
            Step::WriteTemporary => next.writers[number].temporary = Some(false),
            Step::SyncTemporary => {
                next.writers[number].temporary = self.writers[number].temporary.map(|_| true);
            }
            Step::RenameTo(target) => match next.writers[number].temporary.take() {
                Some(file) => next.blobs[blob(target)].lead_to(Some(file)),
                None => next.writers[number].has_failed = true,
            },
            Step::SyncBlobs => next.blobs.iter_mut().for_each(Name::sync_directory),
            Step::LockIndex if self.index_lock.is_some() => return None,
            Step::LockIndex => next.index_lock = Some(number),
            Step::UnlockIndex => next.index_lock = None,
            Step::ReadIndex => next.writers[number].read = self.index.0,
            Step::WriteIndex => next.writers[number].index = Some((self.writers[number].read | 1 << number, false)),
            Step::WriteIndexInPlace => next.lead_index_to((self.writers[number].read | 1 << number, false)),
            Step::SyncIndex => {
                next.writers[number].index = self.writers[number].index.map(|(images, _)| (images, true));
            }
            Step::RenameIndex => {
                let index = next.writers[number].index.take()?;
                next.lead_index_to(index);
            }
            Step::SyncLayout => next.possible_indexes = vec![self.index],
        }
        Some(next)
    }

    fn lead_index_to(&mut self, index: IndexFile) {
        self.index = index;
        if !self.possible_indexes.contains(&index) {
            self.possible_indexes.push(index);
            self.possible_indexes.sort_unstable();
        }
    }

    fn after_collection(&self, protocol: &Protocol) -> Option<State> {
        let step = *protocol.collection.get(self.collection)?;
        let mut next = self.clone();
        next.collection += 1;
        match step {
            Collect::KeepWritersOut if self.writers.iter().any(|writer| writer.keeps_garbage_out) => return None,
            Collect::KeepWritersOut => next.keeps_writers_out = true,
            Collect::LetWritersIn => next.keeps_writers_out = false,
            Collect::ReadIndex => next.needed = self.index.0,
            Collect::Remove => {
                let needed: HashSet<usize> = blobs_of(self.needed).collect();
                let is_garbage = |blob: &usize| !needed.contains(blob) && self.blobs[*blob].now.is_some();
                for blob in (0..BLOBS).filter(is_garbage) {
                    next.blobs[blob].lead_to(None);
                }
            }
        }
        Some(next)
    }

    /// Returns what is wrong in this state, or would be after a power cut.
    fn violation(&self, protocol: &Protocol) -> Option<String> {
        let has_succeeded = |writer: usize| self.writers[writer].step == protocol.writer.len();
        let promised =
            (0..WRITERS).filter(|writer| has_succeeded(*writer)).fold(OLD_IMAGE, |images, writer| images | 1 << writer);
        if self.writers.iter().any(|writer| writer.has_failed) {
            return Some("a writer fails".to_owned());
        }
        for (images, is_synced) in &self.possible_indexes {
            if !is_synced {
                return Some("the index may be torn".to_owned());
            }
            if images & promised != promised {
                return Some(format!("the index may list {images:#b}, and {promised:#b} was promised"));
            }
            for blob in blobs_of(*images) {
                if self.blobs[blob].now.is_none() || self.blobs[blob].possible.iter().any(|entry| *entry != Some(true))
                {
                    return Some(format!("the index may list {images:#b} without a whole blob {blob}"));
                }
            }
        }
        None
    }
}

/// Explores every order of steps. Returns the number of states, or what is wrong in one.
fn explore(protocol: &Protocol) -> Result<usize, String> {
    let mut seen = HashSet::from([State::first()]);
    let mut pending = vec![State::first()];
    while let Some(state) = pending.pop() {
        if let Some(violation) = state.violation(protocol) {
            return Err(violation);
        }
        let next = state.next(protocol);
        let is_done = state.writers.iter().all(|writer| writer.step == protocol.writer.len());
        if next.is_empty() && !is_done {
            return Err(format!("nobody can go on: {state:?}"));
        }
        pending.extend(next.into_iter().filter(|next| seen.insert(next.clone())));
    }
    Ok(seen.len())
}

#[test]
fn the_commit_protocol_keeps_its_promise_in_every_order_of_steps() {
    let states = explore(&Protocol::of_the_program()).unwrap();
    assert!(states > 10_000, "{states}");
}

#[test]
fn every_mistake_in_the_commit_protocol_is_found() {
    use Step::*;
    let right = Protocol::of_the_program;
    let index = [LockIndex, ReadIndex, WriteIndex, SyncIndex, RenameIndex, SyncLayout, UnlockIndex];
    let index_first = {
        let rest = index.iter().fold(right(), |protocol, step| protocol.without(*step));
        rest.with(Sweep, &[&[Sweep][..], &index].concat())
    };
    let collection = |steps: &[Collect]| Protocol { collection: steps.to_vec(), ..right() };
    let mistakes = [
        ("a blob is renamed before it is synced", right().without(SyncTemporary)),
        ("the directory of blobs is not synced", right().without(SyncBlobs)),
        (
            "a blob of another program is believed to be durable",
            right().with(SyncPresent(Target::Shared), &[BelievePresent]),
        ),
        ("the index is renamed before it is synced", right().without(SyncIndex)),
        (
            "the index is written in place",
            right().without(SyncIndex).without(RenameIndex).with(WriteIndex, &[WriteIndexInPlace]),
        ),
        ("the directory of the index is not synced", right().without(SyncLayout)),
        ("the index is changed without its lock", right().without(LockIndex).without(UnlockIndex)),
        ("the index is changed before the blobs are there", index_first),
        ("the index is read before it is locked", right().without(ReadIndex).with(LockIndex, &[ReadIndex, LockIndex])),
        ("a writer does not keep garbage collections out", right().without(KeepGarbageOut)),
        (
            "a writer lets garbage collections in before its index",
            right().without(LetGarbageIn).with(SyncBlobs, &[SyncBlobs, LetGarbageIn]),
        ),
        ("a garbage collection does not keep writers out", collection(&[Collect::ReadIndex, Collect::Remove])),
        (
            "a garbage collection reads the index before it keeps writers out",
            collection(&[Collect::ReadIndex, Collect::KeepWritersOut, Collect::Remove, Collect::LetWritersIn]),
        ),
        ("temporaries of running processes are swept", right().with(Sweep, &[SweepLiving])),
    ];
    for (mistake, protocol) in mistakes {
        assert!(explore(&protocol).is_err(), "not found: {mistake}");
    }
}

/// The program takes the steps of the model in its order: each blob is synced, then renamed; then their directory is synced; then
/// the index is written, synced, renamed, and its directory synced.
#[test]
fn the_program_takes_the_steps_of_the_model() {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == "another image of a layout").unwrap();
    let Some(calls) = Rehearsed::new(scenario).calls(Class::Change) else { return };
    let (blobs, layout) = ("out/blobs/sha256", "out");
    let named: Vec<(&str, &str)> = calls.iter().map(|call| (call.name.as_str(), call.path.as_str())).collect();
    let place_of = |call: (&str, &str)| {
        named.iter().rposition(|other| *other == call).unwrap_or_else(|| panic!("no {call:?}: {named:#?}"))
    };
    let renamed = place_of(("renameat", "out/index.json"));
    let in_blobs = |path: &str| path.starts_with(&format!("{blobs}/"));
    let renames: Vec<usize> =
        (0..named.len()).filter(|place| named[*place].0 == "renameat" && in_blobs(named[*place].1)).collect();
    assert!(renames.len() >= 3, "{named:#?}");
    for rename in &renames {
        let since = renames.iter().rev().find(|other| *other < rename).map_or(0, |other| other + 1);
        assert!(named[since..*rename].iter().any(|(name, path)| *name == "fsync" && in_blobs(path)), "{named:#?}");
    }
    let synced = place_of(("fsync", blobs));
    assert!(renames.iter().all(|rename| *rename < synced) && synced < renamed, "{named:#?}");
    assert!(
        named[synced..renamed].iter().any(|(name, path)| *name == "fsync" && path.starts_with("out/.ocibuild-")),
        "{named:#?}"
    );
    assert!(place_of(("fsync", layout)) > renamed, "{named:#?}");
}
