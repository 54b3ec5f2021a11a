//! Reading from a registry: manifests, verified whole, and blobs, resumed after a cut.

use super::authentication::{RequestScope, Scopes};
use super::retry::Attempts;
use super::transport::{Answer, ExchangeError, HttpRequest, Payload};
use super::{Registry, origin};
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::limits::{Limit, MostBytes};
use crate::common::{human_numbers, json};
use crate::spec::reference::Reference;
use crate::spec::{Descriptor, media_type};
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use ureq::http::{HeaderName, Method, Uri, header};

/// The progress of a download after which the count of failures starts again, in bytes.
const GOOD_STEP: u64 = 1 << 20;

/// The header in which a registry names the digest of a manifest.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest or an index in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDocument {
    /// The descriptor, computed from the bytes.
    pub descriptor: Descriptor,
    /// The bytes of the document.
    pub bytes: Vec<u8>,
}

impl Registry {
    /// Fetches the manifest or index that `reference` names: by its digest if it has one, else by its tag.
    ///
    /// # Errors
    /// Fails if it does not exist, or the content is not a manifest, has another digest, or contradicts its own headers.
    pub fn manifest(&self, reference: &Reference) -> Result<ManifestDocument> {
        let name = match reference.digest() {
            Some(digest) => digest.to_string(),
            None => reference.tag_or_latest().to_string(),
        };
        self.manifest_named(reference.repository(), &name, reference.digest())
    }

    /// Fetches the manifest or index with this digest.
    ///
    /// # Errors
    /// Fails as [`Registry::manifest`] does.
    pub(super) fn manifest_of(&self, repository: &str, digest: Digest) -> Result<ManifestDocument> {
        self.manifest_named(repository, &digest.to_string(), Some(digest))
    }

    fn manifest_named(&self, repository: &str, name: &str, pin: Option<Digest>) -> Result<ManifestDocument> {
        let separator = if pin.is_some() { '@' } else { ':' };
        let object = format!("{}{separator}{name}", self.object(repository));
        let accepted =
            [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX].join(", ");
        let purpose = RequestScope { scopes: Scopes::pull(repository), object: object.clone() };
        let mut request = HttpRequest {
            method: Method::GET,
            url: self.url(&purpose, &format!("manifests/{name}"))?,
            headers: vec![(header::ACCEPT, accepted)],
            payload: Payload::None,
        };
        // By default, the largest manifest that registries must accept (distribution-spec, "Pushing Manifests").
        let largest = MostBytes::from(Limit::DocumentSize).half();
        let (answer, bytes) = self.document(&mut request, &purpose, largest)?;
        let media_type = type_of(&answer, &bytes, &object)?;
        let claimed = match answer.header(CONTENT_DIGEST) {
            Some(text) => Some(text.parse::<Digest>().map_err(|error| error.within(&object))?),
            None => None,
        };
        for expected in [pin, claimed].into_iter().flatten() {
            let found = expected.like(&bytes);
            if found != expected {
                let reason = format!("expected the digest {expected}, but the content has {found}");
                return Err(recompressed(Error::corrupt(&object, reason), &answer));
            }
        }
        let digest = pin.or(claimed).unwrap_or_else(|| Digest::of(&bytes));
        Ok(ManifestDocument { descriptor: Descriptor::new(&media_type, digest, bytes.len() as u64), bytes })
    }

    /// Opens a blob. If the connection is cut, the reader requests the missing bytes again. It verifies sizes only.
    pub(super) fn blob(&self, image: &Reference, descriptor: &Descriptor) -> Download<'_> {
        Download {
            registry: self,
            purpose: purpose_of(image, descriptor),
            descriptor: descriptor.clone(),
            position: 0,
            attempts: self.attempts(),
            counted_at: 0,
            answer: None,
        }
    }

    /// Opens a part of a blob. Returns `None` if the registry does not send a part alone. A cut connection is an error of the
    /// reader.
    pub(super) fn part_of_blob(
        &self,
        image: &Reference,
        descriptor: &Descriptor,
        range: &Range<u64>,
    ) -> Result<Option<Box<dyn Read + Send + '_>>> {
        let purpose = purpose_of(image, descriptor);
        let last = range.end.saturating_sub(1);
        let mut request = HttpRequest {
            method: Method::GET,
            url: self.url(&purpose, &format!("blobs/{}", descriptor.digest))?,
            headers: vec![(header::RANGE, format!("bytes={}-{last}", range.start))],
            payload: Payload::None,
        };
        let answer = self.send_with_retries(&mut request, &purpose)?;
        let said = answer.header(header::CONTENT_RANGE).unwrap_or_default();
        let is_part = answer.status == 206 && is_range(said, range.start..=last, descriptor.size);
        Ok(if is_part { Some(Box::new(answer.body)) } else { None })
    }
}

/// Returns why a blob is read.
fn purpose_of(image: &Reference, blob: &Descriptor) -> RequestScope {
    RequestScope { scopes: Scopes::pull(image.repository()), object: format!("{image}: blob {}", blob.digest) }
}

/// Returns the media type from the header. The reader of the document checks that both agree.
fn type_of(answer: &Answer, bytes: &[u8], object: &str) -> Result<String> {
    let media_type = match answer.header(header::CONTENT_TYPE) {
        Some(text) => text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
        None => {
            let document = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
            json::string_at(&document, "mediaType", object)?.unwrap_or(media_type::MANIFEST).to_owned()
        }
    };
    if media_type::is_manifest(&media_type) || media_type::is_index(&media_type) {
        return Ok(media_type);
    }
    if media_type.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(Error::invalid(object, "Docker manifest schema 1 is not supported")
            .hint("push the image again with a current tool"));
    }
    Err(Error::invalid(object, format!("not a manifest but `{media_type}`"))
        .hint("is a proxy or a login page in the way?"))
}

/// Adds a hint if a content encoding may have caused a digest mismatch.
fn recompressed(error: Error, answer: &Answer) -> Error {
    match answer.header(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            error.hint(format!("it has `Content-Encoding: {encoding}`, perhaps from a proxy"))
        }
        _ => error,
    }
}

/// A download of a blob.
pub(super) struct Download<'r> {
    registry: &'r Registry,
    purpose: RequestScope,
    descriptor: Descriptor,
    /// The number of bytes returned to the reader so far.
    position: u64,
    attempts: Attempts<'r>,
    /// The position at which `attempts` was started.
    counted_at: u64,
    answer: Option<Answer>,
}

impl Download<'_> {
    /// Requests all bytes from the current position on.
    fn request(&self) -> Result<Answer, ExchangeError> {
        let mut asked = self.ask(self.position).map_err(ExchangeError::Permanent)?;
        if asked.status == 416 {
            asked = self.ask(0).map_err(ExchangeError::Permanent)?;
        }
        let size = self.descriptor.size;
        let wrong = |reason: String| Error::corrupt(&self.purpose.object, reason);
        match asked.status {
            206 if self.position > 0 => {
                let said = asked.header(header::CONTENT_RANGE).unwrap_or_default();
                if !is_range(said, self.position..=size.saturating_sub(1), size) {
                    let reason = format!("requested the range from byte {}, got `{said}`", self.position);
                    return Err(ExchangeError::Permanent(wrong(reason)));
                }
            }
            200 => {
                let length = asked.header(header::CONTENT_LENGTH).map(|text| text.trim().parse::<u64>());
                if let Some(length) = length.filter(|length| *length != Ok(size)) {
                    let length = length.map_or_else(|_| "no number".to_owned(), |length| length.to_string());
                    let error = wrong(format!("expected {size} bytes, the registry has {length}"));
                    return Err(ExchangeError::Permanent(recompressed(error, &asked)));
                }
                // The registry does not support ranges, so the bytes that were read already are skipped.
                let again = io::copy(&mut (&mut asked.body).take(self.position), &mut io::sink());
                again.map_err(|error| self.body_fault(&asked.url, error))?;
            }
            _ => return Err(ExchangeError::Permanent(self.registry.refused(asked, &self.purpose))),
        }
        Ok(asked)
    }

    fn ask(&self, from: u64) -> Result<Answer> {
        let mut request = HttpRequest {
            method: Method::GET,
            url: self.registry.url(&self.purpose, &format!("blobs/{}", self.descriptor.digest))?,
            headers: if from > 0 { vec![(header::RANGE, format!("bytes={from}-"))] } else { Vec::new() },
            payload: Payload::None,
        };
        self.registry.send_with_retries(&mut request, &self.purpose)
    }

    fn body_fault(&self, url: &Uri, error: io::Error) -> ExchangeError {
        self.registry.transport.body_fault(url, error).about(&self.purpose.object)
    }

    /// Waits after a cut; fails if there were too many.
    fn resume(&mut self, error: Error) -> Result<()> {
        if self.position >= self.counted_at + GOOD_STEP {
            self.counted_at = self.position;
            self.attempts.start_over();
        }
        self.attempts.wait_after(error)
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut answer = match self.answer.take() {
                Some(answer) => answer,
                None => match self.request() {
                    Ok(answer) => answer,
                    Err(ExchangeError::Transient(error)) => {
                        self.resume(error)?;
                        continue;
                    }
                    Err(fault) => return Err(fault.error().into()),
                },
            };
            let missing = self.descriptor.size.saturating_sub(self.position);
            let cut = match answer.body.read(buffer) {
                // Excess bytes are passed on: the verifying reader reports them.
                Ok(read) if read > 0 || missing == 0 => {
                    self.position += read as u64;
                    self.answer = Some(answer);
                    return Ok(read);
                }
                Ok(_) => Error::new(
                    ErrorKind::Network,
                    format!("{}: {}", self.purpose.object, origin::without_query(&answer.url)),
                    format!("the body ended {} early", human_numbers::size(missing)),
                ),
                Err(_) if missing == 0 => return Ok(0),
                Err(error) => match self.body_fault(&answer.url, error) {
                    ExchangeError::Transient(error) => error,
                    fault => return Err(fault.error().into()),
                },
            };
            self.resume(cut)?;
        }
    }
}

/// Returns whether `Content-Range` names these bytes (RFC 9110, section 14.4).
fn is_range(said: &str, wanted: RangeInclusive<u64>, size: u64) -> bool {
    let parts = said.trim().strip_prefix("bytes ").and_then(|range| range.split_once('/'));
    let Some((Some((first, last)), total)) = parts.map(|(range, total)| (range.split_once('-'), total)) else {
        return false;
    };
    first.parse() == Ok(*wanted.start())
        && last.parse() == Ok(*wanted.end())
        && (total == "*" || total.parse() == Ok(size))
}

#[cfg(test)]
mod tests {
    use super::is_range;

    #[test]
    fn only_the_bytes_that_were_asked_for_are_taken() {
        assert!(is_range("bytes 4-9/10", 4..=9, 10));
        assert!(is_range("bytes 4-9/*", 4..=9, 10));
        for wrong in ["", "bytes 3-9/10", "bytes 4-8/10", "bytes 4-9/11", "bytes */10", "4-9/10", "bytes 4-/10"] {
            assert!(!is_range(wrong, 4..=9, 10), "{wrong}");
        }
    }
}
