//! Sparse images: layers that stay in a registry although their image is in a layout.

use crate::common::digest::Digest;
use crate::spec::Descriptor;
use crate::spec::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};

/// The annotation in `index.json` that names an image's remote layers, as references with digests. It is not stored in the
/// image, whose bytes do not depend on where its layers are.
const LEFT_OUT: &str = "dev.ocibuild.layers.left-out";

/// The remote layers of an image, and the repositories that have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteLayers(BTreeMap<Digest, Reference>);

impl RemoteLayers {
    /// Parses the remote layers in an entry of `index.json`. A malformed reference is ignored, so its layer counts as missing.
    pub fn of(listed: &Descriptor) -> RemoteLayers {
        let named = listed.annotations.get(LEFT_OUT).map(String::as_str).unwrap_or_default();
        let references = named.split_ascii_whitespace().filter_map(|text| text.parse::<Reference>().ok());
        RemoteLayers(
            references.filter_map(|reference| Some((reference.digest()?, reference.without_digest()))).collect(),
        )
    }

    /// Adds a layer that `repository` has.
    pub fn insert(&mut self, layer: Digest, repository: &Reference) {
        self.0.insert(layer, repository.clone().without_tag().without_digest());
    }

    /// Returns the repository of the layer.
    pub fn repository(&self, layer: &Digest) -> Option<&Reference> {
        self.0.get(layer)
    }

    /// Returns every layer with its repository.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &Reference)> {
        self.0.iter()
    }

    /// Returns whether there are no remote layers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all layers of `other`.
    pub fn extend(&mut self, other: RemoteLayers) {
        self.0.extend(other.0);
    }

    /// Removes the layers in `needed`.
    #[must_use]
    pub fn without(mut self, needed: &BTreeSet<Digest>) -> RemoteLayers {
        self.0.retain(|layer, _| !needed.contains(layer));
        self
    }

    /// Makes the remote layers, if any, the only ones in the entry of an image.
    pub(super) fn note_alone_in(&self, mut listed: Descriptor) -> Descriptor {
        listed.annotations.remove(LEFT_OUT);
        self.note_in(listed)
    }

    /// Adds the remote layers, if any, to the entry of an image.
    pub(super) fn note_in(&self, listed: Descriptor) -> Descriptor {
        if self.0.is_empty() {
            return listed;
        }
        let named: Vec<String> =
            self.0.iter().map(|(digest, repository)| repository.clone().with_digest(*digest).to_string()).collect();
        listed.annotated(LEFT_OUT, named.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again() {
        let mut left_out = RemoteLayers::default();
        left_out.insert(Digest::of(b"one"), &"reg.io:5000/team/base:v1".parse().unwrap());
        left_out.insert(Digest::of(b"two"), &"debian".parse().unwrap());
        let listed = left_out.note_in(Descriptor::of("m", b"image"));
        assert_eq!(RemoteLayers::of(&listed), left_out);
        let repository = left_out.repository(&Digest::of(b"one")).unwrap();
        assert_eq!(repository.to_string(), "reg.io:5000/team/base");
        assert_eq!(RemoteLayers::default().note_in(Descriptor::of("m", b"image")), Descriptor::of("m", b"image"));
    }

    #[test]
    fn what_cannot_be_read_is_not_left_out() {
        let listed = Descriptor::of("m", b"image").annotated(LEFT_OUT, "reg.io/team/base ../x@sha256:1 \u{1b}[31m");
        assert_eq!(RemoteLayers::of(&listed), RemoteLayers::default());
    }
}
