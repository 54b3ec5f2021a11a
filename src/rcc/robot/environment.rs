//! The choice of a robot's environment file for a platform.

use super::Robot;
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::limits::Limit;
use crate::common::progress::Progress;
use crate::common::root::Root;
use crate::rcc::blueprint::{Blueprint, BlueprintOptions};
use crate::spec::Platform;

impl Robot {
    /// Selects the environment file for `platform`, as RCC does.
    ///
    /// Returns `None` for a robot that needs no environment.
    ///
    /// # Errors
    /// Returns an error if the robot names environment files and none fits, or a file cannot be opened.
    pub fn environment_file(&self, directory: &Root, platform: &Platform) -> Result<Option<String>> {
        for candidate in &self.environment_configs {
            if is_acceptable(candidate, platform) && is_file(directory, candidate)? {
                return Ok(Some(candidate.clone()));
            }
        }
        if !self.conda_config_file.is_empty() {
            return Ok(Some(self.conda_config_file.clone()));
        }
        if self.environment_configs.is_empty() {
            return Ok(None);
        }
        let tried = self.environment_configs.join("`, `");
        let reason = format!("no environment file for {platform} among `{tried}`, and no `condaConfigFile`");
        Err(Error::new(ErrorKind::NotFound, self.file.clone(), reason))
    }

    /// Reads the blueprint of the environment for `platform`.
    ///
    /// Returns `None` for a robot that needs no environment.
    ///
    /// # Errors
    /// Fails if [`Robot::environment_file`] or [`Blueprint::read`] does, or the file cannot be read.
    pub fn blueprint(
        &self,
        directory: &Root,
        platform: &Platform,
        options: &BlueprintOptions,
        watcher: &dyn Progress,
    ) -> Result<Option<Blueprint>> {
        let Some(name) = self.environment_file(directory, platform)? else { return Ok(None) };
        let shown = directory.display(&name);
        let file = directory.open_linked_file(&name).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.hint(format!("`condaConfigFile` of {}", self.file)),
            _ => error,
        })?;
        let bytes = bounded_read::read(file, Limit::YamlSize, &shown)?;
        Blueprint::read(&bytes, &shown, options, watcher).map(Some)
    }
}

/// Returns whether `text` names no platform, or this one.
///
/// The first operating system and the first architecture in it must be the platform's own, in lower case. RCC applies
/// this test to environment files and to pre-run scripts.
pub fn is_for_platform(text: &str, platform: &Platform) -> bool {
    let lower = text.to_ascii_lowercase();
    let first = |words: &[&str]| {
        let found = words.iter().filter_map(|word| lower.find(word).map(|at| (at, word.len())));
        found.min().map(|(at, length)| &text[at..at + length])
    };
    first(&["amd64", "arm64"]).is_none_or(|word| word == platform.architecture())
        && first(&["windows", "darwin", "linux"]).is_none_or(|word| word == platform.os())
}

/// Returns whether an environment file is suitable for `platform`, judging by its name.
///
/// A name with more than two underscores or with `freeze` is taken for a freeze file, which must name its platform.
fn is_acceptable(name: &str, platform: &Platform) -> bool {
    let is_frozen = name.matches('_').count() > 2 || name.to_lowercase().contains("freeze");
    let marker = format!("{}_{}", platform.os(), platform.architecture());
    (!is_frozen || name.contains(&marker)) && is_for_platform(name, platform)
}

fn is_file(directory: &Root, name: &str) -> Result<bool> {
    match directory.open_linked_file(name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(_) if directory.dir().metadata(name).is_ok_and(|metadata| !metadata.is_file()) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::progress::Silent;

    fn robot(configs: &[&str], conda: &str) -> Robot {
        let text = format!(
            "tasks: {{a: {{shell: b}}}}\nartifactsDir: x\nenvironmentConfigs: [{}]\ncondaConfigFile: {conda}\n",
            configs.join(", ")
        );
        Robot::parse(text.as_bytes(), "robot.yaml", &Silent).unwrap()
    }

    fn scratch() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn files_for_other_platforms_are_passed_over() {
        let platform = Platform::linux_amd64();
        for (name, acceptable) in [
            ("conda.yaml", true),
            ("environment_linux_amd64_freeze.yaml", true),
            ("environment_linux_arm64_freeze.yaml", false),
            ("environment_windows_amd64_freeze.yaml", false),
            ("Freeze.yaml", false),
            ("a_b_c_d.yaml", false),
            ("a_b_c.yaml", true),
            ("linux.yaml", true),
            ("Linux.yaml", false),
            ("AMD64.yaml", false),
            ("x-darwin-then-linux.yaml", false),
            ("x-linux-then-darwin.yaml", true),
            ("sub_windows_x/conda.yaml", false),
        ] {
            assert_eq!(is_acceptable(name, &platform), acceptable, "{name}");
        }
    }

    #[test]
    fn the_first_existing_file_wins_then_the_conda_file() {
        let (_keep, root) = scratch();
        root.dir().create_dir("directory.yaml").unwrap();
        root.dir().write("b.yaml", "channels: [b]").unwrap();
        let platform = Platform::linux_amd64();
        let choose = |configs: &[&str], conda: &str| robot(configs, conda).environment_file(&root, &platform);
        assert_eq!(choose(&["a.yaml", "directory.yaml", "b.yaml"], "c.yaml").unwrap().as_deref(), Some("b.yaml"));
        assert_eq!(choose(&["a.yaml"], "./c.yaml").unwrap().as_deref(), Some("c.yaml"));
        assert_eq!(choose(&[], "").unwrap(), None);
        assert_eq!(
            choose(&["a.yaml", "windows.yaml"], "").unwrap_err().to_string(),
            "robot.yaml: no environment file for linux/amd64 among `a.yaml`, `windows.yaml`, and no `condaConfigFile`"
        );
    }

    #[test]
    fn the_blueprint_comes_from_the_chosen_file() {
        let (_keep, root) = scratch();
        root.dir().write("conda.yaml", "channels: [conda-forge]\ndependencies: [python=3.11.7]\n").unwrap();
        let read = |conda: &str| {
            robot(&[], conda).blueprint(&root, &Platform::linux_amd64(), &BlueprintOptions::default(), &Silent)
        };
        assert_eq!(read("conda.yaml").unwrap().unwrap().hash().to_string(), "5f74d1b6dace1dfc");
        assert_eq!(read("").unwrap(), None);
        assert!(read("missing.yaml").unwrap_err().to_string().contains("missing.yaml: not found"));
    }

    #[test]
    #[cfg(unix)]
    fn an_environment_file_may_be_a_link_that_stays_inside() {
        let (_keep, root) = scratch();
        root.dir().write("real.yaml", "channels: [x]").unwrap();
        root.dir().symlink("real.yaml", "inside.yaml").unwrap();
        root.dir().symlink("../../etc/passwd", "outside.yaml").unwrap();
        let platform = Platform::linux_amd64();
        let read = |name: &str| robot(&[name], "").blueprint(&root, &platform, &BlueprintOptions::default(), &Silent);
        assert!(read("inside.yaml").unwrap().is_some());
        assert!(read("outside.yaml").unwrap_err().to_string().contains("outside"));
    }
}
