//! The tests of the whole tool, as modules of one binary: it links once, and its modules share `support`.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests lay out and damage files by path, as users do")]

/// Scratch directories, and running programs.
mod support;

/// The programs that read images in real life, each behind a few plain functions.
#[cfg(target_os = "linux")]
mod consumers;

/// Base images, made by other tools than ours.
#[cfg(target_os = "linux")]
mod bases;

/// One image through every consumer.
#[cfg(target_os = "linux")]
mod acceptance;

/// One tar, listed by four readers.
#[cfg(target_os = "linux")]
mod listers;

/// The distribution client.
mod registry;
