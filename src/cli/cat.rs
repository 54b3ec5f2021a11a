//! `ocibuild cat`.

use super::network::NetworkArguments;
use super::output::write_stdout;
use super::progress_display::Watch;
use super::source::{SourceArguments, list_layers};
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::layers::rootfs::open_file;
use ocibuild::spec::ImagePath;
use ocibuild::{Error, Result};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Symbolic links are followed inside of the image. Nothing is written before it is verified.
Of a layer in a registry that was listed before, only the part with the file is fetched.

Examples:
  ocibuild cat ./out:v1 /etc/os-release
  ocibuild cat debian:stable-slim /etc/passwd")]
pub(super) struct CatArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The file in the image
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

impl CatArguments {
    /// Returns the image, for completing the path in it.
    pub(super) fn image(&self) -> (&SourceArguments, &NetworkArguments) {
        (&self.source, &self.network)
    }
}

/// Writes a file of an image to standard output.
pub(super) fn run(arguments: &CatArguments) -> Result<ExitCode> {
    if arguments.common.format == OutputFormat::Json {
        return Err(Error::usage("--format json", "cat writes the bytes of a file"));
    }
    let path = ImagePath::new(arguments.path.as_bytes())?;
    let watch = Arc::new(Watch::new(&arguments.common));
    let admission = arguments.source.admission(&arguments.network)?;
    let image = arguments.source.open_with_layers(&arguments.network, &watch)?.image;
    admission.admit(&image, arguments.source.cache_directory(), &arguments.network, &watch)?;
    let layers = list_layers(&image, arguments.source.cache_directory(), &watch)?;
    let mut content = open_file(&image, &layers, &path, &arguments.source.spool()?)?;
    write_stdout(|out| io::copy(&mut content, out).map(drop))?;
    Ok(ExitCode::SUCCESS)
}
