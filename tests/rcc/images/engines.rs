//! Engines that run containers. Their command lines are the same as far as we use them.

use crate::consumers::{Docker, Podman};
use crate::support::{Finished, run};
use std::path::Path;
use std::process::Command;

/// podman or docker.
pub(super) enum Engine {
    Podman(Podman),
    Docker(&'static Docker),
}

impl Engine {
    /// Those on this machine.
    pub(super) fn all() -> Vec<Engine> {
        Podman::find().map(Engine::Podman).into_iter().chain(Docker::find().map(Engine::Docker)).collect()
    }

    /// Loads an archive and names the image that was in it.
    #[track_caller]
    pub(super) fn load(&self, archive: &Path) -> String {
        match self {
            Engine::Podman(podman) => podman.load(archive),
            Engine::Docker(docker) => docker.load(archive),
        }
    }

    /// Runs a container once, without a network.
    #[track_caller]
    pub(super) fn run(&self, options: &[&str], image: &str, arguments: &[&str]) -> Finished {
        run(&mut self.container(&["run", "--rm"], options, image, arguments))
    }

    /// Starts one container twice, without a network.
    #[track_caller]
    pub(super) fn run_twice(&self, options: &[&str], image: &str) -> [Finished; 2] {
        let created = run(&mut self.container(&["create"], options, image, &[])).success();
        let start = || run(self.program().args(["start", "--attach", created.text()]));
        let finished = [start(), start()];
        run(self.program().args(["rm", created.text()])).success();
        finished
    }

    /// Options that make nothing writable. podman would put something writable over the image's /tmp and /var/tmp.
    pub(super) fn read_only(&self) -> &'static [&'static str] {
        match self {
            Engine::Podman(_) => &["--read-only", "--read-only-tmpfs=false"],
            Engine::Docker(_) => &["--read-only"],
        }
    }

    fn container(&self, words: &[&str], options: &[&str], image: &str, arguments: &[&str]) -> Command {
        let mut command = self.program();
        command.args(words).args(["--pull=never", "--network=none"]).args(options).arg(image).args(arguments);
        command
    }

    fn program(&self) -> Command {
        match self {
            Engine::Podman(podman) => podman.command(),
            Engine::Docker(docker) => docker.command(),
        }
    }
}
