//! Several images of one file: what has to be right for all of them before the first is written.

use super::FilledCommand;
use super::given::is_typed;
use crate::cli::build_flags::BuildFlags;
use crate::cli::build_target::BuildTarget;
use crate::cli::taken_place::TakenPlace;
use crate::cli::{Command, build, layout};
use ocibuild::common::root::Root;
use ocibuild::{Error, Result};
use std::path::{Path, PathBuf};

/// An image of a file, and where it goes.
struct NamedImage<'i> {
    name: &'i str,
    flags: &'i BuildFlags,
    target: BuildTarget,
    /// What it takes for itself.
    taken: Vec<TakenPlace>,
}

/// Checks that no image takes what is another one's: its name in a place, a place for one image, a file, or standard input. No image will
/// contain what is written for another one.
///
/// # Errors
/// Fails if one does, or the destinations of one are malformed.
pub(super) fn prepare(images: &mut [FilledCommand]) -> Result<()> {
    let written = check(images)?;
    for image in images {
        if let Some(flags) = image.cli.command.build_flags() {
            flags.written_beside.clone_from(&written);
        }
    }
    Ok(())
}

/// Checks the images, and returns the paths that are written for them.
fn check(images: &[FilledCommand]) -> Result<Vec<PathBuf>> {
    let mut checked: Vec<NamedImage<'_>> = Vec::new();
    for image in images {
        let Some(image) = NamedImage::of(image)? else { continue };
        checked.iter().try_for_each(|earlier| earlier.check_beside(&image))?;
        checked.push(image);
    }
    let paths = checked.iter().flat_map(|image| image.flags.outputs(&image.target));
    Ok(paths.map(|(path, _)| path.to_owned()).collect())
}

impl<'i> NamedImage<'i> {
    fn of(image: &'i FilledCommand) -> Result<Option<Self>> {
        let name = image.image.as_deref().unwrap_or_default();
        let (flags, target) = match &image.cli.command {
            Command::Build(arguments) => (&arguments.flags, build::target(arguments)),
            Command::Layout(arguments) => (&arguments.flags, layout::target(arguments)),
            _ => return Ok(None),
        };
        let within = |error: Error| error.within(format!("image {name}"));
        let target = target.map_err(within)?;
        let typed = image.matches.subcommand().map(|(_, typed)| typed);
        let once = "standard input can be read once, and there are several images";
        if flags.request.reads_standard_input() {
            return Err(Error::usage(format!("image {name}: --copy -"), once).hint("--image NAME builds one"));
        }
        if typed.is_some_and(|typed| is_typed(typed, "creds_stdin")) {
            return Err(Error::usage("--creds-stdin", once).hint("`ocibuild login` keeps the credentials"));
        }
        if target.is_on_standard_output() {
            let reason = "standard output can have only one tar, and there are several images";
            return Err(Error::usage(format!("image {name}: {}", target.flag), reason).hint("--image NAME builds one"));
        }
        let taken = target.taken(&flags.tags, flags.namespace.name()).map_err(within)?;
        Ok(Some(NamedImage { name, flags, target, taken }))
    }

    fn check_beside(&self, other: &NamedImage<'_>) -> Result<()> {
        let (one, two) = (self.name, other.name);
        let refused = |reason: String| Err(Error::usage("image", reason).hint("--image NAME builds one"));
        if let Some((_, flag)) = self.flags.results.paths().find(|(file, _)| other.writes(file)) {
            return refused(format!("{flag} is the same file for `{one}` and `{two}`"));
        }
        if let Some((_, flag)) = other.flags.results.paths().find(|(file, _)| self.writes(file)) {
            return refused(format!("{flag} of `{two}` is written for `{one}`, too"));
        }
        if self.flags.into_index.is_wanted() && other.flags.into_index.is_wanted() {
            // They are platforms of one image.
            return Ok(());
        }
        for taken in &self.taken {
            let Some(place) = other.taken.iter().find(|place| taken.excludes(place)) else { continue };
            return refused(match (&taken.name, &place.name) {
                (Some(name), Some(_)) => {
                    format!("`{one}` and `{two}` have both the name {name} in {}", taken.shown)
                }
                _ => format!("{} holds one image, and `{one}` and `{two}` go there", taken.shown),
            });
        }
        Ok(())
    }

    /// Returns whether the file at `path` is written for this image.
    fn writes(&self, path: &Path) -> bool {
        let real = Root::resolve_new(path);
        self.flags.outputs(&self.target).into_iter().any(|(known, _)| Root::resolve_new(known) == real)
    }
}
