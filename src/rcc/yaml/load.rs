//! Parses bytes into the tree of a document.

use super::{ALIAS_LIMIT, DEPTH_LIMIT, Quoting, Scalar, SourcePosition, Value, YamlDocument, YamlKey, YamlNode, plain};
use crate::common::error::{Error, Result};
use crate::common::limits::{Limit, MostBytes};
use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Parses the only document in `bytes`, which messages call `name`.
///
/// # Errors
/// Returns an error if `bytes` is larger than [`Limit::YamlSize`], not UTF-8 or not YAML, holds a second document, a
/// duplicate key, a tag other than those of text, lists and maps, nests deeper than [`DEPTH_LIMIT`], or its aliases
/// expand to more than [`ALIAS_LIMIT`] nodes.
pub(crate) fn load(bytes: &[u8], name: &str) -> Result<YamlDocument> {
    MostBytes::from(Limit::YamlSize).check(bytes.len() as u64, name)?;
    let text = utf8(bytes, name)?;
    let mut options = Options::default();
    options.flow_nesting_limit = DEPTH_LIMIT;
    options.block_nesting_limit = DEPTH_LIMIT;
    let mut loader = Loader { name, frames: Vec::new(), anchors: HashMap::new(), aliased: 0, root: None };
    let mut documents = 0;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| not_yaml(name, &error))?;
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                return Err(loader.error(start(&span), "more than one document"));
            }
        }
        loader.take(event, &span)?;
    }
    let empty = || YamlNode { at: SourcePosition { line: 1, column: 1 }, value: plain_scalar(""), weight: 1 };
    let root = match loader.root {
        Some(root) => Rc::into_inner(root).unwrap_or_else(empty),
        None => empty(),
    };
    Ok(YamlDocument { name: name.to_owned(), root })
}

fn utf8<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Error::invalid(name, "not UTF-8 but UTF-16").hint("save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::invalid(name, format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    // YAML 1.1 breaks lines at these, YAML 1.2 does not: two readers would see two documents.
    if let Some(at) = text.find(['\u{85}', '\u{2028}', '\u{2029}']) {
        return Err(Error::invalid(name, format!("a line separator of Unicode at byte {at}")));
    }
    Ok(text)
}

fn not_yaml(name: &str, error: &ScanError) -> Error {
    let at = position(error.marker());
    let reason = match error.kind() {
        ErrorKind::RecursionLimitExceeded => format!("nesting deeper than {DEPTH_LIMIT}"),
        _ => format!("not YAML: {}", error.info()),
    };
    Error::invalid(format!("{name}:{at}"), reason)
}

fn start(span: &Span) -> SourcePosition {
    position(&span.start)
}

fn position(marker: &granit_parser::Marker) -> SourcePosition {
    SourcePosition { line: marker.line(), column: marker.col() + 1 }
}

fn plain_scalar(text: &str) -> Value {
    Value::Scalar(Scalar { text: text.to_owned(), quoting: Quoting::Plain })
}

/// Builds the tree without recursion.
struct Loader<'n> {
    name: &'n str,
    /// The open collections, outermost first.
    frames: Vec<Frame>,
    anchors: HashMap<usize, Rc<YamlNode>>,
    /// The number of nodes that aliases have added.
    aliased: usize,
    root: Option<Rc<YamlNode>>,
}

struct Frame {
    at: SourcePosition,
    anchor: usize,
    weight: usize,
    collection: YamlCollection,
}

enum YamlCollection {
    Sequence(Vec<Rc<YamlNode>>),
    Mapping(Mapping),
}

/// A mapping that is being built.
#[derive(Default)]
struct Mapping {
    entries: Vec<(YamlKey, Rc<YamlNode>)>,
    /// The position of the first occurrence of each key.
    written: HashMap<String, SourcePosition>,
    /// Entries merged with `<<`; the mapping's own keys take precedence.
    merged: Vec<(YamlKey, Rc<YamlNode>)>,
    pending: Option<YamlKey>,
    is_merge: bool,
}

impl Loader<'_> {
    fn error(&self, at: SourcePosition, reason: impl Into<String>) -> Error {
        Error::invalid(format!("{}:{at}", self.name), reason)
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<()> {
        let at = start(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if text.contains(['\u{2028}', '\u{2029}']) {
                    return Err(self.error(at, "a line separator of Unicode"));
                }
                if text.contains('\0') {
                    return Err(self.error(at, "a NUL character"));
                }
                let tagged = self.check_tag(tag, span, "str")?;
                let quoting = match style {
                    ScalarStyle::Plain if !tagged => Quoting::Plain,
                    _ => Quoting::Text,
                };
                let value = Value::Scalar(Scalar { text: text.into_owned(), quoting });
                self.complete(Rc::new(YamlNode { at, value, weight: 1 }), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag, span, "seq")?;
                self.open(at, anchor, YamlCollection::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag, span, "map")?;
                self.open(at, anchor, YamlCollection::Mapping(Mapping::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error(at, "a recursive alias"));
                };
                self.aliased = self.aliased.saturating_add(node.weight);
                if self.aliased > ALIAS_LIMIT {
                    return Err(
                        self.error(at, format!("too many aliases: they expand to more than {ALIAS_LIMIT} nodes"))
                    );
                }
                self.complete(node, 0)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether there is a tag, which must be YAML's own tag `allowed`.
    fn check_tag(&self, tag: Option<Cow<'_, Tag>>, span: &Span, allowed: &str) -> Result<bool> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.core_suffix() == Some(allowed) => Ok(true),
            Some(tag) => {
                let at = span.tag_start().map_or(start(span), |marker| position(&marker));
                Err(self.error(at, format!("unsupported tag `{}`", tag.original())))
            }
        }
    }

    fn open(&mut self, at: SourcePosition, anchor: usize, collection: YamlCollection) -> Result<()> {
        if self.frames.len() >= DEPTH_LIMIT {
            return Err(self.error(at, format!("nesting deeper than {DEPTH_LIMIT}")));
        }
        self.frames.push(Frame { at, anchor, weight: 1, collection });
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(Frame { at, anchor, weight, collection }) = self.frames.pop() else { return Ok(()) };
        let value = match collection {
            YamlCollection::Sequence(items) => Value::Sequence(items),
            YamlCollection::Mapping(mapping) => Value::Mapping(mapping.finish()),
        };
        self.complete(Rc::new(YamlNode { at, value, weight }), anchor)
    }

    /// Adds a complete node to its parent.
    fn complete(&mut self, node: Rc<YamlNode>, anchor: usize) -> Result<()> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.frames.last_mut() else {
            // The root must have no other owners at the end; an anchor on it can never be used.
            self.anchors.clear();
            self.root = Some(node);
            return Ok(());
        };
        frame.weight = frame.weight.saturating_add(node.weight);
        let placed = match &mut frame.collection {
            YamlCollection::Sequence(items) => {
                items.push(node);
                Ok(())
            }
            YamlCollection::Mapping(mapping) => mapping.push(node),
        };
        placed.map_err(|(at, reason)| self.error(at, reason))
    }
}

impl Mapping {
    fn push(&mut self, node: Rc<YamlNode>) -> Result<(), (SourcePosition, String)> {
        match self.pending.take() {
            None => self.push_key(&node),
            Some(key) if self.is_merge => self.merge(&key, &node),
            Some(key) => {
                self.entries.push((key, node));
                Ok(())
            }
        }
    }

    fn push_key(&mut self, node: &YamlNode) -> Result<(), (SourcePosition, String)> {
        let Value::Scalar(Scalar { text, quoting }) = &node.value else {
            return Err((node.at, "a key that is a list or a map".to_owned()));
        };
        self.is_merge = *quoting == Quoting::Plain && plain::is_merge(text);
        if let Some(first) = self.written.insert(text.clone(), node.at) {
            return Err((node.at, format!("duplicate key `{text}` (first in line {})", first.line)));
        }
        self.pending = Some(YamlKey { text: text.clone(), at: node.at });
        Ok(())
    }

    /// Merges the maps that `<<` names. A key of this mapping takes precedence, then that of the earlier of several
    /// maps.
    fn merge(&mut self, key: &YamlKey, node: &YamlNode) -> Result<(), (SourcePosition, String)> {
        if !self.entries.is_empty() {
            // In go-yaml a late `<<` overrides the entries before it; in the specification it does not.
            return Err((key.at, "`<<` must come first in its map".to_owned()));
        }
        let maps: Vec<&YamlNode> = match &node.value {
            Value::Mapping(_) => vec![node],
            Value::Sequence(items) => items.iter().map(|item| &**item).collect(),
            Value::Scalar(_) => Vec::new(),
        };
        if maps.is_empty() {
            return Err((node.at, "`<<` must name a map or a list of maps".to_owned()));
        }
        let mut taken = HashSet::new();
        for map in maps {
            let Value::Mapping(entries) = &map.value else {
                return Err((map.at, "`<<` must name a map or a list of maps".to_owned()));
            };
            for (key, value) in entries {
                if taken.insert(key.text.clone()) {
                    self.merged.push((key.clone(), value.clone()));
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<(YamlKey, Rc<YamlNode>)> {
        let written = self.written;
        self.merged.retain(|(key, _)| !written.contains_key(&key.text));
        self.merged.append(&mut self.entries);
        self.merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::yaml::plain::ScalarType;

    fn refusal(text: &str) -> String {
        load(text.as_bytes(), "x.yaml").unwrap_err().to_string()
    }

    fn loaded(text: &str) -> YamlDocument {
        load(text.as_bytes(), "x.yaml").unwrap()
    }

    #[test]
    fn scalars_are_kept_as_they_were_written() {
        let document =
            loaded("version: 3.10\nmode: 0777\nswitch: yes\nquoted: 'yes'\nnothing: ~\nblock: |\n  a\n  b\n");
        let root = document.root();
        for (key, text, kind) in [
            ("version", "3.10", ScalarType::Number),
            ("mode", "0777", ScalarType::Number),
            ("switch", "yes", ScalarType::Truth),
            ("quoted", "yes", ScalarType::Text),
            ("nothing", "", ScalarType::Null),
            ("block", "a\nb\n", ScalarType::Text),
        ] {
            let node = root.get(key).unwrap();
            assert_eq!((document.text(node, key).unwrap(), node.scalar_kind()), (text, Some(kind)), "{key}");
        }
    }

    #[test]
    fn positions_count_from_one() {
        let document = loaded("a: 1\nb:\n  - x\n");
        let item = &document.sequence(document.root().get("b").unwrap(), "b").unwrap()[0];
        assert_eq!(item.at, SourcePosition { line: 3, column: 5 });
        assert_eq!(
            document.unexpected(item, "b[0]", "a map").to_string(),
            "x.yaml:3:5: `b[0]`: expected a map, found text"
        );
    }

    #[test]
    fn an_empty_document_is_null() {
        for text in ["", "# only a comment\n", "null", "---\n...\n", "\u{feff}"] {
            assert!(loaded(text).root().is_null(), "{text:?}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused_with_its_place() {
        assert_eq!(refusal("a: 1\nb: 2\na: 3\n"), "x.yaml:3:1: duplicate key `a` (first in line 1)");
        assert_eq!(refusal("a: 1\n---\nb: 2\n"), "x.yaml:2:1: more than one document");
        assert_eq!(refusal("a: !!python/object x\n"), "x.yaml:1:4: unsupported tag `!!python/object`");
        assert_eq!(refusal("? [a]\n: b\n"), "x.yaml:1:3: a key that is a list or a map");
        assert_eq!(refusal("a: \"x\u{2028}y\""), "x.yaml: a line separator of Unicode at byte 5");
        assert_eq!(refusal("a: \"x\\Ly\""), "x.yaml:1:4: a line separator of Unicode");
        assert_eq!(refusal("a: \"x\\0y\""), "x.yaml:1:4: a NUL character");
        assert!(refusal("a:\n\t- b\n").starts_with("x.yaml:2:"));
        assert!(refusal("a: 'never closed\n").starts_with("x.yaml:"));
        assert!(refusal("a: *nobody").contains("x.yaml:1:4: not YAML"));
    }

    #[test]
    fn encodings_other_than_utf8_are_refused_by_name() {
        let utf16: Vec<u8> = "\u{feff}a: 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(load(&utf16, "x.yaml").unwrap_err().to_string().contains("UTF-16"));
        assert_eq!(load(b"abc\xff", "x.yaml").unwrap_err().to_string(), "x.yaml: not UTF-8 at byte 3");
        assert!(load(b"\xef\xbb\xbfa: 1", "x.yaml").unwrap().root().get("a").is_some());
    }

    #[test]
    fn nesting_is_limited_and_never_overflows_the_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(load(nested(DEPTH_LIMIT).as_bytes(), "x").is_ok());
        for depth in [DEPTH_LIMIT + 1, 100_000] {
            assert!(refusal(&nested(depth)).contains("nesting deeper than 64"), "{depth}");
        }
        assert!(refusal(&"- ".repeat(100_000)).contains("nesting deeper than 64"));
        let mixed = "- [".repeat(40);
        assert!(refusal(&mixed).starts_with("x.yaml:"));
    }

    #[test]
    fn aliases_are_shared_and_their_sum_is_limited() {
        let document = loaded("a: &a [1, 2]\nb: *a\n");
        assert_eq!(document.sequence(document.root().get("b").unwrap(), "b").unwrap().len(), 2);
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..10 {
            let below = format!("*a{},", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(refusal(&bomb).contains("too many aliases"));
        assert!(refusal("a: &a [*a]").contains("alias"));
    }

    #[test]
    fn the_size_limit_itself_is_allowed_and_one_more_is_not() {
        let limit = usize::try_from(Limit::YamlSize.value()).unwrap();
        assert!(load("#".repeat(limit).as_bytes(), "x").is_ok());
        assert_eq!(
            refusal(&"#".repeat(limit + 1)),
            "x.yaml: larger than 1 MiB (OCIBUILD_MAX_YAML_SIZE sets the limit)"
        );
    }

    #[test]
    fn a_merge_key_brings_in_what_is_not_overridden() {
        let document = loaded("base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\n");
        let more = document.root().get("more").unwrap();
        let entries: Vec<_> =
            document.mapping(more, "more").unwrap().iter().map(|(key, _)| key.text.as_str()).collect();
        assert_eq!(entries, ["a", "b"]);
        assert_eq!(document.text(more.get("b").unwrap(), "b").unwrap(), "3");
        assert!(refusal("base: &base {a: 1}\nmore:\n  b: 3\n  <<: *base\n").contains("must come first"));
        assert!(refusal("a:\n  <<: 3\n").contains("must name a map"));
    }
}
