//! Where blobs live, and the one loop that moves them.
//!
//! An image can be read from an image layout, an archive or a registry, and written to each of them. Whoever stores bytes
//! verifies them: a source hands out what it has, and a sink refuses what does not fit its descriptor.

pub mod archive;
mod bases;
mod completed;
mod copy;
mod directory;
mod image;
mod kept;
pub mod layout;
mod left_out;
mod location;
pub mod registry;
mod seen;
mod select;
mod uniform;
mod verified;
mod verified_files;

pub use crate::name::ImageName;
pub use bases::{BaseStore, Meanings, Pulled, StoredBase};
pub use completed::{BASE_NAME, Complement, MirroredRepository};
pub use copy::{Moved, copy, copy_blobs};
pub use directory::{DirectoryImage, DirectoryWriter};
pub use image::StoredImage;
pub use kept::{BASES, LAYERS};
pub use layout::{Layout, OpenBlob};
pub use left_out::LeftOut;
pub use location::{Location, TRANSPORTS};
pub use seen::Seen;
pub use select::Referrer;
pub use verified::{Verified, read_document};
pub use verified_files::VerifiedFiles;

use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::spec::{Descriptor, Replaced};
use std::io::Read;

/// Opens one blob at its beginning, each time anew: what is sent over a network may have to be sent again.
pub type Opener<'a> = dyn Fn() -> Result<Box<dyn Read + Send + 'a>> + 'a;

/// A place that blobs can be read from.
pub trait BlobSource: Send + Sync {
    /// Opens a blob. The bytes are what the place holds; [`Verified`] proves that they are what the descriptor says.
    ///
    /// # Errors
    /// When the blob is not there or cannot be read.
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>>;

    /// The layout on this machine that the blobs are files of: another layout can share them.
    fn layout(&self) -> Option<&Layout> {
        None
    }

    /// The repository that holds the blob, where that is in a registry: another repository there can mount it.
    fn repository(&self, descriptor: &Descriptor) -> Option<&Reference> {
        let _ = descriptor;
        None
    }

    /// Whether the blob is on this machine, whole. Without it, nothing of what this machine has seen elsewhere is used for it: a
    /// list of digests alone must not bring what they name into another repository.
    ///
    /// # Errors
    /// When the place cannot tell.
    fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        let _ = descriptor;
        Ok(false)
    }

    /// Whether the blob, whose reading just ended with `error`, will come from another place when it is opened again. Each
    /// place is tried once.
    fn has_another(&self, descriptor: &Descriptor, error: &Error) -> bool {
        let _ = (descriptor, error);
        false
    }
}

/// A place that blobs can be written to.
///
/// A put blob is stored under its digest, not necessarily because of this call: putting is idempotent. Nothing refers to
/// it until [`BlobSink::commit`].
pub trait BlobSink: Sync {
    /// Whether the place lists artifacts about an image beside it.
    fn takes_referrers(&self) -> bool {
        false
    }

    /// How many blobs the place takes at once. One that answers 1 gets them sorted by digest.
    fn transfers(&self) -> usize;

    /// Whether the blob is here, whole and verified.
    ///
    /// # Errors
    /// When the place cannot tell.
    fn contains(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Stores the blob that `open` opens.
    ///
    /// # Errors
    /// When the content is not what the descriptor says, or cannot be read or stored. Nothing is stored then.
    fn put(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()>;

    /// Takes the blob over from `repository` without its bytes passing here. Answers whether that worked; it is only ever
    /// an attempt.
    ///
    /// # Errors
    /// When the attempt fails in a way that would also make [`BlobSink::put`] fail.
    fn try_mount(&self, descriptor: &Descriptor, repository: &Reference) -> Result<bool> {
        let _ = (descriptor, repository);
        Ok(false)
    }

    /// Another repository from which [`BlobSink::try_mount`] may take the blob over, as far as this machine has seen.
    fn seen_in(&self, descriptor: &Descriptor) -> Option<Reference> {
        let _ = descriptor;
        None
    }

    /// Whether [`BlobSink::try_share`] can work at all. Where it cannot, no blob is read for it.
    fn shares(&self) -> bool {
        false
    }

    /// Takes the blob over from `layout` without copying its bytes. Answers whether that worked; it is only ever an attempt.
    ///
    /// # Errors
    /// When the attempt fails in a way that would also make [`BlobSink::put`] fail.
    fn try_share(&self, descriptor: &Descriptor, layout: &Layout) -> Result<bool> {
        let _ = (descriptor, layout);
        Ok(false)
    }

    /// Makes `image`, whose blobs have all been put, known under `names`: durable, and visible in one step. Returns the
    /// images that had one of these names before, where the place knows them.
    ///
    /// # Errors
    /// When that is refused; what was there before is then as it was.
    fn commit(&self, image: &StoredImage, names: &[ImageName]) -> Result<Vec<Replaced>>;
}
