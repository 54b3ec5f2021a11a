//! The reference registry (distribution) and the one of go-containerregistry (crane), each on a free port of the loopback.

use super::daemon::Daemon;
use crate::support::debian::unpack;
use crate::support::kept::kept;
use crate::support::{Scratch, command, consumer, not_proven, run};
use std::path::{Path, PathBuf};

/// Who may use a registry with a password.
pub(crate) const USER: &str = "alice";
/// Her password.
pub(crate) const PASSWORD: &str = "s3cret";

/// A running registry. Its content goes with it.
pub(crate) struct Registry {
    /// Dropped, and so ended, before its directory.
    _daemon: Daemon,
    scratch: Scratch,
    port: u16,
    /// Whether a blob has to be mounted from one repository into another; crane has one store for all.
    pub(crate) mounts: bool,
}

impl Registry {
    /// Starts one of each kind, speaking HTTP and letting everyone in.
    pub(crate) fn all() -> impl Iterator<Item = Registry> {
        Registry::plain().into_iter().chain(Registry::crane())
    }

    /// Starts the registry that crane has built in. It is in Debian's next release, which is still in the making, so not
    /// having it is no failure.
    fn crane() -> Option<Registry> {
        let program = crane()?;
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.join("storage")).unwrap();
        let mut start = command(program);
        start.args(["registry", "serve", "--address", "127.0.0.1:0", "--disk"]).arg(scratch.join("storage"));
        let mut daemon = Daemon::start(&mut start, scratch.join("log"));
        let port = daemon.wait_for(|log| log.split_once("serving on port ")?.1.split_once('\n')?.0.parse().ok());
        Some(Registry { _daemon: daemon, scratch, port, mounts: false })
    }

    /// Starts a registry that speaks HTTP and lets everyone in.
    pub(crate) fn plain() -> Option<Registry> {
        let program = consumer("docker-registry")?;
        Some(Registry::start(program, Scratch::new(), "", ""))
    }

    /// Starts a read-only registry over HTTP. It has the content of `full`, which ends.
    pub(crate) fn read_only(full: Registry) -> Registry {
        let Registry { _daemon, scratch, .. } = full;
        drop(_daemon);
        let program = consumer("docker-registry").unwrap();
        Registry::start_as(program, scratch, "maintenance: {readonly: {enabled: true}}", "", "")
    }

    /// Starts a registry that speaks HTTP and wants a token of `realm`, signed by whom the certificate in the file `authority`
    /// names.
    pub(crate) fn with_tokens(realm: &str, authority: &Path) -> Option<Registry> {
        let program = consumer("docker-registry")?;
        let auth = format!(
            "auth:\n  token: {{realm: '{realm}', service: test, issuer: test-issuer, rootcertbundle: {}}}\n",
            authority.display()
        );
        Some(Registry::start(program, Scratch::new(), "", &auth))
    }

    /// Starts a registry that speaks HTTP and asks for [`USER`] and [`PASSWORD`].
    pub(crate) fn with_password() -> Option<Registry> {
        let (program, htpasswd) = (consumer("docker-registry")?, consumer("htpasswd")?);
        let scratch = Scratch::new();
        // bcrypt (-B) is the only kind that the registry takes.
        let line = run(command(htpasswd).args(["-B", "-b", "-n", USER, PASSWORD])).success();
        let passwords = scratch.write("passwords", line.stdout);
        let auth = format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", passwords.display());
        Some(Registry::start(program, scratch, "", &auth))
    }

    /// Starts a registry that speaks HTTPS, with a certificate that only [`Registry::certificates`] vouches for.
    pub(crate) fn with_tls() -> Option<Registry> {
        let (program, openssl) = (consumer("docker-registry")?, consumer("openssl")?);
        let scratch = Scratch::new();
        let in_scratch = |arguments: &str| {
            run(command(&openssl).current_dir(scratch.path()).args(arguments.split(' '))).success();
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout";
        in_scratch(&format!("req -x509 {key} ca.key -out ca.crt -days 2 -subj /CN=test-authority"));
        in_scratch(&format!("req {key} own.key -out own.csr -subj /CN=localhost"));
        scratch.write("names", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
        in_scratch(
            "x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out own.crt",
        );
        std::fs::create_dir(scratch.join("certificates")).unwrap();
        std::fs::copy(scratch.join("ca.crt"), scratch.join("certificates/ca.crt")).unwrap();
        let directory = scratch.path().display();
        let tls = format!("  tls: {{certificate: {directory}/own.crt, key: {directory}/own.key}}\n");
        Some(Registry::start(program, scratch, &tls, ""))
    }

    fn start(program: PathBuf, scratch: Scratch, tls: &str, auth: &str) -> Registry {
        Registry::start_as(program, scratch, "delete: {enabled: true}", tls, auth)
    }

    fn start_as(program: PathBuf, scratch: Scratch, storing: &str, tls: &str, auth: &str) -> Registry {
        let storage = scratch.join("storage");
        let config = scratch.write(
            "config.yml",
            format!(
                "version: 0.1\n\
                 log: {{level: info}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}, {storing}}}\n\
                 http:\n  addr: 127.0.0.1:0\n{tls}{auth}",
                storage.display()
            ),
        );
        let mut daemon = Daemon::start(command(program).arg("serve").arg(config), scratch.join("log"));
        let port = daemon.wait_for(|log| {
            let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
            let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
            rest[..digits].parse().ok()
        });
        Registry { _daemon: daemon, scratch, port, mounts: true }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory with the certificate of the authority, as `--cert-dir` options take it.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.scratch.join("certificates")
    }
}

/// Finds the program `crane`, which is in Debian's next release only.
pub(crate) fn crane() -> Option<PathBuf> {
    let package = kept("crane-of-forky-1", |scratch| {
        let root = scratch.join("root");
        let unpacked = unpack("forky", "crane", &root)?;
        (unpacked.status == 0).then_some(root)
    });
    if package.is_none() {
        not_proven(
            "crane cannot be had, so not proven here: that it reads our images, and that its registry takes them",
        );
    }
    package.map(|package| package.join("usr/bin/crane"))
}
