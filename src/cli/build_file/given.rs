//! Flags that are given, in a file or on the command line, and how those of one place combine with those of another.

use super::keys::{DESTINATIONS, FileKeys, KeyForm, PAIRS};
use super::text::FilePlace;
use clap::ArgMatches;
use clap::parser::ValueSource;
use std::collections::BTreeSet;

/// A flag in a build file.
#[derive(Debug, Clone)]
pub(super) struct GivenFlag {
    /// Its name, without hyphens.
    pub(super) name: String,
    pub(super) setting: FlagSetting,
    pub(super) place: FilePlace,
}

/// What a flag is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FlagSetting {
    /// Not given, whatever a file below says.
    Off,
    /// Given without a value.
    On,
    Value(String),
}

/// The flags of a place, as far as another place needs to know them.
#[derive(Debug, Default)]
pub(super) struct Above {
    /// The names of those that are given.
    names: BTreeSet<String>,
    /// The names of all of them.
    set: BTreeSet<String>,
    /// The names in pairs, each with its flag.
    pairs: BTreeSet<(&'static str, String)>,
}

impl GivenFlag {
    /// Returns the word of a command line that gives the flag.
    pub(super) fn word(&self) -> Option<String> {
        match &self.setting {
            FlagSetting::Off => None,
            FlagSetting::On => Some(format!("--{}", self.name)),
            FlagSetting::Value(value) => Some(format!("--{}={value}", self.name)),
        }
    }
}

impl Above {
    /// Returns what is known of the flags of a file.
    pub(super) fn of_file(flags: &[GivenFlag]) -> Above {
        let mut above = Above::default();
        for flag in flags {
            match &flag.setting {
                FlagSetting::Off => {}
                FlagSetting::On => above.add(&flag.name, None),
                FlagSetting::Value(value) => above.add(&flag.name, Some(value)),
            }
            above.set.insert(flag.name.clone());
        }
        above
    }

    /// Returns what is known of the flags of a command line.
    pub(super) fn of_command_line(keys: &FileKeys, matches: &ArgMatches) -> Above {
        let mut above = Above::default();
        for key in keys.all().filter(|key| is_typed(matches, key.id())) {
            above.add(key.name, None);
            above.set.insert(key.name.to_owned());
            for value in matches.get_raw(key.id()).into_iter().flatten() {
                above.add(key.name, Some(&value.to_string_lossy()));
            }
        }
        above
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        self.names.insert(name.to_owned());
        self.pairs.extend(value.and_then(|value| pair(name, value)));
    }

    /// Returns the flags of `below` that stay beside these.
    pub(super) fn over(&self, below: Vec<GivenFlag>, keys: &FileKeys) -> Vec<GivenFlag> {
        let goes_elsewhere = DESTINATIONS.iter().any(|name| self.names.contains(*name));
        let names: BTreeSet<String> = below.iter().map(|flag| flag.name.clone()).collect();
        let stays = |name: &String| {
            let is_destination = DESTINATIONS.contains(&name.as_str());
            let is_replaced = self.set.contains(name) && !adds_up(keys, name);
            let is_excluded = self.names.iter().any(|above| keys.conflict(above, name));
            !(is_replaced || is_excluded || (is_destination && goes_elsewhere))
        };
        let staying: BTreeSet<String> = names.into_iter().filter(stays).collect();
        let is_overridden = |flag: &GivenFlag| match &flag.setting {
            FlagSetting::Value(value) => pair(&flag.name, value).is_some_and(|pair| self.pairs.contains(&pair)),
            FlagSetting::On | FlagSetting::Off => false,
        };
        below.into_iter().filter(|flag| staying.contains(&flag.name) && !is_overridden(flag)).collect()
    }
}

/// Returns whether a flag is on the command line.
pub(super) fn is_typed(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// Returns whether values of one place are added to those of another, instead of replacing them.
fn adds_up(keys: &FileKeys, name: &str) -> bool {
    let is_list = keys.find(name).is_some_and(|key| key.form == KeyForm::Values);
    is_list && !["platform", "tag"].contains(&name) && !DESTINATIONS.contains(&name)
}

/// Returns what a value is about, if a value of another place about the same overrides it.
fn pair(name: &str, value: &str) -> Option<(&'static str, String)> {
    if name == "unset-env" {
        return Some(("env", value.to_owned()));
    }
    let flag = PAIRS.into_iter().find(|flag| *flag == name)?;
    // Hosts have several mirrors.
    (flag != "mirror").then(|| (flag, value.split('=').next().unwrap_or(value).to_owned()))
}
