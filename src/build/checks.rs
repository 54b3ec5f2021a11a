//! Requests that can only be mistakes.

use super::{LayerSpec, SourceContent};
use crate::error::{Error, Result};
use crate::root::Root;
use crate::store::ImageName;
use crate::tree::PathKind;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Requires that no two names are the same, which could only be a mistake.
///
/// # Errors
/// When two are.
pub fn check_names(names: &[ImageName]) -> Result<()> {
    let mut seen: BTreeMap<&str, &ImageName> = BTreeMap::new();
    for name in names {
        let Some(other) = seen.insert(name.tag(), name) else { continue };
        let reason = match other == name {
            true => "given twice".to_owned(),
            false => format!("has the same tag as `{other}`, and a layout keeps one image for each tag"),
        };
        return Err(Error::usage(format!("tag `{name}`"), reason));
    }
    Ok(())
}

/// Requires that the layout is not among what is copied into it.
///
/// # Errors
/// When the layout is a source directory, or lies in one and is not left out by its rules.
pub fn check_output(layers: &[LayerSpec], output: &std::path::Path) -> Result<()> {
    for source in layers.iter().flat_map(|layer| &layer.sources) {
        let SourceContent::Directory(root) = &source.content else { continue };
        let Some(inside) = Root::path_inside(root.path(), output) else { continue };
        let object = output.display().to_string();
        if inside == PathBuf::new() {
            return Err(Error::invalid(object, "is both the layout and a source"));
        }
        if !source.rules.ignore.leaves_out(&inside, PathKind::Directory) {
            let hint = format!("--exclude {}", inside.display());
            return Err(Error::invalid(object, format!("the layout lies inside the source {}", source.name)).hint(hint));
        }
    }
    Ok(())
}
