//! Keys of everything that determines the bytes of an environment's layers.

use super::image_paths::management;
use super::scrub::{Scrubbed, Scrubbing};
use super::{EnvironmentMode, ImagePaths, Shipping};
use crate::cache::RecipeKey;
use crate::common::digest::{Digest, Hasher};
use crate::layers::tree::Owner;
use crate::rcc::{Catalog, CatalogEntryKind, CatalogName, FileEntry, Hololib};
use crate::robot_image::split_environment::SplitEnvironment;

/// Returns the key of a whole environment: the catalog's stored bytes, and every option.
pub(super) fn of_environment(hololib: &Hololib, name: &CatalogName, stored: &Digest, shipping: &Shipping) -> RecipeKey {
    let Shipping { mode, places, scrubbing, split } = shipping;
    let scrubbing: &[u8] = match scrubbing {
        Scrubbing::Warn => b"warn",
        Scrubbing::Overwrite => b"overwrite",
    };
    RecipeKey::new(
        &[
            b"environment 3",
            name.to_string().as_bytes(),
            stored.as_bytes(),
            scrubbing,
            &split.key(),
            shipped(hololib, *mode, places).as_bytes(),
        ],
        &hololib.identity(),
    )
}

/// Returns the key of a layer other than the last.
///
/// `digest` is that of its files and options.
///
/// Another environment with the same files has the same layer.
pub(super) fn of_part(hololib: &Hololib, digest: &Digest) -> RecipeKey {
    RecipeKey::new(&[b"part of an environment 1", digest.as_bytes()], &hololib.identity())
}

/// Returns a digest of everything that determines the bytes of a layer other than the last.
pub(super) fn part_digest(
    hololib: &Hololib,
    (catalog, scrubbed): (&Catalog, &Scrubbed),
    (parts, part): (&SplitEnvironment, usize),
    Shipping { mode, places, scrubbing: _, split: _ }: &Shipping,
) -> Digest {
    let mut description = Description::new();
    description.add(shipped(hololib, *mode, places).as_bytes());
    description.add(catalog.base().as_bytes());
    description.add(catalog.identity().as_bytes());
    description.add(places.space_name(management(*mode)).as_bytes());
    for entry in parts.entries(part).map(|number| catalog.numbered(number)) {
        description.add(entry.path.as_bytes());
        match entry.kind {
            CatalogEntryKind::Directory { mode: _ } => description.add(b"directory"),
            CatalogEntryKind::Link { target } => {
                description.add(b"link");
                description.add(target.as_bytes());
            }
            CatalogEntryKind::File(FileEntry { mode, size, digest, object: _, rewrites }) => {
                description.add(b"file");
                description.add(&mode.to_be_bytes());
                description.add(&size.to_be_bytes());
                description.add(digest.to_string().as_bytes());
                for rewrite in rewrites {
                    description.add(&rewrite.to_be_bytes());
                }
                // An overwritten object is compressed differently.
                let is_overwritten = scrubbed.content(&digest).is_some();
                description.add(if is_overwritten { b"overwritten" } else { b"as recorded" });
            }
        }
    }
    description.finish()
}

/// Returns a digest of the mode and the paths.
fn shipped(hololib: &Hololib, mode: EnvironmentMode, places: &ImagePaths) -> Digest {
    let ImagePaths { home, product_home, app, controller, space, user: Owner { uid, gid } } = places;
    let mut description = Description::new();
    description.add(mode.name().as_bytes());
    for path in [home, product_home, app] {
        description.add(path.as_bytes());
    }
    description.add(controller.as_bytes());
    description.add(space.as_bytes());
    description.add(&uid.to_be_bytes());
    description.add(&gid.to_be_bytes());
    // A library that is shipped in its stored form depends on its own bytes, not only on the catalog.
    description.add(
        match mode {
            EnvironmentMode::Compact => hololib.identity().into_bytes(),
            EnvironmentMode::Sealed | EnvironmentMode::Ready | EnvironmentMode::Direct => Vec::new(),
        }
        .as_slice(),
    );
    description.finish()
}

/// A hasher of values, which includes their lengths.
struct Description(Hasher);

impl Description {
    fn new() -> Self {
        Description(Hasher::sha256())
    }

    fn add(&mut self, value: &[u8]) {
        self.0.update(&(value.len() as u64).to_be_bytes());
        self.0.update(value);
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}
