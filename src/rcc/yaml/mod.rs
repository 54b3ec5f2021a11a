//! YAML as RCC's own files need it: a strict reader that keeps every scalar as it was written.
//!
//! RCC reads its files with a YAML 1.1 library (go-yaml 2), in which an unquoted `3.10` is a number and an unquoted `yes` is
//! true. Its blueprint hash depends on that, so a reader that hands out typed values is of no use here: [`Scalar`] keeps the
//! text and whether it was quoted, and [`plain`] tells what YAML 1.1 would make of it. [`emit`] writes strings back exactly
//! as that library does.
//!
//! Reading refuses what is ambiguous or dangerous: duplicate keys, several documents, tags, bombs of aliases, deep nesting.

pub(super) mod emit;
mod load;
pub(super) mod plain;

use crate::error::{Error, Result};
use std::fmt;
use std::rc::Rc;

pub(super) use load::load;

/// The largest file that is read: a hundred times the largest seen.
pub(super) const SIZE_LIMIT: u64 = 1 << 20;

/// How deeply collections may nest.
pub(super) const DEPTH_LIMIT: usize = 64;

/// How many nodes aliases may add to a document.
pub(super) const ALIAS_LIMIT: usize = 10_000;

/// One YAML document: its name for messages, and its root.
#[derive(Debug)]
pub(super) struct Document {
    name: String,
    root: Node,
}

impl Document {
    /// The top of the document; a null scalar when it is empty.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// An error about `node`: `robot.yaml:3:5: …`.
    pub(super) fn error(&self, node: &Node, reason: impl Into<String>) -> Error {
        Error::invalid(format!("{}:{}", self.name, node.at), reason)
    }

    /// The entries of a mapping; none where the value is null.
    pub(super) fn mapping<'a>(&self, node: &'a Node, what: &str) -> Result<&'a [(Key, Rc<Node>)]> {
        match &node.value {
            Value::Mapping(entries) => Ok(entries),
            _ if node.is_null() => Ok(&[]),
            _ => Err(self.unexpected(node, what, "a map")),
        }
    }

    /// The items of a sequence; none where the value is null.
    pub(super) fn sequence<'a>(&self, node: &'a Node, what: &str) -> Result<&'a [Rc<Node>]> {
        match &node.value {
            Value::Sequence(items) => Ok(items),
            _ if node.is_null() => Ok(&[]),
            _ => Err(self.unexpected(node, what, "a list")),
        }
    }

    /// The text of a scalar as it was written; empty where the value is null.
    pub(super) fn text<'a>(&self, node: &'a Node, what: &str) -> Result<&'a str> {
        match &node.value {
            Value::Scalar(_) if node.is_null() => Ok(""),
            Value::Scalar(scalar) => Ok(&scalar.text),
            _ => Err(self.unexpected(node, what, "text")),
        }
    }

    /// The texts of a sequence of scalars.
    pub(super) fn texts(&self, node: &Node, what: &str) -> Result<Vec<String>> {
        let items = self.sequence(node, what)?.iter().enumerate();
        items.map(|(index, item)| Ok(self.text(item, &format!("{what}[{index}]"))?.to_owned())).collect()
    }

    /// The error for a value of the wrong shape: `tasks: expected a map, found a number`.
    pub(super) fn unexpected(&self, node: &Node, what: &str, expected: &str) -> Error {
        let prefix = if what.is_empty() { String::new() } else { format!("`{what}`: ") };
        self.error(node, format!("{prefix}expected {expected}, found {}", node.described()))
    }
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
    /// How many nodes this one stands for, itself and aliases counted in full.
    weight: usize,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Rc<Node>>),
    /// In the order of the file, each key once.
    Mapping(Vec<(Key, Rc<Node>)>),
}

/// A scalar as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) quoting: Quoting,
}

/// Whether a scalar's text may stand for something else than text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// Unquoted: may be a number, a truth value, null.
    Plain,
    /// In quotes, in a block, or tagged as text: always text.
    Text,
}

/// The key of an entry.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) at: Position,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        self.scalar_kind() == Some(plain::Kind::Null)
    }

    /// What YAML 1.1 makes of a scalar; nothing for a collection.
    pub(super) fn scalar_kind(&self) -> Option<plain::Kind> {
        match &self.value {
            Value::Scalar(Scalar { text, quoting: Quoting::Plain }) => Some(plain::kind(text)),
            Value::Scalar(_) => Some(plain::Kind::Text),
            _ => None,
        }
    }

    /// The value at `key` of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
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

/// A place in a file, both counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
