//! Cached layers: each a blob, its keys, its block lists and its block index.

use super::{Item, ItemKind, Stored, is_hex, stored};
use crate::cache::block_lists;
use crate::cache::keys::LATEST;
use crate::cache::record::CacheRecord;
use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::root::Root;
use crate::spec::reference::Reference;
use std::collections::BTreeMap;

/// Lists every layer, and files that belong to no layer.
pub(super) fn items(directory: &Root) -> Result<Vec<Item>> {
    // Keys and lists are read before blobs: a blob is written before its keys, so a concurrent build never seems to have keys
    // without a blob.
    let mut taken: BTreeMap<Digest, Reference> = BTreeMap::new();
    let keys = stored(directory, "layers/v1", ItemKind::Key)?;
    let keys = keys.into_iter().filter(|file| is_hex(&file.name, 64)).map(|file| {
        let record = CacheRecord::read_named(&file.directory, &file.name);
        if let Some((digest, from)) =
            record.as_ref().and_then(|record| Some((record.layer.descriptor.digest, record.from.clone()?)))
        {
            taken.insert(digest, from);
        }
        (record.map(|record| record.layer.descriptor.digest), file)
    });
    let keys: Vec<(Option<Digest>, Stored)> = keys.collect();
    let (lists, latest): (Vec<Stored>, Vec<Stored>) = stored(directory, "blocks/v1", ItemKind::BlockList)?
        .into_iter()
        .filter(|file| is_hex(file.name.trim_end_matches(LATEST), 64))
        .partition(|file| file.name.len() == 64);
    let subject = |file: &Stored| block_lists::subject(&file.directory, &file.name);
    let subjects: BTreeMap<String, Digest> =
        lists.iter().filter_map(|file| Some((file.name.clone(), subject(file)?))).collect();
    let indexes = stored(directory, "block-index/v1", ItemKind::BlockList)?;
    let indexes = indexes.into_iter().filter(|file| is_hex(&file.name, 64));
    let indexes: Vec<Stored> = indexes.collect();
    let mut layers: BTreeMap<Digest, Item> = BTreeMap::new();
    for algorithm in ["sha256", "sha512"] {
        for file in stored(directory, &format!("store/blobs/{algorithm}"), ItemKind::Layer)? {
            if let Ok(digest) = format!("{algorithm}:{}", file.name).parse::<Digest>() {
                let from = taken.get(&digest).cloned();
                layers.insert(digest, Item { name: digest.to_string(), from, ..Item::of(ItemKind::Layer, file) });
            }
        }
    }
    let lists = lists.into_iter().map(|file| (subjects.get(&file.name).copied(), file));
    let latest = latest.into_iter().map(|file| {
        let list = block_lists::latest(&file.directory, &file.name);
        (list.and_then(|list| subjects.get(&list).copied()), file)
    });
    let indexes = indexes.into_iter().map(|file| (format!("sha256:{}", file.name).parse().ok(), file));
    let mut useless = Vec::new();
    for (digest, file) in keys.into_iter().chain(lists).chain(latest).chain(indexes) {
        match digest.and_then(|digest| layers.get_mut(&digest)) {
            Some(layer) => layer.add(file),
            None => useless.push(Item::of(ItemKind::Leftover, file)),
        }
    }
    Ok(layers.into_values().chain(useless).collect())
}
