//! Values by paths, without keeping the paths: 32 bytes for each of a million files.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Values by the hashes of paths. The keys of the hash are random, so that no image can be made whose paths collide.
#[derive(Debug)]
pub(super) struct PathMap<T> {
    keys: (u64, u64),
    values: HashMap<u128, T>,
}

impl<T> Default for PathMap<T> {
    fn default() -> Self {
        let random = || RandomState::new().hash_one(0);
        PathMap { keys: (random(), random()), values: HashMap::new() }
    }
}

impl<T> PathMap<T> {
    pub(super) fn insert(&mut self, path: &[u8], value: T) {
        self.values.insert(self.hash(path), value);
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&T> {
        self.values.get(&self.hash(path))
    }

    pub(super) fn get_mut(&mut self, path: &[u8]) -> Option<&mut T> {
        self.values.get_mut(&self.hash(path))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    #[cfg(target_os = "linux")]
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.values()
    }

    fn hash(&self, path: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(path);
        hasher.finish128().as_u128()
    }
}
