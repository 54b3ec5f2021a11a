//! `ocibuild cat`.

use super::network::NetworkArguments;
use super::progress_display::Watch;
use super::source::SourceArguments;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::common::error::one_line;
use ocibuild::layers::rootfs::{
    LayerBelow, LayerPlace, Listings, Resolved, Rootfs, StoredLayer, Unseen, list_layers, write_file,
};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, ErrorKind, Result};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Symbolic links are followed inside of the image. The layer is verified before the file is written.

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

/// Writes a file of an image to standard output.
pub(super) fn run(arguments: &CatArguments) -> Result<ExitCode> {
    if arguments.common.format == OutputFormat::Json {
        return Err(Error::usage("--format json", "cat writes the bytes of a file"));
    }
    let watch = Arc::new(Watch::new(&arguments.common));
    let image = arguments.source.open(&arguments.network, &watch)?.image;
    let listings = arguments.source.cache_directory().open().and_then(|it| Listings::in_cache_directory(&it)).ok();
    let layers = list_layers(&image, listings.as_ref(), &*watch)?;
    let places = image.manifest.layers.iter().zip(image.config.diff_ids());
    let below: Vec<LayerBelow<'_>> = places
        .map(|(layer, diff_id)| {
            let source = Some(&*image.source as _);
            let place = LayerPlace { layer, diff_id, source, listings: listings.as_ref(), progress: &*watch };
            LayerBelow::Stored(StoredLayer::new(place, Unseen { reason: String::new(), hint: String::new() }))
        })
        .collect();
    let path = ImagePath::new(arguments.path.as_bytes())?;
    let object = one_line(&arguments.path);
    let real = match Rootfs::new(&below).resolve(&path)? {
        Resolved::Node(real, _) => real,
        Resolved::Circle => return Err(Error::invalid(object, "too many symbolic links")),
        Resolved::NoDirectory(file) => {
            return Err(Error::new(ErrorKind::NotFound, object, format!("/{file} is not a directory")));
        }
        Resolved::Absent(_) | Resolved::Unseen(..) => {
            return Err(Error::new(ErrorKind::NotFound, object, "is not in the image"));
        }
    };
    let mut stdout = io::stdout().lock();
    write_file(&image, &layers, &real, &mut stdout)?;
    stdout.flush().map_err(|error| Error::io("standard output", "write", error))?;
    Ok(ExitCode::SUCCESS)
}
