//! The history of an image on another base.

use crate::spec::Config;
use serde_json::{Value, json};

/// Returns the history of `new`, and that of `image` after the history of `old`. `None` if no config has one.
pub(super) fn spliced(image: &Config, old: &Config, new: &Config) -> Option<Vec<Value>> {
    if image.layers_in_history().is_none() && new.layers_in_history().is_none() {
        return None;
    }
    let of_base = match new.has_fitting_history() {
        true => entries(new).to_vec(),
        // Readers pair entries and layers by number.
        false => placeholders("layer of the base image", new.diff_ids().len()),
    };
    Some([of_base, own(image, old)].concat())
}

fn own(image: &Config, old: &Config) -> Vec<Value> {
    let (all, of_base) = (entries(image), entries(old));
    let layers = old.diff_ids().len();
    if !image.has_fitting_history() {
        return placeholders("layer of the image", image.diff_ids().len() - layers);
    }
    if all.starts_with(of_base) && old.has_fitting_history() {
        return all[of_base.len()..].to_vec();
    }
    let mut rest = layers;
    let mut count = 0;
    while let Some(entry) = all.get(count).filter(|_| rest > 0) {
        rest -= usize::from(entry["empty_layer"].as_bool() != Some(true));
        count += 1;
    }
    all[count..].to_vec()
}

fn entries(config: &Config) -> &[Value] {
    config.document()["history"].as_array().map_or(&[][..], |history| history)
}

fn placeholders(comment: &str, count: usize) -> Vec<Value> {
    (0..count).map(|_| json!({"comment": comment})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::digest::Digest;

    fn config(layers: &[&str], history: Value) -> Config {
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer.as_bytes()).to_string()).collect();
        let document = json!({"os": "linux", "architecture": "amd64", "history": history,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        Config::read(document.to_string().as_bytes(), "config").unwrap()
    }

    #[test]
    fn entries_without_a_layer_stay_with_their_image() {
        let old = config(&["a"], json!([{"created_by": "a"}, {"created_by": "env", "empty_layer": true}]));
        let own = [json!({"created_by": "label", "empty_layer": true}), json!({"created_by": "b"})];
        let image = config(&["a", "b"], [old.document()["history"].as_array().unwrap(), &own[..]].concat().into());
        let new = config(&["x", "y"], json!([{"created_by": "x"}, {"created_by": "y"}]));
        let words = |history: Vec<Value>| -> String {
            history.iter().map(|entry| entry["created_by"].as_str().unwrap_or("?").to_owned() + " ").collect()
        };
        assert_eq!(words(spliced(&image, &old, &new).unwrap()), "x y label b ");
        // Where the old base has another history, the layers decide.
        let other = config(&["a"], json!([{"created_by": "squashed"}]));
        assert_eq!(words(spliced(&image, &other, &new).unwrap()), "x y env label b ");
        let none = config(&["x", "y"], json!([]));
        assert_eq!(words(spliced(&image, &old, &none).unwrap()), "? ? label b ");
        assert_eq!(spliced(&config(&["a"], json!(null)), &config(&["a"], json!(null)), &none), None);
    }
}
