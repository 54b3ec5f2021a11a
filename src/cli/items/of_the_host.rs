//! Files that programs expect and an image without a base lacks: certificate authorities and time zones, of this machine or from a
//! path, which may be an archive of time zones.

use ocibuild::build::Source;
use ocibuild::common::bounded_read;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::layers::tree::{Modes, Owner, Owners, Rules, is_time_zone};
use ocibuild::registry::certificates;
use ocibuild::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The value that means this machine. No word of a command line holds it, so every path can be named.
pub(in crate::cli) const HOST: &str = "\0";

/// Where systems keep their bundle of certificate authorities: Debian and Alpine; Fedora, twice; openSUSE; the BSDs and macOS.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where a container has them, as Debian does; most libraries look there.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The largest bundle that is read, in bytes.
const LARGEST_BUNDLE: u64 = 8 << 20;

/// What the first line of a private key in PEM ends with.
const KEY: &[u8] = b"PRIVATE KEY-----";

/// Where systems and containers keep time zones.
const ZONES: &str = "/usr/share/zoneinfo";

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum FilesFrom {
    /// This machine.
    Host,
    /// A path.
    Path(PathBuf),
}

impl FilesFrom {
    /// Reads [`HOST`] or a path.
    ///
    /// # Errors
    /// Fails if it is empty.
    pub(in crate::cli) fn read(text: &OsStr) -> Result<FilesFrom> {
        match text.is_empty() {
            true => Err(Error::usage("path", "is empty")),
            false if text == HOST => Ok(FilesFrom::Host),
            false => Ok(FilesFrom::Path(text.into())),
        }
    }

    /// Returns the source of a bundle of certificate authorities. What was checked is what goes into the image.
    ///
    /// # Errors
    /// Fails if there is no bundle, it cannot be read, has no certificate or is malformed, or has a private key.
    pub(in crate::cli) fn certificates(&self, general: &Rules) -> Result<Source> {
        let file = match self {
            FilesFrom::Path(file) => file.clone(),
            FilesFrom::Host => bundle_of_the_host()?,
        };
        let object = file.display().to_string();
        let pem = bounded_read::read(Root::open_named_file(&file)?, LARGEST_BUNDLE, &object)?;
        certificates(&pem, &object)?;
        if pem.windows(KEY.len()).any(|part| part == KEY) {
            return Err(Error::invalid(object, "has a private key, which must not be in an image"));
        }
        Ok(Source::text(pem, BUNDLE.parse()?).rules(of_root(general).modes(Modes::Set(0o644))))
    }

    /// Returns the source of a directory or an archive of time zones.
    ///
    /// # Errors
    /// Fails if it is missing, cannot be read, or is a directory that has no zone called UTC.
    pub(in crate::cli) fn time_zones(&self, general: &Rules) -> Result<Source> {
        let flag = "--timezones";
        let mut rules = of_root(general);
        rules.ignore.begin_list(flag);
        // These count leap seconds, which the clocks of containers do not.
        rules.ignore.add("right")?;
        let directory = match self {
            FilesFrom::Path(directory) => directory.as_path(),
            FilesFrom::Host => Path::new(ZONES),
        };
        let is_there = PathStatus::of(directory)?.is_directory();
        if !is_there && *self == FilesFrom::Host {
            let reason = format!("this machine has no time zones in {ZONES}");
            return Err(Error::new(ErrorKind::NotFound, flag, reason).hint("install tzdata, or --timezones=PATH"));
        }
        if PathStatus::of(directory)?.is_file() {
            let file = Root::open_named_file(directory)?;
            return Ok(Source::time_zones(directory.display(), file, ZONES.parse()?).rules(rules));
        }
        let root = Root::open(directory)?;
        let zone = root.open_linked_file("UTC").map_err(|error| no_zones(directory).hint(error.to_string()))?;
        let is_zone = is_time_zone(zone).map_err(|error| Error::file(&directory.join("UTC"), "read", error))?;
        if !is_zone {
            return Err(no_zones(directory));
        }
        Ok(Source::directory_content(root, ZONES.parse()?).rules(rules))
    }
}

fn no_zones(directory: &Path) -> Error {
    Error::invalid(directory.display().to_string(), "not a directory of time zones: it has no zone called UTC")
}

fn bundle_of_the_host() -> Result<PathBuf> {
    for place in BUNDLES {
        if PathStatus::of(Path::new(place))?.is_file() {
            return Ok(place.into());
        }
    }
    let reason = format!("this machine has no bundle of certificate authorities in {}", BUNDLES.join(", "));
    let hint = "install ca-certificates, or --ca-certificates=FILE";
    Err(Error::new(ErrorKind::NotFound, "--ca-certificates", reason).hint(hint))
}

/// Returns the rules for files of the system, independent of the owners of other files.
fn of_root(general: &Rules) -> Rules {
    general.clone().owners(Owners::Set(Owner::default())).modes(Modes::Normal)
}
