//! `SRC:DST[,OPTION]...`: files of this machine.

use super::colon_of_pair;
use super::exclusions::{Exclusions, add_file};
use super::options::{ItemOptions, KnownOptions, OptionForm, doubled};
use crate::cli::placeholders::{filled, has_placeholder};
use crate::cli::values;
use ocibuild::build::Source;
use ocibuild::common::root::Root;
use ocibuild::layers::split::Split;
use ocibuild::layers::tree::{
    DOCKERIGNORE, ExtendedAttributes, IgnoreRules, Modes, Owners, PythonEnvironments, Rules, SpecialFiles,
};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, ErrorKind, Platform, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The options: the flags for all copies, for one of them.
pub(in crate::cli) const OPTIONS: KnownOptions = &[
    ("chown", OptionForm::Value("UID[:GID]")),
    ("keep-owners", OptionForm::Word),
    ("chmod", OptionForm::Value("MODE")),
    ("preserve-modes", OptionForm::Word),
    ("exclude", OptionForm::Values("GLOB")),
    ("include", OptionForm::Values("GLOB")),
    ("ignore-file", OptionForm::Value("FILE")),
    ("xattrs", OptionForm::Word),
    ("skip-special", OptionForm::Word),
    ("split", OptionForm::Value("auto|packages|none|N")),
    ("python-venv", OptionForm::Value("relocate|keep")),
];

/// A value of `--copy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Copy {
    /// A directory, a file, a tar, or `-` for a tar on standard input.
    source: PathBuf,
    /// The destination in the image.
    pub(in crate::cli) destination: ImagePath,
    target: CopyTarget,
    owners: Option<Owners>,
    modes: Option<Modes>,
    exclusions: Exclusions,
    xattrs: Option<ExtendedAttributes>,
    special_files: Option<SpecialFiles>,
    pub(in crate::cli) split: Option<Split>,
    python: Option<PythonEnvironments>,
}

/// The form of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyTarget {
    /// `/dst`: a file gets this name.
    Exact,
    /// `/dst/`: a file keeps its name below this directory.
    Directory,
}

impl Copy {
    /// Reads `SRC:DST` and the options behind it.
    ///
    /// # Errors
    /// Fails if there is no such colon, DST leaves the image, or an option is wrong.
    pub(in crate::cli) fn read(text: &OsStr) -> Result<Copy> {
        let (item, options) = ItemOptions::split(ocibuild::common::root::name_bytes(text)?, OPTIONS)?;
        let shown = || format!("`{}`", String::from_utf8_lossy(&item));
        let malformed = || Error::usage(shown(), "not of the form SRC:DST with an absolute DST");
        let at = colon_of_pair(&item).ok_or_else(malformed)?;
        let (source, destination) = (&item[..at], &item[at + 1..]);
        let target = if destination.ends_with(b"/") { CopyTarget::Directory } else { CopyTarget::Exact };
        let destination = ImagePath::new(destination).map_err(|error| Error::usage(error.object(), error.reason()))?;
        options.refuse_both("chown", "keep-owners")?;
        options.refuse_both("chmod", "preserve-modes")?;
        let owner = options.value("chown", values::owner)?.map(Owners::Set);
        let mode = options.value("chmod", values::mode)?.map(Modes::Set);
        let exclusions = Exclusions {
            exclude: options.values("exclude").map(str::to_owned).collect(),
            include: options.values("include").map(str::to_owned).collect(),
            ignore_file: options.value("ignore-file", |file| Ok(PathBuf::from(file)))?,
        };
        Ok(Copy {
            source: ocibuild::common::root::path_of_bytes(source).into_owned(),
            destination,
            target,
            owners: owner.or_else(|| options.has("keep-owners").then_some(Owners::Keep)),
            modes: mode.or_else(|| options.has("preserve-modes").then_some(Modes::Preserve)),
            exclusions,
            xattrs: options.has("xattrs").then_some(ExtendedAttributes::Keep),
            special_files: options.has("skip-special").then_some(SpecialFiles::Skip),
            split: options.value("split", str::parse)?,
            python: options.value("python-venv", str::parse)?,
        })
    }

    /// Returns whether a tar on standard input is copied.
    pub(in crate::cli) fn is_standard_input(&self) -> bool {
        self.source == Path::new("-")
    }

    /// Returns this copy for one platform, whose parts take the place of `{os}`, `{arch}` and `{variant}` in the source.
    ///
    /// # Errors
    /// Fails if the source has a placeholder and no platform is given.
    pub(in crate::cli) fn for_platform(&self, platform: Option<&Platform>) -> Result<Copy> {
        let Some(text) = self.source.to_str().filter(|text| has_placeholder(text)) else {
            return Ok(self.clone());
        };
        let platform = platform.ok_or_else(|| {
            Error::usage(format!("`{text}`"), "depends on the platform, and none is given").hint("--platform OS/ARCH")
        })?;
        Ok(Copy { source: PathBuf::from(filled(text, platform)), ..self.clone() })
    }

    /// Returns the source. `general` and `excluded` apply to all copies; the options of this one come first.
    ///
    /// # Errors
    /// Fails if there is no such source, a file of patterns cannot be read or is malformed, or an option has no effect on a file.
    pub(in crate::cli) fn source(&self, general: &Rules, excluded: &Exclusions) -> Result<Source> {
        let shown = self.source.display();
        let rules = self.rules(general);
        if self.is_standard_input() {
            let rules = self.excluding(rules, excluded)?;
            return Ok(Source::archive(shown, std::io::stdin(), self.destination.clone()).rules(rules));
        }
        match Root::open(&self.source) {
            Ok(root) => {
                let mut rules = rules;
                obey_dockerignore(&mut rules.ignore, &root)?;
                let source = match self.target {
                    CopyTarget::Exact => Source::directory(root, self.destination.clone()),
                    CopyTarget::Directory => Source::directory_content(root, self.destination.clone()),
                };
                return Ok(source.rules(self.excluding(rules, excluded)?));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.not_found(error)),
            // Not a directory, or not readable; the error is reported when it is opened as a file.
            Err(_) => {}
        }
        let file = Root::open_named_file(&self.source)?;
        let is_unpacked =
            is_archive(self.source.as_os_str().as_encoded_bytes()) && !is_archive(self.destination.name());
        if is_unpacked {
            let rules = self.excluding(rules, excluded)?;
            return Ok(Source::archive(shown, file, self.destination.clone()).rules(rules));
        }
        self.check_options_of_file()?;
        Ok(Source::file(&self.source, self.destination_of_file()?)?.rules(rules))
    }

    /// Adds what copies the files that match, if the source is a pattern.
    fn not_found(&self, error: Error) -> Error {
        let Some((text, at)) = self.source.to_str().and_then(|text| Some((text, text.find(['*', '?', '['])?))) else {
            return error;
        };
        let (directory, pattern) = match text[..at].rfind('/') {
            Some(slash) => (&text[..slash.max(1)], &text[slash + 1..]),
            None => (".", text),
        };
        let (directory, pattern) = (doubled(directory), doubled(pattern));
        let copy = format!("--copy '{directory}:{},exclude=**,include={pattern}'", self.destination);
        error.hint(format!("it is a name, not a pattern: {copy} copies what matches"))
    }

    fn rules(&self, general: &Rules) -> Rules {
        general
            .clone()
            .owners(self.owners.unwrap_or(general.owners))
            .modes(self.modes.unwrap_or(general.modes))
            .xattrs(self.xattrs.unwrap_or(general.xattrs))
            .special_files(self.special_files.unwrap_or(general.special_files))
            .python(self.python.unwrap_or(general.python))
    }

    fn excluding(&self, mut rules: Rules, excluded: &Exclusions) -> Result<Rules> {
        excluded.add_to(&mut rules.ignore)?;
        self.exclusions.add_to(&mut rules.ignore)?;
        Ok(rules)
    }

    fn destination_of_file(&self) -> Result<ImagePath> {
        if self.target == CopyTarget::Exact {
            return Ok(self.destination.clone());
        }
        let shown = self.source.display().to_string();
        let name = self.source.file_name().ok_or_else(|| Error::usage(shown, "has no file name"))?;
        self.destination.join_name(ocibuild::common::root::name_bytes(name)?)
    }

    fn check_options_of_file(&self) -> Result<()> {
        let special = self.special_files.map(|_| "skip-special");
        let split = self.split.map(|_| "split");
        let python = self.python.map(|_| "python-venv");
        match self.exclusions.first_given().or(special).or(split).or(python) {
            Some(name) => {
                let object = format!("--copy {}", self.source.display());
                Err(Error::usage(object, format!("is a file, on which `{name}` has no effect")))
            }
            None => Ok(()),
        }
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

fn is_archive(name: &[u8]) -> bool {
    [&b".tar"[..], b".tar.gz", b".tgz", b".tar.zst"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocibuild::layers::tree::Owner;

    #[test]
    fn a_copy_is_split_before_its_destination() {
        let split = |text: &str| {
            Copy::read(text.as_ref())
                .map(|copy| (copy.source.display().to_string(), copy.destination.to_string(), copy.target))
                .ok()
        };
        assert_eq!(split("app:/opt/app"), Some(("app".to_owned(), "/opt/app".to_owned(), CopyTarget::Exact)));
        assert_eq!(split("C:/x:/opt/"), Some(("C:/x".to_owned(), "/opt".to_owned(), CopyTarget::Directory)));
        assert_eq!(split("-:/"), Some(("-".to_owned(), "/".to_owned(), CopyTarget::Directory)));
        assert_eq!(split("a,,b:/c,,d"), Some(("a,b".to_owned(), "/c,d".to_owned(), CopyTarget::Exact)));
        assert_eq!(split("a:/b,exclude=x:/y"), Some(("a".to_owned(), "/b".to_owned(), CopyTarget::Exact)));
        for bad in ["app", "app:opt", ":/opt", "app:/../x", "a,b:/x", "a:/x,", "a:/x,owner=1"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn options_of_a_copy_come_before_the_flags_for_all() {
        let general = Rules::default().owners(Owners::Keep).modes(Modes::Preserve);
        let rules = |text: &str| Copy::read(text.as_ref()).unwrap().rules(&general);
        let plain = rules("a:/b");
        assert_eq!((plain.owners, plain.modes), (Owners::Keep, Modes::Preserve));
        let own = rules("a:/b,chown=1:2,chmod=0750,xattrs,skip-special");
        assert_eq!((own.owners, own.modes), (Owners::Set(Owner { uid: 1, gid: 2 }), Modes::Set(0o750)));
        assert_eq!((own.xattrs, own.special_files), (ExtendedAttributes::Keep, SpecialFiles::Skip));
        for both in ["a:/b,chown=1,keep-owners", "a:/b,chmod=1,preserve-modes"] {
            assert!(Copy::read(both.as_ref()).is_err(), "{both}");
        }
    }
}
