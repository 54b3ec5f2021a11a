//! One difference between two images, in the order in which they are found.

use ocibuild::layers::difference::{FileDifference, LayerAspect, LayerChange, LayerDifference, MemberDifference};

/// What is found when two images are compared.
#[derive(Debug)]
pub(super) enum FoundDifference<'a> {
    /// What follows is about the images for a platform.
    Platform(&'a str),
    /// A member of a document.
    Member(&'a MemberDifference),
    /// A layer of one or both images.
    Layer(&'a LayerDifference),
    /// The files are not compared, for a reason.
    Unreadable(&'a str),
    /// A file.
    File(&'a FileDifference),
}

impl FoundDifference<'_> {
    /// Returns whether it makes the images different.
    pub(super) fn counts(&self) -> bool {
        match self {
            FoundDifference::Platform(_) => false,
            // What an unread layer deletes, or what is deleted of it, is unknown.
            FoundDifference::Layer(layer) => layer.change != LayerChange::Same || is_unread(layer),
            FoundDifference::Member(_) | FoundDifference::Unreadable(_) | FoundDifference::File(_) => true,
        }
    }
}

/// Returns whether the entries of a layer are unknown.
pub(super) fn is_unread(layer: &LayerDifference) -> bool {
    layer.reasons.iter().any(|reason| reason.what == LayerAspect::Unread)
}
