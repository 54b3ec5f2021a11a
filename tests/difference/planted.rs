//! Two images that differ in one planted way: `diff` names that way, and nothing else.

use super::image::{Entry, Image, Layer, Stored, directory, file, image, layer, link};
use super::{Yard, lines};
use crate::support::is_left_out;
use ocibuild::codec::tar::EntryType;
use serde_json::{Value, json};

type Change = fn(&mut Image);

/// A name, the change, and the differences that it must cause.
type Way = (&'static str, Change, &'static [&'static str]);

fn settings(image: &mut Image) -> &mut Value {
    &mut image.config["config"]
}

/// The layer with the application.
fn app(image: &mut Image) -> &mut Layer {
    &mut image.layers[1]
}

/// The entry for `path` of the application.
fn entry<'a>(image: &'a mut Image, path: &str) -> &'a mut Entry {
    app(image).entries.iter_mut().find(|entry| entry.path == path).unwrap()
}

const WAYS: &[Way] = &[
    ("label added", |image| settings(image)["Labels"]["more"] = json!("x"), &["config + label more"]),
    ("label changed", |image| settings(image)["Labels"]["label"] = json!("two"), &["config ~ label label"]),
    ("variable", |image| settings(image)["Env"][1] = json!("LANG=D"), &["config ~ env LANG"]),
    ("order of variables", |image| settings(image)["Env"] = json!(["LANG=C", "PATH=/bin"]), &["config ~ order of env"]),
    ("entrypoint", |image| settings(image)["Entrypoint"] = json!(["/app/link"]), &["config ~ entrypoint"]),
    ("cmd", |image| settings(image)["Cmd"] = json!([]), &["config ~ cmd"]),
    ("user", |image| settings(image)["User"] = json!("1001"), &["config ~ user"]),
    ("workdir", |image| settings(image)["WorkingDir"] = json!("/"), &["config ~ workdir"]),
    (
        "port",
        |image| settings(image)["ExposedPorts"] = json!({"81/tcp": {}}),
        &["config - port 80/tcp", "config + port 81/tcp"],
    ),
    ("volume", |image| settings(image)["Volumes"]["/more"] = json!({}), &["config + volume /more"]),
    ("stop signal", |image| settings(image)["StopSignal"] = json!("SIGINT"), &["config ~ stop signal"]),
    ("healthcheck", |image| settings(image)["Healthcheck"]["Retries"] = json!(3), &["config ~ healthcheck"]),
    ("created", |image| image.config["created"] = json!("2025-01-01T00:00:00Z"), &["config ~ created"]),
    ("author", |image| image.config["author"] = json!("two"), &["config ~ author"]),
    ("variant", |image| image.config["variant"] = json!("v8"), &["config + variant"]),
    ("unknown member", |image| image.config["com.example"] = json!([1]), &["config + com.example"]),
    ("unknown setting", |image| settings(image)["Domain"] = json!("x"), &["config + config.Domain"]),
    ("history", |image| image.config["history"][1]["comment"] = json!("x"), &["config ~ history 2"]),
    (
        "empty layer in the history",
        |image| image.config["history"].as_array_mut().unwrap().push(json!({"empty_layer": true})),
        &["config + history 3"],
    ),
    ("white space in the config", |image| image.space[0] = "\n", &["config ~ formatting"]),
    (
        "annotation of the manifest",
        |image| image.manifest["annotations"]["org.example.one"] = json!("2"),
        &["manifest ~ annotation org.example.one"],
    ),
    (
        "base that is recorded",
        |image| image.manifest["annotations"]["org.opencontainers.image.base.name"] = json!("debian"),
        &["manifest + base name"],
    ),
    (
        "annotation of the index entry",
        |image| image.entry["annotations"]["org.example.entry"] = json!("2"),
        &["entry ~ annotation org.example.entry"],
    ),
    ("platform of the index entry", |image| image.entry["platform"]["variant"] = json!("v8"), &["entry ~ platform"]),
    ("unknown member of the manifest", |image| image.manifest["x"] = json!(1), &["manifest + x"]),
    ("white space in the manifest", |image| image.space[1] = " ", &["manifest ~ formatting"]),
    (
        "type of the config",
        |image| image.config_type = "application/vnd.docker.container.image.v1+json",
        &["manifest ~ media type of the config"],
    ),
    (
        "type of the manifest",
        |image| image.manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json"),
        &["manifest ~ media type"],
    ),
    (
        "type of a layer",
        |image| app(image).media_type = Some("application/vnd.docker.image.rootfs.diff.tar.gzip"),
        &["layer 2 ~ media-type"],
    ),
    (
        "annotation of a layer",
        |image| app(image).described = json!({"annotations": {"a": "b"}}),
        &["layer 2 ~ descriptor"],
    ),
    ("file added", |image| app(image).entries.push(file("app/new", "x")), &["/app/new +"]),
    ("file removed", |image| drop(app(image).entries.remove(2)), &["/app/data/file -"]),
    (
        "file renamed",
        |image| entry(image, "app/data/file").path = "app/data/named",
        &["/app/data/file -", "/app/data/named +"],
    ),
    ("content", |image| entry(image, "app/main").content = "print 'HELLO'", &["/app/main ~ content"]),
    ("length of the content", |image| entry(image, "app/main").content = "", &["/app/main ~ content"]),
    ("mode", |image| entry(image, "app/main").mode = 0o755, &["/app/main ~ mode"]),
    ("setuid", |image| entry(image, "app/main").mode = 0o4644, &["/app/main ~ mode"]),
    ("owner", |image| entry(image, "app/main").owner = 7, &["/app/main ~ owner"]),
    ("time of a file", |image| entry(image, "app/main").mtime = 1001, &["/app/main ~ time"]),
    ("time of a directory", |image| entry(image, "app/data").mtime = 7, &["/app/data ~ time"]),
    ("fraction of a second", |image| entry(image, "app/main").record = "mtime=1000.5", &["/app/main ~ time"]),
    ("target of a link", |image| entry(image, "app/link").link = "data", &["/app/link ~ target"]),
    (
        "copy instead of a hard link",
        |image| *entry(image, "app/same") = file("app/same", "print 'hello'"),
        &["/app/same ~ kind"],
    ),
    ("hard link to another file", |image| entry(image, "app/same").link = "app/data/file", &["/app/same ~ target"]),
    (
        "extended attribute",
        |image| entry(image, "app/main").xattrs = vec![(b"user.x".to_vec(), b"1".to_vec())],
        &["/app/main ~ xattrs"],
    ),
    ("empty directory", |image| app(image).entries.push(directory("app/empty")), &["/app/empty +"]),
    (
        "directory instead of a link",
        |image| *entry(image, "app/link") = Entry { mode: 0o644, ..directory("app/link") },
        &["/app/link ~ kind"],
    ),
    (
        "numbers of a device",
        |image| entry(image, "app/null").bytes = &[(329, b"0000001\0"), (337, b"0000005\0")],
        &["/app/null ~ device"],
    ),
    ("directory without an entry", |image| drop(app(image).entries.remove(1)), &["/app/data ~ entry"]),
    ("order of entries", |image| app(image).entries.swap(3, 4), &["layer 2 ~ order"]),
    (
        "entry twice",
        |image| app(image).entries.insert(3, file("app/main", "an earlier one")),
        &["layer 2 ~ duplicates"],
    ),
    ("PAX header", |image| entry(image, "app/main").record = "comment=x", &["layer 2 ~ tar-format"]),
    ("GNU header", |image| entry(image, "app/main").bytes = &[(257, b"ustar  \0")], &["layer 2 ~ tar-format"]),
    ("name of an owner", |image| entry(image, "app/main").bytes = &[(265, b"root")], &["layer 2 ~ owner-names"]),
    ("form of a number", |image| entry(image, "app/main").bytes = &[(100, b" 000644\0")], &["layer 2 ~ headers"]),
    ("form of a path", |image| entry(image, "app/main").path = "./app/main", &["layer 2 ~ headers"]),
    ("zeros at the end", |image| app(image).zeros = 10240, &["layer 2 ~ padding"]),
    ("no compression", |image| app(image).stored = Stored::Plain, &["layer 2 ~ compression"]),
    ("zstd", |image| app(image).stored = Stored::Zstd, &["layer 2 ~ compression"]),
    ("level of gzip", |image| app(image).stored = Stored::Gzip(1), &["layer 2 ~ compressor"]),
    ("members of gzip", |image| app(image).stored = Stored::Members(2048), &["layer 2 ~ blocks"]),
    (
        "layer in two",
        |image| {
            let above = app(image).entries.split_off(2);
            image.layers.push(layer(&above));
        },
        &["layer 2 -", "layer 2 +", "layer 3 +"],
    ),
    ("other order of layers", |image| image.layers.reverse(), &["layer 1 -> 2 moved"]),
    ("layer without files", |image| image.layers.push(layer(&[])), &["layer 3 +"]),
    ("other base", |image| image.layers[0].entries[4].content = "3", &["/srv/two ~ content"]),
    ("whiteout", |image| app(image).entries.push(file("srv/.wh.one", "")), &["layer 2 ~ whiteouts", "/srv/one -"]),
    ("whiteout of nothing", |image| app(image).entries.push(file("srv/.wh.none", "")), &["layer 2 ~ whiteouts"]),
];

#[test]
fn each_planted_way_is_named_and_nothing_else() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    for (number, (way, change, expected)) in WAYS.iter().enumerate() {
        let [before, after] = ["a", "b"].map(|side| format!("{side}{number}"));
        let mut changed = image();
        change(&mut changed);
        image().write(&yard.scratch.join(&before));
        changed.write(&yard.scratch.join(&after));
        let found = lines(&yard.diff(&before, &after, 1));
        assert_eq!(found, *expected, "{way}");
        // The text has a line for each of them.
        let text = yard.run(&format!("diff {before} {after}")).ended_with(1);
        let printed = text.text().lines().filter(|line| line.starts_with("  ") && !line.starts_with("  =")).count();
        assert!(printed >= expected.len(), "{way}: {text}");
    }
    assert!(WAYS.len() >= 60, "{}", WAYS.len());
}

#[test]
fn an_opaque_directory_is_not_the_whiteouts_of_its_files() {
    let yard = Yard::new();
    let (mut opaque, mut removed) = (image(), image());
    app(&mut opaque).entries.push(file("srv/.wh..wh..opq", ""));
    app(&mut removed).entries.extend([file("srv/.wh.one", ""), file("srv/.wh.two", "")]);
    opaque.write(&yard.scratch.join("opaque"));
    removed.write(&yard.scratch.join("removed"));
    assert_eq!(lines(&yard.diff("opaque", "removed", 1)), ["layer 2 ~ whiteouts"]);
    image().write(&yard.scratch.join("plain"));
    assert_eq!(lines(&yard.diff("plain", "opaque", 1)), ["layer 2 ~ whiteouts", "/srv/one -", "/srv/two -"]);
}

#[test]
fn differences_of_an_ignored_kind_do_not_count() {
    let yard = Yard::new();
    image().write(&yard.scratch.join("a"));
    let cases: &[(&str, Change)] = &[
        ("times", |image| {
            image.config["created"] = json!("2025-01-01T00:00:00Z");
            image.config["history"][0]["created"] = json!("2025-01-01T00:00:00Z");
            entry(image, "app/main").mtime = 7;
        }),
        ("storage", |image| {
            app(image).entries.swap(3, 4);
            app(image).stored = Stored::Zstd;
            let above = app(image).entries.split_off(2);
            image.layers.push(layer(&above));
            image.config_type = "application/vnd.docker.container.image.v1+json";
        }),
        ("annotations", |image| {
            image.manifest["annotations"] = json!({"other": "x"});
            image.entry["annotations"]["org.example.entry"] = json!("2");
        }),
        ("history", |image| image.config["history"] = json!([{"created_by": "all"}])),
    ];
    for (kind, change) in cases {
        let mut changed = image();
        change(&mut changed);
        changed.write(&yard.scratch.join(kind));
        yard.run(&format!("diff a {kind}")).ended_with(1);
        yard.run(&format!("diff a {kind} --ignore {kind}")).success().printed("");
        yard.run(&format!("diff a {kind} --ignore {kind} --quiet")).success().printed("");
        let others: Vec<&str> = cases.iter().map(|(kind, _)| *kind).filter(|other| other != kind).collect();
        yard.run(&format!("diff a {kind} --ignore {}", others.join(","))).ended_with(1);
    }
    yard.run("diff a times --ignore times,storage,annotations,history").success().printed("");
    let mut other = image();
    entry(&mut other, "app/link").kind = EntryType::HardLink;
    *entry(&mut other, "app/link") = link(EntryType::Symlink, "app/link", "data");
    other.write(&yard.scratch.join("other"));
    yard.run("diff a other --ignore times,storage,annotations,history").ended_with(1);
}
