//! Fetching the rcc that goes into an image, for machines that run another one or none.

use super::base::BaseArguments;
use super::cache_directory::CacheDirectory;
use super::placeholders::filled;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::build::{LockFileMode, LockedKind};
use ocibuild::cache::maintenance::DOWNLOADS;
use ocibuild::common::digest::{Algorithm, Hashing};
use ocibuild::common::root::Root;
use ocibuild::robot_image::{check_launcher, rcc_release_url};
use ocibuild::secrets::bare_url;
use ocibuild::{Digest, Error, ErrorKind, Platform, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The processor that RCC's releases for Linux are for.
const RELEASED: &str = "amd64";

#[derive(Debug, Args)]
pub(super) struct RccDownloadArguments {
    /// Download the Linux rcc to include, by version or URL; {os} and {arch} as in --rcc-exec
    #[arg(long, value_name = "VERSION|URL", conflicts_with = "rcc_exec", help_heading = "Robot")]
    rcc_download: Option<String>,
    /// Download from URL/vVERSION/linux64/rcc [default: RCC's release page]
    #[arg(long, value_name = "URL", requires = "rcc_download", help_heading = "Robot")]
    rcc_mirror: Option<String>,
    /// Require this SHA-256 of the download [default: the one in ocibuild.lock]
    #[arg(long, value_name = "HEX", requires = "rcc_download", value_parser = sha256, help_heading = "Robot")]
    rcc_sha256: Option<Digest>,
}

/// The context of a download.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'s> {
    pub(super) bases: &'s BaseArguments,
    pub(super) cache: &'s CacheDirectory,
    /// The directory in which a packed robot is unpacked, if the copy is kept.
    pub(super) unpack_in: Option<&'s CacheDirectory>,
    pub(super) watch: &'s Arc<Watch>,
}

fn sha256(text: &str) -> Result<Digest> {
    format!("sha256:{}", text.strip_prefix("sha256:").unwrap_or(text)).parse()
}

impl RccDownloadArguments {
    /// Returns `true` if a download is asked for.
    pub(super) fn is_given(&self) -> bool {
        // The other flags require this one.
        self.rcc_download.is_some()
    }

    /// Checks that there can be a download for each of `platforms`.
    ///
    /// # Errors
    /// Fails if rcc is not released for one of them, or there are several, and a digest is given.
    pub(super) fn check_platforms(&self, platforms: &[Platform]) -> Result<()> {
        if platforms.len() > 1 && self.rcc_sha256.is_some() {
            return Err(Error::usage("--rcc-sha256", "is the digest of one program, and there are several platforms"));
        }
        let Some(wanted) = &self.rcc_download else { return Ok(()) };
        platforms.iter().try_for_each(|platform| self.url(wanted, platform).map(drop))
    }

    /// Returns the file with the requested rcc, if there is a request. The lock file is in `directory` unless it is named.
    ///
    /// # Errors
    /// Fails if it cannot be fetched, has an unexpected digest, or is not a program for `platform`.
    pub(super) fn launcher(
        &self,
        platform: &Platform,
        directory: &Path,
        surroundings: Surroundings<'_>,
    ) -> Result<Option<PathBuf>> {
        let Some(wanted) = &self.rcc_download else { return Ok(None) };
        let url = self.url(wanted, platform)?;
        let mut lock = surroundings.bases.lock_file(directory)?;
        // The file is shared, and a signature in the query changes with every download.
        let name = bare_url(&url);
        let expected = lock.agreed(LockedKind::Download, &name, self.rcc_sha256)?;
        let store = surroundings.cache.open()?.create_directory(DOWNLOADS)?;
        if let Some(digest) = expected
            && holds(&store, &digest)?
        {
            surroundings.cache.note_use(&digest);
            let path = store.path().join(digest.hex());
            return check_launcher(&path, platform).map(|()| Some(path)).map_err(|error| error.within(&url));
        }
        if surroundings.bases.network().is_offline()? {
            let reason = "not in the cache, and network access is disabled (--offline)";
            let hint = "build once with network access, or use --rcc-exec FILE";
            return Err(Error::new(ErrorKind::NotFound, url, reason).hint(hint));
        }
        let (temporary, digest) = surroundings.bases.network().fetch(&url, &store, surroundings.watch)?;
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let reason = format!("expected the digest {expected}, but the file has {digest}");
            return Err(Error::corrupt(url, reason).hint("--lock without --rcc-sha256 accepts the current file"));
        }
        temporary.persist(digest.hex())?;
        store.sync()?;
        let path = store.path().join(digest.hex());
        check_launcher(&path, platform).map_err(|error| error.within(&url))?;
        if self.rcc_sha256.is_none() || lock.locking() == LockFileMode::Renew {
            lock.record(LockedKind::Download, &name, digest)?;
        }
        Ok(Some(path))
    }

    fn url(&self, wanted: &str, platform: &Platform) -> Result<String> {
        if wanted.contains("://") {
            return match &self.rcc_mirror {
                None => Ok(filled(wanted, platform)),
                Some(_) => Err(Error::usage("--rcc-mirror", "--rcc-download already has a URL")),
            };
        }
        let url = rcc_release_url(wanted, self.rcc_mirror.as_deref());
        let url = url.ok_or_else(|| Error::usage(format!("--rcc-download {wanted}"), "neither a version nor a URL"))?;
        match (platform.architecture(), &self.rcc_mirror) {
            (RELEASED, _) | (_, Some(_)) => Ok(url),
            (_, None) => {
                Err(Error::usage(format!("--rcc-download {wanted}"), format!("rcc is not released for {platform}"))
                    .hint("--rcc-exec FILE, or a URL, names one; {arch} in it is replaced"))
            }
        }
    }
}

/// Returns `true` if the store has the program, undamaged.
fn holds(store: &Root, digest: &Digest) -> Result<bool> {
    let object = store.display(digest.hex());
    let file = match store.open_file(digest.hex()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let found = Hashing::new(file, Algorithm::Sha256).finish().map_err(|error| Error::io(&object, "read", error))?;
    Ok(found.0 == *digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(wanted: &str, mirror: Option<&str>) -> String {
        let rcc_mirror = mirror.map(str::to_owned);
        let arguments = RccDownloadArguments { rcc_download: None, rcc_mirror, rcc_sha256: None };
        arguments.url(wanted, &Platform::linux_amd64()).unwrap_or_else(|error| error.reason())
    }

    #[test]
    fn each_platform_has_an_address_of_its_own() {
        let arguments = RccDownloadArguments { rcc_download: None, rcc_mirror: None, rcc_sha256: None };
        let arm: Platform = "linux/arm64".parse().unwrap();
        assert_eq!(arguments.url("https://m.io/rcc-{os}-{arch}", &arm).unwrap(), "https://m.io/rcc-linux-arm64");
        let error = arguments.url("19.0.2", &arm).unwrap_err().to_string();
        assert!(error.starts_with("--rcc-download 19.0.2: rcc is not released for linux/arm64 (--rcc-exec"), "{error}");
    }

    #[test]
    fn a_version_becomes_an_address() {
        assert_eq!(url("19.0.2", None), "https://cdn.sema4.ai/rcc/releases/v19.0.2/linux64/rcc");
        assert_eq!(url("v19.0.2", Some("https://m.io/rcc/")), "https://m.io/rcc/v19.0.2/linux64/rcc");
        assert_eq!(url("https://m.io/x", None), "https://m.io/x");
        assert!(url("https://m.io/x", Some("https://m.io")).contains("already has a URL"));
        for wrong in ["", "latest", "1/../2", "1?x", "../1"] {
            assert_eq!(url(wrong, None), "neither a version nor a URL", "{wrong}");
        }
    }
}
