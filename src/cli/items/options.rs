//! The options of an item: `ITEM,NAME,NAME=VALUE`. A comma that belongs to the item or to a value is written twice.

use ocibuild::{Error, Result};

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum OptionForm {
    /// No value.
    Word,
    /// One value of this form.
    Value(&'static str),
    /// A value of this form; the option can be repeated.
    Values(&'static str),
}

/// The options that an item can have, with their forms.
pub(in crate::cli) type KnownOptions = &'static [(&'static str, OptionForm)];

/// The options of what is put at a path.
pub(in crate::cli) const PLACED_OPTIONS: KnownOptions =
    &[("mode", OptionForm::Value("MODE")), ("chown", OptionForm::Value("UID[:GID]"))];

/// The options that an item has.
#[derive(Debug)]
pub(in crate::cli) struct ItemOptions {
    given: Vec<(&'static str, String)>,
}

impl ItemOptions {
    /// Splits `text` into the item and its options.
    ///
    /// # Errors
    /// Fails if an option is unknown, is given twice, lacks its value, or has one that it does not take.
    pub(in crate::cli) fn split(text: &[u8], known: KnownOptions) -> Result<(Vec<u8>, ItemOptions)> {
        let mut parts = split_at_commas(text).into_iter();
        let item = parts.next().unwrap_or_default();
        let mut options = ItemOptions { given: Vec::new() };
        for part in parts {
            let shown = String::from_utf8_lossy(&part).into_owned();
            let part = String::from_utf8(part).map_err(|_| Error::usage(format!("option `{shown}`"), "not UTF-8"))?;
            options.add(&part, known)?;
        }
        Ok((item, options))
    }

    /// Reads options without an item, each with a comma behind it.
    ///
    /// # Errors
    /// The same as [`ItemOptions::split`].
    pub(in crate::cli) fn read(text: &str, known: KnownOptions) -> Result<ItemOptions> {
        match text.strip_suffix(',') {
            Some(options) => ItemOptions::split(format!(",{options}").as_bytes(), known).map(|(_, options)| options),
            None => Ok(ItemOptions { given: Vec::new() }),
        }
    }

    fn add(&mut self, part: &str, known: KnownOptions) -> Result<()> {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
        let object = format!("option `{name}`");
        let Some((name, form)) = known.iter().find(|(known, _)| *known == name) else {
            let hint = format!("the options are {}; a comma that belongs to a path is written twice", listed(known));
            return Err(Error::usage(object, "unknown").hint(hint));
        };
        let value = match (form, value) {
            (OptionForm::Word, None) => String::new(),
            (OptionForm::Word, Some(_)) => return Err(Error::usage(object, "takes no value")),
            (OptionForm::Value(_) | OptionForm::Values(_), Some(value)) if !value.is_empty() => value.to_owned(),
            (OptionForm::Value(value) | OptionForm::Values(value), _) => {
                return Err(Error::usage(object, format!("needs a value: {name}={value}")));
            }
        };
        if !matches!(form, OptionForm::Values(_)) && self.has(name) {
            return Err(Error::usage(object, "given twice"));
        }
        self.given.push((name, value));
        Ok(())
    }

    /// Returns the options that are given, with their values, in order.
    pub(in crate::cli) fn into_given(self) -> Vec<(&'static str, String)> {
        self.given
    }

    /// Returns whether the option `name` is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// Reads the value of the option `name` by `parse`, if it is given.
    ///
    /// # Errors
    /// Returns the error of `parse`.
    pub(super) fn value<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        self.values(name).next().map(parse).transpose()
    }

    /// Returns the values of the option `name`, in order.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Fails if both options are given.
    ///
    /// # Errors
    /// Returns an error if both are given.
    pub(super) fn refuse_both(&self, one: &str, other: &str) -> Result<()> {
        if self.has(one) && self.has(other) {
            return Err(Error::usage(format!("option `{one}`"), format!("cannot be used with `{other}`")));
        }
        Ok(())
    }
}

fn listed(known: KnownOptions) -> String {
    let shown = known.iter().map(|(name, form)| match form {
        OptionForm::Word => (*name).to_owned(),
        OptionForm::Value(value) | OptionForm::Values(value) => format!("{name}={value}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Returns `text` with each comma written twice.
pub(in crate::cli) fn doubled(text: &str) -> String {
    text.replace(',', ",,")
}

/// Splits at single commas; two commas become one.
fn split_at_commas(text: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.iter().peekable();
    while let Some(byte) = bytes.next() {
        let is_literal = *byte != b',' || bytes.next_if_eq(&&b',').is_some();
        match parts.last_mut() {
            Some(part) if is_literal => part.push(*byte),
            _ => parts.push(Vec::new()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: KnownOptions =
        &[("keep", OptionForm::Word), ("mode", OptionForm::Value("MODE")), ("exclude", OptionForm::Values("GLOB"))];

    #[test]
    fn two_commas_are_one() {
        let split = |text: &str| -> Vec<String> {
            split_at_commas(text.as_bytes()).into_iter().map(|part| String::from_utf8(part).unwrap()).collect()
        };
        assert_eq!(split("a,,b,c=d,,e"), ["a,b", "c=d,e"]);
        assert_eq!(split("a,,,b"), ["a,", "b"]);
        assert_eq!(split("a,"), ["a", ""]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn options_are_read_by_their_forms() {
        let (item, options) = ItemOptions::split(b"/a,,b,keep,exclude=x,mode=0755,exclude=y=z", KNOWN).unwrap();
        assert_eq!(item, b"/a,b");
        assert!(options.has("keep") && !options.has("other"));
        assert_eq!(options.values("exclude").collect::<Vec<_>>(), ["x", "y=z"]);
        assert_eq!(options.value("mode", |text| Ok(text.to_owned())).unwrap().as_deref(), Some("0755"));
    }

    #[test]
    fn what_is_no_option_is_refused_with_those_that_are() {
        let error = |text: &str| ItemOptions::split(text.as_bytes(), KNOWN).unwrap_err().to_string();
        assert!(error("/a,b").contains("`b`: unknown (the options are keep, mode=MODE, exclude=GLOB; a comma"));
        assert!(error("/a,").contains("``: unknown"));
        assert!(error("/a,mode").contains("needs a value: mode=MODE"));
        assert!(error("/a,mode=").contains("needs a value"));
        assert!(error("/a,keep=1").contains("takes no value"));
        assert!(error("/a,mode=1,mode=1").contains("given twice"));
    }
}
