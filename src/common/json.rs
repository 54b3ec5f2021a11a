//! JSON, parsed strictly and written in one canonical form.
//!
//! The parser refuses anything that different parsers would interpret differently: duplicate keys (the image
//! specification requires RFC 7493 documents), a second document after the first, invalid UTF-8, nesting beyond a limit.
//! The writer sorts keys, so every byte that is hashed depends only on the value.

use crate::common::error::{Error, Result};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The maximum nesting depth of the documents of the image specification.
pub const DOCUMENT_DEPTH: usize = 64;

/// The largest integer, 2^53 - 1. Larger ones lose digits in parsers that hold numbers as doubles (RFC 7493, section
/// 2.2).
pub const LARGEST_INTEGER: u64 = (1 << 53) - 1;

/// Parses one JSON document.
///
/// # Errors
/// Returns an error if `bytes` is not exactly one UTF-8 JSON document without duplicate keys, or nests deeper than
/// `depth`.
pub fn parse(bytes: &[u8], depth: usize, object: &str) -> Result<Value> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Error::invalid(object, "not JSON: it begins with a byte order mark"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // `Strict` counts the depth exactly. serde_json's own fixed limit would stop at half the depth of a real catalog.
    deserializer.disable_recursion_limit();
    let not_json = |error: serde_json::Error| Error::invalid(object, format!("not JSON: {error}"));
    let value = Strict { depth }.deserialize(&mut deserializer).map_err(not_json)?;
    deserializer.end().map_err(not_json)?;
    Ok(value)
}

/// Returns the canonical bytes of `value`: keys sorted, no white space.
pub fn canonical(value: &Value) -> Vec<u8> {
    // serde_json's map is a BTreeMap (its `preserve_order` feature stays off), so keys come out sorted.
    value.to_string().into_bytes()
}

/// Returns the object at `key` of `parent`, or `None` if it is absent or null.
///
/// # Errors
/// Returns an error if `parent` is not an object, or if the value has another type.
pub fn object_at<'a>(parent: &'a Value, key: &str, object: &str) -> Result<Option<&'a Map<String, Value>>> {
    typed(parent, key, object, "an object", Value::as_object)
}

/// Returns the array at `key` of `parent`, or `None` if it is absent or null.
///
/// # Errors
/// Returns an error if `parent` is not an object, or if the value has another type.
pub fn array_at<'a>(parent: &'a Value, key: &str, object: &str) -> Result<Option<&'a Vec<Value>>> {
    typed(parent, key, object, "an array", Value::as_array)
}

/// Returns the string at `key` of `parent`, or `None` if it is absent or null.
///
/// # Errors
/// Returns an error if `parent` is not an object, or if the value has another type.
pub fn string_at<'a>(parent: &'a Value, key: &str, object: &str) -> Result<Option<&'a str>> {
    typed(parent, key, object, "a string", Value::as_str)
}

/// Returns the integer from 0 to 2^53 - 1 at `key` of `parent`, or `None` if it is absent or null.
///
/// # Errors
/// Returns an error if `parent` is not an object, or if the value is anything else.
pub fn integer_at(parent: &Value, key: &str, object: &str) -> Result<Option<u64>> {
    typed(parent, key, object, "an integer from 0 to 2^53-1", |value| {
        value.as_u64().filter(|number| *number <= LARGEST_INTEGER)
    })
}

fn typed<'a, T>(
    parent: &'a Value,
    key: &str,
    object: &str,
    expected: &str,
    convert: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>> {
    let members = parent.as_object().ok_or_else(|| Error::invalid(object, "expected a JSON object"))?;
    match members.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(Error::invalid(object, format!("`{key}`: expected {expected}, found {}", shortened(value)))),
        },
    }
}

/// Returns a short rendering of a value for a message.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// Deserializes a [`Value`] and refuses duplicates and depths that a [`Value`] would silently accept.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    fn below<E: serde::de::Error>(self) -> Result<Strict, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Strict { depth }),
            None => Err(E::custom("nesting too deep")),
        }
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(below)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object = Map::new();
        while let Some(MemberName(key)) = members.next_key()? {
            let value = members.next_value_seed(below)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

struct MemberName(String);

impl<'de> Deserialize<'de> for MemberName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(MemberName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(text: &str) -> String {
        parse(text.as_bytes(), DOCUMENT_DEPTH, "x").unwrap_err().to_string()
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        assert!(refusal(r#"{"a":1,"a":2}"#).contains("duplicate key \"a\""));
        assert!(refusal("{}{}").contains("trailing characters"));
        assert!(refusal("\u{feff}{}").contains("byte order mark"));
        assert!(refusal("NaN").contains("not JSON"));
        assert!(parse(b"\"\xff\"", DOCUMENT_DEPTH, "x").is_err());
    }

    #[test]
    fn nesting_is_counted_and_never_overflows_the_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(64).as_bytes(), 64, "x").is_ok());
        assert!(refusal(&nested(65)).contains("nesting too deep"));
        assert!(refusal(&nested(1_000_000)).contains("nesting too deep"));
    }

    #[test]
    fn canonical_bytes_do_not_depend_on_the_order_of_the_source() {
        let one = parse(br#"{"b": 1, "a": [true, null]}"#, DOCUMENT_DEPTH, "x").unwrap();
        assert_eq!(canonical(&one), br#"{"a":[true,null],"b":1}"#);
    }

    #[test]
    fn integers_outside_the_interoperable_range_are_refused() {
        for bad in [json!({"n": -1}), json!({"n": 1.0}), json!({"n": 1_u64 << 53}), json!({"n": "1"})] {
            assert!(integer_at(&bad, "n", "x").is_err(), "{bad}");
        }
        assert_eq!(integer_at(&json!({"n": LARGEST_INTEGER}), "n", "x").unwrap(), Some(LARGEST_INTEGER));
        assert_eq!(integer_at(&json!({}), "n", "x").unwrap(), None);
    }
}
