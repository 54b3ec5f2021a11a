//! `robot.yaml`: the tasks of a robot and their requirements.

mod environment;
mod ignore;
mod package;
mod packed;
mod paths;
mod programs;

use super::yaml::{self, Value, YamlDocument, YamlNode};
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::limits::Limit;
use crate::common::progress;
use crate::common::progress::Progress;
use crate::common::root::{Root, slashed};
use paths::{below, resolved, within};
use std::path::Path;

pub use environment::is_for_platform;
pub use packed::{is_packed, is_unpacked, unpack_robot};

/// A robot, as its `robot.yaml` describes it.
///
/// Every path is relative to the directory that was opened, which is that of the file or one above it, and stays below
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Robot {
    /// The file it was read from, for messages.
    pub file: String,
    /// The directory of that file, relative to the opened one; empty for the opened one itself.
    pub folder: String,
    /// The tasks, in the order of the file; at least one, except in an action package.
    pub tasks: Vec<Task>,
    /// The directory for the results of tasks. Only this path may begin with `..`.
    pub artifacts_directory: String,
    /// Environment files to choose from by platform, the first choice first.
    pub environment_configs: Vec<String>,
    /// The fallback environment file if none of those fits; empty if the robot needs no environment.
    pub conda_config_file: String,
    /// Commands that run before each task, in the same environment.
    pub pre_run_scripts: Vec<Vec<String>>,
    /// Files that list patterns of files to exclude from the robot.
    pub ignore_files: Vec<String>,
    /// Patterns for whole paths of files to exclude.
    pub excluded: Vec<String>,
    /// Additions to `PATH`, as written: relative to the directory of the file.
    pub path: Vec<String>,
    /// Additions to `PYTHONPATH`, as written.
    pub python_path: Vec<String>,
}

/// A task of a robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The name, which may hold any character but NUL.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<String>,
}

const ROBOT_KEYS: [&str; 9] = [
    "tasks",
    "devTasks",
    "condaConfigFile",
    "environmentConfigs",
    "preRunScripts",
    "ignoreFiles",
    "artifactsDir",
    "PATH",
    "PYTHONPATH",
];

const TASK_KEYS: [&str; 3] = ["robotTaskName", "shell", "command"];

impl Robot {
    /// Reads and checks the robot file `name` in `directory`, or below it.
    ///
    /// If it is below, the robot may refer to files outside its own folder. A `package.yaml` is an action package: a
    /// robot without tasks.
    ///
    /// # Errors
    /// Returns an error if there is no such regular file, or it is not strict YAML, or does not describe a robot that
    /// RCC could run.
    pub fn open(directory: &Root, name: impl AsRef<Path>, watcher: &dyn Progress) -> Result<Robot> {
        let shown = directory.display(name.as_ref());
        let file = directory.open_linked_file(name.as_ref())?;
        let folder = name.as_ref().parent().unwrap_or(Path::new(""));
        let unfit = || Error::invalid(&shown, "the name is not Unicode");
        let folder = slashed(folder).to_str().ok_or_else(unfit)?.to_owned();
        let bytes = bounded_read::read(file, Limit::YamlSize, &shown)?;
        let name = slashed(name.as_ref()).to_str().ok_or_else(unfit)?.to_owned();
        match Robot::is_package(&name) {
            true => Robot::of_package(&bytes, &shown, &name, &folder),
            false => Robot::read(&bytes, &shown, &folder, watcher),
        }
    }

    /// Parses and checks the content of a robot file, which messages call `name`.
    ///
    /// # Errors
    /// Returns an error if it is not strict YAML, or does not describe a robot that RCC could run.
    ///
    /// ```
    /// use ocibuild::{Robot, Silent};
    ///
    /// let text = b"tasks:\n  Main:\n    shell: python task.py\nartifactsDir: output\n";
    /// let robot = Robot::parse(text, "robot.yaml", &Silent)?;
    /// assert_eq!(robot.task(None)?.command, ["python", "task.py"]);
    /// # Ok::<(), ocibuild::Error>(())
    /// ```
    pub fn parse(bytes: &[u8], name: &str, watcher: &dyn Progress) -> Result<Robot> {
        Robot::read(bytes, name, "", watcher)
    }

    fn read(bytes: &[u8], name: &str, folder: &str, watcher: &dyn Progress) -> Result<Robot> {
        let document = yaml::load(bytes, name)?;
        let root = document.root();
        if root.is_null() {
            return Err(Error::invalid(name, "empty, so it has no tasks"));
        }
        document.mapping(root, "")?;
        let robot = RobotReader { document: &document, root, folder }.robot(name)?;
        warn_of_unknown_keys(root, name, watcher);
        for (key, entries) in [("PATH", &robot.path), ("PYTHONPATH", &robot.python_path)] {
            for entry in entries.iter().filter(|entry| robot.inner(entry).is_none()) {
                let reason = format!("`{key}`: `{entry}` is outside the robot directory, so it is not in the image");
                progress::warn(watcher, name, &reason);
            }
        }
        Ok(robot)
    }

    /// Resolves a path that is relative to the robot file. Returns `None` if it leads out of the opened directory.
    pub fn inner(&self, path: &str) -> Option<String> {
        within(&below(&self.folder, path))
    }

    /// Returns the directory for results, if it is below the opened directory.
    pub fn inner_artifacts(&self) -> Option<&str> {
        Some(self.artifacts_directory.as_str()).filter(|path| *path != "." && *path != ".." && !path.starts_with("../"))
    }

    /// Selects a task as `rcc run --task` does.
    ///
    /// It is selected by its exact name, else ignoring case; without a name, the only task is selected.
    ///
    /// # Errors
    /// Returns an error if no task has this name, or there are several and none was named.
    pub fn task(&self, name: Option<&str>) -> Result<&Task> {
        let unresolved = |reason: String| {
            let names: Vec<String> = self.tasks.iter().map(|task| format!("{:?}", task.name)).collect();
            Error::new(ErrorKind::Usage, self.file.clone(), reason).hint(format!("tasks: {}", names.join(", ")))
        };
        let Some(name) = name else {
            return match &self.tasks[..] {
                [only] => Ok(only),
                _ => Err(unresolved("several tasks, and none selected".to_owned())),
            };
        };
        let wanted = name.trim_matches(['\t', '\r', '\n', '"', '\'', ' ']);
        let lower = wanted.to_lowercase();
        let exactly = self.tasks.iter().find(|task| task.name == wanted);
        let ignoring_case = || self.tasks.iter().find(|task| task.name.trim().to_lowercase() == lower);
        exactly.or_else(ignoring_case).ok_or_else(|| unresolved(format!("no task `{wanted}`")))
    }
}

/// A reader for the entries of a robot file.
struct RobotReader<'a> {
    document: &'a YamlDocument,
    root: &'a YamlNode,
    folder: &'a str,
}

impl RobotReader<'_> {
    fn robot(&self, file: &str) -> Result<Robot> {
        let artifacts = self.artifacts();
        let mut robot = Robot {
            file: file.to_owned(),
            folder: self.folder.to_owned(),
            tasks: Vec::new(),
            environment_configs: self.inner_paths("environmentConfigs")?,
            conda_config_file: self.inner_path("condaConfigFile")?,
            pre_run_scripts: self.pre_run_scripts()?,
            ignore_files: self.inner_paths("ignoreFiles")?,
            excluded: Vec::new(),
            path: self.texts("PATH")?,
            python_path: self.texts("PYTHONPATH")?,
            artifacts_directory: String::new(),
        };
        robot.tasks = self.tasks(artifacts.as_deref().unwrap_or_default())?;
        robot.artifacts_directory = resolved(&below(self.folder, &artifacts?)).unwrap_or_default();
        Ok(robot)
    }

    /// Returns the directory for results, relative to the robot file. It is created in the image, so it may be outside.
    fn artifacts(&self) -> Result<String> {
        let missing =
            || self.document.error(self.root, "no `artifactsDir`").hint("for example: `artifactsDir: output`");
        let node = self.root.get("artifactsDir").ok_or_else(missing)?;
        let text = self.document.text(node, "artifactsDir")?;
        if text.is_empty() {
            return Err(missing());
        }
        let absolute = || self.document.error(node, format!("`artifactsDir`: `{text}` is absolute"));
        resolved(text).ok_or_else(absolute)
    }

    fn texts(&self, key: &str) -> Result<Vec<String>> {
        self.root.get(key).map_or(Ok(Vec::new()), |node| self.document.texts(node, key))
    }

    /// Returns a path below the robot's directory, without `.` and `..`; empty if it is not given.
    fn inner_path(&self, key: &str) -> Result<String> {
        let Some(node) = self.root.get(key) else { return Ok(String::new()) };
        self.checked(node, key, self.document.text(node, key)?)
    }

    fn inner_paths(&self, key: &str) -> Result<Vec<String>> {
        let Some(node) = self.root.get(key) else { return Ok(Vec::new()) };
        let mut paths = Vec::new();
        for (index, item) in self.document.sequence(node, key)?.iter().enumerate() {
            let what = format!("{key}[{index}]");
            let text = self.document.text(item, &what)?;
            // RCC warns about an empty entry and continues.
            if !text.trim().is_empty() {
                paths.push(self.checked(item, &what, text)?);
            }
        }
        Ok(paths)
    }

    fn checked(&self, node: &YamlNode, what: &str, text: &str) -> Result<String> {
        if text.is_empty() {
            return Ok(String::new());
        }
        let outside = || {
            let error = self.document.error(node, format!("`{what}`: `{text}` is outside the robot directory"));
            if text.starts_with('/') {
                error
            } else {
                error.hint("--root DIR packages a directory above, with both in it")
            }
        };
        within(&below(self.folder, text)).ok_or_else(outside)
    }

    fn pre_run_scripts(&self) -> Result<Vec<Vec<String>>> {
        let Some(node) = self.root.get("preRunScripts") else { return Ok(Vec::new()) };
        let mut scripts = Vec::new();
        for (index, item) in self.document.sequence(node, "preRunScripts")?.iter().enumerate() {
            let what = format!("preRunScripts[{index}]");
            let words = self.words(item, &what, self.document.text(item, &what)?)?;
            scripts.push(words);
        }
        Ok(scripts)
    }

    fn tasks(&self, artifacts_directory: &str) -> Result<Vec<Task>> {
        let no_tasks = |node| self.document.error(node, "no tasks").hint("add at least one under `tasks`");
        let node = self.root.get("tasks").ok_or_else(|| no_tasks(self.root))?;
        let entries = self.document.mapping(node, "tasks")?;
        if entries.is_empty() {
            return Err(no_tasks(node));
        }
        let tasks = entries.iter().map(|(key, task)| {
            Ok(Task { name: key.text.clone(), command: self.command(&key.text, task, artifacts_directory)? })
        });
        tasks.collect()
    }

    fn command(&self, name: &str, task: &YamlNode, artifacts_directory: &str) -> Result<Vec<String>> {
        let what = |key: &str| format!("tasks.{name}.{key}");
        self.document.mapping(task, &format!("tasks.{name}"))?;
        let text = |key: &str| task.get(key).map_or(Ok(""), |node| self.document.text(node, &what(key)));
        let (framework_task, shell) = (text("robotTaskName")?, text("shell")?);
        let command = match task.get("command") {
            Some(node) => self.document.texts(node, &what("command"))?,
            None => Vec::new(),
        };
        match (framework_task.is_empty(), shell.is_empty(), command.is_empty()) {
            (false, true, true) => Ok(robot_framework(framework_task, artifacts_directory)),
            (true, false, true) => self.words(task.get("shell").unwrap_or(task), &what("shell"), shell),
            (true, true, false) => Ok(command),
            _ => {
                let reason = format!("task `{name}` needs exactly one of `robotTaskName`, `shell` and `command`");
                Err(self.document.error(task, reason))
            }
        }
    }

    /// Splits a command line into words, without a shell.
    fn words(&self, node: &YamlNode, what: &str, line: &str) -> Result<Vec<String>> {
        match shlex::split(line) {
            Some(words) if !words.is_empty() => Ok(words),
            Some(_) => Err(self.document.error(node, format!("`{what}`: no command"))),
            None => Err(self.document.error(node, format!("`{what}`: unterminated quote"))),
        }
    }
}

/// Returns the command that RCC runs for a task of Robot Framework.
fn robot_framework(task: &str, artifacts_directory: &str) -> Vec<String> {
    let words =
        ["python", "-m", "robot", "--report", "NONE", "--outputdir", artifacts_directory, "--logtitle", "Task log"];
    words.into_iter().chain(["--task", task, "."]).map(str::to_owned).collect()
}

fn warn_of_unknown_keys(root: &YamlNode, name: &str, watcher: &dyn Progress) {
    let mut unknown = Vec::new();
    let mut collect = |node: &YamlNode, prefix: &str, known: &[&str]| {
        let Value::Mapping(entries) = &node.value else { return };
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            unknown.push(format!("`{prefix}{}`", key.text));
        }
    };
    collect(root, "", &ROBOT_KEYS);
    if let Some(Value::Mapping(tasks)) = root.get("tasks").map(|node| &node.value) {
        for (key, task) in tasks {
            collect(task, &format!("tasks.{}.", key.text), &TASK_KEYS);
        }
    }
    if !unknown.is_empty() {
        progress::warn(watcher, name, &format!("rcc ignores {}", unknown.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Recorder;
    use super::*;
    use crate::common::progress::Silent;

    fn parsed(text: &str) -> Robot {
        Robot::parse(text.as_bytes(), "robot.yaml", &Silent).unwrap()
    }

    fn refusal(text: &str) -> String {
        Robot::parse(text.as_bytes(), "robot.yaml", &Silent).unwrap_err().to_string()
    }

    #[test]
    fn the_three_kinds_of_tasks_become_commands() {
        let robot = parsed(
            "tasks:\n  A:\n    robotTaskName: Do it\n  B:\n    shell: python -m task 'with blanks' # comment\n  \
             3.10:\n    command: [python, 3.10, yes]\nartifactsDir: ./output/\n",
        );
        let commands: Vec<(&str, Vec<&str>)> = robot
            .tasks
            .iter()
            .map(|task| (task.name.as_str(), task.command.iter().map(String::as_str).collect()))
            .collect();
        let framework = "python -m robot --report NONE --outputdir output --logtitle Task^log --task Do^it .";
        let framework: Vec<String> = framework.split(' ').map(|word| word.replace('^', " ")).collect();
        assert_eq!(commands[0], ("A", framework.iter().map(String::as_str).collect()));
        assert_eq!(commands[1], ("B", vec!["python", "-m", "task", "with blanks"]));
        assert_eq!(commands[2], ("3.10", vec!["python", "3.10", "yes"]));
        assert_eq!(robot.artifacts_directory, "output");
    }

    #[test]
    fn what_rcc_could_not_run_is_refused() {
        for (text, expected) in [
            ("", "robot.yaml: empty, so it has no tasks"),
            ("# nothing\n", "empty, so it has no tasks"),
            ("null", "empty, so it has no tasks"),
            ("artifactsDir: x", "robot.yaml:1:1: no tasks"),
            ("tasks: {}\nartifactsDir: x", "robot.yaml:1:8: no tasks"),
            ("tasks: {a: {shell: b}}", "no `artifactsDir`"),
            ("tasks: 3", "robot.yaml:1:8: `tasks`: expected a map, found a number"),
            ("tasks: {a: ~}\nartifactsDir: x", "task `a` needs exactly one of"),
            ("tasks: {a: {shell: b, command: [c]}}\nartifactsDir: x", "task `a` needs exactly one of"),
            ("tasks: {a: {command: b}}\nartifactsDir: x", "`tasks.a.command`: expected a list, found text"),
            ("tasks: {a: {shell: \"b 'c\"}}\nartifactsDir: x", "`tasks.a.shell`: unterminated quote"),
            ("tasks: {a: {shell: b}}\nartifactsDir: x\nPATH: {}", "`PATH`: expected a list, found a map"),
            ("tasks: {a: {shell: b}}\nartifactsDir: /x", "`artifactsDir`: `/x` is absolute"),
            (
                "tasks: {a: {shell: b}}\nartifactsDir: x\ncondaConfigFile: a/../../../etc/passwd",
                "robot.yaml:3:18: `condaConfigFile`: `a/../../../etc/passwd` is outside the robot directory",
            ),
            (
                "tasks: {a: {shell: b}}\nartifactsDir: x\nenvironmentConfigs: [/etc/passwd]",
                "`environmentConfigs[0]`: `/etc/passwd` is outside the robot directory",
            ),
            ("tasks: {a: {shell: b}}\ntasks: {}", "duplicate key `tasks` (first in line 1)"),
            ("- a", "robot.yaml:1:1: expected a map, found a list"),
        ] {
            let error = refusal(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_task_name_cannot_break_a_message() {
        let error = refusal("tasks: {\"a\\nb\\e[31m\\u202ec\": ~}\nartifactsDir: x");
        assert!(error.contains("task `a\\nb\\u{1b}[31m\\u{202e}c` needs"), "{error}");
        assert!(refusal("tasks: {\"a\\0b\": ~}").contains("NUL"));
    }

    #[test]
    fn unknown_keys_are_listed_in_one_warning() {
        let recorder = Recorder::default();
        let text = "tasks: {a: {shell: b, shel: c}}\nartifactsDir: x\ncondaConfig: y\nPATH: [., /usr/bin]\n";
        Robot::parse(text.as_bytes(), "robot.yaml", &recorder).unwrap();
        assert_eq!(
            recorder.warnings(),
            [
                "robot.yaml: rcc ignores `condaConfig`, `tasks.a.shel`",
                "robot.yaml: `PATH`: `/usr/bin` is outside the robot directory, so it is not in the image",
            ]
        );
    }

    #[test]
    fn tasks_are_chosen_as_rcc_chooses_them() {
        let robot = parsed("tasks: {Run me: {shell: a}, RUN ME: {shell: b}, other: {shell: c}}\nartifactsDir: x");
        let chosen = |name| robot.task(name).map(|task| task.command[0].as_str()).map_err(|error| error.to_string());
        assert_eq!(chosen(Some("RUN ME")), Ok("b"));
        assert_eq!(chosen(Some(" \"Run me\"\n")), Ok("a"));
        assert_eq!(chosen(Some("OTHER")), Ok("c"));
        let tasks = "(tasks: \"Run me\", \"RUN ME\", \"other\")";
        assert_eq!(chosen(Some("x")), Err(format!("robot.yaml: no task `x` {tasks}")));
        assert_eq!(chosen(None), Err(format!("robot.yaml: several tasks, and none selected {tasks}")));
        assert_eq!(parsed("tasks: {a: {shell: b}}\nartifactsDir: x").task(None).unwrap().name, "a");
    }

    #[test]
    #[cfg(unix)]
    fn only_a_regular_file_is_a_robot_file() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let error = |name: &str| Robot::open(&root, name, &Silent).unwrap_err().to_string();
        let shown = directory.path().display();
        assert_eq!(error("robot.yaml"), format!("{shown}/robot.yaml: not found"));
        root.dir().create_dir("directory").unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for name in ["directory", "pipe"] {
            assert_eq!(error(name), format!("{shown}/{name}: not a regular file"));
        }
        root.dir().write("large.yaml", "#".repeat(2 << 20)).unwrap();
        assert_eq!(
            error("large.yaml"),
            format!("{shown}/large.yaml: larger than 1 MiB (OCIBUILD_MAX_YAML_SIZE sets the limit)")
        );
    }
}
