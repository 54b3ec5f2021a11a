//! Files that get the result of a command, for scripts.

use super::output::write_result;
use clap::Args;
use ocibuild::common::root::{Destination, Root};
use ocibuild::{Descriptor, Digest, Error, ImageName, Result};
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

    /// Refuses to write an image ID, which a multi-platform image does not have.
    ///
    /// # Errors
    /// Fails if one is wanted.
    pub(super) fn check_has_no_image_id(&self) -> Result<()> {
        match self.iidfile {
            Some(_) => Err(Error::usage("--iidfile", "each platform has an image ID of its own")
                .hint("--digest-file has the digest of the index")),
            None => Ok(()),
        }
    }

    /// Writes what `image` is, which has these `names`. The digest of the config is absent for an index.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub(super) fn write(&self, image: &Descriptor, config: Option<Digest>, names: &[ImageName]) -> Result<()> {
        for (file, flag) in self.paths() {
            let text = match flag {
                "--iidfile" => config.map(|config| config.to_string()).unwrap_or_default(),
                "--digest-file" => image.digest.to_string(),
                _ => metadata(image, config, names),
            };
            write_result(&Destination::find(file, Root::open)?, &text)?;
        }
        Ok(())
    }
}

/// Returns the members that docker buildx, buildah and podman write to such a file.
fn metadata(image: &Descriptor, config: Option<Digest>, names: &[ImageName]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut document = json!({
        "containerimage.descriptor": image.to_json(),
        "containerimage.digest": image.digest.to_string(),
        "image.name": names.join(","),
    });
    if let Some(config) = config {
        document["containerimage.config.digest"] = config.to_string().into();
    }
    document.to_string()
}

fn is_same_file(one: &Destination, other: &Destination) -> bool {
    let (Destination::File(one_root, one), Destination::File(other_root, other)) = (one, other) else { return false };
    one == other && Root::path_inside(one_root.path(), other_root.path()) == Some(PathBuf::new())
}
