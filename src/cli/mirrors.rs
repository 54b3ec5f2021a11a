//! Registries that hold what another one does, asked before it.

use ocibuild::{Error, Reference, Result};

/// A registry, or a path in one, and where its content is as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    /// `HOST[:PORT][/PATH]`: what the names begin with.
    prefix: String,
    /// `HOST[:PORT][/PATH]`: what they begin with there.
    location: String,
}

/// Reads `HOST=MIRROR`.
pub(super) fn given(text: &str) -> Result<Mirror> {
    let object = || format!("--mirror {text}");
    let (prefix, location) = text.split_once('=').ok_or_else(|| Error::usage(object(), "expected HOST=MIRROR"))?;
    for part in [prefix, location] {
        // Any repository below it must be a reference to this very host, and not one on Docker Hub.
        let host = part.split('/').next().unwrap_or_default();
        let below = format!("{part}/x").parse::<Reference>().map_err(|error| error.within(object()))?;
        if below.registry() != host.to_ascii_lowercase() {
            return Err(Error::usage(object(), format!("`{host}` is not a registry")));
        }
    }
    Ok(Mirror { prefix: prefix.to_ascii_lowercase(), location: location.to_owned() })
}

/// The mirrors for `reference`, in order.
pub(super) fn of<'m>(reference: &Reference, mirrors: &'m [Mirror]) -> impl Iterator<Item = &'m Mirror> {
    let name = name_of(reference);
    mirrors.iter().filter(move |mirror| below(&name, &mirror.prefix).is_some())
}

impl Mirror {
    /// What `reference` is called in the mirror.
    pub(super) fn place_of(&self, reference: &Reference) -> Result<Reference> {
        let name = name_of(reference);
        let rest = below(&name, &self.prefix).unwrap_or_default();
        let place: Reference = format!("{}{rest}", self.location).parse()?;
        let place = match reference.tag() {
            Some(tag) => place.with_tag(tag.clone()),
            None => place,
        };
        Ok(match reference.digest() {
            Some(digest) => place.with_digest(digest),
            None => place,
        })
    }
}

fn name_of(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// What stands behind `prefix`, where that ends at a component.
fn below<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mirror: &str, reference: &str) -> String {
        let mirror = given(mirror).unwrap();
        let reference = reference.parse().unwrap();
        match of(&reference, &[mirror]).next() {
            Some(mirror) => mirror.place_of(&reference).unwrap().to_string(),
            None => "(none)".to_owned(),
        }
    }

    #[test]
    fn a_mirror_stands_for_a_registry_or_a_path_in_it() {
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
        for wrong in ["docker.io", "hub=m.io", "docker.io=mirror", "docker.io=", "=m.io", "docker.io=https://m.io"] {
            assert!(given(wrong).is_err(), "{wrong}");
        }
    }
}
