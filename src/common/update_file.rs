//! Files that several processes read, change and replace.

use crate::common::bounded_read;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

/// The number of retries if a program that does not take our lock changes the file concurrently.
const RETRIES: usize = 20;

/// The users that may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The users that the umask allows.
    Usual,
    /// Only its owner, at any moment. A directory that is created for it is also closed to others.
    Owner,
}

/// Replaces the file at `path` by the result of `change`.
///
/// `change` gets the content of the file, or `None` if there is no file yet. The file is locked, read, changed and
/// replaced in one step, so no change of another process is lost. If it is a link, the file that it leads to is replaced.
///
/// `change` runs while others wait, so it must not use the network, and it may be called again.
///
/// # Errors
/// Returns an error if `change` does, the file is larger than `largest` bytes, or it cannot be locked, read or written.
/// The file is unchanged then.
pub fn update(
    path: &Path,
    largest: u64,
    readers: Readers,
    mut change: impl FnMut(Option<Vec<u8>>) -> Result<Vec<u8>>,
) -> Result<()> {
    let real = Root::resolve(path).unwrap_or_else(|_| path.to_owned());
    let (root, name) = Root::of_file(&real, |directory| match readers {
        Readers::Usual => Root::open(directory),
        Readers::Owner => Root::create_for_owner(directory),
    })?;
    let _lock = DirectoryLock::of(&root)?;
    root.sweep_temporaries();
    for _ in 0..RETRIES {
        let before = read(&root, &name, largest)?;
        let after = change(before.clone())?;
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        let mut temporary = match readers {
            Readers::Usual => root.temporary()?,
            Readers::Owner => root.temporary_for_owner()?,
        };
        temporary.write_all(&after).map_err(|error| Error::io(path.display(), "write", error))?;
        temporary.sync()?;
        if read(&root, &name, largest)? == before {
            temporary.persist(&name)?;
            return root.sync();
        }
    }
    Err(Error::new(ErrorKind::Changed, path.display().to_string(), "repeatedly changed by another program"))
}

fn read(root: &Root, name: &OsStr, largest: u64) -> Result<Option<Vec<u8>>> {
    match root.open_file(name) {
        Ok(file) => bounded_read::read(file, largest, &root.display(name)).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
