//! Finding the layers of an image that its layout does not hold.

use super::{Fallback, MirroredRepository, Repository};
use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::progress::Progress;
use crate::spec::Descriptor;
use crate::spec::reference::Reference;
use crate::store::{RemoteLayers, StoredImage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Repositories that may have the layers that are missing from the layout.
#[derive(Debug, Clone, Copy)]
pub struct LayerSources<'p> {
    /// The repositories that a build on this machine recorded.
    pub recorded: &'p RemoteLayers,
    /// The repositories that the command line names.
    pub named: &'p [Reference],
    /// The registries that the image goes to, which can mount what they hold.
    pub registries: &'p [&'p str],
}

impl LayerSources<'_> {
    /// Adds the repositories to `image` that have its missing layers, or that save an upload.
    ///
    /// Repositories that only its layout names are not used: the author of the layout could choose where the user's credentials
    /// are sent.
    ///
    /// `mirrored` opens a repository with its mirrors, `own` opens one without.
    ///
    /// # Errors
    /// Returns an error if a repository cannot be opened, or does not answer whether it has a layer.
    pub fn add_to(
        self,
        image: StoredImage,
        mirrored: impl Fn(&Reference) -> Result<Arc<MirroredRepository>>,
        own: impl Fn(&Reference) -> Result<Arc<Repository>>,
        progress: &Arc<dyn Progress + Send>,
    ) -> Result<StoredImage> {
        let LayerSources { recorded, named, registries } = self;
        if image.source.repository(&image.descriptor).is_some() {
            return Ok(image);
        }
        let absent: Vec<Descriptor> = image.absent_layers().cloned().collect();
        let is_absent = |layer: &Digest| absent.iter().any(|absent| absent.digest == *layer);
        let mut complement = Fallback::default();
        let mut known: BTreeMap<Reference, Arc<MirroredRepository>> = BTreeMap::new();
        for (layer, name) in recorded.iter() {
            if !is_absent(layer) && !registries.contains(&name.registry()) {
                continue;
            }
            let repository = match known.get(name) {
                Some(repository) => repository.clone(),
                None => mirrored(name).map_err(|error| error.within("layers not downloaded"))?,
            };
            known.insert(name.clone(), repository.clone());
            complement.blobs.insert(*layer, repository);
        }
        let unknown = || absent.iter().filter(|layer| recorded.repository(&layer.digest).is_none());
        if unknown().next().is_none() {
            return Ok(image.with_fallback(complement));
        }
        for name in named {
            let repository = own(name)?;
            let mirrored = MirroredRepository::new(name.clone(), vec![repository.clone()], progress.clone());
            let mirrored = Arc::new(mirrored);
            for layer in unknown() {
                if !complement.blobs.contains_key(&layer.digest) && repository.offers(layer)? {
                    complement.blobs.insert(layer.digest, mirrored.clone());
                }
            }
        }
        let said = RemoteLayers::of(&image.descriptor);
        let said = unknown().find_map(|layer| said.repository(&layer.digest));
        complement.advice = Some(match said {
            Some(said) => {
                format!("the layout records {said} as its source; if you trust it: --complete-from docker://{said}")
            }
            None => "fetch it with --complete-from docker://REPOSITORY".to_owned(),
        });
        Ok(image.with_fallback(complement))
    }
}
