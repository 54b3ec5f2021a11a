//! Looking at the contents of files while a layer is written.

use crate::layers::tree::Entry;
use std::fmt;

/// A function that is called with the number, the entry and the content of each file that is in one block, while the content is
/// in memory, on any thread and in any order.
#[derive(Clone, Copy)]
pub struct ContentVisitor<'a>(pub &'a (dyn Fn(usize, &Entry, &[u8]) + Sync));

impl fmt::Debug for ContentVisitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentVisitor").finish_non_exhaustive()
    }
}
