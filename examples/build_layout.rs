//! Builds an image from a directory, in an image layout.
//!
//! The layout is created if it is missing. The digest of the image is printed:
//!
//! ```text
//! cargo run --example build_layout -- ./site ./out v1
//! ```

use ocibuild::{Base, BuildSpec, ConfigEdit, LayerSpec, Layout, Platform, Root, Silent, Source};
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, layout, name] = &arguments[..] else {
        return Err("usage: build_layout DIRECTORY LAYOUT NAME".into());
    };
    let source = Source::directory(Root::open(directory.as_ref())?, "/srv".parse()?);
    let config = ConfigEdit::default()
        .entrypoint(["/usr/bin/httpd", "-f", "-h", "/srv"])
        .exposed_port("80/tcp")
        .volume("/var/log")
        .env("LANG", "C.UTF-8")
        .label("com.example.site", "docs")
        .working_dir("/srv")
        .user("1000:1000");
    let spec = BuildSpec::new(Base::Scratch(Platform::linux_amd64()))
        .layer(LayerSpec::new("the site").source(source))
        .config(config)
        .annotation("org.opencontainers.image.title", "the site")
        .created("2024-05-01T12:00:00Z".parse()?);

    let layout = Arc::new(Layout::create(layout.as_ref())?);
    let built = spec.build(&layout, &[name.parse()?], &Silent)?;
    writeln!(std::io::stdout(), "{}", built.image.descriptor.digest)?;
    Ok(())
}
