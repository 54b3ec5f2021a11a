//! How a command waits for others that write to the same layout.

use clap::{Args, ValueEnum};
use ocibuild::store::layout::LayoutLocking;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct LayoutLockArguments {
    /// How many seconds to wait for another process that holds the layout locked
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Output")]
    lock_timeout: u64,
    /// How to keep out other ocibuild processes that write to the layout
    #[arg(long, value_name = "KIND", default_value = "file", help_heading = "Output")]
    layout_lock: LayoutLock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutLock {
    /// Lock the file .ocibuild.lock in the layout
    File,
    /// Lock nothing, for a file system without locks: of two writers at once, one loses its tags
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
