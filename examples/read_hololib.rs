//! Lists the environments in a hololib of RCC: the catalog, the number of files, their size, and the missing objects.
//!
//! ```text
//! cargo run --example read_hololib -- ~/.robocorp/hololib
//! ```

use ocibuild::rcc::{CatalogEntryKind, CatalogLimits};
use ocibuild::{Hololib, Root, Silent};
use std::error::Error;
use std::io::Write;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: read_hololib HOLOLIB")?;
    let hololib = Hololib::in_directory(Root::open(directory.as_ref())?, &Silent)?;
    for name in hololib.catalogs()? {
        let catalog = hololib.catalog(&name, &CatalogLimits::default(), &Silent)?;
        let files = catalog.entries().filter(|entry| matches!(entry.kind, CatalogEntryKind::File(_))).count();
        let missing = hololib.missing(&catalog)?.len();
        writeln!(std::io::stdout(), "{name}: {files} files, {} bytes, {missing} objects missing", catalog.size())?;
    }
    Ok(())
}
