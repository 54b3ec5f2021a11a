//! Digests of library objects, and checks of content against them.

use super::siphash;
use crate::common::digest;
use crate::common::digest::Hasher;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher as _;

/// The digest of a library object, of its bytes as they were recorded, before any rewriting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectDigest {
    /// SHA-256, in RCC's default mode.
    Sha256([u8; 32]),
    /// SipHash-2-4-128 with a fixed key, in RCC's uncompressed mode: a checksum that anyone can forge.
    SipHash([u8; 16]),
}

impl ObjectDigest {
    /// Parses 64 or 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<ObjectDigest> {
        match text.len() {
            64 => parse_hex(text).map(ObjectDigest::Sha256),
            32 => parse_hex(text).map(ObjectDigest::SipHash),
            _ => None,
        }
    }

    /// Returns whether the digest is only a checksum, for which anyone can make other content.
    pub fn is_forgeable(&self) -> bool {
        matches!(self, ObjectDigest::SipHash(_))
    }

    /// Computes the digest of `content`, of the same kind as this one.
    pub(crate) fn like(&self, content: &[u8]) -> ObjectDigest {
        let mut hasher = ObjectHasher::like(self);
        hasher.update(content);
        hasher.finish()
    }

    /// Returns the path of the object in a hololib: `library/aa/bb/cc/<digest>`.
    pub fn library_path(&self) -> String {
        let hex = self.to_string();
        format!("library/{}/{}/{}/{hex}", &hex[..2], &hex[2..4], &hex[4..6])
    }
}

impl fmt::Display for ObjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectDigest::Sha256(hash) => f.write_str(&digest::hex(hash)),
            ObjectDigest::SipHash(hash) => f.write_str(&digest::hex(hash)),
        }
    }
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; N];
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(hash)
}

/// A hash that is being computed for an object.
#[derive(Debug, Clone)]
pub(crate) enum ObjectHasher {
    Sha256(Hasher),
    SipHash(SipHasher24),
}

impl ObjectHasher {
    /// Starts a hash of the same kind as `digest`.
    pub(crate) fn like(digest: &ObjectDigest) -> ObjectHasher {
        match digest {
            ObjectDigest::Sha256(_) => ObjectHasher::Sha256(Hasher::sha256()),
            ObjectDigest::SipHash(_) => ObjectHasher::SipHash(siphash::object_hasher()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            ObjectHasher::Sha256(hasher) => hasher.update(bytes),
            ObjectHasher::SipHash(hasher) => hasher.write(bytes),
        }
    }

    pub(crate) fn finish(self) -> ObjectDigest {
        match self {
            ObjectHasher::Sha256(hasher) => {
                let mut hash = [0; 32];
                hash.copy_from_slice(hasher.finish().as_bytes());
                ObjectDigest::Sha256(hash)
            }
            ObjectHasher::SipHash(hasher) => ObjectDigest::SipHash(hasher.finish128().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_digits_of_two_lengths_are_digests() {
        for good in ["0f".repeat(32), "0f".repeat(16)] {
            assert_eq!(ObjectDigest::parse(&good).unwrap().to_string(), good);
        }
        for bad in ["", "N/A", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"/".repeat(32), &"é".repeat(16)] {
            assert_eq!(ObjectDigest::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn objects_are_spread_over_three_levels_of_folders() {
        let digest = ObjectDigest::parse(&format!("aabbcc{}", "0".repeat(26))).unwrap();
        assert_eq!(digest.library_path(), format!("library/aa/bb/cc/aabbcc{}", "0".repeat(26)));
    }

    #[test]
    fn both_kinds_of_hash_equal_those_of_rcc() {
        for expected in
            ["79385034bd2529e675348170617088f5", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"]
        {
            let expected = ObjectDigest::parse(expected).unwrap();
            let mut hasher = ObjectHasher::like(&expected);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), expected);
        }
    }
}
