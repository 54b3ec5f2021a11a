//! Downloads of single files from web servers, over the same transport and without credentials.

use super::origin::{self, Origin, Scheme};
use super::retry::Attempts;
use super::transport::{Answer, ExchangeError, HttpRequest, Payload, Transport};
use super::{Options, PlainHttp, is_transient, redirected};
use crate::common::digest::{Algorithm, Digest, Hasher};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers;
use crate::common::progress::{Activity, Progress};
use crate::common::root::{Root, Temporary};
use crate::registry::error_response::ErrorResponse;
use std::io::{Read, Write};
use ureq::http::{Method, Uri, header};

/// The maximum size of a download, in bytes.
const LARGEST: u64 = 512 << 20;

/// Downloads the file at `url` to a temporary file in `directory`.
///
/// A download that was cut starts again from its beginning. Returns the file, not yet named, and the SHA-256 of its content.
///
/// # Errors
/// Fails if `url` is not a URL or needs plain HTTP that is not allowed, if the server cannot be reached or has no such file, if
/// the file is larger than 512 MiB, or if it cannot be written.
pub fn fetch(
    transport: &Transport,
    url: &str,
    options: &Options,
    directory: &Root,
    progress: &dyn Progress,
) -> Result<(Temporary, Digest)> {
    let start = origin::parse(url, "download").map_err(|error| Error::usage(format!("`{url}`"), error.reason()))?;
    let object = origin::without_query(&start);
    let mut attempts = Attempts::new(options.retry, progress);
    loop {
        let error = match ask(transport, &start, options) {
            Ok(answer) if answer.status == 200 => match receive(transport, answer, directory, progress) {
                Ok(received) => return Ok(received),
                Err(ExchangeError::Transient(error)) => error,
                Err(fault) => return Err(fault.error()),
            },
            Ok(answer) => {
                let (status, headers) = (answer.status, answer.headers.clone());
                let error = ErrorResponse::read(status, answer.body).error(&object);
                if !is_transient(status) {
                    return Err(error);
                }
                attempts.wait_for_retry(&headers, error)?;
                continue;
            }
            Err(ExchangeError::Transient(error)) => error,
            Err(fault) => return Err(fault.error()),
        };
        attempts.wait_after(error)?;
    }
}

/// Requests the file and follows redirects.
fn ask(transport: &Transport, start: &Uri, options: &Options) -> Result<Answer, ExchangeError> {
    let mut request =
        HttpRequest { method: Method::GET, url: start.clone(), headers: Vec::new(), payload: Payload::None };
    let mut redirects = 0;
    loop {
        check_scheme(&request.url, start, options.plain_http).map_err(ExchangeError::Permanent)?;
        let answer = transport.send(&mut request, None)?;
        if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(answer);
        }
        redirects += 1;
        request.url = redirected(&request, &answer, redirects).map_err(ExchangeError::Permanent)?;
    }
}

/// Refuses plain HTTP unless it is allowed: an attacker on the path could replace the program. An exception for the host of
/// `start` does not apply to another host.
fn check_scheme(url: &Uri, start: &Uri, plain_http: PlainHttp) -> Result<()> {
    let origin = Origin::of(url);
    let is_allowed = match plain_http {
        _ if origin.scheme() == Scheme::Https => true,
        PlainHttp::Never => false,
        PlainHttp::Loopback => origin.is_loopback(),
        PlainHttp::Allowed => origin.is_loopback() || origin.host() == Origin::of(start).host(),
    };
    if is_allowed {
        return Ok(());
    }
    let hint = format!("to allow HTTP: --plain-http {}", origin.authority());
    Err(Error::usage(origin::without_query(url), "not an https URL").hint(hint))
}

fn receive(
    transport: &Transport,
    mut answer: Answer,
    directory: &Root,
    progress: &dyn Progress,
) -> Result<(Temporary, Digest), ExchangeError> {
    let object = origin::without_query(&answer.url);
    let length = answer.header(header::CONTENT_LENGTH).and_then(|text| text.trim().parse::<u64>().ok());
    let activity = Activity::start(progress, &format!("fetch {object}"), length);
    let mut temporary = directory.temporary().map_err(ExchangeError::Permanent)?;
    let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = match answer.body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => return Err(transport.body_fault(&answer.url, error)),
        };
        size += read as u64;
        if size > LARGEST {
            let reason = format!("larger than {}", human_numbers::size(LARGEST));
            return Err(ExchangeError::Permanent(Error::invalid(object, reason)));
        }
        hasher.update(&buffer[..read]);
        let written = temporary.write_all(&buffer[..read]);
        written.map_err(|error| ExchangeError::Permanent(Error::file(directory.path(), "write", error)))?;
        activity.advance(read as u64);
    }
    if length.is_some_and(|length| length != size) {
        return Err(ExchangeError::Transient(Error::new(ErrorKind::Network, object, "the body ended early")));
    }
    activity.finish(&human_numbers::size(size));
    Ok((temporary, hasher.finish()))
}
