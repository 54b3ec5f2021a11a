//! A developer's machine: the real rcc, an environment that it recorded with a real Python in it, a robot, and a base image.

use crate::bases::{busybox_root, pack};
use crate::consumers::{Layout, Settings, Umoci};
use crate::support::packages::install_packages;
use crate::support::real_rcc::{RealRcc, executable};
use crate::support::{Finished, Scratch, command, consumer_as_root, python_with, run, run_within};
use flate2::write::GzEncoder;
use ocibuild::rcc::{SpaceOwner, stage_directory};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Recording takes rcc a while where many tests run at once.
const PATIENCE: Duration = Duration::from_secs(300);

/// How the machine's Holotree is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    /// Below the user's home.
    Private,
    /// In `/opt`, for all users.
    Shared,
    /// Below the user's home, and nothing is compressed.
    Uncompressed,
    /// Below the user's home, with packages in the environment.
    Packages,
}

/// A machine on which a robot runs.
pub(super) struct Workshop {
    scratch: Scratch,
    rcc: RealRcc,
    setup: Setup,
    /// The directory of environments when they are recorded.
    prefix: PathBuf,
    /// A base image with the C library of this machine and little else.
    pub(super) base: Layout,
    /// What the robot says here, ending well and with a status of its own.
    pub(super) on_this_machine: [Outcome; 2],
}

/// What a robot said, and how its run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) said: Vec<String>,
    pub(super) status: i32,
}

impl Outcome {
    /// Takes out what the robot said itself; rcc writes between its lines.
    pub(super) fn of(finished: &Finished) -> Outcome {
        let text = String::from_utf8_lossy(&finished.stdout);
        let said = text.lines().filter(|line| line.starts_with("robot:")).map(str::to_owned).collect();
        Outcome { said, status: finished.status }
    }
}

/// An image in a layout, and the archive of it.
pub(super) struct Built {
    pub(super) layout: Layout,
    pub(super) archive: PathBuf,
}

/// A password that the environment was recorded with.
pub(super) const SECRET: &str = "hunter2-of-the-index";

impl Workshop {
    /// One for all tests that only read it; `None` if a program for it is missing.
    pub(super) fn shared_by_tests() -> Option<&'static Workshop> {
        static WORKSHOP: OnceLock<Option<Workshop>> = OnceLock::new();
        WORKSHOP.get_or_init(|| Workshop::new(Setup::Private)).as_ref()
    }

    /// One with packages in its environment, for the tests that are about those.
    pub(super) fn with_packages() -> Option<&'static Workshop> {
        static WORKSHOP: OnceLock<Option<Workshop>> = OnceLock::new();
        WORKSHOP.get_or_init(|| Workshop::new(Setup::Packages)).as_ref()
    }

    /// Sets up a machine and lets rcc record the environment there, and run the robot.
    pub(super) fn new(setup: Setup) -> Option<Workshop> {
        let scratch = Scratch::new();
        let mut rcc = RealRcc::new(&scratch.join("home"))?;
        consumer_as_root("unshare")?;
        if setup == Setup::Shared {
            rcc.share(&scratch.join("opt"));
        }
        if setup == Setup::Uncompressed {
            scratch.write("home/.robocorp/hololib/catalog/compress.no", "");
        }
        fs::create_dir_all(scratch.join("bin")).unwrap();
        symlink(executable()?, scratch.join("bin/rcc")).unwrap();
        let stage = stage_directory(&SpaceOwner::Home(rcc.home().to_str().unwrap().to_owned()), "linux", "amd64");
        let holotree = match setup {
            Setup::Shared => PathBuf::from("/opt/robocorp/ht"),
            Setup::Private | Setup::Uncompressed | Setup::Packages => rcc.product_home().join("holotree"),
        };
        let prefix = holotree.join(stage);
        let base = fill(&scratch, &prefix)?;
        if setup == Setup::Packages {
            install_packages(&scratch.join("tree"), prefix.to_str().unwrap(), &[]);
        }
        rcc.install_micromamba(&scratch.join("tree"));
        let nothing = Outcome { said: Vec::new(), status: 0 };
        let mut workshop = Workshop { scratch, rcc, setup, prefix, base, on_this_machine: [nothing.clone(), nothing] };
        workshop.copy_robot(&workshop.scratch.join("robot"));
        workshop.on_this_machine = ["0", "5"].map(|status| workshop.run_here(status));
        let [good, failed] = &workshop.on_this_machine;
        assert!(good.status == 0 && good.said.len() > 10, "{good:?}");
        // rcc's own status for a robot that failed, whatever the robot's is.
        assert_eq!(failed.status, 10);
        assert_eq!(failed.said, good.said);
        Some(workshop)
    }

    /// Writes the robot into `directory`.
    pub(super) fn copy_robot(&self, directory: &Path) {
        fs::create_dir_all(directory.parent().unwrap()).unwrap();
        let robot = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/robot");
        run(command("cp").arg("-r").arg(robot).arg(directory)).success();
    }

    /// Lets rcc record another environment, with these packages in their second version, for a robot in `directory`.
    pub(super) fn record_with_newer(&self, packages: &[&str], directory: &Path) {
        install_packages(&self.scratch.join("tree"), self.prefix.to_str().unwrap(), packages);
        self.copy_robot(directory);
        fs::write(directory.join("conda.yaml"), "channels:\n  - conda-forge\ndependencies:\n  - python=3.11.8\n")
            .unwrap();
        let robot = directory.join("robot.yaml");
        self.rcc.run(&["holotree", "variables", "--robot", robot.to_str().unwrap()]);
    }

    /// Lets rcc record the environment `conda`, for a robot in `directory`.
    pub(super) fn record_with(&self, conda: &str, directory: &Path) {
        self.copy_robot(directory);
        fs::write(directory.join("conda.yaml"), conda).unwrap();
        let robot = directory.join("robot.yaml");
        self.rcc.run(&["holotree", "variables", "--robot", robot.to_str().unwrap()]);
    }

    /// rcc's own command, for the user of this machine.
    pub(super) fn rcc(&self) -> &RealRcc {
        &self.rcc
    }

    /// `ocibuild layout ./out` in `robot` on this machine, which has no network.
    pub(super) fn ocibuild(&self, words: &[&str], robot: &Path) -> Command {
        let mut unshare = command("unshare");
        unshare.args(["-n", "-m", "--", "sh", "-c"]);
        match self.setup {
            Setup::Shared => unshare.arg("mount --bind \"$0\" /opt && exec \"$@\"").arg(self.scratch.join("opt")),
            Setup::Private | Setup::Uncompressed | Setup::Packages => unshare.arg("exec \"$@\"").arg("sh"),
        };
        unshare.arg(env!("CARGO_BIN_EXE_ocibuild")).args(words).current_dir(robot);
        unshare.env("HOME", self.rcc.home());
        // Each its own: what a test builds, no other test has built before.
        unshare.env("XDG_CACHE_HOME", robot.with_extension("cache"));
        let path = unshare.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
        let path = format!("{}:{}", self.scratch.join("bin").display(), path.unwrap().to_str().unwrap());
        unshare.env("PATH", path);
        unshare
    }

    /// Builds the robot in `directory`, which is made for it, and saves an archive.
    #[track_caller]
    pub(super) fn build(&self, directory: &Path, arguments: &[&str]) -> Built {
        if !directory.exists() {
            self.copy_robot(directory);
        }
        let (base, archive) = (self.base.location(), directory.with_extension("tar"));
        let save = archive.to_str().unwrap();
        let words = [&["layout", "./out", "--base", &base, "--save", save, "--quiet"], arguments].concat();
        let built = run_within(PATIENCE, &mut self.ocibuild(&words, directory)).success();
        let layout = Layout::new(directory.join("out"), "latest");
        assert_eq!(built.text(), layout.manifest_digest());
        run(command(env!("CARGO_BIN_EXE_ocibuild")).arg("verify").arg(&layout.path)).success();
        Built { layout, archive }
    }

    fn run_here(&self, status: &str) -> Outcome {
        let robot = self.scratch.join("robot/robot.yaml");
        let mut rcc = self.rcc.command(&["run", "-r", robot.to_str().unwrap()]);
        Outcome::of(&run_within(PATIENCE, rcc.env("ROBOT_STATUS", status)))
    }
}

/// Writes an environment made for `prefix` into `tree`, and makes an image of the C library that its Python needs.
fn fill(scratch: &Scratch, prefix: &Path) -> Option<Layout> {
    let (python, umoci) = (python_with("sysconfig")?, Umoci::find()?);
    let (tree, root) = (scratch.join("tree"), scratch.join("root"));
    busybox_root(&root)?;
    let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rcc/images/python.py");
    run(command(python).arg(copy).arg(&tree).arg(&root)).success();
    let tool = format!("#!{}/bin/python\nprint('a tool of this environment')\n", prefix.display());
    scratch.write("tree/bin/tool", tool);
    fs::set_permissions(tree.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("python", tree.join("bin/python3")).unwrap();
    symlink("lib", tree.join("lib64")).unwrap();
    // What can share an inode, what cannot for its mode, and what rcc would unwrap.
    scratch.write("tree/share/once", "the same content");
    scratch.write("tree/share/twice", "the same content");
    scratch.write("tree/share/closed", "the same content");
    fs::set_permissions(tree.join("share/closed"), fs::Permissions::from_mode(0o600)).unwrap();
    scratch.write("tree/pip.conf", format!("[global]\nindex-url = https://robot:{SECRET}@index.example/simple\n"));
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(b"packed before it was recorded").unwrap();
    scratch.write("tree/share/packed.gz", packed.finish().unwrap());

    let (tar, base) = (scratch.join("root.tar"), Layout::new(scratch.join("base"), "base"));
    pack(&root, &tar, &[]);
    umoci.create(&base);
    umoci.add_layer(&base, &tar);
    umoci.configure(&base, &Settings { entrypoint: &[], cmd: &["/bin/sh"] });
    Some(base)
}
