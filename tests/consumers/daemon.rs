//! A background process that ends with the value that holds it.

use crate::support::{command, run};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a daemon may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon.
pub(crate) struct Daemon {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, whose output goes to the file `log`.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Daemon {
        let output = File::create(&log).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        // Ctrl-C in a terminal ends the tests; they end their daemons in order.
        let process = command.process_group(0).spawn().unwrap();
        Daemon { name: Path::new(command.get_program()).display().to_string(), process, log }
    }

    /// Waits until `ready` answers something, given what the daemon has logged so far.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, ready: impl Fn(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let log = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned();
            if let Some(answer) = ready(&log) {
                return answer;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended at once; its log:\n{log}", self.name);
            assert!(started.elapsed() < PATIENCE, "{} is not ready after {PATIENCE:?}; its log:\n{log}", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks the process to end with a signal, and returns its exit status.
    #[track_caller]
    pub(crate) fn end_by(&mut self, signal: &str) -> Option<i32> {
        run(command("sh").arg("-c").arg(format!("kill -s {signal} {}", self.process.id()))).success();
        let asked = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(asked.elapsed() < PATIENCE, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // Asked politely, a daemon ends its own children and undoes its mounts.
        run(command("sh").arg("-c").arg(format!("kill -s TERM {}", self.process.id())));
        let asked = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if asked.elapsed() > PATIENCE {
                self.process.kill().ok();
                self.process.wait().ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
