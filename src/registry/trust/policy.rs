//! The signature policy: the requirements for images by transport and scope.

use super::requirement::{PolicyRequirement, SigstoreSigned};
use super::signature::Signature;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::common::{bounded_read, json};
use crate::spec::reference::Reference;
use crate::store::Location;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest policy that is read, in bytes.
const LARGEST_POLICY: u64 = 1 << 20;

/// A policy file, read.
#[derive(Debug)]
pub struct Policy {
    /// The name in messages.
    file: String,
    default: Vec<PolicyRequirement>,
    /// By transport and scope.
    transports: BTreeMap<String, BTreeMap<String, Vec<PolicyRequirement>>>,
}

/// An image, as the transport that it comes by names it.
#[derive(Debug, Clone)]
pub enum PolicySubject {
    /// In a registry (`docker`).
    Registry(Reference),
    /// An image in a registry (`docker`).
    Repository(Reference),
    /// In a layout or an archive: the transport, the real path, and the tag that was given.
    Path(&'static str, PathBuf, Option<String>),
    /// In the store of an engine: the transport and the full name.
    Engine(&'static str, Reference),
}

/// The transport whose scopes name a store of this machine, too.
const CONTAINERS_STORAGE: &str = "containers-storage";

impl PolicySubject {
    /// Returns the image at `location`, as policies name it.
    pub fn of(location: &Location) -> PolicySubject {
        let real = |path: &Path| Root::resolve(path).unwrap_or_else(|_| path.to_owned());
        match location {
            Location::Registry(reference) => PolicySubject::Registry(reference.clone()),
            Location::Layout { directory, tag } => PolicySubject::Path("oci", real(directory), tag.clone()),
            Location::OciArchive { file, tag } => PolicySubject::Path("oci-archive", real(file), tag.clone()),
            Location::DockerArchive { file, .. } => PolicySubject::Path("docker-archive", real(file), None),
            Location::Engine(engine, name) => PolicySubject::Engine(engine.transport(), name.clone()),
            Location::Directory(directory) => PolicySubject::Path("dir", real(directory), None),
        }
    }

    fn transport(&self) -> &'static str {
        match self {
            PolicySubject::Registry(_) | PolicySubject::Repository(_) => "docker",
            PolicySubject::Path(transport, ..) | PolicySubject::Engine(transport, _) => transport,
        }
    }

    /// Returns the name for messages.
    fn name(&self) -> String {
        match self {
            PolicySubject::Registry(reference) | PolicySubject::Repository(reference) => reference.to_string(),
            PolicySubject::Path(transport, path, _) => format!("{transport}:{}", path.display()),
            PolicySubject::Engine(transport, name) => format!("{transport}:{name}"),
        }
    }

    /// Returns the name that a signature may speak of.
    pub(super) fn reference(&self) -> Option<&Reference> {
        match self {
            PolicySubject::Registry(reference) => Some(reference),
            PolicySubject::Repository(_) | PolicySubject::Path(..) | PolicySubject::Engine(..) => None,
        }
    }

    /// Returns the scopes that it is in, the one that says most first.
    fn scopes(&self) -> Vec<String> {
        match self {
            PolicySubject::Engine(CONTAINERS_STORAGE, _) => Vec::new(),
            PolicySubject::Registry(reference) | PolicySubject::Engine(_, reference) => registry_scopes(reference),
            // A scope of one image says nothing of the others.
            PolicySubject::Repository(reference) => registry_scopes(reference).split_off(1),
            // These transports have one policy each, without scopes.
            PolicySubject::Path("docker-archive", ..) => Vec::new(),
            PolicySubject::Path(_, path, tag) => path_scopes(path, tag.as_deref()),
        }
    }
}

/// Returns the image, its repository, all that contains that, its registry, and the domains of it.
fn registry_scopes(reference: &Reference) -> Vec<String> {
    let repository = reference.clone().without_tag().without_digest();
    let image = match reference.digest() {
        Some(digest) => repository.clone().with_digest(digest),
        None => repository.clone().with_tag(reference.tag_or_latest()),
    };
    let name = repository.to_string();
    let mut scopes = vec![image.to_string(), name.clone()];
    let mut rest = &*name;
    while let Some((above, _)) = rest.rsplit_once('/') {
        scopes.push(above.to_owned());
        rest = above;
    }
    let mut domain = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    while let Some((_, parent)) = domain.split_once('.') {
        scopes.push(format!("*.{parent}"));
        domain = parent;
    }
    scopes
}

/// Returns the image, its directory or file, and all that contains that, without the root.
fn path_scopes(path: &Path, tag: Option<&str>) -> Vec<String> {
    let tagged = tag.map(|tag| format!("{}:{tag}", path.display()));
    let above = path.ancestors().filter(|path| path.parent().is_some()).map(|path| path.display().to_string());
    tagged.into_iter().chain(above).collect()
}

impl Policy {
    /// Reads the policy file at `file`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, and fails as [`Policy::read`] does.
    pub fn open(file: &Path) -> Result<Policy> {
        let object = file.display().to_string();
        Policy::read(&bounded_read::read(Root::open_named_file(file)?, LARGEST_POLICY, &object)?, &object)
    }

    /// Reads the policy that messages call `file`.
    ///
    /// # Errors
    /// Fails if it is malformed, or has unknown members: each could be a requirement that would be ignored.
    pub fn read(bytes: &[u8], file: &str) -> Result<Policy> {
        let document = json::parse(bytes, json::DOCUMENT_DEPTH, file)?;
        let members = object(&document, file)?;
        if let Some(unknown) = members.keys().find(|key| !matches!(key.as_str(), "default" | "transports")) {
            return Err(Error::invalid(file, format!("unknown member `{unknown}`")));
        }
        let default = members.get("default").ok_or_else(|| Error::invalid(file, "no `default`"))?;
        let mut transports = BTreeMap::new();
        if let Some(listed) = members.get("transports") {
            for (transport, scopes) in object(listed, file)? {
                let mut known = BTreeMap::new();
                for (scope, requirements) in object(scopes, file)? {
                    known.insert(scope.clone(), read_requirements(requirements, file)?);
                }
                transports.insert(transport.clone(), known);
            }
        }
        Ok(Policy { file: file.to_owned(), default: read_requirements(default, file)?, transports })
    }

    /// Returns the signature requirements for `subject`, or `None` if it is accepted without a signature.
    ///
    /// # Errors
    /// Fails if it is rejected whatever it is, or a requirement for it cannot be checked by this program.
    pub fn required(&self, subject: &PolicySubject) -> Result<Vec<&SigstoreSigned>> {
        let scopes = self.transports.get(CONTAINERS_STORAGE).filter(|_| subject.transport() == CONTAINERS_STORAGE);
        if scopes.is_some_and(|scopes| scopes.keys().any(|scope| !scope.is_empty())) {
            return Err(self.refused(subject, "has scopes for containers-storage, which cannot be checked here"));
        }
        let (requirements, place) = self.requirements(subject);
        let mut signed = Vec::new();
        for requirement in requirements {
            match requirement {
                PolicyRequirement::Accept => {}
                PolicyRequirement::Signed(requirement) => signed.push(requirement),
                PolicyRequirement::Reject => {
                    return Err(self.refused(subject, &format!("rejects it: `reject` for {place}")));
                }
                PolicyRequirement::Unknown(kind) => {
                    let reason = format!("requires `{kind}` for {place}, which cannot be checked here");
                    return Err(self.refused(subject, &reason));
                }
            }
        }
        Ok(signed)
    }

    /// Requires that `subject` is accepted without a signature, since `reason`.
    ///
    /// # Errors
    /// Fails if it has to be signed; as [`Policy::required`].
    pub fn accept_unsigned(&self, subject: &PolicySubject, reason: &str) -> Result<()> {
        if self.required(subject)?.is_empty() {
            return Ok(());
        }
        let (_, place) = self.requirements(subject);
        Err(self.refused(subject, &format!("requires `sigstoreSigned` for {place}, and {reason}")))
    }

    /// Requires that the manifest `digest` of `subject` is signed as the policy has it.
    ///
    /// # Errors
    /// Fails if it is not; as [`Policy::required`]; when a key cannot be read.
    pub fn check(&self, subject: &PolicySubject, digest: &Digest, signatures: &[Signature]) -> Result<()> {
        for requirement in self.required(subject)? {
            let mut reasons: Vec<String> = Vec::new();
            let is_signed = |reasons: &mut Vec<String>| -> Result<bool> {
                for signature in signatures {
                    match requirement.accepts(signature, subject.reference(), digest, &self.file)? {
                        None => return Ok(true),
                        Some(reason) => reasons.push(reason),
                    }
                }
                Ok(false)
            };
            if !is_signed(&mut reasons)? {
                let (_, place) = self.requirements(subject);
                let why = if reasons.is_empty() { "there is no signature".to_owned() } else { reasons.join("; ") };
                return Err(self.refused(subject, &format!("requires `sigstoreSigned` for {place}: {why}")));
            }
        }
        Ok(())
    }

    /// Returns the requirements for `subject`, with a description of their scope.
    fn requirements(&self, subject: &PolicySubject) -> (&[PolicyRequirement], String) {
        let transport = subject.transport();
        if let Some(known) = self.transports.get(transport) {
            for scope in subject.scopes().iter().map(String::as_str).chain([""]) {
                if let Some(requirements) = known.get(scope) {
                    let place = if scope.is_empty() { "all images" } else { scope };
                    return (requirements, format!("{place} ({transport})"));
                }
            }
        }
        (&self.default, "all images (default)".to_owned())
    }

    fn refused(&self, subject: &PolicySubject, reason: &str) -> Error {
        Error::new(ErrorKind::Denied, subject.name(), format!("{} {reason}", self.file))
            .hint("--signature-policy names another file")
    }
}

fn object<'v>(value: &'v Value, file: &str) -> Result<&'v Map<String, Value>> {
    value.as_object().ok_or_else(|| Error::invalid(file, "expected an object"))
}

fn read_requirements(value: &Value, file: &str) -> Result<Vec<PolicyRequirement>> {
    let list = value.as_array().ok_or_else(|| Error::invalid(file, "expected a list of requirements"))?;
    if list.is_empty() {
        return Err(Error::invalid(file, "a list of requirements is empty"));
    }
    list.iter().map(|requirement| PolicyRequirement::read(object(requirement, file)?, file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(policy: &str, subject: PolicySubject) -> String {
        let read = Policy::read(policy.as_bytes(), "policy.json");
        match read.and_then(|policy| policy.required(&subject).map(|signed| signed.len())) {
            Ok(0) => "accepted".to_owned(),
            Ok(_) => "to be signed".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn image(name: &str) -> PolicySubject {
        PolicySubject::Registry(name.parse().unwrap())
    }

    const POLICY: &str = r#"{
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {
                "reg.io/team": [{"type": "insecureAcceptAnything"}],
                "reg.io/team/evil": [{"type": "reject"}],
                "reg.io/team/evil:good": [{"type": "insecureAcceptAnything"}],
                "reg.io/gpg": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}],
                "reg.io/signed": [{"type": "sigstoreSigned", "keyPath": "/k"}],
                "*.corp": [{"type": "insecureAcceptAnything"}],
                "docker.io/library/debian": [{"type": "insecureAcceptAnything"}]
            },
            "oci": {"": [{"type": "insecureAcceptAnything"}], "/srv/evil": [{"type": "reject"}]},
            "docker-archive": {"": [{"type": "insecureAcceptAnything"}]}
        }
    }"#;

    /// M44: the most specific scope decides.
    #[test]
    fn the_most_specific_scope_decides() {
        for (name, expected) in [
            ("reg.io/team/x:1", "accepted"),
            ("reg.io/team/deep/x", "accepted"),
            ("reg.io/teamx", "rejects it: `reject` for all images (default)"),
            ("reg.io/team/evil:1", "policy.json rejects it: `reject` for reg.io/team/evil (docker)"),
            ("reg.io/team/evil:good", "accepted"),
            ("reg.io/gpg/x", "requires `signedBy` for reg.io/gpg (docker), which cannot be checked here"),
            ("reg.io/signed/x", "to be signed"),
            ("a.b.corp:5000/x", "accepted"),
            ("corp.io/x", "rejects it"),
            ("debian", "accepted"),
            ("ubuntu", "rejects it"),
        ] {
            let said = said(POLICY, image(name));
            assert!(said.contains(expected), "{name}: {said}");
        }
        let path = |transport, path: &str| PolicySubject::Path(transport, PathBuf::from(path), None);
        assert_eq!(said(POLICY, path("oci", "/srv/good")), "accepted");
        assert!(said(POLICY, path("oci", "/srv/evil/deep")).contains("`reject` for /srv/evil (oci)"));
        assert!(said(POLICY, path("oci-archive", "/srv/good.tar")).contains("default"));
        assert_eq!(said(POLICY, path("docker-archive", "/srv/good.tar")), "accepted");
        let engine = |transport| PolicySubject::Engine(transport, "reg.io/team/x:1".parse().unwrap());
        assert!(said(POLICY, engine("docker-daemon")).contains("default"));
        let scoped = POLICY
            .replace("docker-archive", "containers-storage")
            .replace(r#""oci": {"""#, r#""docker-daemon": {"reg.io/team""#);
        assert_eq!(said(&scoped, engine("docker-daemon")), "accepted");
        assert_eq!(said(&scoped, engine("containers-storage")), "accepted");
        let stores = scoped.replace(r#""containers-storage": {"""#, r#""containers-storage": {"[vfs@/srv]""#);
        assert!(said(&stores, engine("containers-storage")).contains("cannot be checked here"));
    }

    #[test]
    fn a_policy_that_is_not_understood_is_refused() {
        for (text, expected) in [
            ("{}", "no `default`"),
            ("[]", "expected an object"),
            (r#"{"default": []}"#, "is empty"),
            (r#"{"default": [{"type": "reject"}], "more": 1}"#, "unknown member `more`"),
            (r#"{"default": [{"type": "reject", "unless": 1}]}"#, "unknown member `unless`"),
            (r#"{"default": [{}]}"#, "without `type`"),
            (r#"{"default": [{"type": "sigstoreSigned"}]}"#, "names no key"),
            (r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/k", "keyData": "eA=="}]}"#, "several"),
            (r#"{"default": [{"type": "trustMe"}]}"#, "requires `trustMe`"),
            (r#"{"default": [{"type": "sigstoreSigned", "fulcio": {}}]}"#, "requires `sigstoreSigned with fulcio`"),
        ] {
            let said = said(text, image("reg.io/x"));
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
