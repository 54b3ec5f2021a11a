//! The types of unquoted scalars in YAML 1.1, as go-yaml 2 determines them.

use jiff::civil::Date;

/// The type of a plain scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rcc) enum ScalarType {
    /// Any other scalar; also one that looks like a time, which go-yaml returns as text.
    Text,
    /// An integer or a float.
    Number,
    /// `yes`, `off`, `true`, …
    Truth,
    /// `~`, `null` and an empty scalar.
    Null,
}

impl ScalarType {
    pub(super) fn described(self) -> &'static str {
        match self {
            ScalarType::Text => "text",
            ScalarType::Number => "a number",
            ScalarType::Truth => "a truth value",
            ScalarType::Null => "nothing",
        }
    }
}

/// Returns the type of the plain scalar `text`.
pub(in crate::rcc) fn kind(text: &str) -> ScalarType {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return ScalarType::Null;
    }
    if is_truth(text) {
        return ScalarType::Truth;
    }
    // A time is detected before a number, and is text.
    if !is_time(text) && is_number(text) { ScalarType::Number } else { ScalarType::Text }
}

/// Returns whether a string must be quoted to be read as a string again.
pub(super) fn reads_as_something_else(text: &str) -> bool {
    kind(text) != ScalarType::Text || is_time(text) || is_sexagesimal(text)
}

/// Returns whether an unquoted key is a merge key.
pub(super) fn is_merge(text: &str) -> bool {
    text == "<<"
}

fn is_truth(text: &str) -> bool {
    const WORDS: [&str; 8] = ["y", "yes", "on", "true", "n", "no", "off", "false"];
    let lower = text.to_ascii_lowercase();
    if !WORDS.contains(&lower.as_str()) {
        return false;
    }
    let capitalised = text.chars().next().is_some_and(|first| first.is_ascii_uppercase()) && text[1..] == lower[1..];
    text == lower || capitalised || text == text.to_ascii_uppercase()
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    match text.as_bytes().first() {
        Some(b'.') => is_go_decimal_fraction(text),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let plain = text.replace('_', "");
            is_integer(&plain) || is_float(&plain)
        }
        _ => false,
    }
}

/// Returns whether Go's `strconv.ParseInt` with base 0 accepts the text.
///
/// Values without a sign may also be those that only `ParseUint` accepts.
fn is_integer(text: &str) -> bool {
    let (negative, signed, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, true, &text[1..]),
        Some(b'+') => (false, true, &text[1..]),
        _ => (false, false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
        return false;
    }
    let largest = match (negative, signed) {
        (true, _) => 1 << 63,
        (false, true) => (1 << 63) - 1,
        (false, false) => u64::MAX,
    };
    u64::from_str_radix(digits, radix).is_ok_and(|value| value <= largest)
}

/// Matches `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, if the value does not overflow.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_is_valid = all_digits(whole)
        && all_digits(fraction)
        && (!whole.is_empty() || !fraction.is_empty())
        && exponent.is_none_or(|digits| !digits.is_empty() && all_digits(digits));
    mantissa_is_valid && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Returns whether Go's `strconv.ParseFloat` accepts a text that begins with a point.
///
/// It allows underscores between digits.
fn is_go_decimal_fraction(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    let separates = |at: usize| at > 0 && is_digit(bytes.get(at - 1)) && is_digit(bytes.get(at + 1));
    let separated = bytes.iter().enumerate().all(|(at, byte)| *byte != b'_' || separates(at));
    separated && is_float(&text.replace('_', ""))
}

/// Matches `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`.
///
/// Such a scalar is text in this library and a number in others, so it is quoted.
fn is_sexagesimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let first_is_valid = first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let mut rest: Vec<&str> = parts.collect();
    let Some(last) = rest.pop() else { return false };
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    rest.push(last);
    let is_sixtieth = |part: &&str| match part.as_bytes() {
        [ones] => ones.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    };
    first_is_valid && rest.iter().all(is_sixtieth) && fraction.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// Matches `YYYY-M-D`, alone or with a time.
///
/// The time follows a space, or follows `T` and has a zone.
fn is_time(text: &str) -> bool {
    let Some((date, time)) = split_date(text) else { return false };
    match time.as_bytes().first() {
        None => date,
        Some(b' ') => date && is_clock(&time[1..]),
        Some(b'T' | b't') => date && split_zone(&time[1..]).is_some_and(is_clock),
        Some(_) => false,
    }
}

/// Splits a date from `text`. Returns whether the calendar has that date, and the rest.
fn split_date(text: &str) -> Option<(bool, &str)> {
    let (year, rest) = number(text, 4..=4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 1..=2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 1..=2)?;
    let part = |value: u32| i8::try_from(value).unwrap_or(i8::MAX);
    let date = Date::new(i16::try_from(year).unwrap_or(i16::MAX), part(month), part(day));
    Some((date.is_ok(), rest))
}

/// Matches `H:M:S` with at most two digits each, and a fraction of a second.
fn is_clock(text: &str) -> bool {
    let parsed = || {
        let (hour, rest) = number(text, 1..=2)?;
        let (minute, rest) = number(rest.strip_prefix(':')?, 1..=2)?;
        let (second, rest) = number(rest.strip_prefix(':')?, 1..=2)?;
        Some((hour < 24 && minute < 60 && second < 60, rest))
    };
    let Some((in_range, rest)) = parsed() else { return false };
    let fraction = rest.strip_prefix(['.', ',']);
    let fraction_is_valid =
        fraction.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    in_range && (rest.is_empty() || fraction_is_valid)
}

/// Returns the text before `Z` or `±hh:mm`.
fn split_zone(text: &str) -> Option<&str> {
    if let Some(clock) = text.strip_suffix('Z') {
        return Some(clock);
    }
    let at = text.len().checked_sub(6)?;
    let (clock, zone) = (text.get(..at)?, text.get(at..)?);
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let in_range = |text: &str, limit: u32| number(text, 2..=2).is_some_and(|(n, rest)| rest.is_empty() && n <= limit);
    (in_range(hours, 24) && in_range(minutes, 60)).then_some(clock)
}

/// Splits a decimal number with a number of digits in the given range from `text`.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<(u32, &str)> {
    let present = text.bytes().take_while(u8::is_ascii_digit).count().min(*digits.end());
    if present < *digits.start() {
        return None;
    }
    let (number, rest) = text.split_at(present);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_yaml_1_1_are_truth_values_in_three_spellings() {
        for text in ["y", "N", "yes", "Yes", "YES", "off", "On", "TRUE", "False"] {
            assert_eq!(kind(text), ScalarType::Truth, "{text}");
        }
        for text in ["yEs", "tRUE", "oN", "yess", "t"] {
            assert_eq!(kind(text), ScalarType::Text, "{text}");
        }
    }

    #[test]
    fn numbers_are_recognised_in_every_notation() {
        for text in [
            "0",
            "3",
            "3.10",
            "1_000",
            "0x1F",
            "0o17",
            "017",
            "08",
            "0b101",
            "-0b1",
            "+5",
            "-12",
            "1e3",
            "1.",
            ".5",
            ".5e-3",
            ".1_0",
            "-.5",
            ".inf",
            "-.INF",
            ".NaN",
            "18446744073709551615",
            "99999999999999999999",
        ] {
            assert_eq!(kind(text), ScalarType::Number, "{text}");
        }
        for text in
            ["1.2.3", "0x", "0xg", "1e", "1e999", "._1", "_1", "python", "3.10.12", "v1", "+", "-", ".", "+.nan"]
        {
            assert_eq!(kind(text), ScalarType::Text, "{text}");
        }
    }

    #[test]
    fn times_and_sexagesimal_numbers_are_text_that_needs_quotes() {
        for text in [
            "2024-01-02",
            "2024-1-2",
            "2024-01-02 3:4:5.678",
            "2024-01-02T03:04:05Z",
            "2024-01-02t03:04:05+01:00",
            "1:30",
            "190:20:30.15",
            "-1_0:59",
        ] {
            assert_eq!(kind(text), ScalarType::Text, "{text}");
            assert!(reads_as_something_else(text), "{text}");
        }
        for text in
            ["2024-02-30", "2024-13-01", "24-01-02", "1:60", "1:2:", "a:30", "2024-01-02 25:00:00", "2024-01-02x"]
        {
            assert!(!reads_as_something_else(text), "{text}");
        }
    }
}
