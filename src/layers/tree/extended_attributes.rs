//! Extended attributes of source files.

use super::{ExtendedAttributes, Rules, Xattrs};
#[cfg(unix)]
use crate::common::error::Error;
use crate::common::error::Result;
use std::fs::File;

/// Returns whether extended attributes are kept. Other systems have none that an image could hold.
pub(super) fn keeps_xattrs(rules: &Rules) -> bool {
    cfg!(unix) && rules.xattrs == ExtendedAttributes::Keep
}

/// Returns the extended attributes of `file`, sorted by name.
///
/// # Errors
/// Returns an error if they cannot be read.
#[cfg(unix)]
pub(super) fn xattrs(file: &File, object: &str) -> Result<Option<Box<Xattrs>>> {
    use rustix::fs::{fgetxattr, flistxattr};
    let failed = |error: rustix::io::Errno| Error::io(object, "read extended attributes", error.into());
    let mut names = vec![0; LARGEST_XATTR];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        // The label belongs to the security policy of the host, not to the file.
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; LARGEST_XATTR];
        let length = fgetxattr(file, name, &mut value[..]).map_err(failed)?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(if found.is_empty() { None } else { Some(found.into()) })
}

#[cfg(not(unix))]
pub(super) fn xattrs(_: &File, _: &str) -> Result<Option<Box<Xattrs>>> {
    Ok(None)
}

/// The limit of Linux for a list of names and for a value, in bytes (XATTR_SIZE_MAX).
#[cfg(unix)]
const LARGEST_XATTR: usize = 64 << 10;
