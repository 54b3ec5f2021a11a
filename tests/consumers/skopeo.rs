//! skopeo copies images between every kind of place, and checks digests on the way.

use super::Layout;
use crate::support::{Finished, command, consumer, run};
use std::path::PathBuf;
use std::process::Command;

/// The program `skopeo`.
pub(crate) struct Skopeo {
    program: PathBuf,
}

impl Skopeo {
    /// Finds the program.
    pub(crate) fn find() -> Option<Skopeo> {
        Some(Skopeo { program: consumer("skopeo")? })
    }

    /// Copies an image. `options` precede the two locations.
    #[track_caller]
    pub(crate) fn copy(&self, options: &[&str], from: &str, to: &str) -> Finished {
        run(self.command().args(["copy", "--quiet"]).args(options).args([from, to]))
    }

    /// Copies the image for a processor, without TLS.
    #[track_caller]
    pub(crate) fn copy_for(&self, architecture: &str, from: &str, to: &str) -> Finished {
        let mut command = self.command();
        command.args(["--override-arch", architecture, "copy", "--quiet", "--src-tls-verify=false", from, to]);
        run(&mut command)
    }

    /// The bytes of the manifest at `location`.
    #[track_caller]
    pub(crate) fn raw_manifest(&self, options: &[&str], location: &str) -> Vec<u8> {
        run(self.command().args(["inspect", "--raw"]).args(options).arg(location)).success().stdout
    }

    /// Makes `to` a layout with the image of `from`, its layers compressed with zstd.
    #[track_caller]
    pub(crate) fn to_zstd(&self, from: &Layout, to: &Layout) {
        let options = ["--dest-compress", "--dest-compress-format", "zstd"];
        self.copy(&options, &from.location(), &to.location()).success();
    }

    fn command(&self) -> Command {
        let mut command = command(&self.program);
        // /etc/containers/policy.json comes with a recommended package only.
        command.arg("--insecure-policy");
        command
    }
}
