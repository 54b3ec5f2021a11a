//! Variables of the environment that turn something on or off.

use ocibuild::{Error, Result};

/// Opens no connection.
pub(super) const OFFLINE: &str = "OCIBUILD_OFFLINE";
/// Makes every layer again, and keeps none.
pub(super) const NO_CACHE: &str = "OCIBUILD_NO_CACHE";

/// Returns whether `variable` is set, and to something that means yes.
///
/// # Errors
/// Fails if its value is neither a yes nor a no.
pub(super) fn is_on(variable: &str) -> Result<bool> {
    std::env::var_os(variable).map_or(Ok(false), |value| read(variable, &value.to_string_lossy()))
}

fn read(variable: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(Error::usage(format!("{variable}={value}"), "neither yes nor no")
            .hint("1, true, yes or on; or 0, false, no or off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_or_off_or_wrong() {
        for (value, is_on) in [("1", true), ("Yes", true), ("ON", true), ("", false), ("0", false), ("False", false)] {
            assert_eq!(read("X", value).unwrap(), is_on, "{value}");
        }
        let wrong = read("X", "maybe").unwrap_err().to_string();
        assert!(wrong.starts_with("X=maybe: neither yes nor no"), "{wrong}");
    }
}
