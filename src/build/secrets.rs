//! Secrets in the sources of an image: found before anything is built, reported, and refused where that is asked for.
//!
//! Every text file of a source is searched once, a part of it at a time. What was found is kept in the cache with the layer, under the diff ID of
//! its tar, so that a build that changes nothing reads nothing, and one that changes a file reads that file.

use super::recall::Recalled;
use super::{BuiltLayer, Plan, PlannedLayer};
use crate::cache::{Cache, Found, LayerKey};
use crate::compression::Compression;
use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::layer::{EarlierEntry, Fingerprint};
use crate::progress::{Progress, warn};
use crate::secrets::{FoundSecret, find_in_file, is_searched};
use crate::store::Layout;
use crate::tree::{Content, Entry, Kind, Tree};
use crate::wording::counted;
use rayon::prelude::*;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// What happens to an image whose sources hold secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecretPolicy {
    /// Each one is a warning.
    #[default]
    Warn,
    /// The image is not built.
    Deny,
    /// They are not searched for.
    Allow,
}

/// How many secrets are named in warnings. Programs get all of them.
const MOST_SHOWN: usize = 10;

/// How many secrets of one file, and of one layer, are kept.
const MOST_OF_A_FILE: usize = 100;
const MOST_OF_A_LAYER: usize = 1000;

/// The member of a cached layer's notes that holds its secrets.
const NOTES: &str = "secrets";

impl Plan {
    /// Searches the sources of every layer, without a cache.
    ///
    /// # Errors
    /// When a file cannot be read or has changed, or there is a secret and the policy denies it.
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

    /// Finds the secrets of every layer, in order: those that were found before where the files are the same.
    pub(super) fn find_secrets(
        &self,
        recalled: &[Recalled],
        cache: Option<&Cache>,
    ) -> Result<Vec<Option<Vec<FoundSecret>>>> {
        let find = |(layer, recalled): (&PlannedLayer, &Recalled)| {
            let tree = layer.tree().filter(|_| self.searches(layer));
            tree.map(|tree| secrets_of(layer, tree, recalled, cache, layer.compression(self.compression))).transpose()
        };
        self.layers.iter().zip(recalled).map(find).collect()
    }

    /// Reports secrets, and refuses them where that is asked for.
    ///
    /// # Errors
    /// When there is one and the policy denies it.
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
            let reason = format!("{secrets} in {files} of its sources, and --secrets deny refuses them");
            return Err(Error::invalid("image", reason).hint("leave the files out, or --secrets warn"));
        }
        let more = found.len().saturating_sub(MOST_SHOWN);
        let more = if more > 0 { format!("; {more} of them are not shown") } else { String::new() };
        let reason =
            format!("{secrets} in {files}, readable for anyone who has the image{more} (--secrets deny refuses)");
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
            let compression = planned.compression(self.compression);
            let Some(found) = found.as_ref().filter(|_| built.left_in.is_none()) else { continue };
            if noted(Some(cache), &built.layer.diff_id, compression).is_none() {
                let notes = json!({NOTES: FoundSecret::all_to_json(found)});
                let (layer, from) = (built.layer.clone(), built.from.clone());
                let kept = Found { layer, notes, from, recorded: cache.now() };
                cache.keep(&LayerKey::of_tar(&built.layer.diff_id, compression), &kept, layout, progress);
            }
        }
    }

    fn searches(&self, layer: &PlannedLayer) -> bool {
        self.secrets != SecretPolicy::Allow && layer.is_searched
    }
}

/// What was found in the layer with this diff ID when it was made.
fn noted(cache: Option<&Cache>, diff_id: &DiffId, compression: Compression) -> Option<Vec<FoundSecret>> {
    let notes = cache?.notes(&LayerKey::of_tar(diff_id, compression))?;
    // The list of a full layer may lack what an unchanged file holds.
    FoundSecret::read_all(notes.get(NOTES)?).filter(|found| found.len() < MOST_OF_A_LAYER)
}

fn secrets_of(
    layer: &PlannedLayer,
    tree: &Tree,
    recalled: &Recalled,
    cache: Option<&Cache>,
    compression: Compression,
) -> Result<Vec<FoundSecret>> {
    let all = |_: usize, _: &Entry| false;
    match recalled {
        Recalled::Whole(built) => match noted(cache, &built.layer.diff_id, compression) {
            Some(found) => Ok(renamed(found, &layer.name)),
            None => search(tree, &layer.name, all),
        },
        Recalled::Parts(parts) => {
            let earlier = parts.earlier.as_ref();
            let before = earlier.and_then(|earlier| Some((earlier, noted(cache, &earlier.diff_id, compression)?)));
            let Some((earlier, before)) = before else { return search(tree, &layer.name, all) };
            let known = unchanged(&earlier.entries, tree, &parts.fingerprints.entries);
            let same_paths: BTreeSet<String> = tree
                .entries()
                .enumerate()
                .filter(|(number, _)| known[*number])
                .map(|(_, entry)| entry.path.to_string())
                .filter(|path| before.iter().any(|secret| secret.path == *path))
                .collect();
            let mut found = search(tree, &layer.name, |number, _| known[number])?;
            found.extend(renamed(before, &layer.name).into_iter().filter(|secret| same_paths.contains(&secret.path)));
            found.sort();
            Ok(found)
        }
        Recalled::Nothing => search(tree, &layer.name, all),
    }
}

/// The same secrets in a layer with another name.
fn renamed(mut found: Vec<FoundSecret>, name: &str) -> Vec<FoundSecret> {
    found.iter_mut().for_each(|secret| name.clone_into(&mut secret.source));
    found
}

/// Which entries are those of an earlier tree, as far as the file system vouches for them.
fn unchanged(earlier: &[EarlierEntry], tree: &Tree, now: &[Fingerprint]) -> Vec<bool> {
    let before: HashMap<&[u8], Fingerprint> = earlier.iter().map(|entry| (&*entry.path, entry.fingerprint)).collect();
    let is_same = |(entry, now): (Entry, &Fingerprint)| {
        let before = before.get(entry.path.as_bytes());
        now.whole.is_some() && before.is_some_and(|before| before.whole == now.whole)
    };
    tree.entries().zip(now).map(is_same).collect()
}

/// Searches the files of a tree, but for those that are `known`.
fn search(tree: &Tree, name: &str, known: impl Fn(usize, &Entry) -> bool + Sync) -> Result<Vec<FoundSecret>> {
    let of_entry = |buffer: &mut Vec<u8>, (number, entry): (usize, Entry)| -> Result<Vec<FoundSecret>> {
        let Kind::File { size, content } = &entry.kind else { return Ok(Vec::new()) };
        if matches!(content, Content::Stored(_)) || !is_searched(entry.path.as_bytes(), *size) || known(number, &entry)
        {
            return Ok(Vec::new());
        }
        let read = |range: Range<u64>, buffer: &mut Vec<u8>| {
            content.append(range.start, (range.end - range.start) as usize, *size, buffer)
        };
        let found = find_in_file(entry.path.as_bytes(), *size, buffer, read).map_err(|error| error.within(name))?;
        let path = entry.path.to_string();
        Ok(found.into_iter().take(MOST_OF_A_FILE).map(|found| FoundSecret::new(name, &path, found)).collect())
    };
    let found: Vec<Vec<FoundSecret>> = tree
        .par_entries()
        .enumerate()
        .map_init(Vec::new, of_entry)
        .filter(|result| !matches!(result, Ok(found) if found.is_empty()))
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().take(MOST_OF_A_LAYER).collect())
}
