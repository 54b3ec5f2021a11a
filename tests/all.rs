//! Every test of the whole program, in one binary.
//!
//! * `house`: the plan of the house, held against the sources.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and prepares files as a stranger would"
)]

mod house;
