//! One image in a directory: skopeo's transport `dir:`.

use super::Yard;
use crate::consumers::Skopeo;
use serde_json::json;
use std::fs;
use std::path::Path;

const VERSION: &str = "Directory Transport Version: 1.1\n";

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns the path of the image's layer in a `dir:` directory.
fn layer(yard: &Yard, directory: &str) -> std::path::PathBuf {
    let manifest = super::read(&yard.scratch.join(directory).join("manifest.json"));
    yard.scratch.join(directory).join(&manifest["layers"][0]["digest"].as_str().unwrap()[7..])
}

/// M65: an image is copied to a directory and back with its digest, and every command reads it there.
#[test]
fn an_image_goes_into_a_directory_and_back() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/a:v1 --copy a:/a");
    assert_eq!(yard.text("export out dir:d"), digest);
    assert_eq!(fs::read_to_string(yard.scratch.join("d/version")).unwrap(), VERSION);
    assert_eq!(names(&yard.scratch.join("d")).len(), 4, "version, manifest, config and layer");
    for image in ["dir:d", "d", "./d"] {
        assert_eq!(yard.json(&format!("inspect {image}"))["manifest"]["digest"], digest, "{image}");
    }
    assert_eq!(yard.text("export ./d oci:back"), digest);
    assert_eq!(yard.json("inspect back")["manifest"]["digest"], digest);
    assert_eq!(yard.json("layout based --base dir:d --copy b:/b")["baseLayers"], 1);
    yard.refuses("layout based --base d --copy b:/b", &["./d or docker://d"]);
    yard.refuses("inspect ./d:v1", &["./d is a `dir:` directory, which holds one image without a name"]);
    yard.refuses("verify ./d", &["ocibuild export dir:./d oci:DIR"]);
    yard.refuses("layout dir:new --copy a:/a", &["then ocibuild export ./out dir:new"]);
}

/// M65: skopeo reads the program's directories and the program skopeo's, with the same manifest digest.
#[test]
fn skopeo_and_ocibuild_read_each_others_directories() {
    let Some(skopeo) = Skopeo::find() else { return };
    let yard = Yard::new();
    let digest = yard.text("layout out -t v1 --copy a:/a --copy b:/b");
    let at = |transport: &str, name: &str| format!("{transport}:{}", yard.scratch.join(name).display());
    yard.text("export out dir:ours");
    skopeo.copy(&[], &at("dir", "ours"), &at("oci", "by-skopeo:v1")).success();
    assert_eq!(yard.json("inspect by-skopeo")["manifest"]["digest"], digest);
    skopeo.copy(&[], &at("oci", "out:v1"), &at("dir", "theirs")).success();
    assert_eq!(yard.text("export dir:theirs oci:back"), digest);
    assert_eq!(names(&yard.scratch.join("ours")), names(&yard.scratch.join("theirs")));
    // Each replaces the other's image.
    let other = yard.text("layout other -t v1 --copy b:/b");
    assert_eq!(yard.text("export other theirs"), other);
    skopeo.copy(&[], &at("oci", "other:v1"), &at("dir", "ours")).success();
    assert_eq!(names(&yard.scratch.join("ours")), names(&yard.scratch.join("theirs")));
    assert_eq!(yard.json("inspect ours")["manifest"]["digest"], other);
}

/// M65: an index in a directory has an image for each platform; `skopeo copy --all` writes one.
#[test]
fn a_directory_may_hold_several_platforms() {
    let yard = Yard::new();
    let mut listed = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let name = &platform[6..];
        let digest = yard.text(&format!("layout {name} --platform {platform} --copy a:/a"));
        yard.text(&format!("export {name} dir:{name}.dir"));
        let from = yard.scratch.join(format!("{name}.dir"));
        fs::create_dir_all(yard.scratch.join("all")).unwrap();
        for file in names(&from) {
            let to = if file == "manifest.json" { format!("{}.manifest.json", &digest[7..]) } else { file.clone() };
            fs::copy(from.join(&file), yard.scratch.join("all").join(to)).unwrap();
        }
        let mut entry = yard.json(&format!("inspect {name}"))["manifest"].clone();
        entry["platform"] = json!({"os": "linux", "architecture": name});
        listed.push(entry);
    }
    let index = json!({"schemaVersion": 2, "manifests": listed});
    yard.scratch.write("all/manifest.json", index.to_string());
    assert_eq!(
        yard.json("inspect dir:all --platform linux/arm64")["manifest"]["digest"],
        index["manifests"][1]["digest"]
    );
    assert_eq!(yard.text("export dir:all oci:one"), index["manifests"][0]["digest"].as_str().unwrap());
    yard.run("inspect dir:all --platform linux/s390x").ended_with(1).failed_saying("no image for linux/s390x");
    // Another image replaces all of its files.
    yard.text("export amd64 dir:all");
    assert_eq!(names(&yard.scratch.join("all")), names(&yard.scratch.join("amd64.dir")));
}

/// M65: only images are replaced, and files of no image stay.
#[test]
fn only_images_are_replaced() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t v1 --copy a:/a");
    let refused = |to: &str| yard.run(&format!("export out dir:{to}")).ended_with(1);
    refused("a").failed_saying("a: neither a `dir:` image nor empty (choose another directory)");
    refused("out").failed_saying("neither a `dir:` image nor empty");
    yard.scratch.write("versioned/version", "1.2.3");
    refused("versioned").failed_saying("neither a `dir:` image nor empty");
    assert_eq!(names(&yard.scratch.join("versioned")), ["version"]);
    yard.run("inspect dir:versioned").ended_with(1).failed_saying("unsupported version of `dir:`");
    yard.run("inspect dir:a").ended_with(1).failed_saying("not a `dir:` image: `manifest.json` is missing");
    yard.text("layout other -t v1 --copy b:/b");
    yard.text("export other dir:d");
    yard.scratch.write("d/notes", "mine");
    yard.scratch.write("d/signature-1", "of the other image");
    let said = yard.run("export dir:d oci:copy").success().stderr;
    assert!(said.contains("its `signature-N` files are not copied"), "{said}");
    assert_eq!(yard.text("export out dir:d"), digest);
    let left = names(&yard.scratch.join("d"));
    assert_eq!(left.len(), 5, "{left:?}");
    assert!(left.contains(&"notes".to_owned()) && !left.contains(&"signature-1".to_owned()));
}

/// M65: an interrupted run leaves the previous image, and the next run removes its remaining files.
#[test]
fn a_run_that_ends_early_leaves_the_image_before() {
    let yard = Yard::new();
    let before = yard.text("layout before --copy a:/a");
    let after = yard.text("layout after --copy b:/b --copy a:/c");
    yard.text("export before dir:d");
    let manifest = super::read(&yard.scratch.join("after/blobs/sha256").join(&after[7..]));
    let blob = |at: usize| {
        let digest = manifest["layers"][at]["digest"].as_str().unwrap();
        yard.scratch.join("after/blobs/sha256").join(&digest[7..])
    };
    // The last layer in the order of copying cannot be read, so the other is copied already.
    let last = if blob(0) > blob(1) { blob(0) } else { blob(1) };
    let content = fs::read(&last).unwrap();
    fs::remove_file(&last).unwrap();
    fs::write(&last, "damaged").unwrap();
    yard.run("export after dir:d").ended_with(1).failed_saying("expected");
    assert_eq!(yard.text("export dir:d oci:copy"), before);
    fs::write(&last, content).unwrap();
    // A killed process also leaves a temporary file, and in a new directory no manifest.
    let temporary = format!(".ocibuild-{}", "0".repeat(32));
    yard.scratch.write(format!("d/{temporary}"), "half a layer");
    yard.scratch.write("new/version", VERSION);
    yard.scratch.write(format!("new/{}", "1".repeat(64)), "a blob of another image");
    yard.run("inspect dir:new").ended_with(1).failed_saying("`manifest.json` is missing");
    for directory in ["d", "new"] {
        assert_eq!(yard.text(&format!("export after dir:{directory}")), after);
        assert_eq!(names(&yard.scratch.join(directory)).len(), 5, "version, manifest, config and two layers");
    }
}

/// M65: the content of a directory is verified against its digest.
#[test]
fn blobs_of_a_directory_are_verified() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a");
    yard.text("export out dir:d");
    let layer = layer(&yard, "d");
    let whole = fs::read(&layer).unwrap();
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    fs::write(&layer, damaged).unwrap();
    yard.run("export dir:d oci:copy").ended_with(1).failed_saying("its content has the digest");
    // A damaged blob is replaced.
    yard.text("export out dir:d");
    assert_eq!(fs::read(&layer).unwrap(), whole);
    fs::remove_file(&layer).unwrap();
    yard.run("export dir:d oci:copy").ended_with(1).failed_saying("missing");
    fs::create_dir(&layer).unwrap();
    yard.run("export dir:d oci:copy").ended_with(1).failed_saying("not a regular file");
    yard.scratch.write("d/manifest.json", "[]");
    yard.run("inspect dir:d").ended_with(1).failed_saying("manifest.json: expected a JSON object");
}
