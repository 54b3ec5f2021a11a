//! The pull half of the distribution specification, endpoint by endpoint.

use super::Yard;
use crate::consumers::Layout;
use crate::support::random::Random;
use ocibuild::Digest;
use serde_json::{Value, json};
use std::fs;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn manifests_are_served_by_tag_and_by_digest() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let content = fs::read(yard.blob("out", &digest)).unwrap();
    for name in ["v1", &digest] {
        let path = format!("/v2/team/app/manifests/{name}");
        let got = served.get(&path);
        assert_eq!((got.status, &got.body), (200, &content), "{name}");
        assert_eq!(got.header("content-type"), Some(MANIFEST));
        assert_eq!(got.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(got.header("content-length"), Some(content.len().to_string().as_str()));
        let head = served.request(&format!("HEAD {path}"), "");
        assert_eq!((head.status, head.head, head.body), (200, got.head.clone(), Vec::new()));
        let accepted = |accept: &str| served.request(&format!("GET {path}"), &format!("Accept: {accept}\r\n")).status;
        assert_eq!(accepted(MANIFEST), 200);
        assert_eq!(accepted(&format!("text/plain, {INDEX};q=0.5, {MANIFEST}")), 200);
        assert_eq!((accepted("*/*"), accepted("application/*")), (200, 200));
        assert_eq!(accepted(INDEX), 404);
        let etag = got.header("etag").unwrap();
        let again = served.request(&format!("GET {path}"), &format!("If-None-Match: {etag}\r\n"));
        assert_eq!((again.status, again.body), (304, Vec::new()));
    }
}

#[test]
fn what_is_not_there_has_a_document_that_says_so() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a -t team/app:v1");
    let config = Layout::new(yard.scratch.join("out"), "v1").config_digest();
    let served = yard.serve("out");
    let zero = Digest::of(b"nothing");
    for (path, status, code) in [
        ("/v2/team/app/manifests/v2".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/app/manifests/.INVALID_MANIFEST_NAME".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/team/app/manifests/{zero}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/team/app/manifests/{config}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/other/manifests/v1".to_owned(), 404, "NAME_UNKNOWN"),
        (format!("/v2/team/other/manifests/{digest}"), 404, "NAME_UNKNOWN"),
        (format!("/v2/team/other/blobs/{digest}"), 404, "NAME_UNKNOWN"),
        ("/v2/team/other/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        (format!("/v2/team/app/blobs/{zero}"), 404, "BLOB_UNKNOWN"),
        ("/v2/team/app/blobs/sha256:zz".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/TEAM/app/manifests/v1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/team/app/tags/list?n=x".to_owned(), 400, "PAGINATION_NUMBER_INVALID"),
        ("/".to_owned(), 404, "UNSUPPORTED"),
        ("/v2/team/app".to_owned(), 404, "UNSUPPORTED"),
    ] {
        let got = served.get(&path);
        assert_eq!((got.status, got.code().as_str()), (status, code), "{path}");
        assert_eq!(got.header("content-type"), Some("application/json"));
        let head = served.request(&format!("HEAD {path}"), "");
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    assert_eq!(served.get("/v2/").status, 200);
    assert_eq!(served.get("/v2").status, 200);
}

#[test]
fn blobs_are_served_whole_and_in_ranges() {
    let yard = Yard::new();
    yard.scratch.write("a/large", Random::new(1).bytes(3 << 20));
    yard.text("layout out --copy a:/a -t team/app:v1");
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let content = fs::read(yard.blob("out", &layer)).unwrap();
    let (path, size) = (format!("/v2/team/app/blobs/{layer}"), content.len());
    let served = yard.serve("out");
    let ranged = |range: &str| served.request(&format!("GET {path}"), &format!("Range: {range}\r\n"));
    // A range comes first, of a blob that nobody has read yet.
    let part = ranged("bytes=1000000-");
    assert_eq!((part.status, &part.body[..]), (206, &content[1_000_000..]));
    let whole = served.get(&path);
    assert_eq!((whole.status, &whole.body), (200, &content));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("docker-content-digest"), Some(layer.as_str()));
    let head = served.request(&format!("HEAD {path}"), "");
    assert_eq!((head.status, head.head, head.body.len()), (200, whole.head.clone(), 0));
    let ranged_head = served.request(&format!("HEAD {path}"), "Range: bytes=0-9\r\n");
    assert_eq!((ranged_head.status, ranged_head.head), (200, whole.head.clone()), "only GET has ranges");
    for (range, first, end) in
        [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=-5", size - 5, size), ("bytes=5-999999999999", 5, size)]
    {
        let part = ranged(range);
        assert_eq!((part.status, &part.body[..]), (206, &content[first..end]), "{range}");
        let expected = format!("bytes {first}-{}/{size}", end - 1);
        assert_eq!(part.header("content-range"), Some(expected.as_str()));
        assert_eq!(part.header("content-length"), Some((end - first).to_string().as_str()));
    }
    let beyond = ranged(&format!("bytes={size}-"));
    assert_eq!((beyond.status, beyond.code().as_str()), (416, "RANGE_INVALID"));
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{size}").as_str()));
    for ignored in ["bytes=0-1,5-6", "bytes=x-", "lines=1-2"] {
        assert_eq!((ranged(ignored).status, ranged(ignored).body.len()), (200, size), "{ignored}");
    }
    let other = served.request(&format!("GET {path}"), "Range: bytes=0-0\r\nIf-Range: \"other\"\r\n");
    assert_eq!((other.status, other.body.len()), (200, size));
}

/// What the conformance suite of the distribution specification asks of "Blob get range", which it can only ask of a registry
/// that takes a blob.
#[test]
fn the_ranges_of_the_conformance_suite_are_served() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let content = Random::new(3).bytes(2048);
    let digest = put(&yard, "application/octet-stream", &content)["digest"].as_str().unwrap().to_owned();
    let served = yard.serve("out");
    for (range, wanted) in [
        ("500-1499", Some(500..1500)),
        ("500-", Some(500..2048)),
        ("-500", Some(1548..2048)),
        ("2000-5000", Some(2000..2048)),
        ("500-0", None),
        ("5000-10000", None),
    ] {
        let got = served.request(&format!("GET /v2/team/app/blobs/{digest}"), &format!("Range: bytes={range}\r\n"));
        let Some(wanted) = wanted else {
            assert_eq!(got.status, 416, "{range}");
            continue;
        };
        let said = format!("bytes {}-{}/2048", wanted.start, wanted.end - 1);
        assert_eq!((got.status, got.header("content-range")), (206, Some(said.as_str())), "{range}");
        assert_eq!(got.header("content-length"), Some(wanted.len().to_string().as_str()), "{range}");
        assert_eq!(got.body, content[wanted], "{range}");
    }
}

#[test]
fn nothing_can_be_written() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let before = fs::read(yard.scratch.join("out/index.json")).unwrap();
    for line in [
        "POST /v2/team/app/blobs/uploads/",
        "PUT /v2/team/app/manifests/v2",
        "PATCH /v2/team/app/blobs/uploads/1",
        &format!("DELETE /v2/team/app/manifests/{digest}"),
        "OPTIONS /v2/",
        "BREW /v2/",
    ] {
        let bodies = [
            "",
            "Content-Length: 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\nContent-Length: 9\r\n",
        ];
        for headers in bodies {
            let got = served.request(line, headers);
            assert_eq!((got.status, got.code().as_str()), (405, "UNSUPPORTED"), "{line} {headers}");
            assert_eq!(got.header("allow"), Some("GET, HEAD"));
        }
    }
    assert_eq!(fs::read(yard.scratch.join("out/index.json")).unwrap(), before);
    let pushed = yard.run(&format!("export out docker://{}/team/app:v2", served.address));
    pushed.failed_saying("this registry is read-only");
}

#[test]
fn tags_and_repositories_are_listed_in_pages() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:b -t team/app:a -t team/app:C -t other:d");
    let served = yard.serve("out");
    let all = served.get("/v2/team/app/tags/list");
    assert_eq!(all.json(), json!({"name": "team/app", "tags": ["C", "a", "b"]}));
    assert_eq!(all.header("link"), None);
    let first = served.get("/v2/team/app/tags/list?n=2");
    assert_eq!(first.json()["tags"], json!(["C", "a"]));
    let link = first.header("link").unwrap();
    assert_eq!(link, "</v2/team/app/tags/list?n=2&last=a>; rel=\"next\"");
    let rest = served.get(link.trim_start_matches('<').split('>').next().unwrap());
    assert_eq!((rest.json()["tags"].clone(), rest.header("link")), (json!(["b"]), None));
    assert_eq!(served.get("/v2/team/app/tags/list?last=zz").json()["tags"], json!([]));
    assert_eq!(served.get("/v2/team/app/tags/list?n=0").json()["tags"], json!([]));
    assert_eq!(served.get("/v2/team/app/tags/list?n=3").header("link"), None);
    assert_eq!(served.get("/v2/_catalog").json(), json!({"repositories": ["library/other", "other", "team/app"]}));
    assert_eq!(served.get("/v2/_catalog?n=1&last=other").json()["repositories"], json!(["team/app"]));
}

/// Writes a blob and returns its descriptor.
fn put(yard: &Yard, media_type: &str, content: &[u8]) -> Value {
    let digest = Digest::of(content);
    fs::write(yard.blob("out", &digest.to_string()), content).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": content.len()})
}

fn list(yard: &Yard, entries: &[Value]) {
    let path = yard.scratch.join("out/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["manifests"].as_array_mut().unwrap().extend(entries.iter().cloned());
    fs::write(path, index.to_string()).unwrap();
}

#[test]
fn referrers_are_listed_and_filtered() {
    let yard = Yard::new();
    let subject = yard.text("layout out --copy a:/a -t team/app:v1");
    let config = put(&yard, "application/vnd.example.signature", b"{}");
    let about = |members: Value| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": 3},
        });
        manifest.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        put(&yard, MANIFEST, manifest.to_string().as_bytes())
    };
    let sbom = about(json!({"artifactType": "application/spdx+json", "annotations": {"tool": "syft"}}));
    let signature = about(json!({}));
    list(&yard, &[sbom.clone(), signature.clone()]);
    let served = yard.serve("out");
    let path = format!("/v2/team/app/referrers/{subject}");
    let got = served.get(&path);
    assert_eq!((got.status, got.header("content-type")), (200, Some(INDEX)));
    let mut listed = got.json()["manifests"].as_array().unwrap().clone();
    assert_eq!((listed.len(), got.header("oci-filters-applied")), (2, None));
    listed.sort_by_key(|entry| entry["artifactType"].to_string());
    let described = |entry: &Value, kind: &str| entry["artifactType"] == kind && entry["size"].is_u64();
    assert!(
        described(&listed[0], "application/spdx+json") && described(&listed[1], "application/vnd.example.signature")
    );
    assert_eq!((&listed[0]["digest"], &listed[0]["annotations"]), (&sbom["digest"], &json!({"tool": "syft"})));
    for kind in ["application/spdx+json", "application%2Fspdx%2Bjson"] {
        let filtered = served.get(&format!("{path}?artifactType={kind}"));
        assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
        assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);
    }
    let digest = signature["digest"].as_str().unwrap();
    assert_eq!(served.get(&format!("/v2/team/app/manifests/{digest}")).status, 200);
    let none = served.get(&format!("/v2/team/app/referrers/{}", Digest::of(b"unknown")));
    assert_eq!((none.status, none.json()["manifests"].clone()), (200, json!([])));
    assert_eq!(served.get(&format!("/v2/nothing/referrers/{subject}")).status, 404);
}

#[test]
fn long_lists_of_referrers_come_in_pages() {
    let yard = Yard::new();
    let subject = yard.text("layout out --copy a:/a -t team/app:v1");
    let config = put(&yard, "application/vnd.example", b"{}");
    let entries: Vec<Value> = (0..5)
        .map(|number| {
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [],
                "annotations": {"long": "x".repeat(600_000), "number": number.to_string()},
                "subject": {"mediaType": MANIFEST, "digest": subject, "size": 3},
            });
            put(&yard, MANIFEST, manifest.to_string().as_bytes())
        })
        .collect();
    list(&yard, &entries);
    let served = yard.serve("out");
    let (mut found, mut pages) = (Vec::new(), 0);
    let mut next = Some(format!("/v2/team/app/referrers/{subject}?artifactType=application/vnd.example"));
    while let Some(path) = next {
        let page = served.get(&path);
        assert!(page.body.len() < 4 << 20);
        found.extend(page.json()["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].to_string()));
        next = page.header("link").map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        pages += 1;
    }
    found.dedup();
    assert_eq!((found.len(), pages), (5, 3));
}

#[test]
fn an_index_and_its_manifests_are_served() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let manifest = yard.json("inspect out")["manifest"].clone();
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    let mut index = put(&yard, INDEX, inner.to_string().as_bytes());
    index["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/team/app:multi"});
    let path = yard.scratch.join("out/index.json");
    fs::write(path, json!({"schemaVersion": 2, "manifests": [index]}).to_string()).unwrap();
    let served = yard.serve("out");
    let got = served.get("/v2/team/app/manifests/multi");
    assert_eq!((got.status, got.header("content-type")), (200, Some(INDEX)));
    let inner = got.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let got = served.get(&format!("/v2/team/app/manifests/{inner}"));
    assert_eq!((got.status, got.header("content-type")), (200, Some(MANIFEST)));
    yard.text(&format!("inspect {}/team/app:multi", served.address));
}
