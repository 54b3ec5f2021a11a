//! Blobs of a base: their digests, their sizes, and what may be a file of one.

use super::{builds_on, each_is_refused};
use crate::catalogue::forge::{CONFIG, Forged, MANIFEST};
use crate::support::is_left_out;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

/// Flips a bit in the middle of a blob.
fn damage(base: &Forged, digest: &str) {
    let mut bytes = fs::read(base.blob(digest)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(base.blob(digest), bytes).unwrap();
}

fn resize(base: &Forged, digest: &str, size: impl Fn(u64) -> u64) {
    let file = fs::File::options().write(true).open(base.blob(digest)).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(size(length)).unwrap();
}

#[test]
fn b1_b3_bytes_that_do_not_have_their_digest_are_refused() {
    each_is_refused(&[
        ("B1", &|base| damage(base, &base.manifest_digest()), &["blob sha256:", "its content has the digest sha256:"]),
        ("B3", &|base| damage(base, &base.config_digest()), &["blob sha256:", "its content has the digest sha256:"]),
        ("B3", &|base| damage(base, &base.layer_digest()), &["base image: ", "its content has the digest sha256:"]),
    ]);
}

#[test]
fn b4_blobs_of_another_length_are_refused() {
    each_is_refused(&[
        ("B4", &|base| resize(base, &base.layer_digest(), |size| size - 1), &["bytes, found"]),
        ("B4", &|base| resize(base, &base.layer_digest(), |_| 0), &["bytes, found 0"]),
        ("B4", &|base| resize(base, &base.layer_digest(), |size| size + 1), &["longer than its"]),
        // A sparse file of a tebibyte: reading on until its end would take hours.
        ("B4", &|base| resize(base, &base.layer_digest(), |_| 1 << 40), &["longer than its"]),
        ("B4", &|base| resize(base, &base.config_digest(), |_| 1 << 40), &["longer than its"]),
        ("B4", &|base| resize(base, &base.manifest_digest(), |_| 1 << 40), &["longer than its"]),
    ]);
}

#[test]
fn b5_b6_invalid_sizes_are_refused() {
    if is_left_out() {
        return;
    }
    let impossible =
        [json!(-1), json!(9_007_199_254_740_992_u64), json!(1_u64 << 63), json!(2.0), json!("12"), json!([])];
    for size in &impossible {
        each_is_refused(&[
            ("B5", &|base| base.edit_manifest(|it| it["layers"][0]["size"] = size.clone()), &["`size`: expected"]),
            ("B5", &|base| base.edit_manifest(|it| it["config"]["size"] = size.clone()), &["`size`: expected"]),
            ("B5", &|base| base.edit_index(|it| it["manifests"][0]["size"] = size.clone()), &["`size`: expected"]),
        ]);
    }
    each_is_refused(&[
        (
            "B5",
            &|base| base.edit_manifest(|it| it["layers"][0]["size"] = Value::Null),
            &["a descriptor without `size`"],
        ),
        ("B5", &|base| base.edit_manifest(|it| it["layers"][0]["size"] = json!(0)), &["longer than its 0 bytes"]),
        ("B5", &|base| base.edit_index(|it| it["manifests"][0]["size"] = json!(0)), &["longer than its 0 bytes"]),
        ("B6", &|base| base.edit_manifest(|it| it["config"]["size"] = json!(7)), &["longer than its 7 bytes"]),
        ("B6", &|base| base.edit_manifest(|it| it["config"]["size"] = json!(7000)), &["expected 7000 bytes, found"]),
    ]);
}

#[test]
fn b7_text_that_is_no_digest_is_refused_before_anything_is_opened() {
    if is_left_out() {
        return;
    }
    let hex = "0123456789abcdef".repeat(4);
    let bad = [
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("md5:{}", &hex[..32]),
        "sha256:../../../../etc/passwd".to_owned(),
        hex.clone(),
        String::new(),
        format!("sha256:{hex}\n"),
        format!("sha512:{hex}"),
    ];
    for digest in &bad {
        each_is_refused(&[
            ("B7", &|base| base.edit_manifest(|it| it["layers"][0]["digest"] = json!(digest)), &["invalid digest"]),
            ("B7", &|base| base.edit_manifest(|it| it["config"]["digest"] = json!(digest)), &["invalid digest"]),
            ("B7", &|base| base.edit_index(|it| it["manifests"][0]["digest"] = json!(digest)), &["invalid digest"]),
            ("B7", &|base| base.edit_config(|it| it["rootfs"]["diff_ids"][0] = json!(digest)), &["invalid digest"]),
        ]);
    }
}

#[test]
fn b8_sha512_is_verified_and_passed_through() {
    use sha2::Digest as _;
    let sha512 = |bytes: &[u8]| {
        let hex: String = sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha512:{hex}")
    };
    let move_layer = |base: &Forged| {
        let layer = fs::read(base.blob(&base.layer_digest())).unwrap();
        fs::create_dir(base.directory.join("blobs/sha512")).unwrap();
        fs::rename(base.blob(&base.layer_digest()), base.blob(&sha512(&layer))).unwrap();
        base.edit_manifest(|it| it["layers"][0]["digest"] = sha512(&layer).into());
    };
    let (manifest, _, _) = builds_on("B8", &move_layer, &[]);
    assert!(manifest["layers"][0]["digest"].as_str().unwrap().starts_with("sha512:"));
    let damaged = |base: &Forged| {
        move_layer(base);
        damage(base, &base.layer_digest());
    };
    each_is_refused(&[("B8", &damaged, &["its content has the digest sha512:"])]);
}

#[test]
fn b9_only_regular_files_are_blobs() {
    if is_left_out() {
        return;
    }
    let replace = |base: &Forged, digest: &str, with: &str| {
        let blob = base.blob(digest);
        match with {
            "link inside" => {
                fs::rename(&blob, base.directory.join("moved")).unwrap();
                symlink("../../moved", &blob).unwrap();
            }
            "link outside" => {
                fs::rename(&blob, base.directory.with_file_name("moved")).unwrap();
                symlink(base.directory.with_file_name("moved"), &blob).unwrap();
            }
            "endless" => {
                fs::remove_file(&blob).unwrap();
                symlink("/dev/zero", &blob).unwrap();
            }
            "pipe" => {
                fs::remove_file(&blob).unwrap();
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, &blob, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            _ => {
                fs::remove_file(&blob).unwrap();
                fs::create_dir(&blob).unwrap();
            }
        }
    };
    for with in ["link inside", "link outside", "endless", "pipe", "directory"] {
        each_is_refused(&[
            ("B9", &|base| replace(base, &base.layer_digest(), with), &["not a regular file"]),
            ("B9", &|base| replace(base, &base.config_digest(), with), &["not a regular file"]),
            ("B9", &|base| replace(base, &base.manifest_digest(), with), &["not a regular file"]),
        ]);
    }
}

#[test]
fn b26_embedded_data_must_be_the_blob_or_is_passed_over() {
    use base64::Engine as _;
    let data = |base: &Forged, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(base.blob(&base.config_digest())).unwrap();
        change(&mut bytes);
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        base.edit_manifest(|it| it["config"]["data"] = text.into());
    };
    each_is_refused(&[
        ("B26", &|base| data(base, &|bytes| bytes[3] ^= 1), &["the embedded data of sha256:"]),
        ("B26", &|base| data(base, &|bytes| bytes.truncate(3)), &["the embedded data of sha256:"]),
        ("B26", &|base| base.edit_manifest(|it| it["config"]["data"] = json!("not base64!")), &["is not base64"]),
        // 64 KiB of base64.
        ("B26", &|base| data(base, &|bytes| bytes.resize(48 << 10, 0)), &["the embedded data of sha256:"]),
    ]);
    builds_on("B26", &|base| data(base, &|_| {}), &[]);
    for beyond in [(48 << 10) + 1, 1 << 20] {
        builds_on("B26", &|base| data(base, &|bytes| bytes.resize(beyond, 0)), &[]);
    }
}

#[test]
fn b41_a_blob_is_limited_by_the_role_that_it_plays() {
    let large = vec![b' '; (8 << 20) + 1];
    each_is_refused(&[
        (
            "B41",
            &|base| base.edit_manifest(|it| it["config"] = base.descriptor(CONFIG, &large)),
            &["larger than 8 MiB"],
        ),
        (
            "B41",
            &|base| base.edit_manifest(|it| it["layers"][0]["mediaType"] = json!(CONFIG)),
            &["layer sha256:", "has the media type `application/vnd.oci.image.config.v1+json`"],
        ),
        (
            "B41",
            &|base| base.edit_manifest(|it| it["layers"][0]["mediaType"] = json!(MANIFEST)),
            &["has the media type `application/vnd.oci.image.manifest.v1+json`"],
        ),
    ]);
}
