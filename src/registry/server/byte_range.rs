//! The header `Range` with a single range (RFC 9110, section 14).

use std::ops::Range;

/// The bytes of a blob that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of them.
    Whole,
    /// Some of them; never empty.
    Part(Range<u64>),
    /// None that the blob has.
    Unsatisfiable,
}

impl Wanted {
    /// Reads the header `text` for a blob of `size` bytes. Malformed ranges, other units and several ranges are ignored, as the
    /// specification allows. A range that ends before it begins is refused, as the conformance suite of registries requires.
    pub(super) fn of(text: &str, size: u64) -> Wanted {
        parse(text.trim(), size).unwrap_or(Wanted::Whole)
    }
}

fn parse(text: &str, size: u64) -> Option<Wanted> {
    let (unit, range) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let part = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if part.start < part.end { Wanted::Part(part) } else { Wanted::Unsatisfiable })
}

/// Parses digits. A number that does not fit is beyond every blob.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood() {
        for (text, wanted) in [
            ("bytes=0-4", Wanted::Part(0..5)),
            ("Bytes=3-", Wanted::Part(3..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=9-99999999999999999999999", Wanted::Part(9..10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=10-12", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=4-3", Wanted::Unsatisfiable),
            ("bytes=9-0", Wanted::Unsatisfiable),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(Wanted::of(text, 10), wanted, "{text}");
        }
        assert_eq!(Wanted::of("bytes=0-0", 0), Wanted::Unsatisfiable);
    }
}
