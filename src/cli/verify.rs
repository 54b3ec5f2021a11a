//! `ocibuild verify`.

use super::cache_directory::CacheDirectory;
use super::output::print;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::store::verify::{LeftOutLayer, Report, verify, verify_image};
use ocibuild::store::{Layout, VerifiedFiles};
use ocibuild::{Location, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(
    after_help = "Reads every blob and prints one line per error. Exits with status 1 if there is an error; the next \
                  build replaces damaged blobs. Layers that `layout --sparse` did not download are not an error."
)]
pub(super) struct VerifyArguments {
    /// Layout, or one of its images: PATH[:NAME][@DIGEST]
    #[arg(value_name = "LAYOUT[:NAME]")]
    layout: OsString,
    #[command(flatten)]
    cache: CacheDirectory,
    #[command(flatten)]
    pub(super) common: Common,
}

fn described(LeftOutLayer { digest, size, repository }: &LeftOutLayer) -> Value {
    json!({"digest": digest.to_string(), "size": size, "repository": repository.to_string()})
}

/// Prints every fault, or how much was found to be whole.
pub(super) fn run(arguments: &VerifyArguments) -> Result<ExitCode> {
    let watch = super::progress_display::Watch::new(&arguments.common);
    let (directory, name) = Location::of_layout(&arguments.layout)?;
    let report = match &name {
        Some(name) => verify_image(&directory, name, &watch)?,
        None => verify(&directory, &watch)?,
    };
    // No build believes a cache that cannot be opened.
    let memory = arguments.cache.existing().ok().flatten().and_then(|cache| VerifiedFiles::existing(&cache));
    if let Some(memory) = memory.filter(|_| !report.damaged.is_empty()) {
        Layout::open(&directory)?.with_verification_cache(memory).forget(&report.damaged);
    }
    match arguments.common.format {
        OutputFormat::Json => {
            let faults: Vec<_> =
                report.faults.iter().map(|fault| json!({"object": fault.object, "reason": fault.reason})).collect();
            let left_out: Vec<_> = report.left_out.iter().map(described).collect();
            let not_read: Vec<_> = report
                .not_read
                .iter()
                .map(|layer| json!({"digest": layer.digest.to_string(), "mediaType": layer.media_type}))
                .collect();
            let Report { images, artifacts, blobs, bytes, .. } = report;
            let result = json!({
                "images": images,
                "artifacts": artifacts,
                "blobs": blobs,
                "bytes": bytes,
                "leftOut": left_out,
                "notRead": not_read,
                "faults": faults,
            });
            print(&result.to_string())?;
        }
        OutputFormat::Text => {
            for fault in &report.faults {
                print(&fault.to_string())?;
            }
            for layer in report.left_out.iter().filter(|_| !arguments.common.quiet) {
                print(&format!("blob {}: not downloaded, {} in {}", layer.digest, size(layer.size), layer.repository))?;
            }
            for layer in report.not_read.iter().filter(|_| !arguments.common.quiet) {
                print(&format!("blob {}: not read, unknown type `{}`", layer.digest, one_line(&layer.media_type)))?;
            }
            if report.faults.is_empty() && !arguments.common.quiet {
                let bytes = size(report.bytes);
                let (images, blobs) = (counted(report.images, "image"), counted(report.blobs, "blob"));
                let left_out = match report.left_out.len() {
                    0 => String::new(),
                    layers => format!(", except {} not downloaded", counted(layers, "layer")),
                };
                let artifacts = match report.artifacts {
                    0 => String::new(),
                    artifacts => format!(", {}", counted(artifacts, "artifact")),
                };
                let verdict = match report.not_read.len() {
                    0 => "no errors found".to_owned(),
                    layers => format!("no errors found, {} not read", counted(layers, "layer")),
                };
                print(&format!("{images}{artifacts}, {blobs}, {bytes}: {verdict}{left_out}"))?;
            }
        }
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
