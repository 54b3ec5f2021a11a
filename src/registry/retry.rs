//! Retries of failed requests, and the waits between them.

use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::{Progress, warn};
use std::time::{Duration, Instant};
use ureq::http::HeaderMap;
use ureq::http::header::{DATE, RETRY_AFTER};

/// The limits of retries of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The maximum number of retries of a request.
    pub retries: u32,
    /// The wait before the first retry; it doubles with each retry, up to 16 times this.
    pub first_wait: Duration,
    /// The time after the first failure in which the last retry must begin, and the longest accepted `Retry-After`.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { retries: 5, first_wait: Duration::from_millis(500), deadline: Duration::from_secs(180) }
    }
}

/// The attempts at one request or transfer. Each retry is a warning.
pub(super) struct Attempts<'p> {
    policy: RetryPolicy,
    progress: &'p dyn Progress,
    made: u32,
    /// Counted from the first failure, not from the start: a transfer that ran well for an hour may still be retried.
    first_failure: Option<Instant>,
}

impl<'p> Attempts<'p> {
    pub(super) fn new(policy: RetryPolicy, progress: &'p dyn Progress) -> Self {
        Attempts { policy, progress, made: 0, first_failure: None }
    }

    /// Resets the count of failures, after the transfer has made progress.
    pub(super) fn start_over(&mut self) {
        *self = Attempts::new(self.policy, self.progress);
    }

    /// Waits before the next attempt, or returns `error` if no attempt is left.
    pub(super) fn wait_after(&mut self, error: Error) -> Result<()> {
        let doublings = self.made.min(4);
        self.wait(self.policy.first_wait * (1 << doublings), error)
    }

    /// Waits as [`Attempts::wait_after`] does, for the time in `Retry-After` if there is one.
    pub(super) fn wait_for_retry(&mut self, headers: &HeaderMap, error: Error) -> Result<()> {
        match retry_after(headers) {
            Some(requested) if requested > self.policy.deadline => Err(Error::new(
                ErrorKind::Network,
                error.object(),
                format!("rate limited until {} ({})", until(headers, requested), error.reason()),
            )),
            Some(requested) => self.wait(requested, error),
            None => self.wait_after(error),
        }
    }

    fn wait(&mut self, wait: Duration, error: Error) -> Result<()> {
        let since = self.first_failure.get_or_insert_with(Instant::now);
        if self.made >= self.policy.retries || since.elapsed() + wait > self.policy.deadline {
            return Err(error);
        }
        self.made += 1;
        warn(self.progress, &error.object(), &format!("{}; retrying", error.reason()));
        std::thread::sleep(wait);
        Ok(())
    }
}

/// Returns the wait that `Retry-After` asks for (RFC 9110, section 10.2.3), or `None` if it is absent or malformed.
///
/// A date is compared with the server's own `Date`: this machine's clock may be wrong, and the library does not read it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = http_date(text)?.duration_since(http_date(headers.get(DATE)?.to_str().ok()?)?).as_secs();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Formats the end of the wait, by the server's clock if `Date` is present.
fn until(headers: &HeaderMap, wait: Duration) -> String {
    let now = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    let then = i64::try_from(wait.as_secs()).ok().map(jiff::SignedDuration::from_secs);
    match now.zip(then).and_then(|(now, wait)| now.checked_add(wait).ok()) {
        Some(then) => then.to_string(),
        None => format!("{} s from now", wait.as_secs()),
    }
}

/// Parses an HTTP date (RFC 9110, section 5.6.7): the fixed form of RFC 5322 that every server writes.
fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::progress::Silent;
    use ureq::http::HeaderValue;

    fn headers(retry_after: &str, date: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap());
        headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        headers
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let seconds = |retry_after: &str| super::retry_after(&headers(retry_after, date)).map(|wait| wait.as_secs());
        assert_eq!(seconds("17"), Some(17));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for garbage in ["soon", "-1", "", "1e9", "Sun, 99 Nov 1994 08:50:07 GMT"] {
            assert_eq!(seconds(garbage), None, "{garbage}");
        }
        assert_eq!(super::retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn a_wait_beyond_the_deadline_is_an_error_with_the_moment() {
        let mut attempts = Attempts::new(RetryPolicy::default(), &Silent);
        let error = Error::new(ErrorKind::Network, "reg.io", "answered 429");
        let said = attempts.wait_for_retry(&headers("3600", "Sun, 06 Nov 1994 08:49:37 GMT"), error).unwrap_err();
        assert_eq!(said.to_string(), "reg.io: rate limited until 1994-11-06T09:49:37Z (answered 429)");
        let error = Error::new(ErrorKind::Network, "reg.io", "answered 429");
        let said = attempts.wait_for_retry(&headers("99999999999999999999", "x"), error);
        assert!(said.is_ok(), "a number that does not fit is garbage, and garbage means the usual wait");
    }

    #[test]
    fn attempts_end() {
        let policy = RetryPolicy { retries: 2, first_wait: Duration::from_millis(1), ..RetryPolicy::default() };
        let mut attempts = Attempts::new(policy, &Silent);
        let error = || Error::new(ErrorKind::Network, "reg.io", "answered 500");
        assert!(attempts.wait_after(error()).is_ok());
        assert!(attempts.wait_after(error()).is_ok());
        assert!(attempts.wait_after(error()).is_err());
        attempts.start_over();
        assert!(attempts.wait_after(error()).is_ok());
    }

    #[test]
    fn the_deadline_counts_from_the_first_failure() {
        let (first_wait, deadline) = (Duration::from_millis(1), Duration::from_millis(40));
        let mut attempts = Attempts::new(RetryPolicy { retries: 9, first_wait, deadline }, &Silent);
        let error = || Error::new(ErrorKind::Network, "reg.io", "connection closed unexpectedly");
        std::thread::sleep(deadline * 2);
        assert!(attempts.wait_after(error()).is_ok());
        std::thread::sleep(deadline * 2);
        assert!(attempts.wait_after(error()).is_err());
    }
}
