//! Records of the blobs that this machine has seen in registries, and of the layers that its builds left there.
//!
//! ```text
//! seen/v1/<two digits>          digests that begin with the digits: when and in which repositories they were seen
//! left-out/v1/<manifest>        layers that a build on this machine left in a registry: each with its repository
//! ```
//!
//! A record of a blob saves an upload: a push to another repository of the registry asks to mount the blob. The record is only
//! a hint, and a refused mount becomes an upload. A record of a remote layer has more weight: an export fetches the layer with
//! this user's credentials. So it exists only for images that were built on this machine, whatever their layout says.

use super::RemoteLayers;
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::spec::Manifest;
use crate::spec::reference::Reference;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The maximum number of digests in one file; the 256 files have 32,768.
const MOST_DIGESTS: usize = 128;

/// The maximum number of repositories that are recorded for a digest, over all registries.
const MOST_REPOSITORIES: usize = 4;

/// How long a repository is remembered after the blob was last seen in it.
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// The maximum number of images with recorded remote layers.
const MOST_IMAGES: usize = 1000;

/// The maximum size of a file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The records of blobs in registries.
#[derive(Debug)]
pub struct BlobLocations {
    blobs: Root,
    remote_layers: Root,
    /// In seconds since the epoch.
    now: u64,
}

/// The times at which a blob was seen, with the repositories, the latest first.
type Sightings = Vec<(u64, Reference)>;

impl BlobLocations {
    /// Opens the records in the cache directory at the time `now`, and creates them if they are missing.
    ///
    /// # Errors
    /// Fails if they cannot be created.
    pub fn open(cache_directory: &Root, now: SystemTime) -> Result<BlobLocations> {
        let blobs = cache_directory.create_directory("seen")?.create_directory("v1")?;
        let remote_layers = cache_directory.create_directory("left-out")?.create_directory("v1")?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(BlobLocations { blobs, remote_layers, now })
    }

    /// Records that `repository` has the blobs.
    ///
    /// # Errors
    /// Fails if the record cannot be written.
    pub fn record(&self, repository: &Reference, digests: impl IntoIterator<Item = Digest>) -> Result<()> {
        let repository = repository.clone().without_tag().without_digest();
        let mut shards: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for digest in digests {
            shards.entry(digest.hex()[..2].to_owned()).or_default().push(digest);
        }
        for (shard, digests) in shards {
            let mut known = self.shard(&shard);
            for digest in digests {
                let sightings = known.entry(digest).or_default();
                sightings.retain(|(_, there)| *there != repository);
                sightings.insert(0, (self.now, repository.clone()));
                sightings.truncate(MOST_REPOSITORIES);
            }
            while known.len() > MOST_DIGESTS {
                let newest = |sightings: &Sightings| sightings.first().map(|(when, _)| *when);
                let oldest = known.iter().min_by_key(|(_, sightings)| newest(sightings)).map(|(digest, _)| *digest);
                oldest.and_then(|digest| known.remove(&digest));
            }
            let mut text = String::new();
            for (digest, sightings) in &known {
                for (when, repository) in sightings {
                    text.push_str(&format!("{digest} {when} {repository}\n"));
                }
            }
            replace(&self.blobs, &shard, &text)?;
        }
        Ok(())
    }

    /// Records that `repository` has the blobs of the image with this manifest.
    ///
    /// # Errors
    /// Fails if the record cannot be written.
    pub fn record_image(&self, repository: &Reference, manifest: &Manifest) -> Result<()> {
        self.record(repository, manifest.blobs().map(|blob| blob.digest))
    }

    /// Returns another repository of the registry of `target` in which the blob was seen most recently.
    pub fn other_repository(&self, digest: &Digest, target: &Reference) -> Option<Reference> {
        let of_registry = |there: &Reference| there.registry() == target.registry() && !there.same_repository(target);
        self.repositories(digest).into_iter().find(of_registry)
    }

    /// Returns the repositories in which the blob was seen, the latest first.
    pub fn repositories(&self, digest: &Digest) -> Vec<Reference> {
        let sightings = self.shard(&digest.hex()[..2]).remove(digest).unwrap_or_default();
        sightings.into_iter().map(|(_, repository)| repository).collect()
    }

    /// Reads the digests in one file that have not expired. Malformed lines are skipped.
    fn shard(&self, name: &str) -> BTreeMap<Digest, Sightings> {
        let mut known: BTreeMap<Digest, Sightings> = BTreeMap::new();
        for line in read(&self.blobs, name).lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (Ok(digest), Ok(when), Ok(repository)) = (word().parse(), word().parse(), word().parse()) else {
                continue;
            };
            if self.now < LIFETIME.as_secs().saturating_add(when) {
                known.entry(digest).or_default().push((when, repository));
            }
        }
        known
    }

    /// Records the remote layers of the image with this manifest, which was built on this machine.
    ///
    /// # Errors
    /// Fails if the record cannot be written.
    pub fn record_remote_layers(&self, manifest: &Digest, remote_layers: &RemoteLayers) -> Result<()> {
        self.forget_oldest_images()?;
        let lines = remote_layers.iter().map(|(layer, repository)| format!("{layer} {repository}\n"));
        replace(&self.remote_layers, &manifest.hex(), &lines.collect::<String>())
    }

    /// Returns the recorded remote layers of the image with this manifest.
    pub fn remote_layers(&self, manifest: &Digest) -> RemoteLayers {
        let mut remote_layers = RemoteLayers::default();
        for line in read(&self.remote_layers, &manifest.hex()).lines() {
            let Some((layer, repository)) = line.split_once(' ') else { continue };
            if let (Ok(layer), Ok(repository)) = (layer.parse(), repository.parse()) {
                remote_layers.insert(layer, &repository);
            }
        }
        remote_layers
    }

    /// Removes the oldest records, so that one more fits.
    fn forget_oldest_images(&self) -> Result<()> {
        let unreadable = |error| Error::file(self.remote_layers.path(), "read", error);
        let mut known = Vec::new();
        for entry in self.remote_layers.dir().entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // Everything else is not a record: above all the temporary file of another process.
            if !entry.file_name().to_str().is_some_and(is_record_of_image) {
                continue;
            }
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            known.push((written.map_or(UNIX_EPOCH, cap_std::time::SystemTime::into_std), entry.file_name()));
        }
        known.sort();
        let surplus = (known.len() + 1).saturating_sub(MOST_IMAGES);
        for (_, name) in known.into_iter().take(surplus) {
            // Another process may have removed it.
            self.remote_layers.dir().remove_file(name).ok();
        }
        Ok(())
    }
}

/// Returns whether `name` is the hexadecimal digest of a manifest, as every record of an image has it.
fn is_record_of_image(name: &str) -> bool {
    matches!(name.len(), 64 | 128) && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Reads a file. One that is missing or unreadable counts as empty: the records are only hints.
fn read(directory: &Root, name: &str) -> String {
    let bytes = directory.open_file(name).and_then(|file| bounded_read::read(file, LARGEST, name)).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Replaces a file atomically. A crash may lose it.
fn replace(directory: &Root, name: &str, text: &str) -> Result<()> {
    let mut temporary = directory.temporary()?;
    temporary
        .write_all(text.as_bytes())
        .map_err(|error| Error::new(ErrorKind::Io, directory.display(name), format!("cannot write: {error}")))?;
    temporary.rename_unsynced(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(folder: &tempfile::TempDir, days: u64) -> BlobLocations {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + days * 86_400);
        BlobLocations::open(&Root::open(folder.path()).unwrap(), now).unwrap()
    }

    fn name(text: &str) -> Reference {
        text.parse().unwrap()
    }

    /// M70: a hint to the repository of a blob.
    #[test]
    fn what_was_seen_is_found_beside_its_target_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"blob");
        at(&folder, 0).record(&name("reg.io/team/a:v1"), [digest, Digest::of(b"other")]).unwrap();
        at(&folder, 1).record(&name("reg.io/team/b"), [digest]).unwrap();
        let beside =
            |target: &str| at(&folder, 2).other_repository(&digest, &name(target)).map(|name| name.to_string());
        assert_eq!(beside("reg.io/team/c:v2").as_deref(), Some("reg.io/team/b"));
        assert_eq!(beside("reg.io/team/b").as_deref(), Some("reg.io/team/a"));
        assert_eq!(beside("other.io/team/b"), None);
        assert_eq!(at(&folder, 2).other_repository(&Digest::of(b"x"), &name("reg.io/x/y")), None);
    }

    #[test]
    fn what_was_seen_is_bounded_and_ages() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"blob");
        for number in 0..9 {
            at(&folder, 0).record(&name(&format!("reg.io/team/n{number}")), [digest]).unwrap();
        }
        let shard = folder.path().join("seen/v1").join(&digest.hex()[..2]);
        let text = bounded_read::read(Root::open_named_file(&shard).unwrap(), LARGEST, "shard").unwrap();
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), MOST_REPOSITORIES);
        assert!(at(&folder, 89).other_repository(&digest, &name("reg.io/x/y")).is_some());
        assert_eq!(at(&folder, 91).other_repository(&digest, &name("reg.io/x/y")), None);
        let many = (0..60_000_u32).map(|number| Digest::of(&number.to_be_bytes()));
        at(&folder, 1).record(&name("reg.io/x/many"), many).unwrap();
        assert!(at(&folder, 1).shard("00").len() <= MOST_DIGESTS);
    }

    /// M41: remote layers are recorded only for images that were built here.
    #[test]
    fn what_was_left_out_is_known_by_image() {
        let folder = tempfile::tempdir().unwrap();
        let (image, layer) = (Digest::of(b"image"), Digest::of(b"layer"));
        let mut remote_layers = RemoteLayers::default();
        remote_layers.insert(layer, &name("reg.io/team/base:v1"));
        at(&folder, 0).record_remote_layers(&image, &remote_layers).unwrap();
        assert_eq!(at(&folder, 0).remote_layers(&image), remote_layers);
        assert_eq!(at(&folder, 0).remote_layers(&Digest::of(b"another")), RemoteLayers::default());
    }
    #[test]
    fn the_oldest_records_of_images_go_and_no_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let seen = at(&folder, 0);
        let temporary = seen.remote_layers.temporary().unwrap();
        let long_ago = UNIX_EPOCH + Duration::from_secs(1);
        temporary.share().unwrap().set_modified(long_ago).unwrap();
        for number in 0..MOST_IMAGES {
            let record =
                std::fs::File::create(folder.path().join("left-out/v1").join(Digest::of(&number.to_be_bytes()).hex()));
            record.unwrap().set_modified(long_ago + Duration::from_secs(number as u64)).unwrap();
        }
        seen.record_remote_layers(&Digest::of(b"image"), &RemoteLayers::default()).unwrap();
        let is_there = |number: usize| seen.remote_layers.dir().exists(Digest::of(&number.to_be_bytes()).hex());
        assert_eq!((is_there(0), is_there(1)), (false, true));
        temporary.rename_unsynced("renamed").unwrap();
    }
}
