//! The differences between two images, for programs.

use super::found_difference::FoundDifference;
use super::image_files::{kind, target};
use ocibuild::common::digest::hex;
use ocibuild::layers::difference::{ComparedFile, FileDifference, LayerChange, LayerDifference, MemberDifference};
use ocibuild::layers::rootfs::ListedKind;
use ocibuild::spec::Descriptor;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Writes an array with one object for each difference, as they come.
#[derive(Debug, Default)]
pub(super) struct JsonDifferences {
    platform: Option<String>,
    is_begun: bool,
}

impl JsonDifferences {
    fn add(&mut self, mut difference: Value, out: &mut dyn Write) -> io::Result<()> {
        difference["platform"] = json!(self.platform);
        let before = if self.is_begun { "," } else { "[" };
        self.is_begun = true;
        write!(out, "{before}{difference}")
    }
}

/// Returns the word for a difference that only one of two images has, or both.
fn change<T>(before: &Option<T>, after: &Option<T>) -> &'static str {
    match (before, after) {
        (None, Some(_)) => "added",
        (Some(_), None) => "removed",
        _ => "changed",
    }
}

impl JsonDifferences {
    pub(super) fn write(&mut self, found: &FoundDifference<'_>, out: &mut dyn Write) -> io::Result<()> {
        match found {
            FoundDifference::Platform(platform) => self.platform = Some((*platform).to_owned()),
            FoundDifference::Member(member) => self.member(member, out)?,
            FoundDifference::Layer(layer) => self.layer(layer, out)?,
            FoundDifference::Unreadable(reason) => {
                self.add(json!({"part": "files", "change": "unread", "name": reason}), out)?;
            }
            FoundDifference::File(file) => self.file(file, out)?,
        }
        Ok(())
    }

    fn member(&mut self, member: &MemberDifference, out: &mut dyn Write) -> io::Result<()> {
        let difference = json!({
            "part": member.part.name(),
            "change": change(&member.before, &member.after),
            "name": member.name,
            "before": member.before,
            "after": member.after,
        });
        self.add(difference, out)
    }

    fn layer(&mut self, layer: &LayerDifference, out: &mut dyn Write) -> io::Result<()> {
        let change = match layer.change {
            LayerChange::Same => "same",
            LayerChange::Changed => "changed",
            LayerChange::Moved => "moved",
            LayerChange::Added => "added",
            LayerChange::Removed => "removed",
        };
        let describe = |side: &Option<(usize, Descriptor)>| {
            side.as_ref().map(|(place, layer)| {
                json!({
                    "layer": place + 1,
                    "digest": layer.digest.to_string(),
                    "size": layer.size,
                    "mediaType": layer.media_type,
                })
            })
        };
        let reasons = layer.reasons.iter().map(|reason| json!({"what": reason.what.name(), "detail": reason.detail}));
        let difference = json!({
            "part": "layer",
            "change": change,
            "before": describe(&layer.before),
            "after": describe(&layer.after),
            "reasons": reasons.collect::<Value>(),
        });
        self.add(difference, out)
    }

    fn file(&mut self, file: &FileDifference, out: &mut dyn Write) -> io::Result<()> {
        let difference = json!({
            "part": "file",
            "change": change(&file.before, &file.after),
            "name": format!("/{}", String::from_utf8_lossy(&file.path)),
            "what": file.what.iter().map(|aspect| aspect.name()).collect::<Value>(),
            "before": file.before.as_ref().map(state),
            "after": file.after.as_ref().map(state),
        });
        self.add(difference, out)
    }

    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}]", if self.is_begun { "" } else { "[" })
    }
}

fn state(state: &ComparedFile) -> Value {
    let node = &state.entry.node;
    let size = match node.kind {
        ListedKind::File { size, .. } => size,
        _ => 0,
    };
    let xattrs =
        node.xattrs.iter().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), hex(value).into()));
    json!({
        "type": kind(&node.kind).1,
        "mode": format!("{:04o}", node.mode),
        "uid": node.uid,
        "gid": node.gid,
        "size": size,
        "mtime": node.mtime,
        "target": target(node),
        "xattrs": Value::Object(xattrs.collect()),
        "digest": state.content.map(|content| format!("sha256:{}", hex(&content))),
        "layer": state.entry.layer + 1,
    })
}
