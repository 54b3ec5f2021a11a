//! Running a task without rcc: its own command, in the variables that rcc would have set.

use super::environment::Opened;
use super::places::Management;
use super::{Places, Robot, RobotImage};
use crate::error::{Error, Result};
use crate::image::ConfigEdit;
use crate::json;
use crate::rcc::{Hololib, Task};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where an environment keeps the variables that belong to it.
const ACTIVATION: &str = "rcc_activate.json";

/// Variables of the recording shell that mean nothing in a container, or that are set anew.
const OF_THE_RECORDER: [&str; 11] =
    ["_", "HOME", "HOSTNAME", "LOGNAME", "MAMBA_EXE", "MAMBA_ROOT_PREFIX", "OLDPWD", "PATH", "PWD", "SHLVL", "USER"];

/// What a base without a `PATH` of its own leaves to its engine.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl RobotImage {
    /// Completes the config for running without rcc.
    pub(super) fn direct_config(&self, mut edit: ConfigEdit) -> Result<ConfigEdit> {
        if !self.robot.pre_run_scripts.is_empty() {
            let reason = "its preRunScripts are run by rcc, which a direct image does not have";
            return Err(Error::usage(&self.robot.file, reason).hint("--environment sealed"));
        }
        let task: &Task = self.robot.task(self.task.as_deref())?;
        edit.entrypoint = Some(task.command.clone());
        edit.env.extend(self.direct_environment()?);
        Ok(edit)
    }

    fn direct_environment(&self) -> Result<BTreeMap<String, String>> {
        let app = self.places.app.to_string();
        let below_app = |path: &String| format!("{app}/{}", path.trim_start_matches("./").trim_matches('/'));
        let Robot { path, python_path, artifacts_directory, .. } = &self.robot;
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
        search.push(USUAL_PATH.to_owned());
        variables.insert("PATH".to_owned(), search.join(":"));
        let python_path: Vec<String> = python_path.iter().map(below_app).collect();
        variables.insert("PYTHONPATH".to_owned(), python_path.join(":"));
        variables.insert("ROBOT_ROOT".to_owned(), app.clone());
        variables.insert("ROBOT_ARTIFACTS".to_owned(), below_app(artifacts_directory));
        Ok(variables)
    }
}

/// The variables that belong to an environment whose space has the name that RCC gives it in `places`.
pub(super) fn activation(
    hololib: &Hololib,
    opened: &Opened,
    places: &Places,
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
            _ => Err(Error::invalid(ACTIVATION, format!("`{key}` is no variable"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorders_own_variables_stay_behind() {
        let kept = parse(br#"{"LD_LIBRARY_PATH": "/x/lib", "PWD": "/home/me", "_": "/bin/env"}"#).unwrap();
        assert_eq!(kept, [("LD_LIBRARY_PATH".to_owned(), "/x/lib".to_owned())].into());
        assert!(parse(br#"{"A": 1}"#).is_err());
        assert!(parse(br#"[]"#).is_err());
    }
}
