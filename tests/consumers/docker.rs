//! docker, with a daemon that is started once a session.

use super::daemon::Daemon;
use crate::support::{Finished, command, consumer, consumer_as_root, run, session};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The program `docker` and a daemon for it.
pub(crate) struct Docker {
    program: PathBuf,
    socket: PathBuf,
    /// Held while a name must lead to the image that was just loaded.
    naming: Mutex<()>,
    _daemon: Daemon,
}

impl Docker {
    /// Finds the programs, and starts the daemon if this is the first test that wants it.
    pub(crate) fn find() -> Option<&'static Docker> {
        let (daemon, program) = (consumer_as_root("dockerd")?, consumer("docker")?);
        // Never dropped: the session's sweeper ends the daemon. Starting it for each test would cost seconds.
        static DOCKER: OnceLock<Docker> = OnceLock::new();
        Some(DOCKER.get_or_init(|| Docker::start(&daemon, program)))
    }

    fn start(daemon: &Path, program: PathBuf) -> Docker {
        let directory = session().directory().join("docker");
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("socket");
        std::fs::write(directory.join("daemon.json"), "{}").unwrap();
        let mut start = command(daemon);
        start.arg("--config-file").arg(directory.join("daemon.json"));
        start.arg("--host").arg(format!("unix://{}", socket.display()));
        start.arg("--data-root").arg(directory.join("data"));
        start.arg("--exec-root").arg(directory.join("exec"));
        start.arg("--pidfile").arg(directory.join("pid"));
        start.args(["--storage-driver", "overlay2", "--group", "root"]);
        // The machine's network is not ours to change.
        start.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
        let mut daemon = Daemon::start(&mut start, directory.join("log"));
        daemon.wait_for(|_| UnixStream::connect(&socket).ok());
        Docker { program, socket, naming: Mutex::new(()), _daemon: daemon }
    }

    /// The daemon's address. skopeo has to be told it by `--dest-daemon-host`, since it ignores `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Loads an archive, and answers the ID of the image that was in it.
    #[track_caller]
    pub(crate) fn load(&self, archive: &Path) -> String {
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = run(self.command().args(["load", "--quiet", "--input"]).arg(archive)).success();
        let name = loaded.text().split_once(": ").unwrap_or_else(|| panic!("no image name in the output of {loaded}"));
        self.image_id(name.1)
    }

    /// Pulls an image, and answers its ID.
    #[track_caller]
    pub(crate) fn pull(&self, reference: &str) -> String {
        run(self.command().args(["pull", "--quiet", reference])).success();
        self.image_id(reference)
    }

    /// Gives an image a further name.
    #[track_caller]
    pub(crate) fn tag(&self, image: &str, name: &str) {
        run(self.command().args(["tag", image, name])).success();
    }

    /// Saves an image as docker-archive.
    #[track_caller]
    pub(crate) fn save(&self, image: &str, archive: &Path) {
        run(self.command().args(["save", "--output"]).arg(archive).arg(image)).success();
    }

    /// Builds a context on the base called `base`, and saves the image as docker-archive. The old builder does it: the new
    /// one is a program that not every machine has.
    #[track_caller]
    pub(crate) fn build(&self, context: &Path, base: &str, archive: &Path) {
        let argument = format!("BASE={base}");
        let mut build = self.command();
        build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--network=none", "--build-arg", &argument]);
        let id = run(build.arg(context)).success().text().to_owned();
        let name = format!("ocibuild-built:{}", &id[id.len() - 12..]);
        self.tag(&id, &name);
        self.save(&name, archive);
    }

    /// The image's ID, with its algorithm.
    #[track_caller]
    pub(crate) fn image_id(&self, image: &str) -> String {
        let inspected = run(self.command().args(["image", "inspect", "--format", "{{.Id}}", image])).success();
        inspected.text().to_owned()
    }

    /// Runs the image without a network, with `arguments` for its command where there are any.
    #[track_caller]
    pub(crate) fn run(&self, image: &str, arguments: &[&str]) -> Finished {
        run(self.command().args(["run", "--rm", "--pull=never", "--network=none"]).arg(image).args(arguments))
    }

    /// The program, told where its daemon is.
    pub(crate) fn command(&self) -> Command {
        let mut command = command(&self.program);
        command.env("DOCKER_HOST", self.host());
        command
    }
}
