//! oci-image-tool, the validator of the specification's own early days.

use super::Layout;
use crate::support::{Finished, command, consumer, run};
use std::path::PathBuf;

/// The program `oci-image-tool`.
pub(crate) struct OciImageTool {
    program: PathBuf,
}

impl OciImageTool {
    /// Finds the program.
    pub(crate) fn find() -> Option<OciImageTool> {
        Some(OciImageTool { program: consumer("oci-image-tool")? })
    }

    /// Validates the image. Its type imageLayout is not implemented, and it knows no zstd.
    #[track_caller]
    pub(crate) fn validate(&self, layout: &Layout) -> Finished {
        let reference = format!("name={}", layout.tag);
        run(command(&self.program).args(["validate", "--type", "image", "--ref", &reference]).arg(&layout.path))
    }
}
