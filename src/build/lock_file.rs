//! `ocibuild.lock`: the digests of the references in a request, so that later builds use the same content.
//!
//! ```json
//! {
//!   "bases": {"docker.io/library/debian:stable-slim": "sha256:…"},
//!   "caches": ["host/team/cache"],
//!   "downloads": {"https://host/rcc": "sha256:…"},
//!   "version": 1
//! }
//! ```
//!
//! A name in the file is resolved to its digest. `--lock` resolves it again and records the digest; `--locked`
//! accepts only names in the file.

use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::common::update_file::{Readers, update};
use crate::common::{bounded_read, json};
use crate::spec::reference::Reference;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The name of the file, unless the user gives another one.
pub const LOCK_FILE: &str = "ocibuild.lock";

/// The largest lock file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The use of the lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFileMode {
    /// Names in the file are pinned; other names are resolved without it.
    Honour,
    /// Every name is resolved again and recorded.
    Renew,
    /// Names that are not in the file are an error.
    Require,
}

/// The kinds of names in a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockedKind {
    /// A base image, by its reference or location.
    Base,
    /// A downloaded file, by its URL.
    Download,
}

impl LockedKind {
    const ALL: [LockedKind; 2] = [LockedKind::Base, LockedKind::Download];

    fn key(self) -> &'static str {
        match self {
            LockedKind::Base => "bases",
            LockedKind::Download => "downloads",
        }
    }

    fn word(self) -> &'static str {
        match self {
            LockedKind::Base => "base",
            LockedKind::Download => "download",
        }
    }
}

/// A lock file, which need not exist.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    locking: LockFileMode,
    entries: LockEntries,
}

/// The entries of a lock file.
#[derive(Debug, Default, PartialEq, Eq)]
struct LockEntries {
    digests: BTreeMap<(LockedKind, String), Digest>,
    /// The repositories from which layers may be pulled. The content of a cache changes with every environment, so they have no
    /// digests.
    caches: BTreeSet<String>,
}

/// The member that lists the caches.
const CACHES: &str = "caches";

impl LockFile {
    /// Returns a lock file without entries, for a path that need not exist.
    pub fn empty(path: &Path, locking: LockFileMode) -> LockFile {
        LockFile { path: path.to_owned(), locking, entries: LockEntries::default() }
    }

    /// Reads the lock file at `path`.
    ///
    /// # Errors
    /// Returns an error if it is missing or malformed.
    pub fn read(path: &Path, locking: LockFileMode) -> Result<LockFile> {
        let object = path.display().to_string();
        let file = Root::open_named_file(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.hint("--lock creates it"),
            _ => error,
        })?;
        let entries = parse(&bounded_read::read(file, LARGEST, &object)?, &object)?;
        Ok(LockFile { entries, ..LockFile::empty(path, locking) })
    }

    /// Returns how the file is used.
    pub fn locking(&self) -> LockFileMode {
        self.locking
    }

    /// Returns the digest that `name` has to have, if it has to have one.
    ///
    /// # Errors
    /// Fails if the name is required to be in the file, and is not.
    pub fn wanted(&self, kind: LockedKind, name: &str) -> Result<Option<Digest>> {
        match (self.locking, self.before(kind, name)) {
            (LockFileMode::Renew, _) => Ok(None),
            (LockFileMode::Require, None) => {
                let object = self.path.display().to_string();
                let reason = format!("no entry for the {} {name} (--locked)", kind.word());
                Err(Error::new(ErrorKind::NotFound, object, reason).hint("--lock records it"))
            }
            (_, before) => Ok(before),
        }
    }

    /// Returns the digest that `name` has in the file.
    pub fn before(&self, kind: LockedKind, name: &str) -> Option<Digest> {
        self.entries.digests.get(&(kind, name.to_owned())).copied()
    }

    /// Returns the reference with the digest that it has in the lock file. A reference with a digest is returned unchanged.
    ///
    /// # Errors
    /// Fails as [`LockFile::wanted`] does.
    pub fn wanted_base(&self, reference: &Reference, key: &str) -> Result<Reference> {
        if reference.digest().is_some() {
            return Ok(reference.clone());
        }
        Ok(match self.wanted(LockedKind::Base, key)? {
            Some(digest) => reference.clone().with_digest(digest),
            None => reference.clone(),
        })
    }

    /// Returns the digest that `name` must have, from the file and `given` by the user, which must not contradict each other.
    ///
    /// # Errors
    /// Fails as [`LockFile::check`] does.
    pub fn agreed(&self, kind: LockedKind, name: &str, given: Option<Digest>) -> Result<Option<Digest>> {
        if self.locking == LockFileMode::Honour && given.is_some() && self.before(kind, name).is_none() {
            return Ok(given);
        }
        let locked = self.wanted(kind, name)?;
        if let Some(given) = given {
            self.check(kind, name, given)?;
        }
        Ok(given.or(locked))
    }

    /// Checks that `found` is the digest that the file has for `name`.
    ///
    /// # Errors
    /// Fails if the file has another digest, or if the name is required to be in the file and is not.
    pub fn check(&self, kind: LockedKind, name: &str, found: Digest) -> Result<()> {
        match self.wanted(kind, name)? {
            Some(wanted) if wanted != found => {
                let reason = format!("digest is {found}, but {} has {wanted}", self.path.display());
                Err(Error::new(ErrorKind::Changed, name, reason).hint("--lock accepts the current digest"))
            }
            _ => Ok(()),
        }
    }

    /// Records that `name` is `digest`. Preserves other entries, including those that another process wrote in the meantime.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record(&mut self, kind: LockedKind, name: &str, digest: Digest) -> Result<()> {
        self.change(|entries| {
            entries.digests.insert((kind, name.to_owned()), digest);
        })
    }

    /// Requires that layers may be taken from `caches`, or records them with `--lock`.
    ///
    /// # Errors
    /// Fails if one is required to be in the file and is not, or the file cannot be written.
    pub fn check_caches(&mut self, caches: &[String]) -> Result<()> {
        let missing = caches.iter().find(|name| !self.entries.caches.contains(*name));
        match (self.locking, missing) {
            (LockFileMode::Require, Some(name)) => {
                let object = self.path.display().to_string();
                let reason = format!("no entry for the cache {name} (--locked)");
                Err(Error::new(ErrorKind::NotFound, object, reason).hint("--lock records it"))
            }
            (LockFileMode::Renew, Some(_)) => self.change(|entries| entries.caches.extend(caches.iter().cloned())),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: impl Fn(&mut LockEntries)) -> Result<()> {
        let path = self.path.clone();
        update(&path, LARGEST, Readers::Usual, |content| {
            if let Some(content) = content {
                self.entries = parse(&content, &path.display().to_string())?;
            }
            change(&mut self.entries);
            Ok(self.text().into_bytes())
        })
    }

    /// Returns the text of the file, sorted and indented, since people compare versions of it.
    fn text(&self) -> String {
        let mut document = json!({"version": 1});
        for ((kind, name), digest) in &self.entries.digests {
            document[kind.key()][name.as_str()] = digest.to_string().into();
        }
        if !self.entries.caches.is_empty() {
            document[CACHES] = self.entries.caches.iter().cloned().collect();
        }
        format!("{document:#}\n")
    }
}

/// Parses a lock file. An unknown member is an error, because it may be a restriction that would be ignored.
fn parse(bytes: &[u8], object: &str) -> Result<LockEntries> {
    let document = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
    if json::integer_at(&document, "version", object)? != Some(1) {
        return Err(Error::invalid(object, "not a lock file of version 1"));
    }
    let known =
        |key: &String| key == "version" || key == CACHES || LockedKind::ALL.iter().any(|kind| kind.key() == key);
    if let Some(key) = document.as_object().into_iter().flat_map(|members| members.keys()).find(|key| !known(key)) {
        return Err(Error::invalid(object, format!("unknown member `{key}`")));
    }
    let mut entries = LockEntries::default();
    for name in json::array_at(&document, CACHES, object)?.into_iter().flatten() {
        let name = name.as_str().ok_or_else(|| Error::invalid(object, format!("`{CACHES}`: expected repositories")))?;
        entries.caches.insert(name.to_owned());
    }
    for kind in LockedKind::ALL {
        for (name, digest) in json::object_at(&document, kind.key(), object)?.into_iter().flatten() {
            let text = digest.as_str().ok_or_else(|| Error::invalid(object, format!("`{name}`: expected a digest")))?;
            let digest = text.parse().map_err(|error: Error| error.within(format!("{object}: `{name}`")))?;
            entries.digests.insert((kind, name.clone()), digest);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        parse(text.as_bytes(), "lock")
            .map(|entries| entries.digests.len().to_string())
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_again_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        let mut lock = LockFile::empty(&path, LockFileMode::Renew);
        let digest = Digest::of(b"x");
        lock.record(LockedKind::Download, "https://host/rcc", digest).unwrap();
        lock.record(LockedKind::Base, "b:1", digest).unwrap();
        // Another process, which does not know of these.
        let mut other = LockFile::empty(&path, LockFileMode::Renew);
        other.record(LockedKind::Base, "a:1", digest).unwrap();
        assert_eq!(other.entries.digests.len(), 3);
        other.check_caches(&["reg.io/team/cache".to_owned()]).unwrap();
        let text = other.text();
        let places: Vec<_> =
            ["bases", "a:1", "b:1", "downloads", "version"].map(|word| text.find(word).unwrap()).into();
        assert!(places.is_sorted(), "{text}");

        let locked = LockFile::read(&path, LockFileMode::Require).unwrap();
        assert_eq!(locked.wanted(LockedKind::Base, "a:1").unwrap(), Some(digest));
        assert!(locked.wanted(LockedKind::Base, "c:1").unwrap_err().to_string().contains("no entry for the base c:1"));
        let mut locked = locked;
        assert!(locked.check_caches(&["reg.io/team/cache".to_owned()]).is_ok());
        let refused = locked.check_caches(&["reg.io/evil/cache".to_owned()]).unwrap_err().to_string();
        assert!(refused.contains("no entry for the cache reg.io/evil/cache"), "{refused}");
        assert!(locked.check(LockedKind::Base, "a:1", digest).is_ok());
        assert!(
            locked.check(LockedKind::Base, "a:1", Digest::of(b"y")).unwrap_err().to_string().contains("has sha256:")
        );
    }

    #[test]
    fn a_malformed_lock_file_is_refused() {
        assert_eq!(parsed(r#"{"version": 1}"#), "0");
        assert!(parsed(r#"{"version": 2}"#).contains("version 1"));
        assert!(parsed(r#"{"version": 1, "signatures": {}}"#).contains("unknown member `signatures`"));
        assert!(parsed(r#"{"version": 1, "caches": {}}"#).contains("caches"));
        assert!(parsed(r#"{"version": 1, "bases": {"a": 1}}"#).contains("expected a digest"));
        assert!(parsed(r#"{"version": 1, "bases": {"a": "sha256:1"}}"#).starts_with("lock: `a`: "));
        assert!(parsed(r#"{"version": 1, "bases": {}, "bases": {}}"#).contains("duplicate"));
    }
}
