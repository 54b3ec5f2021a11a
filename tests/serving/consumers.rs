//! Real clients: what they pull is the image, and only what they lack is transferred.

use super::{Served, Yard};
use crate::consumers::{Containerd, Docker, Layout, Podman, Skopeo, crane};
use crate::support::random::Random;
use crate::support::{command, is_left_out, run};
use serde_json::Value;

/// A layout with an image of three large layers and a small one.
fn large_image() -> Yard {
    let yard = Yard::new();
    for (number, name) in ["one", "two", "three"].iter().enumerate() {
        yard.scratch.write(format!("{name}/data"), Random::new(number as u64).bytes(4 << 20));
    }
    yard.scratch.write("code/main", "first");
    build(&yard);
    yard
}

const IMAGE: &str = "team/robot:v1";

fn build(yard: &Yard) -> Layout {
    let copies =
        "--copy one:/one --layer two --copy two:/two --layer three --copy three:/three --layer code --copy code:/code";
    yard.text(&format!("layout out {copies} -t {IMAGE}"));
    Layout::new(yard.scratch.join("out"), "v1")
}

/// Builds the image again with one edited file, and returns the size of the layer with that file and of the documents.
fn edit(yard: &Yard) -> (Layout, u64) {
    let before = Layout::new(yard.scratch.join("out"), "v1").layers();
    yard.scratch.write("code/main", "second");
    let image = build(yard);
    let changed: Vec<Value> = image.layers().into_iter().filter(|layer| !before.contains(layer)).collect();
    assert_eq!(changed.len(), 1);
    (image, changed[0]["size"].as_u64().unwrap())
}

/// Pulls, edits and pulls again. Only the changed layer and the documents are transferred, as the server counts.
#[track_caller]
fn only_changes_are_pulled(client: &str, pull: impl Fn(&Served)) {
    let yard = large_image();
    let served = yard.serve("out");
    pull(&served);
    let first = served.pull(0);
    assert!(first["bytes"].as_u64().unwrap() > 12 << 20, "{client}: {first}");
    let (image, layer) = edit(&yard);
    pull(&served);
    let second = served.pull(1);
    let size = |digest: String| std::fs::metadata(image.blob(&digest)).unwrap().len();
    let documents = size(image.manifest_digest()) + size(image.config_digest());
    let bytes = second["bytes"].as_u64().unwrap();
    // A client may ask for a document more than once.
    assert!(bytes >= layer && bytes <= layer + 4 * documents, "{client}: {second}");
    assert_eq!(second["broken"], 0, "{client}: {second}");
}

#[test]
fn skopeo_pulls_only_what_it_lacks() {
    let Some(skopeo) = Skopeo::find() else { return };
    let copy = Yard::new();
    only_changes_are_pulled("skopeo", |served| {
        let target = format!("oci:{}:v1", copy.scratch.join("copy").display());
        let source = format!("docker://{}/{IMAGE}", served.address);
        skopeo.copy(&["--src-tls-verify=false"], &source, &target).success();
    });
    copy.run("verify copy").success();
}

#[test]
fn podman_pulls_only_what_it_lacks() {
    let Some(podman) = Podman::find() else { return };
    only_changes_are_pulled("podman", |served| {
        podman.pull(&format!("{}/{IMAGE}", served.address)).success();
    });
}

#[test]
fn containerd_pulls_only_what_it_lacks() {
    let Some(containerd) = Containerd::find() else { return };
    only_changes_are_pulled("containerd", |served| {
        let image = format!("{}/{IMAGE}", served.address);
        run(containerd.environment().args(["image", "pull", "--plain-http", &image])).success();
    });
}

#[test]
fn docker_pulls_only_what_it_lacks() {
    for docker in Docker::all() {
        only_changes_are_pulled("docker", |served| {
            run(docker.command().args(["pull", "--quiet", &format!("{}/{IMAGE}", served.address)])).success();
        });
    }
}

#[test]
fn ocibuild_pulls_only_what_it_lacks() {
    if is_left_out() {
        return;
    }
    let copy = Yard::new();
    only_changes_are_pulled("ocibuild", |served| {
        copy.run(&format!("export docker://{}/{IMAGE} oci:copy:v1", served.address)).success();
    });
    copy.run("verify copy").success();
}

/// A served image is a base, for builds with and without its layers.
#[test]
fn builds_use_served_images() {
    if is_left_out() {
        return;
    }
    let yard = large_image();
    let served = yard.serve("out");
    let base = format!("{}/{IMAGE}", served.address);
    yard.run(&format!("pull {base}")).success();
    yard.run(&format!("layout sparse --base {base} --sparse --copy b:/b -t team/sparse:v1")).success();
    yard.run(&format!("export sparse:team/sparse:v1 docker-archive:{}", yard.scratch.join("sparse.tar").display()))
        .success();
    yard.run(&format!("ls docker://{base} /code")).success();
    assert_eq!(yard.text(&format!("cat docker://{base} /code/main")), "first");
}

/// A file of a served image costs the members that it is in, once the layer was listed.
#[test]
fn cat_fetches_only_the_part_of_a_layer_with_the_file() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let content = Random::new(9).bytes(12 << 20);
    yard.scratch.write("data/large", &content);
    yard.scratch.write("data/z/note", "text");
    yard.text(&format!("layout out --copy data:/data -t {IMAGE}"));
    let served = yard.serve("out");
    let image = format!("docker://{}/{IMAGE}", served.address);
    let bytes = |number: usize| served.pull(number)["bytes"].as_u64().unwrap();
    yard.text(&format!("ls {image} /data"));
    assert!(bytes(0) > 12 << 20, "the first listing reads the layer");
    assert_eq!(yard.text(&format!("cat {image} /data/z/note")), "text");
    assert!(bytes(1) < 2 << 20, "{}", bytes(1));
    assert!(yard.run(&format!("cat {image} /data/large")).success().stdout == content);
    // Without a listing the whole layer is read, and verified.
    std::fs::remove_dir_all(yard.scratch.join("cache/listings")).unwrap();
    assert_eq!(yard.text(&format!("cat {image} /data/z/note")), "text");
}

#[test]
fn skopeo_lists_tags_and_inspects() {
    let Some(_) = Skopeo::find() else { return };
    let yard = large_image();
    let served = yard.serve("out");
    let repository = format!("docker://{}/team/robot", served.address);
    let listed = run(command("skopeo").args(["list-tags", "--tls-verify=false", &repository])).success();
    assert!(listed.text().contains("\"v1\""), "{listed}");
    let image = format!("{repository}:v1");
    let inspected = run(command("skopeo").args(["inspect", "--tls-verify=false", &image])).success();
    let digest = Layout::new(yard.scratch.join("out"), "v1").manifest_digest();
    assert!(inspected.text().contains(&digest), "{inspected}");
}

#[test]
fn crane_validates_and_pulls() {
    if is_left_out() {
        return;
    }
    let Some(crane) = crane() else { return };
    let yard = large_image();
    let served = yard.serve("out");
    let image = format!("{}/{IMAGE}", served.address);
    let crane = |arguments: &[&str]| run(command(&crane).args(arguments).current_dir(yard.scratch.path())).success();
    crane(&["validate", "--remote", &image]);
    crane(&["pull", "--format=oci", &image, "copy"]);
    let digest = Layout::new(yard.scratch.join("out"), "v1").manifest_digest();
    assert_eq!(crane(&["digest", &image]).text(), digest);
    assert_eq!(crane(&["ls", image.strip_suffix(":v1").unwrap()]).text(), "v1");
    assert_eq!(crane(&["catalog", &served.address]).text(), "team/robot");
    yard.run("verify copy").success();
}

/// The server is a mirror of the registry that the names are from.
#[test]
fn a_mirror_of_other_registries_is_served() {
    let Some(podman) = Podman::find() else { return };
    let yard = large_image();
    let served = yard.serve("out");
    let conf = yard.scratch.write(
        "registries.conf",
        format!(
            "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
            served.address
        ),
    );
    let mut pull = podman.command();
    pull.args(["pull", "--quiet", &format!("docker.io/{IMAGE}")]).env("CONTAINERS_REGISTRIES_CONF", conf);
    run(&mut pull).success();
    assert_eq!(served.pull(0)["repository"], "team/robot");
}
