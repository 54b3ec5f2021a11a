//! The two streams: results on standard output, everything else on standard error.

use ocibuild::{Error, Result};
use std::io::{self, Write};

/// Prints a result. A reader that has gone away has seen enough: that is no error.
///
/// # Errors
/// When standard output cannot be written for another reason, such as a full disk.
pub(super) fn print(text: &str) -> Result<()> {
    // In one piece, so that a full disk does not leave a line without its end.
    let line = format!("{text}\n");
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", error)),
        _ => Ok(()),
    }
}

/// Says something to the person. If nobody can hear it, there is nobody to tell that either.
pub(super) fn complain(text: &str) {
    let mut stderr = io::stderr().lock();
    stderr.write_all(format!("{text}\n").as_bytes()).ok();
}
