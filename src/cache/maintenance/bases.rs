//! Base images, each with the blobs that no other base needs.

use super::{Item, ItemKind, Stored, existing, files, stored};
use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::limits::Limit;
use crate::common::root::Root;
use crate::spec::{CONTAINERD_NAME, Descriptor, Index, Manifest};
use crate::store::{BASES, Layout, read_document};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Lists every base, and blobs that no base needs. A blob of several bases belongs to the most recently used one, so that it is
/// removed with the last of them.
pub(super) fn items(directory: &Root) -> Result<Vec<Item>> {
    let Some(store) = existing(directory, BASES)? else { return Ok(Vec::new()) };
    let mut blobs: BTreeMap<Digest, Stored> = BTreeMap::new();
    for algorithm in ["sha256", "sha512"] {
        for file in stored(&store, &format!("blobs/{algorithm}"), ItemKind::Base)? {
            if let Ok(digest) = format!("{algorithm}:{}", file.name).parse() {
                blobs.insert(digest, file);
            }
        }
    }
    let layout = readable(Layout::open(store.path()))?;
    let index = layout.as_ref().map(|layout| readable(layout.index())).transpose()?.flatten();
    let index = index.unwrap_or_else(Index::empty);
    let mut names: BTreeMap<Digest, (&Descriptor, BTreeSet<&str>)> = BTreeMap::new();
    for listed in index.manifests() {
        let name = listed.annotations.get(CONTAINERD_NAME).map(String::as_str);
        names.entry(listed.digest).or_insert((listed, BTreeSet::new())).1.extend(name);
    }
    let last_used = files::uses(directory)?;
    let mut bases: Vec<Item> = Vec::new();
    for (digest, (listed, names)) in names {
        let made = blobs.get(&digest).map(|file| file.used);
        let used = made.max(last_used.get(&digest.hex()).copied()).unwrap_or(std::time::UNIX_EPOCH);
        let name = if names.is_empty() { listed.digest.to_string() } else { shortest(names) };
        bases.push(Item { kind: ItemKind::Base, name, used, files: Vec::new(), listed: Some(digest), from: None });
    }
    bases.sort_by_key(|base| Reverse(base.used));
    for base in &mut bases {
        let listed = index.manifests().iter().find(|listed| Some(listed.digest) == base.listed);
        let needed = listed.map(|listed| needed_by(listed, layout.as_ref())).transpose()?.unwrap_or_default();
        base.files = needed.iter().filter_map(|digest| blobs.remove(digest)).collect();
    }
    bases.extend(blobs.into_values().map(|file| Item::of(ItemKind::Leftover, file)));
    Ok(bases)
}

/// Returns the name with a tag if there is one: a base may have a name with its tag and one with its digest alone.
fn shortest(names: BTreeSet<&str>) -> String {
    let has_tag =
        |name: &&&str| name.split('@').next().is_some_and(|name| name.rsplit('/').next().unwrap_or(name).contains(':'));
    names.iter().find(has_tag).or(names.first()).map(|name| (*name).to_owned()).unwrap_or_default()
}

/// Returns the blobs of a listed image. A manifest that is missing, damaged or malformed needs none.
fn needed_by(listed: &Descriptor, layout: Option<&Layout>) -> Result<Vec<Digest>> {
    let object = listed.digest.to_string();
    let read = |layout| {
        read_document(layout, listed, Limit::DocumentSize)
            .and_then(|bytes| Manifest::read(&bytes, &listed.media_type, &object))
    };
    let manifest = layout.map(|layout| readable(read(layout))).transpose()?.flatten();
    let blobs = manifest.iter().flat_map(Manifest::blobs).map(|blob| blob.digest);
    Ok(blobs.chain([listed.digest]).collect())
}

/// Returns `None` for content that is missing, damaged or malformed, which no base can use. Any other failure says nothing
/// about it, so that no blob may be removed because of it.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if error.is_of_the_content() => Ok(None),
        read => read.map(Some),
    }
}

/// Removes images from the list of bases.
pub(super) fn forget(directory: &Root, digests: &BTreeSet<Digest>) -> Result<()> {
    match existing(directory, BASES)? {
        Some(store) if !digests.is_empty() => Layout::open(store.path())?.unlist(digests),
        _ => Ok(()),
    }
}
