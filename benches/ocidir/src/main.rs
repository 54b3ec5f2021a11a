//! Writes a directory as the one layer of an image, as the documentation of ocidir shows it: zstd 3, two workers.
//!
//!     ocidir-layer TREE LAYOUT

use ocidir::OciDir;
use ocidir::cap_std::{ambient_authority, fs::Dir};
use ocidir::oci_spec::image::{ImageConfigurationBuilder, Platform};
use std::error::Error;

const LEVEL: i32 = 3;
const WORKERS: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let [_, tree, layout] = std::env::args().collect::<Vec<_>>().try_into().map_err(|_| "ocidir-layer TREE LAYOUT")?;
    std::fs::create_dir(&layout)?;
    let layout = OciDir::ensure(Dir::open_ambient_dir(layout, ambient_authority())?)?;

    let mut tar = tar::Builder::new(layout.create_layer_zstd_multithread(Some(LEVEL), WORKERS)?);
    tar.follow_symlinks(false);
    tar.append_dir_all("env", tree)?;
    let layer = tar.into_inner()?.complete()?;

    let mut manifest = layout.new_empty_manifest()?.build()?;
    let mut config = ImageConfigurationBuilder::default().build()?;
    layout.push_layer(&mut manifest, &mut config, layer, "env", None);
    layout.insert_manifest_and_config(manifest, config, Some("t"), Platform::default())?;
    Ok(())
}
