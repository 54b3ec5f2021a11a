//! `ocibuild extract`.

use super::flat_tar;
use super::network::NetworkArguments;
use super::progress_display::Watch;
use super::source::SourceArguments;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::spec::ImagePath;
use ocibuild::store::StoredImage;
use ocibuild::{Error, Result};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(
    override_usage = "ocibuild extract [OPTIONS] <IMAGE> [PATH] <DIR>",
    after_help = "\
A directory at PATH becomes DIR, with everything in it; a file gets its own name in DIR. DIR must be empty or missing. As root, files
get their owners, and devices are made; otherwise what is left out is counted on one line. While DIR is not complete, it has the
file .ocibuild-unfinished.

Examples:
  ocibuild extract ./out:v1 ./rootfs
  ocibuild extract debian:stable-slim /etc ./etc
  ocibuild extract ./out:v1 /usr/share/doc - | tar -t"
)]
pub(super) struct ExtractArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The file or directory in the image [default: /], and the directory to write; - writes a tar to standard output
    #[arg(value_name = "[PATH] DIR", required = true, num_args = 1..=2)]
    places: Vec<OsString>,
    /// Extract as a user without root does: all files are your own
    #[arg(long)]
    no_same_owner: bool,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

impl ExtractArguments {
    /// Returns the image, for completing the path in it, if there is one.
    pub(super) fn image_of_path(&self) -> Option<(&SourceArguments, &NetworkArguments)> {
        (self.places.len() == 2).then_some((&self.source, &self.network))
    }
}

/// Writes the files of an image into a directory, or as a tar to standard output.
pub(super) fn run(arguments: &ExtractArguments) -> Result<ExitCode> {
    let (path, directory) = match &arguments.places[..] {
        [path, directory] => (ImagePath::new(path.as_encoded_bytes())?, Path::new(directory)),
        places => (ImagePath::root(), Path::new(places.first().map_or("".as_ref(), OsString::as_os_str))),
    };
    let is_tar = directory == Path::new("-");
    if is_tar && arguments.no_same_owner {
        return Err(Error::usage("--no-same-owner", "is for a directory; a tar has the owners of the image"));
    }
    if is_tar && arguments.common.format == OutputFormat::Json {
        return Err(Error::usage("--format json", "standard output is for the tar"));
    }
    let watch = Arc::new(Watch::new(&arguments.common));
    let admission = arguments.source.admission(&arguments.network)?;
    let image = arguments.source.open_with_layers(&arguments.network, &watch)?.image;
    admission.admit(&image, arguments.source.cache_directory(), &arguments.network, &watch)?;
    if is_tar {
        flat_tar::to_stdout(&image, &path, arguments.source.cache_directory(), &watch)?;
    } else {
        to_directory(arguments, &image, &path, directory, &watch)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(target_os = "linux")]
fn to_directory(
    arguments: &ExtractArguments,
    image: &StoredImage,
    path: &ImagePath,
    directory: &Path,
    watch: &Watch,
) -> Result<()> {
    use super::output::print;
    use super::source::list_layers;
    use ocibuild::common::progress::warn;
    use ocibuild::layers::rootfs::{ExtractAs, FlatFiles, extract};
    use serde_json::json;

    let layers = list_layers(image, arguments.source.cache_directory(), watch)?;
    let user = ExtractAs::this_user();
    let identity = match arguments.no_same_owner {
        true => user.without_rights(),
        false => user,
    };
    let left_out = extract(image, &FlatFiles::new(&layers, path)?, directory, identity, watch)?;
    let object = directory.display().to_string();
    if let Some(text) = left_out.describe() {
        let because = match identity {
            ExtractAs::Superuser => "the system refuses it",
            ExtractAs::User { .. } => "files are not extracted as root",
        };
        warn(watch, &object, &format!("left out, as {because}: {text}"));
    }
    let digest = image.descriptor.digest.to_string();
    match arguments.common.format {
        OutputFormat::Text => print(&digest),
        OutputFormat::Json => {
            let left_out = json!({
                "owners": left_out.owners,
                "specialBits": left_out.special_bits,
                "devices": left_out.devices,
                "xattrs": left_out.xattrs,
            });
            print(&json!({"digest": digest, "directory": object, "leftOut": left_out}).to_string())
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn to_directory(_: &ExtractArguments, _: &StoredImage, _: &ImagePath, directory: &Path, _: &Watch) -> Result<()> {
    let error = Error::usage(directory.display().to_string(), "files are extracted into directories only on Linux");
    Err(error.hint("`-` writes a tar to standard output"))
}
