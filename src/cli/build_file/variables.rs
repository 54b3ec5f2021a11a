//! ListedVariables of the environment in a build file: `${NAME}`, where the file lists the name.

use super::text::BuildFileText;
use ocibuild::Result;
use std::collections::BTreeMap;
use std::env::{self, VarError};
use toml::Spanned;
use toml::de::DeValue;

/// The variables that a file lists, with their values.
#[derive(Debug, Default)]
pub(super) struct ListedVariables(BTreeMap<String, String>);

impl ListedVariables {
    /// Looks up the variables in the list `names` of `file`.
    ///
    /// # Errors
    /// Fails if it is not a list of names, or one of them is not set here.
    pub(super) fn listed(names: &Spanned<DeValue<'_>>, file: &BuildFileText) -> Result<ListedVariables> {
        let place = |at: &Spanned<DeValue<'_>>| file.place(at.span().start);
        let DeValue::Array(names) = names.get_ref() else {
            return Err(place(names).error("`variables` is a list of names"));
        };
        let mut variables = BTreeMap::new();
        for at in names {
            let name = match at.get_ref() {
                DeValue::String(name) if is_name(name) => name.to_string(),
                _ => return Err(place(at).error("not the name of a variable: letters, digits and `_`")),
            };
            let value = match env::var(&name) {
                Ok(value) => value,
                Err(VarError::NotPresent) => {
                    let error = place(at).error(format!("the variable {name} is not set in this environment"));
                    return Err(error.hint(format!("{name}=VALUE ocibuild build")));
                }
                Err(VarError::NotUnicode(_)) => {
                    return Err(place(at).error(format!("the variable {name} is not UTF-8 in this environment")));
                }
            };
            if variables.insert(name.clone(), value).is_some() {
                return Err(place(at).error(format!("{name} is listed twice")));
            }
        }
        Ok(ListedVariables(variables))
    }

    /// Returns `text` with the values in place of the names. What is in a value is not replaced again.
    pub(super) fn replaced_in(&self, text: &str) -> String {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, named) = rest.split_at(at);
            replaced.push_str(before);
            let name = named[2..].split_once('}').map(|(name, _)| name);
            match name.and_then(|name| Some((name, self.0.get(name)?))) {
                Some((name, value)) => {
                    replaced.push_str(value);
                    rest = &named[name.len() + 3..];
                }
                None => {
                    replaced.push_str("${");
                    rest = &named[2..];
                }
            }
        }
        replaced + rest
    }
}

fn is_name(text: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_names_are_replaced() {
        let values = [("A", "1"), ("B", "${A}"), ("EMPTY", "")];
        let variables =
            ListedVariables(values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect());
        for (text, expected) in [
            ("${A}", "1"),
            ("v${A}.${A}", "v1.1"),
            ("${B}", "${A}"),
            ("[${EMPTY}]", "[]"),
            ("${C} $A $${A} ${A", "${C} $A $1 ${A"),
            ("${${A}}", "${1}"),
            ("é${A}é", "é1é"),
        ] {
            assert_eq!(variables.replaced_in(text), expected, "{text}");
        }
    }
}
