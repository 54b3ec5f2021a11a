//! Searching a file of any size, a part of it in memory at a time.

use super::files::Convention;
use super::{Finding, find};
use std::borrow::Cow;
use std::ops::Range;

/// The number of bytes of a file that are searched at once.
pub const PART: u64 = 1 << 20;

/// The number of bytes at the end of a chunk that are searched again with the next one, so that a secret across the boundary is
/// found.
const OVERLAP: usize = 64 << 10;

/// A secret in a file, by its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundLine {
    /// The line that it begins in, counted from one.
    pub line: usize,
    /// The kind of secret.
    pub what: &'static str,
}

impl From<&Finding> for FoundLine {
    fn from(Finding { what, line, span: _, end: _ }: &Finding) -> Self {
        FoundLine { line: *line, what }
    }
}

/// Finds the secrets in the file `path` of `size` bytes. `read` appends the bytes of a range of it to a buffer.
///
/// UTF-16 with a byte order mark is decoded. A chunk with a NUL byte belongs to a binary file, and ends the search.
///
/// # Errors
/// Those of `read`.
pub fn find_in_file<E>(
    path: &[u8],
    size: u64,
    buffer: &mut Vec<u8>,
    mut read: impl FnMut(Range<u64>, &mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<FoundLine>, E> {
    buffer.clear();
    read(0..size.min(PART), buffer)?;
    if size <= PART {
        return Ok(find_in_content(path, buffer));
    }
    let encoding = TextEncoding::of(buffer);
    let mut found = Vec::new();
    let mut text = encoding.decode(buffer).into_owned();
    let (mut lines, mut at, mut covered) = (0, PART, 0);
    loop {
        let is_last = at == size;
        // Secrets that begin after this position are found in the next chunk, with their whole text.
        let keep = if is_last { text.len() } else { line_start(&text, text.len().saturating_sub(OVERLAP)) };
        for finding in find(path, &text) {
            if (covered..keep).contains(&finding.span.start) {
                covered = finding.span.end;
                found.push(FoundLine { line: lines + finding.line, what: finding.what });
            }
        }
        let is_whole = Convention::of(path) == Some(Convention::Whole) && !found.is_empty();
        if is_last || is_whole || memchr::memchr(0, &text).is_some() {
            return Ok(found);
        }
        lines += memchr::memchr_iter(b'\n', &text[..keep]).count();
        text.drain(..keep);
        covered = covered.saturating_sub(keep);
        let next = size.min(at + PART);
        buffer.clear();
        read(at..next, buffer)?;
        text.extend_from_slice(&encoding.decode(buffer));
        at = next;
    }
}

/// Finds the secrets in a file that is completely in memory.
pub fn find_in_content(path: &[u8], content: &[u8]) -> Vec<FoundLine> {
    let text = TextEncoding::of(content).decode(content);
    find(path, &text).iter().map(FoundLine::from).collect()
}

/// Returns the start of the last line that begins before `end`, if it is in the second half.
fn line_start(text: &[u8], end: usize) -> usize {
    memchr::memrchr(b'\n', &text[end / 2..end]).map_or(end, |at| end / 2 + at + 1)
}

/// The text encoding of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextEncoding {
    /// In bytes that ASCII is a part of.
    Bytes,
    Utf16(ByteOrder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteOrder {
    LittleEndian,
    BigEndian,
}

impl TextEncoding {
    /// Returns the encoding that the byte order mark at the start of a file indicates.
    fn of(content: &[u8]) -> TextEncoding {
        match content {
            // Four bytes with two of them zero begin UTF-32, which is searched as little as a binary.
            [0xff, 0xfe, 0, 0, ..] => TextEncoding::Bytes,
            [0xff, 0xfe, ..] => TextEncoding::Utf16(ByteOrder::LittleEndian),
            [0xfe, 0xff, ..] => TextEncoding::Utf16(ByteOrder::BigEndian),
            _ => TextEncoding::Bytes,
        }
    }

    /// Returns the text in UTF-8. Invalid UTF-16 becomes a replacement character, which ends a value as little as a letter
    /// does.
    fn decode(self, content: &[u8]) -> Cow<'_, [u8]> {
        let TextEncoding::Utf16(order) = self else { return Cow::Borrowed(content) };
        let unit = |pair: &[u8; 2]| match order {
            ByteOrder::LittleEndian => u16::from_le_bytes(*pair),
            ByteOrder::BigEndian => u16::from_be_bytes(*pair),
        };
        let units = content.as_chunks().0.iter().map(unit);
        let decoded = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        Cow::Owned(decoded.filter(|c| *c != '\u{feff}').collect::<String>().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written in pieces, so that this file does not contain a secret.
    const SECRET: &str = concat!("example", "-of-a-test-7");

    fn lines(path: &str, content: &[u8]) -> Vec<(usize, &'static str)> {
        let read = |range: Range<u64>, buffer: &mut Vec<u8>| {
            assert!(range.end - range.start <= PART);
            buffer.extend_from_slice(&content[range.start as usize..range.end as usize]);
            Ok::<(), ()>(())
        };
        let found = find_in_file(path.as_bytes(), content.len() as u64, &mut Vec::new(), read).unwrap();
        found.into_iter().map(|FoundLine { line, what }| (line, what)).collect()
    }

    /// M18: wherever a secret is in a large file, at a border of two parts too, it is found once and in its line.
    #[test]
    fn a_secret_in_a_large_file_is_found_once() {
        let part = PART as usize;
        for before in
            [0, part - OVERLAP - 9, part - 40, part - 20, part - 1, part, 2 * part - OVERLAP - 7, 5 * part / 2]
        {
            for filling in ["x = 1\n", "words without end "] {
                let mut content = filling.repeat(before / filling.len() + 1);
                content.truncate(before);
                content.push('\n');
                let line = content.matches('\n').count() + 1;
                content.push_str(&format!("DB_PASSWORD={SECRET}\n"));
                content.push_str(&filling.repeat(part / filling.len() * 3 / 2));
                assert_eq!(lines("app.conf", content.as_bytes()), [(line, "a password")], "{filling} {before}");
            }
        }
    }

    #[test]
    fn a_key_across_two_parts_is_one_secret() {
        let key = format!(
            "-----BEGIN PRIVATE {}-----\n{}-----END PRIVATE KEY-----\n",
            "KEY",
            "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk\n".repeat(80)
        );
        for before in [PART as usize - 2000, PART as usize - OVERLAP - 100, PART as usize - OVERLAP + 100] {
            let content = format!("{}\n{key}{}", "x".repeat(before), "y\n".repeat(PART as usize));
            assert_eq!(lines("keys.txt", content.as_bytes()), [(2, "a private key")], "{before}");
        }
    }

    #[test]
    fn a_large_binary_is_left_at_its_first_part() {
        let mut content = vec![b'\n'; 3 * PART as usize];
        content[100] = 0;
        content.extend_from_slice(format!("DB_PASSWORD={SECRET}\n").as_bytes());
        assert_eq!(lines("program", &content), []);
    }

    /// M18: text of Windows is searched as other text is.
    #[test]
    fn utf_16_is_decoded() {
        let encoded = |text: &str, to_bytes: fn(u16) -> [u8; 2]| {
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(to_bytes).collect::<Vec<u8>>()
        };
        let text = format!("# größe 𝄞\r\nDB_PASSWORD={SECRET}\r\n");
        let large = format!("{}{text}", "# größe 𝄞\r\n".repeat(PART as usize / 16));
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            assert_eq!(lines("app.conf", &encoded(&text, to_bytes)), [(2, "a password")]);
            assert_eq!(lines("app.conf", &encoded(&large, to_bytes)), [(PART as usize / 16 + 2, "a password")]);
            let odd = [encoded(&text, to_bytes), vec![b'x']].concat();
            assert_eq!(lines("app.conf", &odd), [(2, "a password")]);
        }
        assert_eq!(lines("app.conf", &[0xff, 0xfe]), []);
    }
}
