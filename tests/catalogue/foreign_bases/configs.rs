//! Configs of a base: what has to be in them, what is warned of, and what is kept.

use super::{builds_on, each_is_refused, warnings};
use crate::catalogue::contract::{Bench, is_whole};
use crate::catalogue::forge::{self, Forged};
use crate::support::{is_left_out, run};
use serde_json::{Value, json};

/// M64: Windows layers have another form.
#[test]
fn b25_windows_bases_are_refused() {
    each_is_refused(&[(
        "B25",
        &|base| base.edit_config(|it| it["os"] = json!("windows")),
        &["base image: is for Windows"],
    )]);
}

/// M64: a builder of a Dockerfile runs these.
#[test]
fn b24_triggers_are_warned_of() {
    let (_, config, warned) =
        builds_on("B24", &|base| base.edit_config(|it| it["config"]["OnBuild"] = json!(["RUN x"])), &[]);
    assert_eq!(config["config"]["OnBuild"], json!(["RUN x"]));
    assert!(warned.contains("base image: it has ONBUILD triggers"), "{warned}");
}

#[test]
fn b24_what_we_do_not_know_is_kept() {
    let unknown = |base: &Forged| {
        base.edit_config(|it| {
            it["config"]["Healthcheck"] = json!({"Test": ["CMD", "true"]});
            it["config"]["OnBuild"] = json!(["RUN x"]);
            it["vendor.example"] = json!({"b": 1, "a": [1.5, null]});
        });
        base.edit_manifest(|it| {
            it["artifactType"] = json!("application/example");
            it["subject"] = json!({"mediaType": "x", "digest": forge::digest(b"x"), "size": 1});
            it["layers"][0]["annotations"] = json!({"kept": "yes"});
        });
    };
    let (manifest, config, _) = builds_on("B24", &unknown, &[]);
    assert_eq!(config["config"]["Healthcheck"]["Test"][0], "CMD");
    assert_eq!(config["config"]["OnBuild"], json!(["RUN x"]));
    assert_eq!(config["vendor.example"], json!({"b": 1, "a": [1.5, null]}));
    assert_eq!(manifest["layers"][0]["annotations"]["kept"], "yes");
    // A copy keeps every byte.
    let bench = Bench::empty();
    let base = Forged::new(bench.scratch.join("base"));
    unknown(&base);
    run(bench.command(&["export", "base:base", "oci:out:base"]).arg("--quiet"))
        .success()
        .printed(&format!("{}\n", base.manifest_digest()));
    is_whole("B24", &bench.out);
}

#[test]
fn b28_an_odd_history_is_warned_of() {
    if is_left_out() {
        return;
    }
    for (history, warning) in [
        (json!([{"created_by": "no time"}]), None),
        (json!([]), None),
        (json!([{}, {}]), Some("its history has 2 layers, the image has 1")),
        (json!([{"created": "yesterday"}]), Some("its history has the time \"yesterday\"")),
        (json!([{"created": 7}]), Some("its history has the time 7")),
        (json!([{"created": "0000-01-01T00:00:00Z"}]), Some("its history has the time \"0000-01-01T00:00:00Z\"")),
        (json!([{"created": "10000-01-01T00:00:00Z"}]), Some("its history has the time \"10000-01-01T00:00:00Z\"")),
        (json!([7]), Some("its history has an entry that is not an object")),
    ] {
        let (_, config, stderr) = builds_on("B28", &|base| base.edit_config(|it| it["history"] = history.clone()), &[]);
        let expected: Vec<String> = warning.iter().map(|warning| format!("base image: {warning}")).collect();
        assert_eq!(warnings(&stderr), expected, "B28 {history}");
        assert!(!config["history"].as_array().unwrap().is_empty());
    }
    each_is_refused(&[(
        "B28",
        &|base| base.edit_config(|it| it["history"] = json!("x")),
        &["`history`: expected an array"],
    )]);
}

#[test]
fn b29_a_config_must_say_where_it_runs_and_on_which_layers() {
    let remove =
        |key: &'static str| move |base: &Forged| base.edit_config(|it| drop(it.as_object_mut().unwrap().remove(key)));
    each_is_refused(&[
        ("B29", &remove("architecture"), &["has no `architecture`"]),
        ("B29", &remove("os"), &["has no `os`"]),
        ("B29", &remove("rootfs"), &["a config without `rootfs`"]),
        ("B29", &|base| base.edit_config(|it| it["os"] = json!("")), &["has no `os`"]),
        ("B29", &|base| base.edit_config(|it| it["architecture"] = json!(7)), &["`architecture`: expected a string"]),
        (
            "B29",
            &|base| base.edit_config(|it| it["rootfs"]["type"] = json!("other")),
            &["`rootfs.type` is not `layers`"],
        ),
        ("B29", &|base| base.set_config(b"[]"), &["expected a JSON object"]),
    ]);
}

#[test]
fn b32_members_of_a_config_have_their_types() {
    if is_left_out() {
        return;
    }
    let config =
        |key: &'static str, value: Value| move |base: &Forged| base.edit_config(|it| it["config"][key] = value.clone());
    for (key, value) in [
        ("Entrypoint", json!("sh -c")),
        ("Entrypoint", json!([1])),
        ("Cmd", json!("sh")),
        ("Cmd", json!({})),
        ("Env", json!("A=1")),
        ("Env", json!([null])),
        ("Env", json!({"A": "1"})),
        ("User", json!(0)),
        ("WorkingDir", json!(["/"])),
        ("StopSignal", json!(9)),
        ("Labels", json!(["a=b"])),
        ("Labels", json!({"a": 1})),
        ("ExposedPorts", json!(["80/tcp"])),
        ("Volumes", json!("/data")),
    ] {
        let named = format!("`{key}`");
        each_is_refused(&[("B32", &config(key, value), &[&named, "expected"])]);
    }
    for (key, value, warning) in [
        ("Env", json!(["PATH=/bin", "ALONE"]), "its variable \"ALONE\" has no value"),
        ("Env", json!(["A=1", "B=2", "A=3"]), "its variable \"A\" is set twice"),
        ("Env", json!(["A=1\n2"]), "its variable \"A\" contains a control character"),
        ("Env", json!(["A=\u{0}"]), "its variable \"A\" contains a control character"),
        ("User", json!("root:root:x"), "its user \"root:root:x\" is not of the form USER[:GROUP]"),
    ] {
        let (_, _, stderr) = builds_on("B32", &config(key, value), &[]);
        assert_eq!(warnings(&stderr), [format!("base image: {warning}")], "B32");
    }
    for (key, value) in [("Entrypoint", json!(null)), ("Labels", json!(null)), ("User", json!("")), ("Env", json!([]))]
    {
        let (_, _, stderr) = builds_on("B32", &config(key, value), &[]);
        assert_eq!(stderr, "", "B32");
    }
}
