//! Multi-platform images in layouts and archives.

use super::Yard;
use crate::consumers::{Podman, Registry, Skopeo};
use crate::registry::server::Server;
use crate::support::{is_left_out, run};
use serde_json::{Value, json};
use std::fs;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Creates a layout `many` whose one entry is an index for these platforms, as `skopeo copy --all` writes it. Returns the
/// digest of each manifest.
fn multi_platform(yard: &Yard, platforms: &[&str]) -> Vec<String> {
    let (mut listed, mut digests) = (Vec::new(), Vec::new());
    for (number, platform) in platforms.iter().enumerate() {
        let line = format!("layout many -t p{number} --platform {platform} --label platform={platform} --copy a:/a");
        digests.push(yard.text(&line));
        let mut parts = platform.split('/');
        let mut members = json!({"os": parts.next(), "architecture": parts.next()});
        if let Some(variant) = parts.next() {
            members["variant"] = variant.into();
        }
        let manifest = yard.json(&format!("inspect many:p{number}"))["manifest"].clone();
        listed.push(json!({
            "mediaType": manifest["mediaType"], "digest": manifest["digest"], "size": manifest["size"], "platform": members,
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    let mut entry = yard.blob("many", INDEX, index.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "stable"});
    yard.edit_index("many", |manifests| *manifests = vec![entry]);
    digests
}

fn digest(shown: &Value) -> &str {
    shown["manifest"]["digest"].as_str().unwrap()
}

/// M55, M61: the default platform is linux/amd64, wherever the image is.
#[test]
fn an_image_for_several_platforms_is_linux_amd64() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let digests = multi_platform(&yard, &["linux/arm64", "linux/amd64", "linux/s390x"]);
    assert_eq!(digest(&yard.json("inspect many:stable")), digests[1]);
    assert_eq!(digest(&yard.json("inspect many --platform linux/s390x")), digests[2]);
    assert_eq!(yard.text("export many oci:one"), digests[1]);
    assert_eq!(yard.json("inspect one")["names"], json!(["stable"]));
    let based = yard.json("layout based --base oci:many:stable --copy b:/b");
    assert_eq!(based["baseLayers"], 1);
    assert_eq!(yard.json("inspect based")["platform"], "linux/amd64");
    // The manifest of one platform can be selected by its own digest, too.
    assert_eq!(yard.json(&format!("inspect many@{}", digests[0]))["platform"], "linux/arm64");
    yard.run(&format!("verify many@{}", digests[0])).success();
    let mut tar = crate::support::command("tar");
    tar.arg("-C").arg(yard.scratch.join("many")).arg("-cf").arg(yard.scratch.join("many.tar"));
    crate::support::run(tar.args(["oci-layout", "index.json", "blobs"])).success();
    assert_eq!(yard.text("export oci-archive:many.tar oci:two"), digests[1]);
    let foreign = Yard::new();
    multi_platform(&foreign, &["linux/arm64", "linux/s390x"]);
    let reason = "is a multi-platform image without linux/amd64, select a platform (there is linux/arm64, linux/s390x)";
    foreign.refuses("inspect many", &[reason]);
}

/// M66: `linux/arm` is v7, as in containerd, whatever the order of the list.
#[test]
fn arm_is_v7() {
    let yard = Yard::new();
    let digests = multi_platform(&yard, &["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"]);
    assert_eq!(digest(&yard.json("inspect many --platform linux/arm")), digests[2]);
    assert_eq!(digest(&yard.json("inspect many --platform linux/arm/v5")), digests[0]);
}

/// M66: all runtime settings of a config are shown.
#[test]
fn inspect_shows_ports_volumes_stop_signal_and_healthcheck() {
    let yard = Yard::new();
    let flags = "--expose 8080 --volume /data --stop-signal SIGINT";
    yard.text(&format!("layout base {flags} --copy a:/a"));
    let text = yard.text("inspect base");
    for line in ["port         8080/tcp", "volume       /data", "stop signal  SIGINT"] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} in {text}");
    }
    // Written by another program.
    let entry = super::read(&yard.scratch.join("base/index.json"))["manifests"][0].clone();
    let blob = |digest: &Value| yard.scratch.join("base/blobs/sha256").join(&digest.as_str().unwrap()[7..]);
    let mut manifest = super::read(&blob(&entry["digest"]));
    let mut config = super::read(&blob(&manifest["config"]["digest"]));
    let check = json!({"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64, "Retries": 3});
    config["config"]["Healthcheck"] = check.clone();
    manifest["config"] = yard.blob("base", "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let entry = yard.blob("base", "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    yard.edit_index("base", |manifests| *manifests = vec![entry]);
    let shown = r#"healthcheck  ["CMD","true"], every 30s, 3 retries"#;
    assert!(yard.text("inspect base").lines().any(|line| line == shown));
    assert_eq!(yard.json("inspect base")["config"]["config"]["Healthcheck"], check);
}

/// Makes programs for two processors.
fn two_programs(yard: &Yard) {
    yard.scratch.write("bin/amd64/program", "amd64");
    yard.scratch.write("bin/arm64/program", "arm64");
}

const BOTH: &str = "--platform linux/amd64,linux/arm64 --copy bin/{arch}:/usr/bin";

#[test]
fn several_platforms_are_one_image() {
    let yard = Yard::new();
    two_programs(&yard);
    let index = yard.text(&format!("layout out -t team/app:v1 {BOTH}"));
    for (platform, content) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64")] {
        let program = yard.text(&format!("cat out:team/app:v1 /usr/bin/program --platform {platform}"));
        assert_eq!(program, content);
        // The same image as alone.
        let alone = yard.text(&format!("layout alone --platform {platform} --copy bin/{content}:/usr/bin"));
        assert_eq!(digest(&yard.json(&format!("inspect out:team/app:v1 --platform {platform}"))), alone.trim());
    }
    let listed = yard.json("ls out");
    assert_eq!((&listed[0]["digest"], &listed[0]["mediaType"]), (&json!(index.trim()), &json!(INDEX)));
    assert_eq!(listed.as_array().unwrap().len(), 1, "only the index is listed: {listed}");
    yard.run("verify out").success();
    assert_eq!(yard.text(&format!("layout out -t team/app:v1 {BOTH}")), index, "the second build");
    assert_eq!(yard.text(&format!("build -t team/app:v1 {BOTH} -o oci:built")), index);
    let document = yard.json(&format!("layout out -t other {BOTH}"));
    assert_eq!(document["digest"], index.trim());
    assert_eq!(document["platforms"][1]["platform"], "linux/arm64");
    let plan = yard.text(&format!("layout out {BOTH} --dry-run"));
    assert!(plan.starts_with("linux/amd64:\n") && plan.contains("\nlinux/arm64:\n"), "{plan}");
    let plan = yard.json(&format!("layout out {BOTH} --dry-run"));
    assert_eq!(plan["platforms"][1]["config"]["architecture"], "arm64");
}

#[test]
fn each_platform_is_on_its_own_base() {
    let yard = Yard::new();
    two_programs(&yard);
    yard.text(&format!("layout base -t v1 {BOTH}"));
    yard.text("layout out --base oci:base --platform linux/arm64,linux/amd64 --copy a:/a");
    for platform in ["amd64", "arm64"] {
        assert_eq!(yard.text(&format!("cat out /usr/bin/program --platform linux/{platform}")), platform);
    }
    let missing = yard.run("layout out --base oci:base --platform linux/arm64,linux/s390x --copy a:/a").ended_with(1);
    missing.failed_saying("linux/s390x");
}

#[test]
fn all_platforms_are_copied() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    two_programs(&yard);
    let (server, shelf) = Server::with_shelf(|x, shelf| shelf.serve(x));
    let host = server.host();
    let index = yard.text(&format!("layout out -t team/app:v1 {BOTH}"));
    let pushed = format!("docker://{host}/team/app:v1");
    let copy = format!("export out --all-platforms oci:copy oci-archive:all.tar {pushed} --plain-http {host}");
    assert_eq!(yard.text(&copy), index);
    assert_eq!(yard.text(&copy), index, "a second time");
    assert_eq!(ocibuild::Digest::of(&shelf.manifest("team/app", "v1").unwrap()).to_string(), index.trim());
    yard.run("verify copy").success();
    // Where the index is from stays known.
    let origin = |layout: &str| {
        let index: Value =
            serde_json::from_slice(&fs::read(yard.scratch.join(layout).join("index.json")).unwrap()).unwrap();
        index["manifests"][0]["annotations"]["dev.ocibuild.origin"].clone()
    };
    yard.text(&format!("export {pushed} --all-platforms oci:fetched --plain-http {host}"));
    yard.text("export fetched --all-platforms oci:moved");
    assert_eq!(origin("fetched"), format!("{host}/team/app:v1"));
    assert_eq!(origin("moved"), origin("fetched"));
    assert_eq!(yard.json("ls copy")[0]["name"], "docker.io/team/app:v1");
    // From an archive and from a registry.
    assert_eq!(yard.text("export oci-archive:all.tar --all-platforms oci:again:v2"), index);
    assert_eq!(yard.text(&format!("export {pushed} --all-platforms oci:pulled --plain-http {host}")), index);
    for place in ["again", "pulled", "oci-archive:all.tar"] {
        assert_eq!(yard.text(&format!("cat {place} /usr/bin/program --platform linux/arm64")), "arm64", "{place}");
    }
}

#[test]
fn what_is_for_one_platform_is_refused() {
    let yard = Yard::new();
    two_programs(&yard);
    yard.text(&format!("layout out {BOTH}"));
    yard.text("layout one --copy a:/a");
    let several = "hold several";
    yard.refuses("export out docker-archive:a.tar --all-platforms", &["docker-archive:a.tar holds one", several]);
    yard.refuses("export out - --all-platforms", &["standard output holds one"]);
    let two_names = "docker://127.0.0.1:1/a:v1 docker://127.0.0.1:1/a:v2";
    yard.refuses(&format!("export out {two_names} dir:d --all-platforms"), &["dir:d holds one platform"]);
    for line in ["export one - --format json", "export out oci-archive:/dev/stdout --all-platforms --format json"] {
        yard.refuses(line, &["--format json", "standard output is for the tar"]);
    }
    yard.refuses("export one oci:copy --all-platforms", &["one is for one platform"]);
    yard.refuses("export out oci:copy --all-platforms --platform linux/arm64", &["cannot be used with"]);
    yard.refuses(&format!("build -t team/app:v1 {BOTH} --load podman"), &["--platform", several]);
    yard.refuses(&format!("layout new {BOTH} --save saved.tar"), &["--platform", several]);
    yard.refuses(&format!("layout new {BOTH} --iidfile id"), &["--iidfile", "--digest-file"]);
    yard.refuses("layout new --platform linux/arm64,linux/arm64 --copy a:/a", &["linux/arm64 is given twice"]);
    yard.refuses("layout new --copy bin/{arch}:/usr/bin", &["`bin/{arch}`", "--platform OS/ARCH"]);
    yard.refuses("layout new --platform linux/arm64,linux/amd64 --copy -:/a", &["standard input can be read once"]);
    yard.refuses("dockerfile --platform linux/arm64,linux/amd64 --copy a:/a", &["a Dockerfile is for one platform"]);
    assert!(!yard.names().contains(&"new".to_owned()), "nothing was made");
}

#[test]
fn other_programs_pull_each_platform() {
    let (Some(registry), Some(skopeo)) = (Registry::plain(), Skopeo::find()) else { return };
    let yard = Yard::new();
    two_programs(&yard);
    let name = format!("{}/team/app:v1", registry.address());
    yard.text(&format!("build -t {name} {BOTH} --push"));
    let podman = Podman::find();
    for (number, arch) in ["amd64", "arm64"].iter().enumerate() {
        let there = format!("oci:{}:v1", yard.scratch.join(format!("skopeo{number}")).display());
        // The option of the program comes before its command; with it, skopeo takes the image of that platform.
        let from = format!("docker://{name}");
        skopeo.copy_for(arch, &from, &there).success();
        assert_eq!(yard.text(&format!("cat skopeo{number} /usr/bin/program --platform linux/{arch}")), *arch);
        if let Some(podman) = &podman {
            let pull = ["pull", "--quiet", "--tls-verify=false", "--arch", arch, &name];
            run(podman.command().args(pull)).success();
            let shown = run(podman.command().args(["image", "inspect", "--format", "{{.Architecture}}", &name]));
            assert_eq!(shown.success().text().trim(), *arch);
        }
    }
}
