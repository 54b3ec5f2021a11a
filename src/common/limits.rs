//! The limits of what is read that people may change, for this process.
//!
//! Other limits are constants beside the code that reads: no work of a person exceeds them. docs/design/memory.md lists all.

use super::error::{Error, Result};
use super::human_numbers;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has a limit that people may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The size of a manifest, an index or a config, in bytes. From registries, documents of half this size are read.
    DocumentSize,
    /// The number of layers of an image.
    Layers,
    /// The number of manifests that an index lists.
    Manifests,
    /// The number of entries of a layer, of a recorded environment, or of a zip.
    Entries,
    /// The size of the list of files of a recorded environment, or of a zip, in bytes.
    CatalogSize,
    /// The size of a YAML file, in bytes.
    YamlSize,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitUnit {
    /// Bytes.
    Bytes,
    /// Things, at most a billion: they are numbered with 32 bits.
    Number,
}

/// The values of all limits, in the order of [`Limit::ALL`].
static VALUES: [AtomicU64; Limit::ALL.len()] = [
    AtomicU64::new(8 << 20),
    AtomicU64::new(500),
    AtomicU64::new(10_000),
    AtomicU64::new(10_000_000),
    AtomicU64::new(1 << 30),
    AtomicU64::new(1 << 20),
];

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 6] =
        [Limit::DocumentSize, Limit::Layers, Limit::Manifests, Limit::Entries, Limit::CatalogSize, Limit::YamlSize];

    /// Returns the name of the environment variable by which the program takes the limit.
    pub fn variable(self) -> &'static str {
        match self {
            Limit::DocumentSize => "OCIBUILD_MAX_DOCUMENT_SIZE",
            Limit::Layers => "OCIBUILD_MAX_LAYERS",
            Limit::Manifests => "OCIBUILD_MAX_MANIFESTS",
            Limit::Entries => "OCIBUILD_MAX_ENTRIES",
            Limit::CatalogSize => "OCIBUILD_MAX_CATALOG_SIZE",
            Limit::YamlSize => "OCIBUILD_MAX_YAML_SIZE",
        }
    }

    /// Returns what the limit counts.
    pub fn unit(self) -> LimitUnit {
        match self {
            Limit::DocumentSize | Limit::CatalogSize | Limit::YamlSize => LimitUnit::Bytes,
            Limit::Layers | Limit::Manifests | Limit::Entries => LimitUnit::Number,
        }
    }

    /// Returns its value in this process.
    pub fn value(self) -> u64 {
        VALUES[self as usize].load(Ordering::Relaxed)
    }

    /// Sets it for this process. A program does so once, before it reads anything.
    ///
    /// # Errors
    /// Fails if it is 0, more than a billion, or more than 1 TiB.
    pub fn set(self, value: u64) -> Result<()> {
        let (highest, shown) = match self.unit() {
            LimitUnit::Bytes => (1 << 40, "1 TiB"),
            LimitUnit::Number => (1_000_000_000, "1,000,000,000"),
        };
        if value == 0 || value > highest {
            return Err(Error::usage(format!("{}={value}", self.variable()), format!("not from 1 to {shown}")));
        }
        VALUES[self as usize].store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses `object` if it has more than the limit; `what` names one of them: "layer".
    pub(crate) fn check(self, number: usize, object: &str, what: &str) -> Result<()> {
        if number as u64 <= self.value() {
            return Ok(());
        }
        let reason = format!("{}, more than {}", human_numbers::counted(number, what), self.value());
        Err(Error::invalid(object, reason).hint(self.advice()))
    }

    /// Refuses `object` if it has more than the limit so far, and perhaps more are to come; `what` names one of them: "entry".
    pub(crate) fn check_so_far(self, number: usize, object: &str, what: &str) -> Result<()> {
        if number as u64 <= self.value() {
            return Ok(());
        }
        let most = human_numbers::counted(usize::try_from(self.value()).unwrap_or(usize::MAX), what);
        Err(Error::invalid(object, format!("more than {most}")).hint(self.advice()))
    }

    /// Returns the bound of `bytes`, which is this limit, or one that a caller of the library has set instead.
    pub(crate) fn bound_of(self, bytes: u64) -> MostBytes {
        if bytes == self.value() { self.into() } else { bytes.into() }
    }

    /// Returns the advice for those who need more.
    pub(crate) fn advice(self) -> String {
        format!("{} sets the limit", self.variable())
    }
}

/// The most bytes that are read.
#[derive(Debug, Clone, Copy)]
pub struct MostBytes {
    pub(crate) bytes: u64,
    limit: Option<Limit>,
}

impl From<u64> for MostBytes {
    fn from(bytes: u64) -> MostBytes {
        MostBytes { bytes, limit: None }
    }
}

impl From<Limit> for MostBytes {
    fn from(limit: Limit) -> MostBytes {
        MostBytes { bytes: limit.value(), limit: Some(limit) }
    }
}

impl MostBytes {
    /// Returns the bound of half as many bytes.
    pub(crate) fn half(self) -> MostBytes {
        MostBytes { bytes: self.bytes / 2, ..self }
    }

    /// Returns the error of `object`, which is larger.
    pub(crate) fn exceeded(self, object: &str) -> Error {
        let error = Error::invalid(object, format!("larger than {}", human_numbers::size(self.bytes)));
        match self.limit {
            Some(limit) => error.hint(limit.advice()),
            None => error,
        }
    }

    /// Refuses `object`, of `size` bytes, if it is larger.
    pub(crate) fn check(self, size: u64, object: &str) -> Result<()> {
        if size > self.bytes { Err(self.exceeded(object)) } else { Ok(()) }
    }
}
