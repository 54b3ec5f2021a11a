//! The JSON document of a catalog, read straight into a typed tree.
//!
//! A generic JSON value would take ten times the memory, and would not tell where in the tree something is wrong.

use super::CatalogLimits;
use super::name::is_platform;
use crate::error::{Error, Result};
use crate::rcc::ObjectDigest;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Read;

/// The top of a catalog.
pub(super) struct Document {
    pub(super) recorder: Option<String>,
    pub(super) identity: String,
    pub(super) path: String,
    pub(super) platform: String,
    pub(super) blueprint: String,
    pub(super) tree: Directory,
}

/// A directory, or a link to one with what lay behind it.
pub(super) struct Directory {
    /// What it calls itself, where that is not the key under which it stands.
    pub(super) other_name: Option<String>,
    pub(super) link: Option<String>,
    pub(super) mode: u32,
    pub(super) directories: Vec<(String, Directory)>,
    pub(super) files: Vec<(String, File)>,
    /// It lies behind a link, and is not restored.
    pub(super) is_shadow: bool,
}

/// A file, or a link to one with what lay behind it.
pub(super) struct File {
    /// What it calls itself, where that is not the key under which it stands.
    pub(super) other_name: Option<String>,
    pub(super) link: Option<String>,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) digest: ObjectDigest,
    pub(super) rewrites: Vec<u64>,
}

/// Reads the one document that `source` holds, to its end.
///
/// # Errors
/// When it cannot be read, is not JSON, not a catalog, or exceeds a limit.
pub(super) fn parse(source: impl Read, limits: &CatalogLimits, object: &str) -> Result<Document> {
    let reading = Reading { place: RefCell::new(Vec::new()), entries: Cell::new(0), limits };
    let mut deserializer = serde_json::Deserializer::from_reader(source);
    // The depth of directories is counted below; unknown members are skipped without recursion.
    deserializer.disable_recursion_limit();
    let parsed = Top(&reading).deserialize(&mut deserializer).and_then(|document| {
        deserializer.end()?;
        Ok(document)
    });
    parsed.map_err(|error| {
        if error.is_io() {
            let error = Error::io(object, "read", error.into());
            return if error.object() == object { error } else { error.within(object) };
        }
        let place = reading.place.borrow().join("/");
        let object = if place.is_empty() { object.to_owned() } else { format!("{object}: `{place}`") };
        Error::invalid(object, error.to_string())
    })
}

/// What the readers of all levels share.
struct Reading<'a> {
    /// The names on the way to what is being read; after a failure, to what failed.
    place: RefCell<Vec<String>>,
    entries: Cell<usize>,
    limits: &'a CatalogLimits,
}

impl Reading<'_> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        self.entries.set(self.entries.get() + 1);
        match self.entries.get() > self.limits.entries {
            true => Err(E::custom(format_args!("more than {} entries", self.limits.entries))),
            false => Ok(()),
        }
    }

    /// The name that an entry calls itself, unless it is the key of what is being read. Nearly always it is, and twice the
    /// names would take as much memory as everything else.
    fn other_than_key(&self, name: String) -> Option<String> {
        Some(name).filter(|name| self.place.borrow().last() != Some(name))
    }
}

/// Puts a member into its place, once.
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

/// Skips a member that is not known. Go would take `Digest` for `digest`, so such a spelling is refused.
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
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a catalog")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Document, A::Error> {
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
        Ok(Document {
            recorder,
            identity: required(identity, "identity")?,
            path: required(path, "path")?,
            platform,
            blueprint: required(blueprint, "blueprint")?,
            tree: required(tree, "tree")?,
        })
    }
}

#[derive(Clone, Copy)]
struct DirectorySeed<'a> {
    reading: &'a Reading<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for DirectorySeed<'_> {
    type Value = Directory;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Directory, D::Error> {
        if self.depth > self.reading.limits.depth {
            return Err(D::Error::custom(format_args!("too deep: more than {} levels", self.reading.limits.depth)));
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DirectorySeed<'_> {
    type Value = Directory;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a directory")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Directory, A::Error> {
        let DirectorySeed { reading, depth } = self;
        let (mut name, mut link, mut mode) = (None, None, None);
        let (mut directories, mut files, mut is_shadow) = (None, None, None);
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "name" => once(&mut members, &key, &mut name, text())?,
                "symlink" => once(&mut members, &key, &mut link, text())?,
                "mode" => once(&mut members, &key, &mut mode, number())?,
                "shadow" => once(&mut members, &key, &mut is_shadow, number())?,
                "subdirs" => {
                    let seed = Named { reading, of: DirectorySeed { reading, depth: depth + 1 } };
                    once(&mut members, &key, &mut directories, seed)?;
                }
                "files" => once(&mut members, &key, &mut files, Named { reading, of: FileSeed { reading } })?,
                _ => skip(&mut members, &key, &["name", "symlink", "mode", "shadow", "subdirs", "files"])?,
            }
        }
        Ok(Directory {
            other_name: reading.other_than_key(required(name, "name")?),
            link: link.filter(|target: &String| !target.is_empty()),
            mode: required(mode, "mode")?,
            directories: directories.unwrap_or_default(),
            files: files.unwrap_or_default(),
            is_shadow: is_shadow.unwrap_or(false),
        })
    }
}

#[derive(Clone, Copy)]
struct FileSeed<'a> {
    reading: &'a Reading<'a>,
}

impl<'de> DeserializeSeed<'de> for FileSeed<'_> {
    type Value = File;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<File, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FileSeed<'_> {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<File, A::Error> {
        let (mut name, mut link, mut mode, mut size) = (None, None, None, None);
        let (mut digest, mut rewrites) = (None, None);
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "name" => once(&mut members, &key, &mut name, text())?,
                "symlink" => once(&mut members, &key, &mut link, text())?,
                "mode" => once(&mut members, &key, &mut mode, number())?,
                "size" => once(&mut members, &key, &mut size, number::<i64>())?,
                "digest" => once(&mut members, &key, &mut digest, text())?,
                "rewrite" => once(&mut members, &key, &mut rewrites, Offsets)?,
                _ => skip(&mut members, &key, &["name", "symlink", "mode", "size", "digest", "rewrite"])?,
            }
        }
        let (size, digest): (i64, String) = (required(size, "size")?, required(digest, "digest")?);
        let is_no_digest = || A::Error::custom(format_args!("invalid digest {digest:?}"));
        Ok(File {
            other_name: self.reading.other_than_key(required(name, "name")?),
            link: link.filter(|target: &String| !target.is_empty()),
            mode: required(mode, "mode")?,
            size: u64::try_from(size).map_err(|_| A::Error::custom(format_args!("negative `size` {size}")))?,
            digest: ObjectDigest::parse(&digest).ok_or_else(is_no_digest)?,
            rewrites: rewrites.unwrap_or_default(),
        })
    }
}

/// An object of named things, in its order; names may repeat, which is found out later.
struct Named<'a, S> {
    reading: &'a Reading<'a>,
    of: S,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Named<'_, S> {
    type Value = Vec<(String, S::Value)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for Named<'_, S> {
    type Value = Vec<(String, S::Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut named = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            self.reading.count()?;
            self.reading.place.borrow_mut().push(key);
            let value = members.next_value_seed(self.of)?;
            let key = self.reading.place.borrow_mut().pop().unwrap_or_default();
            named.push((key, value));
        }
        Ok(named)
    }
}

/// Offsets of a file, which may be as many as the file has bytes.
struct Offsets;

impl<'de> DeserializeSeed<'de> for Offsets {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Offsets {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rewrite offsets")
    }

    // Go writes an empty list that was never made as null.
    fn visit_none<E>(self) -> Result<Vec<u64>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<u64>, A::Error> {
        let mut offsets = Vec::new();
        while let Some(offset) = elements.next_element::<i64>()? {
            let negative = |_| A::Error::custom(format_args!("negative rewrite offset {offset}"));
            offsets.push(u64::try_from(offset).map_err(negative)?);
        }
        Ok(offsets)
    }
}
