//! `ocibuild gc`.

use super::layout_lock::LayoutLockArguments;
use super::output::print;
use super::{Common, OutputFormat, parse_sizes};
use clap::Args;
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::store::Layout;
use ocibuild::store::layout::{Collection, Garbage};
use ocibuild::{Digest, Error, Location, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

#[derive(Debug, Args)]
#[command(after_help = "\
Removes blobs that no image of the layout refers to. Waits for builds and exports that are writing to the layout, and makes
new ones wait. Other programs take no lock, so blobs that are newer than --older-than are kept. Files that are not blobs are
kept. Temporary files of killed processes are removed too. If the index or a manifest is damaged, nothing is removed.

Examples:
  ocibuild gc ./out --dry-run
  ocibuild gc ./out")]
pub(super) struct GcArguments {
    /// Image layout
    #[arg(value_name = "LAYOUT")]
    layout: OsString,
    /// List the blobs without removing them
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Age at which blobs of other programs are removed, such as 10m or 1d
    #[arg(long, value_name = "AGE", default_value = "1h", value_parser = parse_sizes::age)]
    older_than: Duration,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Removes the blobs of a layout that no image needs.
pub(super) fn run(arguments: &GcArguments) -> Result<ExitCode> {
    let (directory, name) = Location::of_layout(&arguments.layout)?;
    if let Some(name) = name {
        let path = directory.display();
        return Err(Error::usage(format!("{path}:{name}"), "is an image, and gc cleans a layout")
            .hint(format!("ocibuild rm {path}:{name}, then ocibuild gc {path}")));
    }
    let collection = if arguments.dry_run { Collection::Find } else { Collection::Remove };
    let recent = SystemTime::now().checked_sub(arguments.older_than).unwrap_or(SystemTime::UNIX_EPOCH);
    let layout = match collection {
        Collection::Find => Layout::open(&directory)?,
        Collection::Remove => Layout::open_locking(&directory, arguments.lock.locking())?,
    };
    let garbage = layout.collect_garbage(recent, collection)?;
    match arguments.common.format {
        OutputFormat::Json => print(&to_json(&garbage, collection).to_string())?,
        OutputFormat::Text => report(&garbage, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn report(garbage: &Garbage, arguments: &GcArguments) -> Result<()> {
    if arguments.dry_run {
        garbage.blobs.iter().try_for_each(|(digest, bytes)| print(&format!("{digest}  {}", size(*bytes))))?;
    }
    if arguments.common.quiet {
        return Ok(());
    }
    let amount = |blobs: &[(Digest, u64)]| {
        let bytes = blobs.iter().map(|(_, bytes)| bytes).sum();
        format!("{}, {}", counted(blobs.len(), "blob"), size(bytes))
    };
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    print(&format!("{verb} {}", amount(&garbage.blobs)))?;
    if !garbage.recent.is_empty() {
        print(&format!(
            "kept {}, which another program may have just written (--older-than)",
            amount(&garbage.recent)
        ))?;
    }
    if !garbage.unknown.is_empty() {
        print(&format!(
            "kept {} that are no blobs: {}",
            counted(garbage.unknown.len(), "file"),
            garbage.unknown.join(", ")
        ))?;
    }
    Ok(())
}

fn to_json(garbage: &Garbage, collection: Collection) -> Value {
    let list = |blobs: &[(Digest, u64)]| {
        Value::from_iter(blobs.iter().map(|(digest, size)| json!({"digest": digest.to_string(), "size": size})))
    };
    json!({
        "dryRun": collection == Collection::Find,
        "blobs": list(&garbage.blobs),
        "recent": list(&garbage.recent),
        "unknown": garbage.unknown,
    })
}
