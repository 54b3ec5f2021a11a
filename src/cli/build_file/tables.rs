//! The flags that a table of a build file gives.

use super::given::{FlagSetting, GivenFlag};
use super::item_tables::{ItemParts, ItemTable, PartForm, table_of};
use super::keys::{FileKey, FileKeys, KeyForm, KeyUser, PAIRS};
use super::paths::from_here;
use super::text::{BuildFileText, FilePlace};
use super::variables::ListedVariables;
use crate::cli::familiar_words::nearest;
use ocibuild::Result;
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Reads the tables of one file.
pub(super) struct TableReader<'r> {
    pub(super) file: &'r BuildFileText,
    pub(super) keys: &'r FileKeys,
    pub(super) variables: &'r ListedVariables,
}

/// A key and a value of a table.
pub(super) type KeyAndValue<'t, 'f> = (&'t Spanned<Cow<'f, str>>, &'t Spanned<DeValue<'f>>);

/// What an integer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberForm {
    Decimal,
    /// Permission bits, which are octal.
    Mode,
}

impl TableReader<'_> {
    /// Returns the flags in the order of the file.
    ///
    /// # Errors
    /// Fails if a key is unknown, or its value is of another kind than the flag takes.
    pub(super) fn flags<'t, 'f: 't>(&self, table: impl Iterator<Item = KeyAndValue<'t, 'f>>) -> Result<Vec<GivenFlag>> {
        let mut flags: Vec<(usize, GivenFlag)> = Vec::new();
        for (name, value) in table {
            let place = self.place(name);
            let Some(key) = self.keys.find(name.get_ref()) else {
                let advice = self.keys.advice(name.get_ref());
                return Err(place.error(format!("unknown key `{}`", name.get_ref())).hint(advice));
            };
            let settings = self.settings(key, &place, value)?;
            if key.user == KeyUser::Build {
                continue;
            }
            for (at, setting) in settings {
                let at = at.unwrap_or(name.span().start);
                let flag = GivenFlag { name: key.name.to_owned(), setting, place: self.file.place(at) };
                flags.push((at, flag));
            }
        }
        flags.sort_by_key(|(at, _)| *at);
        Ok(flags.into_iter().map(|(_, flag)| flag).collect())
    }

    fn place<T>(&self, spanned: &Spanned<T>) -> FilePlace {
        self.file.place(spanned.span().start)
    }

    /// Returns the settings of a key; with their places, if it has several.
    fn settings(
        &self,
        key: FileKey<'_>,
        place: &FilePlace,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<(Option<usize>, FlagSetting)>> {
        let table = table_of(key.name);
        let one = |setting| Ok(vec![(None, setting)]);
        match (key.form, value.get_ref()) {
            (KeyForm::Switch | KeyForm::SwitchOrValue, DeValue::Boolean(true)) => one(FlagSetting::On),
            (KeyForm::Switch | KeyForm::SwitchOrValue, DeValue::Boolean(false)) => one(FlagSetting::Off),
            (KeyForm::Choice, DeValue::Boolean(choice)) => one(FlagSetting::Value(choice.to_string())),
            (KeyForm::Switch | KeyForm::Choice, _) => Err(place.error(format!("`{}` is true or false", key.name))),
            (KeyForm::Command, DeValue::Array(words)) => {
                let words = words.iter().map(|word| self.text(key.name, word, NumberForm::Decimal));
                let words = words.collect::<Result<Vec<_>>>()?;
                one(FlagSetting::Value(serde_json::Value::from(words).to_string()))
            }
            (KeyForm::Values, DeValue::Array(values)) => {
                values.iter().map(|value| Ok((Some(value.span().start), self.value(key, value)?))).collect()
            }
            (KeyForm::Values, DeValue::Table(pairs)) if table.is_none() && PAIRS.contains(&key.name) => {
                self.pairs(key, pairs)
            }
            _ => one(self.value(key, value)?),
        }
    }

    /// Returns the setting for one value: a text, or an item as a table.
    fn value(&self, key: FileKey<'_>, value: &Spanned<DeValue<'_>>) -> Result<FlagSetting> {
        let place = self.place(value);
        let text = match (value.get_ref(), table_of(key.name)) {
            (DeValue::Table(parts), Some(_)) if key.form == KeyForm::SwitchOrValue && parts.is_empty() => {
                return Ok(FlagSetting::On);
            }
            (DeValue::Table(parts), Some(item)) => self.item(item, &place, parts)?,
            _ => self.text(key.name, value, number_form(key.name))?,
        };
        let text = from_here(key.name, &text, &self.file.directory);
        text.map(FlagSetting::Value).map_err(|error| place.error(format!("`{}`: {}", key.name, error.reason())))
    }

    fn pairs(&self, key: FileKey<'_>, pairs: &DeTable<'_>) -> Result<Vec<(Option<usize>, FlagSetting)>> {
        let mut settings = Vec::new();
        for (name, value) in pairs {
            if name.get_ref().contains('=') || name.get_ref().is_empty() {
                return Err(self
                    .place(name)
                    .error(format!("`{}` is no name: it is empty or has a `=`", name.get_ref())));
            }
            let text = match value.get_ref() {
                DeValue::Boolean(value) => value.to_string(),
                _ => self.text(key.name, value, NumberForm::Decimal)?,
            };
            settings.push((Some(name.span().start), FlagSetting::Value(format!("{}={text}", name.get_ref()))));
        }
        Ok(settings)
    }

    /// Returns the value of a flag for an item that is a table.
    fn item(&self, item: &ItemTable, place: &FilePlace, table: &DeTable<'_>) -> Result<String> {
        let mut parts = Vec::new();
        for (name, value) in table {
            let Some((part, form)) = item.parts().find(|(part, _)| part == name.get_ref()) else {
                let known: Vec<&str> = item.parts().map(|(part, _)| part).collect();
                let advice = match nearest(name.get_ref(), known.iter().copied()) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("it has {}", known.join(", ")),
                };
                return Err(self.place(name).error(format!("unknown key `{}`", name.get_ref())).hint(advice));
            };
            match (form, value.get_ref()) {
                (PartForm::Switch, DeValue::Boolean(true)) => parts.push((value.span().start, (part, String::new()))),
                (PartForm::Switch, DeValue::Boolean(false)) => {}
                (PartForm::Switch, _) => return Err(self.place(name).error(format!("`{part}` is true or false"))),
                (PartForm::Texts, DeValue::Array(values)) => {
                    for value in values {
                        let text = self.text(part, value, NumberForm::Decimal)?;
                        parts.push((value.span().start, (part, text)));
                    }
                }
                (PartForm::Mode, _) => {
                    parts.push((value.span().start, (part, self.text(part, value, NumberForm::Mode)?)));
                }
                _ => parts.push((value.span().start, (part, self.text(part, value, NumberForm::Decimal)?))),
            }
        }
        parts.sort_by_key(|(at, _)| *at);
        let parts = ItemParts(parts.into_iter().map(|(_, part)| part).collect());
        item.compose(&parts).map_err(|reason| place.error(reason))
    }

    /// Returns a value that is a text, or reads like one.
    fn text(&self, name: &str, value: &Spanned<DeValue<'_>>, form: NumberForm) -> Result<String> {
        let place = self.place(value);
        match (value.get_ref(), form) {
            // It means something else in some flags, which no command line can say.
            (DeValue::String(text), _) if text.contains('\0') => {
                Err(place.error(format!("`{name}` contains a NUL character")))
            }
            (DeValue::String(text), _) => Ok(self.variables.replaced_in(text)),
            (DeValue::Integer(number), NumberForm::Mode) => match number.radix() {
                8 => Ok(format!("0{}", number.as_str())),
                _ => Err(place.error(format!("`{name}` is octal")).hint(format!("\"0{number}\" or 0o{number}"))),
            },
            (DeValue::Integer(number), NumberForm::Decimal) => decimal(number)
                .ok_or_else(|| place.error(format!("`{name}` is not a decimal number of at most 64 bits"))),
            (DeValue::Datetime(time), _) => Ok(time.to_string()),
            (DeValue::Float(number), _) => {
                Err(place.error(format!("`{name}` is a text")).hint(format!("in quotes: \"{}\"", number.as_str())))
            }
            (DeValue::Boolean(_), _) => Err(place.error(format!("`{name}` is a text, not true or false"))),
            (DeValue::Array(_), _) => Err(place.error(format!("`{name}` is one text, not a list"))),
            (DeValue::Table(_), _) => Err(place.error(format!("`{name}` is a text, not a table"))),
        }
    }
}

fn number_form(name: &str) -> NumberForm {
    if name == "chmod" { NumberForm::Mode } else { NumberForm::Decimal }
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    let is_decimal = number.radix() == 10;
    is_decimal.then(|| number.as_str().parse::<i64>().ok()).flatten().map(|number| number.to_string())
}
