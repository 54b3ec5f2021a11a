//! Archives of entries whose headers are right but for what is decided otherwise.

use super::Choices;

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"dir/",
    b"dir/file",
    b"dir",
    b"./a",
    b"a/",
    b"/a",
    b"../a",
    b"a/../b",
    b".",
    b"",
    b"a\0b",
    b"\xff",
    b"a//b",
    b".wh.a",
    b"dir/.wh..wh..opq",
    b"a\nb",
    b" a ",
    b"a/.",
    b"./",
    b"//",
];
const MAGICS: &[&[u8; 8]] =
    &[b"ustar  \0", b"\0\0\0\0\0\0\0\0", b"ustar\x0000", b"ustar\0\0\0", b"ustar 00", b"Ustar\x0000"];
const KINDS: &[u8] = b"\x0012345670xgLKSVDMAX";
const NUMBERS: &[u64] = &[0, 1, 7, 511, 512, 513, 0o777, 0o7777, 2_097_151, 2_097_152, 1 << 33, 1 << 62, u64::MAX];
const FIELDS: &[&[u8]] = &[
    b"",
    b" ",
    b"0",
    b"00000000",
    b"1 ",
    b" 1",
    b"1\x002",
    b"8",
    b"-1",
    b"0x1",
    b"+1",
    b"1_0",
    b"\x80\0\0\0\0\0\0\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
];
const PREFIXES: &[&[u8]] = &[b"p", b"p/", b"../p", b"/", b"p\0q", b"00000000000\0", &[b'p'; 155], &[b'p'; 131]];
const KEYS: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "atime",
    "comment",
    "hdrcharset",
    "charset",
    "SCHILY.xattr.user.a",
    "GNU.sparse.size",
    "GNU.sparse.name",
    "LIBARCHIVE.xattr.a",
    "uname",
    "SCHILY.realsize",
    "",
];
/// (No fraction before the epoch: the readers round it in three ways.)
const VALUES: &[&[u8]] = &[
    b"",
    b"x",
    b"dir/y",
    b"x/",
    b"0",
    b"1",
    b"512",
    b"-1",
    b"1.5",
    b"99999999999999999999",
    b"a\0b",
    b"a\nb",
    b"a=b",
    b"BINARY",
    b"\xff",
    b" 1",
    b"+1",
    b"1e3",
    b"1_0",
    b"/x",
    b"../x",
];

/// Returns an archive.
pub(in crate::fuzz) fn tar(bytes: &[u8]) -> Vec<u8> {
    let mut choices = Choices::new(bytes);
    let mut out = Vec::new();
    for _ in 0..=choices.below(5) {
        extensions(&mut choices, &mut out);
        let flag = choices.choose(b"00000125");
        let flag = choices.mostly(flag, KINDS);
        let content = match flag {
            b'0' | 0 | b'7' => choices.choose(&[0, 3, 512, 700]),
            _ => choices.mostly(0, &[3, 512]),
        };
        let name = choices.choose(NAMES);
        entry(&mut choices, flag, name, &vec![b'c'; content], &mut out);
    }
    let end = choices.mostly(1024, &[0, 512, 1536, 10240]);
    out.resize(out.len() + end, 0);
    let behind = choices.mostly(&b""[..], &[b"x", &[b'x'; 512]]);
    out.extend(behind);
    out
}

/// Appends what may come before an entry.
fn extensions(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    for _ in 0..choices.choose(&[0, 0, 0, 0, 0, 0, 1, 1]) + choices.mostly(0, &[1, 2]) {
        let flag = choices.choose(b"xxxLKg");
        let mut content = Vec::new();
        if matches!(flag, b'L' | b'K') {
            content.extend(choices.choose(NAMES));
            content.extend(choices.mostly(&b"\0"[..], &[b"", b"\0\0", b"\0x\0"]));
        } else {
            for _ in 0..=choices.below(3) {
                record(choices, &mut content);
            }
        }
        entry(choices, flag, b"extension", &content, out);
    }
}

/// Appends `LENGTH KEY=VALUE\n`.
fn record(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let (key, value) = (choices.choose(KEYS), choices.choose(VALUES));
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    if length.to_string().len() == 2 {
        length += 1;
    }
    length = choices.mostly(length, &[0, rest, length + 1, 5000]);
    let space = choices.mostly(" ", &["  ", ""]);
    out.extend(format!("{length}{space}{key}=").into_bytes());
    out.extend(value);
    out.extend(choices.mostly(&b"\n"[..], &[b"", b"\0"]));
}

/// Appends a header and its content.
fn entry(choices: &mut Choices<'_>, flag: u8, name: &[u8], content: &[u8], out: &mut Vec<u8>) {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    let link = choices.choose(NAMES);
    if matches!(flag, b'1' | b'2') || choices.is_rare() {
        put(157, link);
    }
    put(124, &number(choices, 12, content.len() as u64));
    for (at, length, usual) in [(100, 8, 0o644), (108, 8, 0), (116, 8, 0), (136, 12, 1)] {
        put(at, &number(choices, length, usual));
    }
    let magic = *choices.mostly(b"ustar\x0000", MAGICS);
    put(257, &magic);
    put(345, choices.mostly(&b""[..], PREFIXES));
    put(508, choices.mostly(&b""[..], &[b"tar\0", b"x"]));
    put(156, &[flag]);
    put(148, b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    let signed: i32 = block.iter().map(|&byte| i32::from(byte.cast_signed())).sum();
    let sum = choices.mostly(
        format!("{sum:06o}\0 "),
        &[format!("{signed:06o}\0 "), format!("{:06o}\0 ", sum + 1), format!("{sum:07o}\0")],
    );
    block[148..156].copy_from_slice(&sum.as_bytes()[..8]);
    out.extend(block);
    out.extend(content);
    let end = out.len().next_multiple_of(512);
    out.extend(choices.mostly(&b""[..], &[b"p", b"10 path=yz\n"]));
    out.resize(end, 0);
}

/// Returns a field of `length` bytes, usually the octal digits of `usual`.
fn number(choices: &mut Choices<'_>, length: usize, usual: u64) -> Vec<u8> {
    let value = choices.mostly(usual, NUMBERS);
    let mut field = format!("{value:0width$o}\0", width = length - 1).into_bytes();
    if choices.is_rare() {
        field = choices.choose(FIELDS).to_vec();
    }
    field.resize(length, 0);
    field
}
