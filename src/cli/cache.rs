//! `ocibuild cache`.

use super::cache_directory::CacheDirectory;
use super::layer_cache;
use super::output::print;
use super::{Common, Format};
use clap::{Args, Subcommand};
use ocibuild::cache::{CacheUsage, Pruned};
use ocibuild::progress::Silent;
use ocibuild::verify::verify;
use ocibuild::wording::counted;
use ocibuild::{Error, Result, wording};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ocibuild cache info
  ocibuild cache prune --keep 10GiB
  ocibuild cache prune --older-than 30d")]
pub(super) struct CacheArguments {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    directory: CacheDirectory,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show where the cache is and what it takes
    Info,
    /// Take out what has not been used for longest
    Prune(PruneArguments),
    /// Read every blob and report every fault
    Verify,
    /// Take out everything
    Clear,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct PruneArguments {
    /// Until the rest takes at most so much, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    keep: Option<u64>,
    /// What has not been used for so long, such as 30d or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
}

/// Looks after the cache.
pub(super) fn run(arguments: &CacheArguments) -> Result<ExitCode> {
    let cache = layer_cache::open(&arguments.directory)?;
    let format = arguments.common.format;
    match &arguments.action {
        Action::Info => {
            let CacheUsage { records, blobs, bytes } = cache.usage()?;
            let directory = cache.directory().display().to_string();
            print(&match format {
                Format::Json => {
                    json!({"directory": directory, "records": records, "blobs": blobs, "bytes": bytes}).to_string()
                }
                Format::Text => format!(
                    "{directory}: {}, {}, {}",
                    counted(blobs, "layer"),
                    wording::size(bytes),
                    counted(records, "key")
                ),
            })?;
        }
        Action::Prune(PruneArguments { keep, older_than }) => {
            let mut pruned = Pruned::default();
            if let Some(age) = older_than {
                pruned = pruned.and(cache.prune_by_age(*age)?);
            }
            if let Some(bytes) = keep {
                pruned = pruned.and(cache.prune_to_size(*bytes)?);
            }
            tell(pruned, format)?;
        }
        Action::Clear => tell(cache.prune_to_size(0)?, format)?,
        Action::Verify => {
            let report = verify(&cache.store_directory(), &Silent)?;
            for fault in &report.faults {
                print(&fault.to_string())?;
            }
            cache.forget(&report.damaged);
            let damaged = cache.damaged_lists()?;
            for list in &damaged {
                print(&format!("{list}: damaged; the next build of its layer compresses everything again"))?;
            }
            if !report.faults.is_empty() || !damaged.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            print(&format!("{}, {}: whole", counted(report.blobs, "blob"), wording::size(report.bytes)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(pruned: Pruned, format: Format) -> Result<()> {
    let Pruned { blobs, bytes } = pruned;
    print(&match format {
        Format::Json => json!({"blobs": blobs, "bytes": bytes}).to_string(),
        Format::Text => format!("{} taken out, {}", counted(blobs, "layer"), wording::size(bytes)),
    })
}

/// Parts a number from its unit.
fn parted(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

fn size(text: &str) -> Result<u64> {
    let malformed =
        || Error::usage(format!("size `{text}`"), "not a number with B, KiB, MiB, GiB or TiB, or KB, MB, GB or TB");
    let (number, unit) = parted(text).ok_or_else(malformed)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(malformed()),
    };
    number.checked_mul(factor).ok_or_else(malformed)
}

fn age(text: &str) -> Result<Duration> {
    let malformed = || Error::usage(format!("age `{text}`"), "not a number with s, m, h, d or w");
    let (number, unit) = parted(text).ok_or_else(malformed)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(malformed()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_have_units() {
        assert_eq!(size("10GiB").unwrap(), 10 << 30);
        assert_eq!(size("5 MB").unwrap(), 5_000_000);
        assert_eq!(age("30d").unwrap(), Duration::from_secs(30 * 86_400));
        for bad in ["", "GiB", "1.5G", "10 parsecs", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(age("30").is_err() && age("d").is_err());
    }
}
