//! A recorded environment, as a source of an image's layer.

use super::contents::{self, rewritten};
use super::facts::{EnvironmentFacts, WarningRecorder};
use super::scrub::{Scrubbed, Scrubbing};
use super::{EnvironmentMode, Places};
use crate::bounded::counted;
use crate::cache::RecipeKey;
use crate::digest::Digest;
use crate::error::Result;
use crate::progress::{Progress, Silent, warn};
use crate::rcc::matching::warn_of_layer;
use crate::rcc::{Catalog, CatalogLimits, CatalogName, EntryKind, Hololib, Restorer};
use crate::tree::{Entry, Owner};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// A recorded environment: a catalog, and the hololib that it is in.
///
/// The catalog is parsed and its objects are looked at when something asks for them; a layer that is in the cache needs
/// neither.
#[derive(Debug)]
pub struct Environment {
    hololib: Hololib,
    name: CatalogName,
    /// The catalog as the hololib has it.
    stored: Vec<u8>,
    scrubbing: Scrubbing,
    /// What decides the bytes of the layer.
    recipe: RecipeKey,
    facts: EnvironmentFacts,
    opened: OnceLock<Opened>,
}

/// A catalog that was read and found complete.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) catalog: Arc<Catalog>,
    /// The catalog as the image will have it.
    pub(super) stored: Arc<[u8]>,
    pub(super) scrubbed: Scrubbed,
    pub(super) restorer: OnceLock<Restorer>,
}

impl Opened {
    fn new(
        hololib: &Hololib,
        name: &CatalogName,
        stored: &[u8],
        scrubbing: Scrubbing,
        watcher: &dyn Progress,
    ) -> Result<Opened> {
        let limits = CatalogLimits::default();
        let catalog = Catalog::read(stored, name, &limits, watcher)?;
        hololib.check_complete(&catalog)?;
        warn_of_layer(&catalog, watcher);
        let scrubbed = Scrubbed::find(hololib, &catalog, scrubbing, watcher)?;
        if scrubbed.is_empty() {
            return Ok(Opened {
                catalog: Arc::new(catalog),
                stored: stored.into(),
                scrubbed,
                restorer: OnceLock::new(),
            });
        }
        let stored = scrubbed.rewrite_catalog(stored, &catalog)?;
        let catalog = Catalog::read(&stored[..], name, &limits, watcher)?;
        Ok(Opened { catalog: Arc::new(catalog), stored: stored.into(), scrubbed, restorer: OnceLock::new() })
    }
}

impl Environment {
    /// Takes the catalog called `name` of `hololib`, to be shipped in `mode` to `places`. `noted` tells what a build before
    /// noted of it, which makes reading it unnecessary.
    ///
    /// # Errors
    /// When the catalog cannot be read, or objects that it names are missing.
    pub fn open(
        hololib: Hololib,
        name: &CatalogName,
        scrubbing: Scrubbing,
        (mode, places): (EnvironmentMode, &Places),
        noted: impl FnOnce(&RecipeKey) -> Option<Value>,
        watcher: &dyn Progress,
    ) -> Result<Environment> {
        let stored = hololib.stored_catalog(name)?;
        let recipe = recipe(&hololib, name, &stored, scrubbing, mode, places);
        let opened = OnceLock::new();
        let facts = match noted(&recipe).and_then(|notes| EnvironmentFacts::read(&notes)) {
            Some(facts) => {
                facts.warn_again(watcher);
                facts
            }
            None => {
                let recorder = WarningRecorder::new(watcher);
                let made = Opened::new(&hololib, name, &stored, scrubbing, &recorder)?;
                let facts = EnvironmentFacts::of(&made.catalog, recorder.warnings());
                opened.set(made).ok();
                facts
            }
        };
        Ok(Environment { hololib, name: name.clone(), stored, scrubbing, recipe, facts, opened })
    }

    /// The name of its catalog.
    pub fn name(&self) -> &CatalogName {
        &self.name
    }

    /// What the catalog says of itself.
    pub fn facts(&self) -> &EnvironmentFacts {
        &self.facts
    }

    /// What decides the environment's layer. Nothing where the catalog does not: digests that anybody can forge fix nothing.
    pub fn recipe(&self) -> Option<&RecipeKey> {
        (!self.facts.has_forgeable_digests).then_some(&self.recipe)
    }

    fn opened(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        // What there was to warn of has been said from the notes.
        let made = Opened::new(&self.hololib, &self.name, &self.stored, self.scrubbing, &Silent)?;
        Ok(self.opened.get_or_init(|| made))
    }

    /// Reads a file of the environment as it will be in `space`.
    ///
    /// # Errors
    /// When there is no such file, it is larger than `limit` bytes, or its object is damaged.
    pub(super) fn read(&self, path: &str, space: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Opened { catalog, scrubbed, .. } = self.opened()?;
        let Some(EntryKind::File(found)) = catalog.entry(path).map(|entry| &entry.kind) else { return Ok(None) };
        if let Some(content) = scrubbed.content(&found.digest) {
            return Ok(Some(rewritten(content, &found.rewrites, space).to_vec()));
        }
        let restorer = Restorer::new(&self.hololib, catalog, space)?;
        crate::bounded::read(restorer.open(path, found)?, limit, path).map(Some)
    }

    /// The entries of the environment's layer.
    pub(super) fn entries(&self, mode: EnvironmentMode, places: &Places) -> Result<Vec<Entry>> {
        contents::entries(&self.hololib, self.opened()?, mode, places)
    }

    pub(super) fn warn_of_unrewritten_paths(&self, watcher: &dyn Progress) {
        let restorer = self.opened.get().and_then(|opened| opened.restorer.get());
        let unrewritten = restorer.map(Restorer::unrewritten).unwrap_or_default();
        if let Some(first) = unrewritten.first() {
            let reason = format!(
                "a build path that rcc did not list stands in {}, the first is `{first}`",
                counted(unrewritten.len(), "file")
            );
            warn(watcher, &format!("catalog {}", self.name), &reason);
        }
    }
}

fn recipe(
    hololib: &Hololib,
    name: &CatalogName,
    stored: &[u8],
    scrubbing: Scrubbing,
    mode: EnvironmentMode,
    places: &Places,
) -> RecipeKey {
    let Places { home, product_home, app, controller, space, user: Owner { uid, gid } } = places;
    let store = hololib.identity();
    // A library that is shipped as it is stored follows from its catalog only as far as its own bytes go.
    let library = match mode {
        EnvironmentMode::Compact => store.as_str(),
        EnvironmentMode::Sealed | EnvironmentMode::Ready | EnvironmentMode::Direct => "",
    };
    let scrubbing: &[u8] = match scrubbing {
        Scrubbing::Warn => b"warn",
        Scrubbing::Overwrite => b"overwrite",
    };
    RecipeKey::new(
        &[
            b"environment 1",
            name.to_string().as_bytes(),
            Digest::of(stored).as_bytes(),
            scrubbing,
            mode.name().as_bytes(),
            home.as_bytes(),
            product_home.as_bytes(),
            app.as_bytes(),
            controller.as_bytes(),
            space.as_bytes(),
            &uid.to_be_bytes(),
            &gid.to_be_bytes(),
            library.as_bytes(),
        ],
        &store,
    )
}
