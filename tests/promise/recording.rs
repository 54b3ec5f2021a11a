//! What a command changes in the file system, change by change, and what a power cut may leave of it.
//!
//! The recorder (`recorder.c`) writes down every change and every sync. The content of a file is durable when a sync of the file
//! that began after the change has succeeded; a name, when its directory was synced. After a power cut, every other change may be
//! there or not, in any combination and whatever came first; of a write, a part may be there, and zeros in place of the rest.
//! Two things are taken for granted, as by every file system with a journal: a rename is there as a whole or not at all, and modes
//! are as they were set.

use super::injector::{compile_tracer, traced};
use super::scenario::UNFINISHED;
use super::tree::{LOCKS, is_temporary};
use crate::support::random::Random;
use crate::support::{Finished, Scratch, run};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Metadata, Permissions};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A file, directory or link, as long as it exists.
type FileId = usize;

/// The directory that everything is in.
const ROOT: FileId = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
}

/// A name in a directory.
type Slot = (FileId, String);

#[derive(Debug, Clone)]
enum Change {
    /// Names that lead to other files from now on, or to none, all at once.
    Names(Vec<(Slot, Option<FileId>)>),
    /// Bytes of a file.
    Content(FileId, Edit),
    Mode(FileId, u32),
    /// A sync has succeeded that began when there were so many changes; of one file, or of all.
    Synced(Option<FileId>, usize),
}

/// New bytes at a place of a file, and its new length if it was shortened.
#[derive(Debug, Clone)]
struct Edit {
    at: usize,
    bytes: Vec<u8>,
    shortened_to: Option<usize>,
}

/// What a power cut leaves of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    Whole,
    /// The first half of a write.
    Half,
    /// The first half of a write, and zeros up to its end.
    HalfThenZeros,
    Zeros,
}

#[derive(Debug, Clone)]
struct Step {
    change: Change,
    /// The number of steps after which no power cut loses this one.
    durable_after: Option<usize>,
}

/// What is on the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    names: BTreeMap<Slot, FileId>,
    contents: BTreeMap<FileId, Vec<u8>>,
    modes: BTreeMap<FileId, u32>,
}

/// Everything that a command changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Recording {
    kinds: Vec<Kind>,
    /// The last name that a file was seen with, for messages.
    labels: Vec<String>,
    before: Disk,
    steps: Vec<Step>,
    /// Names in the root directory that are no part of the result.
    ignored: Vec<String>,
}

/// A way in which a power cut may end: what becomes of each change that was not durable.
pub(super) struct Outcome {
    pub(super) disk: Disk,
    /// In words.
    pub(super) row: String,
}

/// Runs a command that changes things below `directory`, and records what it does; `None`, with a message, if that is not
/// possible here.
pub(super) fn record(command: &Command, directory: &Path, stdin: File) -> Option<(Finished, Recording)> {
    static RECORDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let recorder = RECORDER.get_or_init(|| compile_tracer("recorder", &["/dev/null", "/bin/true"])).as_deref()?;
    let aside = Scratch::new();
    let log = aside.join("log");
    let mut reader = Reader::of(directory);
    let mut recorder = Command::new(recorder);
    recorder.arg(&log);
    let finished = run(traced(recorder, command).stdin(stdin));
    reader.read(&fs::read(&log).unwrap());
    Some((finished, reader.recording))
}

/// Builds a recording: of what is there, and of the log.
struct Reader {
    recording: Recording,
    now: BTreeMap<FileId, Vec<u8>>,
    /// By device and inode, as the recorder names files.
    ids: HashMap<String, FileId>,
    /// Syncs that have begun: of which file, and after how many steps.
    begun: HashMap<String, (Option<FileId>, usize)>,
}

fn key_of(metadata: &Metadata) -> String {
    format!("{:x}:{:x}", metadata.dev(), metadata.ino())
}

impl Reader {
    /// Reads what is there before the command.
    fn of(directory: &Path) -> Reader {
        let mut reader = Reader {
            recording: Recording::default(),
            now: BTreeMap::new(),
            ids: HashMap::new(),
            begun: HashMap::new(),
        };
        let metadata = fs::metadata(directory).unwrap();
        reader.add(key_of(&metadata), Kind::Directory, metadata.mode() & 0o7777);
        reader.add_entries(directory, ROOT);
        reader.recording.before.contents = reader.now.clone();
        reader
    }

    fn add_entries(&mut self, directory: &Path, parent: FileId) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let kind = match metadata.file_type() {
                kind if kind.is_dir() => Kind::Directory,
                kind if kind.is_symlink() => Kind::Link,
                _ => Kind::File,
            };
            let id = self.add(key_of(&metadata), kind, metadata.mode() & 0o7777);
            let name = entry.file_name().into_string().unwrap();
            self.recording.labels[id] = name.clone();
            self.recording.before.names.insert((parent, name), id);
            match kind {
                Kind::Directory => self.add_entries(&entry.path(), id),
                Kind::File => drop(self.now.insert(id, fs::read(entry.path()).unwrap())),
                Kind::Link => drop(self.now.insert(id, target_of(&entry.path()))),
            }
        }
    }

    fn add(&mut self, key: String, kind: Kind, mode: u32) -> FileId {
        let id = self.recording.kinds.len();
        self.recording.kinds.push(kind);
        self.recording.labels.push(format!("file {id}"));
        self.recording.before.modes.insert(id, mode);
        if kind != Kind::Directory {
            self.now.insert(id, Vec::new());
        }
        // The number of a removed file may be that of a new one.
        self.ids.insert(key, id);
        id
    }

    fn read(&mut self, mut log: &[u8]) {
        while let Some(end) = log.iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&log[..end]).unwrap();
            log = &log[end + 1..];
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["content", file, length] => {
                    let (bytes, rest) = log.split_at(length.parse().unwrap());
                    self.content(file, bytes);
                    log = &rest[1..];
                }
                ["new", key, kind, mode] => {
                    let kind = match kind {
                        "d" => Kind::Directory,
                        "l" => Kind::Link,
                        _ => Kind::File,
                    };
                    self.add(key.to_owned(), kind, u32::from_str_radix(mode, 8).unwrap());
                }
                ["name", directory, file, name] => self.name(directory, file, name, false),
                ["also", directory, file, name] => self.name(directory, file, name, true),
                ["mode", file, mode] => {
                    if let Some(id) = self.ids.get(file) {
                        self.push(Change::Mode(*id, u32::from_str_radix(mode, 8).unwrap()));
                    }
                }
                ["begin", number, file] => {
                    let target = (file != "all").then(|| self.ids.get(file).copied().unwrap_or(usize::MAX));
                    self.begun.insert(number.to_owned(), (target, self.recording.steps.len()));
                }
                ["synced", number] => {
                    let (target, since) = self.begun[number];
                    self.push(Change::Synced(target, since));
                }
                _ => panic!("the recorder says: {line}"),
            }
        }
        self.recording.find_durable(|_| true);
    }

    fn push(&mut self, change: Change) {
        self.recording.steps.push(Step { change, durable_after: None });
    }

    fn name(&mut self, directory: &str, file: &str, name: &str, is_with_last: bool) {
        let Some(directory) = self.ids.get(directory).copied() else { return };
        let id = (file != "-").then(|| *self.ids.get(file).unwrap_or_else(|| panic!("{name}: a file from elsewhere")));
        if let Some(id) = id {
            self.recording.labels[id] = name.to_owned();
        }
        let named = ((directory, name.to_owned()), id);
        match self.recording.steps.last_mut() {
            Some(Step { change: Change::Names(names), .. }) if is_with_last => names.push(named),
            _ => self.push(Change::Names(vec![named])),
        }
    }

    fn content(&mut self, file: &str, bytes: &[u8]) {
        let Some(id) = self.ids.get(file).copied() else { return };
        let before = self.now.insert(id, bytes.to_owned()).unwrap_or_default();
        if before != bytes {
            self.push(Change::Content(id, Edit::between(&before, bytes)));
        }
    }
}

fn target_of(link: &Path) -> Vec<u8> {
    fs::read_link(link).unwrap().into_os_string().into_encoded_bytes()
}

impl Edit {
    fn between(before: &[u8], after: &[u8]) -> Edit {
        let at = before.iter().zip(after).take_while(|(before, after)| before == after).count();
        let same_at_end = match before.len() == after.len() {
            true => before.iter().rev().zip(after.iter().rev()).take_while(|(before, after)| before == after).count(),
            false => 0,
        };
        let shortened_to = (after.len() < before.len()).then_some(after.len());
        Edit { at, bytes: after[at..after.len() - same_at_end].to_owned(), shortened_to }
    }

    fn apply(&self, content: &mut Vec<u8>, fate: Fate) {
        let mut bytes = self.bytes.clone();
        let half = bytes.len() / 2;
        match fate {
            Fate::Lost => return,
            Fate::Whole => {}
            Fate::Half => bytes.truncate(half),
            Fate::HalfThenZeros => bytes[half..].fill(0),
            Fate::Zeros => bytes.fill(0),
        }
        let end = self.at + bytes.len();
        content.resize(content.len().max(end), 0);
        content[self.at..end].copy_from_slice(&bytes);
        if let Some(length) = self.shortened_to {
            content.truncate(length);
        }
    }
}

impl Recording {
    /// Returns the recording without the syncs of files or directories that `is_made` refuses, which are given with their kind
    /// and name.
    pub(super) fn with_syncs(&self, is_made: impl Fn(Kind, &str) -> bool) -> Recording {
        let mut changed = self.clone();
        changed.find_durable(|file| is_made(self.kinds[file], &self.labels[file]));
        changed
    }

    /// Names in the root directory that are no part of the result.
    pub(super) fn ignoring(mut self, names: &[&str]) -> Recording {
        self.ignored = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub(super) fn changes(&self) -> usize {
        self.steps.iter().filter(|step| !matches!(step.change, Change::Synced(..))).count()
    }

    /// Finds out from when on each change is durable, if the syncs of files count that `is_made` accepts.
    fn find_durable(&mut self, is_made: impl Fn(FileId) -> bool) {
        self.steps.iter_mut().for_each(|step| step.durable_after = None);
        for number in 0..self.steps.len() {
            let Change::Synced(target, since) = self.steps[number].change else { continue };
            if target.is_some_and(|file| file >= self.kinds.len() || !is_made(file)) {
                continue;
            }
            for step in &mut self.steps[..since] {
                let file = match &step.change {
                    Change::Names(names) => names[0].0.0,
                    Change::Content(file, _) => *file,
                    Change::Mode(..) | Change::Synced(..) => continue,
                };
                if target.is_none_or(|target| target == file) {
                    step.durable_after.get_or_insert(number + 1);
                }
            }
        }
    }

    /// Returns whether a name is part of the result.
    fn matters(&self, (directory, name): &Slot) -> bool {
        let is_ignored = *directory == ROOT && self.ignored.contains(name);
        let is_passing = is_temporary(name) && !UNFINISHED.ends_with(name);
        !is_ignored && !is_passing && !LOCKS.contains(&name.as_str())
    }

    /// Returns the files that names which matter may lead to after `cut` steps.
    fn files_that_matter(&self, cut: usize) -> BTreeSet<FileId> {
        let before = self.before.names.iter().map(|(slot, file)| (slot, *file));
        let since = self.steps[..cut].iter().filter_map(|step| match &step.change {
            Change::Names(names) => Some(names),
            _ => None,
        });
        let since = since.flatten().filter_map(|(slot, file)| file.map(|file| (slot, file)));
        let names: Vec<(&Slot, FileId)> = before.chain(since).filter(|(slot, _)| self.matters(slot)).collect();
        let mut files = BTreeSet::from([ROOT]);
        loop {
            let more: Vec<FileId> =
                names.iter().filter(|(slot, _)| files.contains(&slot.0)).map(|named| named.1).collect();
            let known = files.len();
            files.extend(more);
            if files.len() == known {
                return files;
            }
        }
    }

    /// Returns what may become of each of the first `cut` steps that matter and are not durable.
    fn choices(&self, cut: usize) -> Vec<(usize, &'static [Fate])> {
        let files = self.files_that_matter(cut);
        let matters = |change: &Change| match change {
            Change::Names(names) => names.iter().any(|(slot, _)| files.contains(&slot.0) && self.matters(slot)),
            Change::Content(file, _) => files.contains(file),
            Change::Mode(..) | Change::Synced(..) => false,
        };
        let is_open = |number: &usize| !self.is_durable(*number, cut) && matters(&self.steps[*number].change);
        (0..cut).filter(is_open).map(|number| (number, self.fates(number))).collect()
    }

    fn is_durable(&self, number: usize, cut: usize) -> bool {
        self.steps[number].durable_after.is_some_and(|after| after <= cut)
    }

    fn fates(&self, number: usize) -> &'static [Fate] {
        match &self.steps[number].change {
            Change::Content(_, edit) if edit.bytes.len() > 1 => {
                &[Fate::Lost, Fate::Whole, Fate::Half, Fate::HalfThenZeros, Fate::Zeros]
            }
            _ => &[Fate::Lost, Fate::Whole],
        }
    }

    /// Returns the places at which a power cut may leave something that an earlier one does not: behind each change that
    /// matters, and at the end.
    pub(super) fn cuts(&self) -> Vec<usize> {
        let is_new = |cut: &usize| self.choices(*cut).iter().any(|(number, _)| number + 1 == *cut);
        let mut cuts: Vec<usize> = (0..self.steps.len()).filter(is_new).collect();
        cuts.push(self.steps.len());
        cuts
    }

    /// Returns the states that a power cut after `cut` steps may leave: all, if they are at most `most`, or as many of them.
    /// `random` chooses those, and what becomes of changes that do not matter.
    pub(super) fn outcomes(&self, cut: usize, most: usize, random: &mut Random) -> Vec<Outcome> {
        let choices = self.choices(cut);
        let all = choices.iter().try_fold(1_usize, |product, (_, fates)| product.checked_mul(fates.len()));
        let all = all.filter(|all| *all <= most);
        (0..all.unwrap_or(most))
            .map(|number| {
                let mut rest = number;
                let mut choose = |fates: &[Fate], place: usize| match (all, number.checked_sub(2)) {
                    (Some(_), _) => {
                        let fate = fates[rest % fates.len()];
                        rest /= fates.len();
                        fate
                    }
                    // Nothing, everything, each change alone, everything but one change, and then any.
                    (None, None) => [Fate::Lost, Fate::Whole][number],
                    (None, Some(single)) if single < choices.len() => {
                        if single == place {
                            Fate::Whole
                        } else {
                            Fate::Lost
                        }
                    }
                    (None, Some(single)) if single < 2 * choices.len() => {
                        if single - choices.len() == place {
                            Fate::Lost
                        } else {
                            Fate::Whole
                        }
                    }
                    _ => random.choose(fates),
                };
                let chosen: BTreeMap<usize, Fate> =
                    choices.iter().enumerate().map(|(place, (step, fates))| (*step, choose(fates, place))).collect();
                self.outcome(cut, &chosen, random)
            })
            .collect()
    }

    fn outcome(&self, cut: usize, chosen: &BTreeMap<usize, Fate>, random: &mut Random) -> Outcome {
        let mut disk = self.before.clone();
        for number in 0..cut {
            let fate = match chosen.get(&number) {
                _ if self.is_durable(number, cut) => Fate::Whole,
                Some(fate) => *fate,
                None => random.choose(self.fates(number)),
            };
            disk.apply(&self.steps[number].change, fate);
        }
        let lost = chosen.iter().filter(|(_, fate)| **fate != Fate::Whole);
        let lost: Vec<String> = lost.map(|(number, fate)| format!("{} {fate:?}", self.say(*number))).collect();
        let last = cut.checked_sub(1).map(|number| self.say(number)).unwrap_or_default();
        Outcome {
            disk,
            row: format!("power cut after {cut} of {} steps ({last}): {}", self.steps.len(), lost.join(", ")),
        }
    }

    fn say(&self, number: usize) -> String {
        let label = |file: &FileId| self.labels.get(*file).map(String::as_str).unwrap_or("something else");
        match &self.steps[number].change {
            Change::Names(names) => format!("the name {}", names[0].0.1),
            Change::Content(file, edit) => format!("{} bytes of {}", edit.bytes.len(), label(file)),
            Change::Mode(file, _) => format!("the mode of {}", label(file)),
            Change::Synced(file, _) => format!("a sync of {}", file.as_ref().map_or("everything", label)),
        }
    }

    /// Returns a number that is the same for disks whose files that matter are the same.
    pub(super) fn fingerprint(&self, disk: &Disk) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_directory(disk, ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_directory(&self, disk: &Disk, directory: FileId, hasher: &mut DefaultHasher) {
        for (slot, file) in disk.entries(directory).filter(|(slot, _)| self.matters(slot)) {
            (&slot.1, self.kinds[*file], disk.contents.get(file)).hash(hasher);
            if self.kinds[*file] == Kind::Directory {
                self.hash_directory(disk, *file, hasher);
            }
            "end".hash(hasher);
        }
    }

    /// Writes what is on the disk into an empty directory.
    pub(super) fn write(&self, disk: &Disk, target: &Path) {
        self.write_directory(disk, ROOT, target);
    }

    fn write_directory(&self, disk: &Disk, directory: FileId, target: &Path) {
        for ((_, name), file) in disk.entries(directory) {
            let path = target.join(name);
            let content = disk.contents.get(file).map(Vec::as_slice).unwrap_or_default();
            match self.kinds[*file] {
                Kind::Link => {
                    // A link that was created, and its target not written, is an empty file here: no link is empty.
                    match std::str::from_utf8(content) {
                        Ok(text) if !text.is_empty() && !text.contains('\0') => symlink(text, &path).unwrap(),
                        _ => fs::write(&path, content).unwrap(),
                    }
                    continue;
                }
                Kind::File => fs::write(&path, content).unwrap(),
                Kind::Directory => {
                    fs::create_dir(&path).unwrap();
                    self.write_directory(disk, *file, &path);
                }
            }
            let mode = disk.modes.get(file).copied().unwrap_or(0o644);
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
    }
}

impl Disk {
    fn entries(&self, directory: FileId) -> impl Iterator<Item = (&Slot, &FileId)> {
        self.names.range((directory, String::new())..(directory + 1, String::new()))
    }

    fn apply(&mut self, change: &Change, fate: Fate) {
        match change {
            Change::Names(names) if fate != Fate::Lost => {
                for (slot, file) in names {
                    match file {
                        Some(file) => drop(self.names.insert(slot.clone(), *file)),
                        None => drop(self.names.remove(slot)),
                    }
                }
            }
            Change::Content(file, edit) => edit.apply(self.contents.entry(*file).or_default(), fate),
            Change::Mode(file, mode) => drop(self.modes.insert(*file, *mode)),
            Change::Names(_) | Change::Synced(..) => {}
        }
    }
}
