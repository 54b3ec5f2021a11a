//! Paths inside an image.

use crate::error::{Error, Result};
use std::fmt;

/// The longest path, in bytes (PATH_MAX of Linux).
const LONGEST: usize = 4096;
/// The longest component, in bytes (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// A path from the root of an image: bytes, relative, without `.`, `..`, empty components or a slash at either end. The
/// root itself is the empty path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(Box<[u8]>);

impl ImagePath {
    /// The root of the image.
    pub fn root() -> Self {
        ImagePath(Box::default())
    }

    /// Reads a path that a person wrote, such as `/usr/./local/`.
    ///
    /// # Errors
    /// When it leaves the root, is too long, or contains a NUL byte.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut path = Vec::with_capacity(bytes.len());
        for component in bytes.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(unsafe_path(bytes, "`..` leads out of the image")),
                component => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                }
            }
        }
        check(&path)?;
        Ok(ImagePath(path.into()))
    }

    /// The entry `name` of this directory.
    ///
    /// # Errors
    /// When `name` is not a single name, or the path becomes too long.
    pub fn join_name(&self, name: &[u8]) -> Result<Self> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(unsafe_path(name, "not a file name"));
        }
        self.join(&ImagePath(name.into()))
    }

    /// The path `below` this one.
    ///
    /// # Errors
    /// When it becomes too long.
    pub fn join(&self, below: &ImagePath) -> Result<Self> {
        let path = match (self.0.is_empty(), below.0.is_empty()) {
            (true, _) => below.0.to_vec(),
            (_, true) => self.0.to_vec(),
            _ => [&self.0, &b"/"[..], &below.0].concat(),
        };
        check(&path)?;
        Ok(ImagePath(path.into()))
    }

    /// The bytes, without a slash in front.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// The directory that holds this entry; nothing for the root.
    pub fn parent(&self) -> Option<ImagePath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(ImagePath(self.0[..end].into()))
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

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
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
