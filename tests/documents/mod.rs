//! The documents, checked against the program and the checkout.
//!
//! * `page`: reads a document and its blocks of commands.
//! * `commands`: every command works.
//! * `languages`: what the page about languages is given.
//! * `references`: links resolve; files and flags that a document names exist, and every flag is documented.
//! * `members`: `docs/json.md` describes every member of the JSON output.
//! * `words`: documents are written in plain words.

mod commands;
mod languages;
mod members;
mod page;
mod references;
mod words;

pub(crate) use members::undescribed;
pub(crate) use page::Page;
pub(crate) use words::hunted_word;
