//! An image for an engine of this machine, which pulls it from here and so gets only the layers that it lacks.

use super::server::{RegistryServer, ServerEvent, ServerOptions};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::reference::Reference;
use crate::store::{EngineStore, Layout, StoredImage, TransferStats, VerifiedFiles};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, scope};

/// Lets the engine of `store` pull `image` from a server on this machine, and gives it its `names` there. `verified` is the record of
/// verified blobs.
///
/// Returns `None` if the blobs are not all in one layout of this machine. An engine may refuse to pull, or see another machine where
/// this one is; [`EngineStore::load`] works then, too.
///
/// # Errors
/// Fails if the server cannot be started, or as [`EngineStore::pull`].
pub fn pull_into_engine(
    store: &EngineStore,
    image: &StoredImage,
    names: &[Reference],
    verified: Option<VerifiedFiles>,
) -> Result<Option<TransferStats>> {
    let Some(layout) = layout_of(image) else { return Ok(None) };
    let sent = Arc::new(Mutex::new((0, 0)));
    let noted = sent.clone();
    let note = move |event: ServerEvent<'_>| {
        if let ServerEvent::Pulled(pull) = event {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            *noted = (noted.0 + pull.blobs, noted.1 + pull.bytes);
        }
    };
    let options = ServerOptions { verified, ..ServerOptions::default() };
    let layout = Layout::open(layout.root().path())?;
    let (server, repository) = RegistryServer::bind_image(layout, &digests(image), options, Box::new(note))?;
    let stop = server.stop();
    scope(|scope| {
        let serving = Builder::new().spawn_scoped(scope, || server.run());
        let serving = serving.map_err(|error| Error::io("threads", "start", error))?;
        let source = format!("{repository}@{}", image.descriptor.digest);
        let pulled = store.pull(&source, names, &[image.manifest.config.digest, image.descriptor.digest]);
        stop.stop();
        let served = serving.join().unwrap_or_else(|_| Err(Error::invalid("server", "stopped unexpectedly")));
        pulled.and(served)
    })?;
    let (blobs, copied_bytes) = *sent.lock().unwrap_or_else(PoisonError::into_inner);
    let all = image.manifest.layers.len() + 1;
    let copied = usize::try_from(blobs).unwrap_or(all).min(all);
    Ok(Some(TransferStats { copied, copied_bytes, present: all - copied, ..TransferStats::default() }))
}

/// Returns the layout that has all blobs of the image as files.
fn layout_of(image: &StoredImage) -> Option<&Layout> {
    let layout = image.source.layout(&image.descriptor)?;
    let is_there = |other: Option<&Layout>| other.is_some_and(|other| other.root().path() == layout.root().path());
    let mut blobs = image.manifest.layers.iter().chain([&image.manifest.config]);
    blobs.all(|blob| is_there(image.source.layout(blob))).then_some(layout)
}

fn digests(image: &StoredImage) -> BTreeSet<Digest> {
    let blobs = image.manifest.layers.iter().chain([&image.manifest.config, &image.descriptor]);
    blobs.map(|blob| blob.digest).collect()
}
