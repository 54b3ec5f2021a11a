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

use clap::Args;
use ocibuild::common::root::Root;
use ocibuild::common::update_file::{Readers, update};
use ocibuild::common::{bounded_read, json};
use ocibuild::{Digest, Error, ErrorKind, Result};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FILE: &str = "ocibuild.lock";

/// The largest lock file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The options of the lock file.
#[derive(Debug, Args)]
pub(super) struct LockArguments {
    /// Resolve the base image and downloads again and update the lock file
    #[arg(long, conflicts_with = "locked", help_heading = "Base image")]
    lock: bool,
    /// Fail if a digest is missing from the lock file
    #[arg(long, help_heading = "Base image")]
    locked: bool,
    /// Set the lock file [default: ocibuild.lock next to the robot, or in the current directory]
    #[arg(long, value_name = "FILE", help_heading = "Base image")]
    lock_file: Option<PathBuf>,
}

/// The use of the lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockFileMode {
    /// Names in the file are pinned; other names are resolved without it.
    Honour,
    /// Every name is resolved again and recorded.
    Renew,
    /// Names that are not in the file are an error.
    Require,
}

/// The kinds of names in a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LockedKind {
    Base,
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
pub(super) struct LockFile {
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

impl LockArguments {
    /// Reads the lock file; without another name, the one in `directory`.
    ///
    /// # Errors
    /// Fails if it exists and is malformed, or it is required or named and does not exist.
    pub(super) fn open(&self, directory: &Path) -> Result<LockFile> {
        let path = self.path(directory);
        let locking = match (self.lock, self.locked) {
            (true, _) => LockFileMode::Renew,
            (_, true) => LockFileMode::Require,
            _ => LockFileMode::Honour,
        };
        let object = path.display().to_string();
        let may_be_missing =
            locking == LockFileMode::Renew || (locking == LockFileMode::Honour && self.lock_file.is_none());
        let entries = match Root::open_named_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && may_be_missing => LockEntries::default(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(error.hint("--lock creates it")),
            file => parse(&bounded_read::read(file?, LARGEST, &object)?, &object)?,
        };
        Ok(LockFile { path, locking, entries })
    }

    /// Returns the lock file, which need not exist; without another name, the one in `directory`.
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        self.lock_file.clone().unwrap_or_else(|| directory.join(FILE))
    }
}

impl LockFile {
    pub(super) fn locking(&self) -> LockFileMode {
        self.locking
    }

    /// Returns the digest that `name` has to have, if it has to have one.
    ///
    /// # Errors
    /// Fails if the name is required to be in the file, and is not.
    pub(super) fn wanted(&self, kind: LockedKind, name: &str) -> Result<Option<Digest>> {
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
    pub(super) fn before(&self, kind: LockedKind, name: &str) -> Option<Digest> {
        self.entries.digests.get(&(kind, name.to_owned())).copied()
    }

    /// Requires that `name`, which turned out to be `found`, is what the file says.
    ///
    /// # Errors
    /// Fails if it is something else, or is required to be in the file and is not.
    pub(super) fn check(&self, kind: LockedKind, name: &str, found: Digest) -> Result<()> {
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
    pub(super) fn record(&mut self, kind: LockedKind, name: &str, digest: Digest) -> Result<()> {
        self.change(|entries| {
            entries.digests.insert((kind, name.to_owned()), digest);
        })
    }

    /// Requires that layers may be taken from `caches`, or writes them down with `--lock`.
    ///
    /// # Errors
    /// Fails if one is required to be in the file and is not, or the file cannot be written.
    pub(super) fn check_caches(&mut self, caches: &[String]) -> Result<()> {
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

    /// Sorted and indented, since people compare versions of it.
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

    fn said(text: &str) -> String {
        parse(text.as_bytes(), "lock")
            .map(|entries| entries.digests.len().to_string())
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_again_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = LockArguments { lock: true, locked: false, lock_file: None };
        let mut lock = arguments.open(folder.path()).unwrap();
        let digest = Digest::of(b"x");
        lock.record(LockedKind::Download, "https://host/rcc", digest).unwrap();
        lock.record(LockedKind::Base, "b:1", digest).unwrap();
        // Another process, which does not know of these.
        let mut other =
            LockFile { entries: LockEntries::default(), locking: LockFileMode::Renew, path: lock.path.clone() };
        other.record(LockedKind::Base, "a:1", digest).unwrap();
        assert_eq!(other.entries.digests.len(), 3);
        other.check_caches(&["reg.io/team/cache".to_owned()]).unwrap();
        let text = other.text();
        let places: Vec<_> =
            ["bases", "a:1", "b:1", "downloads", "version"].map(|word| text.find(word).unwrap()).into();
        assert!(places.is_sorted(), "{text}");

        let locked = LockArguments { lock: false, locked: true, lock_file: None }.open(folder.path()).unwrap();
        assert_eq!(locked.wanted(LockedKind::Base, "a:1").unwrap(), Some(digest));
        assert!(locked.wanted(LockedKind::Base, "c:1").unwrap_err().to_string().contains("no entry for the base c:1"));
        let mut locked = locked;
        assert!(locked.check_caches(&["reg.io/team/cache".to_owned()]).is_ok());
        let refused = locked.check_caches(&["reg.io/evil/cache".to_owned()]).unwrap_err().to_string();
        assert!(refused.contains("no entry for the cache reg.io/evil/cache"), "{refused}");
        assert!(locked.check(LockedKind::Base, "a:1", digest).is_ok());
        assert!(
            locked.check(LockedKind::Base, "a:1", Digest::of(b"y")).unwrap_err().to_string().contains("says sha256:")
        );
    }

    #[test]
    fn a_lock_file_that_is_required_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let open = |locked, lock_file: Option<&str>| {
            let lock_file = lock_file.map(|name| folder.path().join(name));
            LockArguments { lock: false, locked, lock_file }.open(folder.path()).map(|_| ())
        };
        assert!(open(false, None).is_ok());
        assert!(open(true, None).unwrap_err().to_string().contains("--lock creates it"));
        assert!(open(false, Some("other.lock")).is_err());
    }

    #[test]
    fn a_malformed_lock_file_is_refused() {
        assert_eq!(said(r#"{"version": 1}"#), "0");
        assert!(said(r#"{"version": 2}"#).contains("version 1"));
        assert!(said(r#"{"version": 1, "signatures": {}}"#).contains("unknown member `signatures`"));
        assert!(said(r#"{"version": 1, "caches": {}}"#).contains("caches"));
        assert!(said(r#"{"version": 1, "bases": {"a": 1}}"#).contains("expected a digest"));
        assert!(said(r#"{"version": 1, "bases": {"a": "sha256:1"}}"#).starts_with("lock: `a`: "));
        assert!(said(r#"{"version": 1, "bases": {}, "bases": {}}"#).contains("duplicate"));
    }
}
