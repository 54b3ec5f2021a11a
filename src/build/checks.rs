//! Requests that can only be mistakes.

use super::{LayerSpec, SourceContent};
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use crate::store::ImageName;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Requires that no two names are the same, which could only be a mistake.
///
/// # Errors
/// When two are.
pub fn check_names(names: &[ImageName]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => Err(Error::usage(format!("tag `{twice}`"), "given twice")),
        None => Ok(()),
    }
}

/// Excludes what a command writes from the directories that it reads. `outputs` are paths, with a word on what each is.
///
/// # Errors
/// When an output is a source itself.
pub fn exclude_outputs(layers: &mut [LayerSpec], outputs: &[(&Path, &str)]) -> Result<()> {
    for source in layers.iter_mut().flat_map(|layer| &mut layer.sources) {
        let (SourceContent::Directory(root) | SourceContent::DirectoryContent(root)) = &source.content else {
            continue;
        };
        for (output, what) in outputs {
            match Root::path_inside(root.path(), output) {
                Some(inside) if inside == PathBuf::new() => {
                    let reason = format!("is both {what} and a source");
                    return Err(Error::invalid(output.display().to_string(), reason));
                }
                Some(inside) => source.rules.ignore.exclude_output(inside, what),
                None => {}
            }
        }
    }
    Ok(())
}
