//! The repositories of a registry, made of the names in the indexes of its layouts.
//!
//! ```text
//! name in the layout ./robots        repositories and tag
//! docker.io/team/app:v1              team/app:v1
//! ghcr.io/team/app:v1                team/app:v1
//! docker.io/library/app:v1           app:v1, library/app:v1
//! v1                                 robots:v1
//! (none)                             robots, by digest
//! ```
//!
//! The indexes are read again when they have changed.

use super::target::is_repository;
use crate::common::digest::Digest;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use crate::spec::reference::{DEFAULT_REGISTRY, Reference, Tag};
use crate::spec::{Descriptor, Index};
use crate::store::layout::{IndexStamp, StoredManifest};
use crate::store::{ImageName, Layout, RemoteLayers};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

/// The repository of an image that is served alone.
pub(super) const ONE_IMAGE: &str = "image";

/// A layout that is served.
#[derive(Debug)]
struct ServedLayout {
    layout: Layout,
    /// The repository of the images that have no full name.
    own_repository: Option<String>,
    held: Mutex<Weak<DirectoryLock>>,
}

/// The layouts of a registry, with what they hold now.
#[derive(Debug)]
pub(super) struct ServedImages {
    layouts: Vec<ServedLayout>,
    /// The base images of this machine, which have layers of sparse images.
    bases: Option<Layout>,
    /// The only blobs that are served, whatever the indexes list.
    only: Option<BTreeSet<Digest>>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    stamps: Vec<Option<IndexStamp>>,
    unreadable: BTreeMap<usize, String>,
    repositories: Arc<Repositories>,
}

/// What was served at one moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Repositories {
    indexes: Vec<Arc<Index>>,
    content: BTreeMap<String, RepositoryContent>,
    /// Layers that are in a registry, and not in a layout.
    remote: BTreeMap<Digest, Reference>,
    /// Names that cannot be served, each with the reason.
    problems: Vec<(String, String)>,
}

#[derive(Debug, Default, PartialEq)]
struct RepositoryContent {
    layouts: BTreeSet<usize>,
    tags: BTreeMap<String, Tagged>,
}

/// What a tag of a repository names.
#[derive(Debug, PartialEq)]
struct Tagged {
    layout: usize,
    digest: Digest,
    /// The name in the layout, for messages.
    name: String,
    is_ambiguous: bool,
}

/// A change of the names, and what is wrong with the new ones.
#[derive(Debug)]
pub(super) struct Refreshed {
    pub(super) repositories: Arc<Repositories>,
    pub(super) problems: Vec<(String, String)>,
}

impl ServedImages {
    /// Reads the indexes of `layouts`.
    ///
    /// # Errors
    /// Fails if an index cannot be read, an image has no name that can be served, or two images claim one name.
    pub(super) fn new(layouts: Vec<Layout>, bases: Option<Layout>, now: SystemTime) -> Result<Self> {
        let with_name = |layout: Layout| {
            let path = Root::resolve(layout.root().path())?;
            let name = path.file_name().and_then(|name| name.to_str()).map(str::to_lowercase);
            let own_repository = name.filter(|name| is_repository(name) && !name.contains('/'));
            Ok(ServedLayout { layout, own_repository, held: Mutex::default() })
        };
        let layouts: Vec<ServedLayout> = layouts.into_iter().map(with_name).collect::<Result<_>>()?;
        let (mut stamps, mut indexes) = (Vec::new(), Vec::new());
        for served in &layouts {
            if let Some((index, stamp)) = served.layout.index_since(None, now)? {
                stamps.push(stamp);
                indexes.push(Arc::new(index));
            }
        }
        let repositories = Arc::new(Repositories::of(&layouts, indexes));
        if let Some((object, reason)) = repositories.problems.first() {
            let hint = "`ocibuild tag` and `ocibuild rm` change names; a second `ocibuild serve` can have its own port";
            return Err(Error::invalid(object, reason).hint(hint));
        }
        let current = Mutex::new(Current { stamps, unreadable: BTreeMap::new(), repositories });
        Ok(ServedImages { layouts, bases, only: None, current })
    }

    /// Serves these blobs of `layout` in the repository [`ONE_IMAGE`], listed or not.
    pub(super) fn of_blobs(layout: Layout, blobs: BTreeSet<Digest>) -> Self {
        let layouts = vec![ServedLayout { layout, own_repository: None, held: Mutex::default() }];
        let content = RepositoryContent { layouts: BTreeSet::from([0]), tags: BTreeMap::new() };
        let repositories = Repositories {
            indexes: vec![Arc::new(Index::empty())],
            content: BTreeMap::from([(ONE_IMAGE.to_owned(), content)]),
            ..Repositories::default()
        };
        let (stamps, unreadable) = (vec![None], BTreeMap::new());
        let current = Mutex::new(Current { stamps, unreadable, repositories: Arc::new(repositories) });
        ServedImages { layouts, bases: None, only: Some(blobs), current }
    }

    /// Returns whether a blob may be served.
    fn is_served(&self, digest: &Digest) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(digest))
    }

    /// Returns what is served now. `problems` has what was not wrong before.
    pub(super) fn refresh(&self, now: SystemTime) -> Refreshed {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.only.is_some() {
            return Refreshed { repositories: current.repositories.clone(), problems: Vec::new() };
        }
        let mut indexes = current.repositories.indexes.clone();
        let (mut has_changed, mut problems) = (false, Vec::new());
        for (number, served) in self.layouts.iter().enumerate() {
            match served.layout.index_since(current.stamps[number].as_ref(), now) {
                Ok(None) => {}
                Ok(Some((index, stamp))) => {
                    current.unreadable.remove(&number);
                    current.stamps[number] = stamp;
                    has_changed |= *indexes[number] != index;
                    indexes[number] = Arc::new(index);
                }
                Err(error) => {
                    let reason = format!("{}; the images that it listed before are served", error.reason());
                    if current.unreadable.insert(number, reason.clone()) != Some(reason.clone()) {
                        problems.push((error.object(), reason));
                    }
                }
            }
        }
        if has_changed {
            let new = Repositories::of(&self.layouts, indexes);
            let known = &current.repositories.problems;
            problems.extend(new.problems.iter().filter(|problem| !known.contains(problem)).cloned());
            current.repositories = Arc::new(new);
        }
        Refreshed { repositories: current.repositories.clone(), problems }
    }

    /// Keeps garbage collections out of the layouts of a repository.
    ///
    /// # Errors
    /// Fails as [`Layout::hold_blobs`] does.
    pub(super) fn hold(&self, repositories: &Repositories, name: &str) -> Result<Vec<Arc<DirectoryLock>>> {
        repositories.layouts_of(name).map(|number| self.layouts[number].hold()).collect()
    }

    /// Reads the manifest with `digest` in a layout of the repository.
    ///
    /// # Errors
    /// Fails as [`Layout::manifest_document`] does.
    pub(super) fn manifest(
        &self,
        repositories: &Repositories,
        name: &str,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>> {
        for number in repositories.layouts_of(name).filter(|_| self.is_served(digest)) {
            let found = self.layouts[number].layout.manifest_document(&repositories.indexes[number], digest)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Opens a blob of the layouts of the repository, or a layer of a sparse image that is in the store of base images.
    ///
    /// # Errors
    /// Fails if the file system cannot be read.
    pub(super) fn blob(&self, repositories: &Repositories, name: &str, digest: &Digest) -> Result<Option<File>> {
        for number in repositories.layouts_of(name).filter(|_| self.is_served(digest)) {
            if let Some(file) = self.layouts[number].layout.blob_file(digest)? {
                return Ok(Some(file));
            }
        }
        match &self.bases {
            Some(bases) if repositories.remote.contains_key(digest) => bases.blob_file(digest),
            _ => Ok(None),
        }
    }

    /// Returns the entries about the manifest `subject` that follow `after`, each with the layout that has it.
    ///
    /// # Errors
    /// Fails as [`Layout::referrers_of`] does.
    pub(super) fn referrers(
        &self,
        repositories: &Repositories,
        name: &str,
        subject: &Digest,
        after: Option<&Digest>,
    ) -> Result<BTreeMap<Digest, (&Layout, Descriptor)>> {
        let mut found = BTreeMap::new();
        for number in repositories.layouts_of(name) {
            let layout = &self.layouts[number].layout;
            let about = layout.referrers_of(&repositories.indexes[number], subject)?;
            let rest = about.into_iter().filter(|listed| after.is_none_or(|after| listed.digest > *after));
            found.extend(rest.map(|listed| (listed.digest, (layout, listed))));
        }
        Ok(found)
    }

    /// Returns the layers of sparse images that cannot be served, with the repositories that have them.
    ///
    /// # Errors
    /// Fails if the file system cannot be read.
    pub(super) fn missing_layers(&self, repositories: &Repositories) -> Result<Vec<(Digest, Reference)>> {
        let mut missing = Vec::new();
        for (digest, repository) in &repositories.remote {
            let layouts = self.layouts.iter().map(|served| &served.layout).chain(&self.bases);
            let found = layouts.map(|layout| layout.blob_file(digest)).collect::<Result<Vec<_>>>()?;
            if found.iter().all(Option::is_none) {
                missing.push((*digest, repository.clone()));
            }
        }
        Ok(missing)
    }
}

impl ServedLayout {
    fn hold(&self) -> Result<Arc<DirectoryLock>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = held.upgrade() {
            return Ok(lock);
        }
        let lock = Arc::new(self.layout.hold_blobs()?);
        *held = Arc::downgrade(&lock);
        Ok(lock)
    }
}

impl Repositories {
    fn of(layouts: &[ServedLayout], indexes: Vec<Arc<Index>>) -> Repositories {
        let mut repositories = Repositories::default();
        for (number, (served, index)) in layouts.iter().zip(&indexes).enumerate() {
            for listed in index.manifests() {
                repositories.add(number, served, listed);
                let remote = RemoteLayers::of(listed);
                repositories.remote.extend(remote.iter().map(|(digest, place)| (*digest, place.clone())));
            }
        }
        repositories.indexes = indexes;
        repositories
    }

    fn add(&mut self, layout: usize, served: &ServedLayout, listed: &Descriptor) {
        let name = ImageName::of_annotations(&listed.annotations);
        let object = || match &name {
            Some(name) => format!("{}: {name}", served.layout.display()),
            None => format!("{}: {}", served.layout.display(), listed.digest),
        };
        let names = repositories_of(name.as_ref(), served.own_repository.as_deref());
        if names.is_empty() {
            let reason = "needs a full name, since the name of the directory cannot be that of a repository";
            self.problems.push((object(), reason.to_owned()));
        }
        for repository in names {
            let content = self.content.entry(repository.clone()).or_default();
            content.layouts.insert(layout);
            let tag = name.as_ref().map(ImageName::tag).filter(|tag| tag.parse::<Tag>().is_ok());
            let Some(tag) = tag else { continue };
            let new = Tagged { layout, digest: listed.digest, name: object(), is_ambiguous: false };
            let tagged = content.tags.entry(tag.to_owned()).or_insert(new);
            if tagged.digest != listed.digest {
                tagged.is_ambiguous = true;
                let both = (&tagged.name, tagged.digest, object(), listed.digest);
                let reason = format!("two images have this name: {} ({}) and {} ({})", both.0, both.1, both.2, both.3);
                self.problems.push((format!("{repository}:{tag}"), reason));
            }
        }
    }

    fn layouts_of(&self, name: &str) -> impl Iterator<Item = usize> {
        self.content.get(name).into_iter().flat_map(|content| content.layouts.iter().copied())
    }

    /// Returns whether there is a repository of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.content.contains_key(name)
    }

    /// Returns the digest that a tag of a repository names. An ambiguous tag names nothing.
    pub(super) fn tagged(&self, name: &str, tag: &str) -> Option<Digest> {
        let tagged = self.content.get(name)?.tags.get(tag)?;
        (!tagged.is_ambiguous).then_some(tagged.digest)
    }

    /// Returns the names of all repositories, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.content.keys().map(String::as_str)
    }

    /// Returns the tags of a repository, sorted.
    pub(super) fn tags(&self, name: &str) -> impl Iterator<Item = &str> {
        let tags = self.content.get(name).into_iter().flat_map(|content| &content.tags);
        tags.filter(|(_, tagged)| !tagged.is_ambiguous).map(|(tag, _)| tag.as_str())
    }

    /// Returns the repository that has a layer of a sparse image.
    pub(super) fn place_of(&self, layer: &Digest) -> Option<&Reference> {
        self.remote.get(layer)
    }
}

/// Returns the repositories in which an image is served. The first one is what a user types.
fn repositories_of(name: Option<&ImageName>, own: Option<&str>) -> Vec<String> {
    let Some(reference) = name.and_then(ImageName::reference) else {
        return own.into_iter().map(str::to_owned).collect();
    };
    let path = reference.repository();
    let short = path.strip_prefix("library/").filter(|_| reference.registry() == DEFAULT_REGISTRY);
    short.into_iter().chain([path]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{CONTAINERD_NAME, REF_NAME, media_type};
    use crate::store::BlobSink as _;
    use std::path::Path;

    fn layout(path: &Path, images: &[(&str, Option<&str>)]) -> Layout {
        let layout = Layout::create(path).unwrap();
        let mut index = Index::empty();
        for (number, (tag, full)) in images.iter().enumerate() {
            let content = format!("{}{number}", path.display());
            let mut listed = Descriptor::of(media_type::MANIFEST, content.as_bytes()).annotated(REF_NAME, *tag);
            if let Some(full) = full {
                listed = listed.annotated(CONTAINERD_NAME, *full);
            }
            layout.put(&listed, &|| Ok(Box::new(std::io::Cursor::new(content.clone())))).unwrap();
            index.put(&[listed]);
        }
        std::fs::write(path.join("index.json"), index.to_bytes()).unwrap();
        layout
    }

    fn served(layouts: Vec<Layout>) -> Result<Vec<String>> {
        let images = ServedImages::new(layouts, None, SystemTime::now())?;
        let repositories = images.refresh(SystemTime::now()).repositories;
        let tags = |name: &str| repositories.tags(name).map(|tag| format!("{name}:{tag}")).collect::<Vec<_>>();
        Ok(repositories.names().flat_map(tags).collect())
    }

    #[test]
    fn images_are_in_the_repositories_of_their_names() {
        let scratch = tempfile::tempdir().unwrap();
        let images = [
            ("v1", Some("docker.io/team/app:v1")),
            ("v2", Some("docker.io/library/app:v2")),
            ("v3", Some("ghcr.io/deep/team/app:v3")),
            ("v4", None),
            ("not/a+tag", None),
        ];
        let names = served(vec![layout(&scratch.path().join("Robots"), &images)]).unwrap();
        assert_eq!(names, ["app:v2", "deep/team/app:v3", "library/app:v2", "robots:v4", "team/app:v1"]);
    }

    #[test]
    fn one_name_of_two_images_is_an_error_that_names_both() {
        let scratch = tempfile::tempdir().unwrap();
        let one = layout(&scratch.path().join("one"), &[("v1", Some("docker.io/team/app:v1"))]);
        let two = layout(&scratch.path().join("two"), &[("v1", Some("ghcr.io/team/app:v1"))]);
        let error = served(vec![one, two]).unwrap_err().to_string();
        for part in
            ["team/app:v1: two images", "one: docker.io/team/app:v1 (sha256:", "two: ghcr.io/team/app:v1 (sha256:"]
        {
            assert!(error.contains(part), "{error}");
        }
        let odd = layout(&scratch.path().join("odd name"), &[("v1", None)]);
        assert!(served(vec![odd]).unwrap_err().to_string().contains("needs a full name"));
        let odd = layout(&scratch.path().join("odd name"), &[("v1", Some("docker.io/team/app:v1"))]);
        assert_eq!(served(vec![odd]).unwrap(), ["team/app:v1"]);
    }

    #[test]
    fn an_image_served_alone_is_all_that_is_served() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        let listed = layout(&path, &[("v1", None), ("v2", None)]).index().unwrap().manifests().to_vec();
        let only = BTreeSet::from([listed[0].digest]);
        let images = ServedImages::of_blobs(Layout::open(&path).unwrap(), only);
        let repositories = images.refresh(SystemTime::now()).repositories;
        let is_served = |digest| images.blob(&repositories, ONE_IMAGE, digest).unwrap().is_some();
        assert_eq!(listed.iter().map(|listed| is_served(&listed.digest)).collect::<Vec<_>>(), [true, false]);
        assert!(images.manifest(&repositories, ONE_IMAGE, &listed[1].digest).unwrap().is_none());
        assert_eq!(repositories.names().collect::<Vec<_>>(), [ONE_IMAGE]);
        assert_eq!(repositories.tags(ONE_IMAGE).count(), 0);
    }

    #[test]
    fn changed_indexes_are_read_again() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        let images = ServedImages::new(vec![layout(&path, &[("v1", None)])], None, SystemTime::now()).unwrap();
        let tags = || images.refresh(SystemTime::now()).repositories.tags("out").collect::<Vec<_>>().join(" ");
        assert_eq!(tags(), "v1");
        layout(&path, &[("v1", None), ("v2", None)]);
        assert_eq!(tags(), "v1 v2");
        std::fs::write(path.join("index.json"), "{").unwrap();
        let refreshed = images.refresh(SystemTime::now());
        assert_eq!(refreshed.problems.len(), 1, "{:?}", refreshed.problems);
        assert!(images.refresh(SystemTime::now()).problems.is_empty(), "reported once");
        assert_eq!(tags(), "v1 v2");
        std::fs::write(path.join("index.json"), Index::empty().to_bytes()).unwrap();
        layout(&path, &[("v3", None)]);
        assert_eq!(tags(), "v3");
    }
}
