//! Sources and sinks of blobs, and the copy loop between them.
//!
//! An image can be read from an image layout, an archive or a registry, and written to each of them. The code that stores bytes
//! verifies them: a source returns its content unchecked, and a sink refuses content that does not match its descriptor.

pub mod archive;
mod blob_locations;
mod cache_layouts;
mod combined_blobs;
mod copy;
mod directory;
mod engine;
mod engine_version;
pub mod layout;
mod location;
mod platform_index;
mod remote_layers;
pub mod repair;
mod select_image;
mod stored_document;
mod stored_image;
mod stored_index;
mod tar_check;
mod verification_cache;
mod verified_read;
pub mod verify;

pub use crate::spec::name::ImageName;
pub use blob_locations::BlobLocations;
pub use cache_layouts::{BASES, LAYERS};
pub use combined_blobs::CombinedBlobs;
pub use copy::{TransferStats, copy, copy_blobs};
pub use directory::{DirectoryImage, DirectoryWriter};
pub use engine::{ContainerEngine, EngineProgram, EngineStore, Loading};
pub use engine_version::EngineVersion;
pub use layout::{LAYOUT_FILE, Layout, OpenBlob};
pub use location::{Location, TRANSPORTS};
pub use platform_index::PlatformIndex;
pub use remote_layers::RemoteLayers;
pub use select_image::Referrer;
pub use stored_document::{DocumentContent, StoredDocument};
pub use stored_image::StoredImage;
pub use stored_index::StoredIndex;
pub use verification_cache::VerifiedFiles;
pub use verified_read::{Verified, read_document};

use crate::common::error::{Error, Result};
use crate::spec::reference::Reference;
use crate::spec::{Descriptor, Replaced};
use std::io::Read;
use std::ops::Range;

/// Opens one blob at its beginning. It may be called several times, since a network transfer may have to be repeated.
pub type Opener<'a> = dyn Fn() -> Result<Box<dyn Read + Send + 'a>> + 'a;

/// A source of blobs.
pub trait BlobSource: Send + Sync {
    /// Opens a blob. The bytes are not verified; [`Verified`] checks that they match the descriptor.
    ///
    /// # Errors
    /// Fails if the blob is missing or cannot be read.
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>>;

    /// Opens these bytes of a blob, which are not verified. Returns `None` where that takes as long as reading all before them.
    ///
    /// # Errors
    /// Fails if the blob is missing or cannot be read.
    fn open_range(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Option<Box<dyn Read + Send + '_>>> {
        let _ = (descriptor, range);
        Ok(None)
    }

    /// Returns the layout on this machine in which the blob is a file, so that another layout can share it.
    fn layout(&self, _: &Descriptor) -> Option<&Layout> {
        None
    }

    /// Returns the repository that has the blob, if it is in a registry. Another repository of the registry can mount it.
    fn repository(&self, descriptor: &Descriptor) -> Option<&Reference> {
        let _ = descriptor;
        None
    }

    /// Checks whether the blob is on this machine, intact.
    ///
    /// Without it, records of where the blob was seen are not used: a list of digests alone must not copy the named blobs into
    /// another repository.
    ///
    /// # Errors
    /// Fails if this cannot be determined.
    fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        let _ = descriptor;
        Ok(false)
    }

    /// Returns whether the blob, whose last read failed with `error`, comes from another place when it is opened again. Each
    /// place is tried once.
    fn has_another(&self, descriptor: &Descriptor, error: &Error) -> bool {
        let _ = (descriptor, error);
        false
    }
}

/// A sink of blobs.
///
/// A put blob is stored under its digest, not necessarily because of this call: putting is idempotent. Nothing refers to it
/// until [`BlobSink::commit`].
pub trait BlobSink: Sync {
    /// Returns whether the place takes this artifact about an image along with it.
    fn takes_referrer(&self, listed: &Descriptor) -> bool {
        let _ = listed;
        false
    }

    /// Returns the maximum number of concurrent transfers. With 1, blobs arrive sorted by digest.
    fn transfers(&self) -> usize;

    /// Checks whether the sink has the blob, intact and verified.
    ///
    /// # Errors
    /// Fails if this cannot be determined.
    fn contains(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Stores the blob that `open` opens.
    ///
    /// # Errors
    /// Fails if the content does not match the descriptor, or cannot be read or stored. Nothing is stored then.
    fn put(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()>;

    /// Tries to mount the blob from `repository`, without a transfer through this machine. Returns whether that succeeded.
    ///
    /// # Errors
    /// Fails only if [`BlobSink::put`] would fail for the same reason.
    fn try_mount(&self, descriptor: &Descriptor, repository: &Reference) -> Result<bool> {
        let _ = (descriptor, repository);
        Ok(false)
    }

    /// Returns another repository from which [`BlobSink::try_mount`] may mount the blob, as recorded on this machine.
    fn seen_in(&self, descriptor: &Descriptor) -> Option<Reference> {
        let _ = descriptor;
        None
    }

    /// Returns whether [`BlobSink::try_share`] is supported. If not, no blob is read for it.
    fn shares(&self) -> bool {
        false
    }

    /// Tries to clone or link the blob from `layout`, without copying its bytes. Returns whether that succeeded.
    ///
    /// # Errors
    /// Fails only if [`BlobSink::put`] would fail for the same reason.
    fn try_share(&self, descriptor: &Descriptor, layout: &Layout) -> Result<bool> {
        let _ = (descriptor, layout);
        Ok(false)
    }

    /// Commits `image`, all of whose blobs were put, under `names`: durably and atomically. Returns the images that had one of
    /// these names before, if the sink can list them.
    ///
    /// # Errors
    /// Fails if the commit is refused. The previous state is then unchanged.
    fn commit(&self, image: &StoredImage, names: &[ImageName]) -> Result<Vec<Replaced>>;

    /// Commits an index, all of whose manifests and blobs were put, under `names`, as [`BlobSink::commit`] does with an image.
    ///
    /// # Errors
    /// Fails as [`BlobSink::commit`], and if the sink can hold one image only.
    fn commit_index(&self, index: &StoredIndex, names: &[ImageName]) -> Result<Vec<Replaced>> {
        let _ = names;
        Err(Error::usage(index.descriptor.digest.to_string(), "several platforms, and the destination holds one")
            .hint("oci:, oci-archive: and docker:// hold several; --platform selects one"))
    }
}
