//! Writing the build file that equals a command line.

use super::given::is_typed;
use super::item_tables::{ItemParts, PartForm, table_of};
use super::keys::{DESTINATIONS, FileKey, FileKeys, KeyForm, PAIRS};
use crate::cli::content_flags::LAYER_FLAGS;
use crate::cli::items::HOST;
use crate::cli::values;
use clap::ArgMatches;
use ocibuild::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use toml::{Table, Value};

/// What a file calls the tables of one image.
#[derive(Debug, Clone, Copy)]
pub(super) enum WrittenAs<'n> {
    /// The whole file is about it.
    File,
    /// It is one of several, with this name.
    Image(&'n str),
}

/// The flags of one image, as they become a file.
pub(super) struct FileWriter<'w> {
    keys: &'w FileKeys,
    matches: &'w ArgMatches,
    /// What is in front of the names of tables.
    prefix: &'static str,
    text: String,
}

impl FileWriter<'_> {
    /// Returns the part of a build file with the flags of `matches`, and with these destinations, if there are any.
    ///
    /// # Errors
    /// Fails if a value is not UTF-8.
    pub(super) fn written(
        keys: &FileKeys,
        matches: &ArgMatches,
        written_as: WrittenAs<'_>,
        destinations: &[String],
    ) -> Result<String> {
        let (prefix, mut text) = match written_as {
            WrittenAs::File => ("", String::new()),
            WrittenAs::Image(name) => ("image.", format!("[[image]]\n{}", line("name", name.into()))),
        };
        if !destinations.is_empty() {
            text.push_str(&line("output", destinations.to_vec().into()));
        }
        let mut writer = FileWriter { keys, matches, prefix, text };
        let is_said = |key: &FileKey<'_>| !destinations.is_empty() && DESTINATIONS.contains(&key.name);
        let is_layer = |key: &FileKey<'_>| LAYER_FLAGS.iter().any(|(id, _)| *id == key.id());
        let given: Vec<FileKey<'_>> = keys.all().filter(|key| is_typed(matches, key.id())).collect();
        let mut tables = Vec::new();
        for key in given.iter().filter(|key| !is_layer(key) && !is_said(key)) {
            let values = writer.values(key)?;
            match pairs(key.name, &values) {
                Some(pairs) => tables.push((key.name, pairs)),
                None => writer.flag(key, values)?,
            }
        }
        for (name, pairs) in tables {
            write!(writer.text, "\n[{prefix}{name}]\n{pairs}").map_err(|_| unwritten())?;
        }
        writer.layers()?;
        Ok(writer.text)
    }

    fn values(&self, key: &FileKey<'_>) -> Result<Vec<String>> {
        let raw = self.matches.get_raw(key.id()).into_iter().flatten();
        raw.map(|value| text_of(key.name, value)).collect()
    }

    fn flag(&mut self, key: &FileKey<'_>, values: Vec<String>) -> Result<()> {
        let first = || values.first().cloned().unwrap_or_default();
        let value = match key.form {
            KeyForm::Switch => true.into(),
            KeyForm::Choice => (first() == "true").into(),
            KeyForm::Command => values::command(&first())?.into(),
            KeyForm::Values => values.into(),
            KeyForm::Value | KeyForm::SwitchOrValue => first().into(),
        };
        self.text.push_str(&line(key.name, value));
        Ok(())
    }

    /// Writes the flags that make layers, in their order.
    fn layers(&mut self) -> Result<()> {
        let mut items = Vec::new();
        for key in self.keys.all().filter(|key| is_typed(self.matches, key.id())) {
            let Some(table) = table_of(key.name) else { continue };
            let places = self.matches.indices_of(key.id()).into_iter().flatten();
            items.extend(places.zip(self.values(&key)?).map(|(place, value)| (place, key, table, value)));
        }
        items.sort_by_key(|(place, ..)| *place);
        for (_, key, table, value) in items {
            let (open, close) = if key.form == KeyForm::Values { ("[[", "]]") } else { ("[", "]") };
            write!(self.text, "\n{open}{}{}{close}\n", self.prefix, key.name).map_err(|_| unwritten())?;
            if value != HOST {
                let parts = table.split(&value)?;
                for (name, form) in table.parts() {
                    self.text.push_str(&part(&parts, name, form));
                }
            }
        }
        Ok(())
    }
}

/// Returns the line for a part of an item; none if the item does not have it.
fn part(parts: &ItemParts, name: &str, form: PartForm) -> String {
    let values: Vec<String> =
        parts.0.iter().filter(|(given, _)| *given == name).map(|(_, value)| value.clone()).collect();
    match (form, values.first()) {
        (_, None) => String::new(),
        (PartForm::Switch, Some(_)) => line(name, true.into()),
        (PartForm::Texts, Some(_)) => line(name, values.into()),
        (_, Some(first)) => line(name, first.as_str().into()),
    }
}

/// Returns the lines of a table for names and values; nothing if these need a list: a name without a value, or one that is there twice.
fn pairs(name: &str, values: &[String]) -> Option<String> {
    if !PAIRS.contains(&name) {
        return None;
    }
    let pairs: Vec<(&str, &str)> = values.iter().filter_map(|value| value.split_once('=')).collect();
    let names: BTreeSet<&str> = pairs.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
    let is_table = pairs.len() == values.len() && names.len() == values.len();
    is_table.then(|| pairs.into_iter().map(|(name, value)| line(name, value.into())).collect())
}

/// Returns a line with a key and its value.
fn line(name: &str, value: Value) -> String {
    let mut table = Table::new();
    table.insert(name.to_owned(), value);
    table.to_string()
}

fn text_of(name: &str, value: &OsStr) -> Result<String> {
    let text = value.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::usage(format!("--{name}"), "not UTF-8, so a build file cannot hold it"))
}

fn unwritten() -> Error {
    Error::invalid("build file", "cannot be written")
}
