//! The copy loop, for all sources and sinks.

use super::{BlobSink, BlobSource, ImageName, Layout, Referrer, StoredImage, Verified};
use crate::common::error::{Error, Result};
use crate::common::human_numbers;
use crate::common::progress::{Activity, Progress, warn};
use crate::common::threads;
use crate::spec::reference::Reference;
use crate::spec::{Descriptor, Replaced, media_type};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Statistics of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferStats {
    /// The number of blobs whose bytes were copied.
    pub copied: usize,
    /// The number of copied bytes.
    pub copied_bytes: u64,
    /// The number of blobs that the sink already had.
    pub present: usize,
    /// The number of blobs that the sink mounted, linked or cloned without a copy.
    pub mounted: usize,
    /// Images that are no longer listed under their names, because the copied image replaced them.
    pub replaced: Vec<Replaced>,
}

/// Copies `image` into `sink` and commits it under `names`. Also copies its referrers if `sink` can list them.
///
/// # Errors
/// Fails if a blob cannot be read, does not match its descriptor, or is refused. The image is then not visible in `sink`.
///
/// ```
/// use ocibuild::{Base, BuildSpec, Layout, Platform, Silent, copy};
/// use std::sync::Arc;
///
/// # let scratch = tempfile::tempdir()?;
/// # let (here, there) = (scratch.path().join("here"), scratch.path().join("there"));
/// let layout = Arc::new(Layout::create(&here)?);
/// let built = BuildSpec::new(Base::Scratch(Platform::linux_amd64())).build(&layout, &[], &Silent)?;
/// let moved = copy(&built.image, &Layout::create(&there)?, &["v1".parse()?], &Silent)?;
/// assert_eq!(moved.present, 0);
/// assert!(ocibuild::verify(&there, &Silent)?.faults.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn copy(
    image: &StoredImage,
    sink: &dyn BlobSink,
    names: &[ImageName],
    progress: &dyn Progress,
) -> Result<TransferStats> {
    // Blobs are copied before the documents that refer to them, even if readers see neither before the commit.
    let mut moved = copy_blobs(&*image.source, &image.manifest.layers, sink, progress)?;
    moved.add(copy_blobs(&*image.source, std::slice::from_ref(&image.manifest.config), sink, progress)?);
    let (taken, left): (Vec<_>, Vec<_>) =
        image.referrers.iter().partition(|referrer| sink.takes_referrer(&referrer.listed));
    for Referrer { listed, blobs } in taken {
        moved.add(copy_blobs(&*image.source, blobs, sink, progress)?);
        moved.add(copy_blobs(&*image.source, std::slice::from_ref(listed), sink, progress)?);
    }
    if !left.is_empty() {
        let reason = format!("{} of the image cannot be stored there", human_numbers::counted(left.len(), "artifact"));
        warn(progress, &image.descriptor.digest.to_string(), &reason);
    }
    moved.replaced = sink.commit(image, names)?;
    Ok(moved)
}

/// Copies the blobs that `sink` lacks, several concurrently if it allows that.
///
/// # Errors
/// Fails if a blob cannot be read, does not match its descriptor, or is refused.
pub fn copy_blobs(
    source: &dyn BlobSource,
    blobs: &[Descriptor],
    sink: &dyn BlobSink,
    progress: &dyn Progress,
) -> Result<TransferStats> {
    // Sorted and unique: the order in an archive must not depend on the order in a manifest.
    let unique: BTreeMap<_, _> = blobs.iter().map(|blob| (blob.digest, blob)).collect();
    let queue: Vec<&Descriptor> = unique.into_values().collect();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Ok(TransferStats::default()));
    let work = || {
        while let Some(blob) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let result = copy_blob(source, blob, sink, progress);
            stop.fetch_or(result.is_err(), Ordering::Relaxed);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *total, result) {
                (Ok(moved), Ok(step)) => moved.add(step),
                (Ok(_), Err(error)) => *total = Err(error),
                (Err(_), _) => {}
            }
        }
    };
    threads::together(sink.transfers().min(queue.len()), work);
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl TransferStats {
    /// Adds the numbers of another copy.
    pub fn add(&mut self, other: TransferStats) {
        let TransferStats { copied, copied_bytes, present, mounted, replaced } = other;
        self.copied += copied;
        self.copied_bytes += copied_bytes;
        self.present += present;
        self.mounted += mounted;
        self.replaced.extend(replaced);
    }
}

fn copy_blob(
    source: &dyn BlobSource,
    blob: &Descriptor,
    sink: &dyn BlobSink,
    progress: &dyn Progress,
) -> Result<TransferStats> {
    if media_type::is_foreign_layer(&blob.media_type) {
        let object = format!("blob {}", blob.digest);
        return Err(Error::invalid(object, "a foreign layer: its license forbids copying").about_blob(&blob.digest));
    }
    let is_there = sink.contains(blob)?;
    if let Some(layout) = source.layout(blob).filter(|_| !is_there && sink.shares())
        && is_whole(layout, blob)
        && sink.try_share(blob, layout)?
    {
        // Not reported, since nothing is copied: the pull of the base has reported its layers.
        return Ok(TransferStats { mounted: 1, ..TransferStats::default() });
    }
    let activity = Activity::start(progress, &format!("copy {}", short(blob)), Some(blob.size));
    if is_there {
        activity.finish("already there");
        return Ok(TransferStats { present: 1, ..TransferStats::default() });
    }
    let mounted = |repository: &Reference| {
        activity.finish(&format!("mounted from {}", repository.repository()));
        Ok(TransferStats { mounted: 1, ..TransferStats::default() })
    };
    if let Some(repository) = source.repository(blob)
        && sink.try_mount(blob, repository)?
    {
        return mounted(repository);
    }
    if let Some(repository) = sink.seen_in(blob)
        && source.holds(blob)?
        && sink.try_mount(blob, &repository)?
    {
        return mounted(&repository);
    }
    loop {
        match sink.put(blob, &|| Ok(Box::new(Watched { source: source.open(blob)?, activity }))) {
            Err(error) if source.has_another(blob, &error) => {}
            done => break done?,
        }
    }
    activity.finish(&human_numbers::size(blob.size));
    Ok(TransferStats { copied: 1, copied_bytes: blob.size, ..TransferStats::default() })
}

/// Verifies that a layout has the blob, by reading it: shared blobs are verified like copied ones.
fn is_whole(layout: &Layout, blob: &Descriptor) -> bool {
    layout.open(blob).is_ok_and(|content| io::copy(&mut Verified::new(content, blob), &mut io::sink()).is_ok())
}

/// Returns the start of a digest, for messages.
fn short(blob: &Descriptor) -> String {
    let text = blob.digest.to_string();
    text.chars().take(19).collect()
}

struct Watched<'a> {
    source: Box<dyn Read + Send + 'a>,
    activity: Activity<'a>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.activity.advance(read as u64);
        Ok(read)
    }
}
