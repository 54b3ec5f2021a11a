//! Robots packed in one file: the zip of `rcc robot wrap`, and the bundle of `rcc robot bundle`.
//!
//! A wrapped robot is a zip of the robot's directory. A bundle holds that directory as `robot/`, may hold a
//! `hololib.zip`, and may begin with a program that does not belong to the zip.

use crate::codec::zip::{Archive, Start};
use crate::common::error::{Error, Result};
use crate::common::file_section::read_full_at;
use crate::common::human_numbers::size;
use crate::common::root::Root;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The maximum total size of an unpacked robot, in bytes.
const SIZE_LIMIT: u64 = 16 << 30;

/// The directory of the robot in a bundle.
const BUNDLED_ROBOT: &str = "robot/";

/// The path of the environments in a bundle.
const BUNDLED_HOLOLIB: &str = "hololib/hololib.zip";

/// Unpacks the robot in `file`, which messages call `shown`, into the directory `into`.
///
/// A bundle's `hololib.zip` is written next to the robot file, where rcc and this program look for one.
///
/// # Errors
/// Returns an error if `file` is not a strict zip, alone or after a program, is damaged, holds no `robot.yaml`, or
/// unpacks to more than 16 GiB.
pub fn unpack_robot(file: File, shown: &str, into: &Root) -> Result<()> {
    let archive = Archive::open_from(file, shown, Start::BehindProgram)?;
    let mut left = SIZE_LIMIT;
    for (name, path) in members(&archive, shown)? {
        let member = archive.member(name)?;
        let too_large = || Error::invalid(shown, format!("contains more than {}", size(SIZE_LIMIT)));
        left = left.checked_sub(member.size()).ok_or_else(too_large)?;
        if name.ends_with('/') {
            make_directory(into, &path)?;
            continue;
        }
        make_directory(into, path.parent().unwrap_or(Path::new("")))?;
        write(into, &path, archive.read(member))
            .map_err(|error| Error::io(format!("{shown}: {name}"), "unpack", error))?;
        if member.is_program() {
            make_executable(into, &path)?;
        }
    }
    Ok(())
}

/// Returns whether every file of the robot in `file` is in the directory `unpacked`, with its size. Files that were written
/// shortly before a crash may be truncated.
///
/// # Errors
/// The same as [`unpack_robot`], except for damaged content.
pub fn is_unpacked(file: File, shown: &str, unpacked: &Root) -> Result<bool> {
    let archive = Archive::open_from(file, shown, Start::BehindProgram)?;
    for (name, path) in members(&archive, shown)?.into_iter().filter(|(name, _)| !name.ends_with('/')) {
        let size = archive.member(name)?.size();
        let is_there = |found: cap_std::fs::Metadata| found.is_file() && found.len() == size;
        if !unpacked.dir().symlink_metadata(&path).is_ok_and(is_there) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The members that belong to the robot, sorted, and where each goes.
fn members<'a>(archive: &'a Archive, shown: &str) -> Result<Vec<(&'a str, PathBuf)>> {
    let bundled = format!("{BUNDLED_ROBOT}robot.yaml");
    let prefix = match (archive.member("robot.yaml").is_ok(), archive.member(&bundled).is_ok()) {
        (true, _) => "",
        (false, true) => BUNDLED_ROBOT,
        (false, false) => return Err(Error::invalid(shown, "contains neither robot.yaml nor robot/robot.yaml")),
    };
    let place = |name: &str| match name.strip_prefix(prefix) {
        Some(path) => Some(PathBuf::from(path)),
        None if name == BUNDLED_HOLOLIB => Some(PathBuf::from("hololib.zip")),
        None => None,
    };
    let mut members: Vec<_> = archive.names().filter_map(|name| Some((name, place(name)?))).collect();
    members.sort_unstable();
    Ok(members)
}

fn make_directory(into: &Root, path: &Path) -> Result<()> {
    into.dir().create_dir_all(path).map_err(|error| into.failed(path, "create", error))
}

fn write(into: &Root, path: &Path, mut content: impl io::Read) -> io::Result<()> {
    let mut options = cap_std::fs::OpenOptions::new();
    let mut file = into.dir().open_with(path, options.write(true).create_new(true))?;
    io::copy(&mut content, &mut file)?;
    file.flush()
}

fn make_executable(into: &Root, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use cap_std::fs::{Permissions, PermissionsExt};
        let failed = |error| into.failed(path, "change the mode of", error);
        into.dir().set_permissions(path, Permissions::from_mode(0o755)).map_err(failed)?;
    }
    #[cfg(not(unix))]
    let _ = (into, path);
    Ok(())
}

/// Returns whether `file` is a packed robot instead of a robot file.
///
/// A packed robot is a zip, alone or after a program.
pub fn is_packed(file: &File) -> bool {
    const BEGINNING: &[u8] = b"PK\x03\x04";
    const END: &[u8] = b"PK\x05\x06";
    const END_LENGTH: u64 = 22;
    let length = file.metadata().ok().filter(|metadata| metadata.is_file()).map_or(0, |metadata| metadata.len());
    let has = |signature: &[u8], at: u64| {
        let mut found = [0; 4];
        read_full_at(file, &mut found, at).is_ok_and(|read| read == found.len()) && found == signature
    };
    has(BEGINNING, 0) || length.checked_sub(END_LENGTH).is_some_and(|at| has(END, at))
}
