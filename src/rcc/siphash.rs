//! SipHash-2-4 with the keys that RCC uses.

use siphasher::{sip, sip128};

/// The keys of blueprints, controllers, spaces and platforms.
const NAMES: (u64, u64) = (9_007_199_254_740_993, 2_147_483_647);

/// The keys of user ids. (They differ from those above in two digits.)
const USERS: (u64, u64) = (9_007_799_254_740_993, 2_147_487_647);

/// The key of library objects in RCC's uncompressed mode.
const OBJECTS: &[u8; 16] = b"Very_Random-Seed";

/// Returns 16 hexadecimal digits for a blueprint or a component of a name.
pub(super) fn name(bytes: &[u8]) -> String {
    format!("{:016x}", sip::SipHasher24::new_with_keys(NAMES.0, NAMES.1).hash(bytes))
}

/// Returns at most 16 hexadecimal digits, without leading zeros, for a user's home.
pub(super) fn user(home: &[u8]) -> String {
    format!("{:x}", sip::SipHasher24::new_with_keys(USERS.0, USERS.1).hash(home))
}

/// Returns a new 128-bit hasher for a library object.
pub(super) fn object_hasher() -> sip128::SipHasher24 {
    sip128::SipHasher24::new_with_key(OBJECTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::digest;
    use siphasher::sip128::Hasher128;
    use std::hash::Hasher;

    #[test]
    fn an_empty_blueprint_hashes_as_rcc_hashes_it() {
        assert_eq!(name(b""), "b7b141734fbea364");
    }

    #[test]
    fn objects_hash_as_in_uncompressed_mode() {
        for (content, expected) in
            [("", "457d3202e0db95686547f60ad99125ac"), ("hello\n", "79385034bd2529e675348170617088f5")]
        {
            let mut hasher = object_hasher();
            hasher.write(content.as_bytes());
            assert_eq!(digest::hex(&hasher.finish128().as_bytes()), expected);
        }
    }
}
