//! Writing the files of an image into a directory.
//!
//! The directories are made first, then the files of each layer, then the links. So no symbolic link of the image exists while
//! something is written, and nothing can be written through one. Everything is opened below the handle of the directory.
//!
//! ```text
//! DIR/.ocibuild-unfinished     is there until everything else is
//! ```

use super::entry::{ListedKind, ListedNode};
use super::extract_attributes::{AttributeWriter, ExtractAs, LeftOut};
use super::flat_files::{EntryPlace, FlatEntry, FlatFiles};
use super::layer_files::for_each_file;
use super::path_map::PathMap;
use crate::codec::tar::{EntryType, TarEntry};
use crate::common::bounded_read::read_full;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers;
use crate::common::progress::{Activity, Progress};
use crate::common::root::{Root, path_of_bytes};
use crate::store::StoredImage;
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{DirBuilder, DirBuilderExt, OpenOptions, OpenOptionsExt};
use rayon::prelude::*;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The file that says that the directory does not have everything yet.
const UNFINISHED: &str = ".ocibuild-unfinished";
/// The content of that file.
const NOTE: &[u8] = b"ocibuild extract has not finished: files are missing here.\n";
/// The length of the pieces in which contents are written. A piece of zeros becomes a hole.
const PIECE: usize = 64 << 10;

/// A file of a layer that is to be written.
struct WantedFile {
    /// Where it is written, if not at the path that it has in the image.
    path: Option<Box<[u8]>>,
    is_written: bool,
}

/// Writes the `files` of `image` into the directory at `path`, which must be empty or missing.
///
/// If it fails, what was written is removed. If the process is killed, a file in the directory says that it is not complete.
///
/// # Errors
/// Fails if the directory is not empty or another process extracts into it, if a layer is missing or damaged, if two files of the
/// image are one on this file system, or if the system refuses to write.
pub fn extract(
    image: &StoredImage,
    files: &FlatFiles<'_>,
    path: &Path,
    identity: ExtractAs,
    progress: &dyn Progress,
) -> Result<LeftOut> {
    let is_new = Root::open(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let root = Root::create(path)?;
    let lock = DirectoryLock::try_of(&root)?.ok_or_else(|| {
        Error::new(ErrorKind::Locked, path.display().to_string(), "another process extracts into it").at_path(path)
    })?;
    check_empty(&root)?;
    root.dir().write(UNFINISHED, NOTE).map_err(|error| root.failed(UNFINISHED, "write", error))?;
    let extraction = Extraction { image, files, root: &root, attributes: AttributeWriter::new(identity) };
    // A power cut may leave the files that come now, so it has to leave the note as well.
    let done = root.sync().and_then(|()| extraction.run(progress));
    if done.is_err() {
        remove_all(&root);
        if is_new {
            Root::of_file(path, Root::open).and_then(|(parent, name)| parent.remove_tree(&name.to_string_lossy())).ok();
        }
    }
    drop(lock);
    done.map(|()| extraction.attributes.left_out())
}

/// Returns an error if there is anything in the directory.
fn check_empty(root: &Root) -> Result<()> {
    let failed = |error| Error::file(root.path(), "read", error);
    let mut entries = root.dir().entries().map_err(failed)?;
    let refuse = |reason: &str, hint: &str| {
        Err(Error::invalid(root.path().display().to_string(), reason).hint(hint).at_path(root.path()))
    };
    if root.dir().symlink_metadata(UNFINISHED).is_ok() {
        return refuse("an earlier extraction into it did not finish", "remove the directory, and try again");
    }
    match entries.next().transpose().map_err(failed)? {
        None => Ok(()),
        Some(_) => refuse("is not empty", "name an empty or a new directory"),
    }
}

/// Removes everything in the directory, the note of being unfinished last.
fn remove_all(root: &Root) {
    let names = root.dir().entries().into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names.filter(|name| name != UNFINISHED).collect::<Vec<_>>() {
        if let Some(name) = name.to_str() {
            root.remove_tree(name).ok();
        } else if root.dir().remove_dir_all(&name).is_err() {
            root.dir().remove_file(&name).ok();
        }
    }
    root.remove_tree(UNFINISHED).ok();
}

struct Extraction<'a> {
    image: &'a StoredImage,
    files: &'a FlatFiles<'a>,
    root: &'a Root,
    attributes: AttributeWriter,
}

impl Extraction<'_> {
    fn run(&self, progress: &dyn Progress) -> Result<()> {
        let mut directories = Vec::new();
        let mut wanted: Vec<PathMap<WantedFile>> =
            self.image.manifest.layers.iter().map(|_| PathMap::default()).collect();
        let mut bytes = 0;
        for entry in self.files.entries() {
            let FlatEntry { path, node, source } = entry?;
            match node.kind {
                ListedKind::Directory | ListedKind::ImpliedDirectory => {
                    self.make_directory(&path)?;
                    directories.push((path, node));
                }
                ListedKind::File { size, .. } => {
                    bytes += size;
                    want(&mut wanted, path, source);
                }
                ListedKind::CharacterDevice | ListedKind::BlockDevice if self.attributes.are_devices_left_out() => {}
                ListedKind::CharacterDevice | ListedKind::BlockDevice => want(&mut wanted, path, source),
                ListedKind::Symlink { .. } | ListedKind::HardLink { .. } | ListedKind::Fifo => {}
            }
        }
        let activity = Activity::start(progress, "extract", Some(bytes));
        let layers = self.image.manifest.layers.par_iter().zip(self.files.listings()).zip(&mut wanted);
        layers.filter(|(_, wanted)| !wanted.is_empty()).try_for_each(|((layer, listing), wanted)| {
            let mut buffer = vec![0; PIECE];
            for_each_file(&*self.image.source, layer, listing, |path, entry, content| {
                activity.advance(entry.size);
                self.write_wanted(path, &entry, content, wanted, &mut buffer)
            })
        })?;
        if wanted.iter().flat_map(PathMap::values).any(|file| !file.is_written) {
            return Err(Error::corrupt("listing of a layer", "has files that the layer does not have"));
        }
        self.write_links()?;
        for (path, node) in directories.iter().rev() {
            self.finish_directory(path, node)?;
        }
        self.root.sync_file_system()?;
        self.root.remove_tree(UNFINISHED)?;
        // Removing the note has changed the time of the directory.
        if let Some((path, node)) = directories.first().filter(|(path, _)| path.is_empty()) {
            self.finish_directory(path, node)?;
        }
        self.root.sync()?;
        activity.finish(&human_numbers::size(bytes));
        Ok(())
    }

    fn make_directory(&self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        // Its own mode may forbid to write into it.
        builder.mode(0o700);
        let name = path_of_bytes(path);
        self.root.dir().create_dir_with(&name, &builder).map_err(|error| self.cannot_make(&name, error))
    }

    /// Writes a file or device of a layer, if it is wanted.
    fn write_wanted(
        &self,
        path: &[u8],
        entry: &TarEntry,
        content: &mut dyn Read,
        wanted: &mut PathMap<WantedFile>,
        buffer: &mut [u8],
    ) -> Result<()> {
        let is_written_now =
            matches!(entry.kind, EntryType::File | EntryType::CharacterDevice | EntryType::BlockDevice);
        let Some(file) = wanted.get_mut(path).filter(|_| is_written_now) else { return Ok(()) };
        let own = file.path.clone();
        let name = path_of_bytes(own.as_deref().unwrap_or(path));
        // A tar may hold a path twice, and the last entry counts.
        if std::mem::replace(&mut file.is_written, true) {
            self.root.dir().remove_file(&name).map_err(|error| self.root.failed(&name, "replace", error))?;
        }
        let failed = |error| self.root.failed(&name, "write", error);
        if entry.kind != EntryType::File {
            return self
                .attributes
                .make_device(self.root, &name, entry, &node_of(entry))
                .map_err(|error| self.cannot_make(&name, error));
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).follow(FollowSymlinks::No);
        let opened = self.root.dir().open_with(&name, &options).map_err(|error| self.cannot_make(&name, error))?;
        let opened = opened.into_std();
        write_content(&opened, content, buffer).map_err(failed)?;
        self.attributes
            .set_of_file(&opened, &node_of(entry))
            .map_err(|error| self.root.failed(&name, "set attributes of", error))
    }

    fn write_links(&self) -> Result<()> {
        for entry in self.files.entries() {
            let FlatEntry { path, node, .. } = entry?;
            let name = path_of_bytes(&path);
            let made = match &node.kind {
                ListedKind::Symlink { target } => self.attributes.make_symlink(self.root, &name, target, &node),
                ListedKind::Fifo => self.attributes.make_fifo(self.root, &name, &node),
                ListedKind::HardLink { target } => {
                    self.root.dir().hard_link(path_of_bytes(target), self.root.dir(), &name)
                }
                _ => Ok(()),
            };
            made.map_err(|error| self.cannot_make(&name, error))?;
        }
        Ok(())
    }

    fn finish_directory(&self, path: &[u8], node: &ListedNode) -> Result<()> {
        let name = if path.is_empty() { Path::new(".").into() } else { path_of_bytes(path) };
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No);
        let opened = self.root.dir().open_with(&name, &options).map(cap_std::fs::File::into_std);
        let set = opened.and_then(|opened| self.attributes.set_of_file(&opened, node));
        set.map_err(|error| self.root.failed(&name, "set attributes of", error))
    }

    fn cannot_make(&self, name: &Path, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let reason = "the file system does not distinguish its name from that of another file of the image";
                Error::invalid(self.root.display(name), reason).hint("extract onto a file system that does, or to -")
            }
            _ => self.root.failed(name, "create", error),
        }
    }
}

/// Notes that the file or device at `source` is written at `path`.
fn want(wanted: &mut [PathMap<WantedFile>], path: Vec<u8>, source: EntryPlace) {
    let path = (path != source.path).then(|| path.into_boxed_slice());
    wanted[source.layer].insert(&source.path, WantedFile { path, is_written: false });
}

/// Returns the attributes of an entry. Its owners fit, since it was listed.
fn node_of(entry: &TarEntry) -> ListedNode {
    let owner = |number| u32::try_from(number).unwrap_or(u32::MAX);
    ListedNode {
        kind: ListedKind::Directory,
        mode: (entry.mode & 0o7777) as u16,
        uid: owner(entry.uid),
        gid: owner(entry.gid),
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone().into(),
    }
}

/// Writes `content` to `file`, which is empty. Pieces of zeros become holes.
fn write_content(mut file: &File, content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = 0;
    let mut ends_in_hole = false;
    loop {
        let read = read_full(content, buffer)?;
        if read == 0 {
            break;
        }
        length += read as u64;
        ends_in_hole = read == buffer.len() && buffer.iter().all(|&byte| byte == 0);
        match ends_in_hole {
            true => drop(file.seek(SeekFrom::Start(length))?),
            false => file.write_all(&buffer[..read])?,
        }
    }
    if ends_in_hole { file.set_len(length) } else { Ok(()) }
}
