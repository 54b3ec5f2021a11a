//! The two identities of a layer, and how they are computed.
//!
//! A [`Digest`] identifies bytes as they are stored; a [`DiffId`] identifies the uncompressed tar of a layer. Both are
//! written `sha256:<64 hex>` and are easily confused, so they are different types.

use crate::common::bounded_read::read_full;
use crate::common::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState as _;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// A hash function that the image specification registers (descriptor.md, "Registered algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the only one that this program writes.
    Sha256,
    /// SHA-512, which is verified and preserved if a base image uses it.
    Sha512,
}

impl Algorithm {
    /// Returns the name before the colon, which is also that of the folder below `blobs/`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn length(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

/// The digest of a stored blob (descriptor.md, "Digests").
///
/// Text becomes a digest only by parsing, so a value of this type is always safe as a file name.
///
/// ```
/// use ocibuild::Digest;
///
/// let digest = Digest::of(b"hello\n");
/// assert_eq!(digest.to_string(), "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
/// assert!("sha256:../../etc/passwd".parse::<Digest>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    /// SHA-256 fills the first half. The rest is zero, so that comparison and hashing need no special case.
    bytes: [u8; 64],
}

impl Digest {
    /// Returns the SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the digest of `bytes` with the same hash function.
    pub fn like(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Wraps the 32 bytes of a finished SHA-256.
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        Self::from_hash(Algorithm::Sha256, &hash)
    }

    /// Returns the hash function of this digest.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the hash itself, 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.length()]
    }

    /// Returns the lower-case hexadecimal text after the colon.
    pub fn hex(&self) -> String {
        hex(self.as_bytes())
    }

    fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..hash.len()].copy_from_slice(hash);
        Digest { algorithm, bytes }
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            let shown: String = text.chars().take(100).collect();
            Error::invalid(format!("`{shown}`"), format!("invalid digest: {reason}"))
        };
        let (name, hex) = text.split_once(':').ok_or_else(|| wrong("missing `algorithm:` prefix"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(wrong("the algorithm is neither sha256 nor sha512")),
        };
        let length = algorithm.length();
        if hex.len() != 2 * length {
            return Err(wrong(&format!("expected {} hexadecimal digits, found {}", 2 * length, hex.len())));
        }
        let mut hash = [0; 64];
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            match (hex_value(pair[0]), hex_value(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(wrong("not lower-case hexadecimal")),
            }
        }
        Ok(Self::from_hash(algorithm, &hash[..length]))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Returns the digest of the blob that failed, if the object is one.
    ///
    /// ```
    /// use ocibuild::{Descriptor, store::Verified};
    /// use std::io::Read;
    ///
    /// let descriptor = Descriptor::of("text/plain", b"hello");
    /// let mut bytes = Vec::new();
    /// let failed = Verified::new(&b"hollo"[..], &descriptor).read_to_end(&mut bytes).unwrap_err();
    /// let error = ocibuild::Error::io("blob", "read", failed);
    /// assert_eq!(error.digest(), Some(descriptor.digest));
    /// ```
    pub fn digest(&self) -> Option<Digest> {
        self.digest_text()?.parse().ok()
    }

    /// Records the digest of the blob that failed. The message stays the same.
    #[must_use]
    pub fn about_blob(self, digest: &Digest) -> Self {
        self.with_digest_text(digest.to_string())
    }
}

/// The digest of a layer's uncompressed tar (config.md, `rootfs.diff_ids`).
///
/// ```
/// use ocibuild::{DiffId, Digest};
///
/// let tar = [0; 1024];
/// let diff_id = DiffId::of_tar(Digest::of(&tar));
/// assert_eq!(diff_id.to_string().parse::<DiffId>()?, diff_id);
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiffId(Digest);

impl DiffId {
    /// Declares `digest` to be the digest of an uncompressed tar.
    pub fn of_tar(digest: Digest) -> Self {
        DiffId(digest)
    }

    /// Returns the digest of the uncompressed tar.
    pub fn as_digest(&self) -> Digest {
        self.0
    }
}

impl FromStr for DiffId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(DiffId)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A digest that is being computed.
#[derive(Debug, Clone)]
pub struct Hasher(HasherState);

#[derive(Debug, Clone)]
enum HasherState {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Starts an empty hash.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 => HasherState::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => HasherState::Sha512(sha2::Sha512::new()),
        })
    }

    /// Starts an empty SHA-256, the hash of everything that this program writes.
    pub fn sha256() -> Self {
        Hasher::new(Algorithm::Sha256)
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HasherState::Sha256(hash) => hash.update(bytes),
            HasherState::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Finishes the hash and returns the digest.
    pub fn finish(self) -> Digest {
        match self.0 {
            HasherState::Sha256(hash) => Digest::from_hash(Algorithm::Sha256, &hash.finalize()),
            HasherState::Sha512(hash) => Digest::from_hash(Algorithm::Sha512, &hash.finalize()),
        }
    }
}

/// The state of an unfinished SHA-256, to be stored and resumed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashState([u8; HashState::LENGTH]);

impl HashState {
    /// The length of the state in bytes.
    pub const LENGTH: usize = 104;

    /// Creates a state from stored bytes.
    pub fn from_bytes(bytes: [u8; HashState::LENGTH]) -> Self {
        HashState(bytes)
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8; HashState::LENGTH] {
        &self.0
    }
}

impl Hasher {
    /// Returns the state after all bytes hashed so far. Returns `None` for a hash other than SHA-256.
    pub fn state(&self) -> Option<HashState> {
        match &self.0 {
            HasherState::Sha256(hash) => Some(HashState(hash.serialize().into())),
            HasherState::Sha512(_) => None,
        }
    }

    /// Resumes the hash at `state`. Returns `None` if the bytes are not a valid state.
    pub fn resume(state: &HashState) -> Option<Self> {
        sha2::Sha256::deserialize(&state.0.into()).ok().map(|hash| Hasher(HasherState::Sha256(hash)))
    }
}

/// A reader that hashes the bytes that pass through it.
#[derive(Debug)]
pub struct Hashing<R> {
    source: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Hashing<R> {
    /// Creates a reader that hashes `source`.
    pub fn new(source: R, algorithm: Algorithm) -> Self {
        Hashing { source, hasher: Hasher::new(algorithm), size: 0 }
    }

    /// Reads the rest of the source, and returns the digest and the length of all bytes read.
    ///
    /// # Errors
    /// Returns an error if the source cannot be read to its end.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        let mut buffer = vec![0; 128 << 10];
        while read_full(&mut self, &mut buffer)? > 0 {}
        Ok((self.hasher.finish(), self.size))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}

/// A writer that computes the SHA-256 of the bytes that pass through it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    sink: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Creates a writer that hashes what goes to `sink`.
    pub fn new(sink: W) -> Self {
        HashingWriter { sink, hasher: Hasher::sha256(), size: 0 }
    }

    /// Returns the number of bytes written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the sink, and the digest of what went to it.
    pub fn finish(self) -> (W, Digest) {
        (self.sink, self.hasher.finish())
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Returns `bytes` as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_standard_hold() {
        // FIPS 180-4 examples. The long one spans many blocks, which a faulty accelerated implementation gets wrong.
        let million = vec![b'a'; 1_000_000];
        let vectors: [(&[u8], &str); 3] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ];
        for (input, expected) in vectors {
            assert_eq!(Digest::of(input).hex(), expected);
        }
    }

    #[test]
    fn a_hash_goes_on_from_a_state() {
        let bytes: Vec<u8> = (0..1000_u32).map(|number| number as u8).collect();
        for cut in [0, 1, 63, 64, 65, 512, 999, 1000] {
            let mut hasher = Hasher::sha256();
            hasher.update(&bytes[..cut]);
            let mut resumed = Hasher::resume(&hasher.state().unwrap()).unwrap();
            resumed.update(&bytes[cut..]);
            assert_eq!(resumed.finish(), Digest::of(&bytes), "cut at {cut}");
        }
        assert!(Hasher::resume(&HashState([0xff; HashState::LENGTH])).is_none());
        assert!(Hasher::new(Algorithm::Sha512).state().is_none());
    }

    #[test]
    fn malformed_digests_are_refused() {
        let long = "0".repeat(65);
        let upper = "A".repeat(64);
        for bad in
            ["", "sha256", "sha256:", &format!("sha256:{long}"), &format!("sha256:{upper}"), "md5:00", "sha256:../../x"]
        {
            let error = bad.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains("invalid digest"), "{error}");
        }
    }

    #[test]
    fn both_algorithms_print_what_they_parse() {
        for length in [64, 128] {
            let name = if length == 64 { "sha256" } else { "sha512" };
            let text = format!("{name}:{}", "1f".repeat(length / 2));
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }
}
