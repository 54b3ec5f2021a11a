//! Running a task without rcc: its own command, with the variables that rcc would set.

use super::complete_catalog::CompleteCatalog;
use super::{ImagePaths, Robot, RobotImage};
use crate::build::image::ConfigEdit;
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::rcc::{Hololib, Task};
use crate::robot_image::image_paths::Management;
use crate::spec::DEFAULT_PATH;
use serde_json::Value;
use std::collections::BTreeMap;

/// The file with the variables of an environment.
const ACTIVATION: &str = "rcc_activate.json";

/// Variables of the recording shell that have no meaning in a container or are set again.
const OF_THE_RECORDER: [&str; 11] =
    ["_", "HOME", "HOSTNAME", "LOGNAME", "MAMBA_EXE", "MAMBA_ROOT_PREFIX", "OLDPWD", "PATH", "PWD", "SHLVL", "USER"];

impl RobotImage {
    /// Completes the config for running without rcc, on a base with the search path `inherited`.
    ///
    /// The command is the image's `Cmd`: arguments after the image's name in `podman run` replace it. As an entrypoint
    /// it would take `--task NAME`, which the other modes support, for an argument of its own.
    pub(super) fn direct_config(&self, mut edit: ConfigEdit, inherited: Option<&str>) -> Result<ConfigEdit> {
        if !self.robot.pre_run_scripts.is_empty() {
            let reason = "its preRunScripts are not run: a direct image has no rcc";
            return Err(Error::usage(&self.robot.file, reason).hint("--environment sealed"));
        }
        // An action package has no task; its user chooses the command.
        if !self.robot.tasks.is_empty() {
            let task: &Task = self.robot.task(self.task.as_deref())?;
            edit.entrypoint = Some(Vec::new());
            edit.cmd = Some(task.command.clone());
        }
        edit.env.extend(self.direct_environment(inherited)?);
        Ok(edit)
    }

    fn direct_environment(&self, inherited: Option<&str>) -> Result<BTreeMap<String, String>> {
        let app = self.places.app.to_string();
        let below_app = |path: &String| match self.robot.inner(path).as_deref() {
            Some(".") => app.clone(),
            Some(inner) => format!("{app}/{inner}"),
            // rcc also treats an absolute path as relative to the robot.
            None => format!("{app}/{}", path.trim_matches('/')),
        };
        let Robot { path, python_path, .. } = &self.robot;
        let mut variables = BTreeMap::new();
        let mut search: Vec<String> = path.iter().map(below_app).collect();
        if let Some(environment) = &self.environment {
            let name = self.places.space_name(Management::Managed);
            let space = format!("{}/{name}", environment.facts().base);
            variables.extend(environment.facts().activation.clone().unwrap_or_default());
            for (key, value) in [
                ("CONDA_DEFAULT_ENV", "rcc"),
                ("CONDA_PREFIX", &space),
                ("CONDA_PROMPT_MODIFIER", "(rcc) "),
                ("CONDA_SHLVL", "1"),
                ("PYTHONDONTWRITEBYTECODE", "x"),
                ("PYTHONEXECUTABLE", ""),
                ("PYTHONHOME", ""),
                ("PYTHONNOUSERSITE", "1"),
                ("PYTHONSTARTUP", ""),
                ("PYTHON_EXE", &format!("{space}/bin/python")),
                ("RCC_ENVIRONMENT_HASH", &environment.name().blueprint.to_string()),
                ("RCC_HOLOTREE_SPACE_ROOT", &space),
            ] {
                variables.insert(key.to_owned(), value.to_owned());
            }
            search.push(format!("{space}/bin"));
        }
        search.extend(without_pythons(inherited.unwrap_or(DEFAULT_PATH)).map(str::to_owned));
        variables.insert("PATH".to_owned(), search.join(":"));
        let python_path: Vec<String> = python_path.iter().map(below_app).collect();
        variables.insert("PYTHONPATH".to_owned(), python_path.join(":"));
        variables.insert("ROBOT_ROOT".to_owned(), below_app(&".".to_owned()));
        variables.insert("ROBOT_ARTIFACTS".to_owned(), self.artifacts()?.to_string());
        Ok(variables)
    }
}

/// Returns the directories of a search path that rcc keeps: those that do not look like another Python's.
fn without_pythons(path: &str) -> impl Iterator<Item = &str> {
    const OTHERS: [&str; 7] = ["python", "conda", "pyenv", "venv", "pypoetry", ".poetry", "virtualenv"];
    path.split(':').filter(|directory| {
        let lower = directory.to_ascii_lowercase();
        !lower.is_empty() && !OTHERS.iter().any(|other| lower.contains(other))
    })
}

/// Returns the variables of an environment in the space that RCC uses with `places`.
pub(super) fn activation(
    hololib: &Hololib,
    opened: &CompleteCatalog,
    places: &ImagePaths,
) -> Result<Option<BTreeMap<String, String>>> {
    let name = places.space_name(Management::Managed);
    opened.read(hololib, ACTIVATION, &name, 1 << 20)?.map(|bytes| parse(&bytes)).transpose()
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let document = json::parse(bytes, json::DOCUMENT_DEPTH, ACTIVATION)?;
    let members = document.as_object().ok_or_else(|| Error::invalid(ACTIVATION, "expected a map"))?;
    let wanted = members.iter().filter(|(key, _)| !OF_THE_RECORDER.contains(&key.as_str()));
    wanted
        .map(|(key, value)| match value {
            Value::String(text) if !key.is_empty() && !key.contains('=') => Ok((key.clone(), text.clone())),
            _ => Err(Error::invalid(ACTIVATION, format!("`{key}` is not a variable name"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_pythons_are_left_out_of_the_search_path() {
        let path = "/opt/conda/bin:/usr/bin::/root/.pyenv/shims:/opt/tool/bin";
        assert_eq!(without_pythons(path).collect::<Vec<_>>(), ["/usr/bin", "/opt/tool/bin"]);
    }

    #[test]
    fn the_recorders_own_variables_stay_behind() {
        let kept = parse(br#"{"LD_LIBRARY_PATH": "/x/lib", "PWD": "/home/me", "_": "/bin/env"}"#).unwrap();
        assert_eq!(kept, [("LD_LIBRARY_PATH".to_owned(), "/x/lib".to_owned())].into());
        assert!(parse(br#"{"A": 1}"#).is_err());
        assert!(parse(br#"[]"#).is_err());
    }
}
