//! Listing the files of an image.

use super::OutputFormat;
use super::output::write_stdout;
use clap::Args;
use ocibuild::common::error::one_line;
use ocibuild::layers::rootfs::{LayerListing, ListedEntry, ListedKind, ListedNode, MergedFiles};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, ErrorKind, Result, Timestamp};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Which files of an image are listed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files of an image")]
pub(super) struct FileArguments {
    /// List everything below the directory
    #[arg(short = 'R', long)]
    recursive: bool,
    /// List the N largest files, the largest first
    #[arg(long, value_name = "N", conflicts_with = "recursive", value_parser = super::positive)]
    largest: Option<NonZeroUsize>,
    /// List everything that the layer N adds or deletes; the lowest is 1
    #[arg(long, value_name = "N", conflicts_with = "recursive", value_parser = super::positive)]
    layer: Option<NonZeroUsize>,
}

/// What a line is about.
struct Row {
    /// The path, without a leading slash.
    path: Vec<u8>,
    content: RowContent,
    /// The layer, from 1.
    layer: usize,
}

enum RowContent {
    /// A file, directory, link or device.
    Node(ListedNode),
    /// The layer deletes the path.
    Whiteout,
    /// The layer hides what the layers below have in the directory.
    Opaque,
}

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
        let Some(number) = self.layer else {
            let files = MergedFiles::new(layers);
            let rows = files.map(|entry| {
                entry.map(|entry| Row {
                    path: entry.path,
                    content: RowContent::Node(entry.node),
                    layer: entry.layer + 1,
                })
            });
            return self.print_rows(rows, &path, format);
        };
        let Some(layer) = layers.get(number.get() - 1) else {
            return Err(Error::usage("--layer", format!("the image has the layers 1 to {}", layers.len())));
        };
        let rows = layer.entries().flat_map(|entry| match entry {
            Ok(entry) => rows_of(entry, number.get()).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        });
        self.print_rows(rows, &path, format)
    }

    fn print_rows(
        &self,
        rows: impl Iterator<Item = Result<Row>>,
        path: &ImagePath,
        format: OutputFormat,
    ) -> Result<()> {
        let at = path.as_bytes();
        let mut found = at.is_empty();
        let rows = rows.inspect(|row| found |= row.as_ref().is_ok_and(|row| is_at_or_below(row, at)));
        let wanted = rows.filter(|row| row.as_ref().map_or(true, |row| self.is_wanted(row, at)));
        match self.largest {
            None => write(wanted, format)?,
            Some(most) => write(largest(wanted, most.get())?.into_iter().map(Ok), format)?,
        }
        match found {
            true => Ok(()),
            false => {
                let place = if self.layer.is_some() { "is not in the layer" } else { "is not in the image" };
                Err(Error::new(ErrorKind::NotFound, one_line(&path.to_string()), place))
            }
        }
    }

    fn is_wanted(&self, row: &Row, at: &[u8]) -> bool {
        // A file is listed itself, a directory only with what is in it.
        let is_file = match &row.content {
            RowContent::Node(node) => !node.kind.is_directory(),
            RowContent::Whiteout | RowContent::Opaque => true,
        };
        if row.path == at {
            return self.layer.is_some() || (is_file && !at.is_empty());
        }
        let name = if at.is_empty() { 0 } else { at.len() + 1 };
        is_at_or_below(row, at) && (self.are_given() || !row.path[name..].contains(&b'/'))
    }
}

fn is_at_or_below(row: &Row, at: &[u8]) -> bool {
    at.is_empty() || row.path.strip_prefix(at).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// Returns what a layer does at a path. A directory that only other paths imply is nothing that it does.
fn rows_of(entry: ListedEntry, layer: usize) -> Vec<Row> {
    let ListedEntry { path, node, is_whiteout, is_opaque, .. } = entry;
    let node = node.filter(|node| node.kind != ListedKind::ImpliedDirectory);
    let contents = [
        is_whiteout.then_some(RowContent::Whiteout),
        is_opaque.then_some(RowContent::Opaque),
        node.map(RowContent::Node),
    ];
    contents.into_iter().flatten().map(|content| Row { path: path.clone(), content, layer }).collect()
}

/// Returns the largest files of `rows`, the largest first.
fn largest(rows: impl Iterator<Item = Result<Row>>, most: usize) -> Result<Vec<Row>> {
    let mut kept: BTreeMap<(Reverse<u64>, Vec<u8>), Row> = BTreeMap::new();
    for row in rows {
        let row = row?;
        let RowContent::Node(ListedNode { kind: ListedKind::File { size, .. }, .. }) = row.content else { continue };
        kept.insert((Reverse(size), row.path.clone()), row);
        if kept.len() > most {
            kept.pop_last();
        }
    }
    Ok(kept.into_values().collect())
}

/// Writes one line for each row, or a JSON array.
fn write(mut rows: impl Iterator<Item = Result<Row>>, format: OutputFormat) -> Result<()> {
    write_stdout(|out| match format {
        OutputFormat::Text => rows.try_for_each(|row| writeln!(out, "{}", text(&row?))),
        OutputFormat::Json => {
            let mut before = "[";
            for row in rows {
                write!(out, "{before}{}", to_json(&row?))?;
                before = ",";
            }
            writeln!(out, "{}]", if before == "[" { "[" } else { "" })
        }
    })
}

fn size(node: &ListedNode) -> u64 {
    match node.kind {
        ListedKind::File { size, .. } => size,
        _ => 0,
    }
}

/// Returns the target of a link.
pub(super) fn target(node: &ListedNode) -> Option<String> {
    match &node.kind {
        ListedKind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
        ListedKind::HardLink { target } => Some(format!("/{}", String::from_utf8_lossy(target))),
        _ => None,
    }
}

/// Returns the kind, as `ls -l` writes it and in JSON.
pub(super) fn kind(kind: &ListedKind) -> (char, &'static str) {
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

fn text(row: &Row) -> String {
    let path = format!("/{}", String::from_utf8_lossy(&row.path));
    let node = match &row.content {
        RowContent::Node(node) => node,
        RowContent::Whiteout => return without_node("w", &row.layer, &path),
        RowContent::Opaque => return without_node("o", &row.layer, &path),
    };
    let path = match (&node.kind, target(node)) {
        (ListedKind::HardLink { .. }, Some(target)) => format!("{path} link to {target}"),
        (_, Some(target)) => format!("{path} -> {target}"),
        (_, None) => path,
    };
    let (letter, permissions) = (kind(&node.kind).0, permissions(node.mode));
    let (owner, size, time) = (format!("{}:{}", node.uid, node.gid), size(node), time(node.mtime));
    format!("{letter}{permissions} {owner:>9} {size:>10} {time} {:>3} {}", row.layer, one_line(&path))
}

/// Returns the line of a whiteout, with the columns of a file.
fn without_node(letter: &str, layer: &usize, path: &str) -> String {
    format!("{letter:<10} {0:>9} {0:>10} {0:<20} {layer:>3} {1}", "-", one_line(path))
}

fn to_json(row: &Row) -> Value {
    let path = format!("/{}", String::from_utf8_lossy(&row.path));
    match &row.content {
        RowContent::Node(node) => json!({
            "path": path,
            "type": kind(&node.kind).1,
            "mode": format!("{:04o}", node.mode),
            "uid": node.uid,
            "gid": node.gid,
            "size": size(node),
            "mtime": node.mtime,
            "target": target(node),
            "layer": row.layer,
        }),
        RowContent::Whiteout => json!({"path": path, "type": "whiteout", "layer": row.layer}),
        RowContent::Opaque => json!({"path": path, "type": "opaque", "layer": row.layer}),
    }
}

/// The time in UTC, or the seconds since 1970 where no calendar has them.
pub(super) fn time(seconds: i64) -> String {
    Timestamp::from_seconds(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
