//! Options for writing a layout: its lock, and reading back.

use clap::{Args, ValueEnum};
use ocibuild::common::root::WriteCheck;
use ocibuild::store::layout::LayoutLocking;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct LayoutLockArguments {
    /// Set how long to wait for another process that has locked the layout
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Output")]
    lock_timeout: u64,
    /// Set how to lock the layout against other ocibuild processes
    #[arg(long, value_name = "KIND", default_value = "file", help_heading = "Output")]
    layout_lock: LayoutLock,
}

/// The option to read back what was written.
#[derive(Debug, Args)]
pub(super) struct WriteCheckArguments {
    /// Read layouts and archives back from the disk, past the memory of the system, and compare them with what was written
    #[arg(long, help_heading = "Output")]
    verify_writes: bool,
}

impl WriteCheckArguments {
    pub(super) fn check(&self) -> WriteCheck {
        if self.verify_writes { WriteCheck::ReadBack } else { WriteCheck::Synced }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutLock {
    /// Lock the file .ocibuild.lock in the layout
    File,
    /// No lock, for file systems without locks; concurrent writers can lose tags
    None,
}

impl LayoutLockArguments {
    pub(super) fn locking(&self) -> LayoutLocking {
        match self.layout_lock {
            LayoutLock::File => LayoutLocking::WaitFor(Duration::from_secs(self.lock_timeout)),
            LayoutLock::None => LayoutLocking::Off,
        }
    }
}
