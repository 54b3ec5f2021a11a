//! JSON documents that are valid, with some of their values replaced, removed or repeated.

use super::Choices;
use serde_json::{Value, json};

/// Changes a document in a few places.
pub(in crate::fuzz) fn document(bytes: &[u8], mut document: Value, keys: &[&str]) -> Value {
    let mut choices = Choices::new(bytes);
    for _ in 0..=choices.below(5) {
        change(&mut choices, &mut document, keys);
    }
    document
}

/// Goes down to some value, and changes it.
fn change(choices: &mut Choices<'_>, value: &mut Value, keys: &[&str]) {
    let goes_down = choices.below(8) != 0;
    match value {
        Value::Array(items) if goes_down && !items.is_empty() => {
            let place = choices.below(items.len().min(256));
            change(choices, &mut items[place], keys);
        }
        Value::Object(members) if goes_down && !members.is_empty() => {
            let place = choices.below(members.len().min(256));
            change(choices, members.values_mut().nth(place).unwrap(), keys);
        }
        Value::Array(items) if choices.below(2) == 0 => {
            let times = choices.choose(&[0, 2, 3, 600]);
            *items = items.iter().cycle().take(items.len() * times).cloned().collect();
        }
        Value::Object(members) if choices.below(2) == 0 => {
            let key = choices.choose(keys);
            let other = choices.choose(keys);
            match members.remove(key) {
                Some(moved) => members.insert(other.to_owned(), moved),
                None => members.insert(key.to_owned(), any(choices)),
            };
        }
        _ => *value = any(choices),
    }
}

fn any(choices: &mut Choices<'_>) -> Value {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    choices.choose(&[
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(0.5),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("/"),
        json!("../x"),
        json!("a/b"),
        json!("\u{0}"),
        json!("\u{1b}[31m"),
        json!("x".repeat(5000)),
        json!(digest),
        json!("sha512:00"),
        json!("2026-01-01T00:00:00Z"),
        json!([]),
        json!({}),
        json!([[]]),
        json!({"": {}}),
        (0..70).fold(json!(0), |inner, _| json!([inner])),
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 0}),
    ])
}
