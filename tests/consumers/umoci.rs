//! umoci makes and unpacks layouts. It checks every digest that it reads.

use super::Layout;
use crate::support::{Finished, command, consumer, run};
use std::path::{Path, PathBuf};

/// The program `umoci`.
pub(crate) struct Umoci {
    program: PathBuf,
}

/// What the config of an image made by umoci says.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// The entrypoint's words.
    pub(crate) entrypoint: &'a [&'a str],
    /// The command's words.
    pub(crate) cmd: &'a [&'a str],
}

impl Umoci {
    /// Finds the program.
    pub(crate) fn find() -> Option<Umoci> {
        Some(Umoci { program: consumer("umoci")? })
    }

    /// Makes `layout` a layout with one image, which has no layer.
    #[track_caller]
    pub(crate) fn create(&self, layout: &Layout) {
        run(command(&self.program).args(["init", "--layout"]).arg(&layout.path)).success();
        run(command(&self.program).args(["new", "--image", &layout.image()])).success();
    }

    /// Adds a tar to the image as its topmost layer.
    #[track_caller]
    pub(crate) fn add_layer(&self, layout: &Layout, tar: &Path) {
        run(command(&self.program).args(["raw", "add-layer", "--image", &layout.image()]).arg(tar)).success();
    }

    /// Changes the image's config, and removes what the layout no longer needs.
    #[track_caller]
    pub(crate) fn configure(&self, layout: &Layout, settings: &Settings<'_>) {
        let mut configure = command(&self.program);
        configure.args(["config", "--image", &layout.image(), "--config.env", "PATH=/bin:/usr/bin"]);
        for (option, words) in [("--config.entrypoint", settings.entrypoint), ("--config.cmd", settings.cmd)] {
            for word in words {
                configure.args([option, word]);
            }
        }
        run(&mut configure).success();
        run(command(&self.program).args(["gc", "--layout"]).arg(&layout.path)).success();
    }

    /// Unpacks the image to a bundle that [`super::Runc`] can run.
    #[track_caller]
    pub(crate) fn unpack(&self, layout: &Layout, bundle: &Path) -> Finished {
        run(command(&self.program).args(["unpack", "--image", &layout.image()]).arg(bundle))
    }
}
