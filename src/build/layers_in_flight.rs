//! The layers that builds beside each other are making, so that each layer is made once.

use crate::cache::LayerKey;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// The layers that the builds of one process are making.
#[derive(Debug, Default)]
pub struct LayersInFlight {
    keys: Mutex<BTreeSet<LayerKey>>,
    changed: Condvar,
}

/// Layers that one build is making. Others wait for them until this is dropped.
#[derive(Debug)]
pub(super) struct Claimed<'f> {
    keys: BTreeSet<LayerKey>,
    of: &'f LayersInFlight,
}

impl LayersInFlight {
    /// Claims the layers with these keys, all at once. If another build is making one of them, waits until it has ended and returns
    /// `None`: the layers may be in the cache now. A build that waits has claimed nothing, so none waits for another in a circle.
    pub(super) fn claim(&self, keys: BTreeSet<LayerKey>) -> Option<Claimed<'_>> {
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_disjoint(&keys) {
            known.extend(&keys);
            return Some(Claimed { keys, of: self });
        }
        while !known.is_disjoint(&keys) {
            known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        let mut known = self.of.keys.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key| !self.keys.contains(key));
        self.of.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::LayersInFlight;
    use crate::cache::{LayerKey, RecipeKey};
    use crate::codec::compression::Compression;
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    #[test]
    fn a_build_that_panics_releases_its_layers() {
        let in_flight = LayersInFlight::default();
        let keys = |names: &[&str]| -> BTreeSet<LayerKey> {
            let key =
                |name: &&str| LayerKey::of_recipe(&RecipeKey::new(&[name.as_bytes()], ""), Compression::None.into());
            names.iter().map(key).collect()
        };
        let (claimed, is_claimed) = mpsc::channel();
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let _claimed = in_flight.claim(keys(&["one", "two"]));
                claimed.send(()).unwrap();
                panic!("a mistake in a build");
            });
            is_claimed.recv().unwrap();
            // Released before or while this waits.
            in_flight.claim(keys(&["two", "three"]));
            assert!(panics.join().is_err());
        });
        assert!(in_flight.claim(keys(&["one", "two", "three"])).is_some());
    }
}
