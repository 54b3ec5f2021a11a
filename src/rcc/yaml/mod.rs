//! YAML as RCC's own files need it: a strict reader that keeps every scalar as it was written.
//!
//! RCC reads its files with a YAML 1.1 library (go-yaml 2), in which an unquoted `3.10` is a number and an unquoted
//! `yes` is true. Its blueprint hash depends on that, so a reader that returns typed values cannot be used here:
//! [`Scalar`] keeps the text and whether it was quoted, and [`plain`] determines its type in YAML 1.1. [`emit`] writes
//! strings exactly as that library does.
//!
//! The reader rejects ambiguous and dangerous input: duplicate keys, several documents, tags, alias bombs, deep
//! nesting.

pub(super) mod emit;
mod load;
pub(super) mod plain;

use crate::common::error::{Error, Result};
use std::fmt;
use std::rc::Rc;

pub(super) use load::load;

/// The maximum depth of nested collections.
pub(super) const DEPTH_LIMIT: usize = 64;

/// The maximum number of nodes that aliases may add to a document.
pub(super) const ALIAS_LIMIT: usize = 10_000;

/// A YAML document: its name for messages, and its root.
#[derive(Debug)]
pub(super) struct YamlDocument {
    name: String,
    root: YamlNode,
}

impl YamlDocument {
    /// Returns the root of the document; a null scalar if it is empty.
    pub(super) fn root(&self) -> &YamlNode {
        &self.root
    }

    /// Creates an error about `node`: `robot.yaml:3:5: …`.
    pub(super) fn error(&self, node: &YamlNode, reason: impl Into<String>) -> Error {
        Error::invalid(format!("{}:{}", self.name, node.at), reason)
    }

    /// Returns the entries of a mapping; empty if the value is null.
    pub(super) fn mapping<'a>(&self, node: &'a YamlNode, what: &str) -> Result<&'a [(YamlKey, Rc<YamlNode>)]> {
        match &node.value {
            Value::Mapping(entries) => Ok(entries),
            _ if node.is_null() => Ok(&[]),
            _ => Err(self.unexpected(node, what, "a map")),
        }
    }

    /// Returns the items of a sequence; empty if the value is null.
    pub(super) fn sequence<'a>(&self, node: &'a YamlNode, what: &str) -> Result<&'a [Rc<YamlNode>]> {
        match &node.value {
            Value::Sequence(items) => Ok(items),
            _ if node.is_null() => Ok(&[]),
            _ => Err(self.unexpected(node, what, "a list")),
        }
    }

    /// Returns the text of a scalar as it was written; empty if the value is null.
    pub(super) fn text<'a>(&self, node: &'a YamlNode, what: &str) -> Result<&'a str> {
        match &node.value {
            Value::Scalar(_) if node.is_null() => Ok(""),
            Value::Scalar(scalar) => Ok(&scalar.text),
            _ => Err(self.unexpected(node, what, "text")),
        }
    }

    /// Returns the texts of a sequence of scalars.
    pub(super) fn texts(&self, node: &YamlNode, what: &str) -> Result<Vec<String>> {
        let items = self.sequence(node, what)?.iter().enumerate();
        items.map(|(index, item)| Ok(self.text(item, &format!("{what}[{index}]"))?.to_owned())).collect()
    }

    /// Creates the error for a value of the wrong type: `tasks: expected a map, found a number`.
    pub(super) fn unexpected(&self, node: &YamlNode, what: &str, expected: &str) -> Error {
        let prefix = if what.is_empty() { String::new() } else { format!("`{what}`: ") };
        self.error(node, format!("{prefix}expected {expected}, found {}", node.described()))
    }
}

/// A value and its position.
#[derive(Debug)]
pub(super) struct YamlNode {
    pub(super) at: SourcePosition,
    pub(super) value: Value,
    /// The number of nodes in this one, including itself, with aliases counted in full.
    weight: usize,
}

/// The value of a node.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Rc<YamlNode>>),
    /// In the order of the file, each key once.
    Mapping(Vec<(YamlKey, Rc<YamlNode>)>),
}

/// A scalar as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) quoting: Quoting,
}

/// The quoting of a scalar, which determines if it may have another type than text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// Unquoted: may be a number, a truth value, null.
    Plain,
    /// In quotes, in a block, or tagged as text: always text.
    Text,
}

/// The key of an entry.
#[derive(Debug, Clone)]
pub(super) struct YamlKey {
    pub(super) text: String,
    pub(super) at: SourcePosition,
}

impl YamlNode {
    pub(super) fn is_null(&self) -> bool {
        self.scalar_kind() == Some(plain::ScalarType::Null)
    }

    /// Returns the type of a scalar in YAML 1.1; `None` for a collection.
    pub(super) fn scalar_kind(&self) -> Option<plain::ScalarType> {
        match &self.value {
            Value::Scalar(Scalar { text, quoting: Quoting::Plain }) => Some(plain::kind(text)),
            Value::Scalar(_) => Some(plain::ScalarType::Text),
            _ => None,
        }
    }

    /// Returns the value at `key` of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&YamlNode> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|(candidate, _)| candidate.text == key).map(|(_, node)| &**node)
            }
            _ => None,
        }
    }

    fn described(&self) -> &'static str {
        match self.scalar_kind() {
            None if matches!(self.value, Value::Mapping(_)) => "a map",
            None => "a list",
            Some(kind) => kind.described(),
        }
    }
}

/// A position in a file, both numbers counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourcePosition {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
