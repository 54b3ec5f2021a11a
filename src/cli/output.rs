//! The two streams: results on standard output, everything else on standard error.

use ocibuild::common::root::Destination;
use ocibuild::{Error, Result};
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// Prints a result.
///
/// # Errors
/// The same as [`write_stdout`].
pub(super) fn print(text: &str) -> Result<()> {
    // In one piece, so that a full disk does not leave a line without its end.
    let line = format!("{text}\n");
    write_stdout(|out| out.write_all(line.as_bytes()))
}

/// Lets `write` write a result to standard output. A reader that has gone away has seen enough: that is no error.
///
/// # Errors
/// Fails if standard output cannot be written for another reason, such as a full disk. An error of this program that `write`
/// returns is returned unchanged.
pub(super) fn write_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let written = write(&mut out).and_then(|()| out.flush());
    // What could not be written must not be written again when the buffer is dropped.
    drop(out.into_parts());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", error)),
        _ => Ok(()),
    }
}

/// Opens what takes bytes as they come; nothing for a regular file.
///
/// # Errors
/// Fails if it cannot be opened.
pub(super) fn open_stream(destination: &Destination) -> Result<Option<File>> {
    #[cfg(unix)]
    if let Destination::Descriptor(number @ (1 | 2), path) = destination {
        use std::os::fd::AsFd;
        // Opened by their paths, they would have positions of their own, and what is printed would go over what is written.
        let own = match number {
            1 => io::stdout().as_fd().try_clone_to_owned(),
            _ => io::stderr().as_fd().try_clone_to_owned(),
        };
        return own.map(|own| Some(own.into())).map_err(|error| Error::io(path.display(), "open", error));
    }
    match destination {
        Destination::File(..) => Ok(None),
        Destination::Descriptor(_, path) | Destination::Stream(path) => Destination::open_stream(path).map(Some),
    }
}

/// Writes a short result: to a file in one step, and to a stream as a line.
///
/// # Errors
/// Fails if it cannot be written.
pub(super) fn write_result(destination: &Destination, text: &str) -> Result<()> {
    match (destination, open_stream(destination)?) {
        (Destination::File(root, name), _) => root.replace_file(name, text.as_bytes()),
        (Destination::Descriptor(_, path) | Destination::Stream(path), Some(mut stream)) => {
            stream.write_all(format!("{text}\n").as_bytes()).map_err(|error| Error::io(path.display(), "write", error))
        }
        (_, None) => Ok(()),
    }
}

/// Prints a line to standard error. Errors are ignored, since there is no other place to report them.
pub(super) fn complain(text: &str) {
    let mut stderr = io::stderr().lock();
    stderr.write_all(format!("{text}\n").as_bytes()).ok();
}
