//! The memory that the program takes for itself.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The most memory of its own that the program had while it ran, in bytes. Its text does not count: that is as large as the
/// compiler made it, and can be read again.
pub(crate) fn most_own_memory(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    let status = loop {
        most = most.max(memory(&child));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{command:?}: {status}");
    most
}

fn memory(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"));
    own.map_or(0, |kibibytes| kibibytes.trim().parse::<u64>().unwrap() << 10)
}
