//! docker, with a daemon that is started once a session; and the docker of Debian's next release, which keeps images in
//! containerd's store and so calls them by the digests of their manifests.

use super::Layout;
use super::daemon::Daemon;
use crate::support::debian::debootstrap;
use crate::support::kept::kept;
use crate::support::{Finished, command, consumer, consumer_as_root, not_proven, run, session};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The program `docker` and a daemon for it.
pub(crate) struct Docker {
    program: PathBuf,
    socket: PathBuf,
    store: ImageStore,
    /// The tree that the daemon comes from, where that is not this machine.
    tree: Option<PathBuf>,
    /// Held while a name must lead to the image that was just loaded.
    naming: Mutex<()>,
    _daemon: Daemon,
}

/// Where a daemon keeps its images, by the name that docker has for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ImageStore {
    Overlay2,
    Containerd,
}

/// Runs `$3...` in the tree `$1`, where it sees the directory `$2` and this machine's devices. The mounts are its own.
const IN_TREE: &str = r#"
    set -e
    tree=$1 shared=$2; shift 2
    mount --bind "$tree" "$tree"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mkdir -p "$tree$shared"
    mount --bind "$shared" "$tree$shared"
    exec chroot "$tree" "$@""#;

/// A command in the tree, which sees what tests make.
fn in_tree(unshare: &Path, tree: &Path) -> Command {
    let mut command = command(unshare);
    command.args(["--mount", "sh", "-c", IN_TREE, "sh"]).arg(tree).arg(session().directory());
    command
}

impl Docker {
    /// The docker of this machine, and the current one, if available.
    pub(crate) fn all() -> impl Iterator<Item = &'static Docker> {
        Docker::find().into_iter().chain(Docker::find_current())
    }

    /// Finds the programs, and starts the daemon if this is the first test that wants it.
    pub(crate) fn find() -> Option<&'static Docker> {
        let (daemon, program) = (consumer_as_root("dockerd")?, consumer("docker")?);
        // Never dropped: the session's sweeper ends the daemon. Starting it for each test would cost seconds.
        static DOCKER: OnceLock<Docker> = OnceLock::new();
        let directory = session().directory().join("docker");
        let start = || Docker::start(command(&daemon), program, directory, ImageStore::Overlay2);
        Some(DOCKER.get_or_init(start))
    }

    /// Starts the daemon of Debian's next release, out of a directory that holds it. That release is still in the making, so
    /// not having it is no failure.
    fn find_current() -> Option<&'static Docker> {
        let (unshare, program) = (consumer_as_root("unshare")?, consumer("docker")?);
        static DOCKER: OnceLock<Option<Docker>> = OnceLock::new();
        let start = || {
            let Some(tree) = Docker::next_release() else {
                not_proven(
                    "Debian's next release cannot be had, so not proven here: that a current docker runs our images",
                );
                return None;
            };
            let mut daemon = in_tree(&unshare, &tree);
            daemon.arg("dockerd");
            let directory = session().directory().join("docker-next");
            let docker = Docker::start(daemon, program, directory, ImageStore::Containerd);
            Some(Docker { tree: Some(tree), ..docker })
        };
        DOCKER.get_or_init(start).as_ref()
    }

    /// A tree with `dockerd` and BuildKit in it: 600 MB, made in 40 seconds.
    fn next_release() -> Option<PathBuf> {
        kept("docker-of-forky-2", |scratch| {
            let root = scratch.join("root");
            let packages = ["docker.io", "docker-cli", "docker-buildx", "containerd", "runc", "iptables"];
            let made = debootstrap("forky", &packages, &root)?;
            (made.status == 0).then_some(root)
        })
    }

    fn start(mut start: Command, program: PathBuf, directory: PathBuf, store: ImageStore) -> Docker {
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("socket");
        let (settings, driver) = match store {
            ImageStore::Overlay2 => ("{}", "overlay2"),
            ImageStore::Containerd => (r#"{"features":{"containerd-snapshotter":true}}"#, "overlayfs"),
        };
        std::fs::write(directory.join("daemon.json"), settings).unwrap();
        start.arg("--config-file").arg(directory.join("daemon.json"));
        start.arg("--host").arg(format!("unix://{}", socket.display()));
        start.arg("--data-root").arg(directory.join("data"));
        start.arg("--exec-root").arg(directory.join("exec"));
        start.arg("--pidfile").arg(directory.join("pid"));
        start.args(["--storage-driver", driver, "--group", "root"]);
        // The machine's network is not ours to change.
        start.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
        let mut daemon = Daemon::start(&mut start, directory.join("log"));
        daemon.wait_for(|_| UnixStream::connect(&socket).ok());
        Docker { program, socket, store, tree: None, naming: Mutex::new(()), _daemon: daemon }
    }

    /// The daemon's address. skopeo needs it in `--dest-daemon-host`, since it ignores `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The ID that this docker gives the image.
    pub(crate) fn id_of(&self, image: &Layout) -> String {
        match self.store {
            ImageStore::Overlay2 => image.config_digest(),
            ImageStore::Containerd => image.manifest_digest(),
        }
    }

    /// The ID that it gives the image when it loads `archive`: the digest of the config, or of the manifest that the archive
    /// has for it. Of one without manifests, containerd's store makes its own.
    pub(crate) fn id_in(&self, archive: &Path, image: &Layout) -> Option<String> {
        if self.store == ImageStore::Overlay2 {
            return Some(self.id_of(image));
        }
        let index = run(command("tar").args(["--extract", "--to-stdout", "index.json", "--file"]).arg(archive));
        let index: serde_json::Value = (index.status == 0).then(|| serde_json::from_slice(&index.stdout).unwrap())?;
        Some(index["manifests"][0]["digest"].as_str().unwrap().to_owned())
    }

    /// Whether the skopeo of this machine can talk to it, which takes a docker of its own time.
    pub(crate) fn hears_skopeo(&self) -> bool {
        self.store == ImageStore::Overlay2
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

    /// Builds a context on the base called `base`, and saves the image as docker-archive. The docker of this machine does
    /// it with its old builder, the current one with BuildKit.
    #[track_caller]
    pub(crate) fn build(&self, context: &Path, base: &str, archive: &Path) {
        let argument = format!("BASE={base}");
        let mut build = match &self.tree {
            None => self.command(),
            Some(tree) => {
                let mut client = in_tree(&consumer("unshare").unwrap(), tree);
                client.arg("docker").env("DOCKER_HOST", self.host());
                client
            }
        };
        build.env("DOCKER_BUILDKIT", if self.tree.is_some() { "1" } else { "0" });
        build.args(["build", "--quiet", "--network=none", "--build-arg", &argument]);
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

    /// A shell script that is this docker, for a search path. `prepare` runs first and may change the arguments, after which they
    /// are the command of docker in `$sub` and what follows it.
    pub(crate) fn script(&self, prepare: &str) -> String {
        let (host, program) = (self.host(), self.program.display());
        format!("#!/bin/sh\nexport DOCKER_HOST='{host}'\nsub=$1; shift\n{prepare}\nexec {program} \"$sub\" \"$@\"\n")
    }

    /// The program with the address of its daemon.
    pub(crate) fn command(&self) -> Command {
        let mut command = command(&self.program);
        command.env("DOCKER_HOST", self.host());
        command
    }
}
