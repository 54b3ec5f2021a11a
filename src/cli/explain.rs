//! Why a layer was, or was not, taken from the cache, down to the entries that differ.

use ocibuild::build::{BuiltLayer, DifferenceGroup, Differences, LayerOrigin};
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::counted;
use ocibuild::layers::Work;
use serde_json::{Map, Value, json};

/// Returns the explanation for people, on one line.
pub(super) fn line(built: &BuiltLayer) -> String {
    let from = match (&built.from, built.origin) {
        (Some(from), LayerOrigin::SameRecipe | LayerOrigin::SameFiles | LayerOrigin::SameContent) => {
            format!("; pulled from {from} (--cache-from)")
        }
        _ => String::new(),
    };
    what_happened(built) + &from
}

fn what_happened(built: &BuiltLayer) -> String {
    match (built.origin, &built.differences) {
        (LayerOrigin::Made, None) => "built: no cached layer and no previous build".to_owned(),
        (LayerOrigin::Made, Some(differences)) => {
            let Work { reused, compressed, bytes_compressed: _ } = built.work;
            let mut parts: Vec<String> = groups(differences).map(|(name, group)| described(name, group)).collect();
            parts.push(format!("{reused} of {} reused", counted(reused + compressed, "block")));
            let entries = counted(differences.entries, "entry");
            format!("rebuilt, {entries}: {}", parts.join("; "))
        }
        (LayerOrigin::Shared, _) => {
            let left = built.remote_in.as_ref().map(|name| format!("; not downloaded, in {name}")).unwrap_or_default();
            let from = built.from.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            format!("cache hit in --cache-from{from}{left}")
        }
        (LayerOrigin::SameRecipe, _) => "cache hit: same inputs, no file read".to_owned(),
        (LayerOrigin::SameFiles, _) => "cache hit: no file changed".to_owned(),
        (LayerOrigin::SameContent, _) => "cache hit: files were touched, same content".to_owned(),
    }
}

/// The explanation for programs: members of the layer's description.
pub(super) fn add_to(described: &mut Value, built: &BuiltLayer) {
    let Work { reused, compressed, bytes_compressed } = built.work;
    described["origin"] = origin_name(built.origin).into();
    if let Some(name) = &built.remote_in {
        described["leftIn"] = name.to_string().into();
    }
    if let Some(name) = &built.from {
        described["from"] = name.to_string().into();
    }
    described["blocks"] = json!({"reused": reused, "compressed": compressed});
    described["bytesCompressed"] = bytes_compressed.into();
    if let Some(differences) = &built.differences {
        let groups = groups(differences).map(|(name, DifferenceGroup { count, under, first })| {
            (name.to_owned(), json!({"count": count, "under": path_text(under), "first": path_text(first)}))
        });
        described["differences"] = Value::Object(groups.collect::<Map<_, _>>());
    }
}

fn origin_name(origin: LayerOrigin) -> &'static str {
    match origin {
        LayerOrigin::Made => "made",
        LayerOrigin::Shared => "shared",
        LayerOrigin::SameRecipe => "same-recipe",
        LayerOrigin::SameFiles => "same-files",
        LayerOrigin::SameContent => "same-content",
    }
}

/// Returns the differences that there are, by name.
fn groups(differences: &Differences) -> impl Iterator<Item = (&'static str, &DifferenceGroup)> {
    let Differences { entries: _, changed, added, removed, attributes } = differences;
    let all = [("changed", changed), ("added", added), ("removed", removed), ("attributes", attributes)];
    all.into_iter().filter_map(|(name, group)| Some((name, group.as_ref()?)))
}

fn described(name: &str, group: &DifferenceGroup) -> String {
    let DifferenceGroup { count, under, first } = group;
    let name = if name == "attributes" { "with changed attributes" } else { name };
    let first = path_text(first);
    if *count == 1 {
        return format!("1 {name}, {first}");
    }
    let under = if under.is_empty() { String::new() } else { format!(" under {}", path_text(under)) };
    format!("{count} {name}{under}, first {first}")
}

/// Returns a path in the image, on one line whatever it contains.
fn path_text(path: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_described_by_its_directory_and_first_entry() {
        let mut group = DifferenceGroup {
            count: 1,
            under: b"site-packages/pandas".to_vec(),
            first: b"site-packages/pandas/x.py".to_vec(),
        };
        assert_eq!(described("changed", &group), "1 changed, site-packages/pandas/x.py");
        group.count = 3;
        let expected = "3 changed under site-packages/pandas, first site-packages/pandas/x.py";
        assert_eq!(described("changed", &group), expected);
        group.under.clear();
        assert_eq!(described("changed", &group), "3 changed, first site-packages/pandas/x.py");
    }
}
