//! Runs programs and checks their results.

use super::scratch::{MARK, session};
use super::second_reader;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// The time limit of a command. Only a program that hangs exceeds it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns a command with the same environment on every machine: no variables of the caller but the search path, a home and a
/// temporary directory of the session, UTC, and the C locale.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for inherited in ["SYSTEMROOT", "PATHEXT", "COMSPEC"] {
        command.envs(std::env::var_os(inherited).map(|value| (inherited, value)));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    // The directories of daemons, which are missing in an ordinary user's search path.
    let path = if cfg!(unix) { format!("{path}:/usr/sbin:/sbin") } else { path };
    command.env("PATH", path);
    command.env(MARK, session().directory());
    command.env("HOME", session().directory().join("home"));
    command.env("TMPDIR", session().directory().join("tmp"));
    command.envs([("LC_ALL", "C"), ("TZ", "UTC0")]);
    // Without the cache, so that no test depends on another.
    command.env("OCIBUILD_NO_CACHE", "1");
    command.stdin(Stdio::null());
    command
}

thread_local! {
    /// The program under test: another one only where a mistake was planted.
    static PROGRAM: RefCell<PathBuf> = RefCell::new(env!("CARGO_BIN_EXE_ocibuild").into());
}

/// Tests another program from now on, in this thread.
#[cfg(target_os = "linux")]
pub(crate) fn use_program(program: PathBuf) {
    PROGRAM.set(program);
}

/// Returns a command for the program under test.
pub(crate) fn ocibuild() -> Command {
    command(PROGRAM.with_borrow(Clone::clone))
}

/// A finished command: its command line, its output and its exit status.
pub(crate) struct Finished {
    /// The command line.
    pub(crate) command: String,
    /// Its standard output.
    pub(crate) stdout: Vec<u8>,
    /// Its standard error, as text.
    pub(crate) stderr: String,
    /// Its exit status; 128 plus the signal's number if a signal ended it.
    pub(crate) status: i32,
    /// What it was seen to use. It is looked at all the time, so that only its last moments do not count.
    pub(crate) used: Used,
}

/// What a process used, as far as the system tells.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// The most memory at once, in KiB.
    pub(crate) memory: u64,
    /// The time of all its threads on processors. On a busy machine it takes longer.
    pub(crate) processor: Duration,
}

impl Finished {
    /// Asserts that it succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Finished {
        self.ended_with(0)
    }

    /// Asserts its exit status.
    #[track_caller]
    pub(crate) fn ended_with(self, status: i32) -> Finished {
        assert!(self.status == status, "expected status {status} of {self}");
        self
    }

    /// Asserts that it failed, and that its standard error contains `part`.
    #[track_caller]
    pub(crate) fn failed_saying(self, part: &str) -> Finished {
        assert!(self.status != 0 && self.stderr.contains(part), "expected a failure saying {part:?} of {self}");
        self
    }

    /// Asserts its whole standard output.
    #[track_caller]
    pub(crate) fn printed(self, stdout: &str) -> Finished {
        assert!(self.stdout == stdout.as_bytes(), "expected {stdout:?} on the standard output of {self}");
        self
    }

    /// Returns its standard output as text, without the newline at the end.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on standard output").trim_end()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        writeln!(out, "\n    {}\nwhich ended with status {}", self.command, self.status)?;
        write!(out, "--- standard output\n{stdout}\n--- standard error\n{}\n---", self.stderr)
    }
}

/// Runs `command` to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Finished {
    run_within(PATIENCE, command)
}

/// Runs `command` to its end. Fails if that takes longer than `patience`.
#[track_caller]
pub(crate) fn run_within(patience: Duration, command: &mut Command) -> Finished {
    let line = command_line(command);
    // Files instead of pipes: a grandchild that keeps a pipe open would block the test.
    let mut stdout = tempfile::tempfile().unwrap();
    let mut stderr = tempfile::tempfile().unwrap();
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut pause = Duration::from_millis(1);
    // The sum of the pauses: a clock goes on while the tests and the program are stopped.
    let mut waited = Duration::ZERO;
    let mut used = Used::default();
    let status = loop {
        used = used.or_more(used_by(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if waited > patience {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("still running after {patience:?}:\n    {line}\n{}", String::from_utf8_lossy(&content(&mut stderr)));
        }
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let stdout = content(&mut stdout);
    if status.success() {
        second_reader::read_built_image(command, &stdout);
    }
    Finished {
        command: line,
        stdout,
        stderr: String::from_utf8_lossy(&content(&mut stderr)).into_owned(),
        status: number(status),
        used,
    }
}

impl Used {
    fn or_more(self, other: Used) -> Used {
        Used { memory: self.memory.max(other.memory), processor: self.processor.max(other.processor) }
    }
}

/// Returns the time that this process has had on the processors.
#[cfg(target_os = "linux")]
pub(crate) fn processor_time() -> Duration {
    used_by(std::process::id()).processor
}

/// Returns what a process has used. One that does not run its own program yet still has the memory of this one.
fn used_by(process: u32) -> Used {
    let program = std::fs::read_link(format!("/proc/{process}/exe")).ok();
    let has_begun = program.is_some_and(|program| std::env::current_exe().is_ok_and(|own| own != program));
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let (status, stat) = (read("status"), read("stat"));
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let memory = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok()).filter(|_| has_begun);
    // Behind the name, which may have spaces: fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let hundredths: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Used { memory: memory.unwrap_or_default(), processor: Duration::from_millis(hundredths * 10) }
}

fn content(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn number(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128 + signal;
    }
    status.code().unwrap()
}

fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let is_plain = !argument.is_empty() && !argument.contains([' ', '\n', '\'', '"', '$', ';', '&', '|']);
        line += &if is_plain { format!(" {argument}") } else { format!(" '{}'", argument.replace('\'', r"'\''")) };
    }
    line
}

#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Finished {
        run(command("sh").args(["-c", script]))
    }

    #[test]
    fn a_finished_program_returns_status_and_output() {
        shell("echo out; echo err >&2; exit 7").ended_with(7).printed("out\n").failed_saying("err");
        shell("kill -9 $$").ended_with(137);
        let message = shell("echo out; echo err >&2; exit 7").to_string();
        assert_eq!(
            message,
            "\n    sh -c 'echo out; echo err >&2; exit 7'\nwhich ended with status 7\n--- standard output\nout\n\n\
             --- standard error\nerr\n\n---"
        );
    }

    #[test]
    fn what_a_program_uses_is_known() {
        let busy = shell("i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done");
        assert!(busy.used.processor > Duration::from_millis(50), "{:?}", busy.used);
        assert!((500..50_000).contains(&busy.used.memory), "{:?}", busy.used);
        assert!(shell("sleep 1").used.processor < Duration::from_millis(500));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let escaped = std::panic::catch_unwind(|| {
            run_within(Duration::from_secs(2), command("sh").args(["-c", "echo waiting >&2; exec sleep 60"]));
        });
        let message = escaped.unwrap_err().downcast::<String>().unwrap();
        assert!(message.starts_with("still running after 2s") && message.ends_with("waiting\n"), "{message}");
    }
}
