//! The flags that say what goes into an image, and the layers that they make.

use super::items::{Copy, DirectoryItem, Exclusions, FileItem, FilesFrom, HOST, SymlinkItem};
use super::values;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgMatches, Args};
use ocibuild::build::{LayerSpec, NewGroup, NewUser, Source};
use ocibuild::layers::split::Split;
use ocibuild::layers::tree::{ExtendedAttributes, Modes, Owner, Owners, PythonEnvironments, Rules, SpecialFiles};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, Platform, Result, Timestamp};

/// Help about the content flags, for the end of a command's help.
pub(super) const HELP: &str = "\
Sources of --copy:
  a directory      its content is copied to DST; DST/ keeps the mode and owner that the base has
  a file           is copied to DST, or to DST/NAME if DST ends with a slash
  *.tar[.gz|.zst]  is extracted into DST, unless DST has such an extension too
  -                a tar on standard input, extracted into DST

Options of one --copy, instead of the flags for all of them:
  SRC:DST,chown=UID[:GID],keep-owners,chmod=MODE,preserve-modes,exclude=GLOB,include=GLOB,
  ignore-file=FILE,xattrs,skip-special,split=auto|packages|none|N,python-venv=relocate|keep
A comma that belongs to a path or a value is written twice.

A .dockerignore in the root of a directory applies to it. Files that this command writes, and
images in a source, are excluded; --dry-run and --format json list everything that is excluded.

Each --copy, --remove, --ca-certificates and --timezones creates a layer; the others that follow
each other share one. --layer puts everything that follows it into one layer.";

#[derive(Debug, Args)]
pub(super) struct ContentArguments {
    /// Copy SRC to the absolute path DST in the image. Repeatable
    #[arg(long = "copy", value_name = "SRC:DST[,OPTIONS]", value_parser = OsStringValueParser::new().try_map(|text| Copy::read(&text)), allow_hyphen_values = true, help_heading = "Content")]
    copies: Vec<Copy>,
    /// Delete PATH from the layers below (whiteout). Repeatable
    #[arg(long = "remove", value_name = "PATH", value_parser = values::image_path, help_heading = "Content")]
    removals: Vec<ImagePath>,
    /// Create the directory PATH, with options mode=MODE and chown=UID[:GID]. Repeatable
    #[arg(long = "mkdir", value_name = "PATH[,OPTIONS]", help_heading = "Content")]
    directories: Vec<DirectoryItem>,
    /// Create the symbolic link PATH to TARGET, with the option chown=UID[:GID]. Repeatable
    #[arg(long = "symlink", value_name = "TARGET:PATH[,OPTION]", help_heading = "Content")]
    symlinks: Vec<SymlinkItem>,
    /// Create the file PATH with the line TEXT, with options mode=MODE and chown=UID[:GID]. Repeatable
    #[arg(long = "file", value_name = "[OPTIONS,]PATH=TEXT", help_heading = "Content")]
    files: Vec<FileItem>,
    /// Add a user to /etc/passwd, with a group and a home. Repeatable [default: GID as UID, HOME /home/NAME]
    #[arg(long = "add-user", value_name = "NAME:UID[:GID[:HOME]]", help_heading = "Content")]
    users: Vec<NewUser>,
    /// Add a group to /etc/group. Repeatable
    #[arg(long = "add-group", value_name = "NAME:GID", help_heading = "Content")]
    groups: Vec<NewGroup>,
    /// Add the certificate authorities of this machine, or those in FILE, as /etc/ssl/certs/ca-certificates.crt
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = HOST, value_parser = OsStringValueParser::new().try_map(|text| FilesFrom::read(&text)), help_heading = "Content")]
    ca_certificates: Option<FilesFrom>,
    /// Add the time zones of this machine, or those in a directory, tar or zip, as /usr/share/zoneinfo
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = HOST, value_parser = OsStringValueParser::new().try_map(|text| FilesFrom::read(&text)), help_heading = "Content")]
    timezones: Option<FilesFrom>,
    /// Start a layer described as TEXT, for all content flags that follow. Repeatable
    #[arg(long = "layer", value_name = "TEXT", help_heading = "Content")]
    layers: Vec<String>,
    #[command(flatten)]
    pub(super) exclusions: Exclusions,
    /// Set the owner of copied and created files [default: 0:0]
    #[arg(long, value_name = "UID[:GID]", value_parser = values::owner, help_heading = "Content")]
    chown: Option<Owner>,
    /// Preserve the numeric owners of the source
    #[arg(long, conflicts_with = "chown", help_heading = "Content")]
    keep_owners: bool,
    /// Set the mode (octal) of copied and created files; directories also get execute bits
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
    /// Relocate Python virtual environments to where they are copied, or keep them unchanged [default: relocate]
    ///
    /// The absolute paths that an environment holds become those of its new place. It is an error if it cannot work there: because the image lacks its version of Python or its C library, or because a package of it is installed from a directory that is not copied.
    #[arg(long, value_name = "relocate|keep", help_heading = "Content")]
    python_venv: Option<PythonEnvironments>,
    /// Split each copy and a robot's environment into layers by package or directory, at most N [default: auto]
    ///
    /// auto splits a copy of more than 64 MiB into up to 32 layers, and an environment from 32 MiB on into up to 16; packages also splits smaller ones, and so does a number. The files of the image are the same.
    #[arg(long, value_name = "auto|packages|none|N", help_heading = "Layers")]
    split: Option<Split>,
}

/// One flag that adds to a layer, in the order of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerFlag {
    /// The n-th `--copy`.
    Copy(usize),
    /// The n-th `--remove`.
    Remove(usize),
    /// The n-th `--mkdir`.
    Directory(usize),
    /// The n-th `--symlink`.
    Symlink(usize),
    /// The n-th `--file`.
    File(usize),
    /// The n-th `--add-user`.
    User(usize),
    /// The n-th `--add-group`.
    Group(usize),
    /// `--ca-certificates`.
    Certificates,
    /// `--timezones`.
    TimeZones,
    /// The n-th `--layer`.
    Layer(usize),
}

/// The flags that make layers: their names for clap, and on the command line.
pub(super) const LAYER_FLAGS: [(&str, &str); 10] = [
    ("copies", "copy"),
    ("removals", "remove"),
    ("directories", "mkdir"),
    ("symlinks", "symlink"),
    ("files", "file"),
    ("users", "add-user"),
    ("groups", "add-group"),
    ("ca_certificates", "ca-certificates"),
    ("timezones", "timezones"),
    ("layers", "layer"),
];

/// What each of them becomes.
const NUMBERED: [fn(usize) -> LayerFlag; LAYER_FLAGS.len()] = [
    LayerFlag::Copy,
    LayerFlag::Remove,
    LayerFlag::Directory,
    LayerFlag::Symlink,
    LayerFlag::File,
    LayerFlag::User,
    LayerFlag::Group,
    |_| LayerFlag::Certificates,
    |_| LayerFlag::TimeZones,
    LayerFlag::Layer,
];

/// Returns the flags that make layers in the order of the command line, which clap's lists of values do not preserve.
pub(super) fn order_of_layers(matches: &ArgMatches) -> Vec<LayerFlag> {
    let mut order: Vec<(usize, LayerFlag)> = Vec::new();
    for ((id, _), flag) in LAYER_FLAGS.into_iter().zip(NUMBERED) {
        let places = matches.indices_of(id).into_iter().flatten();
        order.extend(places.enumerate().map(|(number, place)| (place, flag(number))));
    }
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, flag)| flag).collect()
}

/// What one flag adds to a layer.
struct Addition {
    source: Source,
    /// What is done, for the history.
    done: String,
    sharing: LayerUse,
    /// Whether the layer is split, if it has one of its own.
    split: Split,
}

/// Returns what a flag for files of the host adds.
fn of_the_host(name: &str, source: Source) -> Addition {
    let source = source.named(format!("--{name}"));
    Addition { source, done: name.to_owned(), sharing: LayerUse::Own, split: Split::Undivided }
}

/// Whether additions that follow each other share a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LayerUse {
    /// It has a layer of its own.
    Own,
    /// It shares its layer with others of this kind.
    Joint,
}

impl ContentArguments {
    /// Returns whether a tar on standard input is copied.
    pub(super) fn reads_standard_input(&self) -> bool {
        self.copies.iter().any(Copy::is_standard_input)
    }

    /// Returns the layers for a platform, in the order of the command line; everything in them gets the time `mtime`.
    pub(super) fn layers(
        &self,
        order: &[LayerFlag],
        mtime: Timestamp,
        platform: Option<&Platform>,
    ) -> Result<Vec<LayerSpec>> {
        if self.copies.iter().filter(|copy| copy.is_standard_input()).count() > 1 {
            return Err(Error::usage("standard input", "can only be copied once"));
        }
        let rules = self.rules(mtime);
        let mut layers: Vec<LayerSpec> = Vec::new();
        let mut in_group = false;
        let mut before = LayerUse::Own;
        for flag in order {
            let Some(Addition { source, done, sharing, split }) = self.addition(*flag, &rules, platform)? else {
                layers.extend(self.group(*flag));
                in_group = true;
                continue;
            };
            let shares = sharing == LayerUse::Joint && before == sharing;
            before = sharing;
            match layers.last_mut() {
                Some(group) if in_group => group.sources.push(source),
                Some(last) if shares => {
                    last.name = format!("{}, {}", last.name, source.name);
                    last.created_by = format!("{}, {done}", last.created_by);
                    last.sources.push(source);
                }
                _ => {
                    let layer = LayerSpec::new(&source.name).created_by(format!("ocibuild: {done}")).source(source);
                    layers.push(layer.split(split));
                }
            }
        }
        Ok(layers)
    }

    /// Returns what `flag` adds; `None` if it begins a group.
    fn addition(&self, flag: LayerFlag, rules: &Rules, platform: Option<&Platform>) -> Result<Option<Addition>> {
        let together = |source: Source, done: String| Addition {
            source: source.named(format!("--{done}")),
            done,
            sharing: LayerUse::Joint,
            split: Split::Undivided,
        };
        Ok(Some(match flag {
            LayerFlag::Layer(_) => return Ok(None),
            LayerFlag::Copy(number) => {
                let copy = &self.copies[number].for_platform(platform)?;
                let source = copy.source(rules, &self.exclusions)?;
                let split = copy.split.unwrap_or(self.split());
                Addition { source, done: format!("copy to {}", copy.destination), sharing: LayerUse::Own, split }
            }
            LayerFlag::Remove(number) => {
                let path = &self.removals[number];
                let source = Source::removal(path.clone()).named(format!("--remove {path}")).rules(rules.clone());
                Addition { source, done: format!("remove {path}"), sharing: LayerUse::Own, split: Split::Undivided }
            }
            LayerFlag::Directory(number) => {
                let item = &self.directories[number];
                together(item.source(rules), format!("mkdir {}", item.path))
            }
            LayerFlag::Symlink(number) => {
                let item = &self.symlinks[number];
                together(item.source(rules), format!("symlink {}", item.path))
            }
            LayerFlag::File(number) => {
                let item = &self.files[number];
                together(item.source(rules), format!("file {}", item.path))
            }
            LayerFlag::User(number) => {
                let item = self.users[number].clone();
                let done = format!("add-user {}", item.name());
                together(Source::user(item).rules(rules.clone()), done)
            }
            LayerFlag::Group(number) => {
                let item = self.groups[number].clone();
                let done = format!("add-group {}", item.name());
                together(Source::group(item).rules(rules.clone()), done)
            }
            LayerFlag::Certificates => {
                let source = self.ca_certificates.as_ref().map(|origin| origin.certificates(rules));
                return source.map(|source| Ok(of_the_host("ca-certificates", source?))).transpose();
            }
            LayerFlag::TimeZones => {
                let source = self.timezones.as_ref().map(|origin| origin.time_zones(rules));
                return source.map(|source| Ok(of_the_host("timezones", source?))).transpose();
            }
        }))
    }

    fn group(&self, flag: LayerFlag) -> Option<LayerSpec> {
        let LayerFlag::Layer(number) = flag else { return None };
        self.layers.get(number).map(LayerSpec::new)
    }

    /// Returns how copies and environments are split, unless a copy has an option of its own.
    pub(super) fn split(&self) -> Split {
        self.split.unwrap_or_default()
    }

    /// Requires that `--split` and the options of that name have an effect.
    pub(super) fn check_split(&self, order: &[LayerFlag], has_environment: bool) -> Result<()> {
        let begins_group = |flag: &LayerFlag| matches!(flag, LayerFlag::Layer(_));
        let (own, grouped) = order.split_at(order.iter().position(begins_group).unwrap_or(order.len()));
        let is_split =
            |flag: &LayerFlag| matches!(flag, LayerFlag::Copy(number) if self.copies[*number].split.is_some());
        if grouped.iter().any(is_split) {
            return Err(Error::usage("option `split`", "has no effect after --layer, which makes one layer"));
        }
        let is_copy = |flag: &LayerFlag| matches!(flag, LayerFlag::Copy(_));
        if self.split.is_some() && !own.iter().any(is_copy) && !has_environment {
            let reason = "has no effect without a --copy that has a layer of its own, or a robot's environment";
            return Err(Error::usage("--split", reason));
        }
        Ok(())
    }

    /// Requires that what the flags exclude is excluded from something, and that environments can be in it.
    pub(super) fn check_exclusions(&self, is_robot: bool) -> Result<()> {
        if self.python_venv.is_some() && self.copies.is_empty() {
            return Err(Error::usage("--python-venv", "has no effect without --copy"));
        }
        match self.exclusions.first_given() {
            Some(name) if self.copies.is_empty() && !is_robot => {
                Err(Error::usage(format!("--{name}"), "has no effect without --copy or --robot")
                    .hint("--copy SRC:DST, or --robot PATH"))
            }
            _ => Ok(()),
        }
    }

    fn rules(&self, mtime: Timestamp) -> Rules {
        let modes = match (self.chmod, self.preserve_modes) {
            (Some(bits), _) => Modes::Set(bits),
            (None, true) => Modes::Preserve,
            (None, false) => Modes::Normal,
        };
        Rules::default()
            .owners(if self.keep_owners { Owners::Keep } else { Owners::Set(self.chown.unwrap_or_default()) })
            .modes(modes)
            .mtime(mtime)
            .xattrs(if self.xattrs { ExtendedAttributes::Keep } else { ExtendedAttributes::Drop })
            .python(self.python_venv.unwrap_or(PythonEnvironments::Relocate))
            .special_files(if self.skip_special { SpecialFiles::Skip } else { SpecialFiles::Refuse })
    }
}
