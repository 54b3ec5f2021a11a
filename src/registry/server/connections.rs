//! The open connections of a server, so that it can end them.

use super::slots::Slots;
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    state: Mutex<State>,
    slots: Slots,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: bool,
    last: u64,
    open: BTreeMap<u64, (Arc<TcpStream>, ConnectionUse)>,
}

/// The use of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionUse {
    /// It waits for a request.
    Waiting,
    /// It has a request that is not answered yet.
    Responding,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection<'c> {
    all: &'c Connections,
    number: u64,
}

impl Connections {
    /// Allows `most` connections at a time.
    pub(super) fn new(most: usize) -> Self {
        Connections { state: Mutex::default(), slots: Slots::new(most) }
    }

    /// Waits until another connection is allowed. Each call needs an [`OpenConnection`] or [`Connections::give_back`].
    pub(super) fn wait_for_place(&self) {
        self.slots.take();
    }

    /// Gives back a place that no connection took.
    pub(super) fn give_back(&self) {
        self.slots.give_back();
    }

    /// Adds a connection, which takes the place that was waited for. Returns `None` if the server is stopping.
    pub(super) fn add(&self, socket: Arc<TcpStream>) -> Option<OpenConnection<'_>> {
        let mut state = self.state();
        if state.is_stopping {
            return None;
        }
        state.last += 1;
        let number = state.last;
        state.open.insert(number, (socket, ConnectionUse::Waiting));
        Some(OpenConnection { all: self, number })
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().is_stopping
    }

    /// Ends the connections that wait for a request, and allows no more.
    pub(super) fn begin_stop(&self) {
        let mut state = self.state();
        state.is_stopping = true;
        for (socket, activity) in state.open.values() {
            if *activity == ConnectionUse::Waiting {
                socket.shutdown(Shutdown::Both).ok();
            }
        }
    }

    /// Lets the other connections finish until `deadline`, and then ends them.
    pub(super) fn finish_stop(&self, deadline: Instant) {
        self.slots.all_free_before(deadline);
        for (socket, _) in self.state().open.values() {
            socket.shutdown(Shutdown::Both).ok();
        }
    }

    /// Waits until all connections have ended, but not beyond `deadline`.
    pub(super) fn wait_for_end(&self, deadline: Instant) {
        self.slots.all_free_before(deadline);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnection<'_> {
    /// Notes what the connection does now. Returns whether it may go on: a stopping server waits for no further request.
    pub(super) fn is(&self, activity: ConnectionUse) -> bool {
        let mut state = self.all.state();
        if let Some((_, known)) = state.open.get_mut(&self.number) {
            *known = activity;
        }
        !state.is_stopping || activity == ConnectionUse::Responding
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.all.state().open.remove(&self.number);
        self.all.give_back();
    }
}
