//! The config of an image on another base: each value that the image did not set comes from the new base.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Members that are not taken from the base.
const OWN: [&str; 7] = ["architecture", "config", "created", "history", "os", "rootfs", "variant"];

/// Members of `config` that are lists of names; each name is taken by itself.
const MAPS: [&str; 3] = ["ExposedPorts", "Labels", "Volumes"];

/// Returns the config `image` of an image on the base `old`, for the base `new`. Also returns the members that the new base has
/// changed, but the image has set.
pub(super) fn merged(image: &Value, old: &Value, new: &Value) -> (Value, Vec<String>) {
    let mut kept = Vec::new();
    let mut after = object(image).clone();
    merge_members(&mut after, [object(image), object(old), object(new)], &OWN, &mut kept);
    let [own, of_old, of_new] = [image, old, new].map(|document| object(&document["config"]));
    let mut config = own.clone();
    let separate = [&MAPS[..], &["Cmd", "Entrypoint", "Env"]].concat();
    merge_members(&mut config, [own, of_old, of_new], &separate, &mut kept);
    for key in MAPS {
        let members = [own, of_old, of_new].map(|config| config.get(key).map_or(&*EMPTY, object));
        let mut map = members[0].clone();
        merge_members(&mut map, members, &[], &mut kept);
        put(&mut config, key, (!map.is_empty()).then(|| map.into()), own);
    }
    // The arguments belong to the entrypoint: an image that set one has both.
    let is_own = |key: &str| present(own.get(key)) != present(of_old.get(key));
    if !is_own("Entrypoint") {
        put(&mut config, "Entrypoint", present(of_new.get("Entrypoint")).cloned(), own);
        if !is_own("Cmd") {
            put(&mut config, "Cmd", present(of_new.get("Cmd")).cloned(), own);
        }
    }
    let environment = merged_environment([own, of_old, of_new].map(variables), &mut kept);
    put(&mut config, "Env", (!environment.is_empty()).then(|| environment.into()), own);
    let config = (!config.is_empty()).then(|| config.into());
    put(&mut after, "config", config, object(image));
    (after.into(), kept)
}

static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or(&EMPTY)
}

/// Null and empty values are what other programs write for none.
fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    })
}

/// Sets a member, unless it has this value already in the words of another program.
fn put(members: &mut Map<String, Value>, key: &str, value: Option<Value>, before: &Map<String, Value>) {
    if present(before.get(key)) == value.as_ref() {
        return;
    }
    match value {
        Some(value) => drop(members.insert(key.to_owned(), value)),
        None => drop(members.remove(key)),
    }
}

/// Takes every member of the new base, but for `except`, that the image has as its old base had it.
fn merge_members(
    after: &mut Map<String, Value>,
    [own, old, new]: [&Map<String, Value>; 3],
    except: &[&str],
    kept: &mut Vec<String>,
) {
    let keys: BTreeSet<&String> = own.keys().chain(old.keys()).chain(new.keys()).collect();
    for key in keys.into_iter().filter(|key| !except.contains(&key.as_str())) {
        // A label without a text is a label.
        let [of_own, of_old, of_new] = [own, old, new].map(|members| members.get(key).filter(|value| !value.is_null()));
        if of_own == of_old {
            match of_new {
                Some(value) => drop(after.insert(key.clone(), value.clone())),
                None if of_own.is_some() => drop(after.remove(key)),
                None => {}
            }
        } else if of_new != of_old && of_new != of_own {
            kept.push(format!("`{key}` of the config"));
        }
    }
}

/// The variables of an environment, each with its name.
type Variables<'v> = Vec<(&'v str, &'v Value)>;

fn variables(config: &Map<String, Value>) -> Variables<'_> {
    let list = config.get("Env").and_then(Value::as_array).into_iter().flatten();
    let named = |text: &'_ Value| Some(text.as_str()?.split('=').next().unwrap_or_default().len());
    list.filter_map(|text| Some((&text.as_str()?[..named(text)?], text))).collect()
}

/// Returns the variables in the order of the new base, then those of the image.
fn merged_environment([own, old, new]: [Variables<'_>; 3], kept: &mut Vec<String>) -> Vec<Value> {
    let map = |variables: &Variables<'_>| -> BTreeMap<String, Value> {
        variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).clone())).collect()
    };
    let (of_own, of_old, of_new) = (map(&own), map(&old), map(&new));
    let mut after = Vec::new();
    for (name, text) in &new {
        match of_own.get(*name) {
            value if value == of_old.get(*name) => after.push((*text).clone()),
            value => {
                if of_old.get(*name) != Some(*text) && value != Some(*text) {
                    kept.push(format!("variable {name}"));
                }
                after.extend(value.cloned());
            }
        }
    }
    let is_own = |(name, _): &&(&str, &Value)| !of_new.contains_key(*name) && of_own.get(*name) != of_old.get(*name);
    after.extend(own.iter().filter(is_own).map(|(_, text)| (*text).clone()));
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rebased(image: Value, old: Value, new: Value) -> Value {
        merged(&json!({"config": image}), &json!({"config": old}), &json!({"config": new})).0["config"].take()
    }

    #[test]
    fn what_the_image_did_not_set_comes_from_the_new_base() {
        let old = json!({"Env": ["PATH=/bin", "V=1", "GONE=1"], "Cmd": ["sh"], "Labels": {"base": "1", "both": "1"}, "User": "a"});
        let image = json!({"Env": ["PATH=/app:/bin", "V=1", "GONE=1", "OWN=1"], "Cmd": ["sh"], "User": "b",
            "Labels": {"base": "1", "both": "2", "own": "1"}});
        let new = json!({"Env": ["NEW=1", "PATH=/usr/bin", "V=2"], "Cmd": ["bash"], "User": "c", "WorkingDir": "/w",
            "Labels": {"base": "2", "both": "3"}});
        let (config, kept) =
            merged(&json!({"config": image}), &json!({"config": old}), &json!({"config": new, "author": "x"}));
        assert_eq!(
            config,
            json!({"author": "x", "config": {
                "Env": ["NEW=1", "PATH=/app:/bin", "V=2", "OWN=1"], "Cmd": ["bash"], "User": "b", "WorkingDir": "/w",
                "Labels": {"base": "2", "both": "2", "own": "1"},
            }})
        );
        assert_eq!(kept, ["`User` of the config", "`both` of the config", "variable PATH"]);
    }

    #[test]
    fn an_entrypoint_keeps_its_arguments() {
        let (old, new) = (json!({"Cmd": ["sh"]}), json!({"Cmd": ["bash"], "Entrypoint": ["init"]}));
        assert_eq!(rebased(json!({"Entrypoint": ["app"]}), old.clone(), new.clone()), json!({"Entrypoint": ["app"]}));
        assert_eq!(
            rebased(json!({"Cmd": ["app"]}), old.clone(), new.clone()),
            json!({"Entrypoint": ["init"], "Cmd": ["app"]})
        );
        assert_eq!(rebased(json!({"Cmd": ["sh"]}), old, new.clone()), new);
    }

    #[test]
    fn what_the_image_removed_stays_removed() {
        let base = json!({"Env": ["A=1", "B=1"], "Labels": {"l": "1"}, "Volumes": {"/v": {}}});
        assert_eq!(rebased(json!({"Env": ["B=1"]}), base.clone(), base.clone()), json!({"Env": ["B=1"]}));
        assert_eq!(rebased(base.clone(), base.clone(), json!({})), Value::Null);
        assert_eq!(
            rebased(json!({"Env": null, "Cmd": []}), json!({}), json!({"Env": []})),
            json!({"Env": null, "Cmd": []})
        );
    }
}
