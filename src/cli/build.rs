//! `ocibuild build`: a build that goes straight to an engine, a registry or an archive.

use super::build_file::with_toml;
use super::build_flags::BuildFlags;
use super::build_target::BuildTarget;
use super::content_flags;
use super::destination::destinations;
use clap::{Args, ValueEnum};
use ocibuild::{Error, ImageName, Reference, Result};

#[derive(Debug, Args)]
#[command(mut_arg("format", with_toml), after_help = content_flags::HELP.to_owned() + "

Layers that are in the cache are not made again. To keep images in a layout, use `ocibuild layout DIR`.

Examples:
  ocibuild build -t team/app:v1 --copy ./app:/app --entrypoint /app/main --load podman
  ocibuild build -t registry.example/team/app:v1 --base debian:stable-slim --copy ./app:/app --push
  ocibuild build -t team/app:v1 --copy ./app:/app -o oci-archive:app.tar -o oci:./out
  ocibuild build -f images.toml --image server --push")]
pub(super) struct BuildArguments {
    #[command(flatten)]
    pub(super) flags: BuildFlags,
    /// Write the image to DEST, a destination of `export`. Repeatable
    #[arg(short, long, value_name = "DEST", conflicts_with = "sparse", help_heading = "Output")]
    output: Vec<String>,
    /// Push the image to the registries of its names
    #[arg(long, conflicts_with = "sparse", help_heading = "Output")]
    push: bool,
    /// Load the image into an engine, under its names. Repeatable
    #[arg(long, value_name = "ENGINE", conflicts_with = "sparse", help_heading = "Output")]
    load: Vec<Engine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// docker, or containerd if there is no docker
    Docker,
    Podman,
    /// containerd, through ctr
    Containerd,
}

/// Returns where the image goes.
///
/// # Errors
/// Fails if it goes nowhere, or a destination is malformed or needs a name that the image does not have.
pub(super) fn target(arguments: &BuildArguments) -> Result<BuildTarget> {
    let texts = arguments.texts()?;
    let named = destinations(&texts)?;
    let Some(destinations) = named else {
        return Err(Error::usage("--output -", "names no kind of archive").hint("docker-archive:/dev/stdout"));
    };
    Ok(BuildTarget { layout: None, destinations, texts, flag: "--output" })
}

impl BuildArguments {
    /// Returns every destination as `export` takes it.
    fn texts(&self) -> Result<Vec<String>> {
        let mut texts = self.output.clone();
        for engine in &self.load {
            let transport = match engine {
                Engine::Docker => "docker-daemon:",
                Engine::Podman => "containers-storage:",
                Engine::Containerd => "containerd:",
            };
            texts.extend(self.references("--load")?.iter().map(|name| format!("{transport}{name}")));
        }
        if self.push {
            texts.extend(self.references("--push")?.iter().map(|name| format!("docker://{name}")));
        }
        if texts.is_empty() {
            return Err(Error::usage("image", "nothing says where it goes")
                .hint("--load ENGINE, --push or --output DEST; `ocibuild layout DIR` builds into a layout"));
        }
        Ok(texts)
    }

    /// Returns the names of the image, which `flag` needs with a repository.
    fn references(&self, flag: &str) -> Result<Vec<Reference>> {
        let reference = |name: &ImageName| match name.reference() {
            Some(reference) => Ok(reference.clone()),
            None => Err(Error::usage(flag, format!("`{name}` is a tag without a name")).hint("--tag NAME:TAG")),
        };
        if self.flags.tags.is_empty() {
            return Err(Error::usage(flag, "the image has no name").hint("--tag NAME:TAG"));
        }
        self.flags.tags.iter().map(reference).collect()
    }
}
