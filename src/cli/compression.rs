//! The compression of new layers: the one that is given, or the one that fits the places of an image.

use super::build_target::BuildTarget;
use super::destination::{ExportDestination, listed};
use super::engines;
use super::network::NetworkArguments;
use super::progress_display::Watch;
use clap::{Args, ValueEnum};
use ocibuild::codec::compression::{Compression, Encoding};
use ocibuild::layers::CompressionPolicy;
use ocibuild::{Error, Result};

/// What `auto` takes where zstd is read. Against gzip at its default level, the compressor takes 0.36 of the CPU time, and the layers
/// have 1.01 of the size.
const ZSTD: Compression = Compression::Zstd(2);

#[derive(Debug, Args)]
pub(super) struct CompressionArguments {
    /// Set the compression of new layers
    #[arg(long, value_name = "KIND", default_value = "gzip", help_heading = "Layers")]
    compression: CompressionKind,
    /// Set the compression level: gzip 1-12 [default: 5], zstd 1-19 [default: 3]
    #[arg(long, value_name = "LEVEL", help_heading = "Layers")]
    compression_level: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionKind {
    /// Supported by all engines and registries
    Gzip,
    /// gzip that passes through files that rcc has already compressed; fastest
    Reuse,
    /// Smaller and faster than gzip; needs Docker 23 or later
    Zstd,
    /// zstd for engines that are asked and read it, gzip for everything else
    Auto,
    /// No compression
    None,
}

/// What is known of the programs that read an image at one of its places.
enum PlaceReaders {
    ReadZstd(String),
    MayNotReadZstd(String),
}

impl CompressionArguments {
    /// Returns the compression of new layers. Where it depends on `target`, asks the engines there for their versions, and prints
    /// what was chosen and why.
    ///
    /// # Errors
    /// Fails if the kind of compression does not have the level, or an engine does not answer.
    pub(super) fn choose(
        &self,
        target: &BuildTarget,
        network: &NetworkArguments,
        namespace: Option<&str>,
        watch: &Watch,
    ) -> Result<CompressionPolicy> {
        let with_level = |encoding| Compression::new(encoding, self.compression_level).map(CompressionPolicy::from);
        match self.compression {
            CompressionKind::Gzip => with_level(Encoding::Gzip),
            CompressionKind::Reuse => with_level(Encoding::Gzip).map(CompressionPolicy::with_gzip_passthrough),
            CompressionKind::Zstd => with_level(Encoding::Zstd),
            CompressionKind::None => with_level(Encoding::Plain),
            CompressionKind::Auto if self.compression_level.is_some() => {
                let reason = "`--compression auto` chooses the level";
                Err(Error::usage("--compression-level", reason).hint("--compression gzip and zstd take one"))
            }
            CompressionKind::Auto => {
                let (compression, reason) = for_places(target, network, namespace)?;
                watch.say(&format!("compression: {compression}, {reason}"));
                Ok(compression.into())
            }
        }
    }
}

/// Returns the compression that all places of the image can have, and the reason.
fn for_places(
    target: &BuildTarget,
    network: &NetworkArguments,
    namespace: Option<&str>,
) -> Result<(Compression, String)> {
    let unknown = |place: String| format!("since it is not known what reads {place}");
    if let Some(layout) = &target.layout {
        return Ok((Compression::DEFAULT_GZIP, unknown(layout.display().to_string())));
    }
    let mut readers = Vec::new();
    for destination in &target.destinations {
        match destination.readers(network, namespace)? {
            PlaceReaders::ReadZstd(reader) => readers.push(reader),
            PlaceReaders::MayNotReadZstd(reason) => return Ok((Compression::DEFAULT_GZIP, reason)),
        }
    }
    Ok((ZSTD, format!("read by {}", readers.join(" and "))))
}

impl ExportDestination {
    /// Returns what is known of the programs that read an image here.
    ///
    /// # Errors
    /// Fails if an engine does not answer, or may not be asked.
    fn readers(&self, network: &NetworkArguments, namespace: Option<&str>) -> Result<PlaceReaders> {
        Ok(match self {
            // It gets an archive, for which zstd above a base of gzip would be compressed again.
            ExportDestination::Engine(engine, _) if let Some(variable) = engines::remote_address(*engine) => {
                PlaceReaders::MayNotReadZstd(format!("since {variable} is another machine, which gets an archive"))
            }
            ExportDestination::Engine(engine, names) => {
                let store = engines::store(*engine, listed(names), network)?.in_namespace(namespace);
                let version = store.version()?;
                match version.reads_zstd() {
                    true => PlaceReaders::ReadZstd(version.to_string()),
                    false => PlaceReaders::MayNotReadZstd(format!("since {version} is not known to read zstd")),
                }
            }
            // The layers are unpacked here.
            ExportDestination::Files(_) => PlaceReaders::ReadZstd("ocibuild".to_owned()),
            _ => PlaceReaders::MayNotReadZstd(format!("since it is not known what reads {self}")),
        })
    }
}
