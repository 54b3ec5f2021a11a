//! The flags that say what an image is besides its files.

use super::healthcheck::HealthcheckArguments;
use super::progress_display::Watch;
use super::values;
use super::variables;
use clap::Args;
use ocibuild::build::image::ConfigEdit;
use ocibuild::common::progress::warn;
use ocibuild::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// Set the entrypoint: a JSON array or words. Clears the inherited cmd
    #[arg(long, value_name = "COMMAND", value_parser = values::command, help_heading = "Config")]
    entrypoint: Option<std::vec::Vec<String>>,
    /// Set the command or the arguments of the entrypoint: a JSON array or words
    #[arg(long, value_name = "COMMAND", value_parser = values::command, allow_hyphen_values = true, help_heading = "Config")]
    cmd: Option<std::vec::Vec<String>>,
    /// Set an environment variable; KEY alone takes the value from the environment of this command. Repeatable
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = variables::variable, help_heading = "Config")]
    env: Vec<(String, String)>,
    /// Set the environment variables in FILE, one in each line; --env and later files override them. Repeatable
    #[arg(long = "env-file", value_name = "FILE", help_heading = "Config")]
    env_files: Vec<PathBuf>,
    /// Remove an inherited environment variable. Repeatable
    #[arg(long, value_name = "KEY", help_heading = "Config")]
    unset_env: Vec<String>,
    /// Set the working directory
    #[arg(short, long, value_name = "PATH", value_parser = values::absolute, help_heading = "Config")]
    workdir: Option<String>,
    /// Set the user and group: numbers, or names from the image's /etc/passwd
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = values::user, help_heading = "Config")]
    pub(super) user: Option<String>,
    /// Set a label. Repeatable
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = values::pair, help_heading = "Config")]
    labels: Vec<(String, String)>,
    /// Expose a port. Repeatable
    #[arg(long, value_name = "PORT[/tcp|udp]", value_parser = values::port, help_heading = "Config")]
    expose: Vec<String>,
    /// Declare a volume. Repeatable
    #[arg(long = "volume", value_name = "PATH", value_parser = values::absolute, help_heading = "Config")]
    volumes: Vec<String>,
    /// Set the signal that stops the container
    #[arg(long, value_name = "SIGNAL", value_parser = values::signal, help_heading = "Config")]
    stop_signal: Option<String>,
    #[command(flatten)]
    healthcheck: HealthcheckArguments,
    /// Set the author of the image
    #[arg(long, value_name = "TEXT", help_heading = "Config")]
    author: Option<String>,
}

impl ConfigArguments {
    /// Returns the changes to the base's config.
    pub(super) fn edit(&self, watch: &Watch) -> Result<ConfigEdit> {
        let mut env = BTreeMap::new();
        for file in &self.env_files {
            env.extend(variables::read_file(file)?);
        }
        env.extend(unique(&self.env, "--env")?);
        for (key, _) in env.iter().filter(|(key, value)| !value.is_empty() && sounds_secret(key)) {
            warn(watch, &format!("--env {key}"), "looks like a secret; anyone with the image can read it");
        }
        if let Some(key) = self.unset_env.iter().find(|key| env.contains_key(*key)) {
            return Err(Error::usage(format!("--unset-env {key}"), "the variable is also set"));
        }
        let mut edit = ConfigEdit::default();
        edit.entrypoint = self.entrypoint.clone();
        edit.cmd = self.cmd.clone();
        edit.env = env;
        edit.unset_env = self.unset_env.iter().cloned().collect();
        edit.working_dir = self.workdir.clone();
        edit.user = self.user.clone();
        edit.labels = unique(&self.labels, "--label")?;
        edit.exposed_ports = self.expose.iter().cloned().collect();
        edit.volumes = self.volumes.iter().cloned().collect();
        edit.stop_signal = self.stop_signal.clone();
        edit.author = self.author.clone();
        edit.healthcheck = self.healthcheck.edit();
        Ok(edit)
    }
}

/// Names of variables that usually contain secrets.
fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "PRIVATE_KEY", "CREDENTIAL"]
        .iter()
        .any(|word| key.contains(word))
}

/// Returns a map of pairs; the same key twice can only be a mistake.
pub(super) fn unique(pairs: &[(String, String)], flag: &str) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some() {
            return Err(Error::usage(format!("{flag} {key}"), "given twice"));
        }
    }
    Ok(map)
}
