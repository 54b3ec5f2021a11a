//! How registries are reached, as this machine, its environment and the command line say.

use super::mirrors::{self, Mirror, Place};
use super::switches;
use super::watch::Watch;
use clap::Args;
use ocibuild::progress::{Progress, warn};
use ocibuild::root::{Root, Temporary};
use ocibuild::store::MirroredRepository;
use ocibuild::store::registry::credentials::{AuthFile, Credentials, Helper, Keychain};
use ocibuild::store::registry::{
    Identity, Network, Options, PlainHttp, Proxies, Registry, Repository, Secret, Transport, certificates, fetch,
    helper,
};
use ocibuild::{Digest, Error, ErrorKind, Reference, Result, bounded};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long a credential helper may think. It may have to ask the person.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// The largest file of certificates that is read, in bytes.
const LARGEST_PEM: u64 = 8 << 20;

/// What every command understands that reads from or writes to a registry.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct NetworkArguments {
    /// Take credentials from this file only [default: what podman and docker login wrote]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Read NAME:PASSWORD from standard input
    #[arg(long, conflicts_with = "authfile")]
    creds_stdin: bool,
    /// Read from this registry, or this path in it, before HOST is asked. Repeatable
    #[arg(long = "mirror", value_name = "HOST=MIRROR", value_parser = mirrors::given)]
    mirrors: Vec<Mirror>,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// How a connection to a registry is made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct ConnectionArguments {
    /// Let the registry's token server be on this host, and give it credentials
    #[arg(long, value_name = "HOST")]
    auth_realm: Vec<String>,
    /// Trust the *.crt in this directory, and show its *.cert and *.key to the registry
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Speak HTTP to a registry that does not speak TLS; one on this machine may do so anyway
    #[arg(long)]
    plain_http: bool,
    /// Open no connection at all [also: OCIBUILD_OFFLINE=1]
    #[arg(long)]
    offline: bool,
}

/// The registries in use. An interruption gives back their uploads.
static IN_USE: Mutex<Vec<Weak<Registry>>> = Mutex::new(Vec::new());

/// Tells the registries in use that what is being uploaded will not be finished.
#[cfg(unix)]
pub(super) fn abandon_uploads() {
    let in_use = std::mem::take(&mut *IN_USE.lock().unwrap_or_else(PoisonError::into_inner));
    in_use.iter().filter_map(Weak::upgrade).for_each(|registry| registry.abandon_uploads());
}

impl NetworkArguments {
    /// The repository of `reference`, reached as the arguments say.
    ///
    /// # Errors
    /// When a file that is named is missing or malformed.
    pub(super) fn repository(
        &self,
        reference: &Reference,
        progress: Arc<dyn Progress + Send>,
    ) -> Result<Arc<Repository>> {
        let place = Place { reference: reference.clone(), plain_http: PlainHttp::default() };
        self.repository_with(&place, self.keychain(reference.registry())?, progress)
    }

    /// The repository of `reference` with its mirrors, of which the person has said nothing: what was given for another is not
    /// for it.
    ///
    /// # Errors
    /// When no connection may be opened, or a file that is named is missing or malformed.
    pub(super) fn mirrored_repository(
        &self,
        reference: &Reference,
        watch: &Arc<Watch>,
    ) -> Result<Arc<MirroredRepository>> {
        let places = mirrors::places(reference, &self.mirrors, &usual_registry_files())?;
        let open = |place: &Place| self.repository_with(place, self.kept_credentials()?, watch.clone());
        let places = places.iter().map(open).collect::<Result<_>>()?;
        Ok(Arc::new(MirroredRepository::new(reference.clone(), places, watch.clone())))
    }

    /// Whether no connection may be opened.
    ///
    /// # Errors
    /// When the environment says neither yes nor no.
    pub(super) fn is_offline(&self) -> Result<bool> {
        self.connection.is_offline()
    }

    /// Fetches the file at `url` into a new file of `directory`.
    ///
    /// # Errors
    /// As [`fetch`].
    pub(super) fn fetch(&self, url: &str, directory: &Root, watch: &Arc<Watch>) -> Result<(Temporary, Digest)> {
        let host = url.split('/').nth(2).unwrap_or_default();
        let (transport, options) = self.connection.transport(host, PlainHttp::default())?;
        fetch(&transport, url, &options, directory, watch)
    }

    /// Does `work` with the first place that has what `reference` names: its mirrors, then its own registry.
    ///
    /// # Errors
    /// When no place has it; what the last one said.
    pub(super) fn first_that_answers<T>(
        &self,
        reference: &Reference,
        watch: &Arc<Watch>,
        work: impl Fn(&Arc<Repository>) -> Result<T>,
    ) -> Result<T> {
        let places = mirrors::places(reference, &self.mirrors, &usual_registry_files())?;
        let (last, earlier) = places.split_last().ok_or_else(|| Error::usage(reference.to_string(), "is nowhere"))?;
        for place in earlier {
            use ErrorKind::{Corrupt, Denied, Network, NotFound};
            match self.repository_at(place, reference, watch).and_then(|repository| work(&repository)) {
                Err(error) if matches!(error.kind(), NotFound | Network | Denied | Corrupt) => {
                    let reason = format!("{}; asking the next place", error.reason());
                    warn(watch, &format!("mirror {}", error.object()), &reason);
                }
                done => return done,
            }
        }
        work(&self.repository_at(last, reference, watch)?)
    }

    /// A place of `reference`. What the person gave for its own registry is not for another.
    fn repository_at(&self, place: &Place, reference: &Reference, watch: &Arc<Watch>) -> Result<Arc<Repository>> {
        let is_own = place.reference.registry() == reference.registry();
        let keychain = if is_own { self.keychain(reference.registry())? } else { self.kept_credentials()? };
        self.repository_with(place, keychain, watch.clone())
    }

    fn repository_with(
        &self,
        place: &Place,
        keychain: Keychain,
        progress: Arc<dyn Progress + Send>,
    ) -> Result<Arc<Repository>> {
        let registry = self.connection.registry(place.reference.registry(), keychain, place.plain_http, progress)?;
        Repository::new(registry, &place.reference).map(Arc::new)
    }

    fn keychain(&self, registry: &str) -> Result<Keychain> {
        if self.creds_stdin {
            return given_on_stdin(registry).map(|credentials| Keychain::anonymous().with(credentials));
        }
        self.kept_credentials()
    }

    /// What podman login and docker login wrote, or the file that is named.
    fn kept_credentials(&self) -> Result<Keychain> {
        let named = self.authfile.clone().or_else(|| path_from("REGISTRY_AUTH_FILE"));
        let files = match named {
            // A file that the person names must be there.
            Some(file) => Root::open_named_file(&file).and_then(|_| AuthFile::read(&file)).map(|file| vec![file])?,
            None => usual_auth_files().iter().map(|path| AuthFile::read(path)).collect::<Result<_>>()?,
        };
        let path: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
        let helper: Helper = Box::new(move |name, server| helper::ask(&path, name, server, HELPER_PATIENCE));
        Ok(Keychain::new(files, helper))
    }
}

impl ConnectionArguments {
    /// Whether no connection may be opened.
    ///
    /// # Errors
    /// When the environment says neither yes nor no.
    pub(super) fn is_offline(&self) -> Result<bool> {
        Ok(self.offline || switches::is_on(switches::OFFLINE)?)
    }

    /// A client of the registry that references call `name`.
    ///
    /// # Errors
    /// When no connection may be opened, or a file that is named is missing or malformed.
    pub(super) fn registry(
        &self,
        name: &str,
        keychain: Keychain,
        plain_http: PlainHttp,
        progress: Arc<dyn Progress + Send>,
    ) -> Result<Arc<Registry>> {
        if self.is_offline()? {
            return Err(Error::usage(name, "is a registry, and --offline forbids asking one"));
        }
        let (transport, options) = self.transport(name, plain_http)?;
        let registry = Arc::new(Registry::new(name, Arc::new(transport), Arc::new(keychain), options, progress));
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&registry));
        Ok(registry)
    }

    /// The way to the registry `name`.
    fn transport(&self, name: &str, plain_http: PlainHttp) -> Result<(Transport, Options)> {
        let (authorities, identity) = self.certificates(name)?;
        let network = Network { authorities, identity, proxies: proxies()?, ..Network::default() };
        let plain_http = if self.plain_http { PlainHttp::Allowed } else { plain_http };
        let options = Options { plain_http, realms: self.auth_realm.clone(), ..Options::default() };
        Ok((Transport::new(network)?, options))
    }

    /// The authorities of this machine and of the registry's own directory, and who we are to it.
    fn certificates(&self, registry: &str) -> Result<(Vec<Vec<u8>>, Option<Identity>)> {
        // Honours SSL_CERT_FILE and SSL_CERT_DIR. What of the system's own cannot be read, others may make up for.
        let system = rustls_native_certs::load_native_certs();
        let mut authorities: Vec<Vec<u8>> = system.certs.iter().map(|certificate| certificate.to_vec()).collect();
        let directory = match &self.cert_dir {
            Some(directory) => Some(Root::open(directory)?),
            None => usual_certificate_directories(registry).iter().find_map(|path| Root::open(path).ok()),
        };
        let Some(directory) = directory else { return Ok((authorities, None)) };
        let mut identity = None;
        let entries =
            directory.dir().entries().map_err(|error| Error::io(directory.path().display(), "read", error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Error::io(directory.path().display(), "read", error))?;
            let path = directory.path().join(entry.file_name());
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => authorities.extend(certificates(&read(&path)?, &path.display().to_string())?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    let pem = String::from_utf8(read(&key)?);
                    let key = pem.map_err(|_| Error::invalid(key.display().to_string(), "malformed PEM"))?;
                    identity = Some(Identity {
                        host: host_of(registry).to_owned(),
                        certificates: read(&path)?,
                        key: Secret::new(key),
                    });
                }
                _ => {}
            }
        }
        Ok((authorities, identity))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    bounded::read(Root::open_named_file(path)?, LARGEST_PEM, &path.display().to_string())
}

/// A registry's name without its port.
fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    }
}

/// Where podman, skopeo and docker keep credentials, in the order in which podman and skopeo look.
fn usual_auth_files() -> Vec<PathBuf> {
    let home = env::home_dir();
    let in_home = |below: &str| home.as_ref().map(|home| home.join(below));
    let configuration = path_from("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let docker = path_from("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    [
        runtime_auth_file(),
        configuration.map(|directory| directory.join("containers/auth.json")),
        docker.map(|directory| directory.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The file that a login is written to: the one that is named, else where podman login writes, as far as that is there.
pub(super) fn login_file(named: Option<&Path>) -> Result<PathBuf> {
    let named = named.map(Path::to_owned).or_else(|| path_from("REGISTRY_AUTH_FILE"));
    // Below /run it lies only where something has made a directory for this user.
    let is_there = |file: &PathBuf| path_from("XDG_RUNTIME_DIR").is_some() || file.parent().is_some_and(Path::is_dir);
    let usual = || {
        let later = usual_auth_files().into_iter().nth(usize::from(runtime_auth_file().is_some()));
        runtime_auth_file().filter(is_there).or(later)
    };
    named.or_else(usual).ok_or_else(|| Error::new(ErrorKind::NotFound, "credentials", "this user has no home"))
}

/// Where podman login writes (containers-auth.json(5)).
#[cfg(target_os = "linux")]
fn runtime_auth_file() -> Option<PathBuf> {
    Some(match path_from("XDG_RUNTIME_DIR") {
        Some(directory) => directory.join("containers/auth.json"),
        None => PathBuf::from(format!("/run/containers/{}/auth.json", rustix::process::getuid().as_raw())),
    })
}

#[cfg(not(target_os = "linux"))]
fn runtime_auth_file() -> Option<PathBuf> {
    None
}

/// Where podman and skopeo look for what is to be known about registries, what counts most last
/// (containers-registries.conf(5), containers-registries.conf.d(5)).
fn usual_registry_files() -> Vec<PathBuf> {
    let own = env::home_dir().map(|home| home.join(".config/containers"));
    let shared = PathBuf::from("/etc/containers");
    let main = path_from("CONTAINERS_REGISTRIES_CONF").unwrap_or_else(|| {
        let own = own.as_ref().map(|own| own.join("registries.conf")).filter(|file| file.is_file());
        own.unwrap_or_else(|| shared.join("registries.conf"))
    });
    let mut files = vec![main];
    for directory in [Some(shared), own].into_iter().flatten() {
        let directory = directory.join("registries.conf.d");
        let Ok(entries) = Root::open(&directory)
            .and_then(|root| root.dir().entries().map_err(|error| Error::io(root.path().display(), "read", error)))
        else {
            continue;
        };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "conf"));
        names.sort();
        files.extend(names.into_iter().map(|name| directory.join(name)));
    }
    files
}

/// Where podman, skopeo and docker look for a registry's certificates (containers-certs.d(5)).
fn usual_certificate_directories(registry: &str) -> Vec<PathBuf> {
    let own = env::home_dir().map(|home| home.join(".config/containers/certs.d"));
    let shared = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    own.into_iter().chain(shared).map(|directory| directory.join(registry)).collect()
}

/// What was read from standard input, and the one registry that it is for: the first that is spoken to.
fn given_on_stdin(registry: &str) -> Result<Credentials> {
    static GIVEN: Mutex<Option<(String, Credentials)>> = Mutex::new(None);
    let object = "--creds-stdin";
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, credentials)) = &*given {
        if known == registry {
            return Ok(credentials.clone());
        }
        let reason = format!("given for {known}, and {registry} is another registry");
        return Err(Error::usage(object, reason).hint("log in to both, or --authfile"));
    }
    let bytes = bounded::read(std::io::stdin(), 64 << 10, object)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(object, "not UTF-8"))?;
    let line = text.trim_end_matches(['\n', '\r']);
    let (user, password) = line.split_once(':').ok_or_else(|| Error::usage(object, "expected NAME:PASSWORD"))?;
    let credentials = Credentials::Password { user: user.to_owned(), password: Secret::new(password) };
    *given = Some((registry.to_owned(), credentials.clone()));
    Ok(credentials)
}

/// The proxies that the environment names. Programs differ in which case they read, and so people set both.
fn proxies() -> Result<Proxies> {
    let variable = |name: &str| env::var(name.to_ascii_lowercase()).or_else(|_| env::var(name)).ok();
    let all = variable("ALL_PROXY");
    let http = variable("HTTP_PROXY").or_else(|| all.clone());
    let https = variable("HTTPS_PROXY").or(all);
    Proxies::new(http.as_deref(), https.as_deref(), &variable("NO_PROXY").unwrap_or_default())
}

fn path_from(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_port() {
        assert_eq!(host_of("reg.io:5000"), "reg.io");
        assert_eq!(host_of("[::1]:5000"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
        assert_eq!(host_of("reg.io"), "reg.io");
    }
}
