//! Independent files: downloads, signatures, listings and notes. Also records of when something was last used, for files whose
//! modification time must not change.

use super::{Item, ItemKind, directories, existing, is_hex, stored};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use crate::registry::trust::KEPT;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The directory of downloads, below the cache directory. Each download is named by its SHA-256.
pub const DOWNLOADS: &str = "rcc";
/// Where robots are that came in one file, below the cache directory, each a directory named by the SHA-256 of the file.
pub const ROBOTS: &str = "robots/v1";
/// How the name of such a directory ends while it is filled.
pub const UNFINISHED_ROBOT: &str = ".unfinished";
const USED: &str = "used/v1";

/// Records that the base or download with `digest` is used at `now`.
///
/// # Errors
/// Fails if the cache directory cannot be written.
pub fn note_use(directory: &Root, digest: &Digest, now: SystemTime) -> Result<()> {
    let used = directory.create_directory("used")?.create_directory("v1")?;
    let name = digest.hex();
    let mut options = cap_std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let noted = used.dir().open_with(&name, &options).and_then(|file| file.into_std().set_modified(now));
    noted.map_err(|error| used.failed(&name, "write", error))
}

/// Returns when each base and download was last used, by the name of its record.
pub(super) fn uses(directory: &Root) -> Result<BTreeMap<String, SystemTime>> {
    Ok(stored(directory, USED, ItemKind::Note)?.into_iter().map(|note| (note.name, note.used)).collect())
}

/// Lists every download, signature file, listing and note.
pub(super) fn items(directory: &Root) -> Result<Vec<Item>> {
    let uses = uses(directory)?;
    let mut items = Vec::new();
    for file in stored(directory, DOWNLOADS, ItemKind::Download)?.into_iter().filter(|file| is_hex(&file.name, 64)) {
        let used = uses.get(&file.name).copied().unwrap_or(file.used).max(file.used);
        items.push(Item { used, ..Item::of(ItemKind::Download, file) });
    }
    for file in stored(directory, KEPT, ItemKind::Signatures)? {
        // They are used whenever their base is.
        if is_hex(&file.name, 64) || is_hex(&file.name, 128) {
            let used = uses.get(&file.name).copied().unwrap_or(file.used).max(file.used);
            items.push(Item { used, ..Item::of(ItemKind::Signatures, file) });
        }
    }
    for robot in directories(directory, ROBOTS, ItemKind::Robot)? {
        let kind = if is_hex(&robot.name, 64) { ItemKind::Robot } else { ItemKind::Leftover };
        let used = uses.get(&robot.name).copied().unwrap_or(robot.used).max(robot.used);
        items.push(Item { used, ..Item::of(kind, robot) });
    }
    for place in listings(directory)? {
        items.extend(
            stored(directory, &place, ItemKind::Listing)?.into_iter().map(|file| Item::of(ItemKind::Listing, file)),
        );
    }
    for place in ["verified/v1", "verified/v2", USED] {
        let notes = stored(directory, place, ItemKind::Note)?.into_iter();
        let ours = notes.filter(|file| is_hex(&file.name, 32) || is_hex(&file.name, 64));
        items.extend(ours.map(|file| Item::of(ItemKind::Note, file)));
    }
    for (place, length) in [("seen/v1", 2), ("left-out/v1", 64)] {
        let notes = stored(directory, place, ItemKind::Note)?.into_iter().filter(|file| is_hex(&file.name, length));
        items.extend(notes.map(|file| Item::of(ItemKind::Note, file)));
    }
    Ok(items)
}

/// Returns the directories that may contain listings.
fn listings(directory: &Root) -> Result<Vec<String>> {
    let Some(listings) = existing(directory, "listings")? else { return Ok(Vec::new()) };
    let unreadable = |error| Error::file(listings.path(), "read", error);
    let mut places = vec!["listings".to_owned()];
    for entry in listings.dir().entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            places.extend(entry.file_name().to_str().map(|name| format!("listings/{name}")));
        }
    }
    Ok(places)
}
