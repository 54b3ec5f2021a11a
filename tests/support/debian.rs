//! Debian systems as directories.

use super::{Finished, Scratch, command, consumer_as_root, run_within};
use std::path::Path;
use std::time::Duration;

/// Installs the release `codename` into `root`, with `packages`. Uses the mirror of this machine if it is a Debian, else the
/// default of debootstrap.
pub(crate) fn debootstrap(codename: &str, packages: &[&str], root: &Path) -> Option<Finished> {
    let mut bootstrap = command(consumer_as_root("debootstrap")?);
    for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
        bootstrap.envs(std::env::var_os(proxy).map(|value| (proxy, value)));
    }
    bootstrap.args(["--variant=minbase", &format!("--include={}", packages.join(",")), codename]).arg(root);
    // Every release is installed with the script of `sid`, so that debootstrap need not know the release.
    bootstrap.args(mirror().map(|mirror| [mirror, "sid".to_owned()]).into_iter().flatten());
    Some(run_within(Duration::from_secs(600), &mut bootstrap))
}

/// Downloads the package lists of release `$3` to `$1` from the mirror `$2`, and unpacks the package `$4` into `$5`.
const UNPACK: &str = r#"
    set -e
    mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"
    cd "$1"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $2 $3 main" >sources
    : >status
    for setting in "State $1/state" "State::status $1/status" "Cache $1/cache" "Etc::SourceList $1/sources" \
      "Etc::SourceParts /dev/null" "Etc::Parts /dev/null"; do
      echo "Dir::${setting% *} \"${setting#* }\";"
    done >conf
    # A release in the making may be older than it says, and another user may not read this directory.
    echo 'Acquire::Check-Valid-Until "false"; Acquire::Languages "none"; APT::Sandbox::User "root";' >>conf
    export APT_CONFIG=$1/conf
    apt-get update -qq
    apt-get download -qq "$4"
    dpkg-deb --extract "$4"_*.deb "$5""#;

/// Unpacks one package of the release `codename` into `root`, without its dependencies.
pub(crate) fn unpack(codename: &str, package: &str, root: &Path) -> Option<Finished> {
    let scratch = Scratch::new();
    let mut unpack = command("sh");
    for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
        unpack.envs(std::env::var_os(proxy).map(|value| (proxy, value)));
    }
    unpack.args(["-c", UNPACK, "sh"]).arg(scratch.path()).args([&mirror()?, codename, package]).arg(root);
    Some(run_within(Duration::from_secs(120), &mut unpack))
}

fn mirror() -> Option<String> {
    let apt = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"];
    let listed = command("apt-get").args(apt).output().ok()?;
    let listed = String::from_utf8(listed.stdout).ok()?;
    // Security updates have a repository of their own, which is not a complete release.
    listed.lines().find(|mirror| !mirror.contains("security")).map(str::to_owned)
}
