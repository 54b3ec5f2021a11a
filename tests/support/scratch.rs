//! Scratch directories for tests, below one directory for the session: a run of the test binary.
//!
//! ```text
//! /var/tmp/ocibuild-<pid>-<nanoseconds>/     the session
//!     home/  tmp/                            HOME and TMPDIR of every program that a test runs
//!     1/  2/  3/  ...                        scratch directories
//! ```
//!
//! A scratch directory is removed when its test ends. The session directory is removed when the process ends, for whatever
//! reason: a small shell script (`sweep.sh`) waits for the end of a pipe that only this process holds open, then ends every
//! process that has the session's mark in its environment, and unmounts and removes what is left.

use super::command;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable that marks every process of a session.
pub(crate) const MARK: &str = "OCIBUILD_TEST_SESSION";

/// One run of the test binary.
pub(crate) struct Session {
    directory: PathBuf,
    /// Closed by the system when this process ends; the sweeper waits for that.
    _open_until_the_end: Option<ChildStdin>,
}

impl Session {
    /// Returns the directory of the session.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn start() -> Session {
        // The path is short, since a socket's path has at most 107 bytes; canonical, since daemons resolve links; and in lower
        // case, since podman makes image names of paths. /tmp is in memory on many machines, and images are large.
        let parent = if cfg!(windows) { std::env::temp_dir() } else { PathBuf::from("/var/tmp") };
        let parent = parent.canonicalize().unwrap();
        let started = std::time::UNIX_EPOCH.elapsed().unwrap();
        let directory = parent.join(format!("ocibuild-{}-{:x}", std::process::id(), started.subsec_nanos()));
        for name in ["home", "tmp"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        let sweeper = cfg!(unix).then(|| sweep_later(&directory));
        Session { directory, _open_until_the_end: sweeper }
    }
}

/// Returns the session of this process.
pub(crate) fn session() -> &'static Session {
    static SESSION: OnceLock<Session> = OnceLock::new();
    SESSION.get_or_init(Session::start)
}

fn sweep_later(directory: &Path) -> ChildStdin {
    let mut sweeper = std::process::Command::new("/bin/sh");
    sweeper.arg("-c").arg(include_str!("sweep.sh")).arg("sweep.sh").arg(directory).arg(MARK);
    sweeper.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Ctrl-C goes to the whole process group, and the sweeper must survive it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut sweeper, 0);
    sweeper.spawn().unwrap().stdin.take().unwrap()
}

/// A directory that is unmounted and removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates an empty directory.
    pub(crate) fn new() -> Scratch {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        let path = session().directory.join(COUNTER.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&path).unwrap();
        Scratch { path }
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of `name` in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, and creates its parent directories.
    pub(crate) fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Container storage leaves mounts behind: podman on its overlay directory, docker on a network namespace.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if Path::new(target).starts_with(&self.path) {
                command("umount").arg("--lazy").arg(target).status().ok();
            }
        }
        // The sweeper removes the rest when its owner has ended.
        std::fs::remove_dir_all(&self.path).ok();
    }
}

#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::support::{consumer_as_root, run};
    use std::time::{Duration, Instant};

    #[test]
    fn a_scratch_directory_goes_with_its_mounts_even_when_a_test_panics() {
        let escaped = std::panic::catch_unwind(|| {
            let scratch = Scratch::new();
            let inner = scratch.write("deep/file", "x");
            if consumer_as_root("mount").is_some() {
                run(command("mount").args(["-t", "tmpfs", "none"]).arg(scratch.join("deep"))).success();
                assert!(!inner.exists());
            }
            std::panic::panic_any(scratch.path().to_owned());
        });
        let path = *escaped.unwrap_err().downcast::<PathBuf>().unwrap();
        assert!(path.starts_with(session().directory()));
        assert!(!path.exists());
    }

    #[test]
    fn a_test_run_that_is_killed_leaves_nothing_behind() {
        // This test binary again, with one test that waits for a container that never ends.
        let mut tests = command(std::env::current_exe().unwrap());
        tests.args(["--exact", "acceptance::harness::a_container_that_never_ends"]).env("OCIBUILD_TEST_ENDLESS", "1");
        let mut tests = tests.stdout(Stdio::null()).spawn().unwrap();
        let session = format!("/var/tmp/ocibuild-{}-", tests.id());
        wait(|| !containers_of(&session).is_empty() || tests.try_wait().unwrap().is_some());
        tests.kill().unwrap();
        tests.wait().unwrap();
        wait(|| directories_of(&session).is_empty());
        assert!(containers_of(&session).is_empty(), "a container is left");
        assert!(daemons_of(&session).is_empty(), "a daemon is left");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&session), "{mounts}");
    }

    #[track_caller]
    fn wait(mut until: impl FnMut() -> bool) {
        let started = Instant::now();
        while !until() {
            assert!(started.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn directories_of(session: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir("/var/tmp").unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_str().is_some_and(|path| path.starts_with(session))).collect()
    }

    /// Returns the processes whose root directory is in the session.
    fn containers_of(session: &str) -> Vec<PathBuf> {
        processes("mountinfo", |text| {
            text.lines().any(|mount| mount.split(' ').nth(4) == Some("/") && mount.contains(session))
        })
    }

    /// Returns the processes that carry the session's mark.
    fn daemons_of(session: &str) -> Vec<PathBuf> {
        let mark = format!("{MARK}={session}");
        processes("environ", |text| text.split('\0').any(|variable| variable.starts_with(&mark)))
    }

    fn processes(file: &str, are: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let text = |process: &PathBuf| std::fs::read(process.join(file)).unwrap_or_default();
        all.filter(|process| are(&String::from_utf8_lossy(&text(process)))).collect()
    }
}
