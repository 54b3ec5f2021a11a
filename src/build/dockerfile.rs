//! A plan as a Dockerfile and its build context. Pipelines use it to build with docker, podman, buildah or kaniko.
//!
//! ```text
//! Dockerfile
//! layer-1-<diff ID>.tar     what the first new layer holds
//! layer-2-<diff ID>.tar     ...
//! ```
//!
//! The tars are named after their content, and the Dockerfile is replaced when all of them are complete. So a context is
//! always consistent, even if the program is stopped at any moment.
//!
//! `ADD` unpacks a local tar with its owners, modes, times and links. `COPY` could not do this: it supports one owner,
//! takes modes from a checkout, and turns two names of a file into two files. So every layer is one tar, whose digest is
//! its diff ID.

use crate::build::Plan;
use crate::build::image::{Base, ConfigEdit, HealthcheckEdit};
use crate::common::digest::{Digest, HashingWriter};
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::{Progress, warn};
use crate::common::root::Root;
use crate::layers::tree::{DOCKERFILE, DOCKERFILE_MARK, Tree};
use crate::layers::{hash_layer, write_tar};
use crate::spec::ImagePath;
use crate::spec::Platform;
use crate::store::Location;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::BufWriter;

/// The name of the file that builders read.
pub const FILE_NAME: &str = DOCKERFILE;

/// A Dockerfile whose tars have not been named yet.
#[derive(Debug)]
pub struct Dockerfile {
    instructions: Vec<Instruction>,
    tars: Vec<(usize, Tree)>,
}

#[derive(Debug)]
enum Instruction {
    Line(String),
    /// Adds the tar at this index of the list.
    Add(usize),
}

/// The text of a Dockerfile, and the names of the tars that it adds.
#[derive(Debug)]
pub struct Written {
    text: String,
    context: Vec<String>,
}

impl Written {
    /// Returns the instructions, with a trailing line break.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the names of the files that the context must hold.
    pub fn context(&self) -> &[String] {
        &self.context
    }
}

impl Dockerfile {
    /// Converts `plan` to instructions. `base` is the location of its base.
    ///
    /// # Errors
    /// Returns an error if a Dockerfile cannot express something (the removal of an inherited variable, a line break in a
    /// value), or if a layer was planned from the cache.
    pub fn of(plan: &Plan, base: Option<&Location>, progress: &dyn Progress) -> Result<Dockerfile> {
        let line = Instruction::Line;
        let mut lines = vec![line(DOCKERFILE_MARK.to_owned())];
        lines.extend(from(&plan.base, base)?.into_iter().map(line));
        let mut tars = Vec::new();
        let mut runs_as_root = is_root(inherited(&plan.base, "User"));
        for (number, layer) in plan.layers.iter().enumerate() {
            let planned = layer
                .tree()
                .ok_or_else(|| Error::invalid(&layer.name, "planned from the cache, so its entries are unknown"))?;
            let (tree, removals) = planned.without_removals()?;
            lines.push(line(format!("\n# {}", crate::common::error::one_line(&layer.created_by))));
            if !removals.is_empty() && !runs_as_root {
                lines.push(line("USER 0".to_owned()));
                runs_as_root = true;
            }
            if !removals.is_empty() {
                warn(progress, &layer.name, "removes files, which Dockerfile builders do with the `rm` of the image");
            }
            for path in &removals {
                lines.push(line(removal(path)?));
            }
            // A builder takes an empty tar for an ordinary file and copies it.
            if !tree.is_empty() {
                lines.push(Instruction::Add(tars.len()));
                tars.push((number + 1, tree));
            }
        }
        lines.push(line(String::new()));
        lines.extend(config(&plan.image.edit, &plan.base, runs_as_root)?.into_iter().map(line));
        lines.push(line(String::new()));
        Ok(Dockerfile { instructions: lines, tars })
    }

    /// Reads every layer, and names the tars without writing them.
    ///
    /// # Errors
    /// Returns an error if a source cannot be read or has changed.
    pub fn without_context(&self, progress: &dyn Progress) -> Result<Written> {
        let named = |(number, tree): &(usize, Tree)| {
            let diff_id = hash_layer(tree, &format!("layer {number}"), progress)?;
            Ok(tar_name(*number, &diff_id.as_digest()))
        };
        self.tars.iter().map(named).collect::<Result<_>>().map(|names| self.with(names))
    }

    /// Writes the tars and the Dockerfile into `directory`. Tars that the Dockerfile no longer names are removed.
    ///
    /// # Errors
    /// Returns an error if a source cannot be read or has changed, another process writes to the directory, or the
    /// directory cannot be written. The previous content is unchanged then.
    pub fn write_context(&self, directory: &Root, progress: &dyn Progress) -> Result<Written> {
        let _lock = DirectoryLock::of(directory)?;
        directory.sweep_temporaries();
        match directory.open_file(FILE_NAME) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut names = Vec::new();
        for (number, tree) in &self.tars {
            let file = BufWriter::with_capacity(1 << 20, directory.temporary()?);
            let mut hashed = HashingWriter::new(file);
            write_tar(tree, &format!("layer {number}"), &mut hashed, progress)?;
            let (file, digest) = hashed.finish();
            let name = tar_name(*number, &digest);
            let file = file.into_inner().map_err(|error| Error::io(directory.display(&name), "write", error.into()))?;
            file.persist(&name)?;
            names.push(name);
        }
        let written = self.with(names);
        // The tars must be durable before the Dockerfile is.
        directory.sync()?;
        directory.replace_file(FILE_NAME, written.text.as_bytes())?;
        sweep_tars(directory, &written.context);
        Ok(written)
    }

    fn with(&self, names: Vec<String>) -> Written {
        let line = |instruction: &Instruction| match instruction {
            Instruction::Line(line) => line.clone(),
            Instruction::Add(place) => format!("ADD {}", json!([names[*place], "/"])),
        };
        let text = self.instructions.iter().map(line).collect::<Vec<_>>().join("\n");
        Written { text, context: names }
    }
}

fn tar_name(number: usize, digest: &Digest) -> String {
    format!("layer-{number}-{}.tar", digest.hex())
}

/// Returns whether `name` has exactly the form of a tar that we wrote.
fn is_tar_name(name: &str) -> bool {
    let inner = name.strip_prefix("layer-").and_then(|rest| rest.strip_suffix(".tar"));
    inner.and_then(|inner| inner.split_once('-')).is_some_and(|(number, digest)| {
        number.parse::<usize>().is_ok_and(|parsed| parsed.to_string() == number)
            && format!("sha256:{digest}").parse::<Digest>().is_ok()
    })
}

/// Removes the tars of earlier contexts. A tar that cannot be removed only takes space.
fn sweep_tars(directory: &Root, wanted: &[String]) {
    let Ok(entries) = directory.dir().entries() else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if is_tar_name(&name) && !wanted.contains(&name) {
            directory.dir().remove_file(&name).ok();
        }
    }
}

fn from(base: &Base, location: Option<&Location>) -> Result<Vec<String>> {
    let config = base.config();
    // docker's old builder does not support --platform, so it is only written if it is needed.
    let platform = match config.platform() {
        usual if *usual == Platform::linux_amd64() => String::new(),
        other => format!("--platform={} ", word("platform", &other.to_string())?),
    };
    let Base::Image { image, .. } = base else { return Ok(vec![format!("FROM {platform}scratch")]) };
    let local = |transport: &str, path: &std::path::Path, name: &Option<String>| {
        let name = name.as_ref().map(|name| format!(":{name}")).unwrap_or_default();
        format!("{transport}:{}{name}", path.display())
    };
    let here = match location {
        Some(Location::Registry(reference)) => {
            let digest = image.descriptor.digest;
            return Ok(vec![format!("FROM {platform}{}/{}@{digest}", reference.registry(), reference.repository())]);
        }
        Some(Location::Layout { directory, tag }) => local("oci", directory, tag),
        Some(Location::OciArchive { file, tag }) => local("oci-archive", file, tag),
        Some(Location::DockerArchive { file, reference }) => local("docker-archive", file, reference),
        Some(location @ (Location::Directory(_) | Location::Engine(..))) => location.to_string(),
        None => String::new(),
    };
    Ok(vec![
        "# podman and buildah read this base from its path; docker and kaniko need its name in a registry or engine:"
            .to_owned(),
        format!("#   --build-arg BASE=NAME    (manifest {})", image.descriptor.digest),
        format!("ARG BASE={}", quoted_or_plain(checked_line("base", &here)?)),
        format!("FROM {platform}${{BASE}}"),
    ])
}

fn inherited(base: &Base, member: &str) -> Value {
    base.config().document()["config"][member].clone()
}

fn is_root(user: Value) -> bool {
    let user = user.as_str().unwrap_or_default();
    matches!(user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

/// Returns the instruction that removes `path`. A Dockerfile can only remove files with a program of the image.
fn removal(path: &ImagePath) -> Result<String> {
    let bytes = [b"/", path.as_bytes()].concat();
    let path = String::from_utf8(bytes).map_err(|_| cannot(&path.to_string(), "contain a name that is not Unicode"))?;
    Ok(format!("RUN {}", json!(["rm", "-rf", path])))
}

fn cannot(object: &str, what: &str) -> Error {
    Error::invalid(object, format!("a Dockerfile cannot {what}"))
}

fn config(edit: &ConfigEdit, base: &Base, runs_as_root: bool) -> Result<Vec<String>> {
    // Destructured without `..`, so that a new field cannot be forgotten here.
    let ConfigEdit {
        entrypoint,
        cmd,
        env,
        unset_env,
        working_dir,
        user,
        labels,
        exposed_ports,
        volumes,
        stop_signal,
        author,
        healthcheck,
    } = edit;
    let variables = inherited(base, "Env");
    let is_set = |key: &String| {
        let set = variables.as_array().into_iter().flatten().filter_map(Value::as_str);
        set.filter_map(|variable| variable.split('=').next()).any(|name| name == key)
    };
    if let Some(key) = unset_env.iter().find(|key| is_set(key)) {
        return Err(cannot(&format!("variable {key}"), "remove a variable of the base"));
    }
    let mut lines = Vec::new();
    if let Some(author) = author {
        lines.push(format!("MAINTAINER {}", checked_line("author", author)?));
    }
    lines.extend(pairs("ENV", env)?);
    lines.extend(pairs("LABEL", labels)?);
    for port in exposed_ports {
        lines.push(format!("EXPOSE {}", word("port", port)?));
    }
    if let Some(directory) = working_dir {
        lines.push(format!("WORKDIR {}", escaped(checked_line("working directory", directory)?)));
    }
    if !volumes.is_empty() {
        let volumes: Vec<String> = volumes.iter().map(|path| escaped(path)).collect();
        lines.push(format!("VOLUME {}", json!(volumes)));
    }
    if let Some(signal) = stop_signal {
        lines.push(format!("STOPSIGNAL {}", word("stop signal", signal)?));
    }
    lines.extend(health_instruction(healthcheck)?);
    // Setting an entrypoint clears the inherited command, both here and in a Dockerfile.
    let is_none_to_remove = || inherited(base, "Entrypoint").as_array().is_none_or(Vec::is_empty);
    if let Some(entrypoint) = entrypoint.as_ref().filter(|entrypoint| !entrypoint.is_empty() || !is_none_to_remove()) {
        lines.push(format!("ENTRYPOINT {}", json!(entrypoint)));
    }
    if let Some(cmd) = cmd {
        lines.push(format!("CMD {}", json!(cmd)));
    }
    let before = inherited(base, "User");
    let user = match (user, before.as_str()) {
        (Some(user), _) => Some(("user", user.as_str())),
        (None, Some(user)) if runs_as_root && !is_root(before.clone()) => Some(("user of the base", user)),
        _ => None,
    };
    if let Some((object, user)) = user {
        lines.push(format!("USER {}", escaped(checked_line(object, user)?)));
    }
    Ok(lines)
}

/// Returns the instruction for the health check; `None` if it does not change.
fn health_instruction(edit: &HealthcheckEdit) -> Result<Option<String>> {
    if *edit == HealthcheckEdit::default() {
        return Ok(None);
    }
    let command = edit.command.as_ref().ok_or_else(|| cannot("health check", "change a health check of the base"))?;
    let mut words = vec!["HEALTHCHECK".to_owned()];
    let times = [("interval", edit.interval), ("timeout", edit.timeout), ("start-period", edit.start_period)];
    words.extend(times.iter().filter_map(|(name, time)| Some(format!("--{name}={}ms", (*time)?.as_millis()))));
    words.extend(edit.retries.map(|retries| format!("--retries={retries}")));
    words.push(format!("CMD {}", json!(command)));
    Ok(Some(words.join(" ")))
}

/// Writes one instruction for all pairs, because some builders make a layer of each instruction.
fn pairs(instruction: &str, pairs: &BTreeMap<String, String>) -> Result<Option<String>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut words = Vec::new();
    for (key, value) in pairs {
        words.push(format!(
            "{}={}",
            quoted_or_plain(checked_line(instruction, key)?),
            quoted(checked_line(key, value)?)
        ));
    }
    Ok(Some(format!("{instruction} {}", words.join(" \\\n    "))))
}

/// Checks that `text` has no line breaks, which would end the instruction, and no other control characters. Every value
/// that is not JSON passes through here, from the request and from the base.
fn checked_line<'a>(object: &str, text: &'a str) -> Result<&'a str> {
    let breaks_line = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    if text.contains(breaks_line) {
        return Err(cannot(object, "contain a line break in a value"));
    }
    match text.contains(|c: char| c.is_control() && c != '\t') {
        true => Err(cannot(object, "contain a control character in a value")),
        false => Ok(text),
    }
}

/// Checks that `text` cannot end the instruction or one of its words.
fn word<'a>(object: &str, text: &'a str) -> Result<&'a str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+-._/:".contains(c);
    match checked_line(object, text)?.chars().all(is_plain) {
        true => Ok(text),
        false => Err(cannot(object, &format!("contain `{text}`"))),
    }
}

/// Returns `text` as one word in double quotes, in which a builder replaces nothing.
fn quoted(text: &str) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$') {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
}

fn quoted_or_plain(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quoted(text) }
}

/// Escapes `text` for an instruction that takes the rest of the line and replaces variables.
fn escaped(text: &str) -> String {
    let mut word = String::new();
    for c in text.chars() {
        if matches!(c, '"' | '\'' | '\\' | '$') {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> Base {
        Base::Scratch(Platform::linux_amd64())
    }

    #[test]
    fn only_tars_of_ours_are_swept() {
        let digest = Digest::of(b"tar");
        assert!(is_tar_name(&tar_name(1, &digest)) && is_tar_name(&tar_name(10, &digest)));
        let hex = digest.hex();
        for name in ["layer-1.tar", "layer-1-short.tar", "Dockerfile"] {
            assert!(!is_tar_name(name), "{name}");
        }
        for name in [format!("layer-01-{hex}.tar"), format!("layer--{hex}.tar"), format!("my-layer-1-{hex}.tar")] {
            assert!(!is_tar_name(&name), "{name}");
        }
    }

    #[test]
    fn values_reach_the_image_as_they_are() {
        let edit = ConfigEdit {
            env: [("A".to_owned(), r#"$HOME "and" \n"#.to_owned()), ("B".to_owned(), String::new())].into(),
            labels: [("a key".to_owned(), "größe".to_owned())].into(),
            entrypoint: Some(vec!["/bin/a b".to_owned(), "$x\n".to_owned()]),
            working_dir: Some("/with $dollar".to_owned()),
            volumes: ["/v$".to_owned()].into(),
            ..ConfigEdit::default()
        };
        assert_eq!(
            config(&edit, &scratch(), true).unwrap(),
            [
                "ENV A=\"\\$HOME \\\"and\\\" \\\\n\" \\\n    B=\"\"",
                "LABEL \"a key\"=\"größe\"",
                "WORKDIR /with \\$dollar",
                r#"VOLUME ["/v\\$"]"#,
                r#"ENTRYPOINT ["/bin/a b","$x\n"]"#,
            ]
        );
    }

    #[test]
    fn a_value_cannot_become_an_instruction() {
        let edit =
            |value: &str| ConfigEdit { env: [("A".to_owned(), value.to_owned())].into(), ..ConfigEdit::default() };
        let error = config(&edit("a\nRUN evil"), &scratch(), true).unwrap_err();
        assert_eq!(error.to_string(), "A: a Dockerfile cannot contain a line break in a value");
    }
}
