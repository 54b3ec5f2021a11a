//! One tar, listed by GNU tar, by libarchive (which is bsdtar's), by Python's tarfile and by our own reader. They must
//! agree: what one program checks, another must not unpack as something else.

use crate::bases;
use crate::support::{Scratch, command, consumer, is_left_out, python_with, run};
use ocibuild::codec::tar::{EntryType, Headers};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// An entry, with the members that all readers report.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// In bytes; zero for everything but a file.
    pub(crate) size: u64,
    /// In seconds since the epoch.
    pub(crate) mtime: i64,
    /// Without `./` at the beginning and `/` at the end.
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
}

impl Entry {
    /// Takes out what readers may say differently without meaning something else.
    fn normal(mut self) -> Entry {
        while self.path.last() == Some(&b'/') {
            self.path.pop();
        }
        self.path.dedup_by(|next, before| *next == b'/' && *before == b'/');
        self.path = self.path.strip_prefix(b"./").map_or(self.path.clone(), <[u8]>::to_vec);
        self.size = if self.kind == EntryType::File { self.size } else { 0 };
        if !matches!(self.kind, EntryType::HardLink | EntryType::Symlink) {
            self.link.clear();
        }
        self
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { kind, mode, uid, gid, size, mtime, path, link } = self;
        write!(out, "{kind:?} mode {mode:o} owner {uid}:{gid} size {size} mtime {mtime} ")?;
        write!(out, "{:?} -> {:?}", path.escape_ascii().to_string(), link.escape_ascii().to_string())
    }
}

/// Asserts that every reader on this machine lists the uncompressed tar alike, and answers that list.
#[track_caller]
pub(crate) fn listed_alike(tar: &Path) -> Vec<Entry> {
    let ours = listed_by_us(tar);
    let others = listed_by_others(&[tar]).into_iter().map(|(reader, mut lists)| (reader, lists.pop()));
    for (reader, theirs) in others {
        let Some(theirs) = theirs else { continue };
        let theirs = theirs.unwrap_or_else(|| panic!("{reader} refuses {}", tar.display()));
        for (own, their) in ours.iter().zip(&theirs) {
            assert_eq!(own, their, "left: our reader; right: {reader}");
        }
        assert_eq!(ours.len(), theirs.len(), "left: our reader's entries; right: those of {reader}");
    }
    ours
}

/// What our own reader lists.
pub(crate) fn listed_by_us(tar: &Path) -> Vec<Entry> {
    listed(&mut BufReader::new(File::open(tar).unwrap())).unwrap()
}

fn listed(source: &mut (impl Read + Seek)) -> ocibuild::Result<Vec<Entry>> {
    let mut headers = Headers::new("tar");
    let mut entries = Vec::new();
    while let Some(entry) = headers.next(source)? {
        source.seek(SeekFrom::Start(headers.position())).unwrap();
        let ocibuild::codec::tar::TarEntry { path, kind, mode, uid, gid, size, mtime, link, .. } = entry;
        entries.push(Entry { kind, mode, uid, gid, size, mtime, path, link }.normal());
    }
    headers.check_rest(source)?;
    Ok(entries)
}

/// The entries of a tar, if our reader accepts it as a whole.
pub(crate) fn accepted_by_us(tar: &[u8]) -> Option<Vec<Entry>> {
    let mut source = Cursor::new(tar);
    let entries = listed(&mut source).ok()?;
    (source.position() <= tar.len() as u64).then_some(entries)
}

/// What each other reader on this machine lists of these tars: nothing for one that it refuses.
pub(crate) fn listed_by_others(tars: &[&Path]) -> Vec<(&'static str, Vec<Option<Vec<Entry>>>)> {
    let gnu_tar =
        consumer("tar").map(|tar| ("GNU tar", tars.iter().map(|path| listed_by_gnu_tar(&tar, path)).collect()));
    let by_python = |reader| Some((reader, listed_by_python(reader, tars)?));
    [gnu_tar, by_python("libarchive"), by_python("tarfile")].into_iter().flatten().collect()
}

/// The entries, with a file in the place of every hard link.
pub(crate) fn with_files_for_links(entries: &[Entry]) -> Vec<Entry> {
    let sizes: BTreeMap<&[u8], u64> = entries.iter().map(|entry| (&entry.path[..], entry.size)).collect();
    let file = |entry: &Entry| match entry.kind {
        EntryType::HardLink => {
            Entry { kind: EntryType::File, size: sizes[&entry.link[..]], link: Vec::new(), ..entry.clone() }
        }
        _ => entry.clone(),
    };
    entries.iter().map(file).collect()
}

fn listed_by_python(reader: &str, tars: &[&Path]) -> Option<Vec<Option<Vec<Entry>>>> {
    let python = python_with("ctypes")?;
    let script = include_str!("listers.py");
    let listed = run(command(python).args(["-c", script, reader]).args(tars)).success();
    let (mut lists, mut entries) = (Vec::new(), Vec::new());
    for line in listed.text().lines() {
        match line.split(' ').next() {
            Some("end") => lists.push(Some(std::mem::take(&mut entries))),
            Some("refused") => {
                entries.clear();
                lists.push(None);
            }
            _ => entries.push(entry_of_python(line).normal()),
        }
    }
    assert_eq!(lists.len(), tars.len(), "{listed}");
    Some(lists)
}

fn entry_of_python(line: &str) -> Entry {
    let words: Vec<&str> = line.split(' ').collect();
    let [kind, mode, uid, gid, size, mtime, path, link] = words[..] else { panic!("not an entry: {line}") };
    let kind = match kind {
        "file" => EntryType::File,
        "hardlink" => EntryType::HardLink,
        "symlink" => EntryType::Symlink,
        "character" => EntryType::CharacterDevice,
        "block" => EntryType::BlockDevice,
        "directory" => EntryType::Directory,
        "fifo" => EntryType::Fifo,
        _ => panic!("not a kind: {line}"),
    };
    Entry {
        kind,
        mode: u32::from_str_radix(mode, 8).unwrap(),
        uid: uid.parse().unwrap(),
        gid: gid.parse().unwrap(),
        size: size.parse().unwrap(),
        mtime: mtime.parse().unwrap(),
        path: from_hex(path),
        link: from_hex(link),
    }
}

fn from_hex(name: &str) -> Vec<u8> {
    let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    if name == "-" { Vec::new() } else { name.as_bytes().chunks(2).map(byte).collect() }
}

fn listed_by_gnu_tar(program: &Path, tar: &Path) -> Option<Vec<Entry>> {
    let mut list = command(program);
    list.args([
        "--list",
        "--verbose",
        "--numeric-owner",
        "--full-time",
        "--utc",
        "--quoting-style=c",
        "--absolute-names",
        "--file",
    ])
    .arg(tar);
    let listed = run(&mut list);
    if listed.status != 0 {
        return None;
    }
    Some(listed.text().lines().map(|line| gnu_entry(line).unwrap_or_else(|| panic!("not an entry: {line}"))).collect())
}

/// `-rw-r--r-- 0/0    12 1970-01-01 00:00:00 "a name" link to "another"`
fn gnu_entry(line: &str) -> Option<Entry> {
    let mut rest = line;
    let mut word = || {
        let (word, more) = rest.trim_start().split_once(' ')?;
        rest = more;
        Some(word)
    };
    let (kind_and_mode, owners, size, date, time) = (word()?, word()?, word()?, word()?, word()?);
    let kind = match kind_and_mode.as_bytes()[0] {
        b'-' | b'C' => EntryType::File,
        b'h' => EntryType::HardLink,
        b'l' => EntryType::Symlink,
        b'c' => EntryType::CharacterDevice,
        b'b' => EntryType::BlockDevice,
        b'd' => EntryType::Directory,
        b'p' => EntryType::Fifo,
        _ => return None,
    };
    let (uid, gid) = owners.split_once('/')?;
    let (path, rest) = unquoted(rest.trim_start())?;
    let link = match rest.strip_prefix(" -> ").or_else(|| rest.strip_prefix(" link to ")) {
        Some(link) => unquoted(link)?.0,
        None => Vec::new(),
    };
    let moment: jiff::civil::DateTime = format!("{date}T{time}").parse().ok()?;
    let entry = Entry {
        kind,
        mode: permission_bits(&kind_and_mode[1..10]),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        // A device has its numbers there.
        size: size.parse().unwrap_or(0),
        mtime: moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second(),
        path,
        link,
    };
    Some(entry.normal())
}

/// `rwsr-xr-t` and the like.
fn permission_bits(letters: &str) -> u32 {
    let mut bits = 0;
    for (place, letter) in letters.bytes().enumerate() {
        let here = 0o400 >> place;
        let special = 0o4000 >> (place / 3);
        bits |= match letter {
            b'-' => 0,
            b's' | b't' => here | special,
            b'S' | b'T' => special,
            _ => here,
        };
    }
    bits
}

/// Reads a string of C, in quotes, and answers what follows it.
fn unquoted(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    let mut at = 1;
    let source = text.strip_prefix('"').map(|_| text.as_bytes())?;
    loop {
        match source.get(at)? {
            b'"' => return Some((bytes, &text[at + 1..])),
            b'\\' => {
                at += 1;
                let byte = match source.get(at)? {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    b'0'..=b'7' => {
                        at += 2;
                        u8::from_str_radix(text.get(at - 2..=at)?, 8).ok()?
                    }
                    other => *other,
                };
                bytes.push(byte);
            }
            other => bytes.push(*other),
        }
        at += 1;
    }
}

#[test]
fn four_readers_agree_on_everything_that_a_file_system_can_hold() {
    let scratch = Scratch::new();
    let tree = bases::strange_tree(&scratch);
    for format in ["gnu", "pax", "ustar"] {
        let tar = scratch.join(format);
        let mut pack = command("tar");
        pack.args(["--create", "--sort=name", "--numeric-owner", "--owner=65534", "--group=1000", "--format", format]);
        if format == "ustar" {
            // Names that ustar cannot hold.
            pack.args(["--exclude=long-link", "--exclude=nnn*", "--exclude=future"]);
        }
        run(pack.arg("--file").arg(&tar).arg("--directory").arg(&tree).arg(".")).success();
        let entries = listed_alike(&tar);
        assert!(entries.len() >= 13, "{entries:#?}");
        let named = |name: &[u8]| entries.iter().find(|entry| entry.path == name).unwrap();
        assert_eq!(named(b"strange").mode, 0o7644);
        assert_eq!(named(b"z another name of it").kind, EntryType::HardLink);
        assert_eq!(named(b"link -> with arrow").link, b"x -> y");
        assert_eq!((named(b"large").size, named(b"large").uid), (3 << 20, 65534));
    }
}

#[test]
fn four_readers_agree_on_a_whole_debian() {
    if is_left_out() {
        return;
    }
    let Some(debian) = bases::debian() else { return };
    let scratch = Scratch::new();
    let layer = debian.blob(debian.layers()[0]["digest"].as_str().unwrap());
    let tar = scratch.join("layer.tar");
    run(command("sh").args(["-c", "gzip --decompress <\"$1\" >\"$2\"", "sh"]).args([&layer, &tar])).success();
    assert!(listed_alike(&tar).len() > 5000);
}

#[test]
fn a_disagreement_is_noticed() {
    if python_with("ctypes").is_none() {
        return;
    }
    let scratch = Scratch::new();
    // Half a second before a whole one, before the epoch: we round down, libarchive rounds up, and GNU tar is wrong.
    run(command("touch").args(["--date", "@-9.5"]).arg(scratch.join("old"))).success();
    run(command("tar").args(["--create", "--format=pax", "--file=tar", "old"]).current_dir(scratch.path())).success();
    let escaped = std::panic::catch_unwind(|| listed_alike(&scratch.join("tar")));
    let message = escaped.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("mtime -10 ") && message.contains("right: "), "{message}");
}
