//! Times in whole seconds since the Unix epoch, and their RFC 3339 text.

use crate::common::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A moment in whole seconds since 1970-01-01T00:00:00Z.
///
/// The library never reads a clock: the time of an image is part of its request.
///
/// ```
/// use ocibuild::Timestamp;
///
/// assert_eq!(Timestamp::RCC.to_string(), "2021-01-07T06:13:20Z");
/// assert_eq!("1970-01-01T01:00:00+01:00".parse::<Timestamp>()?, Timestamp::EPOCH);
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// The modification time that RCC gives every file of a restored environment.
    pub const RCC: Timestamp = Timestamp(1_610_000_000);

    /// Creates a time in the years 1 to 9999, which RFC 3339 can represent.
    ///
    /// # Errors
    /// Returns an error if the time is outside those years.
    pub fn from_seconds(seconds: i64) -> Result<Self> {
        match jiff::Timestamp::from_second(seconds) {
            Ok(moment) if (1..=9999).contains(&moment.to_zoned(jiff::tz::TimeZone::UTC).year()) => {
                Ok(Timestamp(seconds))
            }
            _ => Err(Error::usage(format!("time {seconds}"), "outside the years 1 to 9999")),
        }
    }

    /// Returns the seconds since the epoch; negative before it.
    pub fn seconds(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(moment) => fmt::Display::fmt(&moment, f),
            Err(_) => write!(f, "@{}", self.0),
        }
    }
}

/// Parses RFC 3339 text (fractions of a second are truncated) or a plain number of seconds.
impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(seconds) = text.parse::<i64>() {
            return Timestamp::from_seconds(seconds);
        }
        match text.parse::<jiff::Timestamp>() {
            Ok(moment) => Timestamp::from_seconds(moment.as_second()),
            Err(_) => Err(Error::usage(format!("time `{text}`"), "neither RFC 3339 nor a number of seconds")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_years_are_accepted() {
        assert!(Timestamp::from_seconds(i64::MAX).is_err());
        assert!(Timestamp::from_seconds(253_402_300_800).is_err());
        assert_eq!(Timestamp::from_seconds(253_402_207_199).unwrap().to_string(), "9999-12-30T21:59:59Z");
        assert!("soon".parse::<Timestamp>().is_err());
        assert_eq!("86400".parse::<Timestamp>().unwrap().to_string(), "1970-01-02T00:00:00Z");
    }
}
