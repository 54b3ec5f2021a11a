//! From `conda.yaml` or `package.yaml` to the blueprint: the text whose hash names a catalog.
//!
//! RCC reads the file, normalizes it, writes the result as YAML and hashes the text, so every detail of the reading,
//! the merging and the writing affects the hash.

mod dependency;

use super::siphash;
use super::yaml::emit::YamlWriter;
use super::yaml::{self, Value, YamlDocument, YamlNode, plain};
use crate::common::error::Result;
use crate::common::progress;
use crate::common::progress::Progress;
use dependency::{Conflict, Dependency};
use std::fmt;

/// The normalized description of an environment, which identifies it.
///
/// ```
/// use ocibuild::rcc::Blueprint;
///
/// let conda = b"channels: [conda-forge]\ndependencies: [python=3.11.7]\n";
/// let blueprint = Blueprint::read(conda, "conda.yaml", &Default::default(), &ocibuild::common::progress::Silent)?;
/// assert_eq!(blueprint.text(), "channels:\n- conda-forge\ndependencies:\n- python=3.11.7");
/// assert_eq!(blueprint.hash().to_string(), "5f74d1b6dace1dfc");
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    text: String,
    hash: BlueprintHash,
}

/// Inputs of a blueprint besides the file.
#[derive(Debug, Clone, Default)]
pub struct BlueprintOptions {
    /// The conda channel in RCC's home, which RCC puts before all others.
    pub local_channel: Option<String>,
}

/// The hash of a blueprint, 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlueprintHash(String);

impl BlueprintHash {
    /// Parses 16 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<BlueprintHash> {
        let is_hash = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then(|| BlueprintHash(text.to_owned()))
    }
}

impl fmt::Display for BlueprintHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Blueprint {
    /// Reads an environment file; one called `package.yaml` (in any case) has a format of its own.
    ///
    /// # Errors
    /// Returns an error if `bytes` is not strict YAML (see the limits of this crate), or a value in it has the wrong
    /// type.
    pub fn read(bytes: &[u8], name: &str, options: &BlueprintOptions, watcher: &dyn Progress) -> Result<Blueprint> {
        let document = yaml::load(bytes, name)?;
        let notes = Notes { file: name, watcher };
        let base_name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let environment = if base_name.eq_ignore_ascii_case("package.yaml") {
            package_environment(&document, &notes)?
        } else {
            conda_environment(&document, options, &notes)?
        };
        Ok(Blueprint::of_text(environment.normal_form().trim().to_owned()))
    }

    /// Creates a blueprint from a normal form as RCC stores it in an environment's `identity.yaml`.
    pub fn of_text(text: String) -> Blueprint {
        let hash = BlueprintHash(siphash::name(text.as_bytes()));
        Blueprint { text, hash }
    }

    /// Returns the normal form, without a line break at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the hash of the text.
    pub fn hash(&self) -> &BlueprintHash {
        &self.hash
    }
}

/// The destination of warnings about an environment file.
struct Notes<'a> {
    file: &'a str,
    watcher: &'a dyn Progress,
}

impl Notes<'_> {
    fn warn(&self, reason: impl AsRef<str>) {
        progress::warn(self.watcher, self.file, reason.as_ref());
    }

    fn conflict(&self, outcome: Result<(), Conflict>, consequence: &str) {
        if let Err(Conflict { kept, refused }) = outcome {
            self.warn(format!("`{kept}` and `{refused}` contradict each other: {consequence}"));
        }
    }

    fn unknown_keys(&self, root: &YamlNode, known: &[&str]) {
        let Value::Mapping(entries) = &root.value else { return };
        let unknown: Vec<String> = entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.text.as_str()))
            .map(|(key, _)| format!("`{}`", key.text))
            .collect();
        if !unknown.is_empty() {
            self.warn(format!("rcc ignores {}", unknown.join(", ")));
        }
    }
}

/// A merged environment, before it is written as YAML.
#[derive(Default)]
struct MergedEnvironment {
    name: String,
    prefix: String,
    channels: Vec<String>,
    conda: Vec<Dependency>,
    pip: Vec<Dependency>,
    post_install: Vec<String>,
}

fn conda_environment(
    document: &YamlDocument,
    options: &BlueprintOptions,
    notes: &Notes<'_>,
) -> Result<MergedEnvironment> {
    let root = document.root();
    document.mapping(root, "")?;
    notes.unknown_keys(root, &["name", "channels", "dependencies", "prefix", "rccPostInstall"]);
    let text = |key: &str| root.get(key).map_or(Ok(String::new()), |node| document.text(node, key).map(str::to_owned));
    let texts = |key: &str| root.get(key).map_or(Ok(Vec::new()), |node| document.texts(node, key));

    let mut channels: Vec<String> = options.local_channel.iter().cloned().collect();
    channels.extend(texts("channels")?);
    let (conda, pip) = match root.get("dependencies") {
        Some(node) => conda_dependencies(document, node, notes)?,
        None => (Vec::new(), Vec::new()),
    };
    let mut environment = MergedEnvironment {
        name: text("name")?,
        prefix: text("prefix")?,
        channels: without_repetitions(channels),
        post_install: without_repetitions(texts("rccPostInstall")?),
        ..MergedEnvironment::default()
    };
    environment.push(conda, pip, notes);
    environment.promote(notes);
    Ok(environment)
}

/// Returns the conda requirements of a `dependencies` list, and the pip requirements in its `pip` maps.
fn conda_dependencies(
    document: &YamlDocument,
    node: &YamlNode,
    notes: &Notes<'_>,
) -> Result<(Vec<Dependency>, Vec<Dependency>)> {
    let (mut conda, mut pip) = (Vec::new(), Vec::new());
    for (index, item) in document.sequence(node, "dependencies")?.iter().enumerate() {
        let what = format!("dependencies[{index}]");
        match &item.value {
            Value::Mapping(entries) => {
                if let Some((key, _)) = entries.iter().find(|(key, _)| key.text != "pip") {
                    let reason = format!("`{what}`: a map with the key `{}`, where rcc only knows `pip`", key.text);
                    return Err(document.error(item, reason));
                }
                for (_, value) in entries {
                    for (index, item) in document.sequence(value, &format!("{what}.pip"))?.iter().enumerate() {
                        pip.extend(requirement(document, item, &format!("{what}.pip[{index}]"), notes)?);
                    }
                }
            }
            _ => conda.extend(requirement(document, item, &what, notes)?),
        }
    }
    Ok((conda, pip))
}

/// Reads a requirement, which must be text according to YAML 1.1: RCC silently drops `3.5` and `yes`.
fn requirement(document: &YamlDocument, item: &YamlNode, what: &str, notes: &Notes<'_>) -> Result<Option<Dependency>> {
    match item.scalar_kind() {
        Some(plain::ScalarType::Text) => Ok(recognised(document.text(item, what)?, what, notes)),
        Some(plain::ScalarType::Null) => {
            notes.warn(format!("`{what}` is empty; ignored, as by rcc"));
            Ok(None)
        }
        _ => Err(document.unexpected(item, what, "text").hint("rcc would drop it silently; quote it or remove it")),
    }
}

fn recognised(text: &str, what: &str, notes: &Notes<'_>) -> Option<Dependency> {
    let dependency = Dependency::parse(text);
    if dependency.is_none() {
        notes.warn(format!("`{what}`: `{text}` is not a requirement; ignored, as by rcc"));
    }
    dependency
}

fn package_environment(document: &YamlDocument, notes: &Notes<'_>) -> Result<MergedEnvironment> {
    let root = document.root();
    document.mapping(root, "")?;
    let dependencies = root.get("dependencies");
    let requirements = |group: &str| -> Result<Vec<Dependency>> {
        let Some(node) = dependencies else { return Ok(Vec::new()) };
        document.mapping(node, "dependencies")?;
        let Some(list) = node.get(group) else { return Ok(Vec::new()) };
        let what = format!("dependencies.{group}");
        let texts = document.texts(list, &what)?.into_iter().enumerate();
        Ok(texts.filter_map(|(index, text)| recognised(&text, &format!("{what}[{index}]"), notes)).collect())
    };
    let conda = requirements("conda-forge")?;
    let pip = requirements("pypi")?.into_iter().map(Dependency::for_pip).collect();
    let post_install = root.get("post-install").map_or(Ok(Vec::new()), |node| document.texts(node, "post-install"))?;
    let mut environment = MergedEnvironment {
        channels: vec!["conda-forge".to_owned()],
        post_install: without_repetitions(post_install),
        ..MergedEnvironment::default()
    };
    environment.push(conda, pip, notes);
    environment.promote(notes);
    Ok(environment)
}

fn without_repetitions(texts: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    texts.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

impl MergedEnvironment {
    fn push(&mut self, conda: Vec<Dependency>, pip: Vec<Dependency>, notes: &Notes<'_>) {
        const DROPPED: &str = "rcc drops the second and every requirement after it in that list";
        notes.conflict(dependency::push_all(&mut self.conda, conda), DROPPED);
        notes.conflict(dependency::push_all(&mut self.pip, pip), DROPPED);
    }

    fn promote(&mut self, notes: &Notes<'_>) {
        let outcome = dependency::promote(&mut self.conda, &mut self.pip);
        notes.conflict(outcome, "rcc keeps both, one for conda and one for pip");
    }

    /// Returns the YAML text, with keys in RCC's order.
    fn normal_form(&self) -> String {
        let MergedEnvironment { name, prefix, channels, conda, pip, post_install } = self;
        let mut writer = YamlWriter::default();
        write_entry(&mut writer, "name", name);
        write_list(&mut writer, "channels", channels.iter().map(String::as_str));
        if conda.is_empty() && pip.is_empty() {
            writer.raw("dependencies: []\n");
        } else {
            writer.raw("dependencies:\n");
            write_items(&mut writer, 0, conda.iter().map(|dependency| dependency.text.as_str()));
        }
        if !pip.is_empty() {
            writer.raw("- pip:\n");
            write_items(&mut writer, 2, pip.iter().map(|dependency| dependency.text.as_str()));
        }
        write_entry(&mut writer, "prefix", prefix);
        if !post_install.is_empty() {
            write_list(&mut writer, "rccPostInstall", post_install.iter().map(String::as_str));
        }
        writer.finish()
    }
}

fn write_entry(writer: &mut YamlWriter, key: &str, value: &str) {
    if !value.is_empty() {
        writer.raw(key);
        writer.raw(": ");
        writer.scalar(value, 2);
        writer.end_line();
    }
}

fn write_list<'a>(writer: &mut YamlWriter, key: &str, items: impl ExactSizeIterator<Item = &'a str>) {
    writer.raw(key);
    if items.len() == 0 {
        writer.raw(": []\n");
        return;
    }
    writer.raw(":\n");
    write_items(writer, 0, items);
}

fn write_items<'a>(writer: &mut YamlWriter, indent: usize, items: impl Iterator<Item = &'a str>) {
    for item in items {
        writer.raw(&" ".repeat(indent));
        writer.raw("- ");
        writer.scalar(item, indent + 2);
        writer.end_line();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::progress::Silent;
    use crate::rcc::test_support::Recorder;

    fn read(text: &str, name: &str) -> Result<Blueprint> {
        Blueprint::read(text.as_bytes(), name, &BlueprintOptions::default(), &Silent)
    }

    fn conda(text: &str) -> Blueprint {
        read(text, "conda.yaml").unwrap()
    }

    fn warnings(text: &str) -> Vec<String> {
        let recorder = Recorder::default();
        Blueprint::read(text.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &recorder).unwrap();
        recorder.warnings()
    }

    #[test]
    fn the_vectors_of_rccs_own_tests_hold() {
        let layers = "channels: [conda-forge]\ndependencies: [python=3.9.13, pip=22.1.2";
        for (text, expected) in [
            ("", "e3984575e37a2466"),
            ("channels: [conda-forge]\ndependencies: [ca-certificates]", "c34ed96c2d8a459a"),
            ("channels: [conda-forge]\ndependencies: [python=3.7.8]", "79ba58276b645f09"),
            ("channels: [conda-forge]\ndependencies: [python=3.11.7]", "5f74d1b6dace1dfc"),
            (
                "channels: [conda-forge]\ndependencies: [python=3.10.12, uv=0.4.24, {pip: [robocorp==1.6.2, robocorp-actions==0.0.7]}]",
                "43139fade39b1952",
            ),
            (
                "channels: [conda-forge]\ndependencies:\n- python=3.10.12\n- uv=0.4.24\n- pytest=8.3.3\n- pip:\n  - robocorp==1.6.2\n  - robocorp-actions==0.0.7\n  - ruff==0.7.0\n",
                "ac2e488f48812dcf",
            ),
            (&format!("{layers}]"), "0d8cc85130420984"),
            (&format!("{layers}, {{pip: [rpaframework==22.5.3]}}]"), "5be3e197c8c2c67d"),
            (
                &format!("{layers}, {{pip: [rpaframework==22.5.3]}}]\nrccPostInstall: [python3 -m pip --version]"),
                "d310697aca0840a1",
            ),
            ("channels: [conda-forge]\ndependencies: [python=3.9, python=3.8, zlib]", "0caa2913f7dd4011"),
        ] {
            assert_eq!(conda(text).hash().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn the_normal_form_holds_what_rcc_keeps_in_rccs_order() {
        let blueprint = conda(
            "rccPostInstall: [b, a, b]\nprefix: /p\nname: 3.10\nother: 1\nchannels: [x, x, ~, yes]\n\
             dependencies: [b, {pip: [c, d==1]}, a=1, {pip: [b==2]}]\n",
        );
        let expected = "name: \"3.10\"\nchannels:\n- x\n- \"\"\n- \"yes\"\ndependencies:\n- b==2\n- a=1\n- pip:\n  - c\n  - d==1\n\
                        prefix: /p\nrccPostInstall:\n- b\n- a";
        assert_eq!(blueprint.text(), expected);
    }

    #[test]
    fn a_package_file_has_one_channel_and_pips_spelling() {
        let text =
            "dependencies:\n  conda-forge: [python=3.10, 3.5]\n  pypi: [robocorp=1.6.2, x>=1]\npost-install: [a]\n";
        let expected = "channels:\n- conda-forge\ndependencies:\n- python=3.10\n- \"3.5\"\n- pip:\n  - robocorp==1.6.2\n  - x>=1\n\
                        rccPostInstall:\n- a";
        assert_eq!(read(text, "some/Package.yaml").unwrap().text(), expected);
        assert_eq!(read("", "package.yaml").unwrap().text(), "channels:\n- conda-forge\ndependencies: []");
    }

    #[test]
    fn the_local_channel_comes_first() {
        let options = BlueprintOptions { local_channel: Some("/home/robot/.robocorp/channel".to_owned()) };
        let blueprint = Blueprint::read(b"channels: [a]", "conda.yaml", &options, &Silent).unwrap();
        assert!(blueprint.text().starts_with("channels:\n- /home/robot/.robocorp/channel\n- a\n"));
    }

    #[test]
    fn values_of_the_wrong_type_are_refused_with_their_index() {
        for (text, expected) in [
            ("dependencies: python", "conda.yaml:1:15: `dependencies`: expected a list, found text"),
            ("dependencies: [a, 3.5]", "`dependencies[1]`: expected text, found a number"),
            ("dependencies: [a, yes]", "`dependencies[1]`: expected text, found a truth value"),
            ("dependencies: [a, [b]]", "`dependencies[1]`: expected text, found a list"),
            ("dependencies: [a, {uv: [b]}]", "`dependencies[1]`: a map with the key `uv`"),
            ("dependencies: [{pip: [a, {}]}]", "`dependencies[0].pip[1]`: expected text, found a map"),
            ("dependencies: [{pip: a}]", "`dependencies[0].pip`: expected a list, found text"),
            ("channels: {a: b}", "`channels`: expected a list, found a map"),
            ("channels: [[a]]", "`channels[0]`: expected text, found a list"),
            ("- a", "conda.yaml:1:1: expected a map, found a list"),
        ] {
            let error = read(text, "conda.yaml").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_rcc_does_silently_is_said_aloud() {
        assert_eq!(
            warnings("dependencies: [python=3.9, python=3.8, zlib]\nextra: 1\nmore: 2\n"),
            [
                "conda.yaml: rcc ignores `extra`, `more`",
                "conda.yaml: `python=3.9` and `python=3.8` contradict each other: rcc drops the second and every requirement \
                 after it in that list",
            ]
        );
        assert_eq!(warnings("dependencies: [a=1, {pip: [a==2]}]").len(), 1);
        assert_eq!(warnings("dependencies: [~, \"=1\"]").len(), 2);
        assert!(warnings("dependencies: [a, {pip: [b]}]").is_empty());
    }
}
