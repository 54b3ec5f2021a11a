//! A library object in its stored form.

use crate::codec::compression;
use crate::codec::compression::{Encoding, GzipMembers};
use crate::codec::zip::{Archive, ZipMember};
use crate::common::bounded_read::read_full;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::file_section::{Section, read_full_at};
use crate::rcc::NamedObject;
use crate::rcc::hololib::small_objects;
use crate::rcc::hololib::small_objects::SMALL;
use crate::rcc::object::ObjectHasher;
use cap_std::fs::Metadata;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;
use std::time::SystemTime;

/// A library object, open for reading as often as needed.
#[derive(Debug, Clone)]
pub struct StoredObject {
    object: NamedObject,
    bytes: ObjectBytes,
    encoding: Encoding,
    shown: String,
}

/// The use of the gzip data of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GzipUse {
    /// It is decoded.
    Decode,
    /// It is decoded, and its members are kept.
    Keep,
}

/// The verified content of an object.
pub(super) enum ObjectContent {
    /// The content, in memory.
    Whole(Vec<u8>),
    /// A reader, which verifies the content when it reaches its end.
    Stream(Box<dyn Read + Send>),
}

impl ObjectContent {
    fn into_reader(self) -> Box<dyn Read + Send> {
        match self {
            ObjectContent::Whole(content) => Box::new(Cursor::new(content)),
            ObjectContent::Stream(reader) => reader,
        }
    }
}

/// A small object that was read into memory.
struct Small {
    content: Vec<u8>,
    /// The gzip file of the content, if it is compressed.
    gzip: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum ObjectBytes {
    File { file: Arc<File>, stamp: ObjectStamp },
    Member { archive: Arc<Archive>, member: ZipMember },
}

/// The metadata of a file that changes when it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ObjectStamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl ObjectStamp {
    fn of(metadata: &Metadata) -> ObjectStamp {
        ObjectStamp { length: metadata.len(), modified: metadata.modified().ok().map(|time| time.into_std()) }
    }
}

impl StoredObject {
    pub(super) fn in_file(object: NamedObject, file: File, metadata: &Metadata, shown: String) -> Result<StoredObject> {
        let stamp = ObjectStamp::of(metadata);
        StoredObject::new(object, ObjectBytes::File { file: Arc::new(file), stamp }, shown)
    }

    pub(super) fn in_archive(
        object: NamedObject,
        archive: Arc<Archive>,
        member: ZipMember,
        shown: String,
    ) -> Result<StoredObject> {
        StoredObject::new(object, ObjectBytes::Member { archive, member }, shown)
    }

    /// Determines how the object is stored.
    ///
    /// The first bytes decide, unless the content itself looks compressed and the stored bytes could be exactly that
    /// content: then the digest decides.
    fn new(object: NamedObject, bytes: ObjectBytes, shown: String) -> Result<StoredObject> {
        let mut stored = StoredObject { object, bytes, encoding: Encoding::Plain, shown };
        let mut start = [0; 4];
        let length = stored.start(&mut start)?;
        stored.encoding = Encoding::of_bytes(&start[..length]);
        stored.check_claimed_size()?;
        if stored.encoding != Encoding::Plain && stored.stored_size() == object.size {
            let content = stored.stream();
            if content.and_then(|mut content| stored.drain(&mut content)).is_err() {
                stored.encoding = Encoding::Plain;
            }
        }
        Ok(stored)
    }

    /// Checks that the stored bytes can hold the claimed size, before it is used.
    fn check_claimed_size(&self) -> Result<()> {
        // Generous upper bounds for the content in 3 bytes of deflate and in 4 bytes of zstd.
        let most_of_a_byte = match self.encoding {
            Encoding::Plain => return Ok(()),
            Encoding::Gzip => 1100,
            Encoding::Zstd => 128 << 10,
        };
        let (size, stored) = (self.object.size, self.stored_size());
        if size <= stored.saturating_mul(most_of_a_byte).max(stored) {
            return Ok(());
        }
        Err(Error::corrupt(&self.shown, format!("expected {size} bytes, which its {stored} stored bytes cannot hold")))
    }

    /// Returns the digest and size of the content.
    pub fn object(&self) -> NamedObject {
        self.object
    }

    /// Returns how the content is stored.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the number of stored bytes.
    pub fn stored_size(&self) -> u64 {
        match &self.bytes {
            ObjectBytes::File { stamp, .. } => stamp.length,
            ObjectBytes::Member { member, .. } => member.size(),
        }
    }

    /// Returns the same as [`Hololib::content_looks_compressed`](super::Hololib::content_looks_compressed).
    pub(super) fn content_looks_compressed(&self) -> Result<bool> {
        let mut start = [0; 4];
        let mut content = self.stream()?;
        let filled = read_full(&mut content, &mut start).map_err(|error| Error::io(&self.shown, "read", error))?;
        Ok(Encoding::of_bytes(&start[..filled]) != Encoding::Plain)
    }

    /// Opens the content for reading.
    ///
    /// The reader yields exactly the size of the content in bytes, and ends without error only if the digest was right.
    ///
    /// # Errors
    /// Returns an error if the object is found damaged on opening. The reader returns an error for damage to a large
    /// object.
    pub fn content(&self) -> Result<Box<dyn Read + Send>> {
        Ok(self.open(GzipUse::Decode)?.0.into_reader())
    }

    /// Opens the content as [`StoredObject::content`] does, and returns the gzip members that hold it.
    ///
    /// There are no members if the object is stored in another form.
    ///
    /// # Errors
    /// Fails if [`StoredObject::content`] does.
    pub fn content_with_members(&self) -> Result<(Box<dyn Read + Send>, Option<GzipMembers>)> {
        let (content, members) = self.open(GzipUse::Keep)?;
        Ok((content.into_reader(), members))
    }

    /// Reads the content as [`Hololib::read`](super::Hololib::read) does.
    pub(super) fn read(&self, content: &mut [u8]) -> Result<()> {
        let unread = |error| Error::io(&self.shown, "read", error);
        let mut stream = self.content()?;
        stream.read_exact(content).map_err(unread)?;
        // The reader verifies the content when it reaches its end.
        match stream.read(&mut [0]).map_err(unread)? {
            0 => Ok(()),
            _ => Err(Error::invalid(&self.shown, format!("longer than {} bytes", content.len()))),
        }
    }

    /// Opens the stored bytes for reading.
    ///
    /// The reader ends without error only if the content in the bytes matches the digest.
    ///
    /// # Errors
    /// Returns an error if the decoder cannot be created. The reader returns an error for damage.
    pub fn stored(&self) -> Result<Box<dyn Read + Send>> {
        let check = Check::new(self.clone());
        let decoder: Box<dyn ObjectDecoder> = match self.encoding {
            Encoding::Plain => Box::new(check),
            Encoding::Gzip => Box::new(flate2::write::MultiGzDecoder::new(check)),
            Encoding::Zstd => Box::new(ZstdDecoder::new(check).map_err(|error| Error::io(&self.shown, "read", error))?),
        };
        let left = self.stored_size();
        Ok(Box::new(StoredReader { source: self.raw(), decoder: Some(decoder), left, stored: self.clone() }))
    }

    /// Opens the content, with the gzip members that hold it if they are to be kept and the object consists of them.
    ///
    /// A small object in a file is read at once, and any other one as a stream.
    pub(super) fn open(&self, gzip_use: GzipUse) -> Result<(ObjectContent, Option<GzipMembers>)> {
        let keeps_members = gzip_use == GzipUse::Keep && self.encoding == Encoding::Gzip && self.is_dense();
        match self.small()? {
            Some(Small { content, gzip: Some(gzip) }) if keeps_members => {
                // Several members are kept while they are read as a stream.
                if let Some(member) = compression::single_member(gzip) {
                    return Ok((ObjectContent::Whole(content), Some(GzipMembers::of(member))));
                }
            }
            Some(Small { content, .. }) => return Ok((ObjectContent::Whole(content), None)),
            None => {}
        }
        if !keeps_members {
            return Ok((ObjectContent::Stream(self.stream()?), None));
        }
        let members = GzipMembers::default();
        let source = Box::new(compression::decode_gzip_keeping(self.raw(), &members));
        let reader = ContentReader { source, check: Some(Check::new(self.clone())) };
        Ok((ObjectContent::Stream(Box::new(reader)), Some(members)))
    }

    fn small(&self) -> Result<Option<Small>> {
        let stored_size = self.stored_size();
        if self.object.size > SMALL || stored_size > SMALL {
            return Ok(None);
        }
        let found = match self.encoding {
            Encoding::Plain => self.stored_bytes(stored_size)?.map(|content| Small { content, gzip: None }),
            Encoding::Gzip => self.stored_bytes(stored_size)?.and_then(|gzip| {
                let content = self.inflate(&gzip)?;
                Some(Small { content, gzip: Some(gzip) })
            }),
            Encoding::Zstd => None,
        };
        // On a mismatch, the slow path reports the error.
        Ok(found.filter(|Small { content, .. }| {
            content.len() as u64 == self.object.size && self.object.digest.like(content) == self.object.digest
        }))
    }

    /// Returns whether the object is at most slightly longer than its content, as compressors produce it.
    ///
    /// Deflate data may also be arbitrarily longer than its content, and would fill the memory.
    fn is_dense(&self) -> bool {
        self.stored_size() <= self.object.size + self.object.size / 8 + 64
    }

    fn stored_bytes(&self, size: u64) -> Result<Option<Vec<u8>>> {
        let ObjectBytes::File { file, .. } = &self.bytes else { return Ok(None) };
        // At most `SMALL`, so it fits any `usize`.
        let mut bytes = vec![0; size as usize];
        let read = read_full_at(file, &mut bytes, 0).map_err(|error| Error::io(&self.shown, "read", error))?;
        Ok((read == bytes.len()).then_some(bytes))
    }

    /// Decompresses a single gzip member in one call. Returns `None` if `stored` is anything else.
    fn inflate(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let mut content = vec![0; self.object.size as usize];
        small_objects::inflate(stored, &mut content).then_some(content)
    }

    /// Opens the content as a stream.
    fn stream(&self) -> Result<Box<dyn Read + Send>> {
        let decoded = compression::decode(self.raw(), self.encoding).map_err(|error| self.blame(error))?;
        Ok(Box::new(ContentReader { source: decoded, check: Some(Check::new(self.clone())) }))
    }

    fn drain(&self, content: &mut dyn Read) -> Result<()> {
        io::copy(content, &mut io::sink()).map(drop).map_err(|error| Error::io(&self.shown, "read", error))
    }

    fn start(&self, start: &mut [u8]) -> Result<usize> {
        let unreadable = |error| Error::io(&self.shown, "read", error);
        match &self.bytes {
            ObjectBytes::File { file, .. } => read_full_at(file, start, 0).map_err(unreadable),
            ObjectBytes::Member { .. } => read_full(&mut self.raw(), start).map_err(unreadable),
        }
    }

    /// Opens the stored bytes, unverified.
    fn raw(&self) -> Box<dyn Read + Send> {
        match &self.bytes {
            ObjectBytes::File { file, stamp } => Box::new(Section::new(file.clone(), 0, stamp.length)),
            ObjectBytes::Member { archive, member } => archive.read(*member),
        }
    }

    /// Returns the cause of `error`: the file was modified during reading, or it is damaged.
    fn blame(&self, error: io::Error) -> Error {
        if let ObjectBytes::File { file, stamp } = &self.bytes
            && Metadata::from_file(file).ok().map(|metadata| ObjectStamp::of(&metadata)) != Some(*stamp)
        {
            return Error::new(ErrorKind::Changed, self.shown.clone(), "changed while reading").hint("run it again");
        }
        // An error without an OS error code comes from a decoder.
        let is_from_decoder =
            error.raw_os_error().is_none() && !error.get_ref().is_some_and(|inner| inner.is::<Error>());
        if is_from_decoder && error.kind() != io::ErrorKind::Interrupted {
            return Error::corrupt(self.shown.clone(), format!("corrupt: {error}"));
        }
        let error = Error::io(&self.shown, "read", error);
        match error.kind() {
            ErrorKind::Corrupt if error.object() != self.shown => {
                Error::corrupt(self.shown.clone(), format!("corrupt: {}: {}", error.object(), error.reason()))
            }
            _ => error,
        }
    }
}

/// Verifies the size and digest of content that passes through it.
struct Check {
    stored: StoredObject,
    hasher: ObjectHasher,
    seen: u64,
}

impl Check {
    fn new(stored: StoredObject) -> Check {
        let hasher = ObjectHasher::like(&stored.object.digest);
        Check { stored, hasher, seen: 0 }
    }

    fn corrupt(&self, reason: String) -> io::Error {
        self.stored.blame(Error::corrupt(self.stored.shown.clone(), reason).into()).into()
    }

    fn update(&mut self, content: &[u8]) -> io::Result<()> {
        self.seen += content.len() as u64;
        let size = self.stored.object.size;
        if self.seen > size {
            return Err(self.corrupt(format!("corrupt: expected {size} bytes, found more")));
        }
        self.hasher.update(content);
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        let NamedObject { digest, size } = self.stored.object;
        if self.seen < size {
            return Err(self.corrupt(format!("corrupt: expected {size} bytes, found {}", self.seen)));
        }
        let Check { stored, hasher, .. } = self;
        let found = hasher.finish();
        if found == digest {
            return Ok(());
        }
        let error =
            Error::corrupt(stored.shown.clone(), format!("corrupt: expected the digest {digest}, found {found}"));
        Err(stored.blame(error.into()).into())
    }
}

/// A reader that verifies the content.
struct ContentReader {
    source: Box<dyn Read + Send>,
    /// `None` after the end.
    check: Option<Check>,
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(check) = &mut self.check else { return Ok(0) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.source.read(buffer).map_err(|error| io::Error::from(check.stored.blame(error)))?;
        check.update(&buffer[..read])?;
        if read == 0
            && let Some(check) = self.check.take()
        {
            check.finish()?;
        }
        Ok(read)
    }
}

/// A decoder that takes stored bytes, and verifies their content at the end.
trait ObjectDecoder: Write + Send {
    fn finish(self: Box<Self>) -> io::Result<()>;
}

impl Write for Check {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        self.update(content).map(|()| content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectDecoder for Check {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Check::finish(*self)
    }
}

impl ObjectDecoder for flate2::write::MultiGzDecoder<Check> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        flate2::write::MultiGzDecoder::finish(*self)?.finish()
    }
}

/// A zstd decoder that can return the writer inside it.
struct ZstdDecoder(zstd::stream::write::Decoder<'static, Check>);

impl ZstdDecoder {
    fn new(check: Check) -> io::Result<ZstdDecoder> {
        zstd::stream::write::Decoder::new(check).map(ZstdDecoder)
    }
}

impl Write for ZstdDecoder {
    fn write(&mut self, stored: &[u8]) -> io::Result<usize> {
        self.0.write(stored)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl ObjectDecoder for ZstdDecoder {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()?;
        self.0.into_inner().finish()
    }
}

/// A reader of stored bytes that verifies their content.
struct StoredReader {
    source: Box<dyn Read + Send>,
    /// `None` after the end.
    decoder: Option<Box<dyn ObjectDecoder>>,
    left: u64,
    stored: StoredObject,
}

impl Read for StoredReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let blame = |stored: &StoredObject, error| io::Error::from(stored.blame(error));
        let read = self.source.read(buffer).map_err(|error| blame(&self.stored, error))?;
        decoder.write_all(&buffer[..read]).map_err(|error| blame(&self.stored, error))?;
        self.left = self.left.saturating_sub(read as u64);
        if read > 0 {
            return Ok(read);
        }
        if self.left > 0 {
            let short = Error::corrupt(self.stored.shown.clone(), "corrupt: truncated").into();
            return Err(blame(&self.stored, short));
        }
        if let Some(decoder) = self.decoder.take() {
            decoder.finish().map_err(|error| blame(&self.stored, error))?;
        }
        Ok(0)
    }
}
