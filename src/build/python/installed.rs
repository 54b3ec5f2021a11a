//! What installers leave in `site-packages`: directories outside of it, and records of installed files.

use super::found::{FoundFile, VirtualEnvironment};
use super::rewrite::{self, mapped};
use crate::common::digest::Digest;
use crate::common::json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::BTreeMap;

/// The deepest document that is read.
const DEPTH: usize = 16;

/// A text with changes, and the directories that it names in the image.
#[derive(Debug, Default)]
pub(super) struct MovedText {
    /// The new text; `None` if nothing changes.
    pub(super) text: Option<Vec<u8>>,
    /// Each directory that is named, as it was and as it becomes.
    pub(super) directories: Vec<(String, String)>,
}

impl MovedText {
    /// Returns the new place of `path`.
    fn moved(&mut self, path: &str, (old, new): (&str, &str)) -> String {
        let moved = mapped(path, old, new).unwrap_or_else(|| path.to_owned());
        self.directories.push((path.to_owned(), moved.clone()));
        moved
    }
}

/// Moves the lines of a `.pth` or `.egg-link` file. Only lines with absolute paths change.
pub(super) fn directories(text: &[u8], place: (&str, &str)) -> MovedText {
    by_line(text, |moved, line| {
        let path = line.trim_end();
        path.starts_with('/').then(|| moved.moved(path, place) + &line[path.len()..])
    })
}

/// Moves the paths of the module that finds the packages of an editable installation (setuptools, `editable_wheel.py`).
pub(super) fn finder(text: &[u8], place: (&str, &str)) -> MovedText {
    by_line(text, |moved, line| {
        let names_paths = line.starts_with("MAPPING") || line.starts_with("NAMESPACES");
        let part = |part: &str| {
            let path = part.trim_end_matches(['\'', '"']);
            let is_quoted = path.len() < part.len();
            match path.starts_with('/') && is_quoted {
                true => moved.moved(path, place) + &part[path.len()..],
                false => part.to_owned(),
            }
        };
        names_paths.then(|| line.split_inclusive(['\'', '"']).map(part).collect())
    })
}

/// Moves a text whose lines become what `new` returns; those for which it returns `None` stay unchanged.
fn by_line(text: &[u8], mut new: impl FnMut(&mut MovedText, &str) -> Option<String>) -> MovedText {
    let mut moved = MovedText::default();
    let Ok(text) = std::str::from_utf8(text) else { return moved };
    let mut changed = String::new();
    for line in text.split_inclusive('\n') {
        match new(&mut moved, line) {
            Some(new) => changed.push_str(&new),
            None => changed.push_str(line),
        }
    }
    moved.text = (changed != text).then(|| changed.into_bytes());
    moved
}

/// Moves the path in a `direct_url.json` (PEP 610). A directory is named only if the installation is editable.
pub(super) fn origin(text: &[u8], place: (&str, &str)) -> MovedText {
    let mut moved = MovedText::default();
    let Ok(document) = json::parse(text, DEPTH, "direct_url.json") else { return moved };
    let Some(path) = document["url"].as_str().and_then(|url| url.strip_prefix("file://")) else { return moved };
    let is_editable = document["dir_info"]["editable"] == Value::Bool(true);
    // A path with escapes stays unchanged: nothing that runs reads it.
    if path.contains('%') || !path.starts_with('/') {
        return moved;
    }
    let new = moved.moved(path, place);
    moved.text = rewrite::replaced(text, path.as_bytes(), new.as_bytes());
    if !is_editable {
        moved.directories.clear();
    }
    moved
}

/// Returns a `RECORD` with the digests and sizes of `changed` files, by their paths in the environment; `None` if it has none of them.
pub(super) fn record(text: &[u8], file: &FoundFile, changed: &BTreeMap<String, Vec<u8>>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let packages = VirtualEnvironment::packages_of(&file.path)?;
    let up = "../".repeat(packages.split('/').count());
    let mut new = String::new();
    for line in text.split_inclusive('\n') {
        let (name, rest) = field(line);
        let path = match name.strip_prefix(&up) {
            Some(path) => path.to_owned(),
            None => format!("{packages}/{name}"),
        };
        match changed.get(&path).filter(|_| rest.starts_with(",sha256=")) {
            Some(content) => {
                let digest = URL_SAFE_NO_PAD.encode(Digest::of(content).as_bytes());
                let end = &line[line.trim_end().len()..];
                let name = &line[..line.len() - rest.len()];
                new.push_str(&format!("{name},sha256={digest},{}{end}", content.len()));
            }
            None => new.push_str(line),
        }
    }
    (new != text).then(|| new.into_bytes())
}

/// Returns the first field of a line of CSV, without quotes, and what follows it.
fn field(line: &str) -> (&str, &str) {
    let quoted = line.strip_prefix('"').and_then(|inner| inner.split_once("\","));
    match quoted {
        Some((name, _)) => (name, &line[name.len() + 2..]),
        None => line.split_at(line.find(',').unwrap_or(line.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (&str, &str) = ("/home/me/p/.venv", "/app/.venv");

    fn text(moved: &MovedText) -> String {
        String::from_utf8(moved.text.clone().unwrap_or_default()).unwrap()
    }

    #[test]
    fn lines_with_directories_are_moved() {
        let moved =
            directories(b"import x; x.y('/home/me/p')\n# /home/me/p\n/home/me/p/src\r\n./rel\n/opt/lib\n", PLACE);
        assert_eq!(text(&moved), "import x; x.y('/home/me/p')\n# /home/me/p\n/app/src\r\n./rel\n/opt/lib\n");
        let pairs = [("/home/me/p/src", "/app/src"), ("/opt/lib", "/opt/lib")];
        assert_eq!(moved.directories, pairs.map(|(old, new)| (old.to_owned(), new.to_owned())));
    }

    #[test]
    fn finders_and_origins_are_moved() {
        let moved = finder(b"# '/home/me/p'\nMAPPING: dict = {'a': '/home/me/p/src/a', 'b': '/x'}\n", PLACE);
        assert_eq!(text(&moved), "# '/home/me/p'\nMAPPING: dict = {'a': '/app/src/a', 'b': '/x'}\n");
        assert_eq!(moved.directories.len(), 2);
        let editable = br#"{"url": "file:///home/me/p", "dir_info": {"editable": true}}"#;
        let moved = origin(editable, PLACE);
        assert_eq!(text(&moved), r#"{"url": "file:///app", "dir_info": {"editable": true}}"#);
        assert_eq!(moved.directories.len(), 1);
        for other in
            [&br#"{"url": "file:///other", "dir_info": {}}"#[..], br#"{"url": "https://x/y.whl"}"#, b"[", b"{}"]
        {
            let moved = origin(other, PLACE);
            assert!(moved.text.is_none() && moved.directories.is_empty());
        }
    }

    #[test]
    fn records_have_the_digests_of_changed_files() {
        let lines =
            "../../../bin/tool,sha256=abc,9\r\na/b.py,sha256=def,1\n\"x,y.pth\",sha256=x,1\na-1.dist-info/RECORD,,\n";
        let path = "lib/python3.11/site-packages/a-1.dist-info/RECORD".to_owned();
        let entry = crate::layers::tree::Entry::test_file("r", b"");
        let place = crate::build::python::found::PlannedEntry { layer: 0, entry: 0 };
        let file = FoundFile { place, path, role: crate::build::python::found::FileRole::Record, entry };
        let changed = [("bin/tool", "new"), ("lib/python3.11/site-packages/x,y.pth", ""), ("bin/other", "")];
        let changed = changed.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into();
        let new = String::from_utf8(record(lines.as_bytes(), &file, &changed).unwrap()).unwrap();
        let expected = "../../../bin/tool,sha256=EVB6Di9eadXfpApiob17buV-a82FxnybhDGzb_8hxDc,3\r\na/b.py,sha256=def,1\n\
            \"x,y.pth\",sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\na-1.dist-info/RECORD,,\n";
        assert_eq!(new, expected);
        assert_eq!(record(b"a,sha256=x,1\n", &file, &changed), None);
    }
}
