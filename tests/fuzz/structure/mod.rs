//! Inputs that are made, not mutated: the bytes of a target decide what an archive or document has, so that deep states are reached
//! which mutated bytes hardly pass a checksum for.

mod catalog;
mod document;
mod tar;
mod zip;

pub(super) use catalog::{catalog, files};
pub(super) use document::document;
pub(super) use tar::tar;
pub(super) use zip::zip;

/// Bytes as a row of decisions. At its end, all of them are the first choice, so that short inputs make small things.
pub(super) struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices { bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Returns a number below `limit`, which is at most 256.
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn choose<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Returns the usual value, or now and then one of `others`.
    fn mostly<T: Clone>(&mut self, usual: T, others: &[T]) -> T {
        if self.is_rare() { self.choose(others) } else { usual }
    }

    /// In one of 32 cases.
    fn is_rare(&mut self) -> bool {
        self.byte() >= 248
    }
}
