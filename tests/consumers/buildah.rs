//! buildah, with storage of its own in a scratch directory. It writes uncompressed layers and empty annotations.

use super::Layout;
use crate::support::{Finished, Scratch, command, consumer_as_root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program `buildah`.
pub(crate) struct Buildah {
    program: PathBuf,
    scratch: Scratch,
}

impl Buildah {
    /// Finds the program.
    pub(crate) fn find() -> Option<Buildah> {
        let buildah = Buildah { program: consumer_as_root("buildah")?, scratch: Scratch::new() };
        buildah.scratch.write("registries.conf", "");
        Some(buildah)
    }

    /// Makes `layout` a layout with one image: the files of `directory`, and the command `cmd`.
    #[track_caller]
    pub(crate) fn image_of(&self, directory: &Path, cmd: &str, layout: &Layout) {
        let container = run(self.command().args(["from", "scratch"])).success().text().to_owned();
        run(self.command().args(["add", "--quiet", &container]).arg(directory).arg("/")).success();
        run(self.command().args(["config", "--env", "PATH=/bin:/usr/bin", "--cmd", cmd, &container])).success();
        let commit = ["commit", "--quiet", "--timestamp", "0", &container, &layout.location()];
        run(self.command().args(commit)).success();
        run(self.command().args(["rm", &container])).success();
    }

    /// Builds on the image: runs `script` in it, and commits what became of it to `result`.
    #[track_caller]
    pub(crate) fn build_on(&self, base: &Layout, script: &str, result: &Layout) -> Finished {
        let from = run(self.command().args(["from", "--quiet", &base.location()])).success();
        let container = from.text();
        let ran = run(self.command().args(["run", "--isolation", "chroot", container, "sh", "-c", script]));
        run(self.command().args(["commit", "--quiet", container, &result.location()])).success();
        ran
    }

    /// Builds a context, and saves the image as docker-archive.
    #[track_caller]
    pub(crate) fn build(&self, context: &Path, archive: &Path) {
        let built = run(self.command().args(["build", "--quiet", "--isolation", "chroot"]).arg(context)).success();
        let destination = format!("docker-archive:{}:localhost/built-by-buildah:1", archive.display());
        run(self.command().args(["push", "--quiet", built.text(), &destination])).success();
    }

    /// What is in the image, a line for each path: kind, mode, owner and where links lead.
    #[track_caller]
    pub(crate) fn files(&self, image: &Layout) -> String {
        let container = run(self.command().args(["from", "--quiet", &image.location()])).success();
        self.files_in(container.text())
    }

    /// The content of the image after `COPY source destination`, as returned by [`Buildah::files`].
    #[track_caller]
    pub(crate) fn copied(&self, base: &Layout, source: &Path, destination: &str) -> String {
        let container = run(self.command().args(["from", "--quiet", &base.location()])).success();
        let mut copy = self.command();
        // As in a build: the context's owners do not count.
        run(copy.args(["copy", "--quiet", "--chown", "0:0", container.text()]).arg(source).arg(destination)).success();
        self.files_in(container.text())
    }

    fn files_in(&self, container: &str) -> String {
        let root = run(self.command().args(["mount", container])).success();
        let find = ["-mindepth", "1", "-printf", "%P %y %m %U:%G %l\n"];
        let found = run(command("find").arg(root.text()).args(find)).success();
        run(self.command().args(["rm", container])).success();
        let mut lines: Vec<&str> = found.text().lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    fn command(&self) -> Command {
        let mut command = command(&self.program);
        command.arg("--root").arg(self.scratch.join("storage")).arg("--runroot").arg(self.scratch.join("run"));
        // Copies of directories: slower than overlay, and without its mounts.
        command.args(["--storage-driver", "vfs"]);
        command.arg("--registries-conf").arg(self.scratch.join("registries.conf"));
        command
    }
}
