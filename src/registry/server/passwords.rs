//! The users of a registry: a file as `htpasswd -B` writes it.

use super::slots::Slots;
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::registry::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The largest file of passwords, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The greatest cost of a hash, which `htpasswd` has too: each step doubles the time of a check.
const GREATEST_COST: u32 = 17;

/// The number of hashes that are computed at once: a flood of wrong passwords takes no more processors than these.
const CHECKS: usize = 2;

/// The names and passwords of the users of a registry.
#[derive(Debug)]
pub struct Passwords {
    hashes: BTreeMap<String, Secret>,
    key: hmac::Key,
    /// For each user the code of the last right password, since a client sends it with every request.
    accepted: Mutex<BTreeMap<String, hmac::Tag>>,
    checks: Slots,
}

impl Passwords {
    /// Reads a file with a line `NAME:HASH` for each user. Empty lines and lines that begin with `#` are ignored.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is larger than 1 MiB, has no user or one user twice, or a hash is not of bcrypt.
    pub fn read(path: &Path) -> Result<Self> {
        let object = path.display().to_string();
        let bytes = bounded_read::read(Root::open_named_file(path)?, LARGEST_FILE, &object)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::invalid(&object, "not UTF-8"))?;
        Passwords::parse(&text, &object)
    }

    fn parse(text: &str, object: &str) -> Result<Self> {
        let mut hashes = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let object = || format!("{object}: line {}", number + 1);
            let (user, hash) = line.split_once(':').ok_or_else(|| Error::invalid(object(), "not NAME:HASH"))?;
            check(hash).map_err(|reason| Error::invalid(object(), reason).hint(format!("htpasswd -B FILE {user}")))?;
            if hashes.insert(user.to_owned(), Secret::new(hash)).is_some() {
                return Err(Error::invalid(object(), format!("`{user}` is listed twice")));
            }
        }
        if hashes.is_empty() {
            return Err(Error::invalid(object, "has no user").hint("htpasswd -B -c FILE NAME"));
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| Error::new(ErrorKind::Io, "random numbers", "the system has none"))?;
        Ok(Passwords { hashes, key, accepted: Mutex::default(), checks: Slots::new(CHECKS) })
    }

    /// Returns the user that the header `Authorization` names, if the password is right.
    pub(super) fn user_of(&self, authorization: &str) -> Option<String> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = Secret::new(String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?);
        let (user, password) = decoded.reveal().split_once(':')?;
        (self.was_accepted(user, password) || self.accepts(user, password)).then(|| user.to_owned())
    }

    fn was_accepted(&self, user: &str, password: &str) -> bool {
        let tag = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).get(user).copied();
        tag.is_some_and(|tag| hmac::verify(&self.key, password.as_bytes(), tag.as_ref()).is_ok())
    }

    fn accepts(&self, user: &str, password: &str) -> bool {
        let _slot = self.checks.wait();
        // A user who is not there takes as long as one who is, so that names cannot be guessed by time.
        let known = self.hashes.get(user);
        let Some(hash) = known.or_else(|| self.hashes.values().next()) else { return false };
        let is_right = bcrypt::verify(password, hash.reveal()).unwrap_or(false) && known.is_some();
        if is_right {
            let tag = hmac::sign(&self.key, password.as_bytes());
            self.accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned(), tag);
        }
        is_right
    }
}

/// Checks the form of a hash.
fn check(hash: &str) -> Result<(), String> {
    let parts = hash.parse::<HashParts>().map_err(|_| "not a bcrypt hash".to_owned())?;
    match parts.get_cost() {
        4..=GREATEST_COST => Ok(()),
        cost => Err(format!("the cost {cost} is not between 4 and {GREATEST_COST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nbB -C 4 alice s3cret`
    const ALICE: &str = "alice:$2y$04$";

    fn file() -> String {
        let hash = bcrypt::hash("s3cret", 4).unwrap().replacen("$2b$", "$2y$", 1);
        assert!(format!("alice:{hash}").starts_with(ALICE));
        format!("# users\n\nalice:{hash}\n")
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    #[test]
    fn only_the_right_password_is_accepted() {
        let passwords = Passwords::parse(&file(), "passwords").unwrap();
        for _ in 0..2 {
            assert_eq!(passwords.user_of(&basic("alice:s3cret")).as_deref(), Some("alice"));
            for wrong in ["alice:s3cre", "alice:", "bob:s3cret", ":s3cret", "alice", ""] {
                assert_eq!(passwords.user_of(&basic(wrong)), None, "{wrong}");
            }
        }
        assert_eq!(passwords.user_of("Bearer abc"), None);
        assert_eq!(passwords.user_of("Basic ???"), None);
        assert_eq!(passwords.user_of(""), None);
    }

    #[test]
    fn other_formats_are_refused_without_showing_them() {
        let hash = file().lines().last().unwrap().to_owned();
        for (text, reason) in [
            ("alice:$apr1$x$y", "passwords: line 1: not a bcrypt hash (htpasswd -B FILE alice)"),
            ("\nalice:{SHA}x", "passwords: line 2: not a bcrypt hash (htpasswd -B FILE alice)"),
            ("alice", "passwords: line 1: not NAME:HASH"),
            ("", "passwords: has no user (htpasswd -B -c FILE NAME)"),
            (
                &hash.replace("$04$", "$31$"),
                "passwords: line 1: the cost 31 is not between 4 and 17 (htpasswd -B FILE alice)",
            ),
            (&format!("{hash}\n{hash}"), "passwords: line 2: `alice` is listed twice"),
        ] {
            assert_eq!(Passwords::parse(text, "passwords").unwrap_err().to_string(), reason);
        }
    }
}
