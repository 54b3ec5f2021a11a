//! Credentials from the files that podman, skopeo and docker write.
//!
//! The files are searched in the order given; within one file `credHelpers` for the registry, then `credsStore`, then the entry
//! of `auths` with the longest matching path (containers-auth.json(5), docker's config.json). A malformed file is an error,
//! never skipped silently, and no entry is used for a host that it does not name.

use super::secret::Secret;
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::root::Root;
use crate::spec::reference;
use crate::spec::reference::DEFAULT_REGISTRY;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;

/// The key under which docker stores the credentials of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The maximum size of a credentials file, in bytes.
pub const LARGEST_FILE: u64 = 4 << 20;

/// Base64 that accepts missing padding, which some tools write.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user name and a password.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, which OAuth 2 exchanges for access tokens.
    Identity(Secret),
}

/// A credentials file, or the path of one that does not exist.
#[derive(Clone)]
pub struct AuthFile {
    name: String,
    content: Option<Vec<u8>>,
    exposed: bool,
}

impl AuthFile {
    /// Creates a file that messages call `name`; `content` is `None` if the file does not exist.
    pub fn new(name: impl Into<String>, content: Option<Vec<u8>>) -> Self {
        AuthFile { name: name.into(), content, exposed: false }
    }

    /// Reads the file at `path`. A missing file is not an error.
    ///
    /// # Errors
    /// Fails if the file exists but cannot be read, or is larger than 4 MiB.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = match Root::open_named_file(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(AuthFile::new(name, None)),
            Err(error) => return Err(error),
        };
        let exposed = file.metadata().is_ok_and(|metadata| others_may_read(&metadata));
        let content = bounded_read::read(file, LARGEST_FILE, &name)?;
        Ok(AuthFile { name, content: Some(content), exposed })
    }
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFile").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(unix)]
fn others_may_read(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn others_may_read(_: &std::fs::Metadata) -> bool {
    false
}

/// Runs the credential helper of the first argument for the server of the second.
pub type Helper = Box<dyn Fn(&str, &str) -> Result<Option<Credentials>> + Send + Sync>;

/// The sources of credentials, in the order of the search.
pub struct Keychain {
    given: Option<Credentials>,
    files: Vec<AuthFile>,
    helper: Helper,
}

/// The result of a search for credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialSearch {
    /// The credentials; `None` means anonymous access.
    pub credentials: Option<Credentials>,
    /// Each searched source, in order: "/home/a/.docker/config.json", "docker-credential-pass".
    pub tried: Vec<String>,
    /// Warnings for the user, such as a file that others can read.
    pub warnings: Vec<String>,
}

impl Keychain {
    /// Creates a keychain of `files`, with `helper` to run the helpers that they name.
    pub fn new(files: Vec<AuthFile>, helper: Helper) -> Self {
        Keychain { given: None, files, helper }
    }

    /// Creates a keychain without credentials.
    pub fn anonymous() -> Self {
        Keychain::new(Vec::new(), Box::new(|_, _| Ok(None)))
    }

    /// Uses these credentials for every registry, instead of any file.
    ///
    /// ```
    /// use ocibuild::registry::Secret;
    /// use ocibuild::registry::credentials::{Credentials, Keychain};
    ///
    /// let keychain = Keychain::anonymous().with(Credentials::Identity(Secret::new("token")));
    /// assert!(keychain.find("registry.example.com", "team/app")?.credentials.is_some());
    /// # Ok::<(), ocibuild::Error>(())
    /// ```
    #[must_use]
    pub fn with(mut self, credentials: Credentials) -> Self {
        self.given = Some(credentials);
        self
    }

    /// Searches for the credentials of `repository` at `registry`, both as a [`reference::Reference`] spells them.
    ///
    /// # Errors
    /// Fails if a file is malformed, or a helper fails.
    pub fn find(&self, registry: &str, repository: &str) -> Result<CredentialSearch> {
        let mut found = CredentialSearch::default();
        if let Some(given) = &self.given {
            found.tried.push("the command line".to_owned());
            found.credentials = Some(given.clone());
            return Ok(found);
        }
        for file in &self.files {
            found.tried.push(file.name.clone());
            let Some(content) = &file.content else { continue };
            let document = json::parse(content, json::DOCUMENT_DEPTH, &file.name)?;
            if let Some(helper) = helper_for(&document, registry, &file.name)? {
                let server = if registry == DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
                found.tried.push(format!("docker-credential-{helper}"));
                found.credentials = (self.helper)(helper, server)
                    .map_err(|error| error.within(format!("credentials of {registry}")))?;
            }
            if found.credentials.is_none() {
                found.credentials = entry_for(&document, registry, repository, &file.name)?;
                if found.credentials.is_some() && file.exposed {
                    found
                        .warnings
                        .push(format!("{}: the credentials in it are readable by other users (chmod 600)", file.name));
                }
            }
            if found.credentials.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Returns the helper that a file names for `registry`, or for all registries.
fn helper_for<'a>(document: &'a Value, registry: &str, file: &str) -> Result<Option<&'a str>> {
    if let Some(helpers) = json::object_at(document, "credHelpers", file)? {
        for (key, name) in helpers {
            if Scope::of_key(key) == (Scope { host: registry.to_owned(), path: String::new() }) {
                let name =
                    name.as_str().ok_or_else(|| Error::invalid(file, "`credHelpers`: a name is not a string"))?;
                return Ok(Some(name));
            }
        }
    }
    // Docker writes an empty string if no helper is set.
    Ok(json::string_at(document, "credsStore", file)?.filter(|name| !name.is_empty()))
}

/// Returns the credentials in the `auths` entry with the longest path that covers `repository`.
fn entry_for(document: &Value, registry: &str, repository: &str, file: &str) -> Result<Option<Credentials>> {
    let Some(entries) = json::object_at(document, "auths", file)? else { return Ok(None) };
    let best = entries
        .iter()
        .map(|(key, entry)| (Scope::of_key(key), key, entry))
        .filter(|(scope, ..)| scope.covers(registry, repository))
        .max_by_key(|(scope, key, _)| (scope.path.len(), key.len()));
    match best {
        Some((_, key, entry)) => credentials_in(entry, &format!("{file}: `auths`: `{key}`")),
        None => Ok(None),
    }
}

/// Returns the content of a credentials file after a login.
///
/// It keeps the content of `file` and adds `user` with `password` for `registry`. A missing file counts as empty.
///
/// # Errors
/// Returns an error if the file is malformed, a credential helper is configured for this registry, or the user name contains a
/// colon.
pub fn logged_in(file: &AuthFile, registry: &str, user: &str, password: &Secret) -> Result<Vec<u8>> {
    if user.contains(':') {
        return Err(Error::usage("--username", "contains a colon, which separates the user name from the password"));
    }
    let (mut document, key) = file.entry_of(registry)?;
    let entry = json!({"auth": BASE64.encode(format!("{user}:{}", password.reveal()))});
    document["auths"][key] = entry;
    Ok(format!("{document:#}\n").into_bytes())
}

/// Returns the content of a credentials file after a logout: everything but the entry of `registry`.
///
/// # Errors
/// Fails as [`logged_in`] does, and if there is no such entry.
pub fn logged_out(file: &AuthFile, registry: &str) -> Result<Vec<u8>> {
    let (mut document, key) = file.entry_of(registry)?;
    let entries = document.get_mut("auths").and_then(Value::as_object_mut);
    if entries.and_then(|entries| entries.remove(&key)).is_none() {
        return Err(Error::new(ErrorKind::NotFound, &file.name, format!("not logged in to {registry}")));
    }
    Ok(format!("{document:#}\n").into_bytes())
}

impl AuthFile {
    /// Returns the document, and the key of its entry for all of `registry`: an existing one, else the plain name.
    fn entry_of(&self, registry: &str) -> Result<(Value, String)> {
        let document = match &self.content {
            Some(content) => json::parse(content, json::DOCUMENT_DEPTH, &self.name)?,
            None => json!({}),
        };
        if let Some(helper) = helper_for(&document, registry, &self.name)? {
            let reason = format!("the credentials of {registry} are stored by docker-credential-{helper}");
            return Err(Error::invalid(&self.name, reason).hint("use another file with --authfile"));
        }
        let entries = json::object_at(&document, "auths", &self.name)?;
        let whole = Scope { host: registry.to_owned(), path: String::new() };
        let known = entries.into_iter().flatten().map(|(key, _)| key).find(|key| Scope::of_key(key) == whole);
        let key = known.cloned().unwrap_or_else(|| registry.to_owned());
        if !document.is_object() {
            return Err(Error::invalid(&self.name, "expected a JSON object"));
        }
        Ok((document, key))
    }
}

fn credentials_in(entry: &Value, object: &str) -> Result<Option<Credentials>> {
    if let Some(token) = json::string_at(entry, "identitytoken", object)?.filter(|token| !token.is_empty()) {
        return Ok(Some(Credentials::Identity(Secret::new(token))));
    }
    let Some(auth) = json::string_at(entry, "auth", object)?.filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let wrong = |reason: &str| Error::invalid(object, reason).hint("log in again");
    let bytes = BASE64.decode(auth.trim()).map_err(|_| wrong("`auth` is not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("`auth` is not UTF-8 within its base64"))?;
    let (user, password) = text.split_once(':').ok_or_else(|| wrong("`auth` has no colon within its base64"))?;
    // Docker pads with NUL bytes (docker/cli, `decodeAuth`).
    let password = password.trim_matches('\0');
    Ok(Some(Credentials::Password { user: user.to_owned(), password: Secret::new(password) }))
}

/// The scope of one key of a file: a host, and an optional path.
#[derive(Debug, PartialEq, Eq)]
struct Scope {
    host: String,
    path: String,
}

impl Scope {
    /// Parses `host[:port]`, `host[:port]/path` and docker's older `https://host[:port]/v1/`.
    fn of_key(key: &str) -> Scope {
        let (name, is_url) = match key.split_once("://") {
            Some(("http" | "https", rest)) => (rest, true),
            _ => (key, false),
        };
        let (host, path) = name.split_once('/').unwrap_or((name, ""));
        let path = path.trim_end_matches('/');
        let host = match host.to_ascii_lowercase().as_str() {
            "index.docker.io" | "registry-1.docker.io" => reference::DEFAULT_REGISTRY.to_owned(),
            other => other.to_owned(),
        };
        let path = if is_url || matches!(path, "v1" | "v2") { String::new() } else { path.to_owned() };
        Scope { host, path }
    }

    /// Returns whether this key covers `repository`: the same host and port, and a path that ends at a component boundary.
    fn covers(&self, registry: &str, repository: &str) -> bool {
        let below = match repository.strip_prefix(&self.path) {
            Some(rest) => self.path.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        self.host == registry && below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn no_helper() -> Helper {
        Box::new(|name, _| panic!("helper {name} was run"))
    }

    fn file(content: &str) -> AuthFile {
        AuthFile::new("auth.json", Some(content.as_bytes().to_vec()))
    }

    /// Returns the user that `content` names for `repository` at `registry`, or the error.
    fn user(content: &str, registry: &str, repository: &str) -> String {
        match Keychain::new(vec![file(content)], no_helper()).find(registry, repository) {
            Ok(CredentialSearch { credentials: Some(Credentials::Password { user, .. }), .. }) => user,
            Ok(CredentialSearch { credentials: Some(Credentials::Identity(_)), .. }) => "(identity)".to_owned(),
            Ok(_) => "(anonymous)".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn auths(entries: &[(&str, &str)]) -> String {
        let entries: Vec<String> = entries
            .iter()
            .map(|(key, user)| format!(r#""{key}": {{"auth": "{}"}}"#, BASE64.encode(format!("{user}:pass:word"))))
            .collect();
        format!(r#"{{"auths": {{{}}}}}"#, entries.join(", "))
    }

    #[test]
    fn credentials_belong_to_one_host_and_port() {
        let file = auths(&[("reg.io", "a")]);
        assert_eq!(user(&file, "reg.io", "x"), "a");
        for other in ["reg.io.evil", "reg.io:5000", "evil-reg.io", "reg"] {
            assert_eq!(user(&file, other, "x"), "(anonymous)", "{other}");
        }
        assert_eq!(user(&auths(&[("REG.IO:5000", "a")]), "reg.io:5000", "x"), "a");
    }

    #[test]
    fn the_longest_path_wins_and_ends_at_a_slash() {
        let file = auths(&[("reg.io", "host"), ("reg.io/team", "team"), ("reg.io/team/robot", "robot")]);
        assert_eq!(user(&file, "reg.io", "other"), "host");
        assert_eq!(user(&file, "reg.io", "team/x"), "team");
        assert_eq!(user(&file, "reg.io", "team/robot"), "robot");
        assert_eq!(user(&file, "reg.io", "team/robot/deep"), "robot");
        assert_eq!(user(&file, "reg.io", "team/robots"), "team");
        assert_eq!(user(&file, "reg.io", "teams"), "host");
    }

    #[test]
    fn every_name_of_docker_hub_is_docker_hub() {
        for key in
            [DOCKER_HUB, "docker.io", "index.docker.io", "https://registry-1.docker.io/v2/", "index.docker.io/v1/"]
        {
            assert_eq!(user(&auths(&[(key, "hub")]), "docker.io", "library/debian"), "hub", "{key}");
        }
        assert_eq!(user(&auths(&[("https://reg.io/v2/", "a")]), "reg.io", "x"), "a");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_anonymous() {
        let cases = [
            ("", "auth.json: not JSON"),
            ("[]", "auth.json: expected a JSON object"),
            (r#"{"auths": []}"#, "`auths`: expected an object"),
            (r#"{"auths": {"reg.io": 1}}"#, "`reg.io`: expected a JSON object"),
            (r#"{"auths": {"reg.io": {"auth": "%%"}}}"#, "`auth` is not base64"),
            (r#"{"auths": {"reg.io": {"auth": "aGVsbG8="}}}"#, "`auth` has no colon"),
            (r#"{"auths": {}, "auths": {}}"#, "duplicate"),
        ];
        for (content, expected) in cases {
            let said = user(content, "reg.io", "x");
            assert!(said.contains(expected), "{content}: {said}");
        }
        // A malformed entry of another registry does not matter here.
        assert_eq!(user(r#"{"auths": {"other.io": {"auth": "%%"}}}"#, "reg.io", "x"), "(anonymous)");
        assert_eq!(user(r#"{"auths": {"reg.io": {}}}"#, "reg.io", "x"), "(anonymous)");
        assert_eq!(user(r#"{"auths": {"reg.io": {"identitytoken": "t"}}}"#, "reg.io", "x"), "(identity)");
    }

    #[test]
    fn the_search_is_in_order_and_is_recorded() {
        let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
        let asked_inside = asked.clone();
        let helper: Helper = Box::new(move |name, server| {
            asked_inside.lock().unwrap().push(format!("{name} {server}"));
            Ok(None)
        });
        let with_helpers = r#"{"credHelpers": {"reg.io": "own"}, "credsStore": "all"}"#;
        let files = vec![
            AuthFile::new("missing.json", None),
            AuthFile::new("config.json", Some(with_helpers.as_bytes().to_vec())),
            AuthFile::new("last.json", Some(auths(&[("reg.io", "a")]).into_bytes())),
        ];
        let keychain = Keychain::new(files, helper);
        let found = keychain.find("reg.io", "x").unwrap();
        assert_eq!(found.tried, ["missing.json", "config.json", "docker-credential-own", "last.json"]);
        assert!(found.credentials.is_some());
        keychain.find("docker.io", "library/x").unwrap();
        assert_eq!(*asked.lock().unwrap(), ["own reg.io", "all https://index.docker.io/v1/"]);
    }

    #[test]
    fn a_failing_helper_ends_the_search() {
        let helper: Helper =
            Box::new(|_, _| Err(Error::new(ErrorKind::Denied, "docker-credential-x", "exited with 1")));
        let files = vec![file(r#"{"credsStore": "x"}"#), file(&auths(&[("reg.io", "a")]))];
        let error = Keychain::new(files, helper).find("reg.io", "x").unwrap_err();
        assert_eq!(error.to_string(), "credentials of reg.io: docker-credential-x: exited with 1");
    }

    #[test]
    fn nothing_secret_is_in_any_debug_text() {
        let content = auths(&[("reg.io", "a")]);
        let keychain = Keychain::new(vec![file(&content)], no_helper());
        let found = keychain.find("reg.io", "x").unwrap();
        let text = format!("{keychain:?} {found:?}");
        assert!(!text.contains("pass:word"), "{text}");
        assert!(!text.contains(&BASE64.encode("a:pass:word")), "{text}");
    }

    #[test]
    fn a_login_changes_one_entry_and_a_logout_removes_it() {
        let before = r#"{"auths": {"https://REG.io/v1/": {"auth": "b2xkOm9sZA=="}, "reg.io/team": {"auth": "dDp0"}}, "more": 1}"#;
        let after = logged_in(&file(before), "reg.io", "alice", &Secret::new("pa:ss")).unwrap();
        let after = String::from_utf8(after).unwrap();
        assert_eq!((user(&after, "reg.io", "x"), user(&after, "reg.io", "team")), ("alice".to_owned(), "t".to_owned()));
        assert!(after.contains("\"more\": 1") && after.contains("https://REG.io/v1/"), "{after}");
        let out = String::from_utf8(logged_out(&file(&after), "reg.io").unwrap()).unwrap();
        assert_eq!(
            (user(&out, "reg.io", "x"), user(&out, "reg.io", "team")),
            ("(anonymous)".to_owned(), "t".to_owned())
        );
        let twice = logged_out(&file(&out), "reg.io").unwrap_err().to_string();
        assert_eq!(twice, "auth.json: not logged in to reg.io");

        let new = logged_in(&AuthFile::new("auth.json", None), "docker.io", "a", &Secret::new("b")).unwrap();
        assert_eq!(user(&String::from_utf8(new).unwrap(), "docker.io", "library/x"), "a");
        for damaged in ["[]", "x", r#"{"auths": 1}"#, r#"{"credsStore": "pass"}"#] {
            assert!(logged_in(&file(damaged), "reg.io", "a", &Secret::new("b")).is_err(), "{damaged}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn r3_a_file_that_others_may_read_is_a_warning() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
            #[expect(clippy::disallowed_methods, reason = "a fixture of this test")]
            std::fs::write(&path, auths(&[("reg.io", "a")])).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let keychain = Keychain::new(vec![AuthFile::read(&path).unwrap()], no_helper());
            assert_eq!(keychain.find("reg.io", "x").unwrap().warnings.len(), warnings, "{mode:o}");
        }
    }
}
