//! Debian, as a directory.

use super::{Finished, command, consumer_as_root, run_within};
use std::path::Path;
use std::time::Duration;

/// Unpacks the release called `codename` into `root`, with `packages`, from the mirror of this machine, where it is a
/// Debian; else from debootstrap's own.
pub(crate) fn debootstrap(codename: &str, packages: &[&str], root: &Path) -> Option<Finished> {
    let mut bootstrap = command(consumer_as_root("debootstrap")?);
    for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
        bootstrap.envs(std::env::var_os(proxy).map(|value| (proxy, value)));
    }
    bootstrap.args(["--variant=minbase", &format!("--include={}", packages.join(",")), codename]).arg(root);
    // A release is made as `sid` is, whether this debootstrap has heard of it or not.
    bootstrap.args(mirror().map(|mirror| [mirror, "sid".to_owned()]).into_iter().flatten());
    Some(run_within(Duration::from_secs(600), &mut bootstrap))
}

fn mirror() -> Option<String> {
    let apt = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"];
    let listed = command("apt-get").args(apt).output().ok()?;
    let listed = String::from_utf8(listed.stdout).ok()?;
    // Security updates have a repository of their own, which is no whole release.
    listed.lines().find(|mirror| !mirror.contains("security")).map(str::to_owned)
}
