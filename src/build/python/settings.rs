//! `pyvenv.cfg`, which makes a directory an environment (PEP 405), and what else says where it was made.

use super::rewrite;
use crate::spec::ImagePath;

/// The largest `pyvenv.cfg` that is read, in bytes.
pub(super) const LARGEST: u64 = 64 << 10;

/// The lines of a `pyvenv.cfg`.
#[derive(Debug)]
pub(super) struct Settings {
    text: String,
}

impl Settings {
    /// Reads a file; `None` if it is not the one of an environment.
    pub(super) fn read(bytes: Vec<u8>) -> Option<Settings> {
        let settings = Settings { text: String::from_utf8(bytes).ok()? };
        settings.value("home").is_some_and(|home| !home.is_empty()).then_some(settings)
    }

    /// Returns the value of `key`.
    fn value(&self, key: &str) -> Option<&str> {
        self.text
            .lines()
            .filter_map(assignment)
            .find(|(other, _)| other.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    }

    /// Returns the directory of the interpreter that it was made with.
    pub(super) fn home(&self) -> &str {
        self.value("home").unwrap_or_default()
    }

    /// Returns the version of Python, such as `3.11`.
    pub(super) fn version(&self) -> Option<String> {
        let version = self.value("version").or_else(|| self.value("version_info"))?;
        let mut numbers = version.split('.');
        Some(format!("{}.{}", numbers.next()?, numbers.next()?))
    }

    /// Returns where the environment was made, as the command that made it says.
    pub(super) fn place(&self) -> Option<&str> {
        let last = self.value("command")?.split_whitespace().next_back()?;
        last.starts_with('/').then_some(last)
    }

    /// Returns the text for an environment at `new` instead of `old`, with this interpreter; `None` if nothing changes.
    pub(super) fn moved(&self, old: Option<&str>, new: &str, interpreter: Option<&ImagePath>) -> Option<Vec<u8>> {
        let directory = interpreter.and_then(ImagePath::parent).map(|directory| directory.to_string());
        let directory = directory.filter(|directory| *directory != self.home());
        let mut text = String::new();
        for line in self.text.split_inclusive('\n') {
            text.push_str(&match (&directory, interpreter) {
                (Some(directory), Some(interpreter)) => self.with_interpreter(line, directory, interpreter),
                _ => line.to_owned(),
            });
        }
        if let Some(moved) = old.and_then(|old| rewrite::replaced(text.as_bytes(), old.as_bytes(), new.as_bytes())) {
            return Some(moved);
        }
        (text != self.text).then(|| text.into_bytes())
    }

    fn with_interpreter(&self, line: &str, directory: &str, interpreter: &ImagePath) -> String {
        let Some((key, value)) = assignment(line) else { return line.to_owned() };
        let prefix = interpreter.parent().and_then(|directory| directory.parent()).unwrap_or_else(ImagePath::root);
        let new = match key.to_ascii_lowercase().as_str() {
            "home" => directory.to_owned(),
            "executable" | "base-executable" => interpreter.to_string(),
            "base-prefix" | "base-exec-prefix" => prefix.to_string(),
            "command" => {
                let moved = rewrite::replaced(value.as_bytes(), self.home().as_bytes(), directory.as_bytes());
                moved.and_then(|moved| String::from_utf8(moved).ok()).unwrap_or_else(|| value.to_owned())
            }
            _ => return line.to_owned(),
        };
        let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
        format!("{key} = {new}{end}")
    }
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    Some((key.trim(), value.trim()))
}

/// Returns where an environment was made, as its `activate` says.
pub(super) fn place_in_activate(text: &[u8]) -> Option<String> {
    let lines = std::str::from_utf8(text).ok()?.lines();
    let values = lines.filter_map(|line| line.trim().trim_start_matches("export ").strip_prefix("VIRTUAL_ENV="));
    let mut places = values.map(|value| value.trim().trim_matches(['"', '\'']));
    places.find(|place| place.starts_with('/')).map(str::to_owned)
}

/// Returns where an environment was made, as a script of it says: `/place/bin/python3`.
pub(super) fn place_in_script(text: &[u8], home: &str) -> Option<String> {
    let start = std::str::from_utf8(rewrite::start_of_script(text)).ok()?;
    let words = start.split(['"', '\'', ' ', '\n']).map(|word| word.trim_start_matches("#!"));
    let mut directories = words.filter_map(|word| {
        let (directory, name) = word.rsplit_once('/')?;
        (name.starts_with("python") || name.starts_with("pypy")).then_some(directory)
    });
    let directory = directories.find(|directory| *directory != home)?;
    directory.strip_suffix("/bin").filter(|place| place.starts_with('/')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "home = /opt/py/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n\
        executable = /opt/py/bin/python3.11\ncommand = /opt/py/bin/python3 -m venv /old/v\n";

    #[test]
    fn the_place_is_what_was_recorded() {
        let settings = Settings::read(TEXT.into()).unwrap();
        assert_eq!((settings.home(), settings.version().as_deref()), ("/opt/py/bin", Some("3.11")));
        assert_eq!(settings.place(), Some("/old/v"));
        assert!(Settings::read(b"version = 3".to_vec()).is_none());
        let place = |text: &str| place_in_activate(text.as_bytes());
        assert_eq!(
            place("if x; then\n    export VIRTUAL_ENV=$(cygpath /a)\nelse\n    export VIRTUAL_ENV=/a/b\n").as_deref(),
            Some("/a/b")
        );
        assert_eq!(place("VIRTUAL_ENV='/a b'\n").as_deref(), Some("/a b"));
        assert_eq!(place("VIRTUAL_ENV=\"$(dirname x)\"\n"), None);
        let script = |text: &str| place_in_script(text.as_bytes(), "/usr/bin");
        assert_eq!(script("#!/old/v/bin/python3 -s\n").as_deref(), Some("/old/v"));
        assert_eq!(script("#!/bin/sh\n'''exec' \"/a b/bin/python\"\n"), None);
        for other in ["#!/usr/bin/python3\n", "#!/usr/bin/env python3\n", "#!/bin/sh\n", "x"] {
            assert_eq!(script(other), None, "{other}");
        }
    }

    #[test]
    fn settings_name_the_new_place_and_interpreter() {
        let settings = Settings::read(TEXT.into()).unwrap();
        let moved = |path: &str| {
            let path: ImagePath = path.parse().unwrap();
            settings.moved(Some("/old/v"), "/new", Some(&path)).map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(moved("/opt/py/bin/python3.11"), Some(TEXT.replace("/old/v", "/new")));
        let elsewhere = TEXT.replace("/opt/py/bin", "/usr/local/bin").replace("/old/v", "/new");
        assert_eq!(moved("/usr/local/bin/python3.11"), Some(elsewhere));
        assert_eq!(settings.moved(None, "/new", None), None);
    }
}
