//! podman, with storage of its own in a scratch directory.

use crate::support::{Finished, Scratch, command, consumer_as_root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program `podman`.
pub(crate) struct Podman {
    program: PathBuf,
    scratch: Scratch,
}

impl Podman {
    /// Finds the program and writes its configuration.
    pub(crate) fn find() -> Option<Podman> {
        consumer_as_root("runc")?;
        let podman = Podman { program: consumer_as_root("podman")?, scratch: Scratch::new() };
        let directory = podman.scratch.path().display();
        // Without these, podman writes to /run/libpod, /dev/shm and /etc/cni. `static_dir` must not be among them: podman run
        // then hangs for 20 seconds at the end. runc, since crun refuses hybrid cgroups. The limits, since podman's own
        // cannot be set without CAP_SYS_RESOURCE.
        podman.scratch.write(
            "containers.conf",
            format!(
                "[containers]\n\
                 default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                 [engine]\n\
                 runtime = \"runc\"\n\
                 cgroup_manager = \"cgroupfs\"\n\
                 events_logger = \"file\"\n\
                 lock_type = \"file\"\n\
                 tmp_dir = \"{directory}/tmp\"\n\
                 volume_path = \"{directory}/volumes\"\n\
                 [network]\n\
                 network_config_dir = \"{directory}/networks\"\n"
            ),
        );
        podman.scratch.write(
            "storage.conf",
            format!(
                "[storage]\n\
                 driver = \"overlay\"\n\
                 graphroot = \"{directory}/storage\"\n\
                 runroot = \"{directory}/run\"\n"
            ),
        );
        podman.scratch.write("registries.conf", "");
        podman.scratch.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        Some(podman)
    }

    /// Loads an archive and names the image that was in it.
    #[track_caller]
    pub(crate) fn load(&self, archive: &Path) -> String {
        let loaded = run(self.command().args(["load", "--quiet", "--input"]).arg(archive)).success();
        let name = loaded.text().rsplit_once(": ").unwrap_or_else(|| panic!("no image name in the output of {loaded}"));
        name.1.to_owned()
    }

    /// Pulls an image, without TLS.
    #[track_caller]
    pub(crate) fn pull(&self, reference: &str) -> Finished {
        run(self.command().args(["pull", "--quiet", "--tls-verify=false", reference]))
    }

    /// Saves an image as docker-archive.
    #[track_caller]
    pub(crate) fn save(&self, image: &str, archive: &Path) {
        run(self.command().args(["save", "--quiet", "--format", "docker-archive", "--output"]).arg(archive).arg(image))
            .success();
    }

    /// The image's ID, with its algorithm.
    #[track_caller]
    pub(crate) fn image_id(&self, image: &str) -> String {
        let inspected = run(self.command().args(["image", "inspect", "--format", "{{.Id}}", image])).success();
        format!("sha256:{}", inspected.text())
    }

    /// Runs the image without a network, with `arguments` for its command where there are any.
    #[track_caller]
    pub(crate) fn run(&self, image: &str, arguments: &[&str]) -> Finished {
        // A wrong name must fail now, not after a search of the network.
        let options = ["run", "--rm", "--pull=never", "--network=none"];
        run(self.command().args(options).arg(image).args(arguments))
    }

    /// The program with the path of its configuration.
    pub(crate) fn command(&self) -> Command {
        let mut command = command(&self.program);
        command.env("CONTAINERS_CONF", self.scratch.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.scratch.join("storage.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.scratch.join("registries.conf"));
        command.env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
        command
    }

    /// A shell script that is this podman, for a search path. `prepare` runs first and may change the arguments, after which
    /// they are the command of podman in `$sub` and what follows it.
    pub(crate) fn script(&self, prepare: &str) -> String {
        let command = self.command();
        let mut script = "#!/bin/sh\n".to_owned();
        for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))) {
            if name != "PATH" {
                script += &format!("export {name}='{value}'\n");
            }
        }
        let program = command.get_program().to_str().unwrap();
        script + &format!("sub=$1; shift\n{prepare}\nexec {program} \"$sub\" \"$@\"\n")
    }
}
