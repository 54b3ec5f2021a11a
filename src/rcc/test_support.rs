//! Helpers that the unit tests of this module share.

use crate::common::progress::{Event, Progress};
use std::sync::Mutex;

/// Records warnings.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    pub(super) fn warnings(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Recorder {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { object, reason } = event {
            self.0.lock().unwrap().push(format!("{object}: {reason}"));
        }
    }
}
