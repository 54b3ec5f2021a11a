//! Checks every entry of a layer's tar.

use crate::codec::tar;
use crate::codec::tar::{Ending, Headers};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::ImagePath;
use std::collections::HashSet;
use std::io::{self, BufReader, Read};

/// The number of faults of one kind that are reported on lines of their own.
const MOST_ALIKE: usize = 10;

/// Reads every entry of a layer's tar, and adds what is wrong with them to `faults`.
///
/// # Errors
/// Fails if the tar is malformed or cannot be read to its end.
pub(super) fn check_tar(tar: &mut impl Read, faults: &mut Vec<String>) -> Result<()> {
    let mut source = BufReader::with_capacity(64 << 10, tar);
    let mut headers = Headers::new("layer");
    let mut seen = HashSet::new();
    let (mut duplicates, mut unsafe_names) = (0, 0);
    while let Some(entry) = headers.next(&mut source)? {
        skip_content(&mut source, &entry, faults)?;
        let shown = String::from_utf8_lossy(&entry.path);
        match ImagePath::new(&entry.path) {
            Ok(path) if !entry.path.starts_with(b"/") => {
                // Sixteen bytes of a hash instead of the path, because a layer may have millions of paths.
                let mut short = [0; 16];
                short.copy_from_slice(&Digest::of(path.as_bytes()).as_bytes()[..16]);
                if !seen.insert(short) {
                    duplicates += 1;
                    if duplicates <= MOST_ALIKE {
                        faults.push(format!("duplicate path `{shown}`"));
                    }
                }
            }
            unsafe_name => {
                unsafe_names += 1;
                if unsafe_names <= MOST_ALIKE {
                    let reason =
                        unsafe_name.err().map_or_else(|| "an absolute path".to_owned(), |error| error.reason());
                    faults.push(format!("the entry `{shown}` is unsafe: {reason}"));
                }
            }
        }
    }
    faults.extend(headers.ending().and_then(Ending::oddity).map(str::to_owned));
    headers.check_rest(&mut source)
}

/// Reads past an entry's content. The padding to a whole block must be zeros: other bytes there would be in the layer,
/// but in no listing of it.
fn skip_content(source: &mut impl Read, entry: &tar::TarEntry, faults: &mut Vec<String>) -> Result<()> {
    let failed = |error| Error::io("layer", "read", error);
    let mut padding = Vec::new();
    let skipped = io::copy(&mut source.take(entry.size), &mut io::sink()).map_err(failed)?;
    let filled = io::copy(&mut source.take(tar::padding(entry.size)), &mut padding).map_err(failed)?;
    if skipped + filled < entry.size + tar::padding(entry.size) {
        return Err(Error::invalid("layer", "malformed tar: unexpected end inside a file"));
    }
    if padding.iter().any(|&byte| byte != 0) {
        let shown = String::from_utf8_lossy(&entry.path);
        faults.push(format!("nonzero padding after the content of `{shown}`"));
    }
    Ok(())
}
