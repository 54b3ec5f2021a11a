//! Listing the files of an image.

use super::OutputFormat;
use clap::Args;
use ocibuild::common::error::one_line;
use ocibuild::layers::rootfs::{LayerListing, ListedKind, MergedEntry, MergedFiles};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, ErrorKind, Result, Timestamp};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

/// Which files of an image are listed.
#[derive(Debug, Args)]
pub(super) struct FileArguments {
    /// List everything below the directory
    #[arg(short = 'R', long, help_heading = "Files of an image")]
    recursive: bool,
    /// List the N largest files, the largest first
    #[arg(long, value_name = "N", conflicts_with = "recursive", help_heading = "Files of an image")]
    largest: Option<usize>,
    /// List only what the layer N adds or deletes; the lowest is 1
    #[arg(long, value_name = "N", help_heading = "Files of an image")]
    layer: Option<usize>,
}

/// A line for one file.
type Line = Box<dyn Fn(&MergedEntry) -> String>;

impl FileArguments {
    /// Returns whether a flag asks for files.
    pub(super) fn are_given(&self) -> bool {
        self.recursive || self.largest.is_some() || self.layer.is_some()
    }

    /// Prints the files at or below `path`.
    ///
    /// # Errors
    /// When there is nothing at `path`, a listing is damaged, or standard output cannot be written.
    pub(super) fn print(&self, layers: &[Arc<LayerListing>], path: &str, format: OutputFormat) -> Result<()> {
        let path = ImagePath::new(path.as_bytes())?;
        let layers = match self.layer {
            None => layers,
            Some(number) => match number.checked_sub(1).and_then(|index| layers.get(index)) {
                Some(layer) => std::slice::from_ref(layer),
                None => return Err(Error::usage("--layer", format!("the image has the layers 1 to {}", layers.len()))),
            },
        };
        let first = self.layer.unwrap_or(1);
        let is_wanted = |entry: &MergedEntry| self.is_wanted(entry, path.as_bytes());
        let mut found = false;
        let files = MergedFiles::new(layers).inspect(|entry| {
            found |= entry.as_ref().is_ok_and(|entry| entry.path == path.as_bytes());
        });
        let wanted = files.filter(|entry| entry.as_ref().map_or(true, is_wanted));
        let wanted = wanted.map(|entry| entry.map(|entry| MergedEntry { layer: entry.layer + first, ..entry }));
        match self.largest {
            None => write(wanted, format)?,
            Some(most) => write(largest(wanted, most)?.into_iter().map(Ok), format)?,
        }
        if !found && !path.as_bytes().is_empty() {
            let object = format!("/{}", String::from_utf8_lossy(path.as_bytes()));
            return Err(Error::new(ErrorKind::NotFound, one_line(&object), "is not in the image"));
        }
        Ok(())
    }

    fn is_wanted(&self, entry: &MergedEntry, at: &[u8]) -> bool {
        let below = match at {
            b"" => Some(entry.path.as_slice()).filter(|path| !path.is_empty()),
            at => entry.path.strip_prefix(at).and_then(|rest| rest.strip_prefix(b"/")),
        };
        let is_deep = self.recursive || self.largest.is_some() || self.layer.is_some();
        match below {
            Some(rest) => is_deep || !rest.contains(&b'/'),
            // A file is listed itself, a directory only with what is in it.
            None => entry.path == at && !at.is_empty() && !entry.node.kind.is_directory(),
        }
    }
}

/// Returns the largest of `files`, the largest first.
fn largest(files: impl Iterator<Item = Result<MergedEntry>>, most: usize) -> Result<Vec<MergedEntry>> {
    let mut kept: BinaryHeap<Reverse<(u64, Reverse<Vec<u8>>)>> = BinaryHeap::new();
    let mut entries = std::collections::BTreeMap::new();
    for entry in files {
        let entry = entry?;
        let ListedKind::File { size, .. } = entry.node.kind else { continue };
        kept.push(Reverse((size, Reverse(entry.path.clone()))));
        entries.insert(entry.path.clone(), entry);
        if kept.len() > most
            && let Some(Reverse((_, Reverse(path)))) = kept.pop()
        {
            entries.remove(&path);
        }
    }
    let sorted = kept.into_sorted_vec();
    Ok(sorted.into_iter().filter_map(|Reverse((_, Reverse(path)))| entries.remove(&path)).collect())
}

/// Writes one line for each file, or a JSON array.
fn write(files: impl Iterator<Item = Result<MergedEntry>>, format: OutputFormat) -> Result<()> {
    let (start, between, end, line): (_, _, _, Line) = match format {
        OutputFormat::Text => ("", "\n", "", Box::new(text)),
        OutputFormat::Json => ("[", ",", "]", Box::new(|entry| to_json(entry).to_string())),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = out.write_all(start.as_bytes());
    let mut is_first = true;
    for entry in files {
        let entry = entry?;
        let before = if is_first { "" } else { between };
        is_first = false;
        written = written.and_then(|()| write!(out, "{before}{}", line(&entry)));
        if written.is_err() {
            break;
        }
    }
    let last = if is_first && end.is_empty() { "" } else { "\n" };
    written = written.and_then(|()| write!(out, "{end}{last}")).and_then(|()| out.flush());
    match written {
        // A reader that has gone away has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", error)),
        _ => Ok(()),
    }
}

fn size(entry: &MergedEntry) -> u64 {
    match entry.node.kind {
        ListedKind::File { size, .. } => size,
        _ => 0,
    }
}

fn target(entry: &MergedEntry) -> Option<String> {
    match &entry.node.kind {
        ListedKind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
        ListedKind::HardLink { target } => Some(format!("/{}", String::from_utf8_lossy(target))),
        _ => None,
    }
}

fn kind(kind: &ListedKind) -> (char, &'static str) {
    match kind {
        ListedKind::Directory | ListedKind::ImpliedDirectory => ('d', "directory"),
        ListedKind::File { .. } => ('-', "file"),
        ListedKind::Symlink { .. } => ('l', "symlink"),
        ListedKind::HardLink { .. } => ('h', "hardlink"),
        ListedKind::CharacterDevice => ('c', "character-device"),
        ListedKind::BlockDevice => ('b', "block-device"),
        ListedKind::Fifo => ('p', "fifo"),
    }
}

/// The permission bits as `ls -l` writes them.
fn permissions(mode: u16) -> String {
    let mut text: Vec<char> = "rwxrwxrwx".chars().collect();
    for (place, letter) in text.iter_mut().enumerate() {
        if mode & (0o400 >> place) == 0 {
            *letter = '-';
        }
    }
    for (bit, place, with, without) in [(0o4000, 2, 's', 'S'), (0o2000, 5, 's', 'S'), (0o1000, 8, 't', 'T')] {
        if mode & bit != 0 {
            text[place] = if text[place] == 'x' { with } else { without };
        }
    }
    text.into_iter().collect()
}

fn text(entry: &MergedEntry) -> String {
    let node = &entry.node;
    let arrow = match (&node.kind, target(entry)) {
        (ListedKind::HardLink { .. }, Some(target)) => format!(" link to {target}"),
        (_, Some(target)) => format!(" -> {target}"),
        (_, None) => String::new(),
    };
    let owner = format!("{}:{}", node.uid, node.gid);
    let path = format!("/{}{arrow}", String::from_utf8_lossy(&entry.path));
    let (letter, permissions) = (kind(&node.kind).0, permissions(node.mode));
    let (size, time) = (size(entry), time(node.mtime));
    format!("{letter}{permissions} {owner:>9} {size:>10} {time} {:>3} {}", entry.layer, one_line(&path))
}

fn to_json(entry: &MergedEntry) -> Value {
    let node = &entry.node;
    json!({
        "path": format!("/{}", String::from_utf8_lossy(&entry.path)),
        "type": kind(&node.kind).1,
        "mode": format!("{:04o}", node.mode),
        "uid": node.uid,
        "gid": node.gid,
        "size": size(entry),
        "mtime": node.mtime,
        "target": target(entry),
        "layer": entry.layer,
    })
}

/// The time in UTC, or the seconds since 1970 where no calendar has them.
fn time(seconds: i64) -> String {
    Timestamp::from_seconds(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
