//! Every test of the whole program, in one binary.
//!
//! * `house`: the plan of the house, held against the sources.
#![expect(clippy::disallowed_methods, reason = "tests prepare and damage files as a stranger would")]

mod house;
