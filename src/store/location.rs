//! Locations of images, and their grammar (`docs/images.md`).
//!
//! ```text
//! oci:DIR[:NAME][@DIGEST]               an image layout
//! oci-archive:FILE[:NAME][@DIGEST]      a tar of one
//! docker-archive:FILE[:NAME][@DIGEST]   what `docker save` writes
//! dir:DIR                               one image in a directory, as skopeo writes it
//! docker-daemon:NAME                    the store of docker on this machine
//! containers-storage:NAME               the store of podman
//! containerd:NAME                       the store of containerd
//! docker://REFERENCE                    a registry
//! ./DIR, ./FILE, with NAME and DIGEST   what is found at the path
//! REFERENCE                             where nothing is found there: a registry
//! ```

use super::layout::{INDEX_FILE, LAYOUT_FILE};
use super::{ContainerEngine, archive, directory};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::root::PathStatus;
use crate::spec::name::split_digest;
use crate::spec::reference::Reference;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A transport and an address, in skopeo's notation.
///
/// The name of an image is its tag, its full name, its digest after `@`, or a name and a digest.
///
/// ```
/// use ocibuild::Location;
///
/// let location: Location = "oci:/srv/images:v1".parse()?;
/// assert_eq!(location, Location::Layout { directory: "/srv/images".into(), tag: Some("v1".to_owned()) });
/// assert_eq!(location.to_string(), "oci:/srv/images:v1");
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `oci:DIR[:NAME]`, an image layout.
    Layout {
        /// The directory.
        directory: PathBuf,
        /// The image in it; `None` selects the only one.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:NAME]`, a tar of an image layout.
    OciArchive {
        /// The tar.
        file: PathBuf,
        /// The image in it; `None` selects the only one.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME]`, what `docker save` writes.
    DockerArchive {
        /// The tar.
        file: PathBuf,
        /// The image in it; `None` selects the only one.
        reference: Option<String>,
    },
    /// `dir:DIR`, the one image of a directory, which has no name there.
    Directory(PathBuf),
    /// `docker-daemon:NAME`, `containers-storage:NAME` or `containerd:NAME`, an image in the store of an engine, by its full name with a tag.
    Engine(ContainerEngine, Reference),
    /// `docker://REFERENCE`, an image in a registry.
    Registry(Reference),
}

/// The transports that can be written, each with the form of its address.
pub const TRANSPORTS: &str = "oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR, docker-daemon:NAME, \
     containers-storage:NAME, containerd:NAME, docker://REFERENCE";

/// Transports of skopeo that are not supported.
const OTHER_TRANSPORTS: [&str; 3] = ["ostree:", "sif:", "tarball:"];

impl Location {
    /// Returns the image that a command reads: a location with its transport, a path where something is, or a reference.
    ///
    /// # Errors
    /// Fails if a path does not contain an image, or the text is neither an existing path nor a reference.
    pub fn of_image(text: &str) -> Result<Location> {
        if let Some(explicit) = explicit(text) {
            return explicit;
        }
        if let Some(local) = local(text)? {
            return Ok(local);
        }
        if looks_like_a_path(text) {
            return Err(Error::new(crate::ErrorKind::NotFound, text, "not found").at_path(text));
        }
        let reference = text.parse().map_err(|error: Error| {
            let reason = format!("neither an existing path nor a reference: {}", error.reason());
            Error::usage(format!("`{text}`"), reason).hint(format!("one of PATH[:NAME], REFERENCE, {TRANSPORTS}"))
        })?;
        Ok(Location::Registry(reference))
    }

    /// Like [`Location::of_image`], for the base of another image: a bare word that names a directory here
    /// and could be a reference is refused.
    ///
    /// # Errors
    /// Fails as [`Location::of_image`], and when the word could be both.
    pub fn of_base(text: &str) -> Result<Location> {
        let location = Location::of_image(text)?;
        let is_bare = explicit(text).is_none() && !looks_like_a_path(text);
        let is_directory = matches!(location, Location::Layout { .. } | Location::Directory(_));
        if is_bare && is_directory && text.parse::<Reference>().is_ok() {
            let reason = "ambiguous: a directory, or an image in a registry";
            return Err(Error::usage(format!("`{text}`"), reason).hint(format!("./{text} or docker://{text}")));
        }
        Ok(location)
    }

    /// Returns the image of a registry. `docker://` is optional.
    ///
    /// # Errors
    /// Fails if the text names another place, or is not a reference.
    pub fn of_registry(text: &str) -> Result<Reference> {
        match explicit(text) {
            Some(Ok(Location::Registry(reference))) => Ok(reference),
            None if !looks_like_a_path(text) => text.parse(),
            Some(Err(error)) => Err(error),
            _ => Err(Error::usage(format!("`{text}`"), "not a registry reference")),
        }
    }

    /// Returns the image layout, or one image of it, that a command checks in place.
    ///
    /// # Errors
    /// Fails if the text names another place.
    pub fn of_layout(text: &OsStr) -> Result<(PathBuf, Option<String>)> {
        let Some(text) = text.to_str() else { return Ok((PathBuf::from(text), None)) };
        let location = match explicit(text) {
            Some(explicit) => explicit?,
            None => match local(text) {
                Ok(Some(local)) => local,
                Ok(None) => at_path(text)?,
                Err(_) if PathStatus::of(Path::new(text))?.is_file() => {
                    return Err(Error::invalid(text, "a file, and no image layout"));
                }
                Err(error) => return Err(error),
            },
        };
        match location {
            Location::Layout { directory, tag } => Ok((directory, tag)),
            other => Err(Error::usage(format!("`{text}`"), "not an image layout")
                .hint(format!("ocibuild export {other} oci:DIR copies it into one"))),
        }
    }

    /// Returns the directory of the image layout that a command builds into, which may not be there yet.
    ///
    /// # Errors
    /// Fails if the text names another place, or an image in a layout.
    pub fn of_new_layout(text: &OsStr) -> Result<PathBuf> {
        // Text that is not Unicode can only be a path.
        let Some(text) = text.to_str() else { return Ok(PathBuf::from(text)) };
        let refused = |reason: &str, hint: String| Err(Error::usage(format!("`{text}`"), reason).hint(hint));
        if text.is_empty() {
            return Err(Error::usage("image layout", "an empty path"));
        }
        if text == "-" {
            return refused(
                "an image is built into a directory",
                "ocibuild layout ./out …, then ocibuild export ./out -".to_owned(),
            );
        }
        let path = match explicit(text) {
            Some(Ok(Location::Layout { directory, tag: None })) => return Ok(directory),
            Some(Ok(Location::Layout { directory, tag: Some(tag) })) => {
                return refused(
                    "names an image of a layout",
                    format!("ocibuild layout {} -t {tag}", directory.display()),
                );
            }
            Some(Ok(_)) => {
                let hint = format!("ocibuild layout ./out …, then ocibuild export ./out {text}");
                return refused("an image is built into an image layout", hint);
            }
            Some(Err(error)) => return Err(error),
            None => Path::new(text),
        };
        if PathStatus::of(path)?.exists() {
            return Ok(path.to_owned());
        }
        // A colon or a host's name in what is not there yet: most likely something else than a directory is meant.
        let present = nearest_existing(path)?;
        let missing = path.strip_prefix(present).unwrap_or(path).to_string_lossy();
        if let Some((directory, name)) = missing.split_once(':') {
            let directory = present.join(directory);
            let hint = match looks_like_a_path(text) || !names_a_host(text) {
                true => format!("ocibuild layout {} -t {name}", directory.display()),
                false => format!("ocibuild layout ./out …, then ocibuild export ./out docker://{text}"),
            };
            return refused("names an image, not a directory", hint);
        }
        if !looks_like_a_path(text) && names_a_host(text) {
            let hint = format!("./{text}; or ocibuild layout ./out …, then ocibuild export ./out docker://{text}");
            return refused("ambiguous: a directory, or an image in a registry", hint);
        }
        Ok(path.to_owned())
    }

    /// Returns the place that a command copies an image to: a location with its transport, or the path of what is there
    /// already.
    ///
    /// # Errors
    /// Fails if the text names nothing that is there, and no transport says what to make.
    pub fn of_destination(text: &str) -> Result<Location> {
        if let Some(explicit) = explicit(text) {
            return explicit;
        }
        if let Some(local) = local(text)? {
            return Ok(local);
        }
        let mut hint = format!("oci:{text} for an image layout, docker-archive:{text} for a tar");
        if !looks_like_a_path(text) && text.parse::<Reference>().is_ok() {
            hint = format!("{hint}, docker://{text} for a registry");
        }
        Err(Error::usage(format!("`{text}`"), "not found, and has no transport").hint(hint))
    }

    /// Returns the place that a build also writes its image to: a location with its transport, or the path of a docker-archive.
    ///
    /// # Errors
    /// Fails if a location with a transport is malformed.
    pub fn of_saved(text: &OsStr) -> Result<Location> {
        let archive = || Ok(Location::DockerArchive { file: PathBuf::from(text), reference: None });
        text.to_str().and_then(explicit).unwrap_or_else(archive)
    }

    /// Returns the path of a file or directory; `None` for a registry or the store of an engine.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Location::Layout { directory, .. } | Location::Directory(directory) => Some(directory),
            Location::OciArchive { file, .. } | Location::DockerArchive { file, .. } => Some(file),
            Location::Engine(..) | Location::Registry(_) => None,
        }
    }
}

/// Returns the location for a text with a transport, or `None` without a transport.
fn explicit(text: &str) -> Option<Result<Location>> {
    let location = |transport| text.strip_prefix(transport).map(|rest| path_and_name(text, rest));
    if let Some(named) = location("oci:") {
        return Some(named.map(|(directory, tag)| Location::Layout { directory, tag }));
    }
    if let Some(named) = location("oci-archive:") {
        return Some(named.map(|(file, tag)| Location::OciArchive { file, tag }));
    }
    if let Some(named) = location("docker-archive:") {
        return Some(named.map(|(file, reference)| Location::DockerArchive { file, reference }));
    }
    if let Some(directory) = text.strip_prefix("dir:") {
        // All of it is a path, as in skopeo.
        return Some(match directory {
            "" => Err(Error::usage(format!("`{text}`"), "has no path")),
            directory => Ok(Location::Directory(PathBuf::from(directory))),
        });
    }
    for engine in [ContainerEngine::Docker, ContainerEngine::Podman, ContainerEngine::Containerd] {
        let rest = text.strip_prefix(engine.transport()).and_then(|rest| rest.strip_prefix(':'));
        if let Some(name) = rest {
            return Some(in_engine(text, name).map(|name| Location::Engine(engine, name)));
        }
    }
    if let Some(rest) = text.strip_prefix("docker://") {
        return Some(rest.parse().map(Location::Registry));
    }
    if text.starts_with("rootfs:") {
        return Some(Err(Error::usage(
            format!("`{text}`"),
            "only `ocibuild export` writes the files of an image to a tar",
        )));
    }
    if let Some(transport) = OTHER_TRANSPORTS.into_iter().find(|transport| text.starts_with(transport)) {
        let reason = format!("the transport `{transport}` is not supported");
        return Some(Err(Error::usage(format!("`{text}`"), reason).hint(format!("one of {TRANSPORTS}"))));
    }
    None
}

/// Returns the full name of an image in the store of an engine.
fn in_engine(whole: &str, name: &str) -> Result<Reference> {
    let refused = |reason: &str, hint: &str| Err(Error::usage(format!("`{whole}`"), reason).hint(hint));
    if name.starts_with('[') {
        return refused("names a store", "podman reads the store from its own configuration");
    }
    if name.parse::<Digest>().is_ok() {
        return refused("images are selected by name, not by ID", "give it one with `docker tag` or `podman tag`");
    }
    let reference: Reference = name.parse().map_err(|error: Error| error.within(format!("`{whole}`")))?;
    if reference.digest().is_some() {
        return refused("images are selected by name, not by digest", "NAME[:TAG]");
    }
    let tag = reference.tag_or_latest();
    Ok(reference.with_tag(tag))
}

/// Returns the image at the path at the start of the text, if there is one.
fn local(text: &str) -> Result<Option<Location>> {
    let (rest, digest) = split_digest(text);
    let mut found: Option<(&str, Location)> = None;
    for end in ends_of_paths(rest) {
        let (path, name) = (&rest[..end], rest.get(end + 1..));
        if path.is_empty() || name == Some("") {
            continue;
        }
        let Some(location) = at(path, selector(name, digest))? else { continue };
        if matches!(location, Location::Directory(_)) && path.len() < text.len() {
            let reason = format!("{path} is a `dir:` directory, which holds one image without a name");
            return Err(Error::usage(format!("`{text}`"), reason));
        }
        if let Some((longer, _)) = found {
            let reason = format!("ambiguous: {longer}, or an image in {path}");
            return Err(
                Error::usage(format!("`{text}`"), reason).hint(format!("for an image in {path}: ./{path}@sha256:…"))
            );
        }
        found = Some((path, location));
    }
    match found {
        Some((_, location)) => Ok(Some(location)),
        None if looks_like_a_path(text) => {
            match first_existing(rest)? {
                // A layout that lost its mark says best itself what is wrong with it.
                Some((_, PathStatus::Directory)) => Ok(Some(at_path(text)?)),
                Some((path, _)) => {
                    let error =
                        Error::invalid(path.display().to_string(), "not an image archive").hint("see `tar -tf`");
                    Err(error.at_path(path))
                }
                None => Ok(None),
            }
        }
        // A file that was meant, and is damaged or of another kind, must not be asked for at a registry.
        None if PathStatus::of(Path::new(text))?.is_file() => {
            Err(Error::usage(format!("`{text}`"), "is a file, but not an image archive")
                .hint(format!("for an image in a registry: docker://{text}")))
        }
        None => Ok(None),
    }
}

/// Returns the image at `path`, by what is there.
///
/// # Errors
/// Fails if the system does not say what is there, or it cannot be read.
fn at(path: &str, selector: Option<String>) -> Result<Option<Location>> {
    let path = PathBuf::from(path);
    match PathStatus::of(&path)? {
        PathStatus::Missing | PathStatus::Other => Ok(None),
        PathStatus::Directory if is_layout(&path)? => Ok(Some(Location::Layout { directory: path, tag: selector })),
        PathStatus::Directory if directory::is_image(&path)? => Ok(Some(Location::Directory(path))),
        PathStatus::Directory => Ok(None),
        PathStatus::File(_) => Ok(archive::detect_form(&path)?.map(|form| match form {
            archive::ArchiveForm::Oci => Location::OciArchive { file: path, tag: selector },
            archive::ArchiveForm::Docker => Location::DockerArchive { file: path, reference: selector },
        })),
    }
}

/// Returns whether a directory is a layout, or was one that lost its mark.
fn is_layout(directory: &Path) -> Result<bool> {
    let status = |name: &str| PathStatus::of(&directory.join(name));
    Ok(status(LAYOUT_FILE)?.is_file() || status(INDEX_FILE)?.is_file() && status("blobs")?.is_directory())
}

/// Returns the nearest directory above `path` that exists.
fn nearest_existing(path: &Path) -> Result<&Path> {
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if PathStatus::of(above)?.exists() {
            return Ok(above);
        }
    }
    Ok(Path::new(""))
}

/// Returns the first of the paths that `text` may begin with that exists.
fn first_existing(text: &str) -> Result<Option<(&Path, PathStatus)>> {
    for path in ends_of_paths(text).map(|end| Path::new(&text[..end])) {
        let status = PathStatus::of(path)?;
        if status.exists() {
            return Ok(Some((path, status)));
        }
    }
    Ok(None)
}

/// Returns the text as the path of a layout, with the name after the first colon.
fn at_path(text: &str) -> Result<Location> {
    let (rest, digest) = split_digest(text);
    let mut found = split_at_colon(rest);
    for end in ends_of_paths(rest) {
        if PathStatus::of(Path::new(&rest[..end]))?.exists() {
            found = (&rest[..end], rest.get(end + 1..));
        }
    }
    let (path, name) = found;
    Ok(Location::Layout { directory: PathBuf::from(path), tag: selector(name, digest) })
}

fn selector(name: Option<&str>, digest: Option<Digest>) -> Option<String> {
    match (name, digest) {
        (None, None) => None,
        (name, None) => name.map(str::to_owned),
        (name, Some(digest)) => Some(format!("{}@{digest}", name.unwrap_or_default())),
    }
}

/// Returns every place where a path can end: the end of the text, and each colon, the last one first.
fn ends_of_paths(text: &str) -> impl Iterator<Item = usize> {
    let start = behind_drive(text);
    std::iter::once(text.len()).chain(text.rmatch_indices(':').map(|(at, _)| at).filter(move |at| *at >= start))
}

/// Returns `true` if the text is a path and cannot be a reference: `.`, `..`, `./a`, `../a`, `/a`, `C:\a`.
fn looks_like_a_path(text: &str) -> bool {
    let (text, _) = split_digest(text);
    let first = text.split(['/', ':']).next().unwrap_or_default();
    matches!(first, "." | ".." | "~") || text.starts_with('/') || behind_drive(text) > 0 || text.contains('\\')
}

/// Returns `true` if the first part is a registry's host in a reference.
fn names_a_host(text: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('/').is_some_and(|(first, _)| match first.rsplit_once(':') {
        Some((_, port)) => is_port(port),
        None => first == "localhost" || first.contains('.'),
    })
}

/// Returns the length of `C:` at the start of a Windows path.
fn behind_drive(text: &str) -> usize {
    let bytes = text.as_bytes();
    let has_drive =
        bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && matches!(bytes[2], b'\\' | b'/');
    if has_drive { 2 } else { 0 }
}

/// Splits `PATH[:NAME]` at the first colon that does not follow a Windows drive letter.
fn split_at_colon(rest: &str) -> (&str, Option<&str>) {
    let start = behind_drive(rest);
    match rest[start..].split_once(':') {
        Some((path, name)) => (&rest[..start + path.len()], Some(name)),
        None => (rest, None),
    }
}

fn path_and_name(whole: &str, rest: &str) -> Result<(PathBuf, Option<String>)> {
    let (rest, digest) = split_digest(rest);
    let (path, name) = split_at_colon(rest);
    if path.is_empty() || name == Some("") {
        return Err(Error::usage(
            format!("`{whole}`"),
            if path.is_empty() { "has no path" } else { "nothing after the colon" },
        ));
    }
    Ok((PathBuf::from(path), selector(name, digest)))
}

/// A location with its transport.
impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        explicit(text).unwrap_or_else(|| {
            Err(Error::usage(format!("`{text}`"), "has no transport").hint(format!("one of {TRANSPORTS}")))
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Location::Layout { directory, tag } => ("oci", directory, tag),
            Location::OciArchive { file, tag } => ("oci-archive", file, tag),
            Location::DockerArchive { file, reference } => ("docker-archive", file, reference),
            Location::Directory(directory) => ("dir", directory, &None),
            Location::Engine(engine, name) => return write!(f, "{}:{name}", engine.transport()),
            Location::Registry(reference) => return write!(f, "docker://{reference}"),
        };
        write!(f, "{transport}:{}", path.display())?;
        match name {
            Some(name) if name.starts_with('@') => write!(f, "{name}"),
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(directory: &str, tag: Option<&str>) -> Location {
        Location::Layout { directory: directory.into(), tag: tag.map(str::to_owned) }
    }

    #[test]
    fn a_transport_says_where_an_image_is() {
        let digest = Digest::of(b"x");
        let parsed = |text: &str| text.parse::<Location>().unwrap();
        assert_eq!(parsed("oci:C:\\out:v1"), layout("C:\\out", Some("v1")));
        assert_eq!(parsed("oci:./out"), layout("./out", None));
        assert_eq!(parsed("oci:out:team/a:v1"), layout("out", Some("team/a:v1")));
        assert_eq!(parsed(&format!("oci:out@{digest}")), layout("out", Some(&format!("@{digest}"))));
        assert_eq!(parsed(&format!("oci:out:v1@{digest}")), layout("out", Some(&format!("v1@{digest}"))));
        let archive = Location::DockerArchive { file: "f.tar".into(), reference: Some("a/b:c".to_owned()) };
        assert_eq!(parsed("docker-archive:f.tar:a/b:c"), archive);
        for text in
            ["oci:out:v1", "oci-archive:f.tar", "docker-archive:f.tar:a/b:c", "dir:a:b", "docker://docker.io/a/b:c"]
        {
            assert_eq!(parsed(text).to_string(), text);
        }
        for bad in ["oci:", "oci:x:", "f.tar", "dir:", "docker://A"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
        let refusal = "ostree:x".parse::<Location>().unwrap_err().to_string();
        assert!(refusal.contains("`ostree:` is not supported"), "{refusal}");
    }

    #[test]
    fn a_bare_word_is_what_is_there_else_a_reference() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out");
        super::super::Layout::create(&out).unwrap();
        let (out, missing) = (out.to_str().unwrap(), scratch.path().join("none"));
        assert_eq!(Location::of_image(out).unwrap(), layout(out, None));
        assert_eq!(Location::of_image(&format!("{out}:team/a:v1")).unwrap(), layout(out, Some("team/a:v1")));
        assert_eq!(
            Location::of_base(&format!("{out}:v1")).unwrap(),
            layout(out, Some("v1")),
            "a path is never a reference"
        );
        assert!(Location::of_image(missing.to_str().unwrap()).unwrap_err().to_string().ends_with("not found"));
        assert_eq!(
            Location::of_image("no-such/name:v1").unwrap(),
            Location::Registry("no-such/name:v1".parse().unwrap())
        );
        assert!(
            Location::of_image("No Such").unwrap_err().to_string().contains("neither an existing path nor a reference")
        );
    }
}
