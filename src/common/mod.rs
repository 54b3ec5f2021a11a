//! What every room needs: errors, digests, JSON, time and progress, and handles of directories and files.

pub mod bounded_read;
pub mod digest;
#[doc(hidden)]
pub mod directory_lock;
pub mod error;
#[doc(hidden)]
pub mod file_section;
#[doc(hidden)]
pub mod human_numbers;
pub mod json;
pub mod limits;
pub mod progress;
pub mod root;
#[doc(hidden)]
pub mod threads;
pub mod time;
#[doc(hidden)]
pub mod update_file;
