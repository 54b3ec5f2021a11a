//! What the library tells whoever is watching. It never prints: it reports events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A watcher of the work. Called from many threads; must not block for long.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// One watcher of many pieces of work.
impl<P: Progress + Send + ?Sized> Progress for Arc<P> {
    fn event(&self, event: Event<'_>) {
        (**self).event(event);
    }
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A piece of work began.
    Started {
        /// Which one.
        activity: ActivityId,
        /// What a person calls it: "layer 2 of 3: ./app to /app".
        name: &'a str,
        /// How many bytes it will handle, where that is known.
        bytes: Option<u64>,
    },
    /// A piece of work handled more bytes.
    Advanced {
        /// Which one.
        activity: ActivityId,
        /// How many more.
        bytes: u64,
    },
    /// A piece of work ended well. (One that fails ends with the error of the whole.)
    Finished {
        /// Which one.
        activity: ActivityId,
        /// What came of it, in a few words: "12.3 MiB, sha256:…".
        outcome: &'a str,
    },
    /// Something looks wrong but does not stop the work.
    Warning {
        /// What it is about.
        object: &'a str,
        /// What is wrong.
        reason: &'a str,
    },
}

/// Tells concurrent activities apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivityId(u64);

/// A piece of work under way, and the one who is told about it.
#[derive(Clone, Copy)]
pub struct Activity<'a> {
    id: ActivityId,
    watcher: &'a dyn Progress,
}

impl std::fmt::Debug for Activity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Activity").field(&self.id).finish()
    }
}

impl<'a> Activity<'a> {
    /// Announces a piece of work of `bytes` bytes, where that is known.
    pub fn start(watcher: &'a dyn Progress, name: &str, bytes: Option<u64>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = ActivityId(NEXT.fetch_add(1, Ordering::Relaxed));
        watcher.event(Event::Started { activity: id, name, bytes });
        Activity { id, watcher }
    }

    /// Reports that `bytes` more bytes are done.
    pub fn advance(&self, bytes: u64) {
        self.watcher.event(Event::Advanced { activity: self.id, bytes });
    }

    /// Reports the end, and in a few words what came of it.
    pub fn finish(self, outcome: &str) {
        self.watcher.event(Event::Finished { activity: self.id, outcome });
    }
}

/// Reports a warning.
pub fn warn(watcher: &dyn Progress, object: &str, reason: &str) {
    watcher.event(Event::Warning { object, reason });
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
