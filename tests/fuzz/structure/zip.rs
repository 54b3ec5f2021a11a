//! Zips whose headers agree but for what is decided otherwise.

use super::Choices;
use flate2::write::DeflateEncoder;
use std::io::Write;

const NAMES: &[&str] = &[
    "catalog/0123456789abcdefv12.linux_amd64",
    "library/aa/bb/cc/aabbcc",
    "../x",
    "/x",
    "catalog/",
    "a\\b",
    "",
    "catalog/x",
    "library/x/../y",
    "a\0b",
];
const SIZES: &[u32] = &[0, 1, 0xffff, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff];
const SHORTS: &[u16] = &[0, 1, 8, 20, 45, 99, 0x7fff, 0xffff];

/// Returns a zip with these members, and perhaps others.
pub(in crate::fuzz) fn zip(bytes: &[u8], members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut choices = Choices::new(bytes);
    let mut zip = Zip { choices: &mut choices, out: Vec::new(), directory: Vec::new(), members: 0 };
    zip.out.extend(zip.choices.mostly(&b""[..], &[b"x", b"PK\x03\x04"]));
    for (name, content) in members {
        zip.member(name, content);
    }
    for _ in 0..zip.choices.mostly(0, &[1, 2, 3]) {
        let name = zip.choices.choose(NAMES);
        zip.member(name, b"more");
    }
    zip.end()
}

struct Zip<'a, 'b> {
    choices: &'a mut Choices<'b>,
    out: Vec<u8>,
    directory: Vec<u8>,
    members: u16,
}

impl Zip<'_, '_> {
    fn member(&mut self, name: &str, content: &[u8]) {
        let offset = u32::try_from(self.out.len()).unwrap();
        let mut sum = flate2::Crc::new();
        sum.update(content);
        let method = self.choices.mostly(8, SHORTS);
        let data = if method == 8 { deflated(content) } else { content.to_vec() };
        let lengths = [sum.sum(), u32::try_from(data.len()).unwrap(), u32::try_from(content.len()).unwrap()];
        let extra = self.extra();
        let flags = self.choices.mostly(0, &[1, 2, 8, 0x800, 0x40]);
        let own = self.header(name, method, flags, lengths, &extra);
        self.out.extend(b"PK\x03\x04\x14\0");
        self.out.extend(own);
        self.out.extend(name.as_bytes());
        self.out.extend(&extra);
        self.out.extend(data);
        if flags & 8 != 0 {
            self.out.extend(b"PK\x07\x08");
            lengths.iter().for_each(|length| self.out.extend(length.to_le_bytes()));
        }
        let name = self.choices.mostly(name, NAMES).to_owned();
        let extra = self.extra();
        let header = self.header(&name, method, flags, lengths, &extra);
        self.directory.extend(b"PK\x01\x02\x14\0\x14\0");
        self.directory.extend(header);
        let comment = self.choices.mostly(0_u16, SHORTS);
        self.directory.extend(comment.to_le_bytes());
        let disk = self.choices.mostly(0_u16, SHORTS);
        self.directory.extend(disk.to_le_bytes());
        self.directory.extend([0; 6]);
        let offset = self.choices.mostly(offset, SIZES);
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.directory.extend(extra);
        self.members += 1;
    }

    /// What the headers of a member have in common, from its flags to the length of its extra field.
    fn header(&mut self, name: &str, method: u16, flags: u16, lengths: [u32; 3], extra: &[u8]) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(flags.to_le_bytes());
        header.extend(self.choices.mostly(method, SHORTS).to_le_bytes());
        header.extend([0; 4]);
        for length in lengths {
            header.extend(self.choices.mostly(length, SIZES).to_le_bytes());
        }
        let length = u16::try_from(name.len()).unwrap();
        header.extend(self.choices.mostly(length, SHORTS).to_le_bytes());
        let length = u16::try_from(extra.len()).unwrap();
        header.extend(self.choices.mostly(length, SHORTS).to_le_bytes());
        header
    }

    /// Usually nothing, or 64-bit sizes and offsets, right or cut off.
    fn extra(&mut self) -> Vec<u8> {
        let numbers = self.choices.mostly(0, &[1, 2, 3, 4]);
        if numbers == 0 {
            return Vec::new();
        }
        let mut extra = vec![1, 0, numbers * 8, 0];
        for _ in 0..numbers {
            extra.extend(self.choices.choose(&[0_u64, 5, 100, 1 << 32, 1 << 62, u64::MAX]).to_le_bytes());
        }
        extra.truncate(self.choices.mostly(extra.len(), &[3, 4, 9]));
        extra
    }

    fn end(mut self) -> Vec<u8> {
        let begin = self.choices.mostly(u32::try_from(self.out.len()).unwrap(), SIZES);
        let size = self.choices.mostly(u32::try_from(self.directory.len()).unwrap(), SIZES);
        self.out.append(&mut self.directory);
        if self.choices.is_rare() {
            let before = self.out.len() as u64;
            self.out.extend(b"PK\x06\x06");
            for number in
                [44, 0x2d_002d, 0, u64::from(self.members), u64::from(self.members), u64::from(size), u64::from(begin)]
            {
                self.out.extend(self.choices.mostly(number, &[0, 1 << 40, u64::MAX]).to_le_bytes());
            }
            self.out.extend(b"PK\x06\x07\0\0\0\0");
            self.out.extend(self.choices.mostly(before, &[0, u64::MAX]).to_le_bytes());
            self.out.extend([1, 0, 0, 0]);
        }
        self.out.extend(b"PK\x05\x06\0\0\0\0");
        for _ in 0..2 {
            self.out.extend(self.choices.mostly(self.members, SHORTS).to_le_bytes());
        }
        self.out.extend(size.to_le_bytes());
        self.out.extend(begin.to_le_bytes());
        self.out.extend(self.choices.mostly(0_u16, SHORTS).to_le_bytes());
        self.out.extend(self.choices.mostly(&b""[..], &[b"x", b"PK\x05\x06"]));
        self.out
    }
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
