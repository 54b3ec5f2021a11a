//! Search for secrets in the sources of an image.
//!
//! Every text file of a source is searched once: while its content is in memory to be written to a layer; chunk by chunk beside that if
//! it is large; or before, if a secret fails the build. Findings are kept in the cache with the layer, under the
//! diff ID of its tar. So a build without changes reads no file, and a build with one changed file reads only that file.

use super::SecretPolicy;
use super::{BuiltLayer, Plan, PlannedLayer};
use crate::build::cache_lookup::LookupResult;
use crate::cache::{Cache, CachedLayer, LayerFacts, LayerKey};
use crate::common::digest::DiffId;
use crate::common::error::{Error, Result};
use crate::common::human_numbers::counted;
use crate::common::progress::{Progress, warn};
use crate::common::threads;
use crate::layers::LayerCompression;
use crate::layers::incremental::{Fingerprint, PreviousEntry};
use crate::layers::is_in_one_block;
use crate::layers::tree::{Content, Entry, Kind, Tree};
use crate::secrets::{FoundLine, FoundSecret, find_in_content, find_in_file, is_searched};
use crate::store::Layout;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The number of secrets that are printed as warnings. JSON output has all of them.
const MOST_SHOWN: usize = 10;

/// The number of secrets that are kept per file and per layer.
const MOST_OF_A_FILE: usize = 100;
const MOST_OF_A_LAYER: usize = 1000;

impl Plan {
    /// Searches the sources of every layer, without a cache.
    ///
    /// # Errors
    /// Fails if a file cannot be read or has changed, or there is a secret and the policy denies it.
    pub fn check_secrets(&self, progress: &dyn Progress) -> Result<Vec<FoundSecret>> {
        let mut found = self.known_secrets.clone();
        for layer in self.layers.iter().filter(|layer| self.searches(layer)) {
            if let Some(tree) = layer.tree() {
                found.extend(search(tree, &layer.name, |_, _| false)?);
            }
        }
        self.judge(&found, progress)?;
        Ok(found)
    }

    /// Finds the secrets of every layer, in order. Findings of unchanged files are reused.
    ///
    /// # Errors
    /// Fails if a file cannot be read or has changed, or there is a secret and the policy denies it.
    pub(super) fn find_secrets<'a>(
        &'a self,
        lookups: &[LookupResult],
        cache: Option<&Cache>,
        progress: &dyn Progress,
    ) -> Result<Vec<Search<'a>>> {
        let find = |(layer, found): (&'a PlannedLayer, &LookupResult)| match layer.tree() {
            Some(tree) if self.searches(layer) => {
                SourceSearcher { layer, tree, cache, compression: layer.compression, policy: self.secrets }.find(found)
            }
            _ => Ok(Search::None),
        };
        let searches = self.layers.iter().zip(lookups).map(find).collect::<Result<Vec<_>>>()?;
        if self.secrets == SecretPolicy::Deny {
            let found = searches.iter().flat_map(Search::done);
            self.judge(&self.known_secrets.iter().chain(found).cloned().collect::<Vec<_>>(), progress)?;
        }
        Ok(searches)
    }

    /// Prints warnings about secrets, or fails if the policy denies them.
    ///
    /// # Errors
    /// Fails if there is a secret and the policy denies it.
    pub(super) fn judge(&self, found: &[FoundSecret], progress: &dyn Progress) -> Result<()> {
        if self.secrets == SecretPolicy::Allow || found.is_empty() {
            return Ok(());
        }
        for FoundSecret { source, path, line, what } in found.iter().take(MOST_SHOWN) {
            warn(progress, &format!("{source}: `{path}`"), &format!("line {line} looks like {what}"));
        }
        let secrets = counted(found.len(), "secret");
        let files: BTreeSet<_> = found.iter().map(|secret| (&secret.source, &secret.path)).collect();
        let files = counted(files.len(), "file");
        if self.secrets == SecretPolicy::Deny {
            let reason = format!("{secrets} in {files} of its sources, not allowed by --secrets deny");
            return Err(Error::invalid("image", reason).hint("exclude the files, or --secrets warn"));
        }
        let more = found.len().saturating_sub(MOST_SHOWN);
        let more = if more > 0 { format!("; {more} of them are not shown") } else { String::new() };
        let reason =
            format!("{secrets} in {files}; anyone with the image can read them{more} (--secrets deny fails the build)");
        warn(progress, "image", &reason);
        Ok(())
    }

    /// Keeps what was found for the next build.
    pub(super) fn keep_secrets(
        &self,
        cache: &Cache,
        built: &[BuiltLayer],
        found: &[Option<Vec<FoundSecret>>],
        layout: &Layout,
        progress: &dyn Progress,
    ) {
        for ((planned, built), found) in self.layers.iter().zip(built).zip(found) {
            let Some(found) = found.as_ref().filter(|_| built.remote_in.is_none()) else { continue };
            if noted(Some(cache), &built.layer.diff_id, planned.compression).is_none() {
                let facts = LayerFacts::Secrets { secrets: found.clone() };
                let (layer, from) = (built.layer.clone(), built.from.clone());
                let kept = CachedLayer { layer, facts, from, recorded: cache.now() };
                cache.keep(&LayerKey::of_tar(&built.layer.diff_id, planned.compression), &kept, layout, progress);
            }
        }
    }

    fn searches(&self, layer: &PlannedLayer) -> bool {
        self.secrets != SecretPolicy::Allow && layer.is_searched
    }
}

/// Returns the secrets that were found in the layer with this diff ID when it was built.
fn noted(cache: Option<&Cache>, diff_id: &DiffId, compression: LayerCompression) -> Option<Vec<FoundSecret>> {
    cache?.facts(&LayerKey::of_tar(diff_id, compression))?.into_secrets()
}

/// The secrets of one layer.
pub(super) enum Search<'a> {
    /// The layer is not searched.
    None,
    /// The search is complete, with these secrets.
    Done(Vec<FoundSecret>),
    /// The search continues while the layer is made. `large` has the files that are not in one block.
    Making { name: &'a str, large: Vec<(usize, Entry)>, found: Mutex<Vec<SecretsOfFile>> },
}

/// The number of a file in the tree, and its secrets.
type SecretsOfFile = (usize, Vec<FoundSecret>);

impl Search<'_> {
    /// Returns the function that searches the files while the layer is made.
    pub(super) fn visitor(&self) -> Option<impl Fn(usize, &Entry, &[u8]) + Sync> {
        let Search::Making { name, found, .. } = self else { return None };
        Some(move |number: usize, entry: &Entry, content: &[u8]| {
            if may_hold_secrets(entry) {
                let secrets = named(name, entry, find_in_content(entry.path.as_bytes(), content));
                if !secrets.is_empty() {
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((number, secrets));
                }
            }
        })
    }

    /// Searches all large files of the layers that `write` makes, at the same time.
    ///
    /// # Errors
    /// Those of `write`, or if a file cannot be read or has changed.
    pub(super) fn large_files_beside<T>(searches: &[Search<'_>], write: impl FnOnce() -> Result<T>) -> Result<T> {
        if rayon::current_num_threads() == 1 {
            Search::large_files(searches)?;
            return write();
        }
        let (searched, written) = threads::both(|| Search::large_files(searches), write);
        let written = written?;
        searched.unwrap_or_else(|| Err(Error::invalid("secrets", "the search stopped unexpectedly")))?;
        Ok(written)
    }

    fn large_files(searches: &[Search<'_>]) -> Result<()> {
        let making = searches.iter().filter_map(|search| match search {
            Search::Making { name, large, found } => Some((*name, large, found)),
            Search::None | Search::Done(_) => None,
        });
        let files: Vec<_> =
            making.flat_map(|(name, large, found)| large.iter().map(move |file| (name, file, found))).collect();
        let (next, failed) = (AtomicUsize::new(0), OnceLock::new());
        let take = || {
            let mut buffer = Vec::new();
            while failed.get().is_none() {
                let Some((name, (number, entry), found)) = files.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                match search_file(entry, name, &mut buffer) {
                    Ok(secrets) if secrets.is_empty() => {}
                    Ok(secrets) => found.lock().unwrap_or_else(PoisonError::into_inner).push((*number, secrets)),
                    // The first error counts.
                    Err(error) => drop(failed.set(error)),
                }
            }
        };
        // Not on the threads of the pool, which make the layers. A search is four times as fast as gzip.
        threads::together((rayon::current_num_threads() / 4 + 1).min(files.len()), take);
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Returns the secrets that are known before the layer is built.
    fn done(&self) -> &[FoundSecret] {
        if let Search::Done(found) = self { found } else { &[] }
    }

    /// Returns all secrets after the layer is built.
    pub(super) fn finish(self) -> Option<Vec<FoundSecret>> {
        match self {
            Search::None => None,
            Search::Done(found) => Some(found),
            Search::Making { found, .. } => Some(in_order(found.into_inner().unwrap_or_else(PoisonError::into_inner))),
        }
    }
}

/// Searches one layer.
struct SourceSearcher<'a, 'c> {
    layer: &'a PlannedLayer,
    tree: &'a Tree,
    cache: Option<&'c Cache>,
    compression: LayerCompression,
    policy: SecretPolicy,
}

impl<'a> SourceSearcher<'a, '_> {
    fn find(&self, found: &LookupResult) -> Result<Search<'a>> {
        let SourceSearcher { layer, tree, cache, compression, policy: _ } = *self;
        match found {
            LookupResult::Hit(built) => match noted(cache, &built.layer.diff_id, compression) {
                Some(found) => Ok(Search::Done(renamed(found, &layer.name))),
                None => search(tree, &layer.name, |_, _| false).map(Search::Done),
            },
            LookupResult::Partial(parts) => {
                let Some(earlier) = &parts.earlier else { return self.search_all() };
                let before = noted(cache, &earlier.diff_id, compression);
                // A full list may lack what an unchanged file holds.
                let Some(before) = before.filter(|before| before.len() < MOST_OF_A_LAYER) else {
                    return search(tree, &layer.name, |_, _| false).map(Search::Done);
                };
                let known = unchanged(&earlier.entries, tree, &parts.fingerprints.entries);
                let same_paths: BTreeSet<String> = tree
                    .entries()
                    .enumerate()
                    .filter(|(number, _)| known[*number])
                    .map(|(_, entry)| entry.path.to_string())
                    .filter(|path| before.iter().any(|secret| secret.path == *path))
                    .collect();
                let mut found = search(tree, &layer.name, |number, _| known[number])?;
                let before = renamed(before, &layer.name).into_iter();
                found.extend(before.filter(|secret| same_paths.contains(&secret.path)));
                found.sort();
                found.truncate(MOST_OF_A_LAYER);
                Ok(Search::Done(found))
            }
            LookupResult::Miss => self.search_all(),
        }
    }

    /// Searches a layer all of whose files will be read: while they are read, or at once if the layer is not built.
    fn search_all(&self) -> Result<Search<'a>> {
        let SourceSearcher { layer, tree, policy, .. } = *self;
        let name = &layer.name;
        match policy {
            SecretPolicy::Deny => search(tree, name, |_, _| false).map(Search::Done),
            SecretPolicy::Warn | SecretPolicy::Allow => {
                let is_large = |(_, entry): &(usize, Entry)| !is_in_one_block(entry.size()) && may_hold_secrets(entry);
                let large = tree.par_entries().enumerate().filter(is_large).collect();
                Ok(Search::Making { name, large, found: Mutex::default() })
            }
        }
    }
}

/// Returns the same secrets in a layer with another name.
fn renamed(mut found: Vec<FoundSecret>, name: &str) -> Vec<FoundSecret> {
    found.iter_mut().for_each(|secret| name.clone_into(&mut secret.source));
    found
}

/// Returns which entries are unchanged since a previous tree, according to the file system. Both are sorted by path.
fn unchanged(earlier: &[PreviousEntry], tree: &Tree, now: &[Fingerprint]) -> Vec<bool> {
    let mut before = earlier.iter().peekable();
    let is_same = |(entry, now): (Entry, &Fingerprint)| {
        let path = entry.path.as_bytes();
        while before.next_if(|before| *before.path < *path).is_some() {}
        let before = before.peek().filter(|before| *before.path == *path);
        now.whole.is_some() && before.is_some_and(|before| before.fingerprint.whole == now.whole)
    };
    tree.entries().zip(now).map(is_same).collect()
}

/// Searches the files of a tree, except those that are `known`.
fn search(tree: &Tree, name: &str, known: impl Fn(usize, &Entry) -> bool + Sync) -> Result<Vec<FoundSecret>> {
    let of_entry = |buffer: &mut Vec<u8>, (number, entry): (usize, Entry)| -> Result<SecretsOfFile> {
        let is_searched = may_hold_secrets(&entry) && !known(number, &entry);
        Ok((number, if is_searched { search_file(&entry, name, buffer)? } else { Vec::new() }))
    };
    let files = tree
        .par_entries()
        .enumerate()
        .map_init(Vec::new, of_entry)
        .filter(|result| !matches!(result, Ok((_, found)) if found.is_empty()));
    files.collect::<Result<_>>().map(in_order)
}

fn search_file(entry: &Entry, name: &str, buffer: &mut Vec<u8>) -> Result<Vec<FoundSecret>> {
    let Kind::File { size, content } = &entry.kind else { return Ok(Vec::new()) };
    let read = |range: Range<u64>, buffer: &mut Vec<u8>| {
        content.append(range.start, (range.end - range.start) as usize, *size, buffer)
    };
    let found = find_in_file(entry.path.as_bytes(), *size, buffer, read).map_err(|error| error.within(name))?;
    Ok(named(name, entry, found))
}

fn may_hold_secrets(entry: &Entry) -> bool {
    let Kind::File { size, content } = &entry.kind else { return false };
    !matches!(content, Content::Stored(_)) && is_searched(entry.path.as_bytes(), *size)
}

fn named(name: &str, entry: &Entry, found: Vec<FoundLine>) -> Vec<FoundSecret> {
    let path = if found.is_empty() { String::new() } else { entry.path.to_string() };
    found.into_iter().take(MOST_OF_A_FILE).map(|found| FoundSecret::new(name, &path, found)).collect()
}

/// Returns the secrets of all files, in the order of the tree.
fn in_order(mut files: Vec<SecretsOfFile>) -> Vec<FoundSecret> {
    files.sort_unstable_by_key(|(number, _)| *number);
    files.into_iter().flat_map(|(_, found)| found).take(MOST_OF_A_LAYER).collect()
}
