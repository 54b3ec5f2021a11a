//! Events that the library reports about its work. The library itself never prints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A receiver of events. It is called from many threads and must not block for long.
///
/// ```
/// use ocibuild::common::progress::{Event, Progress, warn};
/// use std::sync::Mutex;
///
/// #[derive(Default)]
/// struct Warnings(Mutex<Vec<String>>);
///
/// impl Progress for Warnings {
///     fn event(&self, event: Event<'_>) {
///         if let Event::Warning { object, reason } = event {
///             self.0.lock().unwrap().push(format!("{object}: {reason}"));
///         }
///     }
/// }
///
/// let warnings = Warnings::default();
/// warn(&warnings, "base image", "is old");
/// assert_eq!(*warnings.0.lock().unwrap(), ["base image: is old"]);
/// ```
pub trait Progress: Sync {
    /// Handles an event.
    fn event(&self, event: Event<'_>);
}

/// Shares one receiver among many activities.
impl<P: Progress + Send + ?Sized> Progress for Arc<P> {
    fn event(&self, event: Event<'_>) {
        (**self).event(event);
    }
}

/// An event in the course of the work.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An activity began.
    Started {
        /// The activity.
        activity: ActivityId,
        /// The name of the activity, for people: "layer 2 of 3: ./app to /app".
        name: &'a str,
        /// The number of bytes it will process, if that is known.
        bytes: Option<u64>,
    },
    /// An activity processed more bytes.
    Advanced {
        /// The activity.
        activity: ActivityId,
        /// The number of additional bytes.
        bytes: u64,
    },
    /// An activity succeeded. (The failure of an activity is reported as the error of the whole operation.)
    Finished {
        /// The activity.
        activity: ActivityId,
        /// The outcome, in a few words: "12.3 MiB, sha256:…".
        outcome: &'a str,
    },
    /// A possible problem that does not stop the work.
    Warning {
        /// The object of the warning.
        object: &'a str,
        /// The reason for the warning.
        reason: &'a str,
    },
}

/// An identifier that distinguishes concurrent activities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivityId(u64);

/// An activity in progress, with the receiver of its events.
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
    /// Reports the start of an activity over `bytes` bytes, if that is known.
    pub fn start(watcher: &'a dyn Progress, name: &str, bytes: Option<u64>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = ActivityId(NEXT.fetch_add(1, Ordering::Relaxed));
        watcher.event(Event::Started { activity: id, name, bytes });
        Activity { id, watcher }
    }

    /// Reports that `bytes` more bytes have been processed.
    pub fn advance(&self, bytes: u64) {
        self.watcher.event(Event::Advanced { activity: self.id, bytes });
    }

    /// Reports the end of the activity, with its outcome in a few words.
    pub fn finish(self, outcome: &str) {
        self.watcher.event(Event::Finished { activity: self.id, outcome });
    }
}

/// Reports a warning.
pub fn warn(watcher: &dyn Progress, object: &str, reason: &str) {
    watcher.event(Event::Warning { object, reason });
}

/// A receiver that ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
