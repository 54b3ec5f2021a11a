//! The real rcc, for comparison.
//!
//! It comes from a Python wheel. It is downloaded once into the target directory, checked, and runs only in a network namespace
//! of its own. It must not be redistributed, so it is never committed and never in a published image.

use super::programs::install_script;
use super::selection::{is_left_out, is_required, not_proven};
use ocibuild::Digest;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

/// The wheel that contains it.
const WHEEL: &str = "sema4ai-action-server==2.6.0";

/// Its path in the wheel.
const MEMBER: &str = "sema4ai/action_server/bin/rcc-19.0.2";

/// The SHA-256 of the official rcc 19.0.2 for Linux on x86-64.
const SHA256: &str = "sha256:c107b7a36c5cdea70e4efc87345d20d5bdcd83a9c10bb7ca85cdd49ccdac8d50";

/// The path of this version's micromamba, below its home.
const MICROMAMBA: &str = "micromamba/v1.5.11_/micromamba";

/// Returns the path of the real rcc, or `None`, with a message, if it is not available.
pub(crate) fn executable() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    if is_left_out() {
        return None;
    }
    FOUND
        .get_or_init(|| match obtain() {
            Ok(path) => Some(path),
            Err(reason) => {
                assert!(!is_required(), "no real rcc: {reason}");
                not_proven(&format!("{reason}, so not proven here: agreement with the real rcc"));
                None
            }
        })
        .as_deref()
}

fn obtain() -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("it exists for Linux on x86-64 only".to_owned());
    }
    let isolated =
        Command::new("unshare").args(["-n", "true"]).output().map_err(|error| format!("unshare: {error}"))?;
    if !isolated.status.success() {
        return Err("no network namespace can be made here".to_owned());
    }
    if let Some(given) = env::var_os("RCC_BIN") {
        return Ok(PathBuf::from(given));
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-rcc");
    let path = cache.join("rcc-19.0.2");
    if !path.is_file() {
        fetch(&cache, &path)?;
    }
    let digest = Digest::of(&fs::read(&path).map_err(|error| error.to_string())?).to_string();
    if digest == SHA256 { Ok(path) } else { Err(format!("{} has the digest {digest}", path.display())) }
}

fn fetch(cache: &Path, path: &Path) -> Result<(), String> {
    fs::create_dir_all(cache).map_err(|error| error.to_string())?;
    let scratch = tempfile::tempdir_in(cache).map_err(|error| error.to_string())?;
    let platform = ["--only-binary=:all:", "--python-version=311", "--platform=manylinux2014_x86_64"];
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", WHEEL];
    run(Command::new("python3").args(pip).args(platform).arg("--dest").arg(scratch.path()))?;
    let extract = "import glob, os, sys, zipfile\n\
                   directory, member, name = sys.argv[1:]\n\
                   wheel = zipfile.ZipFile(glob.glob(os.path.join(directory, '*.whl'))[0])\n\
                   with open(os.path.join(directory, name), 'wb') as out: out.write(wheel.read(member))\n\
                   os.chmod(os.path.join(directory, name), 0o755)\n";
    run(Command::new("python3").args(["-c", extract]).arg(scratch.path()).args([MEMBER, "rcc"]))?;
    fs::rename(scratch.path().join("rcc"), path).map_err(|error| error.to_string())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr.lines().last().unwrap_or("failed without a word").to_owned())
}

/// Returns the arguments with which ordinary users can create namespaces.
fn isolation() -> &'static [&'static str] {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::linux::fs::MetadataExt::st_uid(&own) == 0);
    if is_root { &[] } else { &["-r"] }
}

/// A user of the real rcc: a home directory, and nothing else of this machine's environment.
#[derive(Debug)]
pub(crate) struct RealRcc {
    executable: &'static Path,
    home: PathBuf,
    /// The directory that rcc sees as `/opt`, for the shared Holotree.
    opt: Option<PathBuf>,
}

impl RealRcc {
    /// Creates a home in `directory`, without telemetry. Returns `None` if there is no real rcc.
    pub(crate) fn new(directory: &Path) -> Option<RealRcc> {
        let executable = executable()?;
        let rcc = RealRcc { executable, home: directory.to_owned(), opt: None };
        fs::create_dir_all(rcc.product_home()).unwrap();
        let consent = "tracking:\n  consent: false\n  identity: 00000000-0000-0000-0000-000000000000\n";
        fs::write(rcc.product_home().join("rcc.yaml"), consent).unwrap();
        Some(rcc)
    }

    /// Returns the user's `HOME`.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the user's `ROBOCORP_HOME`.
    pub(crate) fn product_home(&self) -> PathBuf {
        self.home.join(".robocorp")
    }

    /// Enables the shared Holotree, below `opt` instead of this machine's `/opt`.
    pub(crate) fn share(&mut self, opt: &Path) {
        fs::create_dir_all(opt).unwrap();
        self.opt = Some(opt.to_owned());
        self.run(&["holotree", "shared", "--enable"]);
        self.run(&["holotree", "init"]);
    }

    /// Returns a command that runs rcc with `arguments` and without a network.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new("unshare");
        command.args(isolation()).arg("-n");
        match &self.opt {
            None => command.arg("--"),
            Some(opt) => {
                let bound = "mount --bind \"$0\" /opt && exec \"$@\"";
                command.args(["-m", "--", "sh", "-c", bound]).arg(opt)
            }
        };
        command.arg(self.executable).args(arguments).arg("--bundled");
        command.env_clear().env("HOME", &self.home).env("USER", "robot").env("PATH", "/usr/bin:/bin");
        command.current_dir(&self.home);
        command
    }

    /// Runs rcc with `arguments`, which must succeed.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = self.command(arguments);
        let output = command.output().unwrap();
        let text = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}: {}", text());
        output
    }

    /// Installs a fake micromamba for rcc, which fills a new environment with a copy of `tree`.
    pub(crate) fn install_micromamba(&self, tree: &Path) {
        let script = STAND_IN.replace("@TREE@", tree.to_str().unwrap());
        install_script(&self.product_home().join(MICROMAMBA), &script);
    }
}

/// Handles the calls of rcc when it builds an environment: version, create, list and activation.
const STAND_IN: &str = r#"#!/bin/sh
prefix=
command=
previous=
for argument in "$@"; do
  case "$argument" in
  --version) echo 2.9.9; exit 0 ;;
  create|list|shell) [ -n "$command" ] || command=$argument ;;
  esac
  case "$previous" in
  -p|--prefix) prefix=$argument ;;
  esac
  previous=$argument
done
case "$command" in
create) mkdir -p "$prefix" && cp -a "@TREE@/." "$prefix/" ;;
list) echo '[]' ;;
shell)
  echo "export OCIBUILD_ACTIVATED=yes"
  # A python of this machine brings libraries that lie elsewhere here.
  [ ! -d "$prefix/lib/machine" ] || echo "export LD_LIBRARY_PATH=$prefix/lib/machine" ;;
esac
"#;
