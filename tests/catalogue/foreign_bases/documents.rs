//! Indexes and manifests of a base: their types, and the limits that they are read within.

use super::{builds_on, each_is_refused};
use crate::catalogue::forge::{CONFIG, Forged, GZIP, INDEX, MANIFEST};
use crate::support::is_left_out;
use serde_json::{Value, json};

#[test]
fn b10_b12_documents_that_are_both_manifest_and_index_are_refused() {
    each_is_refused(&[
        ("B10", &|base| base.edit_manifest(|it| it["mediaType"] = json!(INDEX)), &["has the media type"]),
        (
            "B10",
            &|base| base.edit_index(|it| it["manifests"][0]["mediaType"] = json!(INDEX)),
            &["has the media type", "its descriptor has"],
        ),
        ("B10", &|base| base.edit_index(|it| it["mediaType"] = json!(MANIFEST)), &["index.json", "has the media type"]),
        ("B12", &|base| base.edit_manifest(|it| it["manifests"] = json!([])), &["ambiguous"]),
        ("B12", &|base| base.edit_index(|it| it["layers"] = json!([])), &["index.json", "ambiguous"]),
        ("B12", &|base| base.edit_index(|it| it["config"] = json!({})), &["index.json", "ambiguous"]),
    ]);
}

#[test]
fn b13_a_document_without_media_type_is_what_its_referrer_says() {
    let forget = |base: &Forged| {
        base.edit_manifest(|it| drop(it.as_object_mut().unwrap().remove("mediaType")));
        base.edit_index(|it| drop(it.as_object_mut().unwrap().remove("mediaType")));
    };
    let (manifest, _, _) = builds_on("B13", &forget, &[]);
    assert_eq!(manifest["mediaType"], MANIFEST);
}

/// Makes a JSON object longer by an annotation, until it is `size` bytes.
fn padded(mut document: Value, size: usize) -> Vec<u8> {
    document["annotations"] = json!({"padding": ""});
    let missing = size - document.to_string().len();
    document["annotations"]["padding"] = "x".repeat(missing).into();
    document.to_string().into_bytes()
}

#[test]
fn b14_b15_documents_are_read_up_to_a_limit() {
    if is_left_out() {
        return;
    }
    const LIMIT: usize = 8 << 20;
    builds_on("B14", &|base| base.set_manifest(&padded(base.manifest(), LIMIT)), &[]);
    each_is_refused(&[
        ("B14", &|base| base.set_manifest(&padded(base.manifest(), LIMIT + 1)), &["blob sha256:", "larger than 8 MiB"]),
        ("B14", &|base| base.write("index.json", padded(base.index(), LIMIT + 1)), &["index.json: larger than 8 MiB"]),
        ("B15", &|base| base.set_config(&padded(base.config(), LIMIT + 1)), &["blob sha256:", "larger than 8 MiB"]),
        // At the limit it is read, but with our own layer's history it would pass it.
        ("B15", &|base| base.set_config(&padded(base.config(), LIMIT)), &["config", "larger than 8 MiB"]),
    ]);
}

#[test]
fn b16_nesting_is_refused_before_the_stack_overflows() {
    let nested_to = |document: Value, depth: usize| {
        // The document itself is the first level.
        let deep = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let text = document.to_string();
        format!("{},\"deep\":{deep}}}", &text[..text.len() - 1]).into_bytes()
    };
    builds_on("B16", &|base| base.set_config(&nested_to(base.config(), 64)), &[]);
    each_is_refused(&[("B16", &|base| base.set_config(&nested_to(base.config(), 65)), &["nesting too deep"])]);
    let nested = |document: Value| nested_to(document, 1_000_000);
    each_is_refused(&[
        ("B16", &|base| base.set_manifest(&nested(base.manifest())), &["nesting too deep"]),
        ("B16", &|base| base.set_config(&nested(base.config())), &["nesting too deep"]),
        ("B16", &|base| base.write("index.json", nested(base.index())), &["index.json", "nesting too deep"]),
    ]);
}

#[test]
fn b17_b18_lists_and_nested_indexes_are_bounded() {
    if is_left_out() {
        return;
    }
    let repeat = |value: &mut Value, count: usize| *value = vec![value[0].clone(); count].into();
    each_is_refused(&[
        ("B17", &|base| base.edit_index(|it| repeat(&mut it["manifests"], 10_001)), &["10001 manifests, more than"]),
        ("B17", &|base| base.edit_manifest(|it| repeat(&mut it["layers"], 501)), &["501 layers, more than 500"]),
        ("B18", &|base| base.nest_in_indexes(5), &["nesting of indexes deeper than 4"]),
    ]);
    builds_on("B18", &|base| base.nest_in_indexes(4), &[]);
}

#[test]
fn b19_documents_that_two_parsers_read_differently_are_refused() {
    if is_left_out() {
        return;
    }
    type Spoil = fn(&str) -> Vec<u8>;
    let spoilt: [(Spoil, &str); 5] = [
        (
            |text| text.replacen('{', r#"{"schemaVersion":2,"schemaVersion":2,"os":"linux","os":"linux","#, 1).into(),
            "duplicate key",
        ),
        (|text| format!("\u{feff}{text}").into(), "byte order mark"),
        (|text| text.replacen('{', r#"{"not":NaN,"#, 1).into(), "not JSON"),
        (|text| format!("{text}{{}}").into(), "trailing characters"),
        (|text| [&text.as_bytes()[..1], b"\"\xff\":1,", &text.as_bytes()[1..]].concat(), "not JSON"),
    ];
    for (spoil, reason) in spoilt {
        // The key that is doubled is in the document already, or comes twice by itself.
        each_is_refused(&[
            ("B19", &|base| base.set_manifest(&spoil(&base.manifest().to_string())), &[reason]),
            ("B19", &|base| base.set_config(&spoil(&base.config().to_string())), &[reason]),
            ("B19", &|base| base.write("index.json", spoil(&base.index().to_string())), &["index.json: ", reason]),
            (
                "B19",
                &|base| base.write("oci-layout", spoil(r#"{"imageLayoutVersion":"1.0.0"}"#)),
                &["oci-layout", reason],
            ),
        ]);
    }
    let deep = r#"{"a":{"b":[{"c":1,"c":1}]},"#;
    each_is_refused(&[(
        "B19",
        &|base| base.set_config(base.config().to_string().replacen('{', deep, 1).as_bytes()),
        &["duplicate key \"c\""],
    )]);
}

#[test]
fn b20_docker_schema_1_is_refused_with_a_hint() {
    let signed = json!({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": [], "signatures": []});
    let mut unsigned = signed.clone();
    unsigned.as_object_mut().unwrap().remove("signatures");
    each_is_refused(&[
        ("B20", &|base| base.set_manifest(signed.to_string().as_bytes()), &["schema 1 is not supported", "("]),
        ("B20", &|base| base.set_manifest(unsigned.to_string().as_bytes()), &["schema 1 is not supported", "("]),
    ]);
}

#[test]
fn b21_docker_media_types_become_ocis_everywhere() {
    let docker = |base: &Forged| {
        base.edit_manifest(|it| {
            it["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
            it["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
            it["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
        });
        base.edit_index(|it| it["manifests"][0]["mediaType"] = base.manifest()["mediaType"].clone());
        base.nest_in_indexes(1);
        let list = "application/vnd.docker.distribution.manifest.list.v2+json";
        let nested = base.manifest().to_string().replacen(INDEX, list, 1);
        base.set_manifest(nested.as_bytes());
        base.edit_index(|it| it["manifests"][0]["mediaType"] = json!(list));
    };
    let (manifest, _, _) = builds_on("B21", &docker, &[]);
    assert_eq!(manifest["mediaType"], MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], CONFIG);
    assert_eq!(manifest["layers"][0]["mediaType"], GZIP);
}

#[test]
fn b25_artifacts_are_no_bases() {
    each_is_refused(&[
        (
            "B25",
            &|base| base.edit_manifest(|it| it["config"] = base.descriptor("application/vnd.oci.empty.v1+json", b"{}")),
            &["not a runnable image"],
        ),
        (
            "B25",
            &|base| base.edit_index(|it| it["manifests"][0]["mediaType"] = json!("application/vnd.example")),
            &["`application/vnd.example` is neither an image nor an index"],
        ),
    ]);
}
