//! Connections to registries, configured by this machine, its environment and the command line.

use super::container_files::{default_auth_files, default_certificates, path_from, registry_files};
use super::environment_switches;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::common::bounded_read;
use ocibuild::common::progress::{Progress, warn};
use ocibuild::common::root::{Root, Temporary};
use ocibuild::registry::credentials::{AuthFile, Credentials, Helper, Keychain};
use ocibuild::registry::mirrors::{self, Endpoint, Mirror, Tls};
use ocibuild::registry::{
    ClientCertificate, Network, Options, PlainHttp, Proxies, Registry, Repository, RetryPolicy, Secret, Transport,
    certificates, credential_helper, fetch,
};
use ocibuild::registry::{LayerSources, MirroredRepository};
use ocibuild::store::{BlobLocations, StoredImage};
use ocibuild::{Digest, Error, ErrorKind, Reference, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// The timeout of a credential helper, which may have to prompt the user.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// The largest file of certificates that is read, in bytes.
const LARGEST_PEM: u64 = 8 << 20;

/// The options of every command that uses registries.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct NetworkArguments {
    /// Read credentials from FILE only [default: the files of podman and docker login] [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Read credentials as NAME:PASSWORD from standard input
    #[arg(long, conflicts_with = "authfile")]
    creds_stdin: bool,
    /// Pull from MIRROR (a registry, or a path in it) before HOST. Repeatable
    #[arg(long = "mirror", value_name = "HOST=MIRROR", value_parser = mirror)]
    mirrors: Vec<Mirror>,
    /// Verify images by the signature policy in FILE [default: policy.json of podman and skopeo]
    #[arg(long, value_name = "FILE")]
    pub(super) signature_policy: Option<PathBuf>,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// The options of connections to registries.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct ConnectionArguments {
    /// Allow credentials to be sent to the token server HOST or HOST:PORT. Repeatable
    #[arg(long, value_name = "HOST", value_parser = mirrors::parse_host)]
    auth_realm: Vec<String>,
    /// Use the certificates in DIR for HOST: *.crt as CAs, *.cert and *.key as client certificate. Repeatable
    #[arg(long, value_name = "[HOST=]DIR", value_parser = certificate_directory)]
    cert_dir: Vec<CertificateDirectory>,
    /// Allow plain HTTP to HOST or HOST:PORT; localhost is always allowed. Repeatable
    #[arg(long, value_name = "HOST", value_parser = mirrors::parse_host)]
    plain_http: Vec<String>,
    /// Require TLS and valid certificates of registries [default: true]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true,
        action = clap::ArgAction::Set
    )]
    tls_verify: bool,
    /// Disable network access [env: OCIBUILD_OFFLINE]
    #[arg(long)]
    offline: bool,
}

/// The origin of a registry's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// The command line: flags about connections that name no host apply to this registry.
    CommandLine,
    /// A file of configuration, a mirror's rule, or a record.
    Other,
}

/// `--cert-dir`: a directory, and the one registry that it is for.
#[derive(Debug, Clone)]
struct CertificateDirectory {
    registry: Option<String>,
    path: PathBuf,
}

/// Parses `HOST=MIRROR`.
fn mirror(text: &str) -> Result<Mirror> {
    let object = || format!("--mirror {text}");
    let (prefix, location) = text.split_once('=').ok_or_else(|| Error::usage(object(), "expected HOST=MIRROR"))?;
    Mirror::new(prefix, location).map_err(|error| error.within(object()))
}

/// Reads `DIR` or `HOST=DIR`. A host has a dot or a port, or is `localhost`.
fn certificate_directory(text: &str) -> Result<CertificateDirectory> {
    let named = text.split_once('=').and_then(|(host, path)| Some((mirrors::parse_host(host).ok()?, path)));
    Ok(match named {
        Some((registry, path)) => CertificateDirectory { registry: Some(registry), path: path.into() },
        None => CertificateDirectory { registry: None, path: text.into() },
    })
}

/// The registries in use. An interruption gives back their uploads.
static IN_USE: Mutex<Vec<Weak<Registry>>> = Mutex::new(Vec::new());

/// Cancels the uploads of the registries in use.
#[cfg(unix)]
pub(super) fn abandon_uploads() {
    let in_use = std::mem::take(&mut *IN_USE.lock().unwrap_or_else(PoisonError::into_inner));
    in_use.iter().filter_map(Weak::upgrade).for_each(|registry| registry.abandon_uploads());
}

impl NetworkArguments {
    /// Returns the repository of `reference`, reached as the arguments say.
    ///
    /// # Errors
    /// Fails if a file that is named is missing or malformed.
    pub(super) fn repository(
        &self,
        reference: &Reference,
        progress: Arc<dyn Progress + Send>,
    ) -> Result<Arc<Repository>> {
        let tls = mirrors::tls_for(&reference.clone().without_tag().without_digest().to_string(), &registry_files()?)?;
        let place = Endpoint { reference: reference.clone(), tls };
        let keychain = self.keychain(reference.registry())?;
        let registry =
            self.connection.registry(&place, NamedBy::CommandLine, RetryPolicy::default(), keychain, progress)?;
        Repository::new(registry, reference).map(Arc::new)
    }

    /// Like [`NetworkArguments::repository`], for a push that can mount blobs whose location is recorded.
    ///
    /// # Errors
    /// Fails as [`NetworkArguments::repository`].
    pub(super) fn repository_with_blob_locations(
        &self,
        reference: &Reference,
        locations: Option<Arc<BlobLocations>>,
        progress: Arc<dyn Progress + Send>,
    ) -> Result<Arc<Repository>> {
        let registry = self.repository(reference, progress)?.registry().clone();
        let repository = Repository::new(registry, reference)?;
        Ok(Arc::new(match locations {
            Some(locations) => repository.with_blob_locations(locations),
            None => repository,
        }))
    }

    /// Returns the repository of `reference` with its mirrors. The command line does not name it, so credentials and exemptions of the
    /// command line are not used for it.
    ///
    /// # Errors
    /// Fails if no connection may be opened, or a file that is named is missing or malformed.
    pub(super) fn mirrored_repository(
        &self,
        reference: &Reference,
        watch: &Arc<Watch>,
    ) -> Result<Arc<MirroredRepository>> {
        let places = mirrors::endpoints(reference, &self.mirrors, &registry_files()?)?;
        let open = |(number, place): (usize, &Endpoint)| {
            let retry = if number + 1 < places.len() { MIRROR_RETRY } else { RetryPolicy::default() };
            let keychain = self.kept_credentials()?;
            let registry = self.connection.registry(place, NamedBy::Other, retry, keychain, watch.clone())?;
            Repository::new(registry, &place.reference).map(Arc::new)
        };
        let places = places.iter().enumerate().map(open).collect::<Result<_>>()?;
        Ok(Arc::new(MirroredRepository::new(reference.clone(), places, watch.clone())))
    }

    /// Adds the repositories to `image` that have its missing layers.
    ///
    /// # Errors
    /// Fails as [`LayerSources::add_to`] does.
    pub(super) fn with_layer_sources(
        &self,
        image: StoredImage,
        sources: LayerSources<'_>,
        watch: &Arc<Watch>,
    ) -> Result<StoredImage> {
        let mirrored = |name: &Reference| self.mirrored_repository(name, watch);
        let own = |name: &Reference| self.repository(name, watch.clone());
        let progress: Arc<dyn Progress + Send> = watch.clone();
        sources.add_to(image, mirrored, own, &progress)
    }

    /// Returns the locations of `reference`: its mirrors, then its own repository.
    ///
    /// # Errors
    /// Fails if a file of configuration cannot be read or is malformed, or blocks the registry.
    pub(super) fn places(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let places = mirrors::endpoints(reference, &self.mirrors, &registry_files()?)?;
        Ok(places.into_iter().map(|place| place.reference).collect())
    }

    /// Returns whether no connection may be opened.
    ///
    /// # Errors
    /// Fails if the environment says neither yes nor no.
    pub(super) fn is_offline(&self) -> Result<bool> {
        self.connection.is_offline()
    }

    /// Fetches the file at `url` into a new file of `directory`.
    ///
    /// # Errors
    /// Fails as [`fetch`].
    pub(super) fn fetch(&self, url: &str, directory: &Root, watch: &Arc<Watch>) -> Result<(Temporary, Digest)> {
        let host = url.split('/').nth(2).unwrap_or_default();
        let (transport, options) = self.connection.transport(host, NamedBy::Other, Tls::Required)?;
        fetch(&transport, url, &options, directory, watch)
    }

    /// Does `work` with the first place that has what `reference` names: its mirrors, then its own registry.
    ///
    /// # Errors
    /// Fails if no place has it; what the last one said.
    pub(super) fn first_that_answers<T>(
        &self,
        reference: &Reference,
        watch: &Arc<Watch>,
        work: impl Fn(&Arc<Repository>) -> Result<T>,
    ) -> Result<T> {
        let places = mirrors::endpoints(reference, &self.mirrors, &registry_files()?)?;
        let (last, mirrors) =
            places.split_last().ok_or_else(|| Error::usage(reference.to_string(), "not found in any location"))?;
        for place in mirrors {
            let repository = self.repository_at(place, reference, MIRROR_RETRY, watch)?;
            match work(&repository) {
                Err(error) if is_of_the_place(error.kind()) => {
                    let reason = format!("{}; trying the next location", error.reason());
                    warn(watch, &format!("mirror {}", error.object()), &reason);
                }
                done => return done,
            }
        }
        let repository = self.repository_at(last, reference, RetryPolicy::default(), watch)?;
        work(&repository).map_err(|error| match (error.kind(), error.advice()) {
            (ErrorKind::Network, Some(advice)) => {
                let registry = reference.registry();
                error.hint(format!("{advice}; or use a mirror: --mirror {registry}=MIRROR"))
            }
            _ => error,
        })
    }

    /// Returns the repository of `reference` at `place`. Credentials and exemptions of the command line are used only at its own
    /// registry.
    fn repository_at(
        &self,
        place: &Endpoint,
        reference: &Reference,
        retry: RetryPolicy,
        watch: &Arc<Watch>,
    ) -> Result<Arc<Repository>> {
        let (named, keychain) = match place.reference.registry() == reference.registry() {
            true => (NamedBy::CommandLine, self.keychain(reference.registry())?),
            false => (NamedBy::Other, self.kept_credentials()?),
        };
        let registry = self.connection.registry(place, named, retry, keychain, watch.clone())?;
        Repository::new(registry, &place.reference).map(Arc::new)
    }

    fn keychain(&self, registry: &str) -> Result<Keychain> {
        if self.creds_stdin {
            return given_on_stdin(registry).map(|credentials| Keychain::anonymous().with(credentials));
        }
        self.kept_credentials()
    }

    /// Returns the credentials of podman login and docker login, or of the file that is named.
    fn kept_credentials(&self) -> Result<Keychain> {
        let named = self.authfile.clone().or_else(|| path_from("REGISTRY_AUTH_FILE"));
        let files = match named {
            // A file that is named must exist.
            Some(file) => Root::open_named_file(&file).and_then(|_| AuthFile::read(&file)).map(|file| vec![file])?,
            None => default_auth_files().iter().map(|path| AuthFile::read(path)).collect::<Result<_>>()?,
        };
        let path: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
        let helper: Helper = Box::new(move |name, server| credential_helper::ask(&path, name, server, HELPER_PATIENCE));
        Ok(Keychain::new(files, helper))
    }
}

impl ConnectionArguments {
    /// Returns whether no connection may be opened.
    ///
    /// # Errors
    /// Fails if the environment says neither yes nor no.
    pub(super) fn is_offline(&self) -> Result<bool> {
        Ok(self.offline || environment_switches::is_on(environment_switches::OFFLINE)?)
    }

    /// Returns a client of the registry of `place`.
    ///
    /// # Errors
    /// Fails if no connection may be opened, or a file that is named is missing or malformed.
    fn registry(
        &self,
        place: &Endpoint,
        named: NamedBy,
        retry: RetryPolicy,
        keychain: Keychain,
        progress: Arc<dyn Progress + Send>,
    ) -> Result<Arc<Registry>> {
        let name = place.reference.registry();
        if self.is_offline()? {
            return Err(Error::usage(name, "network access is disabled (--offline)"));
        }
        let (transport, options) = self.transport(name, named, place.tls)?;
        let options = Options { retry, ..options };
        let registry = Arc::new(Registry::new(name, Arc::new(transport), Arc::new(keychain), options, progress));
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&registry));
        Ok(registry)
    }

    /// Returns a client that logs in to the registry `name`.
    ///
    /// # Errors
    /// Fails if no connection may be opened, or a file that is named is missing or malformed.
    pub(super) fn registry_to_log_in(
        &self,
        name: &str,
        keychain: Keychain,
        progress: Arc<dyn Progress + Send>,
    ) -> Result<Arc<Registry>> {
        let tls = mirrors::tls_for(name, &registry_files()?)?;
        let place = Endpoint { reference: format!("{name}/x").parse()?, tls };
        self.registry(&place, NamedBy::CommandLine, RetryPolicy::default(), keychain, progress)
    }

    /// Returns the way to the registry `name`.
    fn transport(&self, name: &str, named: NamedBy, tls: Tls) -> Result<(Transport, Options)> {
        let (authorities, identity) = self.certificates(name, named)?;
        let is_insecure = tls == Tls::Insecure || (named == NamedBy::CommandLine && !self.tls_verify);
        let unverified = is_insecure.then(|| name.to_owned());
        let network = Network { authorities, identity, unverified, proxies: proxies()?, ..Network::default() };
        let may_be_plain = is_insecure || self.plain_http.iter().any(|host| host == name);
        let plain_http = if may_be_plain { PlainHttp::Allowed } else { PlainHttp::default() };
        let options = Options { plain_http, realms: self.auth_realm.clone(), ..Options::default() };
        Ok((Transport::new(network)?, options))
    }

    /// Returns the certificate authorities of this machine and of the directories for the registry, and the client certificate for
    /// it.
    fn certificates(&self, registry: &str, named: NamedBy) -> Result<(Vec<Vec<u8>>, Option<ClientCertificate>)> {
        // Honours SSL_CERT_FILE and SSL_CERT_DIR. What of the system's own cannot be read, others may make up for.
        let system = rustls_native_certs::load_native_certs();
        let mut authorities: Vec<Vec<u8>> = system.certs.iter().map(|certificate| certificate.to_vec()).collect();
        let mut identity = None;
        let mut has_own = false;
        for CertificateDirectory { registry: only, path } in &self.cert_dir {
            let is_own = match only {
                Some(only) if only != registry => continue,
                Some(_) => true,
                None => named == NamedBy::CommandLine,
            };
            let (more, shown) = read_certificates(&Root::open(path)?, registry)?;
            authorities.extend(more);
            identity = shown.filter(|_| is_own).or(identity);
            has_own |= is_own;
        }
        if let Some(directory) = if has_own { None } else { default_certificates(registry)? } {
            let (more, shown) = read_certificates(&directory, registry)?;
            authorities.extend(more);
            identity = shown;
        }
        Ok((authorities, identity))
    }
}

/// The retry policy for every location except the last one.
const MIRROR_RETRY: RetryPolicy =
    RetryPolicy { retries: 1, first_wait: Duration::from_millis(500), deadline: Duration::from_secs(10) };

/// Returns `true` if another place may do better. What is wrong with this machine or with the request is wrong everywhere.
fn is_of_the_place(kind: ErrorKind) -> bool {
    use ErrorKind::{Changed, Interrupted, Io, Locked, Usage};
    !matches!(kind, Usage | Changed | Locked | Io | Interrupted)
}

/// Returns the certificate authorities in a directory, and the client certificate in it.
fn read_certificates(directory: &Root, registry: &str) -> Result<(Vec<Vec<u8>>, Option<ClientCertificate>)> {
    let (mut authorities, mut identity) = (Vec::new(), None);
    let entries = directory.dir().entries().map_err(|error| Error::io(directory.path().display(), "read", error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(directory.path().display(), "read", error))?;
        let path = directory.path().join(entry.file_name());
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => authorities.extend(certificates(&read(&path)?, &path.display().to_string())?),
            Some("cert") => {
                let key = path.with_extension("key");
                let pem = String::from_utf8(read(&key)?);
                let key = pem.map_err(|_| Error::invalid(key.display().to_string(), "malformed PEM"))?;
                let (certificates, key) = (read(&path)?, Secret::new(key));
                identity = Some(ClientCertificate { registry: registry.to_owned(), certificates, key });
            }
            _ => {}
        }
    }
    Ok((authorities, identity))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    bounded_read::read(Root::open_named_file(path)?, LARGEST_PEM, &path.display().to_string())
}

/// Returns the credentials from standard input. They are valid for one registry: the first that is used.
fn given_on_stdin(registry: &str) -> Result<Credentials> {
    static GIVEN: Mutex<Option<(String, Credentials)>> = Mutex::new(None);
    let object = "--creds-stdin";
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, credentials)) = &*given {
        if known == registry {
            return Ok(credentials.clone());
        }
        let reason = format!("the credentials are for {known}, not for {registry}");
        return Err(Error::usage(object, reason).hint("log in to both, or --authfile"));
    }
    let bytes = bounded_read::read(std::io::stdin(), 64 << 10, object)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(object, "not UTF-8"))?;
    let line = text.trim_end_matches(['\n', '\r']);
    let (user, password) = line.split_once(':').ok_or_else(|| Error::usage(object, "expected NAME:PASSWORD"))?;
    let credentials = Credentials::Password { user: user.to_owned(), password: Secret::new(password) };
    *given = Some((registry.to_owned(), credentials.clone()));
    Ok(credentials)
}

/// Returns the proxies that the environment names. Programs differ in which case they read, and so people set both.
fn proxies() -> Result<Proxies> {
    let variable = |name: &str| env::var(name.to_ascii_lowercase()).or_else(|_| env::var(name)).ok();
    let all = variable("ALL_PROXY");
    let http = variable("HTTP_PROXY").or_else(|| all.clone());
    let https = variable("HTTPS_PROXY").or(all);
    Proxies::new(http.as_deref(), https.as_deref(), &variable("NO_PROXY").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_certificates_may_be_for_one_host() {
        let read = |text: &str| {
            let read = certificate_directory(text).unwrap();
            (read.registry.unwrap_or_default(), read.path.display().to_string())
        };
        assert_eq!(read("reg.io:5000=certs"), ("reg.io:5000".to_owned(), "certs".to_owned()));
        assert_eq!(read("certs/a=b"), (String::new(), "certs/a=b".to_owned()));
        assert_eq!(read("a=b"), (String::new(), "a=b".to_owned()));
    }
}
