#![doc = "Draft."]
pub mod bounded;
pub mod digest;
pub mod error;
pub mod json;
pub mod progress;
pub mod reference;
pub mod root;
pub mod store;
pub mod tar;
pub mod time;
pub use digest::{DiffId, Digest};
pub use error::{Error, ErrorKind, Result};
pub use reference::{Location, Reference, Tag};
pub use time::Timestamp;
