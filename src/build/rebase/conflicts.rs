//! What of the image's own layers does not fit on the new base.
//!
//! The layers are compared by their listings. A path of the image that is a directory must not be a link or a file in the base,
//! and the other way round: an engine would replace one by the other, with everything below. A base in which `/lib` has become
//! a link to `/usr/lib` is the usual case.

use super::{ConflictPolicy, Rebase};
use crate::build::image::{Base, BaseLayers};
use crate::build::lower_layers::layers_of_base;
use crate::build::placement::Unchecked;
use crate::build::runtime_checks::problems;
use crate::common::error::{Error, Result, one_line};
use crate::common::human_numbers::counted;
use crate::common::progress::warn;
use crate::layers::rootfs::{
    LayerBelow, LayerListing, LayerPlace, ListedEntry, ListedKind, ListedLayer, PathLookup, Resolved, Rootfs,
    StoredLayer, Unseen, find_or_make,
};
use crate::spec::ImagePath;
use crate::store::{BlobSource, StoredImage};
use serde_json::Value;
use std::sync::Arc;

/// The number of conflicts that a message lists.
const MOST_LISTED: usize = 5;

/// The number of look-ups after which what they have found is forgotten, so that memory does not grow with the layers.
const REMEMBERED: usize = 10_000;

/// Everything that was found.
#[derive(Default)]
struct Findings {
    /// The first conflicts.
    listed: Vec<(String, String)>,
    conflicts: usize,
    /// Deleted paths that the new base does not have.
    needless: usize,
    /// Directories that the image takes from its base, and that the new base does not have.
    missing: Vec<String>,
}

impl Findings {
    fn conflict(&mut self, path: &ImagePath, reason: &str) {
        self.conflicts += 1;
        if self.listed.len() < MOST_LISTED {
            self.listed.push((one_line(&path.to_string()), reason.to_owned()));
        }
    }
}

/// Compares the layers of `image` from `first_own` on with the new base, and looks for the user and the program of `config`.
///
/// # Errors
/// Fails if a layer has to be read and cannot be, or, unless they are only warnings, if there are conflicts.
pub(super) fn check(rebase: &Rebase<'_>, image: &StoredImage, first_own: usize, config: &Value) -> Result<()> {
    let Rebase { new, layers, listings, progress, conflicts, .. } = *rebase;
    let name = rebase.name.map(ToString::to_string);
    let base = Base::Image { image: Box::new(new.clone()), name, layers };
    let below = layers_of_base(&base, listings, progress)?;
    let unseen = Unseen {
        reason: "its layers are not downloaded and were never indexed on this machine".to_owned(),
        hint: "without --sparse".to_owned(),
    };
    let own = own_layers(rebase, image, first_own, &unseen)?;
    let mut unchecked = Unchecked::default();
    let mut findings = Findings::default();
    for (_, listing) in &own {
        match listing {
            Some(listing) => compare(listing, &below, &mut findings, &mut unchecked)?,
            None => unchecked.note("whether the layers fit on the new base", &unseen),
        }
    }
    let own: Vec<LayerBelow<'_>> = own.into_iter().map(|(layer, _)| layer).collect();
    let rootfs = Rootfs::new(below.iter().chain(&own));
    for (object, reason) in problems(config, image.config.platform(), &rootfs, &mut unchecked)? {
        findings.conflicts += 1;
        findings.listed.push((object, reason));
    }
    unchecked.warn(progress);
    report(findings, conflicts, rebase)
}

fn report(findings: Findings, policy: ConflictPolicy, rebase: &Rebase<'_>) -> Result<()> {
    let Findings { mut listed, conflicts, needless, missing } = findings;
    if needless > 0 {
        let reason = format!("does not have {} that the image deletes", counted(needless, "path"));
        warn(rebase.progress, "new base", &reason);
    }
    for path in missing.iter().take(MOST_LISTED) {
        warn(rebase.progress, path, "is not a directory of the new base, and the image has files in it");
    }
    if policy == ConflictPolicy::Fail && !listed.is_empty() {
        let (object, reason) = listed.remove(0);
        let others = match conflicts {
            1 => String::new(),
            _ => format!("; there are {} in all", counted(conflicts, "conflict")),
        };
        let error = Error::invalid(object, format!("{reason}{others}"));
        return Err(error.hint("build the image again on the new base; --allow-conflicts rebases it regardless"));
    }
    for (object, reason) in listed {
        warn(rebase.progress, &object, &reason);
    }
    Ok(())
}

/// Lists the own layers of the image, as far as they may be read.
fn own_layers<'a>(
    rebase: &Rebase<'a>,
    image: &'a StoredImage,
    first_own: usize,
    unseen: &Unseen,
) -> Result<Vec<(LayerBelow<'a>, Option<Arc<LayerListing>>)>> {
    let Rebase { listings, progress, layers, .. } = *rebase;
    let mut own = Vec::new();
    for (layer, diff_id) in image.manifest.layers.iter().zip(image.config.diff_ids()).skip(first_own) {
        let is_read = layers == BaseLayers::Copied || image.source.repository(layer).is_none();
        let source = is_read.then_some(&*image.source as &dyn BlobSource);
        let place = LayerPlace { layer, diff_id, source, listings, progress };
        let listed = match source {
            Some(source) => Some(find_or_make(listings, layer, diff_id, source, progress)?),
            None => place.list()?,
        };
        let listing = match &listed {
            Some(ListedLayer::Known(listing)) => Some(listing.clone()),
            Some(ListedLayer::Unlistable(_)) | None => None,
        };
        own.push((LayerBelow::Stored(StoredLayer::listed(place, unseen.clone(), listed)), listing));
    }
    Ok(own)
}

/// Compares the entries of one layer with the new base.
fn compare(
    listing: &LayerListing,
    below: &[LayerBelow<'_>],
    findings: &mut Findings,
    unchecked: &mut Unchecked,
) -> Result<()> {
    let mut rootfs = Rootfs::new(below);
    // The base has nothing below it.
    let mut absent: Option<Vec<u8>> = None;
    for (number, entry) in listing.entries().enumerate() {
        let entry = entry?;
        let is_below = |above: &Vec<u8>| entry.path.strip_prefix(&above[..]).is_some_and(|rest| rest.starts_with(b"/"));
        if entry.path.is_empty() || absent.as_ref().is_some_and(is_below) {
            findings.needless += usize::from(entry.is_whiteout);
            continue;
        }
        if number % REMEMBERED == 0 {
            rootfs = Rootfs::new(below);
        }
        let path = ImagePath::new(&entry.path)?;
        match rootfs.look(&path)? {
            PathLookup::Unseen(unseen) => {
                unchecked.note("whether the layers fit on the new base", &unseen);
                return Ok(());
            }
            PathLookup::Absent => {
                let is_implied = entry.node.as_ref().is_some_and(|node| node.kind == ListedKind::ImpliedDirectory);
                if is_implied && findings.missing.len() < MOST_LISTED {
                    findings.missing.push(one_line(&path.to_string()));
                }
                findings.needless += usize::from(entry.is_whiteout);
                absent = Some(entry.path);
            }
            PathLookup::Node(found) if !entry.is_whiteout => {
                compare_node(&path, &entry, &found.node.kind, &rootfs, findings)?;
            }
            PathLookup::Node(_) => {}
        }
    }
    Ok(())
}

fn compare_node(
    path: &ImagePath,
    entry: &ListedEntry,
    of_base: &ListedKind,
    rootfs: &Rootfs<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let Some(node) = &entry.node else { return Ok(()) };
    let what = match of_base {
        ListedKind::Directory | ListedKind::ImpliedDirectory => "a directory",
        ListedKind::Symlink { .. } => "a link",
        _ => "a file",
    };
    match (&node.kind, of_base.is_directory()) {
        (ListedKind::Directory | ListedKind::ImpliedDirectory, true) => {}
        (ListedKind::ImpliedDirectory, false) => {
            // An engine follows the link of the base to the directory.
            let leads_to_a_directory = matches!(of_base, ListedKind::Symlink { .. })
                && matches!(rootfs.resolve(path)?, Resolved::Node(_, found) if found.node.kind.is_directory());
            if !leads_to_a_directory {
                findings.conflict(path, &format!("is {what} in the new base, and the image has files below it"));
            }
        }
        (ListedKind::Directory, false) => {
            findings.conflict(path, &format!("is {what} in the new base, and a directory in the image"));
        }
        (_, true) => findings.conflict(path, "is a directory in the new base, and not in the image"),
        (_, false) => {}
    }
    Ok(())
}
