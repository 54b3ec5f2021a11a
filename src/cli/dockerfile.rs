//! `ocibuild dockerfile`: the image of `ocibuild layout`, for those who have to build with something else.

use super::content_flags;
use super::content_flags::LayerFlag;
use super::environment_switches;
use super::excluded;
use super::output::print;
use super::progress_display::Watch;
use super::relocated;
use super::request::{ImageRequest, RequestArguments};
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::Result;
use ocibuild::build::dockerfile::Dockerfile;
use ocibuild::cache::FactsLookup;
use ocibuild::codec::compression::Compression;
use ocibuild::common::root::Root;
use ocibuild::secrets::FoundSecret;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = content_flags::HELP.to_owned() + "

Examples:
  ocibuild dockerfile --context ./context && docker build -t robot ./context
  ocibuild dockerfile --context ./context --base debian:stable-slim --copy ./app:/app && podman build ./context")]
pub(super) struct DockerfileArguments {
    /// Write the Dockerfile and its files to DIR; created if it does not exist
    #[arg(long, value_name = "DIR", visible_alias = "output", visible_short_alias = 'o')]
    context: Option<PathBuf>,
    #[command(flatten)]
    request: RequestArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Prints the Dockerfile, and writes its context where that is wanted.
pub(super) fn run(arguments: &DockerfileArguments, order: &[LayerFlag]) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let request = &arguments.request;
    let unpack_in = if environment_switches::is_on(environment_switches::NO_CACHE)? {
        None
    } else {
        Some(&request.cache_directory)
    };
    let plain = Compression::None.into();
    let known = FactsLookup { cache: None, shared: None, policy: plain };
    let platform = request.only_platform("a Dockerfile")?;
    let packaged = request.robot_images(order, &known, unpack_in, &watch)?;
    let robot = packaged.as_ref().and_then(|packaged| packaged.images.first());
    let outputs: Vec<(&Path, &str)> =
        arguments.context.iter().map(|context| (context.as_path(), "the context")).collect();
    let ImageRequest { spec, location } = request.resolve(order, robot, platform, &outputs, plain, &watch)?;
    let context = arguments.context.as_deref().map(Root::create).transpose()?;
    // Archives are unpacked to list their entries, even if their content is not needed.
    let spool = context.clone().map_or_else(|| Root::open(Path::new(".")), Ok)?;
    let plan = spec.plan(&spool, None, &*watch)?;
    excluded::say(&plan, &watch);
    relocated::say(&plan, &watch);
    let secrets = plan.check_secrets(&*watch)?;
    let dockerfile = Dockerfile::of(&plan, location.as_ref(), &*watch)?;
    let written = match &context {
        Some(context) => dockerfile.write_context(context, &*watch)?,
        None => dockerfile.without_context(&*watch)?,
    };
    if let (Some(_), Some(robot)) = (&context, robot) {
        robot.warn_of_unrewritten_paths(&watch);
    }
    match arguments.common.format {
        OutputFormat::Text => print(written.text().trim_end())?,
        OutputFormat::Json => {
            let secrets: Vec<_> = secrets.iter().map(FoundSecret::to_json).collect();
            let result = json!({
                "dockerfile": written.text(),
                "context": written.context(),
                "secrets": secrets,
                "excluded": plan.excluded_to_json(),
                "pythonEnvironments": plan.python_environments_to_json(),
            });
            print(&result.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
