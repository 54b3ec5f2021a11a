//! The limits of what is read that the environment sets.

use super::parse_sizes;
use ocibuild::common::limits::{Limit, LimitUnit};
use ocibuild::{Error, Result};

/// Takes over the limits that variables of the environment set.
///
/// # Errors
/// Fails if the value of a variable is no number, or none that the limit can have.
pub(super) fn set_from_environment() -> Result<()> {
    for limit in Limit::ALL {
        let Some(value) = std::env::var_os(limit.variable()).filter(|value| !value.is_empty()) else { continue };
        let text = value.to_string_lossy();
        let wrong = |reason: String| Error::usage(format!("{}={text}", limit.variable()), reason);
        limit.set(match limit.unit() {
            LimitUnit::Bytes => parse_sizes::size(&text).map_err(|error| wrong(error.reason()))?,
            LimitUnit::Number => text.parse().map_err(|_| wrong("not a number".to_owned()))?,
        })?;
    }
    Ok(())
}
