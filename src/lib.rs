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
//! The library never prints, and never reads the clock, the environment or the home directory. Everything that decides
//! the bytes of an image is part of its [`build::BuildSpec`], and progress is reported through [`common::progress::Progress`].
//!
//! ```
//! use ocibuild::build::{BuildSpec, LayerSpec, Source, SourceContent};
//! use ocibuild::build::image::Base;
//! use ocibuild::{Platform, Timestamp};
//! use ocibuild::codec::compression::Compression;
//! use ocibuild::common::progress::Silent;
//! use ocibuild::common::root::Root;
//! use ocibuild::store::Layout;
//! use ocibuild::layers::tree;
//! use ocibuild::spec::ImagePath;
//! use std::sync::Arc;
//!
//! # let scratch = tempfile::tempdir()?;
//! # std::fs::create_dir(scratch.path().join("site"))?;
//! # let (site, out) = (scratch.path().join("site"), scratch.path().join("out"));
//! let source = Source {
//!     name: "site".to_owned(),
//!     content: SourceContent::Directory(Root::open(&site)?),
//!     destination: ImagePath::new(b"/srv")?,
//!     rules: tree::Rules::default(),
//! };
//! let spec = BuildSpec {
//!     base: Base::Scratch(Platform::linux_amd64()),
//!     layers: vec![LayerSpec { name: "site".to_owned(), created_by: "the site".to_owned(), sources: vec![source], known_directories: Default::default(), recipe: None, group: None }],
//!     config: Default::default(),
//!     annotations: Default::default(),
//!     created: Timestamp::EPOCH,
//!     compression: Compression::DEFAULT_GZIP.into(),
//!     secrets: Default::default(),
//!     known_secrets: Vec::new(),
//!     listings: None,
//! };
//! let layout = Arc::new(Layout::create(&out)?);
//! let built = spec.plan(layout.root(), None, &Silent)?.build(&layout, None, &["v1".parse()?], &Silent)?;
//! assert_eq!(layout.image(Some("v1"), None)?.descriptor.digest, built.image.descriptor.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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

pub use common::digest::{DiffId, Digest};
pub use common::error::{Error, ErrorKind, Result};
pub use common::time::Timestamp;
pub use spec::Platform;
pub use spec::name::ImageName;
pub use spec::reference::{Reference, Tag};
pub use store::Location;
