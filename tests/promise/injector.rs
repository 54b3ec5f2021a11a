//! Running the program under the injector (`injector.c`), which disturbs one of its system calls.

use crate::support::{Finished, command, consumer, not_proven, run, session};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Which calls are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Calls that change a file system.
    Change,
    /// Syncs and renames.
    Sync,
    /// Reading calls too.
    All,
}

impl Class {
    fn word(self) -> &'static str {
        match self {
            Class::Change => "change",
            Class::Sync => "sync",
            Class::All => "all",
        }
    }
}

/// What happens at the numbered call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbance {
    None,
    Kill,
    Signal(i32),
    /// This call fails.
    Error(i32),
    /// This call and all later ones fail.
    Errors(i32),
    /// This call is made, and fails all the same.
    Done(i32),
    /// The program waits before the call, until it is killed.
    Hold,
}

impl Disturbance {
    fn word(self) -> String {
        match self {
            Disturbance::None => "none".to_owned(),
            Disturbance::Kill => "kill".to_owned(),
            Disturbance::Signal(signal) => format!("signal={signal}"),
            Disturbance::Error(errno) => format!("error={errno}"),
            Disturbance::Errors(errno) => format!("errors={errno}"),
            Disturbance::Done(errno) => format!("done={errno}"),
            Disturbance::Hold => "hold".to_owned(),
        }
    }
}

/// A numbered call: its name and the path that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) path: String,
}

/// The compiled injector, and a log of its own.
#[derive(Debug)]
pub(super) struct Injector {
    program: &'static Path,
    log: PathBuf,
}

impl Injector {
    /// Returns an injector that logs to `log`; `None`, with a message, if it cannot run here.
    pub(super) fn new(log: PathBuf) -> Option<Injector> {
        static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
        let probe = ["/dev/null", "change", "none", "0", "/bin/true"];
        let program = PROGRAM.get_or_init(|| compile_tracer("injector", &probe)).as_deref()?;
        Some(Injector { program, log })
    }

    /// Returns a command that runs `program` and disturbs it at call `number` of `class`.
    pub(super) fn disturb(&self, program: &Command, class: Class, disturbance: Disturbance, number: usize) -> Command {
        let mut disturbed = Command::new(self.program);
        disturbed.arg(&self.log).args([class.word(), &disturbance.word(), &number.to_string()]);
        traced(disturbed, program)
    }

    /// Returns the calls that were numbered in the last run, in order, with paths below `directory`.
    pub(super) fn calls(&self, directory: &Path) -> Vec<Call> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let directory = directory.display().to_string();
        let below = |path: &str| path.strip_prefix(&directory).unwrap_or(path).trim_start_matches('/').to_owned();
        let call = |line: &str| {
            let mut words = line.splitn(3, ' ').skip(1).map(str::to_owned);
            Call { name: words.next().unwrap_or_default(), path: below(&words.next().unwrap_or_default()) }
        };
        log.lines().map(call).collect()
    }

    /// Returns whether the program waits at its call.
    pub(super) fn is_holding(&self) -> bool {
        self.log.with_extension("held").exists()
    }
}

/// Returns `tracer` with `program` and its arguments, environment and directory.
pub(super) fn traced(mut tracer: Command, program: &Command) -> Command {
    tracer.arg(program.get_program()).args(program.get_args()).env_clear();
    for (name, value) in program.get_envs() {
        tracer.envs(value.map(|value| (name, value)));
    }
    if let Some(directory) = program.get_current_dir() {
        tracer.current_dir(directory);
    }
    tracer
}

/// Compiles `NAME.c` of this folder for this run of the tests, and runs it once with the arguments `probe`.
pub(super) fn compile_tracer(name: &str, probe: &[&str]) -> Option<PathBuf> {
    let compiler = consumer("gcc")?;
    if !cfg!(target_arch = "x86_64") {
        not_proven("the injector knows the system calls of x86-64 only, so not proven here: faults at every call");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/promise/{name}.c"));
    let program = session().directory().join(name);
    run(command(compiler).args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source)).success();
    let probe: Finished = run(command(&program).args(probe));
    if probe.status != 0 {
        not_proven("processes may not be traced here, so not proven: faults at every call");
        return None;
    }
    Some(program)
}
