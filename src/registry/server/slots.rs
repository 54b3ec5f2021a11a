//! A limited number of places.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A number of places, each taken by one activity at a time.
#[derive(Debug)]
pub(super) struct Slots {
    free: Mutex<usize>,
    was_freed: Condvar,
    all: usize,
}

/// A taken place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot<'s>(&'s Slots);

impl Slots {
    pub(super) fn new(all: usize) -> Self {
        Slots { free: Mutex::new(all), was_freed: Condvar::new(), all }
    }

    /// Waits for a place.
    pub(super) fn wait(&self) -> Slot<'_> {
        self.take();
        Slot(self)
    }

    /// Waits for a place, which [`Slots::give_back`] frees.
    pub(super) fn take(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.was_freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
    }

    pub(super) fn give_back(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.was_freed.notify_all();
    }

    /// Waits until all places are free, and returns whether they are before `deadline`.
    pub(super) fn all_free_before(&self, deadline: Instant) -> bool {
        let left = deadline.checked_duration_since(Instant::now()).unwrap_or(Duration::ZERO);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.was_freed.wait_timeout_while(free, left, |free| *free < self.all);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
