//! What every test needs: a place to work, a program to run, and a consumer or a loud word that it is missing.

mod command;
mod presence;
mod scratch;

pub(crate) use command::{Finished, command, run, run_within};
pub(crate) use presence::{consumer, consumer_as_root, python_with};
pub(crate) use scratch::{Scratch, session};
