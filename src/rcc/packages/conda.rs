//! The list of files in a document of `conda-meta`.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Calls `claim` with each path in the member `files` of `document`. Returns `None` if `document` is malformed.
pub(super) fn each_file(document: &[u8], claim: impl FnMut(&str)) -> Option<()> {
    // serde_json's own recursion limit prevents deep nesting.
    let mut deserializer = serde_json::Deserializer::from_slice(document);
    CondaRecord(claim).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()
}

struct CondaRecord<F>(F);

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for CondaRecord<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str)> Visitor<'de> for CondaRecord<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let mut is_found = false;
        while let Some(key) = members.next_key::<String>()? {
            if key != "files" {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if is_found {
                return Err(A::Error::custom("duplicate member `files`"));
            }
            is_found = true;
            members.next_value_seed(Files(&mut self.0))?;
        }
        if is_found { Ok(()) } else { Err(A::Error::custom("no `files`")) }
    }
}

struct Files<'a, F>(&'a mut F);

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for Files<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&str)> Visitor<'de> for Files<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of paths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut paths: A) -> Result<(), A::Error> {
        while let Some(()) = paths.next_element_seed(Path(self.0))? {}
        Ok(())
    }
}

struct Path<'a, F>(&'a mut F);

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for Path<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: FnMut(&str)> Visitor<'_> for Path<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path")
    }

    fn visit_str<E>(self, path: &str) -> Result<(), E> {
        (self.0)(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(document: &str) -> Option<Vec<String>> {
        let mut files = Vec::new();
        each_file(document.as_bytes(), |path| files.push(path.to_owned()))?;
        Some(files)
    }

    #[test]
    fn the_files_of_a_package_are_found_among_whatever_else_is_known_of_it() {
        let document = r#"{"build": "h1", "files": ["bin/a", "größe/\u0061"], "paths_data": {"files": ["no"]}}"#;
        assert_eq!(files(document).unwrap(), ["bin/a", "größe/a"]);
    }

    #[test]
    fn what_is_no_list_gives_none() {
        let deep = format!("{{\"a\": {}", "[".repeat(100_000));
        for document in
            ["", "[]", "{}", r#"{"files": {}}"#, r#"{"files": [1]}"#, r#"{"files": []"#, r#"{"files": []} x"#, &deep]
        {
            assert_eq!(files(document), None, "{document:.40}");
        }
        assert_eq!(files(r#"{"files": ["a"], "files": ["b"]}"#), None);
    }
}
