//! Changes to an image's config, made in its JSON, so that unknown members survive.

use super::healthcheck::HealthcheckEdit;
use crate::common::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Changes to a config (config.md, `config`). Members that are not named stay unchanged.
///
/// ```
/// use ocibuild::ConfigEdit;
///
/// let edit = ConfigEdit::default()
///     .entrypoint(["/usr/bin/python3", "-m", "http.server"])
///     .env("PYTHONUNBUFFERED", "1")
///     .label("org.opencontainers.image.version", "3.1")
///     .working_dir("/srv")
///     .user("1000:1000");
/// assert_eq!(edit.user.as_deref(), Some("1000:1000"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEdit {
    /// The command that is always run; an empty list removes it. Setting it clears an inherited `cmd`, which belonged to
    /// the previous entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// The command, or the arguments of the entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Environment variables to set or replace.
    pub env: BTreeMap<String, String>,
    /// Environment variables to remove.
    pub unset_env: BTreeSet<String>,
    /// The working directory, absolute.
    pub working_dir: Option<String>,
    /// `UID[:GID]`, or names that the image defines.
    pub user: Option<String>,
    /// Labels to set or replace.
    pub labels: BTreeMap<String, String>,
    /// Ports to add, such as `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// Volumes to add, as absolute paths.
    pub volumes: BTreeSet<String>,
    /// The signal that stops the container.
    pub stop_signal: Option<String>,
    /// The author of the image.
    pub author: Option<String>,
    /// Changes to the health check.
    pub healthcheck: HealthcheckEdit,
}

impl ConfigEdit {
    /// Sets the command that is always run; an empty one removes it.
    #[must_use]
    pub fn entrypoint(self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        ConfigEdit { entrypoint: Some(words.into_iter().map(Into::into).collect()), ..self }
    }

    /// Sets the command, or the arguments of the entrypoint.
    #[must_use]
    pub fn cmd(self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        ConfigEdit { cmd: Some(words.into_iter().map(Into::into).collect()), ..self }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Removes an environment variable of the base.
    #[must_use]
    pub fn unset_env(mut self, name: impl Into<String>) -> Self {
        self.unset_env.insert(name.into());
        self
    }

    /// Sets the working directory, an absolute path.
    #[must_use]
    pub fn working_dir(self, path: impl Into<String>) -> Self {
        ConfigEdit { working_dir: Some(path.into()), ..self }
    }

    /// Sets the user: `UID[:GID]`, or names that the image defines.
    #[must_use]
    pub fn user(self, user: impl Into<String>) -> Self {
        ConfigEdit { user: Some(user.into()), ..self }
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a port, such as `80/tcp`.
    #[must_use]
    pub fn exposed_port(mut self, port: impl Into<String>) -> Self {
        self.exposed_ports.insert(port.into());
        self
    }

    /// Adds a volume, an absolute path.
    #[must_use]
    pub fn volume(mut self, path: impl Into<String>) -> Self {
        self.volumes.insert(path.into());
        self
    }

    /// Sets the signal that stops the container.
    #[must_use]
    pub fn stop_signal(self, signal: impl Into<String>) -> Self {
        ConfigEdit { stop_signal: Some(signal.into()), ..self }
    }

    /// Sets the author of the image.
    #[must_use]
    pub fn author(self, author: impl Into<String>) -> Self {
        ConfigEdit { author: Some(author.into()), ..self }
    }

    /// Merges two edits. If both change the same member, `other` takes precedence.
    #[must_use]
    pub fn overridden_by(mut self, other: ConfigEdit) -> ConfigEdit {
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
        } = other;
        self.env.retain(|key, _| !unset_env.contains(key));
        self.env.extend(env);
        self.unset_env.extend(unset_env);
        self.labels.extend(labels);
        self.exposed_ports.extend(exposed_ports);
        self.volumes.extend(volumes);
        ConfigEdit {
            entrypoint: entrypoint.or(self.entrypoint),
            cmd: cmd.or(self.cmd),
            working_dir: working_dir.or(self.working_dir),
            user: user.or(self.user),
            stop_signal: stop_signal.or(self.stop_signal),
            author: author.or(self.author),
            healthcheck: self.healthcheck.overridden_by(healthcheck),
            ..self
        }
    }

    /// Applies the changes to the config `document`. Messages call it `object`.
    ///
    /// # Errors
    /// Returns an error if a member to be changed has an impossible type.
    pub fn apply(&self, document: &mut Value, object: &str) -> Result<()> {
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
        } = self;
        let top = document.as_object_mut().ok_or_else(|| Error::invalid(object, "expected a JSON object"))?;
        if let Some(author) = author {
            top.insert("author".to_owned(), json!(author));
        }
        let config = member(top, "config", object)?;
        if let Some(entrypoint) = entrypoint {
            match entrypoint.is_empty() {
                true => config.remove("Entrypoint"),
                false => config.insert("Entrypoint".to_owned(), json!(entrypoint)),
            };
            config.remove("Cmd");
        }
        if let Some(cmd) = cmd {
            config.insert("Cmd".to_owned(), json!(cmd));
        }
        if !env.is_empty() || !unset_env.is_empty() {
            edit_environment(config, env, unset_env, object)?;
        }
        for (key, value) in [("WorkingDir", working_dir), ("User", user), ("StopSignal", stop_signal)] {
            if let Some(value) = value {
                config.insert(key.to_owned(), json!(value));
            }
        }
        if !labels.is_empty() {
            let members = member(config, "Labels", object)?;
            members.extend(labels.iter().map(|(key, value)| (key.clone(), json!(value))));
        }
        for (key, names) in [("ExposedPorts", exposed_ports), ("Volumes", volumes)] {
            if !names.is_empty() {
                let members = member(config, key, object)?;
                members.extend(names.iter().map(|name| (name.clone(), json!({}))));
            }
        }
        healthcheck.apply(config, object)?;
        if config.is_empty() {
            top.remove("config");
        }
        Ok(())
    }
}

/// Returns the object at `key`, which is created if it is missing.
fn member<'a>(parent: &'a mut Map<String, Value>, key: &str, object: &str) -> Result<&'a mut Map<String, Value>> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!({});
    }
    slot.as_object_mut().ok_or_else(|| Error::invalid(object, format!("`{key}`: expected an object")))
}

/// Edits the environment. Variables keep their positions; new ones are appended in sorted order.
fn edit_environment(
    config: &mut Map<String, Value>,
    env: &BTreeMap<String, String>,
    unset: &BTreeSet<String>,
    object: &str,
) -> Result<()> {
    let malformed = || Error::invalid(object, "`Env`: expected an array of strings");
    let before = match config.get("Env") {
        None | Some(Value::Null) => &[][..],
        Some(value) => value.as_array().ok_or_else(malformed)?,
    };
    let mut after: Vec<Value> = Vec::new();
    let mut replaced: BTreeSet<&str> = BTreeSet::new();
    for variable in before {
        let text = variable.as_str().ok_or_else(malformed)?;
        let key = text.split_once('=').map_or(text, |(key, _)| key);
        match env.get_key_value(key) {
            // If a variable is present twice, only one is kept, with the new value.
            Some((key, _)) if replaced.contains(key.as_str()) => {}
            Some((key, value)) => {
                after.push(format!("{key}={value}").into());
                replaced.insert(key);
            }
            None if unset.contains(key) => {}
            None => after.push(variable.clone()),
        }
    }
    let added = env.iter().filter(|(key, _)| !replaced.contains(key.as_str()));
    after.extend(added.map(|(key, value)| Value::from(format!("{key}={value}"))));
    config.insert("Env".to_owned(), after.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(before: Value, edit: &ConfigEdit) -> Value {
        let mut document = before;
        edit.apply(&mut document, "config").unwrap();
        document
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_not_named_survives() {
        let before = json!({"os": "linux", "config": {"Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["x"], "Shell": ["/bin/sh"]}, "vendor": 1});
        assert_eq!(edited(before.clone(), &ConfigEdit::default()), before);
        let edit = ConfigEdit { user: Some("1000".to_owned()), ..ConfigEdit::default() };
        let after = edited(before, &edit);
        assert_eq!(after["config"]["Healthcheck"]["Test"][0], "NONE");
        assert_eq!((&after["vendor"], &after["config"]["User"]), (&json!(1), &json!("1000")));
    }

    #[test]
    fn an_entrypoint_clears_the_inherited_command_only() {
        let before = json!({"config": {"Cmd": ["bash"], "Entrypoint": ["old"]}});
        let entrypoint = Some(vec!["new".to_owned()]);
        let edit = ConfigEdit { entrypoint: entrypoint.clone(), ..ConfigEdit::default() };
        assert_eq!(edited(before.clone(), &edit), json!({"config": {"Entrypoint": ["new"]}}));
        let edit = ConfigEdit { entrypoint, cmd: Some(vec!["-v".to_owned()]), ..ConfigEdit::default() };
        assert_eq!(edited(before, &edit), json!({"config": {"Entrypoint": ["new"], "Cmd": ["-v"]}}));
    }

    #[test]
    fn variables_keep_their_places() {
        let before = json!({"config": {"Env": ["PATH=/bin", "A=1", "B=2", "A=3", "odd"]}});
        let edit = ConfigEdit {
            env: map(&[("A", "x"), ("Z", "z=z")]),
            unset_env: ["B".to_owned()].into(),
            ..ConfigEdit::default()
        };
        assert_eq!(edited(before, &edit)["config"]["Env"], json!(["PATH=/bin", "A=x", "odd", "Z=z=z"]));
    }

    #[test]
    fn lists_and_maps_are_added_to() {
        let before = json!({"config": {"Labels": {"a": "1"}, "ExposedPorts": null, "Volumes": {"/v": {}}}});
        let edit = ConfigEdit {
            labels: map(&[("b", "")]),
            exposed_ports: ["80/tcp".to_owned()].into(),
            volumes: ["/w".to_owned()].into(),
            ..ConfigEdit::default()
        };
        let after = edited(before, &edit);
        assert_eq!(after["config"]["Labels"], json!({"a": "1", "b": ""}));
        assert_eq!(after["config"]["ExposedPorts"], json!({"80/tcp": {}}));
        assert_eq!(after["config"]["Volumes"], json!({"/v": {}, "/w": {}}));
    }

    #[test]
    fn members_of_the_wrong_type_are_named() {
        let edit = ConfigEdit { env: map(&[("A", "x")]), ..ConfigEdit::default() };
        for bad in [json!({"config": {"Env": "A=1"}}), json!({"config": {"Env": [1]}}), json!({"config": []})] {
            assert!(edit.apply(&mut bad.clone(), "config").is_err(), "{bad}");
        }
    }
}
