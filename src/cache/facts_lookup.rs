//! Looks up facts by the recipe of their layer.

use super::facts::{EnvironmentFacts, LayerFacts};
use super::{Cache, LayerKey, RecipeKey, SharedCache};
use crate::layers::CompressionPolicy;

/// Finds the facts about environments of earlier builds, on this machine and on others.
#[derive(Debug, Clone, Copy)]
pub struct FactsLookup<'a> {
    /// The layers of this machine.
    pub cache: Option<&'a Cache>,
    /// The layers that other machines share.
    pub shared: Option<&'a SharedCache>,
    /// The compression of the image.
    pub policy: CompressionPolicy,
}

impl FactsLookup<'_> {
    /// Returns the facts about the environment whose last layer `recipe` produces.
    pub fn environment(&self, recipe: &RecipeKey) -> Option<EnvironmentFacts> {
        let key = LayerKey::of_recipe(recipe, self.policy);
        let kept = self.cache.and_then(|cache| cache.facts(&key));
        match kept.or_else(|| Some(self.shared?.find(&key, &key)?.shared.facts))? {
            LayerFacts::Environment(facts) => Some(*facts),
            LayerFacts::Secrets { .. } | LayerFacts::None => None,
        }
    }
}
