//! `ocibuild ls`.

use super::image_files::FileArguments;
use super::network::NetworkArguments;
use super::output::print;
use super::progress_display::Watch;
use super::source::{SourceArguments, list_layers};
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::size;
use ocibuild::common::progress::warn;
use ocibuild::store::Layout;
use ocibuild::store::layout::{ImageContent, ListedImage};
use ocibuild::{Error, Result};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;

/// The characters of a digest that are shown: enough to distinguish the images of a layout.
const SHORT_DIGEST: usize = "sha256:".len() + 12;

#[derive(Debug, Args)]
#[command(after_help = "\
For a layout, SIZE is the size of the blobs in it, SHARED the size of those that other images of the layout use too. Exits with
status 1 if an image cannot be read. For an image, each line has mode, owner, size, time, layer and path.

Examples:
  ocibuild ls ./out
  ocibuild ls ./out --format json | jq -r '.[].digest'
  ocibuild ls ./out:v1 /etc
  ocibuild ls debian:stable-slim --largest 20")]
pub(super) struct LsArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The directory or file in the image [default: /]
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// Print full digests
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    files: FileArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

impl LsArguments {
    /// Returns the image, for completing the path in it, if there is one.
    pub(super) fn image_of_path(&self) -> Option<(&SourceArguments, &NetworkArguments)> {
        self.path.is_some().then_some((&self.source, &self.network))
    }
}

/// Prints the images of a layout, or the files of an image.
pub(super) fn run(arguments: &LsArguments) -> Result<ExitCode> {
    arguments.network.refuse_policy("ls")?;
    let lists_files = arguments.path.is_some() || arguments.files.are_given();
    let Some(directory) = arguments.source.layout()?.filter(|_| !lists_files) else {
        if arguments.no_trunc {
            return Err(Error::usage("--no-trunc", "is for the images of a layout"));
        }
        let watch = Arc::new(Watch::new(&arguments.common));
        let opened = arguments.source.open_with_layers(&arguments.network, &watch)?;
        let layers = list_layers(&opened.image, arguments.source.cache_directory(), &watch)?;
        let path = arguments.path.as_deref().unwrap_or("/");
        arguments.files.print(&layers, path, arguments.common.format)?;
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.source.platform().is_some() {
        return Err(Error::usage("--platform", "is for the files of an image").hint("name one, or a PATH in it"));
    }
    let watch = Watch::new(&arguments.common);
    let images = Layout::open(&directory)?.images()?;
    for error in images.iter().filter_map(|image| image.content.as_ref().err()) {
        warn(&watch, &error.object(), &error.reason());
    }
    let shown = if arguments.no_trunc { usize::MAX } else { SHORT_DIGEST };
    match arguments.common.format {
        OutputFormat::Json => print(&Value::from_iter(images.iter().map(to_json)).to_string())?,
        OutputFormat::Text if images.is_empty() => {}
        OutputFormat::Text => print(&table(&images, shown))?,
    }
    Ok(match images.iter().all(|image| image.content.is_ok()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn to_json(image: &ListedImage) -> Value {
    let mut entry = json!({
        "name": image.name.as_ref().map(ToString::to_string),
        "digest": image.descriptor.digest.to_string(),
        "mediaType": image.descriptor.media_type,
    });
    match &image.content {
        Ok(ImageContent { artifact_type, platforms, created, size, shared, remote, .. }) => {
            entry["artifactType"] = json!(artifact_type);
            entry["platforms"] = platforms.iter().map(ToString::to_string).collect();
            entry["created"] = json!(created);
            entry["size"] = json!(size);
            entry["shared"] = json!(shared);
            entry["remote"] = json!(remote);
        }
        Err(error) => entry["error"] = error.to_string().into(),
    }
    entry
}

/// Returns the images as a table with aligned columns.
fn table(images: &[ListedImage], shown: usize) -> String {
    let heading = ["NAME", "DIGEST", "PLATFORM", "CREATED", "SIZE", "SHARED"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(heading).chain(images.iter().map(|image| row(image, shown))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(image: &ListedImage, shown: usize) -> [String; 6] {
    let name = image.name.as_ref().map_or_else(|| "-".to_owned(), |name| one_line(&name.to_string()));
    let digest: String = image.descriptor.digest.to_string().chars().take(shown).collect();
    let ImageContent { artifact_type, platforms, created, size: own, shared, remote, .. } = match &image.content {
        Ok(content) => content,
        Err(_) => return [name, digest, "unreadable".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()],
    };
    let platform = match artifact_type {
        Some(artifact_type) => format!("artifact {}", one_line(artifact_type)),
        None => platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    };
    let created = created.as_deref().map_or_else(|| "-".to_owned(), one_line);
    let size_column = match remote {
        0 => size(*own),
        remote => format!("{} and {} remote", size(*own), size(*remote)),
    };
    [name, digest, platform, created, size_column, size(*shared)]
}
