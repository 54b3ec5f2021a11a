//! Error responses of registries and token servers.

use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind};
use crate::common::json;
use serde_json::Value;
use std::io::Read;

/// The maximum size of an error response that is read, in bytes.
const LARGEST_BODY: u64 = 64 << 10;

/// The maximum length of the quoted body, in characters.
const LONGEST_QUOTE: usize = 200;

/// An unsuccessful response and the messages in its body (distribution-spec, "Error Codes").
#[derive(Debug)]
pub(super) struct ErrorResponse {
    status: u16,
    codes: Vec<String>,
    said: String,
}

impl ErrorResponse {
    /// Reads the body of a response of `status`. A body that cannot be read counts as empty.
    pub(super) fn read(status: u16, body: impl Read) -> ErrorResponse {
        let body = bounded_read::read(body, LARGEST_BODY, "answer").unwrap_or_default();
        let mut refusal = ErrorResponse { status, codes: Vec::new(), said: String::new() };
        let Ok(document) = json::parse(&body, json::DOCUMENT_DEPTH, "answer") else {
            let text = String::from_utf8_lossy(&body);
            // An HTML page begins with markup, which is not worth quoting.
            if !text.trim_start().starts_with('<') {
                refusal.say(text.trim());
            }
            return refusal;
        };
        match document.get("errors").and_then(Value::as_array) {
            Some(errors) => {
                refusal.codes = errors.iter().map(|error| text_at(error, "code").to_owned()).collect();
                for error in errors.iter().take(4) {
                    refusal.say(&format!("{} {}", text_at(error, "code"), text_at(error, "message")));
                }
            }
            // Token servers and proxies use other formats (RFC 6749, section 5.2).
            None => ["error", "error_description", "message", "details"]
                .iter()
                .for_each(|key| refusal.say(text_at(&document, key))),
        }
        refusal
    }

    /// Returns whether one of the errors has this code.
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|said| said == code)
    }

    /// Converts the response to an error about `object`.
    pub(super) fn error(&self, object: &str) -> Error {
        let kind = match self.status {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            _ => ErrorKind::Network,
        };
        let said: String = self.said.chars().take(LONGEST_QUOTE).collect();
        let reason = if said.is_empty() {
            format!("answered {}", self.status)
        } else {
            format!("answered {}: {said}", self.status)
        };
        let error = Error::new(kind, object, reason);
        match self.status {
            429 | 500.. => error.hint("the server is busy or broken: try again later"),
            404 => error.hint("check the name, the tag and the digest"),
            _ => error,
        }
    }

    fn say(&mut self, words: &str) {
        let parting = if self.said.is_empty() || words.trim().is_empty() { "" } else { "; " };
        self.said.push_str(parting);
        self.said.push_str(words.trim());
    }
}

fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_quotes_the_server_briefly_and_safely() {
        let said = |status: u16, body: &str| ErrorResponse::read(status, body.as_bytes()).error("reg.io/x").to_string();
        let denied = r#"{"errors": [{"code": "DENIED", "message": "no\u001b[31m way", "detail": {}}]}"#;
        assert_eq!(said(403, denied), "reg.io/x: answered 403: DENIED no\\u{1b}[31m way");
        assert_eq!(said(400, r#"{"error": "invalid_grant"}"#), "reg.io/x: answered 400: invalid_grant");
        assert_eq!(said(405, "Method not allowed\n"), "reg.io/x: answered 405: Method not allowed");
        assert_eq!(said(406, "<html>Bad</html>"), "reg.io/x: answered 406");
        assert_eq!(said(500, ""), "reg.io/x: answered 500 (the server is busy or broken: try again later)");
        assert_eq!(said(406, &"x".repeat(300)), format!("reg.io/x: answered 406: {}", "x".repeat(200)));
        assert_eq!(said(406, &"x".repeat(70_000)), "reg.io/x: answered 406");
    }

    #[test]
    fn codes_are_kept() {
        let body = r#"{"errors": [{"code": "A"}, {"code": "MANIFEST_BLOB_UNKNOWN", "message": 1}]}"#;
        let refusal = ErrorResponse::read(404, body.as_bytes());
        assert!(refusal.has_code("MANIFEST_BLOB_UNKNOWN"));
        assert!(!refusal.has_code("B"));
        assert_eq!(refusal.error("x").reason(), "answered 404: A; MANIFEST_BLOB_UNKNOWN");
    }
}
