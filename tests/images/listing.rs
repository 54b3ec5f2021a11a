//! `ls`, `tag` and `rm`: the images of a layout.

use super::{Yard, read};
use crate::consumers::{Skopeo, Umoci};
use crate::support::run;
use serde_json::json;

#[test]
fn ls_lists_every_image_with_what_it_shares() {
    let yard = Yard::new();
    yard.scratch.write("c/file", "c");
    let a = yard.text("layout out -t team/a:v1 --copy a:/a --copy b:/b");
    let c = yard.text("layout out -t c --copy c:/c --copy b:/b --platform linux/arm64");
    let images = yard.json("ls out");
    let names: Vec<_> = images.as_array().unwrap().iter().map(|image| (&image["name"], &image["digest"])).collect();
    assert_eq!(names, [(&json!("docker.io/team/a:v1"), &json!(a)), (&json!("c"), &json!(c))]);
    assert_eq!(images[0]["platforms"], json!(["linux/amd64"]));
    assert_eq!(images[1]["platforms"], json!(["linux/arm64"]));
    let shown = yard.json("inspect out:c");
    let sizes: u64 = shown["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    let documents = shown["manifest"]["size"].as_u64().unwrap() + read_config_size(&yard, &shown);
    assert_eq!(images[1]["size"], sizes + documents);
    assert_eq!(images[1]["shared"], shown["layers"][1]["size"], "the layer of `b`");
    let table = yard.text("ls out");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME ") && lines[0].ends_with("SHARED"), "{table}");
    assert!(lines[1].contains(&a[..19]) && !table.contains(&a) && lines[2].contains("linux/arm64"), "{table}");
    assert!(yard.text("ls out --no-trunc").contains(&a));
    yard.run("ls ./none").ended_with(1).failed_saying("./none: not found");
}

fn read_config_size(yard: &Yard, shown: &serde_json::Value) -> u64 {
    let digest: ocibuild::Digest = shown["configDigest"].as_str().unwrap().parse().unwrap();
    std::fs::metadata(yard.scratch.join("out/blobs/sha256").join(digest.hex())).unwrap().len()
}

#[test]
fn ls_lists_what_it_cannot_read() {
    let yard = Yard::new();
    let damaged: ocibuild::Digest = yard.text("layout out -t a --copy a:/a").parse().unwrap();
    yard.text("layout out -t b --copy b:/b");
    std::fs::write(yard.scratch.join("out/blobs/sha256").join(damaged.hex()), "damaged").unwrap();
    let listed = yard.run("ls out").ended_with(1).failed_saying("expected ");
    assert!(listed.text().contains("unreadable") && listed.text().contains("linux/amd64"), "{listed}");
    let images: serde_json::Value =
        serde_json::from_str(yard.run("ls out --format json").ended_with(1).text()).unwrap();
    assert!(images[0]["error"].is_string() && images[1]["error"].is_null(), "{images}");
}

/// A sparse copy of an index lacks platforms.
#[test]
fn ls_lists_an_index_without_all_of_its_platforms() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let image = yard.json("inspect out")["manifest"].clone();
    let missing = ocibuild::Digest::of(b"a platform that was not copied");
    let index_type = "application/vnd.oci.image.index.v1+json";
    let inner = json!({
        "schemaVersion": 2, "mediaType": index_type,
        "manifests": [image, {"mediaType": image["mediaType"], "digest": missing.to_string(), "size": 3}],
    });
    let index = yard.blob("out", index_type, inner.to_string().as_bytes());
    yard.edit_index("out", |manifests| *manifests = vec![index]);
    let listed = yard.json("ls out");
    assert_eq!((&listed[0]["platforms"], &listed[0]["mediaType"]), (&json!(["linux/amd64"]), &json!(index_type)));
}

#[test]
fn tag_adds_names_and_reports_who_lost_them() {
    let yard = Yard::new();
    let a = yard.text("layout out -t team/a:v1 --copy a:/a");
    let b = yard.text("layout out -t b --copy b:/b");
    yard.text(&format!("tag out@{a} stable team/a:v2"));
    for name in ["team/a:v1", "team/a:v2", "stable"] {
        assert_eq!(yard.json(&format!("inspect out:{name}"))["manifest"]["digest"], *a);
    }
    let replaced = yard.json("tag out:b stable");
    assert_eq!(
        replaced,
        json!({"names": ["stable"], "replaced": [{"name": "stable", "digest": a, "unneededBytes": 0}]})
    );
    assert_eq!(yard.json("inspect out:stable")["manifest"]["digest"], *b);
    assert!(yard.run("tag out:team/a:v1 b").success().stderr.contains(&format!("replaced {b}, the former b")));
    yard.run("tag out:none x").ended_with(1).failed_saying("no image `none`");
    yard.refuses("tag out:stable Not/A:Name:x", &["Not/A"]);
    yard.run("verify out").success();
    for tool in
        [Skopeo::find().map(|_| "skopeo inspect oci:out:v2"), Umoci::find().map(|_| "umoci stat --image out:v2")]
    {
        let Some(line) = tool else { continue };
        let mut words = line.split(' ');
        let mut command = crate::support::command(words.next().unwrap());
        run(command.args(words).current_dir(yard.scratch.path())).success();
    }
}

#[test]
fn rm_removes_a_name_or_an_image() {
    let yard = Yard::new();
    let a = yard.text("layout out -t team/a:v1 -t team/a:v2 -t stable --copy a:/a");
    yard.text("layout out -t team/b:v1 --copy b:/b");
    yard.refuses("rm out:v1", &["`v1` is ambiguous", "docker.io/team/a:v1, docker.io/team/b:v1"]);
    yard.refuses("rm out", &["is a layout, and rm removes images from one"]);
    yard.run("rm out:stable out:none").ended_with(1).failed_saying("no image `none`");
    assert_eq!(yard.json("ls out").as_array().unwrap().len(), 4, "nothing is removed");
    assert_eq!(yard.text("rm out:team/a:v1"), format!("removed docker.io/team/a:v1 {a}"));
    let index = read(&yard.scratch.join("out/index.json"));
    let tags: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["annotations"]["org.opencontainers.image.ref.name"])
        .collect();
    assert_eq!(tags, ["v2", "stable", "v1"], "the tag of the other image is its own again");
    assert_eq!(yard.json(&format!("untag out@{a}")).as_array().unwrap().len(), 2);
    assert_eq!(yard.json("ls out").as_array().unwrap().len(), 1);
    yard.run("verify out").success();
}
