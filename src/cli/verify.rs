//! `ocibuild verify`.

use super::cache_directory::CacheDirectory;
use super::output::print;
use super::progress_display::Watch;
use super::repair::RepairArguments;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::store::repair::RepairedBlob;
use ocibuild::store::verify::{LeftOutLayer, Report, verify, verify_image};
use ocibuild::store::{Layout, VerifiedFiles};
use ocibuild::{Location, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Reads every blob and prints one line per error. Exits with status 1 if there is an error. Layers
that `layout --sparse` did not download are not an error.

--repair replaces missing and damaged blobs by verified ones: from the places of --from, the cache,
and the registries from which or to which this machine has copied the blob. It changes nothing else,
and exits with status 1 if an error remains.

Examples:
  ocibuild verify ./out
  ocibuild verify ./out --repair
  ocibuild verify ./out --repair --from ./backup --from docker://registry.example/team/app:v1")]
pub(super) struct VerifyArguments {
    /// Layout, or one of its images: PATH[:NAME][@DIGEST]
    #[arg(value_name = "LAYOUT[:NAME]")]
    layout: OsString,
    #[command(flatten)]
    repair: RepairArguments,
    #[command(flatten)]
    cache: CacheDirectory,
    #[command(flatten)]
    pub(super) common: Common,
}

fn described(LeftOutLayer { digest, size, repository }: &LeftOutLayer) -> Value {
    json!({"digest": digest.to_string(), "size": size, "repository": repository.to_string()})
}

fn repaired_to_json(RepairedBlob { digest, size, from }: &RepairedBlob) -> Value {
    json!({"digest": digest.to_string(), "size": size, "from": from})
}

/// Prints every fault, or how much was found to be whole.
pub(super) fn run(arguments: &VerifyArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let (directory, name) = Location::of_layout(&arguments.layout)?;
    let (report, repaired) = match &name {
        name if arguments.repair.is_asked_for() => {
            arguments.repair.run(&directory, name.as_deref(), &arguments.cache, &watch)?
        }
        Some(name) => (verify_image(&directory, name, &*watch)?, Vec::new()),
        None => (verify(&directory, &*watch)?, Vec::new()),
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
                "repaired": repaired.iter().map(repaired_to_json).collect::<Vec<_>>(),
            });
            print(&result.to_string())?;
        }
        OutputFormat::Text => {
            for RepairedBlob { digest, size: bytes, from } in repaired.iter().filter(|_| !arguments.common.quiet) {
                print(&format!("blob {digest}: repaired, {} from {}", size(*bytes), one_line(from)))?;
            }
            for fault in &report.faults {
                print(&fault.to_string())?;
            }
            if arguments.repair.is_asked_for() && !report.replaceable.is_empty() {
                let blobs = counted(report.replaceable.len(), "blob");
                print(&format!("{blobs} not repaired; --from IMAGE names another place that may have the content"))?;
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
