//! The cache directory.

use clap::Args;
use ocibuild::cache::Running;
use ocibuild::cache::maintenance::{Upkeep, note_use};
use ocibuild::common::root::Root;
use ocibuild::{Digest, Error, ErrorKind, Result};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// The variable that names the directory.
const VARIABLE: &str = "OCIBUILD_CACHE_DIR";

/// The directory, as the command line, the environment and the platform say.
#[derive(Debug, Clone, Args)]
pub(super) struct CacheDirectory {
    /// Set the cache directory [default: the user's cache directory] [env: OCIBUILD_CACHE_DIR]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Cache")]
    cache_dir: Option<PathBuf>,
    /// Marks the cache as in use while this command runs.
    #[arg(skip)]
    running: OnceLock<Option<Arc<Running>>>,
}

impl CacheDirectory {
    /// Opens the directory, after making it, for this user only.
    ///
    /// # Errors
    /// Fails if no directory is named and the user has none, it cannot be made, or others can change what is in it.
    pub(super) fn open(&self) -> Result<Root> {
        let directory = Root::create_private(&self.path()?).map_err(|error| error.within("cache directory"))?;
        // A directory that cannot be written cannot be pruned either. Otherwise, what is pruned during the command is an error or
        // a cache miss, never a damaged image.
        self.running.get_or_init(|| Running::start(&directory, SystemTime::now()).ok().map(Arc::new));
        Ok(directory)
    }

    /// Notes that this command uses the base, program or robot with `digest`, so that it stays in the cache longer. Failures are
    /// ignored: without the note it is only fetched or unpacked again.
    pub(super) fn note_use(&self, digest: &Digest) {
        if let Ok(directory) = self.open() {
            note_use(&directory, digest, SystemTime::now()).ok();
        }
    }

    /// Opens the directory for maintenance, if it exists and no other user can change it.
    ///
    /// # Errors
    /// Fails as [`CacheDirectory::existing`].
    pub(super) fn upkeep(&self) -> Result<Option<Upkeep>> {
        Ok(self.existing()?.map(|directory| Upkeep::new(directory, SystemTime::now())))
    }

    /// Opens the directory if it exists and no other user can change it.
    ///
    /// # Errors
    /// Fails if no directory is named and the user has none, it cannot be opened, or others can change what is in it.
    pub(super) fn existing(&self) -> Result<Option<Root>> {
        match Root::open_private(&self.path()?) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(|error| error.within("cache directory")),
        }
    }

    /// Returns the path of the directory, which need not exist.
    ///
    /// # Errors
    /// Fails if no directory is named and the user has none.
    pub(super) fn path(&self) -> Result<PathBuf> {
        let named = self.cache_dir.clone().or_else(|| set(VARIABLE));
        named.or_else(|| users_cache().map(|cache| cache.join("ocibuild"))).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "cache directory", "this user has no home directory")
                .hint(format!("set --cache-dir or {VARIABLE}"))
        })
    }
}

#[cfg(target_os = "macos")]
fn users_cache() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join("Library/Caches"))
}

#[cfg(windows)]
fn users_cache() -> Option<PathBuf> {
    set("LOCALAPPDATA")
}

/// Returns the user's cache directory. Ignores a relative XDG_CACHE_HOME, as the XDG Base Directory Specification requires.
#[cfg(not(any(windows, target_os = "macos")))]
fn users_cache() -> Option<PathBuf> {
    set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
}

fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
