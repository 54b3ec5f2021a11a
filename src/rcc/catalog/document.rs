//! The JSON document of a catalog, parsed directly into a typed tree.
//!
//! A generic JSON value would take ten times the memory, and would not show where in the tree an error is.

use super::CatalogLimits;
use super::name::is_platform;
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::rcc::ObjectDigest;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Read;
use std::ops::Range;

/// The top-level members of a catalog.
pub(super) struct CatalogDocument {
    pub(super) recorder: Option<String>,
    pub(super) identity: String,
    pub(super) path: String,
    pub(super) platform: String,
    pub(super) blueprint: String,
    pub(super) tree: CatalogTree,
}

/// The tree of a catalog as flat lists.
///
/// A list in each directory and a string for each name would take three times the memory.
#[derive(Default)]
pub(super) struct CatalogTree {
    /// The directories, the root first, each after its parent.
    pub(super) directories: Vec<CatalogDirectory>,
    /// The files, in the order of the document.
    pub(super) files: Vec<File>,
    /// All names, concatenated.
    names: String,
    /// All offsets of rewrites, concatenated.
    offsets: Vec<u64>,
}

/// A directory, or a link to one with the entries that RCC recorded behind it.
#[derive(Default)]
pub(super) struct CatalogDirectory {
    pub(super) place: CatalogPlace,
    pub(super) link: Option<Box<str>>,
    pub(super) mode: u32,
    /// Whether the directory is reached only through a link, and so is not restored.
    pub(super) is_shadow: bool,
}

/// A file, or a link to one with the details of its target.
pub(super) struct File {
    pub(super) place: CatalogPlace,
    pub(super) link: Option<Box<str>>,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) digest: ObjectDigest,
    offsets: Range<usize>,
}

/// The location of an entry in the tree.
#[derive(Default)]
pub(super) struct CatalogPlace {
    /// The index of the parent directory; the root is its own parent.
    pub(super) directory: usize,
    /// The entry's member `name`, if it differs from the key of the entry.
    pub(super) other_name: Option<Box<str>>,
    name: Range<usize>,
}

impl CatalogTree {
    /// Returns the key of an entry.
    pub(super) fn name(&self, place: &CatalogPlace) -> &str {
        &self.names[place.name.clone()]
    }

    /// Returns the offsets of the recorded identity in a file, as the document lists them.
    pub(super) fn offsets(&self, file: &File) -> &[u64] {
        &self.offsets[file.offsets.clone()]
    }
}

/// Parses the only document in `source`, to its end.
///
/// # Errors
/// Returns an error if `source` cannot be read, is not JSON, is not a catalog, or exceeds a limit.
pub(super) fn parse(source: impl Read, limits: &CatalogLimits, object: &str) -> Result<CatalogDocument> {
    let listing = RefCell::new(CatalogTree::default());
    let reading = Reading {
        place: RefCell::new(Vec::new()),
        directory: Cell::new(0),
        listing,
        is_over: Cell::new(false),
        limits,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(source);
    // The depth of directories is limited below; unknown members are skipped without recursion.
    deserializer.disable_recursion_limit();
    let parsed = Top(&reading).deserialize(&mut deserializer).and_then(|document| {
        deserializer.end()?;
        Ok(CatalogDocument { tree: reading.listing.take(), ..document })
    });
    parsed.map_err(|error| {
        if error.is_io() {
            let error = Error::io(object, "read", error.into());
            return if error.object() == object { error } else { error.within(object) };
        }
        let place = reading.place.borrow().join("/");
        let object = if place.is_empty() { object.to_owned() } else { format!("{object}: `{place}`") };
        let error = Error::invalid(object, error.to_string());
        // Others come from a caller of the library.
        let is_set_by_people = limits.entries as u64 == Limit::Entries.value();
        if reading.is_over.get() && is_set_by_people { error.hint(Limit::Entries.advice()) } else { error }
    })
}

/// The state that the readers of all levels share.
struct Reading<'a> {
    /// The keys of the path to the value being read; after a failure, to the value that failed.
    place: RefCell<Vec<String>>,
    /// The index of the directory being read.
    directory: Cell<usize>,
    listing: RefCell<CatalogTree>,
    /// Whether there are too many entries.
    is_over: Cell<bool>,
    limits: &'a CatalogLimits,
}

impl Reading<'_> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let CatalogTree { directories, files, .. } = &*self.listing.borrow();
        // Neither the root nor the entry about to be read counts.
        match directories.len() + files.len() > self.limits.entries {
            true => {
                self.is_over.set(true);
                Err(E::custom(format_args!("more than {} entries", self.limits.entries)))
            }
            false => Ok(()),
        }
    }

    /// Returns the location of the entry being read, whose member `name` is `name`.
    ///
    /// The name nearly always equals the key, and storing both would take as much memory as everything else.
    fn place(&self, directory: usize, name: String) -> CatalogPlace {
        let place = self.place.borrow();
        let key = place.last().map_or("", String::as_str);
        let other_name = Some(name).filter(|name| name != key).map(String::into_boxed_str);
        let names = &mut self.listing.borrow_mut().names;
        let start = names.len();
        names.push_str(key);
        CatalogPlace { directory, other_name, name: start..names.len() }
    }
}

/// Stores the value of a member, and rejects a duplicate.
fn once<'de, A: MapAccess<'de>, T>(
    members: &mut A,
    key: &str,
    slot: &mut Option<T>,
    seed: impl DeserializeSeed<'de, Value = T>,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom(format_args!("duplicate member `{key}`")));
    }
    *slot = Some(members.next_value_seed(seed)?);
    Ok(())
}

/// Skips an unknown member. Go would take `Digest` for `digest`, so such a spelling is rejected.
fn skip<'de, A: MapAccess<'de>>(members: &mut A, key: &str, known: &[&str]) -> Result<(), A::Error> {
    if let Some(meant) = known.iter().find(|known| known.eq_ignore_ascii_case(key)) {
        return Err(A::Error::custom(format_args!("unknown member `{key}`, perhaps `{meant}`")));
    }
    members.next_value::<IgnoredAny>().map(drop)
}

fn required<T, E: serde::de::Error>(slot: Option<T>, key: &str) -> Result<T, E> {
    slot.ok_or_else(|| E::custom(format_args!("no `{key}`")))
}

fn text() -> std::marker::PhantomData<String> {
    std::marker::PhantomData
}

fn number<T>() -> std::marker::PhantomData<T> {
    std::marker::PhantomData
}

struct Top<'a>(&'a Reading<'a>);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = CatalogDocument;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<CatalogDocument, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = CatalogDocument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a catalog")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<CatalogDocument, A::Error> {
        let (mut recorder, mut identity, mut path) = (None, None, None);
        let (mut platform, mut blueprint, mut tree) = (None, None, None);
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "rcc" => once(&mut members, &key, &mut recorder, text())?,
                "identity" => once(&mut members, &key, &mut identity, text())?,
                "path" => once(&mut members, &key, &mut path, text())?,
                "platform" => once(&mut members, &key, &mut platform, text())?,
                "blueprint" => once(&mut members, &key, &mut blueprint, text())?,
                "tree" => once(&mut members, &key, &mut tree, DirectorySeed { reading: self.0, depth: 0 })?,
                _ => skip(&mut members, &key, &["rcc", "identity", "path", "platform", "blueprint", "tree"])?,
            }
        }
        let platform: String = required(platform, "platform")?;
        if !is_platform(&platform) {
            return Err(A::Error::custom(format_args!("unknown platform `{platform}`")));
        }
        Ok(CatalogDocument {
            recorder,
            identity: required(identity, "identity")?,
            path: required(path, "path")?,
            platform,
            blueprint: required(blueprint, "blueprint")?,
            tree: required(tree, "tree").map(|()| CatalogTree::default())?,
        })
    }
}

#[derive(Clone, Copy)]
struct DirectorySeed<'a> {
    reading: &'a Reading<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for DirectorySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > self.reading.limits.depth {
            return Err(D::Error::custom(format_args!("too deep: more than {} levels", self.reading.limits.depth)));
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DirectorySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a directory")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let DirectorySeed { reading, depth } = self;
        // The directory takes its index before its descendants take theirs.
        let own = reading.listing.borrow().directories.len();
        reading.listing.borrow_mut().directories.push(CatalogDirectory::default());
        let parent = reading.directory.replace(own);
        let (mut name, mut link, mut mode) = (None, None, None);
        let (mut directories, mut files, mut is_shadow) = (None, None, None);
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "name" => once(&mut members, &key, &mut name, text())?,
                "symlink" => once(&mut members, &key, &mut link, text())?,
                "mode" => once(&mut members, &key, &mut mode, number())?,
                "shadow" => once(&mut members, &key, &mut is_shadow, number())?,
                "subdirs" => {
                    let seed = NamedObjects { reading, of: DirectorySeed { reading, depth: depth + 1 } };
                    once(&mut members, &key, &mut directories, seed)?;
                }
                "files" => once(&mut members, &key, &mut files, NamedObjects { reading, of: FileSeed { reading } })?,
                _ => skip(&mut members, &key, &["name", "symlink", "mode", "shadow", "subdirs", "files"])?,
            }
        }
        reading.directory.set(parent);
        let directory = CatalogDirectory {
            place: reading.place(parent, required(name, "name")?),
            link: linked(link),
            mode: required(mode, "mode")?,
            is_shadow: is_shadow.unwrap_or(false),
        };
        reading.listing.borrow_mut().directories[own] = directory;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct FileSeed<'a> {
    reading: &'a Reading<'a>,
}

impl<'de> DeserializeSeed<'de> for FileSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FileSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let reading = self.reading;
        let (mut name, mut link, mut mode, mut size) = (None, None, None, None);
        let (mut digest, mut rewrites) = (None, None);
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "name" => once(&mut members, &key, &mut name, text())?,
                "symlink" => once(&mut members, &key, &mut link, text())?,
                "mode" => once(&mut members, &key, &mut mode, number())?,
                "size" => once(&mut members, &key, &mut size, number::<i64>())?,
                "digest" => once(&mut members, &key, &mut digest, text())?,
                "rewrite" => once(&mut members, &key, &mut rewrites, Offsets { reading })?,
                _ => skip(&mut members, &key, &["name", "symlink", "mode", "size", "digest", "rewrite"])?,
            }
        }
        let (size, digest): (i64, String) = (required(size, "size")?, required(digest, "digest")?);
        let is_no_digest = || A::Error::custom(format_args!("invalid digest {digest:?}"));
        let file = File {
            place: reading.place(reading.directory.get(), required(name, "name")?),
            link: linked(link),
            mode: required(mode, "mode")?,
            size: u64::try_from(size).map_err(|_| A::Error::custom(format_args!("negative `size` {size}")))?,
            digest: ObjectDigest::parse(&digest).ok_or_else(is_no_digest)?,
            offsets: rewrites.unwrap_or_default(),
        };
        reading.listing.borrow_mut().files.push(file);
        Ok(())
    }
}

/// Returns the target of a link; `None` for an empty one, which is no link.
fn linked(link: Option<String>) -> Option<Box<str>> {
    link.filter(|target| !target.is_empty()).map(String::into_boxed_str)
}

/// A JSON object of named entries, in its order. Names may repeat; a later step rejects duplicates.
struct NamedObjects<'a, S> {
    reading: &'a Reading<'a>,
    of: S,
}

impl<'de, S: DeserializeSeed<'de, Value = ()> + Copy> DeserializeSeed<'de> for NamedObjects<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de, Value = ()> + Copy> Visitor<'de> for NamedObjects<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<String>()? {
            self.reading.count()?;
            self.reading.place.borrow_mut().push(key);
            members.next_value_seed(self.of)?;
            self.reading.place.borrow_mut().pop();
        }
        Ok(())
    }
}

/// The offsets of a file.
///
/// There may be as many as the file has bytes.
struct Offsets<'a> {
    reading: &'a Reading<'a>,
}

impl<'de> DeserializeSeed<'de> for Offsets<'_> {
    type Value = Range<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Range<usize>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Offsets<'_> {
    type Value = Range<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rewrite offsets")
    }

    // Go writes a nil slice as null.
    fn visit_none<E>(self) -> Result<Range<usize>, E> {
        Ok(0..0)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Range<usize>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Range<usize>, A::Error> {
        let mut listing = self.reading.listing.borrow_mut();
        let offsets = &mut listing.offsets;
        let start = offsets.len();
        while let Some(offset) = elements.next_element::<i64>()? {
            let negative = |_| A::Error::custom(format_args!("negative rewrite offset {offset}"));
            offsets.push(u64::try_from(offset).map_err(negative)?);
        }
        Ok(start..offsets.len())
    }
}
