//! Encodes the header of one entry.

use super::{BLOCK, padding};
use std::borrow::Cow;

/// The kind of a tar entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// A regular file.
    File,
    /// A hard link to an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl EntryType {
    fn flag(self) -> u8 {
        match self {
            EntryType::File => b'0',
            EntryType::HardLink => b'1',
            EntryType::Symlink => b'2',
            EntryType::CharacterDevice => b'3',
            EntryType::BlockDevice => b'4',
            EntryType::Directory => b'5',
            EntryType::Fifo => b'6',
        }
    }
}

/// All metadata of a tar entry. Owners are numbers; names of owners are never written.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// The path, relative and without a slash at its end.
    pub path: &'a [u8],
    /// The kind of the entry.
    pub kind: EntryType,
    /// Permission bits, with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    /// The user id of the owner.
    pub uid: u64,
    /// The group id.
    pub gid: u64,
    /// The length of the content in bytes; zero for everything but a file.
    pub size: u64,
    /// Modification time, in seconds since the epoch.
    pub mtime: i64,
    /// The target of a link; empty for everything else.
    pub link: &'a [u8],
    /// Extended attributes, sorted by name.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
    /// The major and minor number of a device; zero for everything else.
    pub device: (u32, u32),
}

/// The largest numbers that fit in the octal fields.
const LARGEST_7_DIGITS: u64 = 0o7_777_777;
const LARGEST_11_DIGITS: u64 = 0o77_777_777_777;

/// Appends the header blocks of `header` to `out`.
pub fn append(header: &Header<'_>, out: &mut Vec<u8>) {
    let path = stored_path(header);
    let records = pax_records(header, &path);
    if !records.is_empty() {
        let own = Ustar {
            name: b"PaxHeaders.0/entry",
            prefix: b"",
            flag: b'x',
            mode: 0o644,
            size: records.len() as u64,
            ..Ustar::default()
        };
        own.append(out);
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64) as usize, 0);
    }
    let (prefix, name) = split(&path).unwrap_or((b"", &path[..path.len().min(100)]));
    Ustar {
        name,
        prefix,
        flag: header.kind.flag(),
        mode: header.mode,
        // A value that does not fit is in a PAX record, which every reader prefers.
        uid: fitting(header.uid, LARGEST_7_DIGITS),
        gid: fitting(header.gid, LARGEST_7_DIGITS),
        size: fitting(header.size, LARGEST_11_DIGITS),
        mtime: fitting(u64::try_from(header.mtime).unwrap_or(u64::MAX), LARGEST_11_DIGITS),
        link: &header.link[..header.link.len().min(100)],
        device: header.device,
    }
    .append(out);
}

/// Returns the number of bytes that [`append`] appends.
pub fn encoded_length(header: &Header<'_>) -> u64 {
    match pax_records(header, &stored_path(header)).len() as u64 {
        0 => BLOCK,
        records => 2 * BLOCK + records + padding(records),
    }
}

/// Returns the path in its stored form: that of a directory ends in a slash.
fn stored_path<'a>(header: &Header<'a>) -> Cow<'a, [u8]> {
    match header.kind {
        EntryType::Directory => [header.path, b"/"].concat().into(),
        _ => header.path.into(),
    }
}

fn fitting(value: u64, largest: u64) -> u64 {
    if value <= largest { value } else { 0 }
}

/// The fields of a 512-byte header that the writer sets.
#[derive(Default)]
struct Ustar<'a> {
    name: &'a [u8],
    prefix: &'a [u8],
    flag: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    link: &'a [u8],
    device: (u32, u32),
}

impl Ustar<'_> {
    fn append(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + BLOCK as usize, 0);
        let block = &mut out[start..];
        block[..self.name.len()].copy_from_slice(self.name);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.mtime);
        block[148..156].fill(b' ');
        block[156] = self.flag;
        block[157..157 + self.link.len()].copy_from_slice(self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        // Linux has at most 12 and 20 bits of them, which fit into the seven digits.
        octal(&mut block[329..337], self.device.0.into());
        octal(&mut block[337..345], self.device.1.into());
        block[345..345 + self.prefix.len()].copy_from_slice(self.prefix);
        // Cannot overflow; without an overflow check, the compiler adds several bytes at a time.
        let sum = block.iter().fold(0_u32, |sum, &byte| sum.wrapping_add(byte.into()));
        octal(&mut block[148..155], sum.into());
    }
}

/// Fills `field` with zero-padded octal digits and a NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let Some((last, digits)) = field.split_last_mut() else { return };
    *last = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Splits a path at a slash into ustar's prefix and name. Returns `None` if it does not fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The earliest slash after which the name fits; the slash itself is not stored.
    let earliest = path.len() - 101;
    let at = (earliest..path.len() - 1).find(|&at| path[at] == b'/')?;
    (1..=155).contains(&at).then(|| (&path[..at], &path[at + 1..]))
}

/// Returns the records for values that the ustar header cannot hold, sorted by key.
fn pax_records(header: &Header<'_>, path: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    // A name in PAX is UTF-8, unless the header declares it as binary.
    let beyond_ascii = |text: &[u8]| !text.is_ascii();
    let path_needs = split(path).is_none() || beyond_ascii(path);
    let link_needs = header.link.len() > 100 || beyond_ascii(header.link);
    let is_binary = |text: &[u8], needed: bool| needed && std::str::from_utf8(text).is_err();
    for (name, value) in header.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    if header.gid > LARGEST_7_DIGITS {
        record(&mut records, b"gid", header.gid.to_string().as_bytes());
    }
    if is_binary(path, path_needs) || is_binary(header.link, link_needs) {
        record(&mut records, b"hdrcharset", b"BINARY");
    }
    if link_needs {
        record(&mut records, b"linkpath", header.link);
    }
    if u64::try_from(header.mtime).map_or(true, |mtime| mtime > LARGEST_11_DIGITS) {
        record(&mut records, b"mtime", header.mtime.to_string().as_bytes());
    }
    if path_needs {
        record(&mut records, b"path", path);
    }
    if header.size > LARGEST_11_DIGITS {
        record(&mut records, b"size", header.size.to_string().as_bytes());
    }
    if header.uid > LARGEST_7_DIGITS {
        record(&mut records, b"uid", header.uid.to_string().as_bytes());
    }
    records
}

/// Appends `LENGTH KEY=VALUE\n`, where the length includes its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8]) -> Header<'_> {
        Header {
            path,
            kind: EntryType::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            link: b"",
            xattrs: &[],
            device: (0, 0),
        }
    }

    #[test]
    fn a_records_length_counts_itself() {
        let mut records = Vec::new();
        record(&mut records, b"path", &[b'a'; 89]);
        assert!(records.starts_with(b"98 path=aaa"));
        assert_eq!(records.len(), 98);
        records.clear();
        record(&mut records, b"path", &[b'a'; 90]);
        assert!(records.starts_with(b"99 path=aaa"));
        records.clear();
        record(&mut records, b"path", &[b'a'; 91]);
        assert!(records.starts_with(b"101 path=aaa"));
        assert_eq!(records.len(), 101);
    }

    #[test]
    fn the_length_is_the_true_one() {
        let long = [&b"d/"[..], &[b'x'; 98], b"/", &[b'y'; 99]].concat();
        let endless = [b'z'; 300];
        for path in [&b"a"[..], &[b'x'; 99], &[b'x'; 100], &[b'x'; 101], &long, &endless, "ü".as_bytes(), b"\xff"] {
            for kind in [EntryType::File, EntryType::Directory] {
                let header = Header { kind, ..file(path) };
                let mut bytes = Vec::new();
                append(&header, &mut bytes);
                assert_eq!(bytes.len() as u64, encoded_length(&header), "{path:?} {kind:?}");
            }
        }
    }

    #[test]
    fn pax_is_used_only_where_ustar_cannot_say_it() {
        let blocks = |header: &Header<'_>| encoded_length(header) / BLOCK;
        assert_eq!(blocks(&file(&[b'x'; 100])), 1);
        assert_eq!(blocks(&file(&[&[b'p'; 155][..], b"/", &[b'n'; 100]].concat())), 1);
        assert_eq!(blocks(&file(&[b'x'; 101])), 3);
        assert_eq!(blocks(&Header { uid: 2_097_151, size: (8 << 30) - 1, mtime: (1 << 33) - 1, ..file(b"a") }), 1);
        for big in [
            Header { uid: 2_097_152, ..file(b"a") },
            Header { size: 8 << 30, ..file(b"a") },
            Header { mtime: -1, ..file(b"a") },
            Header { mtime: 1 << 33, ..file(b"a") },
        ] {
            assert_eq!(blocks(&big), 3);
        }
    }
}
