//! The `Authorization` header of requests to a registry.
//!
//! The first request carries none. The registry's challenge is remembered, so that later requests carry their token from the
//! start and a large upload is not refused after it was sent.

use super::challenge::{self, Challenge};
use super::credentials::{CredentialSearch, Credentials, Keychain};
use super::origin::Origin;
use super::retry::{Attempts, RetryPolicy};
use super::secret::Secret;
use super::token::{self, Realm, RegistryToken};
use super::transport::Transport;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress;
use crate::common::progress::Progress;
use crate::registry::error_response::ErrorResponse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use ureq::http::HeaderMap;
use ureq::http::header::WWW_AUTHENTICATE;

/// The access that a request needs, as token servers write it; its repository comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scopes {
    pub(super) repository: String,
    list: Vec<String>,
}

impl Scopes {
    /// Returns the scope for reading from `repository`.
    pub(super) fn pull(repository: &str) -> Self {
        Scopes { repository: repository.to_owned(), list: vec![format!("repository:{repository}:pull")] }
    }

    /// Returns an empty scope.
    pub(super) fn none() -> Self {
        Scopes { repository: String::new(), list: Vec::new() }
    }

    /// Returns the scope for writing to `repository`.
    pub(super) fn push(repository: &str) -> Self {
        Scopes { repository: repository.to_owned(), list: vec![format!("repository:{repository}:pull,push")] }
    }

    /// Returns the scope for mounting a blob of `from` in `repository`: the token must allow both.
    pub(super) fn mount(repository: &str, from: &str) -> Self {
        let mut scopes = Scopes::push(repository);
        scopes.list.push(format!("repository:{from}:pull"));
        scopes
    }
}

/// The scope of a request, and the name of its object in messages.
#[derive(Debug)]
pub(super) struct RequestScope {
    pub(super) scopes: Scopes,
    pub(super) object: String,
}

/// The credentials and tokens for one registry.
#[derive(Debug)]
pub(super) struct Authentication {
    registry: String,
    keychain: Arc<Keychain>,
    /// Hosts of token servers that may receive credentials, besides the registry's own.
    realms: Vec<String>,
    state: Mutex<AuthenticationState>,
}

/// Everything learned from the registry so far. The lock is held while a token is fetched, so that many threads fetch it once.
#[derive(Debug, Default)]
struct AuthenticationState {
    asks: Option<Asks>,
    /// By repository, since credentials may be limited to a path.
    found: BTreeMap<String, CredentialSearch>,
    held: BTreeMap<Scopes, Held>,
    /// Whether the warning about a password in clear text was given.
    warned: bool,
    /// Errors of refused requests, as object and reason. Other threads do not try the same password again, since repeated
    /// failures lock accounts.
    refused: BTreeMap<Scopes, [String; 2]>,
}

#[derive(Debug, Clone)]
enum Asks {
    Basic,
    Token(Realm),
}

#[derive(Debug)]
struct Held {
    header: Secret,
    fresh_until: Option<Instant>,
}

/// The context for fetching a token.
#[derive(Clone, Copy)]
pub(super) struct TokenContext<'m> {
    /// The origin of the registry.
    pub(super) registry: &'m Origin,
    pub(super) transport: &'m Transport,
    pub(super) retry: RetryPolicy,
    pub(super) progress: &'m dyn Progress,
}

impl Authentication {
    pub(super) fn new(registry: &str, keychain: Arc<Keychain>, realms: Vec<String>) -> Self {
        Authentication { registry: registry.to_owned(), keychain, realms, state: Mutex::default() }
    }

    /// Returns the header for a request of `scopes`, or `None` if the registry has not asked for credentials yet.
    ///
    /// # Errors
    /// Fails if the credentials cannot be read, or the token server refuses the request.
    pub(super) fn header(&self, scopes: &Scopes, means: TokenContext<'_>) -> Result<Option<Secret>> {
        let mut state = self.lock();
        let is_fresh = |held: &&Held| held.fresh_until.is_none_or(|end| Instant::now() < end);
        if let Some(held) = state.held.get(scopes).filter(is_fresh) {
            return Ok(Some(held.header.clone()));
        }
        match state.asks.clone() {
            None => Ok(None),
            Some(asks) => self.obtain(&mut state, &asks, scopes, &[], means).map(Some),
        }
    }

    /// Handles a 401 response to a request that carried `used`.
    ///
    /// # Errors
    /// Fails if the challenge is not supported, or the new header would be the same as `used`.
    pub(super) fn answer(
        &self,
        headers: &HeaderMap,
        scopes: &Scopes,
        used: Option<&Secret>,
        means: TokenContext<'_>,
    ) -> Result<()> {
        let mut state = self.lock();
        if state.held.get(scopes).is_some_and(|held| Some(&held.header) != used) {
            // Another thread has renewed the header.
            return Ok(());
        }
        state.held.remove(scopes);
        let fields = headers.get_all(WWW_AUTHENTICATE).iter();
        // A field that is not ASCII is malformed; `=` makes the parser refuse it.
        let (asks, more) = match challenge::choose(fields.map(|field| field.to_str().unwrap_or("=")), &self.registry)? {
            Challenge::Basic => (Asks::Basic, String::new()),
            Challenge::Bearer { realm, service, scope } => {
                (Asks::Token(Realm::new(&realm, service, means.registry, &self.realms)?), scope.unwrap_or_default())
            }
        };
        state.asks = Some(asks.clone());
        let more: Vec<&str> = more.split_ascii_whitespace().filter(|scope| !is_covered(scope, &scopes.list)).collect();
        let header = self.obtain(&mut state, &asks, scopes, &more, means)?;
        if Some(&header) == used {
            let error = Error::new(ErrorKind::Denied, &self.registry, "answered 401");
            return Err(self.refuse(&mut state, scopes, error));
        }
        Ok(())
    }

    /// Converts an error response to an error. If access was denied, a hint says which credentials were used.
    pub(super) fn refused(&self, purpose: &RequestScope, refusal: &ErrorResponse) -> Error {
        let error = refusal.error(&purpose.object);
        if error.kind() == ErrorKind::Denied { self.advise(&self.lock(), &purpose.scopes, error) } else { error }
    }

    /// Returns whether the registry has asked for credentials and accepted them.
    ///
    /// # Errors
    /// Fails if the registry asked, but its token server is not trusted with credentials.
    pub(super) fn credentials_were_accepted(&self) -> Result<bool> {
        let state = self.lock();
        match &state.asks {
            None => Ok(false),
            Some(Asks::Token(realm)) if realm.distrusted().is_some() => {
                let error = Error::new(ErrorKind::Denied, &self.registry, "the credentials could not be checked");
                Err(self.advise(&state, &Scopes::none(), error))
            }
            Some(_) => Ok(true),
        }
    }

    /// Creates the header and keeps it. A request that was refused once is not tried again.
    fn obtain(
        &self,
        state: &mut AuthenticationState,
        asks: &Asks,
        scopes: &Scopes,
        more: &[&str],
        means: TokenContext<'_>,
    ) -> Result<Secret> {
        if let Some([object, reason]) = state.refused.get(scopes) {
            return Err(self.advise(state, scopes, Error::new(ErrorKind::Denied, object, reason)));
        }
        self.find(state, scopes, means)?;
        let credentials = state.found.get(&scopes.repository).and_then(|found| found.credentials.clone());
        if credentials.is_some() {
            self.warn_of_clear_text(state, asks, means);
        }
        let held = match asks {
            Asks::Basic => password_header(credentials.as_ref(), &self.registry),
            Asks::Token(realm) => {
                let all: Vec<String> = scopes.list.iter().cloned().chain(more.iter().map(|&s| s.to_owned())).collect();
                let attempts = Attempts::new(means.retry, means.progress);
                let token = realm.token(means.transport, attempts, &all, credentials.as_ref());
                token.map(|token| self.keep_identity(state, realm, scopes, token))
            }
        };
        match held {
            Ok(held) => {
                let header = held.header.clone();
                state.held.insert(scopes.clone(), held);
                Ok(header)
            }
            Err(error) => Err(self.refuse(state, scopes, error)),
        }
    }

    /// Warns once that the password is sent in clear text.
    fn warn_of_clear_text(&self, state: &mut AuthenticationState, asks: &Asks, means: TokenContext<'_>) {
        let to = match asks {
            Asks::Basic if means.registry.is_clear_text() => means.registry.authority(),
            Asks::Token(realm) if realm.is_clear_text() && realm.distrusted().is_none() => realm.authority(),
            Asks::Basic | Asks::Token(_) => return,
        };
        if !std::mem::replace(&mut state.warned, true) {
            let reason = format!("the password is sent to {to} unencrypted, over plain HTTP");
            progress::warn(means.progress, &self.registry, &reason);
        }
    }

    /// Remembers a refusal, and adds advice to its error.
    fn refuse(&self, state: &mut AuthenticationState, scopes: &Scopes, error: Error) -> Error {
        if error.kind() == ErrorKind::Denied {
            state.refused.insert(scopes.clone(), [error.object(), error.reason()]);
        }
        self.advise(state, scopes, error)
    }

    /// Searches for the credentials of a repository, once for each.
    fn find(&self, state: &mut AuthenticationState, scopes: &Scopes, means: TokenContext<'_>) -> Result<()> {
        if !state.found.contains_key(&scopes.repository) {
            let found = self.keychain.find(&self.registry, &scopes.repository)?;
            for warning in &found.warnings {
                progress::warn(means.progress, &self.registry, warning);
            }
            state.found.insert(scopes.repository.clone(), found);
        }
        Ok(())
    }

    /// Keeps a token. A server that was given an identity token may have replaced it.
    fn keep_identity(
        &self,
        state: &mut AuthenticationState,
        realm: &Realm,
        scopes: &Scopes,
        token: RegistryToken,
    ) -> Held {
        let found = state.found.get_mut(&scopes.repository).map(|found| &mut found.credentials);
        if let (Some(Some(Credentials::Identity(known))), Some(new), None) = (found, token.identity, realm.distrusted())
        {
            *known = new;
        }
        Held { header: token.bearer, fresh_until: token.lifetime.map(|lifetime| Instant::now() + lifetime) }
    }

    /// Adds a hint to a refusal: which credentials were used, or why there were none.
    fn advise(&self, state: &AuthenticationState, scopes: &Scopes, error: Error) -> Error {
        let Some(found) = state.found.get(&scopes.repository) else { return error };
        let distrusted = match &state.asks {
            Some(Asks::Token(realm)) => realm.distrusted(),
            _ => None,
        };
        if error.kind() != ErrorKind::Denied {
            return error;
        }
        let tried = found.tried.join(", ");
        error.hint(match (&found.credentials, distrusted) {
            (Some(_), Some(host)) => {
                format!("credentials were not sent to the token server {host}; --auth-realm {host} allows it")
            }
            (Some(_), None) => format!("credentials from {} were rejected", found.tried.last().map_or("", |last| last)),
            (None, _) if tried.is_empty() => "no credentials".to_owned(),
            (None, _) => format!("no credentials: tried {tried}, found nothing for {}", self.registry),
        })
    }

    fn lock(&self) -> MutexGuard<'_, AuthenticationState> {
        // A panicking thread leaves every cached response either complete or absent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the header for a registry that uses basic authentication.
fn password_header(credentials: Option<&Credentials>, registry: &str) -> Result<Held> {
    let denied = |reason: &str| Err(Error::new(ErrorKind::Denied, registry, reason));
    match credentials {
        Some(Credentials::Password { user, password }) => {
            Ok(Held { header: token::basic(user, password), fresh_until: None })
        }
        Some(Credentials::Identity(_)) => denied("requires a password, but only an identity token is available"),
        None => denied("requires a user name and password"),
    }
}

/// Returns whether `list` already contains all actions of `scope` (`repository:name:actions`).
fn is_covered(scope: &str, list: &[String]) -> bool {
    let Some((name, actions)) = scope.rsplit_once(':') else { return true };
    list.iter().any(|known| match known.rsplit_once(':') {
        Some((known, allowed)) => {
            known == name && actions.split(',').all(|action| allowed.split(',').any(|allowed| allowed == action))
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_asked_for_once() {
        let list = Scopes::mount("a/c", "a/b").list;
        assert_eq!(list, ["repository:a/c:pull,push", "repository:a/b:pull"]);
        assert!(is_covered("repository:a/c:pull", &list));
        assert!(is_covered("repository:a/c:push,pull", &list));
        assert!(!is_covered("repository:a/c:delete", &list));
        assert!(!is_covered("repository:a/b:push", &list));
        assert!(!is_covered("registry:catalog:*", &list));
    }
}
