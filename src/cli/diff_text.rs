//! The differences between two images, for people.

use super::found_difference::{FoundDifference, is_unread};
use super::image_files::{kind, target, time};
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::layers::difference::{
    ComparedFile, FileAspect, FileDifference, LayerChange, LayerDifference, LayerReason, MemberDifference,
};
use ocibuild::layers::rootfs::ListedKind;
use ocibuild::spec::Descriptor;
use serde_json::Value;
use std::io::{self, Write};

/// The most characters of a value that are printed.
const MOST_CHARACTERS: usize = 200;
/// The characters of a digest that are printed.
const SHORT_DIGEST: usize = "sha256:".len() + 12;

/// Writes a line for each difference, below headings, and at the end how many there are.
#[derive(Debug)]
pub(super) struct TextDifferences {
    detail: TextDetail,
    /// The heading of the last line.
    heading: String,
    numbers: DifferenceNumbers,
}

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextDetail {
    Nothing,
    Numbers,
    /// Every difference, but at most so many files.
    Files(usize),
}

/// The numbers of differences.
#[derive(Debug, Default)]
struct DifferenceNumbers {
    members: usize,
    same_layers: usize,
    same_size: u64,
    other_layers: usize,
    /// Layers of both images whose files might matter.
    unread_layers: usize,
    files: [usize; 3],
    /// The change of the size of all files, in bytes.
    size: i128,
}

impl TextDifferences {
    fn new(detail: TextDetail) -> TextDifferences {
        TextDifferences { detail, heading: String::new(), numbers: DifferenceNumbers::default() }
    }

    /// Prints nothing.
    pub(super) fn silent() -> TextDifferences {
        TextDifferences::new(TextDetail::Nothing)
    }

    /// Prints only the numbers.
    pub(super) fn only_numbers() -> TextDifferences {
        TextDifferences::new(TextDetail::Numbers)
    }

    /// Prints every difference, but of the files at most `limit`; 0 is no limit.
    pub(super) fn with_files(limit: usize) -> TextDifferences {
        TextDifferences::new(TextDetail::Files(if limit == 0 { usize::MAX } else { limit }))
    }

    fn is_printed(&self) -> bool {
        matches!(self.detail, TextDetail::Files(_))
    }

    /// Prints a line below `heading`.
    fn line(&mut self, heading: &str, line: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.heading != heading {
            writeln!(out, "{heading}")?;
            heading.clone_into(&mut self.heading);
        }
        writeln!(out, "  {}", one_line(line))
    }
}

fn sign<T>(before: &Option<T>, after: &Option<T>) -> char {
    match (before, after) {
        (None, Some(_)) => '+',
        (Some(_), None) => '-',
        _ => '~',
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

impl TextDifferences {
    pub(super) fn write(&mut self, found: &FoundDifference<'_>, out: &mut dyn Write) -> io::Result<()> {
        match found {
            FoundDifference::Platform(platform) => self.platform(platform, out),
            FoundDifference::Member(member) => self.member(member, out),
            FoundDifference::Layer(layer) => self.layer(layer, out),
            FoundDifference::Unreadable(reason) => self.unreadable(reason, out),
            FoundDifference::File(file) => self.file(file, out),
        }
    }

    fn platform(&mut self, platform: &str, out: &mut dyn Write) -> io::Result<()> {
        self.heading.clear();
        if self.is_printed() { writeln!(out, "{}:", one_line(platform)) } else { Ok(()) }
    }

    fn member(&mut self, member: &MemberDifference, out: &mut dyn Write) -> io::Result<()> {
        self.numbers.members += 1;
        if !self.is_printed() {
            return Ok(());
        }
        let (before, after) = (&member.before, &member.after);
        let value = match (before, after) {
            (Some(before), Some(after)) => format!(": {} -> {}", shortened(before), shortened(after)),
            (Some(one), None) | (None, Some(one)) => format!(": {}", shortened(one)),
            (None, None) => String::new(),
        };
        self.line(member.part.name(), &format!("{} {}{value}", sign(before, after), member.name), out)
    }

    fn layer(&mut self, layer: &LayerDifference, out: &mut dyn Write) -> io::Result<()> {
        let own_size = |side: &Option<(usize, Descriptor)>| side.as_ref().map_or(0, |(_, layer)| layer.size);
        match layer.change {
            LayerChange::Same => {
                self.numbers.same_layers += 1;
                self.numbers.same_size += own_size(&layer.after);
            }
            _ => self.numbers.other_layers += 1,
        }
        self.numbers.unread_layers += usize::from(is_unread(layer));
        // Of what both images have the number is printed at the end.
        let is_one_of_many = layer.change == LayerChange::Same && layer.reasons.is_empty();
        if !self.is_printed() || is_one_of_many {
            return Ok(());
        }
        let sign = match layer.change {
            LayerChange::Same => '=',
            LayerChange::Added => '+',
            LayerChange::Removed => '-',
            LayerChange::Changed | LayerChange::Moved => '~',
        };
        let place = |side: &Option<(usize, Descriptor)>| side.as_ref().map(|(place, _)| (place + 1).to_string());
        let name = match (place(&layer.before), place(&layer.after)) {
            (Some(before), Some(after)) if before != after => format!("layer {before} -> {after}"),
            (one, other) => format!("layer {}", one.or(other).unwrap_or_default()),
        };
        let describe = |side: &Option<(usize, Descriptor)>| {
            side.as_ref().map(|(_, layer)| {
                let digest: String = layer.digest.to_string().chars().take(SHORT_DIGEST).collect();
                format!("{digest} {}", size(layer.size))
            })
        };
        let blobs = match (describe(&layer.before), describe(&layer.after)) {
            (Some(before), Some(after)) if before != after => format!("{before} -> {after}"),
            (one, other) => one.or(other).unwrap_or_default(),
        };
        self.line("layers", &format!("{sign} {name}: {blobs}"), out)?;
        if layer.change == LayerChange::Moved {
            self.line("layers", "      place in the image", out)?;
        }
        layer.reasons.iter().try_for_each(|reason| self.line("layers", &format!("      {}", because(reason)), out))
    }

    fn unreadable(&mut self, reason: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.is_printed() { self.line("files", &format!("not compared: {reason}"), out) } else { Ok(()) }
    }

    fn file(&mut self, file: &FileDifference, out: &mut dyn Write) -> io::Result<()> {
        let place = match (&file.before, &file.after) {
            (None, _) => 0,
            (_, None) => 1,
            _ => 2,
        };
        self.numbers.files[place] += 1;
        let length = |state: &Option<ComparedFile>| i128::from(state.as_ref().map_or(0, length));
        self.numbers.size += length(&file.after) - length(&file.before);
        match self.detail {
            TextDetail::Files(limit) if self.numbers.files.iter().sum::<usize>() <= limit => {
                self.line("files", &file_line(file), out)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let numbers = &self.numbers;
        let [added, removed, changed] = numbers.files;
        if let TextDetail::Files(limit) = self.detail
            && let Some(more) = (added + removed + changed).checked_sub(limit).filter(|more| *more > 0)
        {
            writeln!(out, "  … and {more} more; --limit 0 prints all of them")?;
        }
        let differences = numbers.members + numbers.other_layers + numbers.unread_layers + added + removed + changed;
        if self.detail == TextDetail::Nothing || differences == 0 {
            return Ok(());
        }
        let sum = match numbers.size {
            0 => String::new(),
            sum => {
                let bytes = size(u64::try_from(sum.unsigned_abs()).unwrap_or(u64::MAX));
                format!(" ({}{bytes})", if sum < 0 { '-' } else { '+' })
            }
        };
        let same = format!("{} the same ({})", numbers.same_layers, size(numbers.same_size));
        let unread = match numbers.unread_layers {
            0 => String::new(),
            unread => format!(", {unread} not read"),
        };
        let (members, other) = (counted(numbers.members, "member"), numbers.other_layers);
        let files = format!("{added} added, {removed} removed, {changed} changed");
        writeln!(out, "documents: {members}; layers: {same}, {other} different{unread}; files: {files}{sum}")
    }
}

fn because(reason: &LayerReason) -> String {
    let what = reason.what.description();
    if reason.detail.is_empty() { what.to_owned() } else { format!("{what}: {}", reason.detail) }
}

fn length(state: &ComparedFile) -> u64 {
    match state.entry.node.kind {
        ListedKind::File { size, .. } => size,
        _ => 0,
    }
}

fn file_line(file: &FileDifference) -> String {
    let path = format!("/{}", String::from_utf8_lossy(&file.path));
    match (&file.before, &file.after) {
        (Some(before), Some(after)) => {
            let aspects: Vec<String> = file.what.iter().map(|aspect| aspect_line(*aspect, before, after)).collect();
            format!("~ {path}  {}", aspects.join(", "))
        }
        (one, other) => {
            let described = one.as_ref().or(other.as_ref()).map(described).unwrap_or_default();
            format!("{} {path}  {described}", sign(one, other))
        }
    }
}

/// Returns the kind of a file, and what belongs to it.
fn described(state: &ComparedFile) -> String {
    let node = &state.entry.node;
    let name = kind(&node.kind).1;
    match (&node.kind, target(node)) {
        (ListedKind::File { size: length, .. }, _) => format!("{name}, {}", size(*length)),
        (_, Some(target)) => format!("{name} to {target}"),
        (_, None) => name.to_owned(),
    }
}

fn aspect_line(aspect: FileAspect, before: &ComparedFile, after: &ComparedFile) -> String {
    let (one, other) = (&before.entry.node, &after.entry.node);
    let pair = |one: String, other: String| format!("{} {one} -> {other}", aspect.name());
    match aspect {
        FileAspect::Kind => pair(described(before), described(after)),
        FileAspect::Content if length(before) == length(after) => format!("content ({})", size(length(after))),
        FileAspect::Content => pair(size(length(before)), size(length(after))),
        FileAspect::Target => pair(target(one).unwrap_or_default(), target(other).unwrap_or_default()),
        FileAspect::Mode => pair(format!("{:04o}", one.mode), format!("{:04o}", other.mode)),
        FileAspect::Owner => pair(format!("{}:{}", one.uid, one.gid), format!("{}:{}", other.uid, other.gid)),
        FileAspect::Time if one.mtime == other.mtime => format!("time (fraction of the second {})", time(one.mtime)),
        FileAspect::Time => pair(time(one.mtime), time(other.mtime)),
        FileAspect::Xattrs => {
            let names = one.xattrs.iter().chain(other.xattrs.iter());
            let names = names.filter(|xattr| !(one.xattrs.contains(xattr) && other.xattrs.contains(xattr)));
            let mut names: Vec<_> = names.map(|(name, _)| String::from_utf8_lossy(name)).collect();
            names.dedup();
            format!("xattrs {}", names.join(", "))
        }
        FileAspect::Device => "device numbers".to_owned(),
        FileAspect::Entry => {
            let has_entry = |kind: &ListedKind| if *kind == ListedKind::Directory { "has one" } else { "none" };
            format!("entry of the directory {} -> {}", has_entry(&one.kind), has_entry(&other.kind))
        }
    }
}
