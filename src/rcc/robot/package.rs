//! Action packages: `package.yaml`, which names an environment and no tasks.

use super::Robot;
use crate::common::error::{Error, Result};
use crate::rcc::yaml;

impl Robot {
    /// Returns whether RCC takes a file of this name for an action package.
    pub(super) fn is_package(name: &str) -> bool {
        let base_name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        base_name.eq_ignore_ascii_case("package.yaml")
    }

    /// Parses the content of a `package.yaml`, which messages call `shown`.
    ///
    /// `name` and its directory `folder` are relative to the opened directory. RCC reads its dependencies only. The
    /// tools that publish packages exclude the files that `packaging.exclude` lists.
    pub(super) fn of_package(bytes: &[u8], shown: &str, name: &str, folder: &str) -> Result<Robot> {
        let document = yaml::load(bytes, shown)?;
        let root = document.root();
        if root.is_null() {
            return Err(Error::invalid(shown, "is empty"));
        }
        document.mapping(root, "")?;
        let excluded = match root.get("packaging").and_then(|packaging| packaging.get("exclude")) {
            Some(patterns) => document.texts(patterns, "packaging.exclude")?,
            None => Vec::new(),
        };
        Ok(Robot {
            file: shown.to_owned(),
            folder: folder.to_owned(),
            tasks: Vec::new(),
            artifacts_directory: super::resolved(&super::below(folder, "output")).unwrap_or_default(),
            environment_configs: Vec::new(),
            conda_config_file: name.to_owned(),
            pre_run_scripts: Vec::new(),
            ignore_files: Vec::new(),
            excluded,
            path: Vec::new(),
            python_path: Vec::new(),
        })
    }
}
