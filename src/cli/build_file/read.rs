//! Reading a build file with the files that it imports.

use super::given::{Above, GivenFlag};
use super::keys::FileKeys;
use super::tables::{KeyAndValue, TableReader};
use super::text::{BuildFileText, FilePlace};
use super::variables::ListedVariables;
use super::{IMAGE, IMPORT, NAME, OWN_KEYS, VARIABLES, paths};
use ocibuild::common::root::Root;
use ocibuild::{Error, Result};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The most files that import each other in a row.
const DEEPEST: usize = 8;

/// The most files that are read for one build.
const MOST_FILES: usize = 64;

/// What a build file says.
#[derive(Debug, Default)]
pub(super) struct BuildFile {
    /// The flags for every image.
    pub(super) shared: Vec<GivenFlag>,
    pub(super) images: Vec<FileImage>,
}

/// An image of a build file.
#[derive(Debug)]
pub(super) struct FileImage {
    pub(super) name: String,
    place: FilePlace,
    pub(super) flags: Vec<GivenFlag>,
}

/// Reads a build file.
pub(super) struct FileReader<'k> {
    keys: &'k FileKeys,
    /// The files that are being read, each imported by the one before it.
    open: Vec<PathBuf>,
    files: usize,
}

impl FileReader<'_> {
    /// Reads the file at `path`, for a command with these keys.
    ///
    /// # Errors
    /// Fails if a file cannot be read or is no build file, files import each other in a circle or too deeply, or two images have one
    /// name.
    pub(super) fn read_for(path: &Path, keys: &FileKeys) -> Result<BuildFile> {
        let mut reader = FileReader { keys, open: Vec::new(), files: 0 };
        let file = reader.read(path)?;
        for (number, image) in file.images.iter().enumerate() {
            if file.images[..number].iter().any(|earlier| earlier.name == image.name) {
                return Err(image.place.error(format!("two images are called `{}`", image.name)));
            }
        }
        Ok(file)
    }

    fn read(&mut self, path: &Path) -> Result<BuildFile> {
        let file = BuildFileText::read(path)?;
        self.open.push(Root::resolve(path)?);
        self.files += 1;
        let document = DeTable::parse(&file.text).map_err(|error| malformed(&file, &error))?;
        let table = document.get_ref();
        let variables = match value_of(table, VARIABLES) {
            Some(names) => ListedVariables::listed(names, &file)?,
            None => ListedVariables::default(),
        };
        let mut read = BuildFile::default();
        for (path, place) in imported(table, &file)? {
            self.check_import(&path, &place)?;
            let BuildFile { shared, images } = self.read(&path).map_err(|error| not_imported(error, &path, &place))?;
            read.shared = Above::of_file(&shared).over(read.shared, self.keys);
            read.shared.extend(shared);
            read.images.extend(images);
        }
        let reader = TableReader { file: &file, keys: self.keys, variables: &variables };
        let own = reader.flags(table.iter().filter(|(key, _)| !OWN_KEYS.contains(&key.get_ref().as_ref())))?;
        read.shared = Above::of_file(&own).over(read.shared, self.keys);
        read.shared.extend(own);
        if let Some(images) = value_of(table, IMAGE) {
            read.images.extend(reader.images(images)?);
        }
        if let Some(name) = key_of(table, NAME) {
            let error = file.place(name.span().start).error("`name` is for an `[[image]]`");
            return Err(error.hint("tag = \"NAME\" names what is built"));
        }
        self.open.pop();
        Ok(read)
    }

    fn check_import(&self, path: &Path, place: &FilePlace) -> Result<()> {
        let shown = path.display();
        if self.open.len() >= DEEPEST {
            return Err(place.error(format!("{shown} would be the {}th file in a row", DEEPEST + 1)));
        }
        if self.files >= MOST_FILES {
            return Err(place.error(format!("more than {MOST_FILES} files are imported")));
        }
        match Root::resolve(path) {
            Ok(resolved) if self.open.contains(&resolved) => {
                Err(place.error(format!("{shown} imports this file, so it cannot be imported here")))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(not_imported(error, path, place)),
        }
    }
}

impl TableReader<'_> {
    fn images(&self, images: &Spanned<DeValue<'_>>) -> Result<Vec<FileImage>> {
        let place = |at: &Spanned<DeValue<'_>>| self.file.place(at.span().start);
        let no_images = |at| place(at).error("images are written as `[[image]]`");
        let DeValue::Array(tables) = images.get_ref() else { return Err(no_images(images)) };
        let mut read = Vec::new();
        for at in tables {
            let DeValue::Table(table) = at.get_ref() else { return Err(no_images(at)) };
            let name = match value_of(table, NAME).map(Spanned::get_ref) {
                Some(DeValue::String(name)) => self.variables.replaced_in(name),
                _ => return Err(place(at).error("the image has no name").hint("name = \"NAME\", for --image NAME")),
            };
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.starts_with('-') || !name.chars().all(is_plain) {
                let error = place(at).error(format!("`{name}` is no name of an image of this file"));
                return Err(error.hint("letters, digits, `.`, `_` and `-`"));
            }
            if let Some(key) = [IMAGE, IMPORT, VARIABLES].iter().find_map(|own| key_of(table, own)) {
                let place = self.file.place(key.span().start);
                return Err(place.error(format!("`{}` is for the top of the file", key.get_ref())));
            }
            let flags = self.flags(table.iter().filter(|(key, _)| key.get_ref() != NAME))?;
            read.push(FileImage { name, place: place(at), flags });
        }
        Ok(read)
    }
}

/// Returns the files in the list `import`, with their places.
fn imported(table: &DeTable<'_>, file: &BuildFileText) -> Result<Vec<(PathBuf, FilePlace)>> {
    let Some(list) = value_of(table, IMPORT) else { return Ok(Vec::new()) };
    let place = |at: &Spanned<DeValue<'_>>| file.place(at.span().start);
    let DeValue::Array(paths) = list.get_ref() else {
        return Err(place(list).error("`import` is a list of files"));
    };
    let path = |at: &Spanned<DeValue<'_>>| match at.get_ref() {
        DeValue::String(path) if !path.is_empty() => Ok((paths::joined(&file.directory, path).into(), place(at))),
        _ => Err(place(at).error("not the path of a file")),
    };
    paths.iter().map(path).collect()
}

/// Says of a file that cannot be read where it is imported. What is wrong inside of it has its own place.
fn not_imported(error: Error, path: &Path, place: &FilePlace) -> Error {
    match error.object() == path.display().to_string() {
        true => place.error(format!("{}: {}", error.object(), error.reason())),
        false => error,
    }
}

fn malformed(file: &BuildFileText, error: &toml::de::Error) -> Error {
    let place = file.place(error.span().map_or(0, |span| span.start));
    let made = place.error(error.message().trim().replace('\n', ", "));
    let starts = ["FROM ", "ARG ", "# syntax", "#syntax"];
    let is_dockerfile = file.text.lines().any(|line| starts.iter().any(|start| line.starts_with(start)));
    match is_dockerfile {
        true => made.hint("it looks like a Dockerfile, which is not read; `ocibuild dockerfile` prints one"),
        false => made,
    }
}

fn key_of<'t, 'f>(table: &'t DeTable<'f>, name: &str) -> Option<&'t Spanned<std::borrow::Cow<'f, str>>> {
    entry_of(table, name).map(|(key, _)| key)
}

fn value_of<'t, 'f>(table: &'t DeTable<'f>, name: &str) -> Option<&'t Spanned<DeValue<'f>>> {
    entry_of(table, name).map(|(_, value)| value)
}

fn entry_of<'t, 'f>(table: &'t DeTable<'f>, name: &str) -> Option<KeyAndValue<'t, 'f>> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}
