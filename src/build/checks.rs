//! Checks for contradictory requests.

use super::{LayerSpec, SourceContent};
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use crate::store::ImageName;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Checks that no name is given twice.
///
/// # Errors
/// Fails if two names are the same.
pub fn check_names(names: &[ImageName]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => Err(Error::usage(format!("tag `{twice}`"), "given twice")),
        None => Ok(()),
    }
}

/// Excludes the outputs of a command from the directories that it reads. `outputs` are paths, each with a description for
/// messages.
///
/// # Errors
/// Fails if an output is a source itself.
pub fn exclude_outputs(layers: &mut [LayerSpec], outputs: &[(&Path, &str)]) -> Result<()> {
    for source in layers.iter_mut().flat_map(|layer| &mut layer.sources) {
        let (SourceContent::Directory(root) | SourceContent::DirectoryContent(root)) = &source.content else {
            continue;
        };
        for (output, what) in outputs {
            match Root::path_inside(root.path(), output) {
                Some(inside) if inside == PathBuf::new() => {
                    let reason = format!("is both {what} and a source of --copy");
                    return Err(Error::invalid(output.display().to_string(), reason));
                }
                Some(inside) => source.rules.ignore.exclude_output(inside, what),
                None => {}
            }
        }
    }
    Ok(())
}
