//! Environment variables of an image: `KEY=VALUE`, `KEY` with the value that this process has, and files of both.

use super::values;
use ocibuild::common::bounded_read;
use ocibuild::common::root::Root;
use ocibuild::{Error, Result};
use std::collections::BTreeMap;
use std::env;
use std::path::Path;

/// The largest file of variables that is read, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// Reads `KEY=VALUE`, or `KEY`, which takes the value from the environment of this process.
///
/// # Errors
/// Fails if it is neither, or the variable is not set here.
pub(super) fn variable(text: &str) -> Result<(String, String)> {
    if text.contains('=') {
        return values::pair(text);
    }
    let object = || format!("variable `{text}`");
    if text.is_empty() {
        return Err(Error::usage(object(), "not of the form KEY=VALUE or KEY"));
    }
    match env::var(text) {
        Ok(value) => Ok((text.to_owned(), value)),
        Err(env::VarError::NotPresent) => {
            Err(Error::usage(object(), "not set in this environment").hint(format!("{text}=VALUE sets a value")))
        }
        Err(env::VarError::NotUnicode(_)) => Err(Error::usage(object(), "not UTF-8 in this environment")),
    }
}

/// Reads a file with one variable in each line, as docker does: empty lines and lines that begin with `#` are ignored, and quotes are
/// part of a value.
///
/// # Errors
/// Fails if the file cannot be read, a line is malformed, or a variable is in it twice.
pub(super) fn read_file(file: &Path) -> Result<BTreeMap<String, String>> {
    let object = file.display().to_string();
    let text = bounded_read::read(Root::open_named_file(file)?, LARGEST_FILE, &object)?;
    let text = String::from_utf8(text).map_err(|_| Error::invalid(&object, "not UTF-8"))?;
    let mut variables = BTreeMap::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let failed = |reason: String| Error::invalid(format!("{object}:{}", number + 1), reason);
        let (key, value) = variable(line).map_err(|error| failed(error.to_string()))?;
        if key.contains(char::is_whitespace) {
            return Err(failed(format!("the name `{key}` contains a space")));
        }
        if variables.insert(key.clone(), value).is_some() {
            return Err(failed(format!("{key} is in the file twice")));
        }
    }
    Ok(variables)
}
