//! Checks for images that cannot run, as far as their files show.

use crate::build::image::ConfigEdit;
use crate::build::linking::ElfFile;
use crate::build::loaders::{Libc, Loaders};
use crate::build::placement::Unchecked;
use crate::common::error::{Result, one_line};
use crate::common::progress::{Progress, warn};
use crate::layers::rootfs::{LayerBelow, ListedKind, Program, Resolved, Rootfs, StackedEntry, content_of, has_name};
use crate::layers::tree::{Content, Entry, Kind};
use crate::spec::{Config, DEFAULT_PATH, ImagePath, Platform};
use serde_json::Value;

/// An object that will fail, with the reason.
pub(super) type Problem = (String, String);

/// Warns about problems of an image with `config` whose layers are `below`, those of its base, and `new`. Those that the base
/// has too are not reported.
///
/// # Errors
/// Fails if a layer has to be read and cannot be.
pub(super) fn warn_of_problems(
    (base, below): (&Config, &[LayerBelow<'_>]),
    (config, new): (&Value, &[LayerBelow<'_>]),
    unchecked: &mut Unchecked,
    progress: &dyn Progress,
) -> Result<()> {
    let platform = base.platform();
    let known = problems(base.document(), platform, &Rootfs::new(below), &mut Unchecked::default())?;
    let found = problems(config, platform, &Rootfs::new(below.iter().chain(new)), unchecked)?;
    for (object, reason) in found.iter().filter(|problem| !known.contains(problem)) {
        warn(progress, object, reason);
    }
    Ok(())
}

/// Finds a user that does not exist in the image, and a program that is missing, not executable or for another processor.
///
/// # Errors
/// Fails if a layer has to be read and cannot be.
pub(super) fn problems(
    document: &Value,
    platform: &Platform,
    rootfs: &Rootfs<'_>,
    unchecked: &mut Unchecked,
) -> Result<Vec<Problem>> {
    let config = &document["config"];
    let user = config["User"].as_str().unwrap_or_default();
    let (user, group) = user.split_once(':').map_or((user, ""), |(user, group)| (user, group));
    let mut problems = Vec::new();
    for (kind, name, file) in [("user", user, "etc/passwd"), ("group", group, "etc/group")] {
        if !name.is_empty() && !name.bytes().all(|byte| byte.is_ascii_digit()) {
            problems.extend(problem_of_account(kind, name, file, rootfs, unchecked)?);
        }
    }
    let words = |key: &str| config[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(program) = words("Entrypoint").chain(words("Cmd")).next() {
        problems.extend(
            ProgramSearch { config, rootfs, loaders: Loaders::find(rootfs, platform)? }
                .problem_of_program(program, platform, unchecked)?,
        );
    }
    Ok(problems)
}

fn problem_of_account(
    kind: &str,
    name: &str,
    file: &str,
    rootfs: &Rootfs<'_>,
    unchecked: &mut Unchecked,
) -> Result<Option<Problem>> {
    let object = format!("{kind} {}", one_line(name));
    let reason = match rootfs.resolve(&ImagePath::new(file.as_bytes())?)? {
        Resolved::Unseen(_, unseen) => {
            unchecked.note(format!("whether there is the {object}"), &unseen);
            return Ok(None);
        }
        Resolved::Node(_, below) => match content_of(&below) {
            Some(content) if !has_name(&content, name) => {
                format!("not in the image's /{file}, so the image cannot run (add it to /{file}, or use a number)")
            }
            _ => return Ok(None),
        },
        Resolved::Absent(_) | Resolved::NoDirectory(_) | Resolved::Circle => {
            format!("the image has no /{file}, so the image cannot run (use a number)")
        }
    };
    Ok(Some((object, reason)))
}

/// Returns the first `length` bytes of a content. Read errors are reported later, when the layer is built.
fn read_start(content: &Content, length: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    content.append(0, usize::try_from(length).ok()?, size, &mut bytes).ok()?;
    Some(bytes)
}

/// The search for the program of the image.
struct ProgramSearch<'a> {
    config: &'a Value,
    rootfs: &'a Rootfs<'a>,
    loaders: Loaders,
}

impl ProgramSearch<'_> {
    fn problem_of_program(
        &self,
        program: &str,
        platform: &Platform,
        unchecked: &mut Unchecked,
    ) -> Result<Option<Problem>> {
        let object = format!("entrypoint {}", one_line(program));
        let mut unusable = None;
        for candidate in self.candidates(program) {
            // A path above the root or one that is too long is left to the engine.
            let Ok(path) = ImagePath::new(candidate.as_bytes()) else { return Ok(None) };
            match self.rootfs.resolve(&path)? {
                Resolved::Unseen(_, unseen) => {
                    unchecked.note(format!("whether {object} is there and can run"), &unseen);
                    return Ok(None);
                }
                Resolved::Node(real, below) => match unusable_because(&below, platform, self.loaders) {
                    None => return Ok(None),
                    Some(reason) => drop(unusable.get_or_insert(format!("{real} {reason}"))),
                },
                Resolved::Absent(_) | Resolved::NoDirectory(_) | Resolved::Circle => {}
            }
        }
        let reason = match unusable {
            Some(reason) => reason,
            None if program.contains('/') => "not found in the image".to_owned(),
            None => "not found in the image's PATH".to_owned(),
        };
        Ok(Some((object, reason)))
    }

    /// Returns the paths to try.
    fn candidates(&self, program: &str) -> Vec<String> {
        if program.starts_with('/') {
            return vec![program.to_owned()];
        }
        let directory = self.config["WorkingDir"].as_str().unwrap_or("/");
        if program.contains('/') {
            return vec![format!("{directory}/{program}")];
        }
        let variables = self.config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let path = variables.filter_map(|variable| variable.strip_prefix("PATH=")).next_back().unwrap_or(DEFAULT_PATH);
        path.split(':').filter(|place| place.starts_with('/')).map(|place| format!("{place}/{program}")).collect()
    }
}

/// Returns the reason why a program cannot run.
fn unusable_because(below: &StackedEntry, platform: &Platform, loaders: Loaders) -> Option<String> {
    let ListedKind::File { program, .. } = below.node.kind else { return Some("is not a file".to_owned()) };
    if below.node.mode & 0o111 == 0 {
        return Some(format!("is not executable: its mode is {:04o}", below.node.mode));
    }
    let program = below.entry.as_ref().map_or(Some(program), program_of)?;
    if let Some(foreign) = program.foreign_to(platform.architecture()) {
        return Some(format!("is a program for {foreign}, and the image is for {platform}"));
    }
    let loader = ElfFile::of(below.entry.as_ref()?)?.loader()?;
    loaders.missing(&loader).map(|libc| format!("needs {loader}, {}", missing_loader(libc)))
}

/// Returns the reason why a program cannot start in an image that does not have its loader.
pub(super) fn missing_loader(libc: Libc) -> String {
    let libc = libc.name();
    format!("which the image does not have, so it cannot start (use a base with {libc}, or link it statically)")
}

pub(super) fn program_of(entry: &Entry) -> Option<Program> {
    let Kind::File { size, content } = &entry.kind else { return None };
    // Library files of a hololib are already for the platform, and reading them would mean inflating them.
    if matches!(content, Content::Stored(_)) || *size < Program::HEAD as u64 {
        return None;
    }
    read_start(content, Program::HEAD as u64, *size).map(|head| Program::of_head(&head))
}

/// Warns about shell syntax in a command that runs without a shell.
pub(super) fn warn_of_shell_syntax(edit: &ConfigEdit, progress: &dyn Progress) {
    let is_shell = |words: &Option<Vec<String>>| {
        let name = words.iter().flatten().next().and_then(|word| word.rsplit('/').next());
        name.is_some_and(|name| matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "busybox"))
    };
    if is_shell(&edit.entrypoint) {
        return;
    }
    for (flag, words) in [("--entrypoint", &edit.entrypoint), ("--cmd", &edit.cmd)] {
        let found = words.iter().flatten().find(|word| needs_shell(word));
        if let Some(word) = found.filter(|_| !is_shell(words)) {
            let reason = format!("`{}` is passed to the program unchanged, without a shell", one_line(word));
            warn(progress, flag, &format!("{reason} ({flag} \"sh -c '…'\")"));
        }
    }
}

fn needs_shell(word: &str) -> bool {
    let is_operator = matches!(word, "&&" | "||" | "|" | ";" | "&" | ">" | ">>" | "<" | "<<" | "2>" | "2>&1" | "&>");
    let is_redirection = word.starts_with("2>") || word.starts_with('>') && word.len() > 1;
    let has_variable = word
        .match_indices('$')
        .any(|(at, _)| word[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '(')));
    is_operator || is_redirection || has_variable || word.len() > 1 && word.ends_with(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_for_a_shell_need_one() {
        for word in ["&&", "|", "$PORT", "--port=${PORT}", "2>&1", ">log", "$(date)", "a;"] {
            assert!(needs_shell(word), "{word}");
        }
        for word in ["a&b", "US$", "$", "$5", "-", "x > y", ";x", "=>", "<html>"] {
            assert!(!needs_shell(word), "{word}");
        }
    }
}
