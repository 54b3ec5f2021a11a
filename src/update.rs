//! Files that several processes read, change and replace.

use crate::bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::DirectoryLock;
use crate::root::Root;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

/// How often a program that does not take our lock may change the file meanwhile.
const RETRIES: usize = 20;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// As the umask says.
    Usual,
    /// Its owner alone, at any moment; a directory that is made for it is closed to others, too.
    Owner,
}

/// Replaces the file at `path` with what `change` makes of its content, of which there is none where there is no file yet. The
/// file is locked, read, changed and replaced in one step, so no change of another process is lost. A link stays one: what it
/// leads to is replaced.
///
/// `change` runs while others wait, so it must not ask a network, and may be called again.
///
/// # Errors
/// When `change` refuses, the file is larger than `largest` bytes, or it cannot be locked, read or written. It is then as it was.
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
    Err(Error::new(ErrorKind::Changed, path.display().to_string(), "another program keeps changing it"))
}

fn read(root: &Root, name: &OsStr, largest: u64) -> Result<Option<Vec<u8>>> {
    match root.open_file(name) {
        Ok(file) => bounded::read(file, largest, &root.display(name)).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
