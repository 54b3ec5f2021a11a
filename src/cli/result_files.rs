//! Files that get the result of a command, for scripts.

use super::output::write_result;
use clap::Args;
use ocibuild::common::root::{Destination, Root};
use ocibuild::{Error, ImageName, Result, StoredImage};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct ResultFiles {
    /// Write the image ID (digest of the config) to FILE
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the digest of the manifest to FILE
    #[arg(long, value_name = "FILE", visible_alias = "digestfile")]
    digest_file: Option<PathBuf>,
    /// Write the digests and names of the image to FILE, as JSON with the members of docker buildx
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
}

impl ResultFiles {
    /// Returns the files that are written, each with its flag.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let files = [
            (&self.iidfile, "--iidfile"),
            (&self.digest_file, "--digest-file"),
            (&self.metadata_file, "--metadata-file"),
        ];
        files.into_iter().filter_map(|(file, flag)| file.as_deref().map(|file| (file, flag)))
    }

    /// Checks before the work that the files can be created.
    ///
    /// # Errors
    /// Fails if one of them cannot be created, or two flags name the same file.
    pub(super) fn check(&self) -> Result<()> {
        let mut earlier: Vec<(&str, Destination)> = Vec::new();
        for (file, flag) in self.paths() {
            let destination = Destination::find(file, Root::open)?;
            if let Some((other, _)) = earlier.iter().find(|(_, other)| is_same_file(other, &destination)) {
                return Err(Error::usage(flag, format!("names the same file as {other}")));
            }
            earlier.push((flag, destination));
        }
        Ok(())
    }

    /// Writes what `image` is, which has these `names`.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub(super) fn write(&self, image: &StoredImage, names: &[ImageName]) -> Result<()> {
        for (file, flag) in self.paths() {
            let text = match flag {
                "--iidfile" => image.manifest.config.digest.to_string(),
                "--digest-file" => image.descriptor.digest.to_string(),
                _ => metadata(image, names),
            };
            write_result(&Destination::find(file, Root::open)?, &text)?;
        }
        Ok(())
    }
}

/// Returns the members that docker buildx, buildah and podman write to such a file.
fn metadata(image: &StoredImage, names: &[ImageName]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let document = json!({
        "containerimage.config.digest": image.manifest.config.digest.to_string(),
        "containerimage.descriptor": image.descriptor.to_json(),
        "containerimage.digest": image.descriptor.digest.to_string(),
        "image.name": names.join(","),
    });
    document.to_string()
}

fn is_same_file(one: &Destination, other: &Destination) -> bool {
    let (Destination::File(one_root, one), Destination::File(other_root, other)) = (one, other) else { return false };
    one == other && Root::path_inside(one_root.path(), other_root.path()) == Some(PathBuf::new())
}
