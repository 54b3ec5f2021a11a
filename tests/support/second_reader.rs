//! The crate oci-spec as a second reader of the program's output: it shares no code with the program.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Reads every document of the images that an `ocibuild layout` has just built; `stdout` is its output.
#[track_caller]
pub(super) fn read_built_image(command: &Command, stdout: &[u8]) {
    let Some(layout) = built_layout(command) else { return };
    for digest in stdout.split(|byte| *byte == b'\n').filter_map(printed_digest) {
        read_listed_image(&layout, &digest);
    }
}

#[track_caller]
fn read_listed_image(layout: &Path, digest: &str) {
    let index: ImageIndex = read(&layout.join("index.json"));
    let listed = index.manifests().iter().find(|listed| listed.digest().as_ref() == digest);
    let listed = listed.unwrap_or_else(|| panic!("{}: index.json does not list {digest}", layout.display()));
    if *listed.media_type() == MediaType::ImageIndex {
        let index: ImageIndex = read(&blob(layout, listed.digest().as_ref()));
        index.manifests().iter().for_each(|image| read_image(layout, image));
    } else {
        read_image(layout, listed);
    }
}

#[track_caller]
fn read_image(layout: &Path, listed: &Descriptor) {
    let manifest_file = blob(layout, listed.digest().as_ref());
    assert_eq!(listed.size(), std::fs::metadata(&manifest_file).unwrap().len());
    let manifest: ImageManifest = read(&manifest_file);
    let config = blob(layout, manifest.config().digest().as_ref());
    if has_odd_history(&config) {
        return;
    }
    let config: ImageConfiguration = read(&config);
    assert_eq!(config.rootfs().diff_ids().len(), manifest.layers().len(), "{}", listed.digest());
}

/// Reads `file`, and asserts that the parsed document has the same members with the same values.
#[track_caller]
fn read<T: Serialize + DeserializeOwned>(file: &Path) -> T {
    let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let read = T::deserialize(&document).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(holds(&document, &serde_json::to_value(&read).unwrap()), "oci-spec reads {document:#} differently");
    read
}

/// Returns whether the history, which may come from a foreign base, has members of other types than config.md specifies:
/// oci-spec refuses those.
fn has_odd_history(config: &Path) -> bool {
    let document: Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let is_plain = |entry: &Value| {
        let mut members = entry.as_object().into_iter().flatten();
        entry.is_object() && members.all(|(_, value)| value.is_string() || value.is_boolean())
    };
    document["history"].as_array().is_some_and(|history| !history.iter().all(is_plain))
}

/// Returns whether `document` has every member of `part`. The document of a foreign base may have more.
fn holds(document: &Value, part: &Value) -> bool {
    match (document, part) {
        (Value::Object(document), Value::Object(part)) => {
            part.iter().all(|(key, value)| document.get(key).is_some_and(|found| holds(found, value)))
        }
        (Value::Array(document), Value::Array(part)) => {
            document.len() == part.len() && document.iter().zip(part).all(|(document, part)| holds(document, part))
        }
        _ => document == part,
    }
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replacen(':', "/", 1))
}

/// Returns the layout directory on a command line of the program.
fn built_layout(command: &Command) -> Option<PathBuf> {
    if command.get_program() != OsStr::new(env!("CARGO_BIN_EXE_ocibuild")) {
        return None;
    }
    let mut arguments = command.get_args();
    let output = (arguments.next()? == "layout").then(|| arguments.next())??;
    let directory = command.get_current_dir().unwrap_or(Path::new("")).join(output);
    directory.join("index.json").is_file().then_some(directory)
}

/// Returns the digest in a line of standard output, in either format; `None` after `--dry-run`.
fn printed_digest(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?.trim_end();
    let digest = match serde_json::from_str::<Value>(text) {
        Ok(document) => document["digest"].as_str()?.to_owned(),
        Err(_) => text.to_owned(),
    };
    digest.starts_with("sha256:").then_some(digest)
}

mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_member_that_reads_differently_is_seen() {
        let document = json!({"a": [1, {"b": 2}], "more": 3});
        assert!(holds(&document, &json!({"a": [1, {"b": 2}]})));
        for other in [json!({"a": [1, {"b": 3}]}), json!({"a": [1]}), json!({"c": 1})] {
            assert!(!holds(&document, &other), "{other}");
        }
    }
}
