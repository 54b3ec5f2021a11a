//! Multi-platform images in layouts and archives.

use super::Yard;
use serde_json::{Value, json};

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
