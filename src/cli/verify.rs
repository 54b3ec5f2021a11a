//! `ocibuild verify`.

use super::output::print;
use super::{Common, Format};
use clap::Args;
use ocibuild::Result;
use ocibuild::bounded::counted;
use ocibuild::verify::verify;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(
    after_help = "Every blob is read, and every fault is a line of its own. The exit status is 1 if there is any."
)]
pub(super) struct VerifyArguments {
    /// The layout
    layout: PathBuf,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Prints every fault, or how much was found to be whole.
pub(super) fn run(arguments: &VerifyArguments) -> Result<ExitCode> {
    let watch = super::watch::Watch::new(&arguments.common);
    let report = verify(&arguments.layout, &watch)?;
    match arguments.common.format {
        Format::Json => {
            let faults: Vec<_> =
                report.faults.iter().map(|fault| json!({"object": fault.object, "reason": fault.reason})).collect();
            print(
                &json!({"images": report.images, "blobs": report.blobs, "bytes": report.bytes, "faults": faults})
                    .to_string(),
            )?;
        }
        Format::Text => {
            for fault in &report.faults {
                print(&fault.to_string())?;
            }
            if report.faults.is_empty() && !arguments.common.quiet {
                let bytes = ocibuild::bounded::size(report.bytes);
                let (images, blobs) = (counted(report.images, "image"), counted(report.blobs, "blob"));
                print(&format!("{images}, {blobs}, {bytes}: whole"))?;
            }
        }
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
