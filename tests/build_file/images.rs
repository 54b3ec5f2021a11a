//! Build files with several images.

use super::{bench, program};
use crate::consumers::Layout;
use serde_json::Value;
use std::fs;

const TWO: &str = r#"
output = "oci:out"
user = 1
env = ["A=1"]
copy = "app:/app"

[[image]]
name = "one"
tag = "team/one:v1"

[[image]]
name = "two"
tag = ["team/two:v1", "team/two:latest"]
user = 2
[image.env]
A = 2
[[image.copy]]
source = "app/main"
destination = "/main"
"#;

#[test]
fn a_build_makes_all_images_of_a_file() {
    let scratch = bench();
    scratch.write("ocibuild.toml", TWO);
    let built = program(&scratch, &["build"]).success();
    let digests: Vec<&str> = built.text().lines().collect();
    let image = |name| Layout::new(scratch.join("out"), name);
    let (one, two) = (image("docker.io/team/one:v1"), image("docker.io/team/two:v1"));
    assert_eq!(digests, [one.manifest_digest(), two.manifest_digest()]);
    assert_eq!((&one.config()["config"]["User"], &two.config()["config"]["User"]), (&"1".into(), &"2".into()));
    assert_eq!(one.layers()[0], two.layers()[0]);
    assert_eq!(two.layers().len(), 2);
    let only = program(&scratch, &["build", "-q", "--image", "two", "-o", "oci:other"]).success();
    assert_eq!(only.text(), digests[1]);
    assert_eq!(Layout::new(scratch.join("other"), "latest").index()["manifests"].as_array().unwrap().len(), 2);
    let layout = program(&scratch, &["layout", "third", "-q"]).success();
    assert_eq!(layout.text(), built.text());
    for (words, reason) in [
        (&["--image", "tow"][..], "--image tow: is not in ocibuild.toml (did you mean two?)"),
        (&["--image", "two", "--image", "two"], "--image two: given twice"),
        (&["-t", "a"], "`one` and `two` have both the name a in oci:out"),
        (&["--creds-stdin"], "--creds-stdin: standard input can be read once, and there are several images"),
    ] {
        let refused = program(&scratch, &[&["build", "-q"], words].concat()).ended_with(2);
        refused.failed_saying(reason);
    }
    fs::remove_file(scratch.join("ocibuild.toml")).unwrap();
    program(&scratch, &["build", "--image", "one"]).ended_with(2).failed_saying("--image: there is no build file");
}

#[test]
fn a_layer_that_images_share_is_made_once() {
    let scratch = bench();
    scratch.write("app/large", vec![7; 8 << 20]);
    let images = (0..6).map(|number| {
        let shared = format!("tag = \"a:{number}\"\nuser = {number}\n");
        let own = format!("[[image.file]]\npath = \"/own\"\ntext = \"{number}\"\n");
        format!("[[image]]\nname = \"i{number}\"\n{shared}{own}")
    });
    scratch
        .write("ocibuild.toml", format!("output = \"oci:out\"\ncopy = \"app:/app\"\n{}", images.collect::<String>()));
    let build = |cache: &str, jobs: &str| {
        let mut build = crate::support::ocibuild();
        build
            .current_dir(scratch.path())
            .env_remove("OCIBUILD_NO_CACHE")
            .env("OCIBUILD_CACHE_DIR", scratch.join(cache));
        let built = crate::support::run(build.args(["build", "--format", "json", "--jobs", jobs])).success();
        built.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let one_by_one = build("cache", "1");
    let index = fs::read(scratch.join("out/index.json")).unwrap();
    for jobs in ["2", "6"] {
        fs::remove_dir_all(scratch.join("out")).unwrap();
        let documents = build(jobs, jobs);
        assert_eq!(fs::read(scratch.join("out/index.json")).unwrap(), index);
        let compressed = |layer: usize| {
            let of = |document: &Value| document["layers"][layer]["bytesCompressed"].as_u64().unwrap();
            documents.iter().filter(|document| of(document) > 0).count()
        };
        assert_eq!((compressed(0), compressed(1)), (1, 6), "{documents:#?}");
        for (number, (document, alone)) in documents.iter().zip(&one_by_one).enumerate() {
            assert_eq!(document["names"][0], format!("docker.io/library/a:{number}"));
            assert_eq!(
                (&document["digest"], &document["layers"][0]["digest"]),
                (&alone["digest"], &one_by_one[0]["layers"][0]["digest"])
            );
        }
    }
}

#[test]
fn where_one_image_fails_the_others_are_built() {
    let scratch = bench();
    scratch.write("secret/settings", "password = Tr0ub4dor-and-3\n");
    let image = |name: &str, more: &str| format!("[[image]]\nname = \"{name}\"\ntag = \"a:{name}\"\n{more}\n");
    let secret = "secrets = \"deny\"\ncopy = \"secret:/s\"\noutput = \"oci:out\"";
    let unreachable = "output = [\"oci:out\", \"dir:secret/settings/x\"]";
    let to_layout = "output = \"oci:out\"";
    let images = [("one", secret), ("two", to_layout), ("three", unreachable), ("four", to_layout)];
    let file: String = images.iter().map(|(name, more)| image(name, more)).collect();
    scratch.write("ocibuild.toml", format!("user = 1\n{file}"));
    for jobs in ["1", "3"] {
        let built = program(&scratch, &["build", "-q", "--jobs", jobs]).ended_with(1);
        let digests: Vec<&str> = std::str::from_utf8(&built.stdout).unwrap().lines().collect();
        let digest = |tag: &str| Layout::new(scratch.join("out"), tag).manifest_digest();
        assert_eq!(digests, [digest("two"), digest("four")], "{built}");
        let errors: Vec<&str> = built.stderr.lines().filter(|line| line.contains("error: ")).collect();
        assert!(errors.len() == 2 && errors.iter().any(|line| line.contains("error: image one: ")), "{built}");
        assert!(errors.iter().any(|line| line.contains("error: image three: ")), "{built}");
        fs::remove_dir_all(scratch.join("out")).unwrap();
    }
}

#[test]
fn images_of_one_name_can_be_the_platforms_of_an_index() {
    let scratch = bench();
    let images = ["amd64", "arm64"].map(|arch| format!("[[image]]\nname = \"{arch}\"\nplatform = \"linux/{arch}\"\n"));
    let top = "tag = \"a:v1\"\noutput = \"oci:out\"\ninto-index = true\ncopy = \"app:/app\"\n";
    scratch.write("ocibuild.toml", format!("{top}{}", images.concat()));
    program(&scratch, &["build", "-q"]).success();
    let words = ["layout", "once", "-q", "-t", "a:v1", "--platform", "linux/amd64,linux/arm64", "--copy", "app:/app"];
    let once = program(&scratch, &words).success();
    assert_eq!(Layout::new(scratch.join("out"), "v1").manifest_digest(), once.text());
}

#[test]
fn what_is_written_for_one_image_is_not_in_another() {
    let scratch = bench();
    let file = "copy = \".:/all\"\nexclude = [\"*.toml\"]\n[[image]]\nname = \"a\"\ntag = \"a\"\noutput = \"oci:out\"\n\
                digest-file = \"a.digest\"\n[[image]]\nname = \"b\"\noutput = \"rootfs:b.tar\"\ntag = \"b\"\n";
    scratch.write("ocibuild.toml", file);
    let built = program(&scratch, &["build", "-q"]).success();
    assert!(scratch.join("a.digest").is_file() && scratch.join("b.tar").is_file());
    assert_eq!(program(&scratch, &["build", "-q"]).success().text(), built.text());
    let digests: Vec<&str> = built.text().lines().collect();
    assert_eq!(digests[0], digests[1]);
}

/// A file with two images, and where they go.
fn two_outputs(one: &str, two: &str) -> String {
    let image = |name: &str, output: &str| format!("[[image]]\nname = \"{name}\"\noutput = \"{output}\"\n");
    format!("user = 1\n{}{}", image("a", one), image("b", two))
}

#[test]
fn nothing_is_written_unless_all_images_can_be() {
    let scratch = bench();
    for (change, reason) in [
        ("copy = \"absent:/x\"", "absent: not found"),
        ("output = \"oci:out\"\ntag = \"team/one:v1\"", "`one` and `three` have both the name docker.io/team/one:v1"),
        ("base = \"oci:absent\"", "absent: not found"),
        ("chown = \"root\"", "ocibuild.toml:23:1: chown: owner `root`"),
        ("load = \"podman\"", "--load: the image has no name"),
        ("digest-file = \"absent/digest\"", "absent"),
    ] {
        scratch.write("ocibuild.toml", format!("{TWO}\n[[image]]\nname = \"three\"\n{change}\n"));
        let refused = program(&scratch, &["build"]);
        assert!(refused.status != 0 && refused.stderr.contains(reason), "{change}: {refused}");
        assert!(!scratch.join("out").exists(), "{change}");
    }
    for (file, reason) in [
        ("[[image]]\nuser = 1\n", "ocibuild.toml:1:1: the image has no name"),
        ("[[image]]\nname = \"a b\"\n", "ocibuild.toml:1:1: `a b` is no name of an image of this file"),
        ("[[image]]\nname = \"a\"\n[[image]]\nname = \"a\"\n", "ocibuild.toml:3:1: two images are called `a`"),
        ("[[image]]\nname = \"a\"\nimport = []\n", "ocibuild.toml:3:1: `import` is for the top of the file"),
        ("image = 1\n", "ocibuild.toml:1:9: images are written as `[[image]]`"),
        (
            "output = \"dir:x\"\nuser = 1\n[[image]]\nname = \"a\"\n[[image]]\nname = \"b\"\ntag = \"b\"\n",
            "dir:x holds one image",
        ),
        (
            "output = \"oci:x\"\ndigest-file = \"d\"\nuser = 1\n[[image]]\nname = \"a\"\n[[image]]\nname = \"b\"\ntag = \"b\"\n",
            "digest-file is the same file for `a` and `b`",
        ),
        (&two_outputs("dir:x", "dir:./x"), "dir:x holds one image, and `a` and `b` go there"),
        (&two_outputs("oci:x:v1", "oci:./x:v1"), "`a` and `b` have both the name v1 in oci:x"),
        (&two_outputs("oci:x", "oci:app/../x"), "`a` and `b` have both the name latest in oci:x"),
        (&two_outputs("docker-archive:x:a:1", "docker-archive:x:b:1"), "docker-archive:x holds one image"),
        (&two_outputs("oci:x", "rootfs:-"), "standard output can have only one tar, and there are several images"),
        (&two_outputs("rootfs:x", "oci:y\"\niidfile = \"./x"), "--iidfile of `b` is written for `a`, too"),
        (
            "output = \"oci:x\"\ncopy = \"-:/\"\n[[image]]\nname = \"a\"\n[[image]]\nname = \"b\"\ntag = \"b\"\n",
            "standard input can be read once",
        ),
    ] {
        scratch.write("ocibuild.toml", file);
        let refused = program(&scratch, &["build"]);
        assert!(refused.status != 0 && refused.stderr.contains(reason), "{file}: {refused}");
    }
    // One name in two namespaces of containerd is two images.
    let in_namespaces = |one: &str, two: &str| {
        let image =
            |name: &str, namespace: &str| format!("[[image]]\nname = \"{name}\"\nnamespace = \"{namespace}\"\n");
        let shared = "tag = \"app:1\"\nload = \"containerd\"\nuser = 1\n";
        scratch.write("ocibuild.toml", [shared, &image("a", one), &image("b", two)].concat());
        program(&scratch, &["build", "--dry-run", "-q"])
    };
    in_namespaces("one", "two").success();
    in_namespaces("one", "one").ended_with(2).failed_saying("`a` and `b` have both the name docker.io/library/app:1");
}

#[test]
fn the_file_of_several_images_is_written_with_what_they_share_in_each() {
    let scratch = bench();
    scratch.write("ocibuild.toml", TWO);
    let digests = program(&scratch, &["build", "-q"]).success().text().to_owned();
    let written = program(&scratch, &["build", "-q", "--dry-run", "--format", "toml"]).success().text().to_owned();
    scratch.write("ocibuild.toml", format!("{written}\n"));
    assert_eq!(program(&scratch, &["build", "-q"]).success().text(), digests, "{written}");
    let again = program(&scratch, &["build", "-q", "--dry-run", "--format", "toml"]).success();
    assert_eq!(again.text(), written);
}
