//! containerd and its client ctr, with a daemon for each test: it starts in a twentieth of a second.

use super::daemon::Daemon;
use crate::support::{Finished, Scratch, command, consumer, consumer_as_root, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The program `ctr` and a daemon for it.
pub(crate) struct Containerd {
    program: PathBuf,
    /// Dropped, and so ended, before its directory.
    _daemon: Daemon,
    scratch: Scratch,
    namespace: String,
}

/// An image as containerd lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The name.
    pub(crate) name: String,
    /// The digest of the manifest or index.
    pub(crate) digest: String,
}

impl Containerd {
    /// Finds the programs and starts a daemon.
    pub(crate) fn find() -> Option<Containerd> {
        let (daemon, program) = (consumer_as_root("containerd")?, consumer_as_root("ctr")?);
        consumer("runc")?;
        let scratch = Scratch::new();
        let directory = scratch.path().display();
        let config = scratch.write(
            "config.toml",
            format!(
                "version = 2\n\
                 root = \"{directory}/root\"\n\
                 state = \"{directory}/state\"\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\n\
                 address = \"{directory}/socket\"\n\
                 [ttrpc]\n\
                 address = \"{directory}/socket.ttrpc\"\n\
                 [plugins.\"io.containerd.internal.v1.opt\"]\n\
                 path = \"{directory}/opt\"\n"
            ),
        );
        let mut daemon = Daemon::start(command(daemon).arg("--config").arg(config), scratch.join("log"));
        daemon.wait_for(|log| log.contains("containerd successfully booted").then_some(()));
        // The shim's sockets in /run/containerd differ by namespace and ID, whatever the daemon's directory is.
        let namespace = scratch.path().to_str().unwrap().trim_start_matches('/').replace('/', "-");
        Some(Containerd { program, _daemon: daemon, scratch, namespace })
    }

    /// Imports an archive and lists all images then known.
    #[track_caller]
    pub(crate) fn import(&self, archive: &Path) -> Vec<Listed> {
        run(self.command().args(["image", "import"]).arg(archive)).success();
        let table = run(self.command().args(["image", "list"])).success();
        let row = |line: &str| {
            let mut columns = line.split_whitespace();
            let name = columns.next().unwrap().to_owned();
            Listed { name, digest: columns.nth(1).unwrap().to_owned() }
        };
        table.text().lines().skip(1).map(row).collect()
    }

    /// Runs the image, with `arguments` for its command where there are any.
    ///
    /// ctr 1.6 sometimes loses output of a process that ends at once (it cancels the reading of pipes that it has not yet
    /// opened; measured: 1 run of 60). Its exit status is right then. So a run that is not `complete` is done again, twice at
    /// most.
    #[track_caller]
    pub(crate) fn run(&self, image: &str, arguments: &[&str], complete: impl Fn(&Finished) -> bool) -> Finished {
        let first = self.run_once(image, arguments);
        (0..2).fold(first, |last, _| if complete(&last) { last } else { self.run_once(image, arguments) })
    }

    fn run_once(&self, image: &str, arguments: &[&str]) -> Finished {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        let id = format!("{}-{}", self.namespace, COUNTER.fetch_add(1, Ordering::Relaxed));
        let mut command = self.command();
        // ctr keeps runc's state in /run/containerd for all daemons by default.
        command.args(["run", "--rm", "--runc-root"]).arg(self.scratch.join("runc"));
        command.arg("--fifo-dir").arg(self.scratch.join("fifo"));
        run(command.arg(image).arg(id).args(arguments))
    }

    /// The program `ctr`.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A command whose environment says to `ctr` where the daemon is.
    pub(crate) fn environment(&self) -> Command {
        let mut command = command(&self.program);
        command.env("CONTAINERD_ADDRESS", self.scratch.join("socket")).env("CONTAINERD_NAMESPACE", &self.namespace);
        command
    }

    fn command(&self) -> Command {
        let mut command = command(&self.program);
        command.arg("--address").arg(self.scratch.join("socket")).args(["--namespace", &self.namespace]);
        command
    }
}
