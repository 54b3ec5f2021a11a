//! The tests of the whole tool, one binary.

mod rcc;
mod support;
