//! Parsers for the values of flags.

use ocibuild::cache::CachePlace;
use ocibuild::layers::tree::Owner;
use ocibuild::spec::ImagePath;
use ocibuild::{Error, Location, Reference, Result, Timestamp};
use std::ffi::OsStr;

/// Returns `KEY=VALUE`, with a key.
///
/// # Errors
/// Fails if there is no `=`, or nothing in front of it.
pub(super) fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("`{text}`"), "not of the form KEY=VALUE")),
    }
}

/// Returns a name for an image that is made of the name of a file or directory, or `fallback` if nothing of that can be in one.
pub(super) fn repository_of(file_name: Option<&OsStr>, fallback: &str) -> String {
    let name = file_name.map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { fallback.to_owned() } else { parts.join("-") }
}

/// Returns `KEY=VALUE` for an annotation of the manifest, which may have the prefix `manifest:`.
///
/// # Errors
/// Fails if it is not of this form, or is for something that an image for one platform does not have.
pub(super) fn annotation(text: &str) -> Result<(String, String)> {
    let (key, value) = pair(text)?;
    let (scope, rest) = key.split_once(':').unwrap_or(("", &key));
    let refused = |reason| Err(Error::usage(format!("annotation `{key}`"), reason).hint(format!("{rest}=VALUE")));
    match scope.split_once('[') {
        None if scope == "manifest" && !rest.is_empty() => Ok((rest.to_owned(), value)),
        None if ["index", "index-descriptor", "manifest-descriptor"].contains(&scope) => {
            refused("only manifests get annotations, not the index of several platforms")
        }
        // A platform in brackets, as for docker.
        Some(("manifest" | "index" | "index-descriptor" | "manifest-descriptor", _)) => {
            refused("annotations are of the manifests of all platforms")
        }
        _ => Ok((key, value)),
    }
}

/// Parses a command: a JSON array of strings, or words that are split as by a shell. No shell runs them.
///
/// # Errors
/// Fails if it is neither.
pub(super) fn command(text: &str) -> Result<Vec<String>> {
    if text.trim_start().starts_with('[') {
        let words: Result<Vec<String>, _> = serde_json::from_str(text);
        return words.map_err(|_| Error::usage(format!("`{text}`"), "not a JSON array of strings"));
    }
    shlex::split(text).ok_or_else(|| Error::usage(format!("`{text}`"), "unterminated quote"))
}

/// Returns an absolute path in the image.
///
/// # Errors
/// Fails if it is relative or leaves the image.
pub(super) fn image_path(text: &str) -> Result<ImagePath> {
    if !text.starts_with('/') {
        return Err(Error::usage(format!("`{text}`"), "not an absolute path"));
    }
    ImagePath::new(text.as_bytes()).map_err(|error| Error::usage(error.object(), error.reason()))
}

/// Returns an absolute path in the image, as text for the config.
///
/// # Errors
/// Fails if it is relative.
pub(super) fn absolute(text: &str) -> Result<String> {
    image_path(text).map(|_| text.to_owned())
}

/// Returns `UID[:GID]`; without a group, the group has the number of the user.
///
/// # Errors
/// Fails if either is not a number below 2^32 - 1, which means "no user" to Linux.
pub(super) fn owner(text: &str) -> Result<Owner> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
    let malformed = || Error::usage(format!("owner `{text}`"), "not of the form UID[:GID] with numbers");
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Ok(Owner { uid: number(uid).ok_or_else(malformed)?, gid: number(gid).ok_or_else(malformed)? })
}

/// Permission bits, octal.
///
/// # Errors
/// Fails if it is not an octal number of at most 7777.
pub(super) fn mode(text: &str) -> Result<u16> {
    let bits = u16::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or_else(|| Error::usage(format!("mode `{text}`"), "not an octal number up to 7777"))
}

/// Returns `USER[:GROUP]`, each a number or a name.
///
/// # Errors
/// Fails if it is anything else.
pub(super) fn user(text: &str) -> Result<String> {
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.len() <= 64
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$'))
    };
    if text.split(':').count() <= 2 && text.split(':').all(is_name) {
        return Ok(text.to_owned());
    }
    Err(Error::usage(format!("user `{text}`"), "not of the form USER[:GROUP]"))
}

/// Returns `PORT[-PORT][/tcp|udp|sctp]`, with the protocol written out.
///
/// # Errors
/// Fails if it is anything else.
pub(super) fn port(text: &str) -> Result<String> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let fits = numbers.split('-').count() <= 2
        && numbers.split('-').all(|number| number.parse::<u16>().is_ok_and(|number| number > 0))
        && matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
    if fits {
        Ok(format!("{numbers}/{protocol}"))
    } else {
        Err(Error::usage(format!("port `{text}`"), "not of the form PORT[/tcp|udp|sctp]"))
    }
}

/// Returns `SIGTERM` or a number.
///
/// # Errors
/// Fails if it is anything else.
pub(super) fn signal(text: &str) -> Result<String> {
    let is_name = text.strip_prefix("SIG").is_some_and(|name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-'))
    });
    let is_number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    if is_name || is_number {
        Ok(text.to_owned())
    } else {
        Err(Error::usage(format!("signal `{text}`"), "neither SIG… nor a number from 1 to 64"))
    }
}

/// Returns the time of the image: the flag, otherwise `SOURCE_DATE_EPOCH`, otherwise `default`.
///
/// # Errors
/// Fails if either cannot be read. A negative `SOURCE_DATE_EPOCH` is not one (reproducible-builds.org, SOURCE_DATE_EPOCH).
pub(super) fn created(flag: Option<Timestamp>, default: Timestamp) -> Result<Timestamp> {
    if let Some(created) = flag {
        return Ok(created);
    }
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(default);
    };
    let seconds = text.to_str().and_then(|text| text.parse::<i64>().ok()).filter(|seconds| *seconds >= 0);
    let object = format!("SOURCE_DATE_EPOCH `{}`", text.to_string_lossy());
    let seconds = seconds.ok_or_else(|| Error::usage(&object, "not a number of seconds"))?;
    Timestamp::from_seconds(seconds).map_err(|error| Error::usage(object, error.reason()))
}

/// Reads `docker://REPOSITORY`.
pub(super) fn repository(text: &str) -> Result<Reference> {
    let location: Location = text.parse().map_err(|error: Error| error.hint("docker://HOST/NAME"))?;
    let Location::Registry(reference) = location else {
        return Err(Error::usage(format!("`{text}`"), "not a repository: docker://HOST/NAME"));
    };
    CachePlace::prefix(&reference).map(|_| reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_json_or_words() {
        assert_eq!(command(r#"["a b", "c"]"#).unwrap(), ["a b", "c"]);
        assert_eq!(command("python3 -c 'print(1)'").unwrap(), ["python3", "-c", "print(1)"]);
        assert!(command("[1]").is_err());
        assert!(command("'open").is_err());
    }

    #[test]
    fn malformed_values_are_refused() {
        let annotated = |text: &str| annotation(text).ok().map(|(key, value)| format!("{key} {value}"));
        assert_eq!(annotated("manifest:a=b").as_deref(), Some("a b"));
        assert_eq!(annotated("urn:a=b").as_deref(), Some("urn:a b"));
        assert!(annotated("index:a=b").is_none() && annotated("manifest:=b").is_some());
        assert!(pair("A").is_err() && pair("=x").is_err() && pair("A=").is_ok());
        assert_eq!(owner("7").unwrap(), Owner { uid: 7, gid: 7 });
        assert!(owner("root").is_err() && owner("4294967295").is_err() && owner("4294967294:0").is_ok());
        assert!(mode("8").is_err() && mode("10000").is_err() && mode("0755").is_ok());
        assert!(user("root:root:x").is_err() && user("").is_err() && user("1000:0").is_ok());
        assert_eq!(port("80").unwrap(), "80/tcp");
        assert!(port("0").is_err() && port("80/http").is_err() && port("1-2/UDP").is_ok());
        assert!(signal("TERM").is_err() && signal("SIGRTMIN+3").is_ok() && signal("65").is_err());
        assert!(absolute("relative").is_err());
    }
}
