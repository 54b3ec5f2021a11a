//! The keys of a build file. They are the flags of the command line, taken from its definition, so that there is no second list.

use crate::cli::Cli;
use crate::cli::familiar_words::nearest;
use clap::{Arg, ArgAction, Command, CommandFactory as _};

/// The flags that are about one run of the program, not about an image.
const OF_ONE_RUN: [&str; 11] = [
    "build-file",
    "creds-stdin",
    "dry-run",
    "explain",
    "format",
    "help",
    "image",
    "jobs",
    "progress",
    "quiet",
    "version",
];

/// The flags that say where an image goes.
pub(super) const DESTINATIONS: [&str; 4] = ["load", "output", "push", "save"];

/// The flags whose values are a name and a value, so that a table can hold them.
pub(super) const PAIRS: [&str; 4] = ["annotation", "env", "label", "mirror"];

/// The name of the value of a flag that takes a command.
const COMMAND: &str = "COMMAND";

/// The flags of a command that can be keys.
pub(super) struct FileKeys {
    command: Command,
    /// The flags of `build`, of which another command accepts those that say where an image goes.
    build: Command,
}

/// A key, and the flag that it is.
#[derive(Clone, Copy)]
pub(super) struct FileKey<'k> {
    pub(super) name: &'k str,
    arg: &'k Arg,
    pub(super) form: KeyForm,
    pub(super) user: KeyUser,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// `true` or `false`; `false` is as good as no key.
    Switch,
    /// A switch, or a value.
    SwitchOrValue,
    /// `true` or `false`, both of which mean something.
    Choice,
    /// A value.
    Value,
    /// A command: words, or a list of them.
    Command,
    /// A list of values.
    Values,
}

/// The command that uses a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyUser {
    /// This one.
    This,
    /// `build`, while the command line of another command says itself where the image goes.
    Build,
}

impl FileKeys {
    /// Returns the keys of the command `name`.
    pub(super) fn of(name: &str) -> FileKeys {
        let mut program = Cli::command();
        program.build();
        let find = |name| program.find_subcommand(name).cloned().unwrap_or_default();
        FileKeys { command: find(name), build: find("build") }
    }

    /// Returns the key called `name`.
    pub(super) fn find<'k>(&'k self, name: &str) -> Option<FileKey<'k>> {
        let of = |command: &'k Command, user| {
            let is_it = |arg: &&Arg| arg.get_long() == Some(name);
            command.get_arguments().find(is_it).and_then(|arg| FileKey::of(arg, user))
        };
        let is_destination = DESTINATIONS.contains(&name);
        of(&self.command, KeyUser::This).or_else(|| is_destination.then(|| of(&self.build, KeyUser::Build)).flatten())
    }

    /// Returns all keys of the command.
    pub(super) fn all(&self) -> impl Iterator<Item = FileKey<'_>> {
        self.command.get_arguments().filter_map(|arg| FileKey::of(arg, KeyUser::This))
    }

    /// Returns the advice for a key that there is not.
    pub(super) fn advice(&self, unknown: &str) -> String {
        if OF_ONE_RUN.contains(&unknown) {
            return "that flag is for the command line only".to_owned();
        }
        if unknown == "save" {
            return "that is a flag of `ocibuild layout`; output = [\"docker-archive:FILE\"]".to_owned();
        }
        let known = self.all().map(|key| key.name).chain(super::OWN_KEYS);
        match nearest(unknown, known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "keys are the flags of `ocibuild build`, without their hyphens in front".to_owned(),
        }
    }

    /// Returns whether two flags cannot be given together.
    pub(super) fn conflict(&self, one: &str, other: &str) -> bool {
        let (Some(one), Some(other)) = (self.find(one), self.find(other)) else { return false };
        let conflicts = |one: &FileKey<'_>, other: &FileKey<'_>| {
            self.command.get_arg_conflicts_with(one.arg).iter().any(|arg| arg.get_id() == other.arg.get_id())
        };
        conflicts(&one, &other) || conflicts(&other, &one)
    }
}

impl<'k> FileKey<'k> {
    /// Returns the key for a flag, if the flag is about an image.
    fn of(arg: &'k Arg, user: KeyUser) -> Option<FileKey<'k>> {
        let name = arg.get_long().filter(|name| !OF_ONE_RUN.contains(name))?;
        Some(FileKey { name, arg, form: form_of(arg), user })
    }

    /// Returns the only values that the flag takes; none if it takes others, too.
    pub(super) fn choices(&self) -> Vec<String> {
        self.arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
    }

    /// Returns the help of the flag.
    pub(super) fn help(&self) -> String {
        self.arg.get_help().map(ToString::to_string).unwrap_or_default()
    }

    /// Returns the name that clap knows the flag by.
    pub(super) fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }
}

fn form_of(arg: &Arg) -> KeyForm {
    let is_optional = arg.get_num_args().is_some_and(|number| number.min_values() == 0);
    let is_command = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == COMMAND));
    let is_boolean = arg.get_possible_values().iter().any(|value| value.get_name() == "true");
    match arg.get_action() {
        ArgAction::SetTrue => KeyForm::Switch,
        ArgAction::Append => KeyForm::Values,
        _ if is_boolean => KeyForm::Choice,
        _ if is_optional => KeyForm::SwitchOrValue,
        _ if is_command => KeyForm::Command,
        _ => KeyForm::Value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::build_file::item_tables::table_of;
    use crate::cli::build_file::paths::PATHS;

    /// Flags whose paths are in the image.
    const IN_THE_IMAGE: [&str; 3] = ["home", "volume", "workdir"];

    #[test]
    fn every_flag_with_a_path_is_known_to_have_one() {
        for keys in [FileKeys::of("build"), FileKeys::of("layout")] {
            for key in keys.all() {
                let names = key.arg.get_value_names().unwrap_or_default();
                let words = ["DEST", "DIR", "FILE", "IMAGE", "PATH"];
                let has_path = names.iter().any(|name| words.iter().any(|word| name.contains(word)));
                let is_known = PATHS.iter().any(|(flag, _)| *flag == key.name)
                    || table_of(key.name).is_some()
                    || IN_THE_IMAGE.contains(&key.name);
                assert!(is_known || !has_path || key.form == KeyForm::Switch, "{}", key.name);
            }
        }
    }

    #[test]
    fn flags_that_are_listed_exist() {
        let program = Cli::command();
        let exists = |name: &str| {
            let has = |command: &str| {
                let command = program.find_subcommand(command).unwrap();
                command.get_arguments().any(|arg| arg.get_long() == Some(name))
            };
            has("build") || has("layout") || ["help", "version"].contains(&name)
        };
        let paths = PATHS.iter().map(|(name, _)| *name);
        for name in OF_ONE_RUN.into_iter().chain(DESTINATIONS).chain(PAIRS).chain(paths) {
            assert!(exists(name), "{name}");
        }
        let layer_flags = crate::cli::content_flags::LAYER_FLAGS;
        assert!(layer_flags.iter().all(|(_, name)| exists(name) && table_of(name).is_some()));
    }
}
