//! `ocibuild layout`, the main command.

use super::base::BaseArguments;
use super::cache_directory::CacheDirectory;
use super::export;
use super::layer_cache::LayerCacheArguments;
use super::output::print;
use super::rcc_download::Surroundings;
use super::robot::{CopiesSomething, RobotArguments};
use super::values::{self, Copy, CopyTarget};
use super::watch::Watch;
use super::{Common, Format};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgMatches, Args, ValueEnum};
use ocibuild::build::{self, BuildSpec, Built, LayerSpec, Memory, Origin, Plan, Source, SourceContent};
use ocibuild::cache::{Cache, LayerKey, RecipeKey};
use ocibuild::compression::{Compression, Encoding};
use ocibuild::image::ConfigEdit;
use ocibuild::progress::warn;
use ocibuild::rcc::image::{EntriesOf, RobotImage};
use ocibuild::root::Root;
use ocibuild::store::Layout;
use ocibuild::tree::{ExtendedAttributes, IgnoreRules, ImagePath, Modes, Owner, Rules, SpecialFiles};
use ocibuild::{Error, ErrorKind, ImageName, Location, Platform, Result, Timestamp, bounded};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Sources of --copy:
  a directory      its content goes to DST
  a file           becomes DST, or DST/NAME where DST ends with a slash
  *.tar[.gz|.zst]  is unpacked into DST, unless DST has such an ending itself
  -                a tar on standard input, unpacked into DST

Each --copy becomes a layer; --layer puts those that follow it into one.

Examples:
  ocibuild layout ./out --base oci:./debian --copy ./app:/app --entrypoint 'python3 /app/main.py'
  ocibuild layout ./out -t team/app:v1 --copy ./site:/srv --user 1000 --expose 8080")]
pub(super) struct LayoutArguments {
    /// The image layout to build into; made where there is none
    output: PathBuf,
    /// Name the image: a tag (v1), or a full name (team/app:v1). Repeatable [default: latest]
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<ImageName>,
    /// Image to build on: scratch, a reference, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REFERENCE]
    #[arg(long, value_name = "IMAGE", visible_aliases = ["from", "base-image"])]
    base: Option<String>,
    #[command(flatten)]
    bases: BaseArguments,
    #[command(flatten)]
    cache_directory: CacheDirectory,
    /// Platform to take of the base, or to claim on scratch, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Copy SRC from this machine to the absolute path DST in the image. Repeatable
    #[arg(long = "copy", value_name = "SRC:DST", value_parser = OsStringValueParser::new().try_map(|text| values::copy(&text)), allow_hyphen_values = true, help_heading = "Content")]
    copies: Vec<Copy>,
    /// Remove PATH, which a layer below brought. Repeatable
    #[arg(long = "remove", value_name = "PATH", value_parser = values::image_path, help_heading = "Content")]
    removals: Vec<ImagePath>,
    /// Put the --copy and --remove that follow, up to the next --layer, into one layer described as TEXT
    #[arg(long = "layer", value_name = "TEXT", help_heading = "Content")]
    layers: Vec<String>,
    /// Leave out what matches, in .dockerignore syntax. Repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Content")]
    exclude: Vec<String>,
    /// Read such patterns from a file
    #[arg(long, value_name = "FILE", help_heading = "Content")]
    ignore_file: Option<PathBuf>,
    /// Owner of everything copied [default: 0:0]
    #[arg(long, value_name = "UID[:GID]", value_parser = values::owner, help_heading = "Content")]
    chown: Option<Owner>,
    /// Mode of every file copied, octal; directories can be entered wherever they can be read
    #[arg(long, value_name = "MODE", value_parser = values::mode, conflicts_with = "preserve_modes", help_heading = "Content")]
    chmod: Option<u16>,
    /// Keep every mode as it is, instead of 0755 for directories and programs and 0644 for other files
    #[arg(long, help_heading = "Content")]
    preserve_modes: bool,
    /// Keep extended attributes, file capabilities among them
    #[arg(long, help_heading = "Content")]
    xattrs: bool,
    /// Leave out devices, sockets and pipes instead of refusing them
    #[arg(long, help_heading = "Content")]
    skip_special: bool,

    /// The program that always runs: a JSON array, or words. Clears an inherited cmd
    #[arg(long, value_name = "COMMAND", value_parser = values::command, help_heading = "Config")]
    entrypoint: Option<std::vec::Vec<String>>,
    /// The command, or the entrypoint's arguments: a JSON array, or words
    #[arg(long, value_name = "COMMAND", value_parser = values::command, allow_hyphen_values = true, help_heading = "Config")]
    cmd: Option<std::vec::Vec<String>>,
    /// Set a variable. Repeatable
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::pair, help_heading = "Config")]
    env: Vec<(String, String)>,
    /// Remove an inherited variable. Repeatable
    #[arg(long, value_name = "KEY", help_heading = "Config")]
    unset_env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "PATH", value_parser = values::absolute, help_heading = "Config")]
    workdir: Option<String>,
    /// User, and group if need be: numbers, or names that the image knows
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = values::user, help_heading = "Config")]
    user: Option<String>,
    /// Set a label. Repeatable
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = values::pair, help_heading = "Config")]
    labels: Vec<(String, String)>,
    /// Set an annotation of the manifest. Repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = values::pair, help_heading = "Config")]
    annotations: Vec<(String, String)>,
    /// Say that the image listens on a port. Repeatable
    #[arg(long, value_name = "PORT[/tcp|udp]", value_parser = values::port, help_heading = "Config")]
    expose: Vec<String>,
    /// Say that a path wants a volume. Repeatable
    #[arg(long = "volume", value_name = "PATH", value_parser = values::absolute, help_heading = "Config")]
    volumes: Vec<String>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL", value_parser = values::signal, help_heading = "Config")]
    stop_signal: Option<String>,
    /// Who made the image
    #[arg(long, value_name = "TEXT", help_heading = "Config")]
    author: Option<String>,
    /// The one time of image and files: RFC 3339 or seconds [default: SOURCE_DATE_EPOCH, else 1970-01-01T00:00:00Z]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = "Config")]
    created: Option<Timestamp>,

    #[command(flatten)]
    robot: RobotArguments,
    #[command(flatten)]
    cache: LayerCacheArguments,
    /// Write a docker-archive of the image, too
    #[arg(long, value_name = "FILE", conflicts_with = "sparse", help_heading = "Output")]
    save: Option<PathBuf>,

    /// How new layers are compressed
    #[arg(long, value_name = "KIND", default_value = "gzip", help_heading = "Layers")]
    compression: CompressionKind,
    /// How hard: gzip 1 to 12 [default: 5], zstd 1 to 19 [default: 3]
    #[arg(long, value_name = "LEVEL", help_heading = "Layers")]
    compression_level: Option<u8>,

    /// Write the digest of the config, which engines call the image ID, to a file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    iidfile: Option<PathBuf>,
    /// Write the digest of the manifest to a file
    #[arg(long, value_name = "FILE", visible_alias = "digestfile", help_heading = "Output")]
    digest_file: Option<PathBuf>,
    /// Show what would be built, and write nothing
    #[arg(long, help_heading = "Output")]
    dry_run: bool,
    /// How many seconds to wait for another process that holds the layout locked
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Output")]
    lock_timeout: u64,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionKind {
    /// Read everywhere
    Gzip,
    /// Smaller and faster; Docker before version 23 cannot read it
    Zstd,
    /// Tars as they are
    None,
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

/// The order in which `--copy`, `--remove` and `--layer` were given, which clap's lists of values do not tell.
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

/// Builds the image and prints the digest of its manifest.
pub(super) fn run(arguments: &LayoutArguments, order: &[LayerFlag]) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    build::check_names(&arguments.tags)?;
    arguments.check_result_files()?;
    let cache = arguments.cache.open(&arguments.cache_directory, &watch);
    let robot = arguments.robot_image(order, cache.as_ref(), &watch)?;
    let names = arguments.names(robot.as_ref())?;
    let spec = arguments.spec(order, robot.as_ref(), &watch)?;
    build::check_output(&spec.layers, &arguments.output)?;
    if arguments.dry_run {
        let plan = spec.plan(&nearest_directory(&arguments.output)?, None, &watch)?;
        show(&plan, arguments.common.format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let timeout = Duration::from_secs(arguments.lock_timeout);
    let mut layout = Layout::create(&arguments.output)?.with_lock_timeout(timeout);
    if let Some(cache) = &cache {
        layout = layout.with_memory(cache.verified_files().clone());
    }
    let layout = Arc::new(layout);
    let memory = cache.as_ref().map(|cache| Memory { cache, layout: &layout });
    let plan = spec.plan(layout.root(), memory, &watch)?;
    let built = plan.build(&layout, cache.as_ref(), &names, &watch)?;
    if let Some(robot) = &robot {
        robot.warn_of_unrewritten_paths(&watch);
    }
    if let Some(file) = &arguments.save {
        export::save(&built.image, file, &names, &watch)?;
    }
    arguments.report(&plan, &built, &names, &watch)?;
    Ok(ExitCode::SUCCESS)
}

impl LayoutArguments {
    /// The robot to package, if there is one.
    fn robot_image(
        &self,
        order: &[LayerFlag],
        cache: Option<&Cache>,
        watch: &Arc<Watch>,
    ) -> Result<Option<RobotImage>> {
        let copies_something = if order.is_empty() { CopiesSomething::No } else { CopiesSomething::Yes };
        let Some(file) = self.robot.file(copies_something)? else { return Ok(None) };
        let platform = self.platform.clone().unwrap_or_else(Platform::linux_amd64);
        let compression = self.compression()?;
        let noted = |recipe: &RecipeKey| cache.and_then(|cache| cache.notes(&LayerKey::of_recipe(recipe, compression)));
        let surroundings = Surroundings { bases: &self.bases, cache: &self.cache_directory, watch };
        self.robot.image(&file, &platform, self.user.as_deref(), noted, surroundings).map(Some)
    }

    fn compression(&self) -> Result<Compression> {
        let encoding = match self.compression {
            CompressionKind::Gzip => Encoding::Gzip,
            CompressionKind::Zstd => Encoding::Zstd,
            CompressionKind::None => Encoding::Plain,
        };
        Compression::new(encoding, self.compression_level)
    }

    /// The names that were given; for a robot, else the name of its directory.
    fn names(&self, robot: Option<&RobotImage>) -> Result<Vec<ImageName>> {
        let Some(robot) = robot.filter(|_| self.tags.is_empty()) else { return Ok(self.tags.clone()) };
        let directory = Root::resolve(robot.directory.path())?;
        let name = directory.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let parts: Vec<&str> =
            name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
        let name = if parts.is_empty() { "robot".to_owned() } else { parts.join("-") };
        Ok(vec![format!("{name}:latest").parse()?])
    }

    fn spec(&self, order: &[LayerFlag], robot: Option<&RobotImage>, watch: &Arc<Watch>) -> Result<BuildSpec> {
        let default = if robot.is_some() { Timestamp::RCC } else { Timestamp::EPOCH };
        let created = values::created(self.created, default)?;
        let rules = self.rules(created)?;
        for (key, _) in self.env.iter().filter(|(key, value)| !value.is_empty() && sounds_secret(key)) {
            warn(watch, &format!("--env {key}"), "sounds like a secret, and everybody who has the image can read it");
        }
        let mut layers = Vec::new();
        let mut config = ConfigEdit::default();
        let mut annotations = BTreeMap::new();
        if let Some(robot) = robot {
            layers = robot_layers(robot, &self.output)?;
            config = robot.config()?;
            if let Some(environment) = &robot.environment {
                let blueprint = environment.name().blueprint.to_string();
                annotations.insert("org.opencontainers.image.version".to_owned(), blueprint);
            }
        }
        layers.extend(self.layer_specs(order, &rules)?);
        annotations.extend(unique(&self.annotations, "--annotation")?);
        let location = self.base_location(robot.is_some(), watch)?;
        let directory = robot.map_or(Path::new("."), |robot| robot.directory.path());
        Ok(BuildSpec {
            base: self.bases.open(
                location.as_ref(),
                self.platform.as_ref(),
                directory,
                &self.cache_directory,
                watch,
            )?,
            layers,
            config: config.overridden_by(self.config_edit()?),
            annotations,
            created,
            compression: self.compression()?,
        })
    }

    fn base_location(&self, is_robot: bool, watch: &Watch) -> Result<Option<Location>> {
        match self.base.as_deref() {
            // conda's python needs glibc, which this base has.
            None if is_robot => {
                "docker.io/library/debian:stable-slim".parse().map(|base| Some(Location::Registry(base)))
            }
            Some("scratch") if is_robot => {
                warn(watch, "base scratch", "has no C library, which the python of an environment needs");
                Ok(None)
            }
            None | Some("scratch") => Ok(None),
            Some(text) if text.starts_with("scratch:") || text.starts_with("scratch@") => {
                Err(Error::usage(format!("base `{text}`"), "scratch is nothing, and has no tags"))
            }
            Some("docker.io/library/scratch" | "docker.io/scratch" | "library/scratch") => {
                Err(Error::invalid("base image", "no registry holds scratch").hint("--base scratch"))
            }
            Some(text) if has_transport(text) => text.parse().map(Some),
            Some(text) if Path::new(text).join("oci-layout").is_file() => format!("oci:{text}").parse().map(Some),
            Some(text) => text.parse().map(|reference| Some(Location::Registry(reference))),
        }
    }

    fn rules(&self, created: Timestamp) -> Result<Rules> {
        let mut ignore = IgnoreRules::default();
        if let Some(file) = &self.ignore_file {
            const LARGEST: u64 = 1 << 20;
            let object = file.display().to_string();
            let text = bounded::read(Root::open_named_file(file)?, LARGEST, &object)?;
            let text = String::from_utf8(text).map_err(|_| Error::invalid(&object, "not UTF-8"))?;
            ignore.add_file(&text).map_err(|error| error.within(object))?;
        }
        for pattern in &self.exclude {
            ignore.add(pattern)?;
        }
        let modes = match (self.chmod, self.preserve_modes) {
            (Some(bits), _) => Modes::Set(bits),
            (None, true) => Modes::Preserve,
            (None, false) => Modes::Normal,
        };
        Ok(Rules {
            owner: self.chown.unwrap_or_default(),
            modes,
            mtime: created,
            ignore,
            xattrs: if self.xattrs { ExtendedAttributes::Keep } else { ExtendedAttributes::Drop },
            special_files: if self.skip_special { SpecialFiles::Skip } else { SpecialFiles::Refuse },
        })
    }

    fn layer_specs(&self, order: &[LayerFlag], rules: &Rules) -> Result<Vec<LayerSpec>> {
        if self.copies.iter().filter(|copy| copy.source == Path::new("-")).count() > 1 {
            return Err(Error::usage("standard input", "cannot be copied twice"));
        }
        let mut layers: Vec<LayerSpec> = Vec::new();
        let mut in_group = false;
        for flag in order {
            let (source, created_by) = match *flag {
                LayerFlag::Group(number) => {
                    let text = self.layers[number].clone();
                    layers.push(LayerSpec {
                        name: text.clone(),
                        created_by: text,
                        sources: Vec::new(),
                        known_directories: BTreeMap::new(),
                        recipe: None,
                    });
                    in_group = true;
                    continue;
                }
                LayerFlag::Copy(number) => {
                    let copy = &self.copies[number];
                    (copy_source(copy, rules)?, format!("ocibuild: copy to {}", copy.destination))
                }
                LayerFlag::Remove(number) => {
                    let path = &self.removals[number];
                    let name = format!("--remove {path}");
                    let content = SourceContent::Removal;
                    (
                        Source { name, content, destination: path.clone(), rules: rules.clone() },
                        format!("ocibuild: remove {path}"),
                    )
                }
            };
            match layers.last_mut().filter(|_| in_group) {
                Some(group) => group.sources.push(source),
                None => layers.push(LayerSpec {
                    name: source.name.clone(),
                    created_by,
                    sources: vec![source],
                    known_directories: BTreeMap::new(),
                    recipe: None,
                }),
            }
        }
        Ok(layers)
    }

    fn config_edit(&self) -> Result<ConfigEdit> {
        if let Some(key) = self.unset_env.iter().find(|key| self.env.iter().any(|(set, _)| set == *key)) {
            return Err(Error::usage(format!("--unset-env {key}"), "the variable is also set"));
        }
        Ok(ConfigEdit {
            entrypoint: self.entrypoint.clone(),
            cmd: self.cmd.clone(),
            env: unique(&self.env, "--env")?,
            unset_env: self.unset_env.iter().cloned().collect(),
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            labels: unique(&self.labels, "--label")?,
            exposed_ports: self.expose.iter().cloned().collect::<BTreeSet<_>>(),
            volumes: self.volumes.iter().cloned().collect(),
            stop_signal: self.stop_signal.clone(),
            author: self.author.clone(),
        })
    }

    fn iid_file(&self) -> Result<Option<(Root, String)>> {
        self.iidfile.as_deref().map(result_file).transpose()
    }

    fn digest_file(&self) -> Result<Option<(Root, String)>> {
        self.digest_file.as_deref().map(result_file).transpose()
    }

    /// Requires that the files for digests can be made, before the work is done that they tell of.
    fn check_result_files(&self) -> Result<()> {
        let (iid, digest) = (self.iid_file()?, self.digest_file()?);
        if let (Some((iid_root, iid)), Some((digest_root, digest))) = (iid, digest)
            && iid == digest
            && Root::path_inside(iid_root.path(), digest_root.path()) == Some(PathBuf::new())
        {
            return Err(Error::usage("--digest-file", "names the same file as --iidfile"));
        }
        Ok(())
    }

    fn report(&self, plan: &Plan, built: &Built, names: &[ImageName], watch: &Watch) -> Result<()> {
        let image = &built.image;
        let (digest, config) = (image.descriptor.digest.to_string(), image.manifest.config.digest.to_string());
        for (file, text) in [(self.iid_file()?, &config), (self.digest_file()?, &digest)] {
            if let Some((root, name)) = file {
                root.replace_file(&name, text.as_bytes())?;
            }
        }
        if ocibuild::root::sync_was_refused() {
            warn(
                watch,
                &self.output.display().to_string(),
                "this file system cannot make files durable; a crash may lose the image",
            );
        }
        match self.common.format {
            Format::Text => {
                let total: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
                for ((layer, origin), planned) in built.layers.iter().zip(&plan.layers) {
                    let (size, tar) = (bounded::size(layer.descriptor.size), bounded::size(layer.tar_size));
                    let (digest, name) = (layer.descriptor.digest, &planned.name);
                    let entries = planned.tree().map(|tree| format!(", {} entries", tree.entries().len()));
                    watch.say(&format!("layer {digest}  {size} of {tar}{}  {name}", entries.unwrap_or_default()));
                    if self.cache.explain {
                        watch.say(&format!("  {}", explanation(*origin)));
                    }
                }
                let layers = image.manifest.layers.len();
                watch.say(&format!("image of {layers} layers, {}, in {}", bounded::size(total), self.output.display()));
                print(&digest)
            }
            Format::Json => {
                let layers: Vec<_> = built
                    .layers
                    .iter()
                    .zip(&plan.layers)
                    .map(|((layer, origin), planned)| {
                        let mut described = layer.descriptor.to_json();
                        described["diffId"] = layer.diff_id.to_string().into();
                        described["tarSize"] = layer.tar_size.into();
                        described["origin"] = origin_name(*origin).into();
                        if let Some(tree) = planned.tree() {
                            described["entries"] = tree.entries().len().into();
                        }
                        described["createdBy"] = planned.created_by.as_str().into();
                        described
                    })
                    .collect();
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let result = json!({
                    "digest": digest,
                    "configDigest": config,
                    "mediaType": image.descriptor.media_type,
                    "size": image.descriptor.size,
                    "layout": self.output.display().to_string(),
                    "names": if names.is_empty() { vec!["latest".to_owned()] } else { names },
                    "baseLayers": plan.base.layers().len(),
                    "layers": layers,
                });
                print(&result.to_string())
            }
        }
    }
}

/// Why a layer was, or was not, taken from the cache.
fn explanation(origin: Origin) -> &'static str {
    match origin {
        Origin::Made => "made: no layer of this content was in the cache",
        Origin::SameRecipe => "from the cache: the catalog and every option are the same, so nothing was read",
        Origin::SameFiles => "from the cache: every file is the one that it was, untouched",
        Origin::SameContent => "from the cache: the files are others, or were touched, and have the same content",
    }
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Made => "made",
        Origin::SameRecipe => "same-recipe",
        Origin::SameFiles => "same-files",
        Origin::SameContent => "same-content",
    }
}

/// The layers of a robot's image, the robot's own last.
fn robot_layers(robot: &RobotImage, output: &Path) -> Result<Vec<LayerSpec>> {
    let known_directories = robot.known_directories()?;
    let mut layers = Vec::new();
    let entries = |name: &str, entries: Box<EntriesOf>| Source {
        name: name.to_owned(),
        content: SourceContent::Entries(Mutex::new(entries)),
        destination: ImagePath::root(),
        rules: Rules { mtime: Timestamp::RCC, ..Rules::default() },
    };
    for layer in robot.layers()? {
        layers.push(LayerSpec {
            created_by: format!("ocibuild: {}", layer.name),
            sources: vec![entries(&layer.name, layer.entries)],
            name: layer.name,
            known_directories: known_directories.clone(),
            recipe: layer.recipe,
        });
    }
    let mut rules = robot.robot_rules()?;
    let robot_entries = robot.robot_entries()?;
    // A layout beside the robot is where the image goes, and no part of it.
    if let Some(inside) =
        Root::path_inside(robot.directory.path(), output).and_then(|inside| inside.to_str().map(str::to_owned))
        && !inside.is_empty()
    {
        rules.ignore.add(&inside.replace('\\', "/"))?;
    }
    let own = Source {
        name: format!("robot {}", robot.robot.file),
        content: SourceContent::Directory(robot.directory.clone()),
        destination: robot.places.app.clone(),
        rules,
    };
    layers.push(LayerSpec {
        name: own.name.clone(),
        created_by: "ocibuild: robot".to_owned(),
        sources: vec![own, entries("robot", Box::new(move || Ok(robot_entries)))],
        known_directories,
        recipe: None,
    });
    Ok(layers)
}

/// The directory, opened, and the name of a file for a digest.
fn result_file(file: &Path) -> Result<(Root, String)> {
    let object = || file.display().to_string();
    if file.is_dir() {
        return Err(Error::invalid(object(), "is a directory"));
    }
    let (root, name) = Root::of_file(file, Root::open)?;
    let name = name.to_str().ok_or_else(|| Error::invalid(object(), "the name is not Unicode"))?;
    Ok((root, name.to_owned()))
}

fn has_transport(text: &str) -> bool {
    ["oci:", "oci-archive:", "docker-archive:", "docker://"].iter().any(|transport| text.starts_with(transport))
}

/// Names of variables that usually hold what nobody else should know.
fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "PRIVATE_KEY", "CREDENTIAL"]
        .iter()
        .any(|word| key.contains(word))
}

/// A map of pairs; the same key twice can only be a mistake.
fn unique(pairs: &[(String, String)], flag: &str) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some() {
            return Err(Error::usage(format!("{flag} {key}"), "given twice"));
        }
    }
    Ok(map)
}

fn copy_source(copy: &Copy, rules: &Rules) -> Result<Source> {
    let shown = copy.source.display();
    let source = |content, destination| Source {
        name: format!("{shown} to {destination}"),
        content,
        destination,
        rules: rules.clone(),
    };
    if copy.source == Path::new("-") {
        let content = SourceContent::Archive(Mutex::new(Box::new(std::io::stdin())));
        return Ok(source(content, copy.destination.clone()));
    }
    match Root::open(&copy.source) {
        Ok(root) => return Ok(source(SourceContent::Directory(root), copy.destination.clone())),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
        // Not a directory, or not to be read: opening it as a file tells.
        Err(_) => {}
    }
    let file = Root::open_named_file(&copy.source)?;
    let is_unpacked = is_archive(copy.source.as_os_str().as_encoded_bytes()) && !is_archive(copy.destination.name());
    if is_unpacked {
        return Ok(source(SourceContent::Archive(Mutex::new(Box::new(file))), copy.destination.clone()));
    }
    let real = Root::resolve(&copy.source)?;
    let (root, name) = Root::of_file(&real, Root::open)?;
    let destination = match copy.target {
        CopyTarget::Exact => copy.destination.clone(),
        CopyTarget::Directory => {
            let name = copy.source.file_name().ok_or_else(|| Error::usage(shown.to_string(), "has no file name"))?;
            copy.destination.join_name(&ocibuild::root::name_bytes(name)?)?
        }
    };
    Ok(source(SourceContent::File(root, name), destination))
}

fn is_archive(name: &[u8]) -> bool {
    [&b".tar"[..], b".tar.gz", b".tgz", b".tar.zst"].iter().any(|ending| name.ends_with(ending))
}

/// Where a dry run may spool an archive: the layout's directory, or the nearest one above it that exists.
fn nearest_directory(output: &Path) -> Result<Root> {
    let existing = output.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    Root::open(existing)
}

fn show(plan: &Plan, format: Format) -> Result<()> {
    let document = plan.to_json()?;
    if format == Format::Json {
        return print(&document.to_string());
    }
    let mut lines = Vec::new();
    for layer in plan.base.layers() {
        lines.push(format!("base layer  {}  {}", layer.digest, bounded::size(layer.size)));
    }
    for layer in &plan.layers {
        let content = match layer.tree() {
            Some(tree) => format!("{} entries, {}", tree.entries().len(), bounded::size(tree.content_size())),
            None => "from the cache".to_owned(),
        };
        lines.push(format!("new layer   {content}, {}  {}", plan.compression, layer.name));
    }
    let config = serde_json::to_string_pretty(&document["config"]).unwrap_or_default();
    lines.push(format!("config      {config}"));
    print(&lines.join("\n"))
}
