//! The official JSON schemas of the image specification, applied by Python's jsonschema.
//!
//! A judge that shares nothing with us: another language, another reader of JSON, gzip and tar digests. (The Rust
//! crates that know draft 4 of JSON Schema would bring some forty crates with them.)

use crate::support::{Finished, command, python_with, run};
use std::path::{Path, PathBuf};

/// Python with its package `jsonschema`.
pub(crate) struct Schemas {
    python: PathBuf,
}

impl Schemas {
    /// Finds Python.
    pub(crate) fn find() -> Option<Schemas> {
        Some(Schemas { python: python_with("jsonschema")? })
    }

    /// Checks every document of the layout against its schema, every blob against its descriptor, and every layer
    /// against its diff ID. Succeeds, or names every fault on standard output.
    #[track_caller]
    pub(crate) fn check(&self, layout: &Path) -> Finished {
        let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/schema");
        run(command(&self.python).args(["-c", include_str!("schemas.py")]).arg(schemas).arg(layout))
    }
}
