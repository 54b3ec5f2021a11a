//! What every room needs: errors, digests, JSON, time and progress, and handles of directories and files.

pub mod bounded;
pub mod digest;
pub mod error;
pub mod json;
pub mod lock;
pub mod progress;
pub mod root;
pub mod section;
pub mod threads;
pub mod time;
pub mod update;
pub mod wording;
