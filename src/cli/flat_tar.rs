//! The final file system of an image as a tar: `export IMAGE rootfs:FILE` and `extract IMAGE -`.

use super::cache_directory::CacheDirectory;
use super::engines;
use super::output::open_stream;
use super::progress_display::Watch;
use super::source::list_layers;
use ocibuild::codec::tar::Headers;
use ocibuild::common::root::{Destination, Root};
use ocibuild::layers::rootfs::{FlatFiles, write_flat_tar};
use ocibuild::spec::ImagePath;
use ocibuild::store::StoredImage;
use ocibuild::{Error, ErrorKind, Result};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

/// Writes what is at `path` of the image to standard output.
///
/// # Errors
/// Fails if standard output is a terminal or cannot be written, or the image cannot be read.
pub(super) fn to_stdout(image: &StoredImage, path: &ImagePath, cache: &CacheDirectory, watch: &Watch) -> Result<()> {
    to_stream(image, path, cache, (io::stdout(), "standard output"), watch)
}

/// Writes all files of the image to `file`, which is replaced when the tar is complete.
///
/// # Errors
/// Fails if something else than a tar is at `file`, it cannot be written, or the image cannot be read.
pub(super) fn to_file(image: &StoredImage, file: &Path, cache: &CacheDirectory, watch: &Watch) -> Result<()> {
    let object = file.display().to_string();
    let output = Destination::find(file, Root::create)?;
    let Destination::File(root, name) = &output else {
        let stream = open_stream(&output)?.ok_or_else(|| Error::invalid(&object, "no stream"))?;
        return to_stream(image, &ImagePath::root(), cache, (stream, &object), watch);
    };
    check_replaceable(file)?;
    root.sweep_temporaries();
    let mut out = BufWriter::with_capacity(1 << 20, root.temporary()?);
    write(image, &ImagePath::root(), cache, (&mut out, &object), watch)?;
    let temporary = out.into_inner().map_err(|error| Error::io(&object, "write", error.into_error()))?;
    temporary.persist(name)?;
    root.sync()
}

/// Requires that nothing but a tar or an empty file is lost where `file` is replaced.
fn check_replaceable(file: &Path) -> Result<()> {
    let mut existing = match Root::open_named_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let is_tar = Headers::new(file.display().to_string()).next(&mut existing).is_ok();
    match is_tar {
        true => Ok(()),
        false => Err(Error::invalid(file.display().to_string(), "exists and is not a tar")
            .hint("remove it, or name another file")),
    }
}

fn to_stream<W: Write + IsTerminal>(
    image: &StoredImage,
    path: &ImagePath,
    cache: &CacheDirectory,
    (stream, object): (W, &str),
    watch: &Watch,
) -> Result<()> {
    if stream.is_terminal() {
        return Err(Error::usage(object, "a tar cannot be written to a terminal").hint("redirect it, or name a file"));
    }
    let mut out = BufWriter::with_capacity(1 << 20, stream);
    write(image, path, cache, (&mut out, object), watch)?;
    out.flush().map_err(|error| Error::io(object, "write", error))
}

fn write(
    image: &StoredImage,
    path: &ImagePath,
    cache: &CacheDirectory,
    (out, object): (&mut dyn Write, &str),
    watch: &Watch,
) -> Result<()> {
    let layers = list_layers(image, cache, watch)?;
    write_flat_tar(image, &FlatFiles::new(&layers, path)?, &engines::spool(cache)?, out, object, watch)
}
