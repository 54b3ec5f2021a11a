//! Hands an image of a layout to a program that speaks the types of the crate oci-spec, and takes its changes back.
//!
//! Run it on any layout; it writes nothing, and prints the changed index entry and config:
//!
//! ```text
//! cargo run --example oci_spec_types -- ./out
//! ```

use oci_spec::image::{ImageConfiguration, ImageIndex};
use ocibuild::store::Layout;
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: oci_spec_types LAYOUT")?;
    let layout = Arc::new(Layout::open(directory.as_ref())?);
    let image = layout.image(None, None)?;

    // A view has the members that oci-spec knows.
    let mut config = ImageConfiguration::try_from(&image.config)?;
    config.set_author(Some("the platform team".to_owned()));
    // The document also keeps those that it does not know, such as a health check.
    let config = image.config.updated(&config)?;

    let index = layout.index()?;
    let mut view = ImageIndex::try_from(&index)?;
    view.set_annotations(Some(HashMap::from([("com.example.reviewed".to_owned(), "yes".to_owned())])));
    let index = index.updated(&view)?;

    write(&index.to_bytes())?;
    write(config.document().to_string().as_bytes())
}

fn write(line: &[u8]) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    stdout.write_all(line)?;
    Ok(stdout.write_all(b"\n")?)
}
