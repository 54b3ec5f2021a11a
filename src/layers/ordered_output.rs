//! Restores the order of items that threads finish out of order, without blocking a thread.

use crate::common::error::Result;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbered items, consumed in order.
///
/// The thread that finds the due item present consumes it, together with the items after it that have arrived.
#[derive(Debug)]
pub(super) struct Sequence<Item, State> {
    inner: Mutex<Inner<Item, State>>,
}

#[derive(Debug)]
struct Inner<Item, State> {
    due: usize,
    waiting: BTreeMap<usize, Item>,
    /// Absent while a thread consumes items.
    state: Option<State>,
}

impl<Item, State> Sequence<Item, State> {
    /// Creates a sequence whose items begin with number `first`.
    pub(super) fn new(first: usize, state: State) -> Self {
        Sequence { inner: Mutex::new(Inner { due: first, waiting: BTreeMap::new(), state: Some(state) }) }
    }

    /// Adds item `number`. The caller must call [`Sequence::consume`] afterwards.
    pub(super) fn put(&self, number: usize, item: Item) {
        self.lock().waiting.insert(number, item);
    }

    /// Calls `consume` for every item that is due, one at a time and in order. Returns at once if another thread is doing
    /// so.
    pub(super) fn consume(&self, consume: impl Fn(&mut State, Item) -> Result<()>) -> Result<()> {
        let mut inner = self.lock();
        // A thread that is consuming checks for new items again before it returns.
        let Some(mut state) = inner.state.take() else { return Ok(()) };
        let mut result = Ok(());
        loop {
            let due = inner.due;
            let next = inner.waiting.remove(&due);
            let Some(item) = next.filter(|_| result.is_ok()) else { break };
            drop(inner);
            result = consume(&mut state, item);
            inner = self.lock();
            inner.due += 1;
        }
        inner.state = Some(state);
        result
    }

    /// Returns the number that is due next, and the state after all consumed items.
    pub(super) fn finish(self) -> (usize, Option<State>) {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        (inner.due, inner.state)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<Item, State>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_delivered_in_order_from_any_thread() {
        let sequence = Sequence::new(0, Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sequence = &sequence;
                scope.spawn(move || {
                    for step in (0..1000).rev() {
                        let consume = |list: &mut Vec<usize>, item| {
                            list.push(item);
                            Ok(())
                        };
                        sequence.put(step * 4 + thread, step * 4 + thread);
                        sequence.consume(consume).unwrap();
                    }
                });
            }
        });
        let (count, list) = sequence.finish();
        assert_eq!(count, 4000);
        assert_eq!(list.unwrap(), (0..4000).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_is_the_consumers() {
        let sequence = Sequence::new(0, ());
        let refuse = |(): &mut (), _: u8| Err(crate::Error::invalid("x", "y"));
        sequence.put(1, 1);
        assert!(sequence.consume(refuse).is_ok());
        sequence.put(0, 0);
        assert!(sequence.consume(refuse).is_err());
    }
}
