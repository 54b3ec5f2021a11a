//! Platforms that are added to an image which a name has already (`--into-index`).

use super::{Yard, read};
use crate::consumers::{Containerd, Docker, Podman, Registry, Skopeo, Umoci, crane};
use crate::registry::server::Server;
use crate::support::{command, is_left_out, run};
use serde_json::{Value, json};
use std::process::Stdio;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The config of an attestation, as BuildKit writes it.
const UNKNOWN: &str =
    r#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#;

/// In the order in which an index lists them.
const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/riscv64", "linux/s390x"];

/// A yard with a program for each platform.
fn yard_of_programs() -> Yard {
    let yard = Yard::new();
    for platform in PLATFORMS {
        yard.scratch.write(format!("bin/{platform}/program"), platform);
    }
    yard
}

/// The flags of an image for `platforms`.
fn content(platforms: &[&str]) -> String {
    format!("--platform {} --copy bin/{{os}}/{{arch}}:/usr/bin", platforms.join(","))
}

/// The platform and the digest of each entry of an index.
fn entries(index: &Value) -> Vec<(String, String)> {
    let platform = |entry: &Value| {
        let parts = ["os", "architecture", "variant"].map(|key| entry["platform"][key].as_str());
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    };
    let entry = |entry: &Value| (platform(entry), entry["digest"].as_str().unwrap().to_owned());
    index["manifests"].as_array().unwrap().iter().map(entry).collect()
}

/// The index that the layout has by the name.
fn index_of(yard: &Yard, layout: &str, name: &str) -> Value {
    let list = read(&yard.scratch.join(layout).join("index.json"));
    let is_it = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
    let entry = list["manifests"].as_array().unwrap().iter().find(is_it).unwrap();
    assert_eq!(entry["mediaType"], INDEX);
    assert_eq!(entry.get("platform"), None, "the entry of an index is for no platform");
    let digest = entry["digest"].as_str().unwrap();
    read(&yard.scratch.join(layout).join("blobs").join(digest.replacen(':', "/", 1)))
}

/// Built at once, one by one in any order, or on several machines: one digest.
#[test]
fn the_order_of_platforms_does_not_matter() {
    if is_left_out() {
        return;
    }
    let yard = yard_of_programs();
    let wanted = yard.text(&format!("layout once -t v1 {}", content(&PLATFORMS)));
    let backwards: Vec<&str> = PLATFORMS.iter().rev().copied().collect();
    assert_eq!(yard.text(&format!("layout once -t back {}", content(&backwards))), wanted);
    for (number, order) in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]].iter().enumerate() {
        let mut digest = String::new();
        for place in order {
            digest = yard.text(&format!("layout each{number} -t v1 --into-index {}", content(&[PLATFORMS[*place]])));
        }
        assert_eq!(digest, wanted, "{order:?}");
        assert_eq!(index_of(&yard, &format!("each{number}"), "v1"), index_of(&yard, "once", "v1"));
        yard.run(&format!("verify each{number}")).success();
    }
    // What was an image of its own becomes the first entry.
    yard.text(&format!("layout grown -t v1 {}", content(&[PLATFORMS[1]])));
    yard.text(&format!("layout grown -t v1 --into-index {}", content(&[PLATFORMS[3], PLATFORMS[0]])));
    assert_eq!(yard.text(&format!("layout grown -t v1 --into-index {}", content(&[PLATFORMS[2]]))), wanted);
    // Archives of three machines come together on a fourth one.
    for platform in &PLATFORMS[1..] {
        let name = platform.replace('/', "-");
        yard.text(&format!("build -t v1 {} -o oci-archive:{name}.tar", content(&[platform])));
    }
    yard.text(&format!("layout home -t v1 {}", content(&PLATFORMS[..1])));
    for platform in &PLATFORMS[1..] {
        let name = platform.replace('/', "-");
        yard.text(&format!("export oci-archive:{name}.tar oci:home:v1 --into-index"));
    }
    assert_eq!(yard.json("inspect home")["index"]["digest"].as_str().unwrap_or(wanted.trim()), wanted.trim());
    assert_eq!(index_of(&yard, "home", "v1"), index_of(&yard, "once", "v1"));
    for platform in PLATFORMS {
        assert_eq!(yard.text(&format!("cat home /usr/bin/program --platform {platform}")), platform);
    }
    // A manifest, which other programs write in place, is no second name of a file in another layout.
    yard.text("export home oci:linked:v1 --into-index");
    let manifest = &entries(&index_of(&yard, "linked", "v1"))[0].1;
    let file = yard.scratch.join("linked/blobs").join(manifest.replacen(':', "/", 1));
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&file.metadata().unwrap()), 1);
    // Whole indexes are added, too.
    yard.text(&format!("layout half -t v1 {}", content(&PLATFORMS[..2])));
    yard.text(&format!("layout rest -t v1 {}", content(&PLATFORMS[2..])));
    assert_eq!(yard.text("export half oci:rest:v1 --all-platforms --into-index"), wanted);
}

#[test]
fn a_platform_that_is_there_is_replaced() {
    let yard = yard_of_programs();
    let before = yard.text(&format!("layout out -t v1 {}", content(&PLATFORMS[..2])));
    let first = entries(&index_of(&yard, "out", "v1"));
    let line = format!("layout out -t v1 --into-index {} --label a=1", content(&["linux/arm64/v8"]));
    let document = yard.json(&line);
    let second = entries(&index_of(&yard, "out", "v1"));
    assert_eq!(second.len(), 2);
    assert_eq!(second[0], first[0], "the other platform stays");
    assert_eq!((second[1].0.as_str(), second[1].1 == first[1].1), ("linux/arm64/v8", false));
    let listed: Vec<_> =
        second.iter().map(|(platform, digest)| json!({"platform": platform, "digest": digest})).collect();
    assert_eq!(document["listed"], json!(listed));
    assert_eq!(document["platforms"].as_array().unwrap().len(), 1, "what was built");
    assert_eq!(document["platforms"][0]["digest"], second[1].1);
    assert_eq!(document["replaced"][0]["digest"], before.trim());
    assert!(document["replaced"][0]["unneededBytes"].as_u64().unwrap() > 0);
    // A second time nothing changes.
    let same = yard.json(&line);
    assert_eq!((&same["digest"], &same["replaced"]), (&document["digest"], &json!([])));
    let exported = yard.json("export out:v1 oci:copy:v1 --into-index --platform linux/amd64");
    assert_eq!(exported["listed"], json!([{"platform": "linux/amd64", "digest": second[0].1}]));
    yard.run("verify out").success();
}

/// Attestations of BuildKit and members that are not known stay; an attestation about an image that goes, goes with it.
#[test]
fn what_others_have_put_into_an_index_stays() {
    let yard = yard_of_programs();
    for platform in &PLATFORMS[..2] {
        yard.text(&format!("layout out -t {} {}", &platform[6..], content(&[platform])));
    }
    let list = read(&yard.scratch.join("out/index.json"));
    let statement = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": yard.blob("out", "application/vnd.oci.image.config.v1+json", UNKNOWN.as_bytes()), "layers": []});
    let mut listed = Vec::new();
    for entry in list["manifests"].as_array().unwrap() {
        let mut entry = entry.clone();
        entry.as_object_mut().unwrap().remove("annotations");
        let mut statement = statement.clone();
        statement["annotations"] = json!({"about": entry["digest"]});
        let mut about = yard.blob("out", statement["mediaType"].as_str().unwrap(), statement.to_string().as_bytes());
        about["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        about["annotations"] = json!({"vnd.docker.reference.digest": entry["digest"],
            "vnd.docker.reference.type": "attestation-manifest"});
        listed.extend([entry, about]);
    }
    listed[0]["platform"]["features"] = json!(["sse4"]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, "annotations": {"a": "b"}});
    let mut entry = yard.blob("out", INDEX, index.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    yard.edit_index("out", |manifests| *manifests = vec![entry]);
    yard.text(&format!("layout out -t v1 --into-index {}", content(&PLATFORMS[3..])));
    let grown = index_of(&yard, "out", "v1");
    let members = grown["manifests"].as_array().unwrap();
    assert_eq!(members.len(), 5);
    assert!(listed.iter().all(|entry| members.contains(entry)), "{grown:#}");
    assert_eq!(grown["annotations"], json!({"a": "b"}));
    // Now the image for arm64 goes, and what is about it.
    yard.text(&format!("layout out -t v1 --into-index {} --label a=1", content(&PLATFORMS[1..2])));
    let replaced = index_of(&yard, "out", "v1");
    let members = replaced["manifests"].as_array().unwrap();
    assert_eq!(members.len(), 4);
    assert!(members.contains(&listed[0]) && members.contains(&listed[1]), "{replaced:#}");
    assert!(!members.contains(&listed[2]) && !members.contains(&listed[3]), "{replaced:#}");
    yard.run("verify out").success();
}

/// Machines that add their platforms to one layout at the same time lose nothing.
#[test]
fn all_that_add_at_once_are_in_the_index() {
    if is_left_out() {
        return;
    }
    let yard = yard_of_programs();
    let wanted = yard.text(&format!("layout once -t v1 {}", content(&PLATFORMS)));
    for round in 0..3 {
        let start = |platform: &&str| {
            let line = format!("layout out{round} -t v1 --into-index {}", content(&[platform]));
            yard.command(&line).stdout(Stdio::null()).spawn().unwrap()
        };
        let builds: Vec<_> = PLATFORMS.iter().map(start).collect();
        for mut build in builds {
            assert!(build.wait().unwrap().success());
        }
        assert_eq!(index_of(&yard, &format!("out{round}"), "v1"), index_of(&yard, "once", "v1"));
        let document = yard.json(&format!("ls out{round}"));
        assert_eq!(document[0]["digest"], wanted.trim());
    }
}

/// In a registry the tag moves; what another machine pushes before or behind this one is kept.
#[test]
fn a_tag_grows_although_others_push() {
    let yard = yard_of_programs();
    let wanted = yard.text(&format!("layout once -t v1 {}", content(&PLATFORMS[..3])));
    // Another machine, whose image is in the registry as `theirs`, moves the tag at the request `at` of the client.
    for at in ["before", "behind"] {
        let (server, shelf) = Server::with_shelf(move |x, shelf| {
            let is_push = x.request.method == "PUT" && x.line().ends_with("/manifests/v1");
            let is_theirs = x.request.method == "GET" && x.line().ends_with("/manifests/v1");
            // The second look at the tag is the one before it is moved.
            let now = if at == "before" { is_theirs && x.nth == 2 } else { is_push && x.nth == 1 };
            let theirs = shelf.manifest("team/app", "theirs").filter(|_| now);
            if at == "behind" {
                shelf.serve(x);
            }
            if let Some(theirs) = theirs {
                shelf.clone().with_manifest("team/app", "v1", INDEX, &theirs);
            }
            if at == "before" {
                shelf.serve(x);
            }
        });
        let (host, v1) = (server.host(), format!("docker://{}/team/app:v1", server.host()));
        let theirs = format!("docker://{host}/team/app:theirs");
        yard.text(&format!("layout two{at} -t v1 {}", content(&[PLATFORMS[0], PLATFORMS[2]])));
        yard.text(&format!("export two{at} {theirs} --all-platforms --plain-http {host}"));
        yard.text(&format!(
            "build -t v1 {} -o docker://{host}/team/app:first --plain-http {host}",
            content(&PLATFORMS[..1])
        ));
        let first = shelf.manifest("team/app", "first").unwrap();
        shelf.clone().with_manifest("team/app", "v1", "application/vnd.oci.image.manifest.v1+json", &first);
        let digest =
            yard.text(&format!("build -t v1 {} -o {v1} --into-index --plain-http {host}", content(&PLATFORMS[1..2])));
        assert_eq!(digest, wanted, "{at}: {:?}", server.lines());
        assert_eq!(ocibuild::Digest::of(&shelf.manifest("team/app", "v1").unwrap()).to_string(), wanted.trim());
    }
}

#[test]
fn there_is_one_index_to_add_to() {
    let yard = yard_of_programs();
    yard.text("layout out -t v1 --copy a:/a");
    let into = "--into-index --copy a:/a";
    yard.refuses(
        &format!("layout out -t v1 -t v2 {into}"),
        &["--into-index", "one name, and there are 2", "ocibuild tag"],
    );
    yard.refuses(&format!("layout out -t v1 {into} --save oci:left"), &["--into-index", "several places"]);
    yard.refuses(&format!("layout out -t v1 {into} --iidfile id"), &["--iidfile"]);
    yard.refuses(
        &format!("build -t team/app:v1 {into} --load podman"),
        &["containers-storage:", "layouts and registries"],
    );
    yard.refuses(&format!("build -t v1 {into} -o oci:left -o oci:right"), &["--into-index", "several places"]);
    let names = "docker://127.0.0.1:1/a:v1 docker://127.0.0.1:1/a:v2";
    yard.refuses(&format!("export out {names} --into-index"), &["one name, and there are 2"]);
    yard.refuses("export out - --into-index", &["not to standard output"]);
    yard.refuses("export out oci-archive:a.tar --into-index", &["not to oci-archive:a.tar"]);
    yard.refuses("export out rootfs:a.tar --into-index", &["not to rootfs:a.tar"]);
    let digest = yard.json("inspect out")["manifest"]["digest"].as_str().unwrap().to_owned();
    yard.refuses(&format!("export out docker://127.0.0.1:1/a@{digest} --into-index"), &["a digest cannot be chosen"]);
    assert!(
        !yard.names().iter().any(|name| ["a.tar", "left", "right", "id"].contains(&name.as_str())),
        "nothing was made"
    );
    // An index inside of an index: it is unclear where a platform belongs.
    let inner = yard.blob("out", INDEX, json!({"schemaVersion": 2, "manifests": []}).to_string().as_bytes());
    let mut outer = yard.blob("out", INDEX, json!({"schemaVersion": 2, "manifests": [inner]}).to_string().as_bytes());
    outer["annotations"] = json!({"org.opencontainers.image.ref.name": "nested"});
    yard.edit_index("out", |manifests| manifests.push(outer));
    let nested = yard.run(&format!("layout out -t nested {into}")).ended_with(1);
    nested.failed_saying("its index lists another index, so it is unclear where a platform belongs");
}

/// A tag of a real registry, and a layout, to which two machines have added their platforms.
#[test]
fn other_programs_read_what_was_added() {
    let (Some(registry), Some(skopeo)) = (Registry::plain(), Skopeo::find()) else { return };
    let yard = yard_of_programs();
    let name = format!("{}/team/app:v1", registry.address());
    yard.text(&format!("layout once -t v1 {}", content(&PLATFORMS[..2])));
    let mut digests = Vec::new();
    for platform in PLATFORMS[..2].iter().rev() {
        digests.push(yard.text(&format!("build -t {name} {} --push --into-index", content(&[platform]))));
        yard.text(&format!("layout out -t v1 --into-index {}", content(&[platform])));
    }
    let once = yard.json("ls once")[0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digests[1].trim(), once);
    // umoci unpacks no image for several platforms, and removes nothing that they need.
    if Umoci::find().is_some() {
        run(command("umoci").args(["gc", "--layout"]).arg(yard.scratch.join("out"))).success();
        assert_eq!(index_of(&yard, "out", "v1"), index_of(&yard, "once", "v1"));
        yard.run("verify out").success();
    }
    let raw = skopeo.raw_manifest(&["--tls-verify=false"], &format!("docker://{name}"));
    assert_eq!(ocibuild::Digest::of(&raw).to_string(), once);
    let (podman, layout) = (Podman::find(), format!("oci:{}:v1", yard.scratch.join("out").display()));
    for (number, platform) in PLATFORMS[..2].iter().enumerate() {
        let arch = &platform["linux/".len()..];
        for (place, from) in [("registry", format!("docker://{name}")), ("layout", layout.clone())] {
            let there = format!("{place}{number}");
            skopeo.copy_for(arch, &from, &format!("oci:{}:v1", yard.scratch.join(&there).display())).success();
            assert_eq!(yard.text(&format!("cat {there} /usr/bin/program --platform {platform}")), *platform);
            if let Some(podman) = &podman {
                let from = if place == "registry" { name.as_str() } else { &layout };
                let pull = ["pull", "--quiet", "--tls-verify=false", "--arch", arch, from];
                let id = run(podman.command().args(pull)).success().text().trim().to_owned();
                let shown = run(podman.command().args(["image", "inspect", "--format", "{{.Architecture}}", &id]));
                assert_eq!(shown.success().text().trim(), arch);
            }
        }
    }
    if let Some(crane) = crane() {
        assert_eq!(run(command(&crane).args(["digest", &name])).success().text().trim(), once);
        for platform in &PLATFORMS[..2] {
            run(command(&crane).args(["validate", "--platform", platform, "--remote", &name])).success();
        }
    }
    for docker in Docker::all() {
        for platform in &PLATFORMS[..2] {
            run(docker.command().args(["pull", "--quiet", "--platform", platform, &name])).success();
            let id = docker.image_id(&name);
            let shown = run(docker.command().args(["image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", &id]));
            assert_eq!(shown.success().text().trim(), *platform);
            // Of several platforms it would show the one of this machine.
            run(docker.command().args(["image", "rm", &name])).success();
        }
    }
    if let Some(containerd) = Containerd::find() {
        for platform in &PLATFORMS[..2] {
            let pull = ["image", "pull", "--plain-http", "--platform", platform, &name];
            run(containerd.environment().args(pull)).success();
        }
        let listed = run(containerd.environment().args(["image", "list"])).success();
        let row = listed.text().lines().find(|line| line.starts_with(&name)).unwrap().to_owned();
        assert!(row.contains(&once) && row.contains("linux/amd64,linux/arm64"), "{row}");
    }
}
