//! A recorded environment, as a source of an image's layers.

use super::catalog_file::CatalogFile;
use super::complete_catalog::CompleteCatalog;
use super::contents;
use super::recipe;
use super::requirement::EnvironmentRequirement;
use super::scrub::Scrubbing;
use super::{EnvironmentMode, RobotLayer, Shipping, direct};
use crate::cache::{EnvironmentFacts, FactsLookup, LayerFacts, RecipeKey};
use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::human_numbers::counted;
use crate::common::progress::{Progress, Silent, warn};
use crate::layers::tree::TreeBuilder;
use crate::rcc::{CatalogName, Hololib, Restorer};
use crate::robot_image::environment_facts::WarningRecorder;
use crate::spec::ImagePath;
use std::sync::{Arc, OnceLock};

/// A recorded environment: a catalog and its hololib.
///
/// The catalog is parsed and its objects are examined only when they are needed; a layer in the cache needs neither.
#[derive(Debug)]
pub struct Environment {
    hololib: Hololib,
    name: CatalogName,
    /// The catalog's file in the hololib.
    stored: CatalogFile,
    shipping: Shipping,
    /// The key of everything that determines the bytes of every layer.
    recipe: RecipeKey,
    facts: EnvironmentFacts,
    opened: OnceLock<CompleteCatalog>,
}

impl Environment {
    /// Opens the catalog called `name` of `hololib`, which must fit `required`.
    ///
    /// `known` has the facts of earlier builds, which make it unnecessary to read the catalog.
    ///
    /// # Errors
    /// Returns an error if the catalog is for another platform or another blueprint, if it cannot be read, or if
    /// objects that it names are missing.
    pub fn open(
        hololib: Hololib,
        name: &CatalogName,
        required: &EnvironmentRequirement<'_>,
        shipping: Shipping,
        known: &FactsLookup<'_>,
        watcher: &dyn Progress,
    ) -> Result<Environment> {
        required.check(&hololib, name, shipping.mode)?;
        let stored = CatalogFile::find(&hololib, name)?;
        let recipe = recipe::of_environment(&hololib, name, &stored.digest, &shipping);
        let opened = OnceLock::new();
        let facts = match known.environment(&recipe) {
            Some(facts) => {
                facts.warn_again(watcher);
                facts
            }
            None => {
                let recorder = WarningRecorder::new(watcher);
                let made = CompleteCatalog::new(&hololib, name, &stored, &shipping, &recorder)?;
                let facts = made.facts(&hololib, &shipping, recorder.warnings())?;
                // The cell is new, so it is empty.
                opened.set(made).ok();
                facts
            }
        };
        Ok(Environment { hololib, name: name.clone(), stored, shipping, recipe, facts, opened })
    }

    /// Returns the name of the catalog.
    pub fn name(&self) -> &CatalogName {
        &self.name
    }

    /// Returns the handling of secrets.
    pub(super) fn scrubbing(&self) -> Scrubbing {
        self.shipping.scrubbing
    }

    /// Returns the facts about the environment.
    pub fn facts(&self) -> &EnvironmentFacts {
        &self.facts
    }

    /// Returns the key of everything that determines the environment's layers.
    ///
    /// Returns `None` if the catalog does not determine them: digests that anyone can forge do not identify content.
    pub fn recipe(&self) -> Option<&RecipeKey> {
        (!self.facts.has_forgeable_digests).then_some(&self.recipe)
    }

    /// Returns the layers of the environment, those that rarely change first. All entries are below `roots`.
    pub(super) fn layers(self: &Arc<Self>, roots: &[ImagePath]) -> Vec<RobotLayer> {
        let part = |(name, digest): &'_ (String, Digest)| {
            (name.clone(), recipe::of_part(&self.hololib, digest), LayerFacts::None)
        };
        let parts = self.facts.parts.iter().map(part);
        let last = if self.facts.parts.is_empty() { "" } else { "the rest" };
        // The facts about the environment are stored with its last layer.
        let facts = LayerFacts::Environment(Box::new(self.facts.clone()));
        let all = parts.chain([(last.to_owned(), self.recipe.clone(), facts)]);
        all.enumerate()
            .map(|(part, (name, recipe, facts))| {
                let environment = self.clone();
                let separator = if name.is_empty() { "" } else { ": " };
                RobotLayer {
                    name: format!("environment {}{separator}{name}", self.name),
                    // Digests that anyone can forge do not identify content.
                    recipe: (!self.facts.has_forgeable_digests).then_some((recipe, facts)),
                    roots: roots.to_vec(),
                    entries: Box::new(move |tree| environment.add_part(part, tree)),
                }
            })
            .collect()
    }

    fn opened(&self) -> Result<&CompleteCatalog> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        // The warnings were already repeated from the facts.
        let made = CompleteCatalog::new(&self.hololib, &self.name, &self.stored, &self.shipping, &Silent)?;
        Ok(self.opened.get_or_init(|| made))
    }

    fn add_part(&self, part: usize, tree: &mut TreeBuilder) -> Result<()> {
        let Shipping { mode, places, .. } = &self.shipping;
        contents::add_part(&self.hololib, self.opened()?, part, *mode, places, tree)
    }

    pub(super) fn warn_of_unrewritten_paths(&self, watcher: &dyn Progress) {
        let restorer = self.opened.get().and_then(|opened| opened.restorer.get());
        let unrewritten = restorer.map(Restorer::unrewritten).unwrap_or_default();
        if let Some(first) = unrewritten.first() {
            let reason = format!(
                "a build path that rcc did not list for rewriting is in {}, the first is `{first}`",
                counted(unrewritten.len(), "file")
            );
            warn(watcher, &format!("catalog {}", self.name), &reason);
        }
    }
}

impl CompleteCatalog {
    fn facts(
        &self,
        hololib: &Hololib,
        shipping: &Shipping,
        warnings: Vec<(String, String)>,
    ) -> Result<EnvironmentFacts> {
        let CompleteCatalog { catalog, scrubbed, parts, .. } = self;
        let digest = |part| recipe::part_digest(hololib, (catalog, scrubbed), (parts, part), shipping);
        let names = parts.names().iter().enumerate();
        let parts = names.map(|(part, name)| (name.clone(), digest(part))).collect();
        let activation = match shipping.mode {
            EnvironmentMode::Direct => direct::activation(hololib, self, &shipping.places)?,
            EnvironmentMode::Sealed | EnvironmentMode::Ready | EnvironmentMode::Compact => None,
        };
        Ok(EnvironmentFacts::of(catalog, parts, activation, (warnings, scrubbed.secrets.clone())))
    }
}
