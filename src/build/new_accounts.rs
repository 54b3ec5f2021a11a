//! Users and groups to be added, and their spelling.

use crate::common::error::{Error, Result};
use crate::spec::ImagePath;
use std::str::FromStr;

/// The longest name of a user or group (useradd(8)).
const LONGEST_NAME: usize = 32;

/// A user to be added: `NAME:UID[:GID[:HOME]]`.
///
/// Without a GID, the user gets a group of the same name and number. The home is made if the layers below do not have it; without one
/// it is `/home/NAME`.
///
/// ```
/// use ocibuild::build::NewUser;
///
/// let user: NewUser = "app:65532:65532:/srv/app".parse()?;
/// assert_eq!(user.name(), "app");
/// assert!("root:x".parse::<NewUser>().is_err());
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: Option<u32>,
    pub(super) home: ImagePath,
}

/// A group to be added: `NAME:GID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    pub(super) name: String,
    pub(super) gid: u32,
}

impl NewUser {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl NewGroup {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for NewUser {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || Error::usage(format!("`{text}`"), "not of the form NAME:UID[:GID[:HOME]]");
        let mut fields = text.splitn(4, ':');
        let name = name_of(fields.next().unwrap_or_default())?;
        let uid = number(fields.next().ok_or_else(malformed)?)?;
        let gid = fields.next().map(number).transpose()?;
        let home = fields.next().map_or_else(|| format!("/home/{name}"), str::to_owned);
        let is_writable = home.starts_with('/') && !home.chars().any(|c| c == ':' || c.is_control());
        if !is_writable {
            return Err(Error::usage(format!("home `{home}`"), "not an absolute path without colons"));
        }
        let home = ImagePath::new(home.as_bytes()).map_err(|error| Error::usage(error.object(), error.reason()))?;
        Ok(NewUser { name, uid, gid, home })
    }
}

impl FromStr for NewGroup {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || Error::usage(format!("`{text}`"), "not of the form NAME:GID");
        let (name, gid) = text.split_once(':').ok_or_else(malformed)?;
        Ok(NewGroup { name: name_of(name)?, gid: number(gid)? })
    }
}

fn name_of(text: &str) -> Result<String> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_rest = |c: char| is_first(c) || c.is_ascii_digit() || matches!(c, '-' | '.');
    if text.starts_with(is_first) && text.chars().all(is_rest) && text.len() <= LONGEST_NAME {
        return Ok(text.to_owned());
    }
    let reason = format!("not a letter followed by letters, digits, `_`, `-` and `.`, or longer than {LONGEST_NAME}");
    Err(Error::usage(format!("name `{text}`"), reason))
}

/// Reads the number of a user or group; 2^32 - 1 means "none" to Linux.
fn number(text: &str) -> Result<u32> {
    let number = text.parse().ok().filter(|number| *number != u32::MAX);
    number.ok_or_else(|| Error::usage(format!("ID `{text}`"), "not a number below 4294967295"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_user_or_group_is_refused() {
        for bad in
            ["app", "app:", "app:-1", "app:4294967295", ":1", "1000:1", "a b:1", "app:1:x", "app:1:1:srv", "a:1:1:/a:b"]
        {
            assert!(bad.parse::<NewUser>().is_err(), "{bad}");
        }
        for bad in ["staff", "staff:x", "staff:1:2", "-:1", &format!("{}:1", "a".repeat(33))] {
            assert!(bad.parse::<NewGroup>().is_err(), "{bad}");
        }
        assert!("_app-1.x:1".parse::<NewGroup>().is_ok());
    }
}
