//! The flags that say what goes into an image, and the layers that they make.

use super::values::{self, Copy, CopyTarget};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgMatches, Args};
use ocibuild::build::{LayerSpec, Source};
use ocibuild::common::bounded_read;
use ocibuild::common::root::Root;
use ocibuild::layers::tree::{
    DOCKERIGNORE, ExtendedAttributes, IgnoreRules, Modes, Owner, Owners, Rules, SpecialFiles,
};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, ErrorKind, Result, Timestamp};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Help about the content flags, for the end of a command's help.
pub(super) const HELP: &str = "\
Sources of --copy:
  a directory      its content is copied to DST; DST/ keeps the mode and owner that the base has
  a file           is copied to DST, or to DST/NAME if DST ends with a slash
  *.tar[.gz|.zst]  is extracted into DST, unless DST has such an extension too
  -                a tar on standard input, extracted into DST

A .dockerignore in the root of a directory applies to it. Files that this command writes, and
images in a source, are excluded; --dry-run and --format json list everything that is excluded.

Each --copy creates a layer; --layer puts all --copy and --remove that follow into one layer.";

#[derive(Debug, Args)]
pub(super) struct ContentArguments {
    /// Copy SRC to the absolute path DST in the image. Repeatable
    #[arg(long = "copy", value_name = "SRC:DST", value_parser = OsStringValueParser::new().try_map(|text| values::copy(&text)), allow_hyphen_values = true, help_heading = "Content")]
    copies: Vec<Copy>,
    /// Delete PATH from the layers below (whiteout). Repeatable
    #[arg(long = "remove", value_name = "PATH", value_parser = values::image_path, help_heading = "Content")]
    removals: Vec<ImagePath>,
    /// Start a layer described as TEXT, for the --copy and --remove that follow. Repeatable
    #[arg(long = "layer", value_name = "TEXT", help_heading = "Content")]
    layers: Vec<String>,
    /// Exclude files that match GLOB (.dockerignore syntax) from --copy and the robot. Repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Content")]
    exclude: Vec<String>,
    /// Include files that match GLOB despite all exclude rules, even images. Repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Content")]
    include: Vec<String>,
    /// Read exclude patterns from FILE
    #[arg(long, value_name = "FILE", help_heading = "Content")]
    ignore_file: Option<PathBuf>,
    /// Set the owner of copied files [default: 0:0]
    #[arg(long, value_name = "UID[:GID]", value_parser = values::owner, help_heading = "Content")]
    chown: Option<Owner>,
    /// Preserve the numeric owners of the source
    #[arg(long, conflicts_with = "chown", help_heading = "Content")]
    keep_owners: bool,
    /// Set the mode (octal) of copied files; directories also get execute bits
    #[arg(long, value_name = "MODE", value_parser = values::mode, conflicts_with = "preserve_modes", help_heading = "Content")]
    chmod: Option<u16>,
    /// Preserve the modes of the source
    ///
    /// Without this flag, directories and programs get 0755 and other files 0644. A file that only its owner can read gets 0600 or 0700, unless all files of its directory are like that. Set-user-ID and set-group-ID bits are preserved only together with --keep-owners.
    #[arg(long, help_heading = "Content")]
    preserve_modes: bool,
    /// Preserve extended attributes, including file capabilities
    #[arg(long, help_heading = "Content")]
    xattrs: bool,
    /// Skip devices, sockets and pipes instead of failing
    #[arg(long, help_heading = "Content")]
    skip_special: bool,
}

/// One flag that adds to a layer, in the order of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerFlag {
    /// The n-th `--copy`.
    Copy(usize),
    /// The n-th `--remove`.
    Remove(usize),
    /// The n-th `--layer`.
    Group(usize),
}

/// Returns `--copy`, `--remove` and `--layer` in the order of the command line, which clap's lists of values do not preserve.
pub(super) fn order_of_layers(matches: &ArgMatches) -> Vec<LayerFlag> {
    let mut order: Vec<(usize, LayerFlag)> = Vec::new();
    for (id, flag) in [
        ("copies", LayerFlag::Copy as fn(usize) -> LayerFlag),
        ("removals", LayerFlag::Remove),
        ("layers", LayerFlag::Group),
    ] {
        let places = matches.indices_of(id).into_iter().flatten();
        order.extend(places.enumerate().map(|(number, place)| (place, flag(number))));
    }
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, flag)| flag).collect()
}

impl ContentArguments {
    /// Returns the layers, in the order of the command line; everything in them gets the time `mtime`.
    pub(super) fn layers(&self, order: &[LayerFlag], mtime: Timestamp) -> Result<Vec<LayerSpec>> {
        self.layer_specs(order, &self.rules(mtime)?)
    }

    /// Requires that what the flags exclude is excluded from something.
    pub(super) fn check_exclusions(&self, is_robot: bool) -> Result<()> {
        let flags = [
            ("--exclude", !self.exclude.is_empty()),
            ("--include", !self.include.is_empty()),
            ("--ignore-file", self.ignore_file.is_some()),
        ];
        match flags.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) if self.copies.is_empty() && !is_robot => {
                Err(Error::usage(*flag, "has no effect without --copy or --robot")
                    .hint("--copy SRC:DST, or --robot PATH"))
            }
            _ => Ok(()),
        }
    }

    /// Adds what the flags say to exclude and to keep.
    pub(super) fn add_exclusions(&self, ignore: &mut IgnoreRules) -> Result<()> {
        if let Some(file) = &self.ignore_file {
            let object = file.display().to_string();
            ignore.begin_list(&object);
            add_file(ignore, Root::open_named_file(file)?, &object)?;
        }
        ignore.begin_list("--exclude");
        for pattern in &self.exclude {
            ignore.add(pattern)?;
        }
        self.include.iter().try_for_each(|pattern| ignore.keep(pattern))
    }

    fn rules(&self, mtime: Timestamp) -> Result<Rules> {
        let modes = match (self.chmod, self.preserve_modes) {
            (Some(bits), _) => Modes::Set(bits),
            (None, true) => Modes::Preserve,
            (None, false) => Modes::Normal,
        };
        Ok(Rules::default()
            .owners(if self.keep_owners { Owners::Keep } else { Owners::Set(self.chown.unwrap_or_default()) })
            .modes(modes)
            .mtime(mtime)
            .xattrs(if self.xattrs { ExtendedAttributes::Keep } else { ExtendedAttributes::Drop })
            .special_files(if self.skip_special { SpecialFiles::Skip } else { SpecialFiles::Refuse }))
    }

    fn layer_specs(&self, order: &[LayerFlag], rules: &Rules) -> Result<Vec<LayerSpec>> {
        if self.copies.iter().filter(|copy| copy.source == Path::new("-")).count() > 1 {
            return Err(Error::usage("standard input", "can only be copied once"));
        }
        let mut layers: Vec<LayerSpec> = Vec::new();
        let mut in_group = false;
        for flag in order {
            let (source, created_by) = match *flag {
                LayerFlag::Group(number) => {
                    let text = &self.layers[number];
                    layers.push(LayerSpec::new(text));
                    in_group = true;
                    continue;
                }
                LayerFlag::Copy(number) => {
                    let copy = &self.copies[number];
                    (self.copy_source(copy, rules)?, format!("ocibuild: copy to {}", copy.destination))
                }
                LayerFlag::Remove(number) => {
                    let path = &self.removals[number];
                    let removal = Source::removal(path.clone()).named(format!("--remove {path}"));
                    (removal.rules(rules.clone()), format!("ocibuild: remove {path}"))
                }
            };
            match layers.last_mut().filter(|_| in_group) {
                Some(group) => group.sources.push(source),
                None => layers.push(LayerSpec::new(&source.name).created_by(created_by).source(source)),
            }
        }
        Ok(layers)
    }

    fn copy_source(&self, copy: &Copy, rules: &Rules) -> Result<Source> {
        let shown = copy.source.display();
        let mut excluding = rules.clone();
        if copy.source == Path::new("-") {
            self.add_exclusions(&mut excluding.ignore)?;
            return Ok(Source::archive(shown, std::io::stdin(), copy.destination.clone()).rules(excluding));
        }
        match Root::open(&copy.source) {
            Ok(root) => {
                obey_dockerignore(&mut excluding.ignore, &root)?;
                self.add_exclusions(&mut excluding.ignore)?;
                let source = match copy.target {
                    CopyTarget::Exact => Source::directory(root, copy.destination.clone()),
                    CopyTarget::Directory => Source::directory_content(root, copy.destination.clone()),
                };
                return Ok(source.rules(excluding));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
            // Not a directory, or not readable; the error is reported when it is opened as a file.
            Err(_) => {}
        }
        let file = Root::open_named_file(&copy.source)?;
        let is_unpacked =
            is_archive(copy.source.as_os_str().as_encoded_bytes()) && !is_archive(copy.destination.name());
        if is_unpacked {
            self.add_exclusions(&mut excluding.ignore)?;
            return Ok(Source::archive(shown, file, copy.destination.clone()).rules(excluding));
        }
        let destination = match copy.target {
            CopyTarget::Exact => copy.destination.clone(),
            CopyTarget::Directory => {
                let name =
                    copy.source.file_name().ok_or_else(|| Error::usage(shown.to_string(), "has no file name"))?;
                copy.destination.join_name(ocibuild::common::root::name_bytes(name)?)?
            }
        };
        Ok(Source::file(&copy.source, destination)?.rules(rules.clone()))
    }
}

/// Adds the patterns of the `.dockerignore` in the root of a directory, if there is one.
fn obey_dockerignore(ignore: &mut IgnoreRules, directory: &Root) -> Result<()> {
    match directory.open_linked_file(DOCKERIGNORE) {
        Ok(file) => {
            ignore.begin_list(DOCKERIGNORE);
            add_file(ignore, file, &directory.display(DOCKERIGNORE))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Adds the patterns of an ignore file, which messages call `object`.
fn add_file(ignore: &mut IgnoreRules, file: File, object: &str) -> Result<()> {
    const LARGEST: u64 = 1 << 20;
    let text = bounded_read::read(file, LARGEST, object)?;
    let text = String::from_utf8(text).map_err(|_| Error::invalid(object, "not UTF-8"))?;
    ignore.add_file(&text).map_err(|error| error.within(object))
}

fn is_archive(name: &[u8]) -> bool {
    [&b".tar"[..], b".tar.gz", b".tgz", b".tar.zst"].iter().any(|ending| name.ends_with(ending))
}
