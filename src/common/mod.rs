//! What every room needs: errors, digests, JSON, time and progress, and handles of directories and files.

pub mod bounded_read;
pub mod digest;
pub mod directory_lock;
pub mod error;
pub mod file_section;
pub mod human_numbers;
pub mod json;
pub mod progress;
pub mod root;
pub mod threads;
pub mod time;
pub mod update_file;
