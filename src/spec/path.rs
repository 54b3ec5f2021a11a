//! Paths inside an image.

use crate::common::error::{Error, Result};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The longest path, in bytes (PATH_MAX of Linux).
const LONGEST: usize = 4096;
/// The longest component, in bytes (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// A path from the root of an image, as bytes.
///
/// The path is relative, without `.`, `..`, empty components or a slash at either end. The root itself is the empty path.
///
/// Clones and parents share the bytes, because a layer has many directories and links that are named after its files.
#[derive(Clone)]
pub struct ImagePath {
    bytes: Arc<[u8]>,
    /// The number of bytes that belong to this path; the rest belong to an entry below it.
    length: u16,
}

impl ImagePath {
    /// Returns the root of the image.
    pub fn root() -> Self {
        ImagePath { bytes: Arc::default(), length: 0 }
    }

    /// Parses a path that a person wrote, such as `/usr/./local/`.
    ///
    /// # Errors
    /// Returns an error if the path leaves the root, is too long, or contains a NUL byte.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut path = Vec::with_capacity(bytes.len());
        for component in bytes.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(unsafe_path(bytes, "`..` points outside the image")),
                component => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                }
            }
        }
        ImagePath::checked(&path)
    }

    /// Creates a path from the slash-separated names of a path that was already checked.
    pub(crate) fn of_names(path: Vec<u8>) -> Self {
        let length = path.len() as u16;
        ImagePath { bytes: path.into(), length }
    }

    fn checked(path: &[u8]) -> Result<Self> {
        check(path)?;
        // Not longer than `LONGEST`.
        Ok(ImagePath { bytes: path.into(), length: path.len() as u16 })
    }

    /// Returns the path of the entry `name` in this directory.
    ///
    /// # Errors
    /// Returns an error if `name` is not a single name, or if the path becomes too long.
    pub fn join_name(&self, name: &[u8]) -> Result<Self> {
        self.check_name(name)?;
        Ok(self.joined(name))
    }

    /// Checks that [`ImagePath::join_name`] would accept `name`.
    ///
    /// # Errors
    /// The same as [`ImagePath::join_name`].
    pub(crate) fn check_name(&self, name: &[u8]) -> Result<()> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(unsafe_path(name, "not a file name"));
        }
        self.check_below(name)
    }

    /// Returns the path `below` this one.
    ///
    /// # Errors
    /// Returns an error if the path becomes too long.
    pub fn join(&self, below: &ImagePath) -> Result<Self> {
        self.check_below(below.as_bytes())?;
        Ok(self.joined(below.as_bytes()))
    }

    /// Checks that `below` can be appended to this path. The path itself was checked before.
    fn check_below(&self, below: &[u8]) -> Result<()> {
        if usize::from(self.length) + 1 + below.len() > LONGEST {
            return check(self.joined_bytes(below).as_ref());
        }
        check(below)
    }

    fn joined(&self, below: &[u8]) -> Self {
        if below.is_empty() {
            return self.clone();
        }
        let path = self.joined_bytes(below);
        // Not longer than `LONGEST`.
        ImagePath { bytes: path.as_ref().into(), length: path.len() as u16 }
    }

    fn joined_bytes<'a>(&'a self, below: &'a [u8]) -> Cow<'a, [u8]> {
        let own = self.as_bytes();
        match (own.is_empty(), below.is_empty()) {
            (true, _) => below.into(),
            (_, true) => own.into(),
            _ => [own, b"/", below].concat().into(),
        }
    }

    /// Returns the bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }

    /// Returns whether this is the root.
    pub fn is_root(&self) -> bool {
        self.length == 0
    }

    /// Returns whether this is `directory` itself, or in it at any depth.
    pub fn is_in(&self, directory: &ImagePath) -> bool {
        let mut names = self.names();
        directory.names().all(|name| names.next() == Some(name))
    }

    /// Returns the components, starting at the root.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.as_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// Returns the directory that holds this entry, or `None` for the root.
    pub fn parent(&self) -> Option<ImagePath> {
        if self.is_root() {
            return None;
        }
        let end = self.as_bytes().iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(ImagePath { bytes: self.bytes.clone(), length: end as u16 })
    }
}

impl PartialEq for ImagePath {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ImagePath {}

impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for ImagePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

fn check(path: &[u8]) -> Result<()> {
    if path.len() > LONGEST {
        return Err(unsafe_path(path, &format!("a path of {} bytes, more than {LONGEST}", path.len())));
    }
    if path.contains(&0) {
        return Err(unsafe_path(path, "a NUL byte in a path"));
    }
    if path.split(|&byte| byte == b'/').any(|name| name.len() > LONGEST_NAME) {
        return Err(unsafe_path(path, &format!("a file name of more than {LONGEST_NAME} bytes")));
    }
    Ok(())
}

fn unsafe_path(path: &[u8], reason: &str) -> Error {
    let shown: String = String::from_utf8_lossy(path).chars().take(200).collect();
    Error::invalid(format!("`{shown}`"), reason)
}

/// Parses a path as [`ImagePath::new`] does.
///
/// ```
/// use ocibuild::ImagePath;
///
/// assert_eq!("usr/./local/".parse::<ImagePath>()?.to_string(), "/usr/local");
/// assert!("/srv/../..".parse::<ImagePath>().is_err());
/// # Ok::<(), ocibuild::Error>(())
/// ```
impl FromStr for ImagePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        ImagePath::new(text.as_bytes())
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_stay_inside() {
        assert_eq!(ImagePath::new(b"/usr/./local//bin/").unwrap().as_bytes(), b"usr/local/bin");
        assert!(ImagePath::new(b"/").unwrap().is_root());
        for bad in [&b"../a"[..], b"a/../../b", b"a/..", b"a\0b", &[b'x'; 256], &b"abcdefgh/".repeat(500)] {
            assert!(ImagePath::new(bad).is_err());
        }
        assert!(ImagePath::new(&[b'x'; 255]).is_ok());
    }

    #[test]
    fn names_are_single() {
        let directory = ImagePath::new(b"a").unwrap();
        assert_eq!(directory.join_name(b"b").unwrap().as_bytes(), b"a/b");
        for bad in [&b""[..], b".", b"..", b"b/c"] {
            assert!(directory.join_name(bad).is_err());
        }
        assert_eq!(ImagePath::new(b"a/b").unwrap().parent().unwrap(), directory);
        assert_eq!(directory.parent(), Some(ImagePath::root()));
        assert_eq!(ImagePath::root().parent(), None);
    }
}
