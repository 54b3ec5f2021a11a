//! Errors as clients of a registry get them (distribution-spec, "Error Codes").

use serde_json::json;
use ureq_proto::http::{HeaderName, HeaderValue, StatusCode, header};

/// The code of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    TooManyRequests,
    Unauthorized,
    Unknown,
    Unsupported,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Code::RangeInvalid => "RANGE_INVALID",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Unknown => "UNKNOWN",
            Code::Unsupported => "UNSUPPORTED",
        }
    }
}

/// An unsuccessful response.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: Code,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Refusal { status, code, message: message.into(), headers: Vec::new() }
    }

    /// Something that was named is not here.
    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, code, message)
    }

    /// The request is malformed.
    pub(super) fn malformed(code: Code, message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// No client may do this here.
    pub(super) fn read_only() -> Self {
        let message = "this registry is read-only";
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message)
            .with(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
    }

    /// The client has to say who it is.
    pub(super) fn unauthorized() -> Self {
        Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "authentication required")
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"ocibuild\""))
    }

    /// The client may try again soon.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::TooManyRequests, message)
            .with(header::RETRY_AFTER, HeaderValue::from_static("2"))
    }

    /// This machine fails; the reason is not for clients.
    pub(super) fn internal() -> Self {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, "the layout cannot be read")
    }

    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn into_parts(self) -> (StatusCode, Vec<(HeaderName, HeaderValue)>, Vec<u8>) {
        let error = json!({"code": self.code.text(), "message": self.message});
        (self.status, self.headers, json!({"errors": [error]}).to_string().into_bytes())
    }
}
