//! `ocibuild cache`.

use super::cache_directory::CacheDirectory;
use super::cache_verify;
use super::output::print;
use super::{Common, OutputFormat, parse_sizes};
use clap::{Args, Subcommand};
use ocibuild::cache::maintenance::{CacheLimits, Item, ItemKind, Pruned, Upkeep};
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::{Reference, Result, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
The cache holds layers and their keys, block lists, base images with their signatures and listings, downloads and unpacked \
robots. Entries that a running build uses are never removed. Each build prunes the cache to its limits (see --cache-max-age \
and --cache-max-size of `ocibuild layout`).

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
    /// Show the directory and size of the cache
    Info,
    /// Remove the least recently used entries
    Prune(PruneArguments),
    /// Verify the digests of all entries
    Verify,
    /// Remove all entries
    Clear,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct PruneArguments {
    /// Prune until the cache has at most SIZE, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_sizes::size)]
    keep: Option<u64>,
    /// Prune entries that were not used for AGE, such as 30d or 12h
    #[arg(long, value_name = "AGE", value_parser = parse_sizes::age)]
    older_than: Option<Duration>,
}

/// The kinds of what is in a cache, and what people call them.
const KINDS: [(ItemKind, &str); 10] = [
    (ItemKind::Layer, "layer"),
    (ItemKind::Key, "key"),
    (ItemKind::BlockList, "block list"),
    (ItemKind::Base, "base"),
    (ItemKind::Listing, "listing"),
    (ItemKind::Download, "download"),
    (ItemKind::Signatures, "signature file"),
    (ItemKind::Robot, "unpacked robot"),
    (ItemKind::Note, "note"),
    (ItemKind::Leftover, "leftover"),
];

/// Runs a subcommand of `cache`.
pub(super) fn run(arguments: &CacheArguments) -> Result<ExitCode> {
    let format = arguments.common.format;
    // Does not create a cache: a missing cache is empty.
    let upkeep = arguments.directory.upkeep()?;
    let prune = |limits| match &upkeep {
        Some(upkeep) => print_pruned(&upkeep.prune(limits)?, format),
        None => print_pruned(&Pruned::default(), format),
    };
    match &arguments.action {
        Action::Info => {
            let items = upkeep.as_ref().map_or_else(|| Ok(Vec::new()), Upkeep::items)?;
            let directory = arguments.directory.path()?.display().to_string();
            print(&match format {
                OutputFormat::Json => info_as_json(&directory, &items).to_string(),
                OutputFormat::Text => info(&directory, &items),
            })?;
        }
        Action::Prune(PruneArguments { keep, older_than }) => prune(CacheLimits { age: *older_than, size: *keep })?,
        Action::Clear => prune(CacheLimits::NOTHING)?,
        Action::Verify => return cache_verify::run(upkeep.as_ref(), format),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the number of files of a kind, and their size in bytes.
fn amount(items: &[Item], kind: ItemKind) -> (usize, u64) {
    let files = || items.iter().flat_map(|item| &item.files).filter(|file| file.kind == kind);
    let main = items.iter().filter(|item| item.kind == kind).count();
    // A base has several files, a layer several keys.
    let count = if kind == ItemKind::Base { main } else { files().count() };
    (count, files().map(|file| file.size).sum())
}

fn info(directory: &str, items: &[Item]) -> String {
    let total: u64 = items.iter().map(Item::size).sum();
    let mut lines = vec![format!("{directory}: {}", size(total))];
    let shared = shared(items);
    if shared > 0 {
        lines
            .push(format!("of that, {} are shared with layouts by hard links, and not freed by pruning", size(shared)));
    }
    for (kind, name) in KINDS {
        let (count, bytes) = amount(items, kind);
        if count > 0 || kind == ItemKind::Layer {
            lines.push(format!("{}, {}", counted(count, name), size(bytes)));
        }
        let mut taken: BTreeMap<&Reference, usize> = BTreeMap::new();
        for from in items.iter().filter(|item| item.kind == kind).filter_map(|item| item.from.as_ref()) {
            *taken.entry(from).or_default() += 1;
        }
        lines.extend(taken.iter().map(|(from, count)| format!("  of them {} from {from}", counted(*count, name))));
        let named =
            items.iter().filter(|item| item.kind == kind && matches!(kind, ItemKind::Base | ItemKind::Download));
        lines.extend(named.map(|item| format!("  {}, {}, last used {}", item.name, size(item.size()), time(item))));
    }
    lines.join("\n")
}

fn info_as_json(directory: &str, items: &[Item]) -> serde_json::Value {
    let total: u64 = items.iter().map(Item::size).sum();
    let mut info = json!({"directory": directory, "bytes": total, "sharedBytes": shared(items)});
    for (kind, name) in KINDS {
        let (count, bytes) = amount(items, kind);
        info["kinds"][name] = json!({"count": count, "bytes": bytes});
    }
    let described =
        items.iter().filter(|item| matches!(item.kind, ItemKind::Layer | ItemKind::Base | ItemKind::Download));
    let described = described.map(|item| {
        let kind = KINDS.iter().find(|(kind, _)| *kind == item.kind).map(|(_, name)| *name);
        let mut described = json!({"kind": kind, "name": item.name, "bytes": item.size(), "lastUsed": time(item)});
        if let Some(from) = &item.from {
            described["from"] = from.to_string().into();
        }
        described
    });
    info["items"] = described.collect();
    info
}

/// Returns the size of the files that layouts contain too, as hard links.
fn shared(items: &[Item]) -> u64 {
    items.iter().flat_map(|item| &item.files).filter(|file| file.is_shared).map(|file| file.size).sum()
}

fn time(item: &Item) -> String {
    let since = item.used.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = i64::try_from(since.as_secs()).ok().and_then(|seconds| Timestamp::from_seconds(seconds).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// Returns a summary of the pruned entries: "2 layers, 1 base removed, 3.0 MiB freed".
pub(super) fn described(pruned: &Pruned) -> String {
    let count = |kind| pruned.items.get(&kind).copied().unwrap_or_default();
    let parts: Vec<String> = KINDS
        .into_iter()
        .filter(|(kind, _)| !matches!(kind, ItemKind::Note | ItemKind::Leftover))
        .filter(|(kind, _)| *kind == ItemKind::Layer || count(*kind) > 0)
        .map(|(kind, name)| counted(count(kind), name))
        .collect();
    let in_use = if pruned.is_in_use { "; entries in use were kept" } else { "" };
    format!("{} removed, {} freed{in_use}", parts.join(", "), size(pruned.freed))
}

fn print_pruned(pruned: &Pruned, format: OutputFormat) -> Result<()> {
    print(&match format {
        OutputFormat::Text => described(pruned),
        OutputFormat::Json => {
            let mut result = json!({"freedBytes": pruned.freed, "inUse": pruned.is_in_use});
            for (kind, name) in KINDS {
                result["kinds"][name] = pruned.items.get(&kind).copied().unwrap_or_default().into();
            }
            result.to_string()
        }
    })
}
