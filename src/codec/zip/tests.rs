use super::records::*;
use super::*;
use flate2::Crc;
use flate2::write::DeflateEncoder;
use std::io::{self, Seek, Write};

/// A member, in which a test can falsify every field.
#[derive(Clone)]
struct Given {
    name: Vec<u8>,
    local_name: Vec<u8>,
    method: u16,
    flags: u16,
    made_by: u16,
    attributes: u32,
    data: Vec<u8>,
    crc: u32,
    size: u32,
    descriptor: Descriptor,
}

#[derive(Clone, Copy, PartialEq)]
enum Descriptor {
    None,
    Signed,
    Unsigned,
    Wide,
}

fn crc(content: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(content);
    crc.sum()
}

fn stored(name: &str, content: &[u8]) -> Given {
    Given {
        name: name.as_bytes().to_vec(),
        local_name: name.as_bytes().to_vec(),
        method: 0,
        flags: 0,
        made_by: 0,
        attributes: 0,
        data: content.to_vec(),
        crc: crc(content),
        size: u32::try_from(content.len()).unwrap(),
        descriptor: Descriptor::None,
    }
}

/// Returns a member as Go writes it: deflated, with a data descriptor.
fn deflated(name: &str, content: &[u8]) -> Given {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    let data = encoder.finish().unwrap();
    Given { method: 8, flags: HAS_DESCRIPTOR, data, descriptor: Descriptor::Signed, ..stored(name, content) }
}

fn put(out: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for (number, length) in numbers {
        out.extend_from_slice(&number.to_le_bytes()[..*length]);
    }
}

fn local(out: &mut Vec<u8>, given: &Given) {
    let in_header = given.descriptor == Descriptor::None;
    let known = |number: u32| if in_header { u64::from(number) } else { 0 };
    let (compressed, name_length) = (given.data.len() as u32, given.local_name.len() as u64);
    put(out, &[(LOCAL.into(), 4), (20, 2), (given.flags.into(), 2), (given.method.into(), 2), (0, 4)]);
    put(out, &[(known(given.crc), 4), (known(compressed), 4), (known(given.size), 4), (name_length, 2), (0, 2)]);
    out.extend_from_slice(&given.local_name);
    out.extend_from_slice(&given.data);
    let (crc, compressed, size) = (u64::from(given.crc), u64::from(compressed), u64::from(given.size));
    match given.descriptor {
        Descriptor::None => {}
        Descriptor::Signed => put(out, &[(DESCRIPTOR.into(), 4), (crc, 4), (compressed, 4), (size, 4)]),
        Descriptor::Unsigned => put(out, &[(crc, 4), (compressed, 4), (size, 4)]),
        Descriptor::Wide => put(out, &[(DESCRIPTOR.into(), 4), (crc, 4), (compressed, 8), (size, 8)]),
    }
}

fn central(out: &mut Vec<u8>, given: &Given, offset: usize) {
    let (compressed, name_length) = (given.data.len() as u64, given.name.len() as u64);
    put(out, &[(CENTRAL.into(), 4), (given.made_by.into(), 2), (20, 2), (given.flags.into(), 2)]);
    put(out, &[(given.method.into(), 2), (0, 4), (given.crc.into(), 4), (compressed, 4), (given.size.into(), 4)]);
    put(out, &[(name_length, 2), (0, 2), (0, 2), (0, 2), (0, 2), (given.attributes.into(), 4), (offset as u64, 4)]);
    out.extend_from_slice(&given.name);
}

fn end(out: &mut Vec<u8>, entries: usize, size: usize, offset: usize) {
    let entries = entries as u64;
    put(
        out,
        &[(END.into(), 4), (0, 2), (0, 2), (entries, 2), (entries, 2), (size as u64, 4), (offset as u64, 4), (0, 2)],
    );
}

fn zip(members: &[Given]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for given in members {
        central(&mut directory, given, out.len());
        local(&mut out, given);
    }
    let offset = out.len();
    out.extend_from_slice(&directory);
    end(&mut out, members.len(), directory.len(), offset);
    out
}

fn open(bytes: &[u8]) -> Result<Archive> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    Archive::open(file, "x.zip")
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).unwrap_err().to_string()
}

fn content(archive: &Archive, name: &str) -> Result<Vec<u8>, String> {
    let member = archive.member(name).map_err(|error| error.to_string())?;
    let mut content = Vec::new();
    io::copy(&mut archive.read(member), &mut content).map(|_| content).map_err(|error| error.to_string())
}

fn three() -> Vec<Given> {
    vec![deflated("library/a", b"aaaaaaaa"), stored("empty", b""), deflated("catalog/b", b"b")]
}

#[test]
fn members_are_read_whatever_wraps_them() {
    let archive = open(&zip(&three())).unwrap();
    assert_eq!(content(&archive, "library/a").unwrap(), b"aaaaaaaa");
    assert_eq!(content(&archive, "empty").unwrap(), b"");
    assert_eq!(content(&archive, "catalog/b").unwrap(), b"b");
    assert_eq!(content(&archive, "missing").unwrap_err(), "x.zip: missing: not found");
    for descriptor in [Descriptor::Unsigned, Descriptor::Wide] {
        let members = [Given { descriptor, ..deflated("a", b"content") }, stored("b", b"y")];
        assert_eq!(content(&open(&zip(&members)).unwrap(), "a").unwrap(), b"content");
    }
    assert!(open(&zip(&[])).unwrap().names().next().is_none());
}

#[test]
fn backslashes_are_slashes_and_collisions_are_duplicates() {
    let archive = open(&zip(&[stored("library\\a", b"x")])).unwrap();
    assert_eq!(content(&archive, "library/a").unwrap(), b"x");
    assert!(refusal(&zip(&[stored("a\\b", b"x"), stored("a/b", b"x")])).contains("member `a/b`: duplicate"));
    assert!(refusal(&zip(&[stored("a", b"x"), stored("a", b"x")])).contains("member `a`: duplicate"));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["/abs", "..", "a/../b", "../x", "C:/x", "C:\\x", "\\\\srv\\x", "", "a//b", "a\0b"] {
        assert!(refusal(&zip(&[stored(name, b"x")])).contains("unsafe name"), "{name}");
    }
    assert!(open(&zip(&[stored("folder/", b"")])).is_ok());
}

#[test]
fn the_two_headers_of_a_member_must_agree() {
    let other_name = Given { local_name: b"b".to_vec(), ..stored("a", b"x") };
    assert!(refusal(&zip(&[other_name])).contains("the local header has another name"));
    let mut bytes = zip(&[stored("a", b"x")]);
    bytes[8] = 8;
    assert!(refusal(&bytes).contains("disagrees on the method"));
    let mut bytes = zip(&[stored("a", b"x")]);
    bytes[14] ^= 1;
    assert!(refusal(&bytes).contains("disagrees on size or checksum"));
    let mut bytes = zip(&[stored("a", b"x")]);
    bytes[0] = 0;
    assert!(refusal(&bytes).contains("no local header"));
    let mut bytes = zip(&[deflated("a", b"x"), stored("b", b"")]);
    let at = 30 + 1 + deflated("a", b"x").data.len() + 4;
    bytes[at] ^= 1;
    assert!(refusal(&bytes).contains("its data descriptor is wrong"));
}

#[test]
fn nothing_may_stand_before_between_or_behind() {
    let whole = zip(&three());
    assert!(refusal(&[b"junk", &whole[..]].concat()).starts_with("x.zip: "));
    assert!(refusal(&[&whole[..], b"junk"].concat()).contains("trailing data"));
    let members = [stored("a", b"x"), stored("b", b"y")];
    for (gap_before, expected) in [(0, "member `a`: overlaps another member, or data precedes it"), (1, "member `b`: ")]
    {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (index, given) in members.iter().enumerate() {
            if index == gap_before {
                out.extend_from_slice(b"junk");
            }
            central(&mut directory, given, out.len());
            local(&mut out, given);
        }
        let offset = out.len();
        out.extend_from_slice(&directory);
        end(&mut out, 2, directory.len(), offset);
        assert!(refusal(&out).contains(expected), "{}", refusal(&out));
    }
    let mut commented = whole.clone();
    let length = commented.len();
    commented[length - 2] = 22;
    commented.extend_from_slice(&whole[whole.len() - 22..]);
    assert!(refusal(&commented).contains("the central directory is not at its recorded offset"));
}

#[test]
fn overlapping_members_are_refused() {
    let given = stored("a", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    central(&mut directory, &given, 0);
    central(&mut directory, &Given { name: b"b".to_vec(), ..given.clone() }, 0);
    local(&mut out, &given);
    let offset = out.len();
    out.extend_from_slice(&directory);
    end(&mut out, 2, directory.len(), offset);
    assert!(refusal(&out).contains("overlaps"), "{}", refusal(&out));
}

#[test]
fn wrong_counts_and_offsets_are_refused() {
    let whole = zip(&three());
    let end_at = whole.len() - 22;
    let with = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[end_at + at] = value;
        refusal(&bytes)
    };
    assert!(with(4, 1).contains("a multi-part zip"));
    assert!(with(8, 2).contains("a multi-part zip"));
    assert!(with(20, 1).contains("with a comment"));
    assert!(with(12, 9).contains("the central directory is not at its recorded offset"));
    assert!(with(16, 9).contains("the central directory is not at its recorded offset"));
    let mut two = whole.clone();
    (two[end_at + 8], two[end_at + 10]) = (2, 2);
    assert!(refusal(&two).contains("its end record has 2 members, the central directory has 3"));
    let mut many = whole.clone();
    many[end_at + 8..end_at + 12].fill(0xff);
    assert!(refusal(&many).contains("its 64-bit end is missing or wrong"));
}

#[test]
fn truncated_archives_are_refused() {
    let whole = zip(&three());
    for cut in 0..whole.len() {
        assert!(open(&whole[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(refusal(b""), "x.zip: not a zip: too short");
}

#[test]
fn what_is_no_plain_file_is_refused() {
    let encrypted = Given { flags: 1, ..stored("a", b"x") };
    assert!(refusal(&zip(&[encrypted])).contains("member `a`: encrypted"));
    let method = Given { method: 14, ..stored("a", b"x") };
    assert!(refusal(&zip(&[method])).contains("unknown compression method 14"));
    let link = Given { made_by: 3 << 8, attributes: 0o120_777 << 16, ..stored("a", b"x") };
    assert!(refusal(&zip(&[link])).contains("neither a file nor a directory"));
    let strange = Given { flags: 1 << 6, ..stored("a", b"x") };
    assert!(refusal(&zip(&[strange])).contains("unknown flags"));
}

#[test]
fn content_must_be_what_both_headers_say() {
    let reason = |given: Given| content(&open(&zip(&[given])).unwrap(), "a").unwrap_err();
    assert_eq!(reason(Given { crc: 7, ..deflated("a", b"content") }), "zip: checksum mismatch");
    assert_eq!(reason(Given { size: 6, ..deflated("a", b"content") }), "zip: longer than its size");
    assert_eq!(reason(Given { size: 8, ..deflated("a", b"content") }), "zip: shorter than its size");
    assert_eq!(
        reason(Given { data: b"\xff\xff".to_vec(), ..deflated("a", b"content") }),
        "zip: malformed deflate data"
    );
    assert_eq!(reason(Given { size: 10, ..deflated("a", &vec![0; 10 << 20]) }), "zip: longer than its size");
    let two_sizes = Given { size: 9, ..stored("a", b"x") };
    assert!(refusal(&zip(&[two_sizes])).contains("stored without compression, but with two sizes"));
}

#[test]
fn more_members_than_16_bits_count_need_the_64_bit_end() {
    let count = 65_536;
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for index in 0..count {
        let given = stored(&format!("{index}"), b"");
        central(&mut directory, &given, out.len());
        local(&mut out, &given);
    }
    let offset = out.len() as u64;
    out.extend_from_slice(&directory);
    let (at, entries, size) = (out.len() as u64, count as u64, directory.len() as u64);
    put(&mut out, &[(END_64.into(), 4), (44, 8), (45, 2), (45, 2), (0, 4), (0, 4)]);
    put(&mut out, &[(entries, 8), (entries, 8), (size, 8), (offset, 8)]);
    put(&mut out, &[(LOCATOR.into(), 4), (0, 4), (at, 8), (1, 4)]);
    let locator_at = out.len() - 20;
    end(&mut out, 0xffff, size as usize, offset as usize);
    assert_eq!(open(&out).unwrap().names().count(), count);
    let mut lie = out.clone();
    lie[locator_at + 8] ^= 1;
    assert!(refusal(&lie).contains("its 64-bit end is missing or wrong"));
    let mut lie = out;
    lie[at as usize + 32] ^= 1;
    assert!(refusal(&lie).contains("its 64-bit end is missing or wrong"));
}
