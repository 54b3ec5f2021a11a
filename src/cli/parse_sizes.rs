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

/// Returns a duration, such as `30d`.
///
/// # Errors
/// Fails if it is not a number, or has no unit that is known.
pub(super) fn age(text: &str) -> Result<Duration> {
    let malformed = || Error::usage(format!("age `{text}`"), "not a number with s, m, h, d or w");
    let (number, unit) = split_unit(text).ok_or_else(malformed)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        // Zero needs no unit.
        "" if number == 0 => 0,
        _ => return Err(malformed()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(malformed)
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
        for bad in ["", "GiB", "1.5G", "10 parsecs", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(age("30").is_err() && age("d").is_err());
    }
}
