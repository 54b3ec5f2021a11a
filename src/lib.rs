//! Builds OCI images without a daemon, root, or a network, into an image layout, and copies them from there.
//!
//! Values flow through a pipeline, and each arrow is one function:
//!
//! ```text
//! BuildSpec ──plan──▶ Plan ──build──▶ Built ──copy──▶ layout, archive or registry
//! (request)           (every path     (layers, config
//!                      known, nothing  and manifest in
//!                      hashed)         a Layout)
//! ```
//!
//! The library never prints, and never reads the clock, the environment or the home directory. A [`BuildSpec`] holds
//! everything that determines the bytes of an image, and progress is reported through [`Progress`]. The feature `cli`, on by
//! default, only adds the program: other programs depend on the crate with `default-features = false`.
//!
//! # Build an image
//!
//! ```
//! use ocibuild::{Base, BuildSpec, ConfigEdit, LayerSpec, Layout, Platform, Root, Silent, Source};
//! use std::sync::Arc;
//!
//! # let scratch = tempfile::tempdir()?;
//! # let (site, out) = (scratch.path().join("site"), scratch.path().join("out"));
//! # std::fs::create_dir(&site)?;
//! let source = Source::directory(Root::open(&site)?, "/srv".parse()?);
//! let spec = BuildSpec::new(Base::Scratch(Platform::linux_amd64()))
//!     .layer(LayerSpec::new("the site").source(source))
//!     .config(ConfigEdit::default().working_dir("/srv"));
//! let layout = Arc::new(Layout::create(&out)?);
//! let built = spec.build(&layout, &["v1".parse()?], &Silent)?;
//! assert_eq!(layout.image(Some("v1"), None)?.descriptor.digest, built.image.descriptor.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Extend an image and push it
//!
//! [`Base::open`] takes an image from a layout or an archive, and a [`Repository`] one from a registry. [`copy()`] writes it to
//! any [`BlobSink`](store::BlobSink).
//!
//! ```no_run
//! use ocibuild::registry::{Network, Options, Transport, credentials::Keychain};
//! use ocibuild::{Base, BuildSpec, ImageName, LayerSpec, Layout, Reference, Registry, Repository, Silent, Source, copy};
//! use std::{path::Path, sync::Arc};
//!
//! let base = Base::open(&"oci-archive:base.tar".parse()?, None)?;
//! let spec = BuildSpec::new(base).layer(LayerSpec::new("app").source(Source::file("app", "/usr/bin/app".parse()?)?));
//! let built = spec.build(&Arc::new(Layout::create(Path::new("out"))?), &["v1".parse()?], &Silent)?;
//!
//! let reference: Reference = "registry.example.com/team/app:v1".parse()?;
//! let transport = Arc::new(Transport::new(Network::default())?);
//! let keychain = Arc::new(Keychain::anonymous());
//! let registry = Registry::new(reference.registry(), transport, keychain, Options::default(), Arc::new(Silent));
//! let repository = Repository::new(Arc::new(registry), &reference)?;
//! copy(&built.image, &repository, &[ImageName::of_reference(&reference)], &Silent)?;
//! # Ok::<(), ocibuild::Error>(())
//! ```
//!
//! # Verify a layout
//!
//! [`verify()`] reads every blob and recomputes everything that the layout states about itself.
//!
//! ```
//! # let scratch = tempfile::tempdir()?;
//! # let out = scratch.path();
//! # ocibuild::Layout::create(out)?;
//! let report = ocibuild::verify(out, &ocibuild::Silent)?;
//! assert!(report.faults.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Read a hololib
//!
//! A [`Hololib`] holds the environments that RCC recorded; a [`Catalog`] lists the files of one.
//!
//! ```no_run
//! use ocibuild::rcc::CatalogLimits;
//! use ocibuild::{Hololib, Root, Silent};
//!
//! let hololib = Hololib::in_directory(Root::open("/opt/robocorp/hololib".as_ref())?, &Silent)?;
//! for name in hololib.catalogs()? {
//!     let catalog = hololib.catalog(&name, &CatalogLimits::default(), &Silent)?;
//!     assert_eq!(catalog.name(), &name);
//! }
//! # Ok::<(), ocibuild::Error>(())
//! ```
//!
//! # Types
//!
//! The names at the root of the crate are those that most programs need; the modules hold the rest. The types of the crate
//! oci-spec are converted with `From` and `TryFrom`.
#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests create and damage files directly"))]

pub mod build;
pub mod cache;
pub mod codec;
pub mod common;
pub mod layers;
pub mod rcc;
pub mod registry;
pub mod robot_image;
pub mod secrets;
pub mod spec;
pub mod store;

pub use build::image::{Base, ConfigEdit};
pub use build::{BuildSpec, Built, BuiltLayer, LayerOrigin, LayerSpec, Plan, SecretPolicy, Source};
pub use codec::compression::Compression;
pub use common::digest::{DiffId, Digest};
pub use common::error::{Error, ErrorKind, Result};
pub use common::progress::{Progress, Silent};
pub use common::root::Root;
pub use common::time::Timestamp;
pub use layers::tree::Rules;
pub use rcc::{Catalog, Hololib, Robot};
pub use registry::{Registry, Repository};
pub use spec::name::ImageName;
pub use spec::reference::{Reference, Tag};
pub use spec::{Descriptor, ImagePath, Platform};
pub use store::verify::verify;
pub use store::{Layout, Location, StoredImage, copy};
