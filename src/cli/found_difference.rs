//! One difference between two images, in the order in which they are found.

use ocibuild::layers::difference::{FileDifference, LayerDifference, MemberDifference};

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
