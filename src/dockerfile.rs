//! A plan as a Dockerfile and its build context, for pipelines that build with docker, podman, buildah or kaniko.
//!
//! ```text
//! Dockerfile
//! layer-1.tar     what the first new layer holds
//! layer-2.tar     ...
//! ```
//!
//! `ADD` unpacks a local tar with its owners, modes, times and links. `COPY` could not do this: it knows one owner, takes
//! modes from a checkout, and makes two files of two names. So every layer is one tar, the one that its diff ID is of.

use crate::build::Plan;
use crate::error::{Error, Result};
use crate::image::{Base, ConfigEdit};
use crate::layer::write_tar;
use crate::progress::{Progress, warn};
use crate::root::Root;
use crate::spec::Platform;
use crate::store::Location;
use crate::tree::{DOCKERFILE, DOCKERFILE_MARK, ImagePath, Tree};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::BufWriter;

/// The name of the file that builders look for.
pub const FILE_NAME: &str = DOCKERFILE;

/// A Dockerfile and what its context holds.
#[derive(Debug)]
pub struct Dockerfile {
    text: String,
    tars: Vec<(String, Tree)>,
}

impl Dockerfile {
    /// Writes `plan` as instructions. `base` is where its base was found.
    ///
    /// # Errors
    /// When something cannot be said in a Dockerfile: an inherited variable removed, or a line break in a value; and when a
    /// layer was planned from the cache.
    pub fn of(plan: &Plan, base: Option<&Location>, progress: &dyn Progress) -> Result<Dockerfile> {
        if inherited(&plan.base, "OnBuild").as_array().is_some_and(|triggers| !triggers.is_empty()) {
            warn(progress, "base image", "has ONBUILD triggers, which builders of a Dockerfile run");
        }
        let mut lines = vec![DOCKERFILE_MARK.to_owned()];
        lines.extend(from(&plan.base, base)?);
        let mut tars = Vec::new();
        let mut runs_as_root = is_root(inherited(&plan.base, "User"));
        for (number, layer) in plan.layers.iter().enumerate() {
            let planned = layer
                .tree()
                .ok_or_else(|| Error::invalid(&layer.name, "planned from the cache, so its entries are not known"))?;
            let (tree, removals) = planned.without_removals()?;
            lines.push(format!("\n# {}", crate::error::one_line(&layer.created_by)));
            if !removals.is_empty() && !runs_as_root {
                lines.push("USER 0".to_owned());
                runs_as_root = true;
            }
            if !removals.is_empty() {
                warn(progress, &layer.name, "removes something, for which builders run the `rm` of the image");
            }
            for path in &removals {
                lines.push(removal(path)?);
            }
            // An empty tar would be taken for a file and copied.
            if !tree.is_empty() {
                let name = format!("layer-{}.tar", number + 1);
                lines.push(format!("ADD {}", json!([name, "/"])));
                tars.push((name, tree));
            }
        }
        lines.push(String::new());
        lines.extend(config(&plan.image.edit, &plan.base, runs_as_root)?);
        lines.push(String::new());
        Ok(Dockerfile { text: lines.join("\n"), tars })
    }

    /// The instructions, with a line break at the end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of the files that the context must hold.
    pub fn context(&self) -> Vec<&str> {
        self.tars.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Writes the Dockerfile and the tars that it names into `directory`, each complete or not at all.
    ///
    /// # Errors
    /// When a source cannot be read or has changed, or the directory cannot be written.
    pub fn write_context(&self, directory: &Root, progress: &dyn Progress) -> Result<()> {
        for (name, tree) in &self.tars {
            let mut file = BufWriter::new(directory.temporary()?);
            write_tar(tree, name, &mut file, progress)?;
            let file = file.into_inner().map_err(|error| Error::io(directory.display(name), "write", error.into()))?;
            file.persist(name)?;
        }
        directory.replace_file(FILE_NAME, self.text.as_bytes())
    }
}

fn from(base: &Base, location: Option<&Location>) -> Result<Vec<String>> {
    let config = base.config();
    // The old builder of docker knows no --platform, so only those who need it get it.
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
        None => String::new(),
    };
    Ok(vec![
        "# podman and buildah read this base where it lies; docker and kaniko need its name in a registry or engine:"
            .to_owned(),
        format!("#   --build-arg BASE=NAME    (manifest {})", image.descriptor.digest),
        format!("ARG BASE={}", quoted_or_plain(one_line("base", &here)?)),
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

/// A Dockerfile can only remove by a program of the image.
fn removal(path: &ImagePath) -> Result<String> {
    let bytes = [b"/", path.as_bytes()].concat();
    let path = String::from_utf8(bytes).map_err(|_| cannot(&path.to_string(), "say a name that is not Unicode"))?;
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
        lines.push(format!("MAINTAINER {}", one_line("author", author)?));
    }
    lines.extend(pairs("ENV", env)?);
    lines.extend(pairs("LABEL", labels)?);
    for port in exposed_ports {
        lines.push(format!("EXPOSE {}", word("port", port)?));
    }
    if let Some(directory) = working_dir {
        lines.push(format!("WORKDIR {}", escaped(one_line("working directory", directory)?)));
    }
    if !volumes.is_empty() {
        let volumes: Vec<String> = volumes.iter().map(|path| escaped(path)).collect();
        lines.push(format!("VOLUME {}", json!(volumes)));
    }
    if let Some(signal) = stop_signal {
        lines.push(format!("STOPSIGNAL {}", word("stop signal", signal)?));
    }
    // Setting an entrypoint clears the inherited command, here as there.
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
        lines.push(format!("USER {}", escaped(one_line(object, user)?)));
    }
    Ok(lines)
}

/// One instruction for all pairs: each instruction is a layer to some builders.
fn pairs(instruction: &str, pairs: &BTreeMap<String, String>) -> Result<Option<String>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut words = Vec::new();
    for (key, value) in pairs {
        words.push(format!("{}={}", quoted_or_plain(one_line(instruction, key)?), quoted(one_line(key, value)?)));
    }
    Ok(Some(format!("{instruction} {}", words.join(" \\\n    "))))
}

/// Refuses what would end the instruction, and other control characters: every value that is not JSON comes through here,
/// whether it is of the request or of the base.
fn one_line<'a>(object: &str, text: &'a str) -> Result<&'a str> {
    let breaks_line = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    if text.contains(breaks_line) {
        return Err(cannot(object, "hold a line break in a value"));
    }
    match text.contains(|c: char| c.is_control() && c != '\t') {
        true => Err(cannot(object, "hold a control character in a value")),
        false => Ok(text),
    }
}

/// Refuses what would end the instruction or one of its words.
fn word<'a>(object: &str, text: &'a str) -> Result<&'a str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+-._/:".contains(c);
    match one_line(object, text)?.chars().all(is_plain) {
        true => Ok(text),
        false => Err(cannot(object, &format!("hold `{text}`"))),
    }
}

/// `text` as one word in double quotes, in which a builder puts nothing else in its place.
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

/// `text` where a builder takes the rest of the line, and replaces variables in it.
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
        assert_eq!(error.to_string(), "A: a Dockerfile cannot hold a line break in a value");
    }
}
