//! Verifies everything that a layout states about itself.
//!
//! None of the known validators finds every fault, so this one is stricter than each of them: it reads every blob,
//! decompresses every layer, and checks every entry of every tar.

use crate::codec::compression::Detected;
use crate::common::digest::{DiffId, Digest, Hashing};
use crate::common::error::{Error, ErrorKind, Result, one_line};
use crate::common::human_numbers::counted;
use crate::common::limits::Limit;
use crate::common::progress::{Activity, Progress, warn};
use crate::spec::name::ImageName;
use crate::spec::reference::Reference;
use crate::spec::{Artifact, Config, Descriptor, Index, Manifest, Platform, media_type};
use crate::store::tar_check::check_tar;
use crate::store::{BlobSource, Layout, RemoteLayers, read_document};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::Path;

/// The result of verifying a layout.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The number of image manifests that were read.
    pub images: usize,
    /// The number of artifact manifests, such as those of SBOMs and signatures, that were read.
    pub artifacts: usize,
    /// The number of blobs that were read.
    pub blobs: usize,
    /// The size of those blobs in bytes.
    pub bytes: u64,
    /// The remote layers: those that stay in a registry, according to the layout.
    pub left_out: Vec<LeftOutLayer>,
    /// The layers whose content was not read because their type is unknown. Only their digest and size were checked.
    pub not_read: Vec<NotReadLayer>,
    /// All faults, sorted.
    pub faults: Vec<LayoutDefect>,
    /// The blobs that do not match their digests, sizes or types.
    pub damaged: BTreeSet<Digest>,
    /// Those of them that the same blob of another place would mend: missing ones, and ones with other content. Without blobs
    /// that no document describes, or that two documents describe differently.
    pub replaceable: Vec<Descriptor>,
}

/// A remote layer, which is intentionally missing from the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutLayer {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, according to its manifest.
    pub size: u64,
    /// The repository that has it, according to the layout.
    pub repository: Reference,
}

/// A layer of an unknown type, such as an encrypted one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotReadLayer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, according to its manifest.
    pub media_type: String,
}

/// A fault in a layout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct LayoutDefect {
    /// The object at fault.
    pub object: String,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for LayoutDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", one_line(&self.object), one_line(&self.reason))
    }
}

/// Reads the whole layout at `path` and reports every fault.
///
/// Unreferenced blobs cause warnings, but are not faults, since building a name again leaves some behind. Layers that are
/// remote in every image that has them are not faults either.
///
/// # Errors
/// Returns an error if there is no layout at `path`.
///
/// ```
/// # let scratch = tempfile::tempdir()?;
/// # let path = scratch.path();
/// # ocibuild::Layout::create(path)?;
/// let report = ocibuild::verify(path, &ocibuild::Silent)?;
/// for fault in &report.faults {
///     eprintln!("{fault}");
/// }
/// assert_eq!((report.images, report.faults.len()), (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(path: &Path, progress: &dyn Progress) -> Result<Report> {
    check(&Layout::open(path)?, None, progress)
}

/// Reads every blob of the image `name` in the layout at `path`, and of its referrers.
///
/// # Errors
/// Returns an error if there is no layout at `path`, or no image `name` in it.
pub fn verify_image(path: &Path, name: &str, progress: &dyn Progress) -> Result<Report> {
    check(&Layout::open(path)?, Some(name), progress)
}

/// Reads every blob of `layout`, or of its image `name`.
pub(super) fn check(layout: &Layout, name: Option<&str>, progress: &dyn Progress) -> Result<Report> {
    let mut survey = Survey::of(layout);
    let mut left_out = RemoteLayers::default();
    match layout.index() {
        Ok(mut index) => {
            survey.names(&index);
            if let Some(name) = name {
                layout.keep_only(&mut index, name)?;
            }
            survey.index(&index, "index.json", 0);
            left_out = survey.left_out(&index);
        }
        Err(error) if name.is_some() => return Err(error),
        Err(error) => survey.fault(error.object(), error.reason()),
    }
    let mut roles = std::mem::take(&mut survey.roles);
    let mut report = survey.report;
    let (present, unknown_files) = layout.blobs()?;
    for unknown_file in unknown_files {
        warn(progress, &format!("{}/{unknown_file}", layout.display()), "not the name of a blob");
    }
    let present: BTreeSet<Digest> = present.into_iter().collect();
    roles.retain(|digest, role| {
        let is_layer = !role.diff_ids.is_empty() && role.sizes.len() == 1;
        let Some(repository) = left_out.repository(digest).filter(|_| is_layer && !present.contains(digest)) else {
            return true;
        };
        let size = role.sizes.first().copied().unwrap_or_default();
        report.left_out.push(LeftOutLayer { digest: *digest, size, repository: repository.clone() });
        false
    });
    let mut unreferenced: Vec<Digest> = Vec::new();
    if name.is_none() {
        unreferenced.extend(present.iter().filter(|digest| !roles.contains_key(*digest)));
    }
    if !unreferenced.is_empty() {
        warn(
            progress,
            &layout.display(),
            &format!("{} not referenced by any image", counted(unreferenced.len(), "blob")),
        );
    }
    let work: Vec<(Digest, Role)> =
        roles.into_iter().chain(unreferenced.into_iter().map(|digest| (digest, Role::default()))).collect();
    let check = |(digest, role): &(Digest, Role)| Some((*digest, check_blob(layout, digest, role, progress)?));
    let found: Vec<(Digest, BlobFacts)> = work.par_iter().filter_map(check).collect();
    for (digest, blob) in found {
        report.blobs += 1;
        report.bytes += blob.bytes;
        report.damaged.extend((!blob.faults.is_empty()).then_some(digest));
        report.replaceable.extend(blob.replaceable);
        report.faults.extend(blob.faults);
        report.not_read.extend(blob.not_read.map(|media_type| NotReadLayer { digest, media_type }));
    }
    report.faults.sort();
    report.faults.dedup();
    Ok(report)
}

/// The statements of all documents about one blob.
#[derive(Debug, Default)]
struct Role {
    /// Its sizes. More than one is a fault in itself.
    sizes: BTreeSet<u64>,
    /// Its media types.
    media_types: BTreeSet<String>,
    /// The diff IDs that configs state for it as a layer.
    diff_ids: BTreeSet<DiffId>,
}

impl Role {
    /// The blob as its documents describe it, if they agree.
    fn described(&self, digest: &Digest) -> Option<Descriptor> {
        let (media_type, size) = (self.media_types.first()?, self.sizes.first()?);
        (self.sizes.len() == 1).then(|| Descriptor::new(media_type, *digest, *size))
    }
}

/// Walks the documents and collects their statements about blobs.
struct Survey<'a> {
    layout: &'a Layout,
    report: Report,
    roles: BTreeMap<Digest, Role>,
    /// The platform of each manifest's image, according to its config.
    platforms: BTreeMap<Digest, Platform>,
    /// The blobs that each index and manifest refers to.
    references: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl Survey<'_> {
    fn of(layout: &Layout) -> Survey<'_> {
        Survey {
            layout,
            report: Report::default(),
            roles: BTreeMap::new(),
            platforms: BTreeMap::new(),
            references: BTreeMap::new(),
        }
    }

    /// Returns the remote layers that no entry of `index` needs in the layout.
    fn left_out(&self, index: &Index) -> RemoteLayers {
        let (mut left_out, mut needed) = (RemoteLayers::default(), BTreeSet::new());
        for listed in index.manifests() {
            let here = RemoteLayers::of(listed);
            let mut pending = vec![listed.digest];
            while let Some(document) = pending.pop() {
                for blob in self.references.get(&document).into_iter().flatten() {
                    if here.repository(blob).is_none() && needed.insert(*blob) {
                        pending.push(*blob);
                    }
                }
            }
            left_out.extend(here);
        }
        left_out.without(&needed)
    }

    fn fault(&mut self, object: impl Into<String>, reason: impl Into<String>) {
        self.report.faults.push(LayoutDefect { object: object.into(), reason: reason.into() });
    }

    /// Records a reference to a blob. Returns whether its media type is new for that blob.
    fn note(&mut self, descriptor: &Descriptor) -> bool {
        let role = self.roles.entry(descriptor.digest).or_default();
        role.sizes.insert(descriptor.size);
        role.media_types.insert(descriptor.media_type.clone())
    }

    fn names(&mut self, index: &Index) {
        let mut seen = BTreeSet::new();
        for name in index.manifests().iter().filter_map(|listed| ImageName::of_annotations(&listed.annotations)) {
            if !seen.insert(name.clone()) {
                self.fault("index.json", format!("two entries have the name `{name}`"));
            }
        }
    }

    fn index(&mut self, index: &Index, object: &str, depth: usize) {
        for listed in index.manifests() {
            let is_new = self.note(listed);
            if is_new {
                self.document(listed, depth);
            }
            let said = listed.platform.as_ref().filter(|platform| !platform.is_unknown());
            if let (Some(said), Some(actual)) = (said, self.platforms.get(&listed.digest))
                && !actual.satisfies(said)
            {
                let reason = format!("{} is listed for {said}, but is for {actual}", listed.digest);
                self.fault(object, reason);
            }
        }
    }

    fn document(&mut self, descriptor: &Descriptor, depth: usize) {
        const DEEPEST: usize = 4;
        let object = format!("blob {}", descriptor.digest);
        let media_type = &descriptor.media_type;
        let result = read_document(self.layout, descriptor, Limit::DocumentSize).and_then(|bytes| {
            if media_type::is_index(media_type) {
                Index::read(&bytes, media_type, &object).map(VerifiedDocument::Index)
            } else if let Ok(Some(artifact)) = Artifact::read(&bytes, media_type, &object) {
                Ok(VerifiedDocument::Artifact(artifact))
            } else if media_type::is_manifest(media_type) {
                Manifest::read(&bytes, media_type, &object).map(VerifiedDocument::Manifest)
            } else {
                Err(Error::invalid(&object, format!("`{media_type}` is neither an image nor an index")))
            }
        });
        match result {
            Ok(VerifiedDocument::Index(index)) if depth < DEEPEST => {
                self.references
                    .insert(descriptor.digest, index.manifests().iter().map(|listed| listed.digest).collect());
                self.index(&index, &object, depth + 1);
            }
            Ok(VerifiedDocument::Index(_)) => self.fault(object, "indexes are nested too deeply"),
            Ok(VerifiedDocument::Manifest(manifest)) => self.manifest(&manifest, &descriptor.digest),
            Ok(VerifiedDocument::Artifact(artifact)) => self.artifact(&artifact, &descriptor.digest),
            // A blob that is missing or damaged is reported once, when it is read as a blob.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
            Err(error) => self.fault(error.object(), error.reason()),
        }
    }

    /// Records an artifact. Its subject may be elsewhere: an SBOM without its image is still complete.
    fn artifact(&mut self, artifact: &Artifact, digest: &Digest) {
        self.report.artifacts += 1;
        self.references.insert(*digest, artifact.blobs.iter().map(|blob| blob.digest).collect());
        for blob in &artifact.blobs {
            self.note(blob);
        }
    }

    fn manifest(&mut self, manifest: &Manifest, digest: &Digest) {
        let object = format!("blob {digest}");
        self.report.images += 1;
        self.references.insert(*digest, manifest.blobs().map(|blob| blob.digest).collect());
        for blob in manifest.blobs() {
            self.note(blob);
        }
        let config = match self.read_config(&manifest.config) {
            Ok(config) => config,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => return,
            Err(error) => return self.fault(error.object(), error.reason()),
        };
        self.platforms.insert(*digest, config.platform().clone());
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids().len());
        if layers != diff_ids {
            self.fault(object, format!("{} but {}", counted(layers, "layer"), counted(diff_ids, "diff ID")));
        }
        if let Some(described) = config.layers_in_history().filter(|described| *described != layers) {
            self.fault(
                format!("blob {}", manifest.config.digest),
                format!("the history has {}, the image has {layers}", counted(described, "layer")),
            );
        }
        for (layer, diff_id) in manifest.layers.iter().zip(config.diff_ids()) {
            if let Some(role) = self.roles.get_mut(&layer.digest) {
                role.diff_ids.insert(*diff_id);
            }
        }
    }

    fn read_config(&self, descriptor: &Descriptor) -> Result<Config> {
        let object = format!("blob {}", descriptor.digest);
        Config::read(&read_document(self.layout, descriptor, Limit::DocumentSize)?, &object)
    }
}

enum VerifiedDocument {
    Index(Index),
    Manifest(Manifest),
    Artifact(Artifact),
}

/// The result of reading one blob.
#[derive(Default)]
struct BlobFacts {
    bytes: u64,
    faults: Vec<LayoutDefect>,
    /// The media type of a layer that cannot be read.
    not_read: Option<String>,
    /// The blob as its documents describe it, if it is missing or has other content.
    replaceable: Option<Descriptor>,
}

/// Reads one blob. Returns `None` if no image needs it and another process has removed it since it was listed.
fn check_blob(layout: &Layout, digest: &Digest, role: &Role, progress: &dyn Progress) -> Option<BlobFacts> {
    let mut found = BlobFacts::default();
    let object = format!("blob {digest}");
    let mut fault = |reason: String| found.faults.push(LayoutDefect { object: object.clone(), reason });
    if role.sizes.len() > 1 {
        fault(format!("has different sizes in its descriptors: {:?}", role.sizes));
    }
    let opened = match layout.open(&Descriptor::new("", *digest, 0)) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound && role.sizes.is_empty() => return None,
        Err(error) => {
            fault(error.reason());
            // Anything but a regular file is in the way of the blob. A file that may not be read is not known to be damaged.
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) {
                found.replaceable = role.described(digest);
            }
            return Some(found);
        }
    };
    let activity = Activity::start(progress, &object, role.sizes.first().copied());
    let mut stored = Hashing::new(opened, digest.algorithm());
    let is_layer = !role.diff_ids.is_empty();
    let unknown = |media_type: &&String| media_type::layer_encoding(media_type).is_none();
    found.not_read = role.media_types.iter().find(unknown).filter(|_| is_layer).cloned();
    let is_read = is_layer && found.not_read.is_none();
    let layer_faults = if is_read { check_layer(&mut stored, role) } else { Vec::new() };
    match stored.finish() {
        Err(error) => fault(Error::io("blob", "read", error).reason()),
        Ok((actual, size)) => {
            if let Some(said) = role.sizes.iter().find(|said| **said != size) {
                fault(format!("expected {said} bytes, found {size}"));
            }
            if actual != *digest {
                fault(format!("its content has the digest {actual}"));
            }
            found.bytes = size;
            activity.advance(size);
        }
    }
    if !found.faults.is_empty() {
        found.replaceable = role.described(digest);
    }
    // If the blob is damaged, faults of its content only follow from that.
    if found.faults.is_empty() {
        found.faults.extend(layer_faults.into_iter().map(|reason| LayoutDefect { object: object.clone(), reason }));
    }
    activity.finish(match (found.faults.is_empty(), &found.not_read) {
        (true, None) => "whole",
        (true, Some(_)) => "not read",
        (false, _) => "faulty",
    });
    Some(found)
}

/// Decompresses a layer and checks every entry of its tar.
fn check_layer(stored: &mut (impl Read + Send), role: &Role) -> Vec<String> {
    let Ok(stored) = Detected::new(stored) else { return Vec::new() };
    let actual = stored.encoding();
    let mut faults = Vec::new();
    for said in &role.media_types {
        match media_type::layer_encoding(said) {
            Some(encoding) if encoding == actual => {}
            Some(_) => faults.push(format!("declared as `{said}`, but is {}", actual.name())),
            None => return faults,
        }
    }
    let tar = match stored.decode() {
        Ok(tar) => tar,
        Err(error) => return vec![Error::io("layer", "read", error).reason()],
    };
    let algorithm = role
        .diff_ids
        .iter()
        .next()
        .map_or(crate::common::digest::Algorithm::Sha256, |diff_id| diff_id.as_digest().algorithm());
    let mut hashed = Hashing::new(tar, algorithm);
    let broken = check_tar(&mut hashed, &mut faults).err();
    faults.extend(broken.iter().map(Error::reason));
    match hashed.finish() {
        Ok((digest, _)) => {
            let others = role.diff_ids.iter().filter(|diff_id| diff_id.as_digest() != digest);
            faults.extend(
                others.map(|diff_id| format!("its tar has the digest {digest}, expected the diff ID {diff_id}")),
            );
        }
        // A failure that was already reported is not reported again.
        Err(_) if broken.is_some() => {}
        Err(error) => faults.push(Error::io("layer", "unwrap", error).reason()),
    }
    faults
}
