//! Mirrors of registries: those that the user names, and those in the `registries.conf` of podman and skopeo.

use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::spec::reference::Reference;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The largest configuration file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// A registry, or a path in one, and the location of its mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `HOST[:PORT][/PATH]`: what the names begin with. `*.HOST` is every host below it.
    prefix: String,
    /// `HOST[:PORT][/PATH]`: what they begin with there.
    location: String,
    tls: Tls,
    /// The references for which the mirror is used.
    takes: Takes,
}

/// The kinds of references for which a mirror is used. A tag can have another digest there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    All,
    Digests,
    Tags,
}

/// A location of an image: its registry, or a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name at the mirror.
    pub reference: Reference,
    /// The TLS requirements.
    pub tls: Tls,
}

/// The TLS requirements for a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// A valid certificate. One on this machine may speak plain HTTP.
    Required,
    /// Neither TLS nor a valid certificate is required.
    Insecure,
}

/// A rule of `registries.conf` for a prefix of names (containers-registries.conf(5), version 2).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    prefix: String,
    /// The mirrors, and last the place itself.
    places: Vec<Mirror>,
    blocked: bool,
}

/// Parses `HOST` or `HOST:PORT`, in lower case.
///
/// # Errors
/// Returns an error if it is not the name of a registry.
pub fn parse_host(text: &str) -> Result<String> {
    if text.contains('/') {
        return Err(Error::usage(format!("`{text}`"), "not a registry").hint("HOST or HOST:PORT"));
    }
    check_name(text)?;
    Ok(text.to_ascii_lowercase())
}

/// Any repository below `HOST[:PORT][/PATH]` must be a reference to this very host, and not one on Docker Hub.
fn check_name(name: &str) -> Result<()> {
    let host = name.split('/').next().unwrap_or_default();
    let below = format!("{name}/x").parse::<Reference>()?;
    if below.registry() != host.to_ascii_lowercase() {
        return Err(Error::usage(format!("`{host}`"), "not a registry"));
    }
    Ok(())
}

/// Returns the endpoints of `reference`, in order: the mirrors in `given`, then those that `files` configure. Without a rule in
/// `files`, the registry itself is the last one. Later files replace rules of earlier ones.
///
/// # Errors
/// Fails if a file cannot be read or is malformed, or the registry is blocked.
pub fn endpoints(reference: &Reference, given: &[Mirror], files: &[PathBuf]) -> Result<Vec<Endpoint>> {
    let name = name_of(reference);
    let best = rule_for(&name, files)?;
    let given = given.iter().filter(|mirror| below(&name, &mirror.prefix).is_some());
    let own = [Endpoint { reference: reference.clone(), tls: Tls::Required }];
    let configured: Vec<Endpoint> = match best {
        Some(rule) => rule
            .places
            .iter()
            .filter(|mirror| mirror.takes(reference))
            .map(|m| m.place_of(reference))
            .collect::<Result<_>>()?,
        None => own.into(),
    };
    given.map(|mirror| mirror.place_of(reference)).chain(configured.into_iter().map(Ok)).collect()
}

/// Returns the TLS requirements for the registry of `name` (`HOST[:PORT]`, with or without a path) itself, not for its mirrors:
/// for a push, a login, or a cache.
///
/// # Errors
/// Fails if a file cannot be read or is malformed, or the registry is blocked.
pub fn tls_for(name: &str, files: &[PathBuf]) -> Result<Tls> {
    let own = rule_for(name, files)?.and_then(|rule| rule.places.last().map(|place| place.tls));
    Ok(own.unwrap_or(Tls::Required))
}

/// Returns the rule of the files for `name`; of several rules the one with the longest prefix.
fn rule_for(name: &str, files: &[PathBuf]) -> Result<Option<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for file in files {
        for rule in read(file)? {
            rules.retain(|known| known.prefix != rule.prefix);
            rules.push(rule);
        }
    }
    let about = rules.into_iter().filter(|rule| below(name, &rule.prefix).is_some());
    match about.max_by_key(|rule| rule.prefix.len()) {
        Some(rule) if rule.blocked => Err(Error::new(ErrorKind::Denied, name, "blocked by registries.conf")),
        rule => Ok(rule),
    }
}

impl Mirror {
    /// Returns a mirror for everything below `prefix`; both are `HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// Returns an error if one of them does not begin with the name of a registry.
    pub fn new(prefix: &str, location: &str) -> Result<Mirror> {
        for name in [prefix, location] {
            check_name(name)?;
        }
        let (prefix, location) = (prefix.to_ascii_lowercase(), location.to_owned());
        Ok(Mirror { prefix, location, tls: Tls::Required, takes: Takes::All })
    }

    fn takes(&self, reference: &Reference) -> bool {
        match self.takes {
            Takes::All => true,
            Takes::Digests => reference.digest().is_some(),
            Takes::Tags => reference.digest().is_none(),
        }
    }

    /// Returns the name of `reference` at the mirror.
    fn place_of(&self, reference: &Reference) -> Result<Endpoint> {
        let name = name_of(reference);
        let rest = below(&name, &self.prefix).unwrap_or_default();
        let start = if self.location.is_empty() { &name[..name.len() - rest.len()] } else { &self.location };
        let mut place: Reference = format!("{start}{rest}").parse()?;
        if let Some(tag) = reference.tag() {
            place = place.with_tag(tag.clone());
        }
        if let Some(digest) = reference.digest() {
            place = place.with_digest(digest);
        }
        Ok(Endpoint { reference: place, tls: self.tls })
    }
}

fn name_of(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Returns the rest after `prefix`, if `prefix` ends at a component.
fn below<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    if let Some(parent) = prefix.strip_prefix('*') {
        let host = &name[..name.find('/').unwrap_or(name.len())];
        return host.ends_with(parent).then(|| &name[host.len()..]);
    }
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the rules of one file; none if the file does not exist.
fn read(file: &Path) -> Result<Vec<Rule>> {
    let object = file.display().to_string();
    let opened = match Root::open_named_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let text = String::from_utf8(bounded_read::read(opened, LARGEST, &object)?)
        .map_err(|_| Error::invalid(&object, "not UTF-8"))?;
    parse(&text).map_err(|error| error.within(object))
}

fn parse(text: &str) -> Result<Vec<Rule>> {
    let document: Table = text.parse().map_err(|error: toml::de::Error| Error::invalid("TOML", error.message()))?;
    tables(&document, "registry")?.into_iter().map(rule).collect()
}

fn rule(table: &Table) -> Result<Rule> {
    let location = string(table, "location")?.unwrap_or_default();
    let prefix = string(table, "prefix")?.unwrap_or(location).to_ascii_lowercase();
    if prefix.is_empty() {
        return Err(Error::invalid("`registry`", "neither `prefix` nor `location`"));
    }
    let digests_only = flag(table, "mirror-by-digest-only")?;
    let mut places = Vec::new();
    for mirror in tables(table, "mirror")? {
        let location = string(mirror, "location")?.unwrap_or_default();
        let takes = match string(mirror, "pull-from-mirror")? {
            Some("digest-only") => Takes::Digests,
            Some("tag-only") => Takes::Tags,
            None if digests_only => Takes::Digests,
            Some("all") | None => Takes::All,
            Some(other) => return Err(Error::invalid("`pull-from-mirror`", format!("`{other}` is unknown"))),
        };
        check_name(location).map_err(|error| error.within("`registry.mirror`"))?;
        places.push(place(&prefix, location, mirror, takes)?);
    }
    places.push(place(&prefix, location, table, Takes::All)?);
    Ok(Rule { blocked: flag(table, "blocked")?, prefix, places })
}

fn place(prefix: &str, location: &str, table: &Table, takes: Takes) -> Result<Mirror> {
    let tls = if flag(table, "insecure")? { Tls::Insecure } else { Tls::Required };
    Ok(Mirror { prefix: prefix.to_owned(), location: location.to_owned(), tls, takes })
}

fn tables<'t>(parent: &'t Table, key: &str) -> Result<Vec<&'t Table>> {
    let wrong = || Error::invalid(format!("`{key}`"), "expected tables");
    match parent.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_table().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

fn string<'t>(table: &'t Table, key: &str) -> Result<Option<&'t str>> {
    let wrong = || Error::invalid(format!("`{key}`"), "expected a string");
    table.get(key).map(|value| value.as_str().ok_or_else(wrong)).transpose()
}

fn flag(table: &Table, key: &str) -> Result<bool> {
    let wrong = || Error::invalid(format!("`{key}`"), "expected true or false");
    table.get(key).map_or(Ok(false), |value| value.as_bool().ok_or_else(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mirror: &str, reference: &str) -> String {
        let reference = reference.parse().unwrap();
        let (prefix, location) = mirror.split_once('=').unwrap();
        let places = endpoints(&reference, &[Mirror::new(prefix, location).unwrap()], &[]).unwrap();
        assert_eq!(places.last().unwrap().reference, reference);
        if places.len() == 1 { "(none)".to_owned() } else { places[0].reference.to_string() }
    }

    #[test]
    fn a_mirror_replaces_a_registry_or_a_path_in_it() {
        assert_eq!(place("docker.io=mirror.io", "debian:stable"), "mirror.io/library/debian:stable");
        assert_eq!(place("docker.io=localhost:5000/hub", "team/x"), "localhost:5000/hub/team/x");
        assert_eq!(place("docker.io/library=m.io/base", "debian:1"), "m.io/base/debian:1");
        assert_eq!(place("docker.io/lib=m.io", "debian:1"), "(none)");
        assert_eq!(place("reg.io=m.io", "reg.io:5000/x"), "(none)");
        let pinned = format!("reg.io/x:1@sha256:{}", "0".repeat(64));
        assert_eq!(place("reg.io=m.io", &pinned), pinned.replace("reg.io", "m.io"));
    }

    #[test]
    fn what_is_no_registry_is_no_mirror() {
        let wrong =
            [("hub", "m.io"), ("docker.io", "mirror"), ("docker.io", ""), ("", "m.io"), ("docker.io", "https://m.io")];
        for (prefix, location) in wrong {
            assert!(Mirror::new(prefix, location).is_err(), "{prefix}={location}");
        }
    }

    /// Returns the locations of `reference` for a machine with these files.
    fn asked(files: &[&str], reference: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let write = |(number, text): (usize, &&str)| {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, text).unwrap();
            path
        };
        let files: Vec<PathBuf> = files.iter().enumerate().map(write).collect();
        match endpoints(&reference.parse().unwrap(), &[], &files) {
            Ok(places) => {
                let plain = |place: &Endpoint| if place.tls == Tls::Insecure { " (insecure)" } else { "" };
                let all: Vec<String> =
                    places.iter().map(|place| format!("{}{}", place.reference, plain(place))).collect();
                all.join(", ")
            }
            Err(error) => error.to_string(),
        }
    }

    const FILE: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.io/hub"
        insecure = true
        [[registry.mirror]]
        location = "exact.io"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/evil"
        location = "docker.io/evil"
        blocked = true
        [[registry]]
        prefix = "*.old.example"
        location = "new.example:5000/old"
    "#;

    #[test]
    fn the_configuration_of_podman_and_skopeo_is_followed() {
        assert_eq!(asked(&[], "debian:1"), "docker.io/library/debian:1");
        assert_eq!(asked(&[FILE], "debian:1"), "mirror.io/hub/library/debian:1 (insecure), docker.io/library/debian:1");
        let digest = format!("@sha256:{}", "0".repeat(64));
        let three = asked(&[FILE], &format!("debian{digest}"));
        assert!(three.contains(&format!("exact.io/library/debian{digest}, ")), "{three}");
        assert!(asked(&[FILE], "docker.io/evil/x:1").contains("blocked by"));
        assert!(!asked(&[FILE], "docker.io/evilx/x:1").contains("blocked by"));
        assert_eq!(asked(&[FILE], "a.old.example/x:1"), "new.example:5000/old/x:1");
        assert_eq!(asked(&[FILE], "reg.io/x:1"), "reg.io/x:1");
        // A later file has its own word about the same names.
        assert_eq!(asked(&[FILE, "[[registry]]\nprefix = 'docker.io'"], "debian:1"), "docker.io/library/debian:1");
    }

    #[test]
    fn a_malformed_configuration_is_named() {
        for (text, expected) in [
            ("[[registry", "0: TOML: "),
            ("registry = 1", "`registry`: expected tables"),
            ("[[registry]]", "neither `prefix` nor `location`"),
            ("[[registry]]\nlocation = 1", "`location`: expected a string"),
            ("[[registry]]\nlocation = 'a.io'\nblocked = 'yes'", "`blocked`: expected true or false"),
            ("[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\nlocation = 'hub'", "not a registry"),
        ] {
            let said = asked(&[text], "a.io/x");
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
