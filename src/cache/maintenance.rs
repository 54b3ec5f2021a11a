//! Looking after the cache: what it takes, and making it smaller.

use super::record::Record;
use super::{Cache, blocks};
use crate::digest::Digest;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a cache takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheUsage {
    /// How many keys are known.
    pub records: usize,
    /// How many blobs there are.
    pub blobs: usize,
    /// How many bytes those take, and what is kept of their blocks.
    pub bytes: u64,
}

/// What was taken out of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Blobs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Pruned {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Pruned) -> Pruned {
        let Pruned { blobs, bytes } = other;
        Pruned { blobs: self.blobs + blobs, bytes: self.bytes + bytes }
    }
}

/// One blob of the cache, and the files that lead to it.
struct Kept {
    used: SystemTime,
    /// With its lists of blocks.
    size: u64,
    records: Vec<String>,
    lists: Vec<String>,
}

impl Cache {
    /// What the cache takes now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn usage(&self) -> Result<CacheUsage> {
        let blobs = self.blobs()?;
        let records = blobs.values().map(|kept| kept.records.len()).sum();
        Ok(CacheUsage { records, blobs: blobs.len(), bytes: blobs.values().map(|kept| kept.size).sum() })
    }

    /// Takes out the layers that have not been used for longest, until the rest takes at most `bytes`.
    ///
    /// # Errors
    /// When the cache cannot be read, or something cannot be removed.
    pub fn prune_to_size(&self, bytes: u64) -> Result<Pruned> {
        let mut blobs: Vec<(Digest, Kept)> = self.blobs()?.into_iter().collect();
        blobs.sort_by_key(|(digest, kept)| (kept.used, *digest));
        let mut left: u64 = blobs.iter().map(|(_, kept)| kept.size).sum();
        let mut pruned = Pruned::default();
        for (digest, kept) in blobs {
            if left <= bytes {
                break;
            }
            left -= kept.size;
            self.remove(&digest, &kept, &mut pruned)?;
        }
        Ok(pruned)
    }

    /// Takes out the layers that have not been used for longer than `age`.
    ///
    /// # Errors
    /// When the cache cannot be read, or something cannot be removed.
    pub fn prune_by_age(&self, age: Duration) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for (digest, kept) in self.blobs()? {
            if self.now.duration_since(kept.used).is_ok_and(|unused| unused > age) {
                self.remove(&digest, &kept, &mut pruned)?;
            }
        }
        Ok(pruned)
    }

    fn remove(&self, digest: &Digest, kept: &Kept, pruned: &mut Pruned) -> Result<()> {
        // Records first: one without its blob is only a miss, a blob without records only takes room.
        for record in &kept.records {
            remove_file(&self.layers, record)?;
        }
        for list in &kept.lists {
            remove_file(&self.blocks, list)?;
        }
        remove_file(&self.store.root().directory("blobs")?.directory(digest.algorithm().name())?, &digest.hex())?;
        pruned.blobs += 1;
        pruned.bytes += kept.size;
        Ok(())
    }

    /// Every blob, and what leads to it. What leads nowhere is removed on the way.
    fn blobs(&self) -> Result<BTreeMap<Digest, Kept>> {
        let mut blobs = BTreeMap::new();
        let (digests, _) = self.store.blobs()?;
        for digest in digests {
            let directory = self.store.root().directory("blobs")?.directory(digest.algorithm().name())?;
            let Ok(metadata) = directory.dir().symlink_metadata(digest.hex()) else { continue };
            let used = metadata.modified().map_or(UNIX_EPOCH, cap_std::time::SystemTime::into_std);
            blobs.insert(digest, Kept { used, size: metadata.len(), records: Vec::new(), lists: Vec::new() });
        }
        let unreadable = |error| Error::io(self.layers.path().display(), "read", error);
        let mut useless = BTreeSet::new();
        for entry in self.layers.dir().entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let record = Record::read_named(&self.layers, &name);
            match record.and_then(|record| blobs.get_mut(&record.layer.descriptor.digest)) {
                Some(kept) => {
                    let used = entry.metadata().and_then(|metadata| metadata.modified());
                    kept.used = kept.used.max(used.map_or(UNIX_EPOCH, cap_std::time::SystemTime::into_std));
                    kept.records.push(name);
                }
                None if name.len() == 64 => drop(useless.insert(name)),
                None => {}
            }
        }
        for name in useless {
            remove_file(&self.layers, &name)?;
        }
        self.add_lists(&mut blobs)?;
        Ok(blobs)
    }

    fn add_lists(&self, blobs: &mut BTreeMap<Digest, Kept>) -> Result<()> {
        let unreadable = |error| Error::io(self.blocks.path().display(), "read", error);
        let (mut lists, mut others) = (BTreeSet::new(), Vec::new());
        for entry in self.blocks.dir().entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            match blocks::subject(&self.blocks, &name).and_then(|digest| blobs.get_mut(&digest)) {
                Some(kept) => {
                    let used = metadata.modified().map_or(UNIX_EPOCH, cap_std::time::SystemTime::into_std);
                    kept.used = kept.used.max(used);
                    kept.size += metadata.len();
                    kept.lists.push(name.clone());
                    lists.insert(name);
                }
                None => others.push(name),
            }
        }
        for name in others {
            let is_useless = match name.strip_suffix(blocks::LATEST) {
                Some(_) => !blocks::latest(&self.blocks, &name).is_some_and(|list| lists.contains(&list)),
                None => name.len() == 64,
            };
            if is_useless {
                remove_file(&self.blocks, &name)?;
            }
        }
        Ok(())
    }
}

fn remove_file(root: &crate::root::Root, name: &str) -> Result<()> {
    match root.dir().remove_file(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(root.display(name), "remove", error))
        }
        _ => Ok(()),
    }
}
