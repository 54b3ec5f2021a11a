//! A plan as JSON, for `--dry-run`.

use super::{Plan, PythonEnvironment};
use crate::common::error::Result;
use crate::layers::tree::Excluded;
use crate::spec::media_type;
use serde_json::{Value, json};

impl Plan {
    /// Returns the plan as JSON, as printed by `--dry-run`.
    ///
    /// # Errors
    /// Fails if the base's config has members of impossible types.
    pub fn to_json(&self) -> Result<Value> {
        let base_layers: Vec<Value> = self.base.layers().iter().map(crate::spec::Descriptor::to_json).collect();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let mut described = json!({
                    "createdBy": layer.created_by,
                    "mediaType": media_type::of_layer(self.compression.encoding()),
                });
                if let Some(tree) = layer.tree() {
                    described["entries"] = tree.len().into();
                    described["bytes"] = tree.content_size().into();
                }
                described
            })
            .collect();
        Ok(json!({
            "baseLayers": base_layers,
            "compression": self.compression.to_string(),
            "layers": layers,
            "config": self.image.config(&self.base)?,
            "annotations": self.image.annotations,
            "excluded": self.excluded_to_json(),
            "pythonEnvironments": self.python_environments_to_json(),
        }))
    }

    /// Returns the excluded paths, by source, cause and path.
    pub fn excluded(&self) -> impl Iterator<Item = &Excluded> {
        self.layers.iter().flat_map(|layer| &layer.excluded)
    }

    /// Returns the relocated Python environments as JSON: a list with one member for each.
    pub fn python_environments_to_json(&self) -> Value {
        self.python_environments.iter().map(PythonEnvironment::to_json).collect()
    }

    /// Returns the excluded paths as JSON: a list with one member for each source and cause.
    pub fn excluded_to_json(&self) -> Value {
        let all: Vec<&Excluded> = self.excluded().collect();
        let groups = all.chunk_by(|one, other| (&one.source, &one.cause) == (&other.source, &other.cause));
        let described = groups.map(|group| {
            let Excluded { source, cause, path: _ } = group[0];
            let paths: Vec<&str> = group.iter().map(|excluded| excluded.path.as_str()).collect();
            let mut described =
                json!({"source": &**source, "rule": cause.rule(), "count": paths.len(), "paths": paths});
            if let Some(pattern) = cause.pattern() {
                described["pattern"] = pattern.into();
            }
            described
        });
        Value::Array(described.collect())
    }
}
