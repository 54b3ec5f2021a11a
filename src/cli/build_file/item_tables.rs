//! Items written as tables: `[[copy]]` with a source and a destination is `--copy SOURCE:DESTINATION`.

use crate::cli::items::{
    COPY_OPTIONS, ItemOptions, KnownOptions, OptionForm, PLACED_OPTIONS, SYMLINK_OPTIONS, colon_of_pair, doubled,
};
use ocibuild::{Error, Result};

/// How the text of an item is made of its fields and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ItemShape {
    /// `FIELD`, unchanged.
    Plain,
    /// `FIELD,OPTIONS`
    Path,
    /// `FIELD:FIELD,OPTIONS`, of which the second begins with a slash.
    Pair,
    /// `OPTIONS,FIELD=FIELD`
    Assignment,
    /// `FIELD:FIELD:FIELD`
    Numbers,
}

/// What a field or option of an item takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartForm {
    Text,
    /// A path on this machine.
    Path,
    /// Permission bits.
    Mode,
    Switch,
    Texts,
}

/// The fields and options of an item, by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ItemParts(pub(super) Vec<(&'static str, String)>);

/// The items of one flag.
#[derive(Debug)]
pub(super) struct ItemTable {
    flag: &'static str,
    shape: ItemShape,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    options: KnownOptions,
}

const NO_OPTIONS: KnownOptions = &[];

/// All flags whose values can be tables.
const TABLES: [ItemTable; 10] = [
    ItemTable::new("copy", ItemShape::Pair, &["source", "destination"], &[], COPY_OPTIONS),
    ItemTable::new("remove", ItemShape::Plain, &["path"], &[], NO_OPTIONS),
    ItemTable::new("mkdir", ItemShape::Path, &["path"], &[], PLACED_OPTIONS),
    ItemTable::new("symlink", ItemShape::Pair, &["target", "path"], &[], SYMLINK_OPTIONS),
    ItemTable::new("file", ItemShape::Assignment, &["path", "text"], &[], PLACED_OPTIONS),
    ItemTable::new("add-user", ItemShape::Numbers, &["name", "uid"], &["gid", "home"], NO_OPTIONS),
    ItemTable::new("add-group", ItemShape::Numbers, &["name", "gid"], &[], NO_OPTIONS),
    ItemTable::new("ca-certificates", ItemShape::Plain, &[], &["from"], NO_OPTIONS),
    ItemTable::new("timezones", ItemShape::Plain, &[], &["from"], NO_OPTIONS),
    ItemTable::new("layer", ItemShape::Plain, &["description"], &[], NO_OPTIONS),
];

/// Returns how items of `flag` are written as tables, if they can be.
pub(super) fn table_of(flag: &str) -> Option<&'static ItemTable> {
    TABLES.iter().find(|table| table.flag == flag)
}

impl ItemTable {
    const fn new(
        flag: &'static str,
        shape: ItemShape,
        required: &'static [&'static str],
        optional: &'static [&'static str],
        options: KnownOptions,
    ) -> ItemTable {
        ItemTable { flag, shape, required, optional, options }
    }

    /// Returns the names of all parts, each with what it takes.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&'static str, PartForm)> {
        let flag = self.flag;
        let fields = self.required.iter().chain(self.optional).map(move |name| (*name, form_of_field(flag, name)));
        fields.chain(self.options.iter().map(|(name, form)| (*name, form_of_option(*form))))
    }

    /// Returns the names of the parts that every item has.
    pub(super) fn required(&self) -> &'static [&'static str] {
        self.required
    }

    /// Returns the name of one of the fields, which are in the order of the flag.
    fn field(&self, number: usize) -> &'static str {
        self.required.iter().chain(self.optional).nth(number).copied().unwrap_or_default()
    }

    /// Returns the value of the flag; empty if it is given without one.
    ///
    /// # Errors
    /// Fails with a reason if a required part is missing, or the flag cannot say what the parts say.
    pub(super) fn compose(&self, parts: &ItemParts) -> Result<String, String> {
        if let Some(missing) = self.required.iter().find(|name| parts.get(name).is_none()) {
            return Err(format!("has no `{missing}`"));
        }
        let field = |number| parts.get(self.field(number)).unwrap_or_default();
        let (first, second) = (field(0), field(1));
        let options = parts.0.iter().filter(|(name, _)| self.options.iter().any(|(known, _)| known == name));
        let options: Vec<String> = options
            .map(
                |(name, value)| {
                    if value.is_empty() { (*name).to_owned() } else { format!("{name}={}", doubled(value)) }
                },
            )
            .collect();
        let behind: String = options.iter().map(|option| format!(",{option}")).collect();
        Ok(match self.shape {
            ItemShape::Plain => first.to_owned(),
            ItemShape::Path => format!("{}{behind}", doubled(first)),
            ItemShape::Pair => {
                self.check_path(1, second, ":/")?;
                format!("{}:{}{behind}", doubled(first), doubled(second))
            }
            ItemShape::Assignment => {
                self.check_path(0, first, "=")?;
                let front: String = options.iter().map(|option| format!("{option},")).collect();
                format!("{front}{first}={second}")
            }
            ItemShape::Numbers => {
                let mut fields = vec![first, second];
                let home = parts.get("home");
                if self.optional.contains(&"home") {
                    // A group is written out in front of a home; it is that of the user's number.
                    fields.extend(parts.get("gid").or(home.and(Some(second))));
                    fields.extend(home);
                }
                if let Some(field) = fields.iter().find(|field| field.contains(':')) {
                    return Err(format!("`{field}` contains a colon"));
                }
                fields.join(":")
            }
        })
    }

    /// Requires that a path in the image begins where the flag looks for it, and ends there.
    fn check_path(&self, number: usize, path: &str, end: &str) -> Result<(), String> {
        let name = self.field(number);
        if !path.starts_with('/') {
            return Err(format!("`{name}` is not an absolute path"));
        }
        if path.contains(end) {
            return Err(format!("`{name}` contains `{end}`, which --{} cannot say", self.flag));
        }
        Ok(())
    }

    /// Returns the parts of a value that the flag accepts.
    ///
    /// # Errors
    /// Fails if the value has not the form of the flag.
    pub(super) fn split(&self, text: &str) -> Result<ItemParts> {
        let malformed = || Error::usage(format!("--{}", self.flag), "not an item of this flag");
        let (first, second) = (self.field(0), self.field(1));
        let (fields, options) = match self.shape {
            ItemShape::Plain => (vec![(first, text.to_owned())], Vec::new()),
            ItemShape::Path => {
                let (path, options) = self.item_and_options(text)?;
                (vec![(first, path)], options)
            }
            ItemShape::Pair => {
                let (item, options) = self.item_and_options(text)?;
                let at = colon_of_pair(item.as_bytes()).ok_or_else(malformed)?;
                (vec![(first, item[..at].to_owned()), (second, item[at + 1..].to_owned())], options)
            }
            ItemShape::Assignment => {
                let at = text.find('/').ok_or_else(malformed)?;
                let (path, line) = text[at..].split_once('=').ok_or_else(malformed)?;
                let options = ItemOptions::read(&text[..at], self.options)?.into_given();
                (vec![(first, path.to_owned()), (second, line.to_owned())], options)
            }
            ItemShape::Numbers => {
                let names = self.required.iter().chain(self.optional);
                let most = self.required.len() + self.optional.len();
                (names.copied().zip(text.splitn(most, ':').map(str::to_owned)).collect(), Vec::new())
            }
        };
        Ok(ItemParts(fields.into_iter().chain(options).collect()))
    }

    fn item_and_options(&self, text: &str) -> Result<(String, Vec<(&'static str, String)>)> {
        let (item, options) = ItemOptions::split(text.as_bytes(), self.options)?;
        Ok((String::from_utf8_lossy(&item).into_owned(), options.into_given()))
    }
}

impl ItemParts {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }
}

fn form_of_field(flag: &str, name: &str) -> PartForm {
    let is_path = matches!((flag, name), ("copy", "source") | ("ca-certificates" | "timezones", "from"));
    if is_path { PartForm::Path } else { PartForm::Text }
}

fn form_of_option(form: OptionForm) -> PartForm {
    match form {
        OptionForm::Word => PartForm::Switch,
        OptionForm::Values(_) => PartForm::Texts,
        OptionForm::Value("MODE") => PartForm::Mode,
        OptionForm::Value("FILE") => PartForm::Path,
        OptionForm::Value(_) => PartForm::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_the_same_after_it_was_a_table() {
        for (flag, text) in [
            ("copy", "./app:/app,chown=65532:65532,exclude=*.md,exclude=a,,b,xattrs"),
            ("copy", "a,,b,,:/c,,,keep-owners"),
            ("copy", "C:/x:/opt/"),
            ("remove", "/a,b"),
            ("mkdir", "/tmp,mode=1777"),
            ("symlink", "../a:b:/x,chown=1"),
            ("file", "mode=0600,chown=5,/etc/key=a/b=c,d"),
            ("add-user", "app:1000"),
            ("add-user", "app:1000:1000:/srv/app"),
            ("add-group", "staff:50"),
            ("ca-certificates", "a.pem"),
            ("layer", "a, b"),
        ] {
            let table = table_of(flag).unwrap();
            assert_eq!(table.compose(&table.split(text).unwrap()).as_deref(), Ok(text), "{flag}");
        }
    }

    #[test]
    fn what_a_flag_cannot_say_is_refused() {
        let compose = |flag: &str, parts: &[(&'static str, &str)]| {
            let parts = parts.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            table_of(flag).unwrap().compose(&ItemParts(parts)).unwrap_err()
        };
        assert_eq!(compose("copy", &[("source", "a")]), "has no `destination`");
        assert!(compose("copy", &[("source", "a"), ("destination", "/b:/c")]).contains("contains `:/`"));
        assert!(compose("copy", &[("source", "a:/b"), ("destination", "c")]).contains("not an absolute path"));
        assert!(compose("file", &[("path", "/a=b"), ("text", "")]).contains("contains `=`"));
        assert!(compose("file", &[("path", "mode=0777,/a"), ("text", "")]).contains("not an absolute path"));
        assert!(compose("add-user", &[("name", "a:b"), ("uid", "1")]).contains("contains a colon"));
    }
}
