//! `ocibuild serve`.

use super::cache_directory::CacheDirectory;
use super::output::print;
use super::progress_display::Watch;
use super::{Common, OutputFormat, signals};
use clap::Args;
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::common::progress::warn;
use ocibuild::registry::PlainHttp;
use ocibuild::registry::server::{
    Passwords, Pull, RegistryClient, RegistryServer, ServerEvent, ServerOptions, ServerTls,
};
use ocibuild::store::{BASES, Layout, VerifiedFiles};
use ocibuild::{Error, ErrorKind, Location, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The port that users of registries expect.
const PORT: u16 = 5000;

/// The most images that are shown at the start.
const MOST_SHOWN: usize = 20;

/// The most names of a pull that are shown.
const MOST_NAMES: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = "\
An image with a full name is served by its path and tag: team/app:v1 of any registry is pulled as 127.0.0.1:5000/team/app:v1,
and docker.io/library/app:v1 also as 127.0.0.1:5000/app:v1. An image that has only a tag is in the repository that is called
like the directory: tag v1 of ./robots is 127.0.0.1:5000/robots:v1. Images that are built later are served, too. Layouts
are never changed. The address is printed; each pull is a line on standard error. SIGINT or SIGTERM ends the server.

Examples:
  ocibuild serve ./out
  ocibuild serve ./out ./robots --listen 127.0.0.1:0 --format json
  ocibuild serve ./out --listen 192.0.2.10 --tls-cert host.crt --tls-key host.key --htpasswd users")]
pub(super) struct ServeArguments {
    /// Image layouts
    #[arg(value_name = "LAYOUT", required = true)]
    layouts: Vec<OsString>,
    /// Set the address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS[:PORT]", default_value = "127.0.0.1:5000", value_parser = address)]
    listen: SocketAddr,
    /// Use TLS with the certificate in FILE, followed by those of its authorities, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Set the private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let other machines pull without TLS
    #[arg(long, conflicts_with = "tls_cert")]
    plain_http: bool,
    /// Require a name and password of FILE, as `htpasswd -B` writes it
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheDirectory,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Returns `IP`, `IP:PORT`, `[IP]:PORT` or `localhost[:PORT]`.
fn address(text: &str) -> Result<SocketAddr> {
    let local = match text.strip_prefix("localhost") {
        Some("") => Some(Ipv4Addr::LOCALHOST.to_string()),
        Some(port) if port.starts_with(':') => Some(format!("{}{port}", Ipv4Addr::LOCALHOST)),
        _ => None,
    };
    let text = local.as_deref().unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_default_port = |_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    text.parse::<SocketAddr>().or_else(with_default_port).map_err(|_| {
        Error::usage(format!("`{text}`"), "not an IP address with or without a port").hint("such as 127.0.0.1:5000")
    })
}

/// Serves layouts until a signal comes.
pub(super) fn run(arguments: &ServeArguments) -> Result<ExitCode> {
    if arguments.common.jobs.is_some() {
        return Err(Error::usage("--jobs", "has no effect with serve, which has a thread for each connection"));
    }
    let watch = Arc::new(Watch::new(&arguments.common));
    let format = arguments.common.format;
    let layouts = arguments.layouts.iter().map(layout).collect::<Result<Vec<_>>>()?;
    let options = ServerOptions { plain_http: arguments.plain_http()?, ..arguments.options(&watch)? };
    let report = {
        let watch = watch.clone();
        move |event: ServerEvent<'_>| show(event, &watch, format)
    };
    let server = RegistryServer::bind(arguments.listen, layouts, options, Box::new(report))
        .map_err(|error| explained(error, arguments.listen))?;
    let stop = server.stop();
    signals::on_first_signal(move || stop.stop());
    introduce(&server, arguments, &watch)?;
    server.run()?;
    watch.say("stopped");
    Ok(ExitCode::SUCCESS)
}

fn layout(text: &OsString) -> Result<Layout> {
    let (directory, name) = Location::of_layout(text)?;
    match name {
        None => Layout::open(&directory),
        Some(name) => {
            let path = directory.display();
            Err(Error::usage(format!("{path}:{name}"), "is an image, and serve takes whole layouts")
                .hint(format!("ocibuild export {path}:{name} oci:DIR copies it into one of its own")))
        }
    }
}

impl ServeArguments {
    fn plain_http(&self) -> Result<PlainHttp> {
        match (self.plain_http, self.listen.ip().to_canonical().is_loopback()) {
            (false, _) => Ok(PlainHttp::Loopback),
            (true, false) => Ok(PlainHttp::Allowed),
            (true, true) => {
                let reason = format!("no other machine reaches {}", self.listen);
                Err(Error::usage("--plain-http", reason).hint("leave it out, or --listen ADDRESS"))
            }
        }
    }

    fn options(&self, watch: &Watch) -> Result<ServerOptions> {
        let mut options = ServerOptions::default();
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            options.tls = Some(ServerTls::read(certificate, key)?);
        }
        options.passwords = self.htpasswd.as_deref().map(Passwords::read).transpose()?;
        // Without a cache, only the layers of sparse images are missing, and every blob is hashed.
        if let Some(cache) = if_usable(self.cache.existing(), watch).flatten() {
            options.bases = if_usable(Layout::open(&cache.path().join(BASES)), watch);
            options.verified = VerifiedFiles::existing(&cache);
        }
        Ok(options)
    }
}

/// Returns a part of the cache, or nothing if it is missing or, with a warning, cannot be used.
fn if_usable<T>(opened: Result<T>, watch: &Watch) -> Option<T> {
    opened
        .inspect_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                warn(watch, &error.object(), &format!("{}; the cache is not used", error.reason()));
            }
        })
        .ok()
}

/// Adds what helps to an error of the start.
fn explained(error: Error, address: SocketAddr) -> Error {
    match error.kind() {
        ErrorKind::Usage => error.hint("--tls-cert FILE --tls-key FILE, or --plain-http"),
        ErrorKind::Io if error.object() == address.to_string() => {
            let ip = address.ip();
            error.hint(format!("--listen {} takes a free port", SocketAddr::new(ip, 0)))
        }
        _ => error,
    }
}

/// Prints the address and the images.
fn introduce(server: &RegistryServer, arguments: &ServeArguments, watch: &Watch) -> Result<()> {
    let (address, images) = (server.address().to_string(), server.images());
    for (layer, place) in server.missing_layers()? {
        let reason = format!("a layer of a sparse image is only in {place}, so that image cannot be pulled from here");
        warn(watch, &layer.to_string(), &reason);
    }
    if arguments.plain_http && arguments.htpasswd.is_some() {
        warn(watch, &address, "passwords are sent in clear text without TLS");
    }
    match arguments.common.format {
        OutputFormat::Json => {
            let serving = json!({"address": address, "tls": arguments.tls_cert.is_some(), "images": images});
            print(&json!({"serving": serving}).to_string())
        }
        OutputFormat::Text => {
            for image in images.iter().take(MOST_SHOWN) {
                watch.say(&format!("serving {address}/{image}"));
            }
            match images.len() {
                0 => watch.say("no image has a tag yet"),
                number if number > MOST_SHOWN => watch.say(&format!("and {} more", number - MOST_SHOWN)),
                _ => {}
            }
            print(&address)
        }
    }
}

/// Shows what the server does. Standard output that cannot be written does not end the server.
fn show(event: ServerEvent<'_>, watch: &Watch, format: OutputFormat) {
    match (event, format) {
        (ServerEvent::Warning { object, reason }, _) => watch.warn_again(object, reason),
        (ServerEvent::Pulled(pull), OutputFormat::Text) => watch.say(&pull_in_words(pull)),
        (ServerEvent::Pulled(pull), OutputFormat::Json) => {
            print(&json!({"pull": pull_to_json(pull)}).to_string()).ok();
        }
        (ServerEvent::Refused { client, request, status, reason }, OutputFormat::Text) => {
            watch.say(&format!("{}: {request}: {status}: {reason}", in_words(client)));
        }
        (ServerEvent::Refused { client, request, status, reason }, OutputFormat::Json) => {
            let mut refused = client_to_json(client);
            refused["request"] = request.into();
            refused["status"] = status.into();
            refused["reason"] = reason.into();
            print(&json!({"refused": refused}).to_string()).ok();
        }
        _ => {}
    }
}

fn pull_in_words(pull: &Pull) -> String {
    // A client asks for an image by its tag, and then for the same image by its digest.
    let (digests, tags): (Vec<&String>, Vec<&String>) = pull.names.iter().partition(|name| name.contains(':'));
    let names = if tags.is_empty() { digests } else { tags };
    let shown = names.iter().take(MOST_NAMES).map(|name| image_name(&pull.repository, name)).collect::<Vec<_>>();
    let names = match (shown.len(), names.len().saturating_sub(MOST_NAMES)) {
        (0, _) => pull.repository.clone(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    };
    let (blobs, bytes) = (counted(usize::try_from(pull.blobs).unwrap_or(usize::MAX), "blob"), size(pull.bytes));
    let broken = match pull.broken {
        0 => String::new(),
        broken => format!(", {broken} not to the end"),
    };
    format!("{names}: pulled by {}: {blobs}, {bytes}{broken}", in_words(&pull.client))
}

fn image_name(repository: &str, name: &str) -> String {
    let separator = if name.contains(':') { '@' } else { ':' };
    format!("{repository}{separator}{name}")
}

fn in_words(client: &RegistryClient) -> String {
    let user = client.user.as_ref().map(|user| format!("{user} at ")).unwrap_or_default();
    let agent = client.agent.as_ref().map(|agent| format!(" ({agent})")).unwrap_or_default();
    format!("{user}{}{agent}", client.address)
}

fn pull_to_json(pull: &Pull) -> Value {
    let mut value = client_to_json(&pull.client);
    value["repository"] = pull.repository.as_str().into();
    value["names"] = pull.names.iter().map(String::as_str).collect::<Vec<_>>().into();
    value["manifests"] = pull.manifests.into();
    value["blobs"] = pull.blobs.into();
    value["bytes"] = pull.bytes.into();
    value["broken"] = pull.broken.into();
    value
}

fn client_to_json(client: &RegistryClient) -> Value {
    json!({"client": client.address.to_string(), "user": client.user, "agent": client.agent})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_default_port() {
        let read = |text: &str| address(text).map(|address| address.to_string()).unwrap_or_default();
        assert_eq!(read("127.0.0.1"), "127.0.0.1:5000");
        assert_eq!(read("0.0.0.0:0"), "0.0.0.0:0");
        assert_eq!(read("localhost:5001"), "127.0.0.1:5001");
        assert_eq!(read("localhost"), "127.0.0.1:5000");
        assert_eq!(read("::1"), "[::1]:5000");
        assert_eq!(read("[::1]"), "[::1]:5000");
        assert_eq!(read("[::1]:80"), "[::1]:80");
        for bad in ["", "5000", ":5000", "localhostx", "registry.example:5000", "127.0.0.1:99999", "127.0.0.1:"] {
            assert_eq!(read(bad), "", "{bad}");
        }
    }
}
