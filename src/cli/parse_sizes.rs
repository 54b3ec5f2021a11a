//! Sizes and ages, as people write them.

use ocibuild::{Error, Result};
use std::time::Duration;

/// Splits a number from its unit.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// Returns a number of bytes, such as `10GiB`.
///
/// # Errors
/// Fails if it is not a number, or has no unit that is known.
pub(super) fn size(text: &str) -> Result<u64> {
    let malformed =
        || Error::usage(format!("size `{text}`"), "not a number with B, KiB, MiB, GiB or TiB, or KB, MB, GB or TB");
    let (number, unit) = split_unit(text).ok_or_else(malformed)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(malformed()),
    };
    number.checked_mul(factor).ok_or_else(malformed)
}

/// Returns a time span, such as `30d`, or `1m30s` as Go programs take it.
///
/// # Errors
/// Fails if it is not made of numbers with units that are known.
pub(super) fn age(text: &str) -> Result<Duration> {
    let malformed = || Error::usage(format!("time `{text}`"), "not a number with ms, s, m, h, d or w, such as 1m30s");
    // Zero needs no unit.
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut span, mut rest) = (Duration::ZERO, text.trim());
    loop {
        let unit = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let end = rest[unit..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |length| unit + length);
        let part = split_unit(&rest[..end]).and_then(|(number, unit)| span_of(number, unit));
        span = part.and_then(|part| span.checked_add(part)).ok_or_else(malformed)?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Ok(span);
        }
    }
}

/// Returns so many of a unit; nothing if it is unknown, or they are too many.
fn span_of(number: u64, unit: &str) -> Option<Duration> {
    let seconds: u64 = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_have_units() {
        assert_eq!(size("10GiB").unwrap(), 10 << 30);
        assert_eq!(size("5 MB").unwrap(), 5_000_000);
        assert_eq!(age("30d").unwrap(), Duration::from_secs(30 * 86_400));
        assert_eq!(age("0").unwrap(), Duration::ZERO);
        assert_eq!(age("1h1m30s").unwrap(), Duration::from_secs(3690));
        assert_eq!(age("1s500ms").unwrap(), Duration::from_millis(1500));
        for bad in ["", "GiB", "1.5G", "10 parsecs", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["", "30", "d", "1m30", "m1s", "1x1s", "99999999999999999w", "18446744073709551615s1s", "-1s"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
