//! `ocibuild cache verify`.

use super::OutputFormat;
use super::output::print;
use ocibuild::Result;
use ocibuild::cache::maintenance::Upkeep;
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::common::progress::Silent;
use ocibuild::store::Layout;
use ocibuild::store::verify::verify;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The result of reading a cache.
#[derive(Debug, Default)]
struct CacheReport {
    blobs: usize,
    bytes: u64,
    damage: Vec<Damage>,
}

/// A damaged object of the cache. The next build replaces it.
#[derive(Debug)]
struct Damage {
    object: String,
    reason: String,
}

/// Reads everything in the cache, if there is one, and prints what is damaged.
pub(super) fn run(upkeep: Option<&Upkeep>, format: OutputFormat) -> Result<ExitCode> {
    let report = upkeep.map(read_everything).transpose()?;
    match (format, &report) {
        (OutputFormat::Json, report) => {
            print(&to_json(report.as_ref().unwrap_or(&CacheReport::default())).to_string())?
        }
        (OutputFormat::Text, Some(report)) => print(&to_text(report))?,
        (OutputFormat::Text, None) => {}
    }
    let is_whole = report.is_none_or(|report| report.damage.is_empty());
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_everything(upkeep: &Upkeep) -> Result<CacheReport> {
    let _held = upkeep.hold()?;
    let mut report = CacheReport::default();
    for store in upkeep.stores() {
        let layout = match Layout::open(&store).and_then(|layout| layout.index().map(|_| layout)) {
            Ok(layout) => layout,
            Err(error) if !error.is_of_the_content() => return Err(error),
            Err(error) => {
                upkeep.discard_unreadable_stores()?;
                let reason = format!("{}; all of {} is discarded", error.reason(), store.display());
                report.damage.push(Damage { object: error.object().to_owned(), reason });
                continue;
            }
        };
        let verified = verify(&store, &Silent)?;
        report.damage.extend(verified.faults.iter().map(|fault| Damage {
            object: format!("{}: {}", store.display(), fault.object),
            reason: fault.reason.clone(),
        }));
        upkeep.forget(layout, &verified.damaged);
        report.blobs += verified.blobs;
        report.bytes += verified.bytes;
    }
    let discarded = "damaged and discarded; the next build creates it again";
    let files = upkeep.discard_damaged_files()?;
    report.damage.extend(files.into_iter().map(|object| Damage { object, reason: discarded.to_owned() }));
    Ok(report)
}

fn to_text(CacheReport { blobs, bytes, damage }: &CacheReport) -> String {
    if damage.is_empty() {
        return format!("{}, {}: no errors found", counted(*blobs, "blob"), size(*bytes));
    }
    damage.iter().map(|Damage { object, reason }| format!("{object}: {reason}")).collect::<Vec<_>>().join("\n")
}

fn to_json(CacheReport { blobs, bytes, damage }: &CacheReport) -> Value {
    let faults: Vec<Value> =
        damage.iter().map(|Damage { object, reason }| json!({"object": object, "reason": reason})).collect();
    json!({"blobs": blobs, "bytes": bytes, "faults": faults})
}
