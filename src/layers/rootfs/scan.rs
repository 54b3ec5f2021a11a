//! Reads a layer once, to make its listing and to check it against its descriptor and its config.

use super::entry::{ListedKind, ListedNode, Program};
use super::listing::ListedBlob;
use crate::codec::compression::{Detected, Encoding, MemberNotes, decode_gzip_noting};
use crate::codec::tar;
use crate::codec::tar::Headers;
use crate::common::digest::{DiffId, Hashing};
use crate::common::error::{Error, ErrorKind, Result};
use crate::layers::rootfs::listing_writer::ListingWriter;
use crate::layers::rootfs::tar_facts::{EntryReader, RecordedReader, TarFacts};
use crate::spec::ImagePath;
use crate::spec::{Descriptor, media_type};
use crate::store::{BlobSource, Verified};
use std::io::{self, BufReader, Read};

/// The files whose content is kept in the listing.
const KEPT: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];
/// The largest file whose content is kept, in bytes.
const LARGEST_KEPT: u64 = 1 << 20;

/// The result of reading a layer.
pub(super) enum Scan {
    /// Its listing, in the stored format.
    Listed(Vec<u8>),
    /// The layer is intact, but cannot be listed, for this reason.
    Unlistable(String),
}

/// Returns the compression of `layer` according to its media type. Returns `None` for a type that cannot be read, such as
/// an encrypted layer.
pub(super) fn encoding_of(layer: &Descriptor) -> Option<Encoding> {
    media_type::layer_encoding(&layer.media_type)
}

/// Reads the blob of `layer` to its end. What its tar says beyond the listing is added to `facts`.
///
/// # Errors
/// Returns an error if the blob cannot be read, does not match its digest, is empty, is not compressed as its media type
/// says, is damaged, or holds another tar than `diff_id`, or if the layer has more entries than `facts` can hold.
pub(super) fn scan(
    layer: &Descriptor,
    diff_id: &DiffId,
    source: &dyn BlobSource,
    facts: Option<&mut TarFacts>,
) -> Result<Scan> {
    let object = format!("blob {}", layer.digest);
    if media_type::is_foreign_layer(&layer.media_type) {
        return Err(Error::invalid(object, "a foreign layer: its license forbids copying"));
    }
    let Some(declared) = encoding_of(layer) else {
        return Ok(Scan::Unlistable(format!("layer type `{}` is not supported", layer.media_type)));
    };
    let mut stored = Verified::new(source.open(layer)?, layer);
    let scanned = scan_stored(&mut stored, layer, declared, diff_id, facts);
    let Err(error) = scanned else { return scanned };
    if error.object() != object {
        // If the blob is damaged, errors of its content only follow from that. The damage is what to report.
        io::copy(&mut stored, &mut io::sink()).map_err(|error| Error::io(&object, "read", error))?;
    }
    Err(match error.object() {
        whole if whole == object => error,
        inner => Error::new(error.kind(), object, format!("{inner}: {}", error.reason())),
    })
}

fn scan_stored(
    stored: &mut (impl Read + Send),
    layer: &Descriptor,
    declared: Encoding,
    diff_id: &DiffId,
    facts: Option<&mut TarFacts>,
) -> Result<Scan> {
    let failed = |error| Error::io("layer", "read", error);
    let detected = Detected::new(&mut *stored).map_err(failed)?;
    if detected.is_empty() {
        return Err(Error::corrupt("layer", "empty: a layer of 0 bytes is not a tar"));
    }
    let actual = detected.encoding();
    if actual != declared {
        let reason = format!("declared as `{}`, but is {}", layer.media_type, actual.name());
        return Err(Error::corrupt("layer", reason));
    }
    let notes = MemberNotes::default();
    let content: Box<dyn Read + Send + '_> = match actual {
        Encoding::Gzip => Box::new(decode_gzip_noting(detected, &notes)),
        Encoding::Plain | Encoding::Zstd => detected.decode().map_err(failed)?,
    };
    let mut tar = Hashing::new(content, diff_id.as_digest().algorithm());
    let mut writer = ListingWriter::default();
    let listed = match list(&mut tar, &mut writer, facts) {
        // An entry that only our reader does not understand does not make the layer invalid.
        Err(error) if error.kind() == ErrorKind::Invalid => Err(error.reason()),
        Err(error) => return Err(error),
        Ok(()) => Ok(()),
    };
    // The tar is read to its end even if its entries are not understood, because the rest counts for the diff ID.
    let (found, _) = tar.finish().map_err(failed)?;
    io::copy(stored, &mut io::sink()).map_err(failed)?;
    if found != diff_id.as_digest() {
        return Err(Error::corrupt("layer", format!("its tar has the digest {found}, expected the diff ID {diff_id}")));
    }
    writer.set_members(notes.take());
    Ok(match listed {
        Ok(()) => Scan::Listed(writer.finish(&ListedBlob::new(diff_id, &layer.digest, actual))),
        Err(reason) => Scan::Unlistable(reason),
    })
}

fn list(tar: &mut impl Read, writer: &mut ListingWriter, mut facts: Option<&mut TarFacts>) -> Result<()> {
    let mut source = RecordedReader::new(BufReader::with_capacity(64 << 10, tar));
    let mut headers = Headers::new("tar");
    loop {
        if facts.is_some() {
            source.record();
        }
        let Some(entry) = headers.next(&mut source)? else { break };
        let header = source.recorded();
        let (head, content) = match &mut facts {
            Some(facts) => {
                let mut hashed = EntryReader::new(&mut source, &entry, &header, facts.keys());
                let read = content(&mut hashed, &entry)?;
                facts.add(hashed.finish())?;
                read
            }
            None => content(&mut source, &entry)?,
        };
        let start = headers.position() - entry.size - tar::padding(entry.size);
        // Extractors refuse or skip paths that lead out of the image.
        let Ok(path) = ImagePath::new(&entry.path) else { continue };
        let directory = path.parent();
        let within = |directory: &Option<ImagePath>| directory.as_ref().map_or(Vec::new(), |it| it.as_bytes().to_vec());
        match path.name() {
            b".wh..wh..opq" => writer.add_opaque(&within(&directory))?,
            // Names that AUFS reserved for itself.
            name if name.starts_with(b".wh..wh.") => {}
            name => match name.strip_prefix(b".wh.") {
                Some(name) if !name.is_empty() => {
                    let mut removed = within(&directory);
                    if !removed.is_empty() {
                        removed.push(b'/');
                    }
                    removed.extend_from_slice(name);
                    writer.add_whiteout(&removed)?;
                }
                _ => writer.add(path.as_bytes(), &node(entry, &head, content)?, start)?,
            },
        }
    }
    headers.check_rest(&mut source)?;
    if let Some(facts) = facts {
        facts.end(source.length());
    }
    Ok(())
}

/// Reads past the content of an entry. Returns its first bytes, and the whole content if it is kept.
fn content(source: &mut impl Read, entry: &tar::TarEntry) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let failed = |error| Error::io("tar", "read", error);
    let path = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
    let is_kept = KEPT.contains(&path) && entry.kind == tar::EntryType::File && entry.size <= LARGEST_KEPT;
    let wanted = if is_kept { entry.size } else { entry.size.min(Program::HEAD as u64) };
    let mut start = Vec::new();
    io::copy(&mut source.take(wanted), &mut start).map_err(failed)?;
    let rest = entry.size + tar::padding(entry.size) - start.len() as u64;
    let skipped = io::copy(&mut source.take(rest), &mut io::sink()).map_err(failed)?;
    if skipped < rest {
        return Err(Error::invalid("tar", "malformed tar: unexpected end inside a file"));
    }
    let head = start[..start.len().min(Program::HEAD)].to_vec();
    Ok((head, is_kept.then_some(start)))
}

fn node(entry: tar::TarEntry, head: &[u8], content: Option<Vec<u8>>) -> Result<ListedNode> {
    let owner = |number: u64| u32::try_from(number).map_err(|_| Error::invalid("tar", format!("the owner {number}")));
    let (uid, gid) = (owner(entry.uid)?, owner(entry.gid)?);
    let kind = match entry.kind {
        tar::EntryType::File => ListedKind::File { size: entry.size, program: Program::of_head(head), content },
        tar::EntryType::Directory => ListedKind::Directory,
        tar::EntryType::Symlink => ListedKind::Symlink { target: entry.link },
        tar::EntryType::HardLink => {
            // The target is relative to the root of the layer, as for extractors.
            let target = ImagePath::new(&entry.link).map_or(entry.link, |path| path.as_bytes().to_vec());
            ListedKind::HardLink { target }
        }
        tar::EntryType::CharacterDevice => ListedKind::CharacterDevice,
        tar::EntryType::BlockDevice => ListedKind::BlockDevice,
        tar::EntryType::Fifo => ListedKind::Fifo,
    };
    // The tar reader returns at most 0o7777.
    let mode = (entry.mode & 0o7777) as u16;
    Ok(ListedNode { kind, mode, uid, gid, mtime: entry.mtime, xattrs: entry.xattrs.into() })
}
