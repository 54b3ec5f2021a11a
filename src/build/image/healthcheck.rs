//! Changes to the health check of an image, a member of Docker's that engines read.

use crate::common::error::{Error, Result};
use serde_json::{Map, Value};
use std::time::Duration;

/// Changes to the health check of an image. Members that are `None` stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthcheckEdit {
    /// The command, without a shell.
    pub command: Option<Vec<String>>,
    /// The time between two checks.
    pub interval: Option<Duration>,
    /// The time after which a check has failed.
    pub timeout: Option<Duration>,
    /// The time in which failures do not count.
    pub start_period: Option<Duration>,
    /// The number of failures in a row after which the container is unhealthy.
    pub retries: Option<u64>,
}

impl HealthcheckEdit {
    /// Returns this edit with the members that `other` sets.
    pub(super) fn overridden_by(self, other: HealthcheckEdit) -> Self {
        let HealthcheckEdit { command, interval, timeout, start_period, retries } = other;
        HealthcheckEdit {
            command: command.or(self.command),
            interval: interval.or(self.interval),
            timeout: timeout.or(self.timeout),
            start_period: start_period.or(self.start_period),
            retries: retries.or(self.retries),
        }
    }

    /// Applies the changes to the member `config` of a document, which messages call `object`.
    ///
    /// # Errors
    /// Fails if the health check has an impossible type or no command, or a time is too long.
    pub(super) fn apply(&self, config: &mut Map<String, Value>, object: &str) -> Result<()> {
        let HealthcheckEdit { command, interval, timeout, start_period, retries } = self;
        if *self == HealthcheckEdit::default() {
            return Ok(());
        }
        let mut check = match config.get("Healthcheck") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(check)) => check.clone(),
            Some(_) => return Err(Error::invalid(object, "`Healthcheck`: expected an object")),
        };
        if let Some(command) = command {
            let words = std::iter::once("CMD").chain(command.iter().map(String::as_str));
            check.insert("Test".to_owned(), words.collect::<Vec<_>>().into());
        }
        if !check.contains_key("Test") {
            return Err(Error::usage(object, "has no health check to change").hint("--healthcheck COMMAND sets one"));
        }
        for (key, duration) in [("Interval", interval), ("Timeout", timeout), ("StartPeriod", start_period)] {
            if let Some(duration) = duration {
                let nanoseconds = i64::try_from(duration.as_nanos())
                    .map_err(|_| Error::usage(object, format!("`{key}` of the health check is too long")))?;
                check.insert(key.to_owned(), nanoseconds.into());
            }
        }
        if let Some(retries) = retries {
            check.insert("Retries".to_owned(), (*retries).into());
        }
        config.insert("Healthcheck".to_owned(), check.into());
        Ok(())
    }
}
