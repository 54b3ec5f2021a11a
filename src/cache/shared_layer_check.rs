//! The examination of a layer from another machine, while it is downloaded.

use crate::codec::compression::{Encoding, decode};
use crate::codec::tar;
use crate::codec::tar::{EntryType, Headers};
use crate::common::digest::{DiffId, Hashing};
use crate::common::error::{Error, Result};
use crate::layers::Layer;
use crate::spec::ImagePath;
use crate::spec::{Descriptor, media_type};
use crate::store::{BlobSource, Verified};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// The maximum number of pieces of a blob that wait for examination.
const WAITING: usize = 8;

/// A source of one layer. Its reader reaches the end only if the layer's content is allowed for its recipe.
pub(super) struct Examined<'e> {
    source: &'e dyn BlobSource,
    diff_id: DiffId,
    roots: Arc<[ImagePath]>,
    has_passed: Arc<AtomicBool>,
}

impl<'e> Examined<'e> {
    /// Creates a source of `layer`, all of whose entries must be below `roots`.
    pub(super) fn new(source: &'e dyn BlobSource, layer: &Layer, roots: &[ImagePath]) -> Self {
        Examined { source, diff_id: layer.diff_id, roots: roots.into(), has_passed: Arc::default() }
    }

    /// Returns whether the layer was read to its end without an error.
    pub(super) fn has_passed(&self) -> bool {
        self.has_passed.load(Ordering::Acquire)
    }
}

impl BlobSource for Examined<'_> {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let encoding = media_type::layer_encoding(&descriptor.media_type)
            .ok_or_else(|| Error::invalid(format!("blob {}", descriptor.digest), "not a layer"))?;
        let (sender, receiver) = sync_channel(WAITING);
        let (roots, diff_id, object) = (self.roots.clone(), self.diff_id, format!("blob {}", descriptor.digest));
        let examine =
            move || examine(Pieces { receiver, piece: Vec::new(), read: 0 }, encoding, diff_id, &roots, &object);
        let examiner =
            Builder::new().spawn(examine).map_err(|error| Error::io("layer", "start a thread for", error))?;
        let (sender, examiner) = (Some(sender), Some(examiner));
        let has_passed = self.has_passed.clone();
        let source = Verified::new(self.source.open(descriptor)?, descriptor);
        Ok(Box::new(Tee { source, sender, examiner, has_passed }))
    }
}

/// Copies what is read to the examining thread, and fails if that thread fails.
struct Tee<'t> {
    source: Verified<Box<dyn Read + Send + 't>>,
    sender: Option<SyncSender<Vec<u8>>>,
    examiner: Option<JoinHandle<Result<()>>>,
    has_passed: Arc<AtomicBool>,
}

impl Tee<'_> {
    fn finish(&mut self) -> io::Result<()> {
        self.sender = None;
        if let Some(examiner) = self.examiner.take() {
            examiner.join().unwrap_or_else(|_| Err(Error::invalid("layer", "checking it stopped unexpectedly")))?;
            self.has_passed.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.finish()?;
        } else if let Some(sender) = &self.sender
            && sender.send(buffer[..read].to_vec()).is_err()
        {
            // The examining thread stopped before the end of the blob, which happens only after an error. If the blob does not
            // match its digest, that is the error to report.
            io::copy(&mut self.source, &mut io::sink())?;
            self.finish()?;
            return Err(Error::invalid("layer", "has trailing data").into());
        }
        Ok(read)
    }
}

/// The pieces that a [`Tee`] sends, as one stream.
struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.read) = (piece, 0);
        }
        let length = buffer.len().min(self.piece.len() - self.read);
        buffer[..length].copy_from_slice(&self.piece[self.read..][..length]);
        self.read += length;
        Ok(length)
    }
}

fn examine(blob: Pieces, encoding: Encoding, diff_id: DiffId, roots: &[ImagePath], object: &str) -> Result<()> {
    let unreadable = |error| match Error::io(object, "read", error) {
        error if error.object() == object => error,
        error => error.within(object),
    };
    let tar = decode(blob, encoding).map_err(unreadable)?;
    let mut tar = Hashing::new(tar, diff_id.as_digest().algorithm());
    let mut headers = Headers::new(object);
    while let Some(entry) = headers.next(&mut tar)? {
        check(&entry, roots).map_err(|reason| {
            let path = String::from_utf8_lossy(&entry.path);
            Error::invalid(object, format!("the entry `{path}` {reason}, which is not accepted from a shared cache"))
        })?;
        let length = entry.size + tar::padding(entry.size);
        if io::copy(&mut (&mut tar).take(length), &mut io::sink()).map_err(unreadable)? < length {
            return Err(Error::corrupt(object, "malformed tar: unexpected end inside a file"));
        }
    }
    headers.check_rest(&mut tar)?;
    let (found, _) = tar.finish().map_err(unreadable)?;
    if found != diff_id.as_digest() {
        return Err(Error::corrupt(object, format!("its tar has the digest {found}, expected the diff ID {diff_id}")));
    }
    Ok(())
}

/// Checks an entry of a layer whose files must be below `roots`. The parent directories of a root are allowed, if only root can
/// write to them.
fn check(entry: &tar::TarEntry, roots: &[ImagePath]) -> Result<(), String> {
    let below = |bytes: &[u8]| {
        let path = ImagePath::new(bytes).map_err(|error| error.reason())?;
        Ok::<bool, String>(roots.iter().any(|root| is_inside(path.as_bytes(), root.as_bytes())))
    };
    let name = entry.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if name.starts_with(b".wh.") {
        return Err("is a whiteout".to_owned());
    }
    if entry.mode & 0o6000 != 0 {
        return Err("is setuid or setgid".to_owned());
    }
    if entry.xattrs.iter().any(|(name, _)| name.starts_with(b"security.") || name.starts_with(b"trusted.")) {
        return Err("has an extended attribute that grants privileges".to_owned());
    }
    if !below(&entry.path)? {
        let path = ImagePath::new(&entry.path).map_err(|error| error.reason())?;
        let is_on_the_way = roots.iter().any(|root| is_inside(root.as_bytes(), path.as_bytes()));
        let is_closed = entry.kind == EntryType::Directory && entry.mode & 0o022 == 0 && entry.uid == 0;
        return if is_on_the_way && is_closed {
            Ok(())
        } else {
            Err("is outside the directories of the environment".to_owned())
        };
    }
    match entry.kind {
        EntryType::File | EntryType::Directory | EntryType::Symlink => Ok(()),
        EntryType::HardLink if below(&entry.link)? => Ok(()),
        EntryType::HardLink => Err("is a link to a path outside the directories of the environment".to_owned()),
        _ => Err("is a device or a pipe".to_owned()),
    }
}

/// Returns whether `path` is `root`, or below it.
fn is_inside(path: &[u8], root: &[u8]) -> bool {
    root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(path: &str, kind: EntryType, mode: u32, link: &str) -> Result<(), String> {
        let roots = ["home/robot", "usr/local/bin/rcc"].map(|root| ImagePath::new(root.as_bytes()).unwrap());
        let (path, link) = (path.as_bytes().to_vec(), link.as_bytes().to_vec());
        let (uid, gid, size, mtime, xattrs, offset) = (0, 0, 0, 0, Vec::new(), 0);
        check(&tar::TarEntry { path, kind, mode, uid, gid, size, mtime, link, xattrs, device: (0, 0), offset }, &roots)
    }

    /// M38: the allowed content of a layer from another machine.
    #[test]
    fn a_layer_of_others_holds_what_its_recipe_makes() {
        assert!(checked("home/robot/x", EntryType::File, 0o644, "").is_ok());
        assert!(checked("home/robot", EntryType::Directory, 0o775, "").is_ok());
        assert!(checked("home", EntryType::Directory, 0o755, "").is_ok());
        assert!(checked("usr/local/bin/rcc", EntryType::File, 0o755, "").is_ok());
        assert!(checked("home/robot/x", EntryType::Symlink, 0o777, "/etc/passwd").is_ok());
        assert!(checked("home/robot/x", EntryType::HardLink, 0o644, "home/robot/y").is_ok());
        for (path, kind, mode, link) in [
            ("etc/passwd", EntryType::File, 0o644, ""),
            ("home/robotx", EntryType::File, 0o644, ""),
            ("home", EntryType::File, 0o644, ""),
            ("home", EntryType::Directory, 0o777, ""),
            ("home/robot/.wh.x", EntryType::File, 0o644, ""),
            ("home/robot/.wh..wh..opq", EntryType::File, 0o644, ""),
            ("home/robot/su", EntryType::File, 0o4755, ""),
            ("home/robot/sg", EntryType::File, 0o2755, ""),
            ("home/robot/x", EntryType::HardLink, 0o644, "etc/shadow"),
            ("home/robot/../../etc/x", EntryType::File, 0o644, ""),
        ] {
            assert!(checked(path, kind, mode, link).is_err(), "{path} {mode:o} {link}");
        }
    }
}
