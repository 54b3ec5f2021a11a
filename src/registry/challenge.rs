//! Authentication challenges in `WWW-Authenticate` (RFC 9110, section 11.6.1).

use crate::common::error::{Error, ErrorKind, Result};

/// A challenge that this client supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A bearer token from `realm`, where the registry is called `service`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// Basic authentication: a name and a password with each request.
    Basic,
}

/// Names and values, in order.
type Parameters = Vec<(String, String)>;

/// Chooses the best challenge in the header fields: bearer before basic.
///
/// # Errors
/// Returns an error if there is no challenge, none is supported, or a field is malformed.
pub(super) fn choose<'a>(fields: impl Iterator<Item = &'a str>, object: &str) -> Result<Challenge> {
    let wrong = |reason: String| Error::new(ErrorKind::Denied, object, reason);
    let mut basic = false;
    let mut others = Vec::new();
    for field in fields {
        for (scheme, parameters) in parse(field).ok_or_else(|| wrong("sent a malformed challenge".to_owned()))? {
            let value = |name: &str| {
                let of_that_name = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
                parameters.iter().find(of_that_name).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                let realm = value("realm").ok_or_else(|| wrong("requires a token, but names no realm".to_owned()))?;
                return Ok(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = true;
            } else {
                others.push(scheme);
            }
        }
    }
    match (basic, others.is_empty()) {
        (true, _) => Ok(Challenge::Basic),
        (false, true) => Err(wrong("requires credentials without an authentication scheme".to_owned())),
        (false, false) => Err(wrong(format!("requires an unknown authentication scheme: {}", others.join(", ")))),
    }
}

/// Parses one header field into schemes with their parameters. Returns `None` if it is malformed.
fn parse(field: &str) -> Option<Vec<(String, Parameters)>> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = field.trim();
    while !rest.is_empty() {
        let (word, behind) = token(rest)?;
        let spaced = behind.trim_start();
        if let Some(value) = spaced.strip_prefix('=') {
            // `key=value` belongs to the preceding scheme.
            let (value, behind) = parameter_value(value.trim_start())?;
            challenges.last_mut()?.1.push((word.to_owned(), value));
            rest = separator(behind)?;
        } else {
            // A new scheme, followed by a parameter, the next scheme or the end.
            challenges.push((word.to_owned(), Vec::new()));
            rest = if spaced.len() < behind.len() {
                spaced.trim_start_matches([',', ' ', '\t'])
            } else {
                separator(behind)?
            };
        }
    }
    Some(challenges)
}

/// Skips the separator after a parameter: a comma or the end.
fn separator(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with(',') { Some(rest.trim_start_matches([',', ' ', '\t'])) } else { None }
}

/// Splits one `token` (RFC 9110, section 5.6.2) from the rest.
fn token(text: &str) -> Option<(&str, &str)> {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !in_token(c)).unwrap_or(text.len());
    if end == 0 { None } else { Some(text.split_at(end)) }
}

/// Splits a `token` or a `quoted-string` from the rest.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, behind)| (value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c if c.is_control() => return None,
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(fields: &[&str]) -> String {
        match choose(fields.iter().copied(), "reg.io") {
            Ok(Challenge::Bearer { realm, service, scope }) => format!("{realm} {service:?} {scope:?}"),
            Ok(Challenge::Basic) => "basic".to_owned(),
            Err(error) => error.reason(),
        }
    }

    #[test]
    fn a_bearer_challenge_is_understood() {
        let field = r#"Bearer realm="https://auth.io/token",service="reg.io",scope="repository:a/b:pull,push""#;
        assert_eq!(chosen(&[field]), r#"https://auth.io/token Some("reg.io") Some("repository:a/b:pull,push")"#);
        assert_eq!(chosen(&[r#"bearer REALM = "r\"x" , service=plain"#]), r#"r"x Some("plain") None"#);
    }

    #[test]
    fn a_supported_scheme_is_picked_among_many() {
        assert_eq!(chosen(&[r#"Negotiate, Basic realm="r""#]), "basic");
        assert_eq!(chosen(&["Negotiate abc=1, NTLM", "Basic"]), "basic");
        assert_eq!(chosen(&[r#"Basic realm="x", Bearer realm="https://a""#]), "https://a None None");
        assert_eq!(chosen(&["Digest realm=x"]), "requires an unknown authentication scheme: Digest");
    }

    #[test]
    fn malformed_challenges_are_refused() {
        for bad in [r#"Bearer realm="https://a"#, "realm=x", r#"Bearer realm="a" service="b""#, "Bearer =", "\"x\""] {
            assert_eq!(chosen(&[bad]), "sent a malformed challenge", "{bad}");
        }
        assert_eq!(chosen(&["Bearer realm=\"a\u{1}b\""]), "sent a malformed challenge");
        assert_eq!(chosen(&["Bearer service=x"]), "requires a token, but names no realm");
        assert_eq!(chosen(&[]), "requires credentials without an authentication scheme");
    }
}
