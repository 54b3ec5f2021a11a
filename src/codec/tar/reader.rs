//! Reads the entries of archives that other programs wrote.

use super::{BLOCK, EntryType, padding};
use crate::common::error::{Error, Result};
use std::io::{self, Read};

/// The length limit of a path or link target, in bytes.
const LONGEST_NAME: u64 = 4096;
/// The size limit of an entry's extended header, in bytes (Go's limit).
const LARGEST_EXTENSION: u64 = 1 << 20;

/// A decoded entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// The path as written, without the slash at a directory's end.
    pub path: Vec<u8>,
    /// The kind of the entry.
    pub kind: EntryType,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// The user id of the owner.
    pub uid: u64,
    /// The group id.
    pub gid: u64,
    /// The length of the content in bytes.
    pub size: u64,
    /// Modification time, in whole seconds since the epoch, rounded down.
    pub mtime: i64,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The major and minor number of a device; zero for everything else.
    pub device: (u32, u32),
    /// The offset of the content from the start of the archive, in bytes.
    pub offset: u64,
}

/// The end of an archive, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Correct: two blocks of zeros.
    Complete,
    /// A single block of zeros.
    OneZeroBlock,
    /// No block of zeros.
    Absent,
}

impl Ending {
    /// Returns a warning if the archive does not end correctly.
    pub fn oddity(self) -> Option<&'static str> {
        match self {
            Ending::Complete => None,
            Ending::OneZeroBlock | Ending::Absent => Some("the two zero blocks that end a tar are missing"),
        }
    }
}

/// Decodes headers one after another.
///
/// The source is passed to each call and must be at [`Headers::position`], so that a seekable archive can be indexed
/// without reading its content and a stream can be read with it.
#[derive(Debug)]
pub struct Headers {
    object: String,
    position: u64,
    ending: Option<Ending>,
}

/// Values from extended headers for the entry that follows them.
#[derive(Default)]
struct Extension {
    is_present: bool,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Headers {
    /// Starts at the first byte of an archive that messages call `object`.
    pub fn new(object: impl Into<String>) -> Self {
        Headers { object: object.into(), position: 0, ending: None }
    }

    /// Returns the offset of the next header: after the content and padding of the previous entry.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns how the archive ended, once [`Headers::next`] has returned `None`.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Decodes the next entry from `source`, or returns `None` at the end of the archive.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a tar header, exceed a limit, or can be interpreted in two ways.
    pub fn next(&mut self, source: &mut impl Read) -> Result<Option<TarEntry>> {
        let mut extension = Extension::default();
        loop {
            let Some(block) = self.block(source)? else {
                return self.end(Ending::Absent, &extension);
            };
            if block.iter().all(|&byte| byte == 0) {
                return match self.block(source)? {
                    None => self.end(Ending::OneZeroBlock, &extension),
                    Some(second) if second.iter().all(|&byte| byte == 0) => self.end(Ending::Complete, &extension),
                    Some(_) => Err(self.wrong("a single zero block between entries")),
                };
            }
            self.check_sum(&block)?;
            match block[156] {
                b'x' => self.read_pax(source, &block, &mut extension)?,
                b'g' => self.read_global(source, &block)?,
                b'L' => {
                    let name = self.read_long_name(source, &block)?;
                    self.set_once(&mut extension.path, name)?;
                    extension.is_present = true;
                }
                b'K' => {
                    let name = self.read_long_name(source, &block)?;
                    self.set_once(&mut extension.link, name)?;
                    extension.is_present = true;
                }
                _ => return self.decode(&block, extension).map(Some),
            }
        }
    }

    /// Checks that only zeros follow the end of the archive.
    ///
    /// # Errors
    /// Returns an error if anything else follows, or `source` cannot be read.
    pub fn check_rest(&self, source: &mut impl Read) -> Result<()> {
        let mut buffer = [0; 8192];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().all(|&byte| byte == 0) => {}
                Ok(_) => return Err(self.wrong("trailing data after the end of the archive")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(&self.object, "read", error)),
            }
        }
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> Error {
        Error::invalid(&self.object, format!("malformed tar near byte {}: {reason}", self.position))
    }

    fn end(&mut self, ending: Ending, extension: &Extension) -> Result<Option<TarEntry>> {
        if extension.is_present {
            return Err(self.wrong("an extended header without an entry"));
        }
        self.ending = Some(ending);
        Ok(None)
    }

    /// Reads the next block. Returns `None` at a clean end of the source.
    fn block(&mut self, source: &mut impl Read) -> Result<Option<[u8; BLOCK as usize]>> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.wrong("unexpected end inside a header")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(&self.object, "read", error)),
            }
        }
        self.position += BLOCK;
        Ok(Some(block))
    }

    /// Reads the content of an extension header, without its padding.
    fn extension(&mut self, source: &mut impl Read, size: u64, limit: u64) -> Result<Vec<u8>> {
        if size > limit {
            return Err(self.wrong(format_args!("an extended header of {size} bytes, more than {limit}")));
        }
        let mut bytes = vec![0; (size + padding(size)) as usize];
        source.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.wrong("unexpected end inside an extended header"),
            _ => Error::io(&self.object, "read", error),
        })?;
        self.position += bytes.len() as u64;
        if bytes[size as usize..].iter().any(|&byte| byte != 0) {
            // GNU tar and Python read on to the end of the block, Go does not.
            return Err(self.wrong("an extended header that goes on behind its size"));
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn check_sum(&self, block: &[u8]) -> Result<()> {
        let found = self.number(&block[148..156], "checksum")?;
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        let blanks: u64 = block[148..156].iter().map(|&byte| u64::from(byte)).sum();
        if found == sum - blanks + 8 * u64::from(b' ') { Ok(()) } else { Err(self.wrong("bad header checksum")) }
    }

    fn read_pax(&mut self, source: &mut impl Read, block: &[u8], extension: &mut Extension) -> Result<()> {
        if extension.is_present {
            return Err(self.wrong("two extended headers for one entry"));
        }
        extension.is_present = true;
        let size = self.number(&block[124..136], "size")?;
        let bytes = self.extension(source, size, LARGEST_EXTENSION)?;
        let mut rest = &bytes[..];
        while let Some((key, value)) = self.pax_record(&mut rest)? {
            self.apply(key, value, extension)?;
        }
        extension.xattrs.sort();
        Ok(())
    }

    /// Splits the first `LENGTH KEY=VALUE\n` from `rest`.
    fn pax_record<'a>(&self, rest: &mut &'a [u8]) -> Result<Option<(&'a [u8], &'a [u8])>> {
        if rest.is_empty() {
            return Ok(None);
        }
        let malformed = || self.wrong("malformed PAX record");
        let space = rest.iter().take(20).position(|&byte| byte == b' ').ok_or_else(malformed)?;
        let length = decimal(&rest[..space]).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
        if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &rest[space + 1..length - 1];
        let equals = record.iter().position(|&byte| byte == b'=').filter(|&key| key > 0).ok_or_else(malformed)?;
        *rest = &rest[length..];
        Ok(Some((&record[..equals], &record[equals + 1..])))
    }

    fn apply(&self, key: &[u8], value: &[u8], extension: &mut Extension) -> Result<()> {
        let number = || decimal(value).ok_or_else(|| self.wrong("invalid PAX number"));
        match key {
            b"path" => extension.path = Some(self.name(value)?),
            b"linkpath" => extension.link = Some(self.name(value)?),
            b"size" => extension.size = Some(number()?),
            b"uid" => extension.uid = Some(number()?),
            b"gid" => extension.gid = Some(number()?),
            b"mtime" => extension.mtime = Some(seconds(value).ok_or_else(|| self.wrong("invalid PAX mtime"))?),
            _ if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" => {
                return Err(self.wrong("sparse entries are not supported"));
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    extension.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Reads a global header, which may only hold a comment (`git archive` writes one).
    ///
    /// Anything that changes entries is rejected, because programs disagree about how long it applies.
    fn read_global(&mut self, source: &mut impl Read, block: &[u8]) -> Result<()> {
        let size = self.number(&block[124..136], "size")?;
        let bytes = self.extension(source, size, LARGEST_EXTENSION)?;
        let mut rest = &bytes[..];
        while let Some((key, _)) = self.pax_record(&mut rest)? {
            if key != b"comment" {
                return Err(self.wrong("a global PAX header that changes entries"));
            }
        }
        Ok(())
    }

    fn read_long_name(&mut self, source: &mut impl Read, block: &[u8]) -> Result<Vec<u8>> {
        let size = self.number(&block[124..136], "size")?;
        let mut name = self.extension(source, size, LONGEST_NAME + 2)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        self.name(&name)
    }

    fn set_once(&self, slot: &mut Option<Vec<u8>>, name: Vec<u8>) -> Result<()> {
        match slot.replace(name) {
            None => Ok(()),
            Some(_) => Err(self.wrong("two long names for one entry")),
        }
    }

    fn name(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        if bytes.contains(&0) {
            return Err(self.wrong("a NUL byte in a name"));
        }
        if bytes.len() as u64 > LONGEST_NAME + 1 {
            return Err(self.wrong(format_args!("a name of {} bytes, more than {LONGEST_NAME}", bytes.len())));
        }
        Ok(bytes.to_vec())
    }

    fn decode(&mut self, block: &[u8], extension: Extension) -> Result<TarEntry> {
        let mut path = match extension.path {
            Some(path) => path,
            None => self.plain_path(block)?,
        };
        if path.is_empty() {
            // Where an extended header says so, Go and libarchive take the name in the plain header instead.
            return Err(self.wrong("an entry without a name"));
        }
        let is_old_directory = block[156] == 0 && path.last() == Some(&b'/');
        let kind = match block[156] {
            _ if is_old_directory => EntryType::Directory,
            0 | b'0' | b'7' => EntryType::File,
            b'1' => EntryType::HardLink,
            b'2' => EntryType::Symlink,
            b'3' => EntryType::CharacterDevice,
            b'4' => EntryType::BlockDevice,
            b'5' => EntryType::Directory,
            b'6' => EntryType::Fifo,
            b'S' => return Err(self.wrong("sparse entries are not supported")),
            other => return Err(self.wrong(format_args!("unknown entry type {:?}", char::from(other)))),
        };
        if kind == EntryType::File && path.last() == Some(&b'/') {
            // GNU tar and Go read a directory here, Python and libarchive a file.
            return Err(self.wrong("a file whose name ends in a slash"));
        }
        while kind == EntryType::Directory && path.last() == Some(&b'/') {
            path.pop();
        }
        let size = match extension.size {
            Some(size) => size,
            None => self.number(&block[124..136], "size")?,
        };
        if kind != EntryType::File && size != 0 {
            return Err(self.wrong(format_args!("an entry that cannot have content has a size of {size} bytes")));
        }
        let link = extension.link.unwrap_or_else(|| until_nul(&block[157..257]).to_vec());
        if matches!(kind, EntryType::HardLink | EntryType::Symlink) && link.is_empty() {
            return Err(self.wrong("a link without a target"));
        }
        let entry = TarEntry {
            path,
            kind,
            mode: (self.number(&block[100..108], "mode")? & 0o7777) as u32,
            uid: extension.uid.map_or_else(|| self.number(&block[108..116], "uid"), Ok)?,
            gid: extension.gid.map_or_else(|| self.number(&block[116..124], "gid"), Ok)?,
            size,
            mtime: extension.mtime.map_or_else(|| self.signed(&block[136..148]), Ok)?,
            link,
            xattrs: extension.xattrs,
            device: self.device(kind, block)?,
            offset: self.position,
        };
        let end = size.checked_add(padding(size)).and_then(|length| self.position.checked_add(length));
        self.position = end.ok_or_else(|| self.wrong("size overflows 64 bits"))?;
        Ok(entry)
    }

    /// Returns ustar's prefix and name, joined. Only POSIX headers have a prefix; GNU's old ones may have times there, which Python and
    /// Go take for one. star's prefix is shorter, where Go sees its mark.
    fn plain_path(&self, block: &[u8]) -> Result<Vec<u8>> {
        let (name, prefix) = (until_nul(&block[..100]), until_nul(&block[345..500]));
        let has_prefix = &block[257..263] == b"ustar\0";
        let is_too_long = &block[508..512] == b"tar\0" && prefix.len() > 130;
        match prefix {
            b"" => Ok(name.to_vec()),
            _ if !has_prefix || is_too_long => Err(self.wrong("a prefix of the name in a header that cannot have it")),
            _ => Ok([prefix, b"/", name].concat()),
        }
    }

    /// Reads the numbers of a device. Other entries may have anything there.
    fn device(&self, kind: EntryType, block: &[u8]) -> Result<(u32, u32)> {
        if !matches!(kind, EntryType::CharacterDevice | EntryType::BlockDevice) {
            return Ok((0, 0));
        }
        let number = |field: &[u8]| {
            u32::try_from(self.number(field, "device number")?)
                .map_err(|_| self.wrong("a device number beyond 32 bits"))
        };
        Ok((number(&block[329..337])?, number(&block[337..345])?))
    }

    /// Parses an octal field, or GNU's base-256 form of it.
    fn number(&self, field: &[u8], name: &str) -> Result<u64> {
        let wrong = || self.wrong(format_args!("{name} is not a number"));
        if field[0] & 0x80 != 0 {
            return base_256(field).and_then(|value| u64::try_from(value).ok()).ok_or_else(wrong);
        }
        let digits: Vec<u8> = field.iter().copied().skip_while(|&byte| byte == b' ').collect();
        let end = digits.iter().position(|&byte| byte == 0 || byte == b' ').unwrap_or(digits.len());
        if digits[end..].iter().any(|&byte| byte != 0 && byte != b' ') {
            return Err(wrong());
        }
        digits[..end].iter().try_fold(0_u64, |value, &digit| match digit {
            b'0'..=b'7' => Ok(value << 3 | u64::from(digit - b'0')),
            _ => Err(wrong()),
        })
    }

    fn signed(&self, field: &[u8]) -> Result<i64> {
        if field[0] & 0x80 != 0 {
            return base_256(field).ok_or_else(|| self.wrong("mtime is not a number"));
        }
        self.number(field, "mtime").map(|value| value as i64)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = i128::from(field[0] & 0x7f) - if negative { 0x80 } else { 0 };
    let value = field[1..].iter().try_fold(first, |value, &byte| Some(value.checked_mul(256)? + i128::from(byte)))?;
    i64::try_from(value).ok()
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses the whole seconds of a PAX time, which may be negative and have a fraction; rounds down.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = i64::try_from(decimal(whole.as_bytes())?).ok()? * sign;
    let has_fraction = fraction.bytes().any(|byte| byte != b'0');
    Some(if sign < 0 && has_fraction { whole - 1 } else { whole })
}

#[cfg(test)]
mod tests {
    use super::super::{Header, append};
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<TarEntry>> {
        let mut headers = Headers::new("test.tar");
        let mut source = bytes;
        let mut entries = Vec::new();
        while let Some(entry) = headers.next(&mut source)? {
            let skipped = (headers.position() - entry.offset) as usize;
            source = source.get(skipped..).ok_or_else(|| Error::invalid("test.tar", "content cut off"))?;
            entries.push(entry);
        }
        headers.check_rest(&mut source)?;
        Ok(entries)
    }

    fn archive(headers: &[Header<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for header in headers {
            append(header, &mut bytes);
            bytes.resize(bytes.len() + (header.size + padding(header.size)) as usize, b'c');
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    const FILE: Header<'_> = Header {
        path: b"a",
        kind: EntryType::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 0,
        link: b"",
        xattrs: &[],
        device: (0, 0),
    };

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    /// Returns a raw ustar block with a correct checksum, of any type and size.
    fn raw(flag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        append(&Header { size: content.len() as u64, ..FILE }, &mut bytes);
        bytes[156] = flag;
        sum(&mut bytes);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + padding(content.len() as u64) as usize, 0);
        bytes
    }

    fn sum(block: &mut [u8]) {
        block[148..156].fill(b' ');
        let sum: u32 = block[..512].iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn what_we_write_we_read() {
        let xattrs = [(b"security.capability".to_vec(), vec![1, 0, 0, 2, b'\n', b'=']), (b"user.x".to_vec(), vec![])];
        let long = [b'x'; 4096];
        let headers = [
            Header { path: b"d", kind: EntryType::Directory, mode: 0o1777, ..FILE },
            Header { path: &long, size: 513, xattrs: &xattrs, ..FILE },
            Header { path: b"weird\n27 size=0\n", uid: u64::from(u32::MAX), gid: 2_097_152, mtime: -1, ..FILE },
            Header { path: b"\xff\xfe", mtime: 1 << 33, ..FILE },
            Header { path: "grün".as_bytes(), kind: EntryType::Symlink, link: &long, mode: 0o777, ..FILE },
            Header { path: b"hard", kind: EntryType::HardLink, link: b"weird\n27 size=0\n", ..FILE },
        ];
        let entries = read(&archive(&headers)).unwrap();
        assert_eq!(entries.len(), headers.len());
        for (entry, header) in entries.iter().zip(&headers) {
            assert_eq!(entry.path, header.path);
            assert_eq!(entry.link, header.link);
            assert_eq!(
                (entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime),
                (header.kind, header.mode, header.uid, header.gid, header.size, header.mtime)
            );
            assert_eq!(entry.xattrs, header.xattrs);
        }
    }

    #[test]
    fn sizes_of_8_gib_are_told() {
        let mut bytes = Vec::new();
        append(&Header { size: 8 << 30, ..FILE }, &mut bytes);
        let entry = Headers::new("x").next(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!(entry.size, 8 << 30);
    }

    #[test]
    fn endings_are_distinguished() {
        let whole = archive(&[FILE]);
        for (cut, ending) in [(0, Ending::Complete), (512, Ending::OneZeroBlock), (1024, Ending::Absent)] {
            let mut headers = Headers::new("x");
            let mut source = &whole[..whole.len() - cut];
            assert!(headers.next(&mut source).unwrap().is_some());
            assert!(headers.next(&mut source).unwrap().is_none());
            assert_eq!(headers.ending(), Some(ending));
        }
        assert!(refusal(&[&whole[..], b"x"].concat()).contains("trailing data after the end"));
        assert!(refusal(&[&whole[..1024], &whole[..]].concat()).contains("single zero block"));
        assert!(refusal(&whole[..700]).contains("unexpected end"));
        assert!(read(&[&whole[..], &[0; 9000]].concat()).is_ok());
    }

    #[test]
    fn a_checksum_must_be_right() {
        let mut bytes = archive(&[FILE]);
        bytes[0] = b'b';
        assert!(refusal(&bytes).contains("checksum"));
    }

    #[test]
    fn malformed_pax_is_refused() {
        for content in ["5 a=b\n", "6 a=bb", "7 path\n", "9 size=x\n", "99 a=b\n", " 6 a=b\n", "11 path=a\0b\n"] {
            let bytes = [raw(b'x', content.as_bytes()), archive(&[FILE])].concat();
            assert!(read(&bytes).is_err(), "{content:?}");
        }
        for content in [&b"22 GNU.sparse.major=1\n"[..], b"21 SCHILY.realsize=0\n"] {
            assert!(refusal(&[raw(b'x', content), archive(&[FILE])].concat()).contains("sparse"));
        }
    }

    #[test]
    fn extended_headers_must_belong_to_one_entry() {
        let pax = raw(b'x', b"10 path=b\n");
        assert!(refusal(&[&pax[..], &pax, &archive(&[FILE])].concat()).contains("two extended headers"));
        assert!(refusal(&[&pax[..], &[0; 1024]].concat()).contains("without an entry"));
        let long = raw(b'L', b"long\0");
        assert!(refusal(&[&long[..], &long, &archive(&[FILE])].concat()).contains("two long names"));
        assert!(refusal(&[raw(b'g', b"10 size=0\n"), archive(&[FILE])].concat()).contains("global"));
        assert!(read(&[raw(b'g', b"13 comment=x\n"), archive(&[FILE])].concat()).is_ok());
    }

    #[test]
    fn a_pax_size_wins_over_the_header() {
        let mut bytes = raw(b'x', b"9 size=4\n");
        bytes.extend(raw(b'0', b""));
        bytes.extend([b'c'; 512]);
        bytes.extend([0; 1024]);
        assert_eq!(read(&bytes).unwrap()[0].size, 4);
    }

    #[test]
    fn extension_sizes_are_bounded() {
        let at_limit = format!("{} comment={}\n", 1 << 20, "x".repeat((1 << 20) - 17));
        assert_eq!(at_limit.len(), 1 << 20);
        assert!(read(&[raw(b'x', at_limit.as_bytes()), archive(&[FILE])].concat()).is_ok());
        let beyond = raw(b'x', &vec![b' '; (1 << 20) + 1]);
        assert!(refusal(&beyond).contains("more than 1048576"));
        assert!(refusal(&raw(b'L', &[b'x'; 5000])).contains("more than"));
    }

    #[test]
    fn numbers_outside_octal_are_understood_or_refused() {
        let with_size = |field: &[u8]| {
            let mut bytes = raw(b'0', b"");
            bytes[124..124 + field.len()].copy_from_slice(field);
            sum(&mut bytes);
            Headers::new("x").next(&mut &bytes[..])
        };
        assert_eq!(with_size(b"\x80\0\0\0\0\0\0\x02\0\0\0\0").unwrap().unwrap().size, 8 << 30);
        assert!(with_size(&[0xff; 12]).is_err());
        assert!(with_size(b"\x80\x80\0\0\0\0\0\0\0\0\0\0").is_err());
        assert!(with_size(b"0000000009\0\0").is_err());
        assert!(with_size(b"12345678x01\0").is_err());
    }

    #[test]
    fn only_directories_have_a_slash_at_the_end() {
        assert!(refusal(&archive(&[Header { path: b"d/", ..FILE }])).contains("ends in a slash"));
        let mut old = archive(&[Header { path: b"d/", ..FILE }]);
        old[156] = 0;
        sum(&mut old[..512]);
        assert_eq!(read(&old).unwrap()[0].kind, EntryType::Directory);
    }

    #[test]
    fn extended_headers_end_at_their_size() {
        for flag in [b'x', b'L', b'K', b'g'] {
            let mut header = raw(flag, b"13 comment=x\n");
            assert!(read(&[&header[..], &archive(&[FILE])].concat()).is_ok(), "{flag}");
            header[512 + 13..512 + 24].copy_from_slice(b"10 path=yz\n");
            let refused = refusal(&[&header[..], &archive(&[FILE])].concat());
            assert!(refused.contains("goes on behind its size"), "{flag}: {refused}");
        }
    }

    #[test]
    fn only_posix_headers_have_a_prefix() {
        let with = |magic: &[u8], prefix: &[u8], mark: &[u8]| {
            let mut bytes = archive(&[FILE]);
            for (at, field) in [(257, magic), (345, prefix), (508, mark)] {
                bytes[at..at + field.len()].copy_from_slice(field);
            }
            sum(&mut bytes[..512]);
            bytes
        };
        assert_eq!(read(&with(b"ustar\x0000", b"p", b"")).unwrap()[0].path, b"p/a");
        assert!(read(&with(b"ustar\x0000", &[b'p'; 130], b"tar\0")).is_ok());
        let refused =
            [with(b"ustar  \0", b"p", b""), with(&[0; 8], b"p", b""), with(b"ustar\x0000", &[b'p'; 131], b"tar\0")];
        for bytes in refused {
            assert!(refusal(&bytes).contains("a prefix of the name in a header that cannot have it"));
        }
    }

    #[test]
    fn every_link_has_a_target() {
        for kind in [EntryType::HardLink, EntryType::Symlink] {
            assert!(refusal(&archive(&[Header { kind, ..FILE }])).contains("a link without a target"));
        }
    }

    #[test]
    fn every_entry_has_a_name() {
        for before in [raw(b'x', b"8 path=\n"), raw(b'L', b"\0")] {
            assert!(refusal(&[before, archive(&[FILE])].concat()).contains("without a name"));
        }
        assert!(refusal(&archive(&[Header { path: b"", ..FILE }])).contains("without a name"));
    }

    #[test]
    fn only_files_have_content() {
        let mut bytes = raw(b'5', &[b'c'; 10]);
        bytes.extend([0; 1024]);
        assert!(refusal(&bytes).contains("an entry that cannot have content"));
        assert!(refusal(&[raw(b'S', b""), vec![0; 1024]].concat()).contains("sparse"));
        assert!(refusal(&[raw(b'V', b""), vec![0; 1024]].concat()).contains("unknown entry type"));
    }

    #[test]
    fn fractional_times_round_down() {
        assert_eq!(seconds(b"1.9"), Some(1));
        assert_eq!(seconds(b"-1.5"), Some(-2));
        assert_eq!(seconds(b"-1"), Some(-1));
        assert_eq!(seconds(b"1.x"), None);
        assert_eq!(seconds(b""), None);
    }
}
