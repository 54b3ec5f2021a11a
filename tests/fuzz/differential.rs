//! What our reader of tars accepts, and what other programs read in the same bytes: they list the same entries, or refuse the archive.
//! GNU tar and Python list it; Go's reader is that of umoci, which unpacks it.
//!
//! ```text
//! OCIBUILD_FUZZ_SECONDS=600 cargo test --test all fuzz::differential
//! ```

use super::structure;
use crate::catalogue::forge::{Forged, PLAIN};
use crate::listers::{self, Entry};
use crate::support::random::Random;
use crate::support::{Scratch, command, consumer, is_left_out, run};
use ocibuild::codec::tar::EntryType;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// An archive that we accept, and what we read.
type Accepted = (Vec<u8>, Vec<Entry>);

#[test]
fn other_readers_agree_on_every_tar_that_we_accept() {
    if is_left_out() {
        return;
    }
    search(|seed, disagreements| {
        let archives = accepted(seed, 100, |_| true);
        compare_lists(&archives, disagreements);
        archives.len()
    });
}

#[test]
fn umoci_unpacks_what_we_list() {
    if consumer("umoci").is_none() {
        return;
    }
    search(|seed, disagreements| {
        let archives = accepted(seed, 10, is_plain);
        archives.iter().filter(|archive| compare_files(archive, disagreements)).count()
    });
}

/// Compares the archives of one seed, or of one after the other until the time is over.
fn search(mut compare: impl FnMut(u64, &mut Vec<String>) -> usize) {
    let seconds = super::variable("OCIBUILD_FUZZ_SECONDS").unwrap_or(0);
    let mut seed = super::variable("OCIBUILD_FUZZ_SEED").unwrap_or(if seconds == 0 { 1 } else { super::time_seed() });
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut archives, mut disagreements) = (0, Vec::new());
    loop {
        let before = disagreements.len();
        archives += compare(seed, &mut disagreements);
        disagreements[before..].iter_mut().for_each(|text| *text = format!("OCIBUILD_FUZZ_SEED={seed}: {text}"));
        seed = seed.wrapping_add(1);
        if Instant::now() >= end {
            break;
        }
    }
    eprintln!("{archives} archives that we accept, {} of which others read otherwise", disagreements.len());
    assert!(archives > 0 && disagreements.is_empty(), "{disagreements:#?}");
}

/// Makes archives until we accept `number` of them that are wanted.
fn accepted(seed: u64, number: usize, is_wanted: fn(&[Entry]) -> bool) -> Vec<Accepted> {
    let mut random = Random::new(seed);
    let made = std::iter::repeat_with(|| {
        let length = random.below(400);
        structure::tar(&random.bytes(length))
    });
    let read = made.take(100 * number).filter_map(|bytes| Some((listers::accepted_by_us(&bytes)?, bytes)));
    read.filter(|(entries, _)| is_wanted(entries)).take(number).map(|(entries, bytes)| (bytes, entries)).collect()
}

fn compare_lists(archives: &[Accepted], disagreements: &mut Vec<String>) {
    let scratch = Scratch::new();
    let write = |(number, (bytes, _)): (usize, &Accepted)| scratch.write(format!("{number}.tar"), bytes);
    let paths: Vec<_> = archives.iter().enumerate().map(write).collect();
    let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
    // libarchive finds no target of a link that only an extended header names.
    let others = listers::listed_by_others(&paths).into_iter().filter(|(reader, _)| *reader != "libarchive");
    for (reader, lists) in others {
        for ((_, ours), theirs) in archives.iter().zip(lists) {
            // A reader that refuses an archive does not unpack anything else.
            let Some(theirs) = theirs.filter(|theirs| theirs != ours) else { continue };
            let place = ours.iter().zip(&theirs).take_while(|(own, their)| own == their).count();
            let (own, their) = (ours.get(place), theirs.get(place));
            disagreements.push(format!("entry {place}: we read {own:?}, {reader} {their:?}"));
        }
    }
}

/// Whether the files of an archive are its entries: each path is there once, and nothing is below a file or link.
fn is_plain(entries: &[Entry]) -> bool {
    let is_name = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.starts_with(b".wh.");
    let is_known = |entry: &Entry| matches!(entry.kind, EntryType::File | EntryType::Directory | EntryType::Symlink);
    let is_apart = |entry: &Entry| {
        let is_below = |other: &&Entry| other.path.starts_with(&[&entry.path[..], b"/"].concat());
        let same = entries.iter().filter(|other| other.path == entry.path).count();
        same == 1 && (entry.kind == EntryType::Directory || entries.iter().filter(is_below).count() == 0)
    };
    entries
        .iter()
        .all(|entry| is_known(entry) && entry.path.split(|&byte| byte == b'/').all(is_name) && is_apart(entry))
}

/// Returns whether umoci unpacks the archive.
fn compare_files((tar, entries): &Accepted, disagreements: &mut Vec<String>) -> bool {
    let scratch = Scratch::new();
    Forged::new(scratch.join("layout")).set_layer(tar, PLAIN, tar);
    let mut umoci = command("umoci");
    umoci.args(["unpack", "--rootless", "--image", "layout:base", "bundle"]).current_dir(scratch.path());
    if run(&mut umoci).status != 0 {
        return false;
    }
    let mut theirs = BTreeMap::new();
    list(&scratch.join("bundle/rootfs"), b"", &mut theirs);
    let mut ours = BTreeMap::new();
    for entry in entries {
        let parents = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (end, _) in parents {
            ours.entry(entry.path[..end].to_vec()).or_insert_with(|| "directory".to_owned());
        }
        let what = match entry.kind {
            EntryType::Directory => "directory".to_owned(),
            EntryType::Symlink => format!("link to {}", entry.link.escape_ascii()),
            _ => format!("file of {}", entry.size),
        };
        ours.insert(entry.path.clone(), what);
    }
    if ours != theirs {
        disagreements.push(format!("we list {entries:?}, umoci unpacks {theirs:?}"));
    }
    true
}

/// Lists the files below a directory, with what they are.
fn list(directory: &Path, prefix: &[u8], files: &mut BTreeMap<Vec<u8>, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = [prefix, entry.file_name().as_bytes()].concat();
        let kind = entry.file_type().unwrap();
        let what = match () {
            () if kind.is_dir() => {
                list(&entry.path(), &[&path[..], b"/"].concat(), files);
                "directory".to_owned()
            }
            () if kind.is_symlink() => {
                format!("link to {}", fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().escape_ascii())
            }
            () => format!("file of {}", entry.metadata().unwrap().len()),
        };
        files.insert(path, what);
    }
}
