//! Several images of one file: what has to be right for all of them before the first is written.

use super::FilledCommand;
use super::given::is_typed;
use crate::cli::build_flags::BuildFlags;
use crate::cli::build_target::BuildTarget;
use crate::cli::{Command, build, layout};
use ocibuild::{Error, Location, Result};
use std::path::{Path, PathBuf};

/// An image of a file, and where it goes.
struct NamedImage<'i> {
    name: &'i str,
    flags: &'i BuildFlags,
    target: BuildTarget,
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
        let target = target.map_err(|error| error.within(format!("image {name}")))?;
        let typed = image.matches.subcommand().map(|(_, typed)| typed);
        let once = "standard input can be read once, and there are several images";
        if flags.request.reads_standard_input() {
            return Err(Error::usage(format!("image {name}: --copy -"), once).hint("--image NAME builds one"));
        }
        if typed.is_some_and(|typed| is_typed(typed, "creds_stdin")) {
            return Err(Error::usage("--creds-stdin", once).hint("`ocibuild login` keeps the credentials"));
        }
        Ok(Some(NamedImage { name, flags, target }))
    }

    fn check_beside(&self, other: &NamedImage<'_>) -> Result<()> {
        let (one, two) = (self.name, other.name);
        let refused = |reason: String| Err(Error::usage("image", reason).hint("--image NAME builds one"));
        let is_file_of_other = |file: &Path| other.flags.results.paths().any(|(known, _)| known == file);
        if let Some((_, flag)) = self.flags.results.paths().find(|(file, _)| is_file_of_other(file)) {
            return refused(format!("{flag} is the same file for `{one}` and `{two}`"));
        }
        if self.flags.into_index.is_wanted() && other.flags.into_index.is_wanted() {
            // They are platforms of one image.
            return Ok(());
        }
        let has_one_name = self.flags.tags.is_empty() && other.flags.tags.is_empty();
        let shared_name = self.flags.tags.iter().find(|tag| other.flags.tags.contains(tag));
        let mut places: Vec<&String> =
            self.target.texts.iter().filter(|text| other.target.texts.contains(text)).collect();
        let layout = self.target.layout.as_ref().map(|layout| format!("oci:{}", layout.display()));
        places.extend(&layout);
        for place in places {
            match (holds_several(place), shared_name) {
                (false, _) => return refused(format!("{place} holds one image, and `{one}` and `{two}` go there")),
                (true, Some(name)) => {
                    return refused(format!("`{one}` and `{two}` have both the name {name} in {place}"));
                }
                (true, None) if has_one_name => {
                    return refused(format!("`{one}` and `{two}` have no tag, and both go to {place}"));
                }
                (true, None) => {}
            }
        }
        Ok(())
    }
}

/// Returns whether images with other names can be beside each other at a place.
fn holds_several(place: &str) -> bool {
    let located = Location::of_destination(place);
    matches!(
        located,
        Ok(Location::Layout { tag: None, .. }
            | Location::OciArchive { tag: None, .. }
            | Location::DockerArchive { reference: None, .. })
    )
}
