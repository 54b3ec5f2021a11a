use super::open::VERSION_DOCUMENT;
use super::*;
use crate::common::digest::Hasher;
use crate::common::json;
use crate::spec::{Config, Manifest, REF_NAME};
use std::fs;
use std::path::Path;

fn scratch() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    (directory, out)
}

/// Creates an image of one layer, whose blobs are in `layout`.
fn image(layout: &Arc<Layout>, content: &[u8]) -> StoredImage {
    let mut writer = layout.blob_writer().unwrap();
    writer.write(content).unwrap();
    let (digest, size) = layout.finish_blob(writer).unwrap();
    let mut config = Config::scratch(&Platform::linux_amd64()).document().clone();
    config["rootfs"]["diff_ids"] = serde_json::json!([digest.to_string()]);
    let config_bytes = json::canonical(&config);
    let manifest = Manifest {
        config: layout.put_document(&config_bytes, media_type::CONFIG).unwrap(),
        layers: vec![Descriptor::new(media_type::LAYER, digest, size)],
        annotations: Default::default(),
    };
    let bytes = manifest.to_bytes();
    let descriptor = Descriptor::of(media_type::MANIFEST, &bytes);
    StoredImage::assemble(layout.clone(), descriptor, bytes, config_bytes, None, "test").unwrap()
}

fn commit(layout: &Arc<Layout>, content: &[u8], tag: &str) -> Digest {
    let image = image(layout, content);
    layout.commit(&image, &[tag.parse().unwrap()]).unwrap();
    image.descriptor.digest
}

fn blob_path(out: &Path, digest: &Digest) -> std::path::PathBuf {
    out.join("blobs/sha256").join(digest.hex())
}

#[test]
fn a_new_layout_has_everything_and_its_mark_last() {
    let (_keep, out) = scratch();
    Layout::create(&out.join("deep/er")).unwrap();
    let mark = fs::read(out.join("deep/er/oci-layout")).unwrap();
    assert_eq!(mark, VERSION_DOCUMENT);
    assert!(Layout::open(&out.join("deep/er")).unwrap().index().unwrap().manifests().is_empty());
}

#[test]
fn a_killed_creation_is_finished() {
    let (_keep, out) = scratch();
    Layout::create(&out).unwrap();
    fs::remove_file(out.join("oci-layout")).unwrap();
    fs::write(out.join("blobs/sha256/.ocibuild-00000000000000000000000000000000"), "x").unwrap();
    Layout::create(&out).unwrap();
    assert_eq!(fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn directories_of_other_programs_are_not_changed() {
    let (_keep, out) = scratch();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("precious"), "x").unwrap();
    assert!(Layout::create(&out).unwrap_err().to_string().contains("not an OCI layout"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    let file = out.join("precious");
    assert!(Layout::create(&file).is_err());
}

#[test]
fn a_layout_that_lost_its_mark_is_not_taken_for_an_empty_one() {
    let (_keep, out) = scratch();
    let layout = Arc::new(Layout::create(&out).unwrap());
    commit(&layout, b"1", "a");
    fs::remove_file(out.join("oci-layout")).unwrap();
    assert!(Layout::create(&out).unwrap_err().to_string().contains("`oci-layout` is missing"));
    assert!(Layout::open(&out).unwrap_err().to_string().contains("`oci-layout` is missing"));
    fs::write(out.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(Layout::create(&out).unwrap_err().to_string().contains("layout version 2.0.0"));
    fs::write(out.join("oci-layout"), "").unwrap();
    assert!(Layout::create(&out).is_err());
}

#[test]
fn a_damaged_index_is_never_replaced() {
    for damage in ["", "{", "[]", r#"{"schemaVersion":2}"#] {
        let (_keep, out) = scratch();
        let layout = Arc::new(Layout::create(&out).unwrap());
        let image = image(&layout, b"1");
        fs::write(out.join("index.json"), damage).unwrap();
        assert!(layout.commit(&image, &["a".parse().unwrap()]).unwrap_err().to_string().contains("index.json"));
        assert!(Layout::create(&out).unwrap_err().to_string().contains("index.json"));
        assert_eq!(fs::read_to_string(out.join("index.json")).unwrap(), damage);
    }
}

#[test]
fn a_tag_built_again_leaves_one_descriptor() {
    let (_keep, out) = scratch();
    let layout = Arc::new(Layout::create(&out).unwrap());
    let first = commit(&layout, b"1", "a");
    let second = commit(&layout, b"2", "a");
    assert_ne!(first, second);
    assert_eq!(layout.image(None, None).unwrap().descriptor.digest, second);
    let before = fs::metadata(out.join("index.json")).unwrap().modified().unwrap();
    commit(&layout, b"2", "a");
    assert_eq!(
        fs::metadata(out.join("index.json")).unwrap().modified().unwrap(),
        before,
        "nothing changed, nothing is written"
    );
}

#[test]
fn a_full_name_is_kept_beside_its_tag() {
    let (_keep, out) = scratch();
    let layout = Arc::new(Layout::create(&out).unwrap());
    let image = image(&layout, b"1");
    layout.commit(&image, &["reg.io/team/robot:v1".parse().unwrap()]).unwrap();
    let listed = layout.index().unwrap().manifests()[0].clone();
    assert_eq!(listed.annotations[REF_NAME], "v1");
    assert_eq!(listed.annotations["io.containerd.image.name"], "reg.io/team/robot:v1");
    assert_eq!(layout.names(Some("v1")).unwrap()[0].to_string(), "reg.io/team/robot:v1");
}

#[test]
fn damaged_blobs_are_noticed_and_healed() {
    for damage in [&b""[..], b"sho", b"much too long", b"damaged!"] {
        let (_keep, out) = scratch();
        let digest = commit(&Arc::new(Layout::create(&out).unwrap()), b"content!", "a");
        let layer = Digest::of(b"content!");
        fs::write(blob_path(&out, &layer), damage).unwrap();
        let manifest = fs::read(blob_path(&out, &digest)).unwrap();
        fs::write(blob_path(&out, &digest), &manifest[1..]).unwrap();

        let layout = Arc::new(Layout::open(&out).unwrap());
        assert!(!layout.contains(&Descriptor::new("m", layer, 8)).unwrap());
        assert!(layout.image(None, None).is_err());
        assert_eq!(commit(&layout, b"content!", "a"), digest);
        assert_eq!(fs::read(blob_path(&out, &layer)).unwrap(), b"content!");
        assert_eq!(fs::read(blob_path(&out, &digest)).unwrap(), manifest);
    }
}

#[test]
fn a_blob_that_is_not_what_it_should_be_is_not_stored() {
    let (_keep, out) = scratch();
    let layout = Layout::create(&out).unwrap();
    let expected = Descriptor::of("m", b"expected");
    for (content, reason) in [
        (&b"Expected"[..], "has the digest"),
        (b"short", "expected 8 bytes, found 5"),
        (b"much too long", "longer than"),
    ] {
        let error = layout.store(&expected, &mut &*content).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(layout.store(&expected, &mut std::io::repeat(0)).is_err());
    assert_eq!(fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn a_blob_is_invisible_until_finished() {
    let (_keep, out) = scratch();
    let layout = Layout::create(&out).unwrap();
    let mut writer = layout.blob_writer().unwrap();
    writer.write(b"half").unwrap();
    assert!(!blob_path(&out, &Digest::of(b"half")).exists());
    drop(writer);
    assert_eq!(fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn many_threads_commit_and_no_tag_is_lost() {
    let (_keep, out) = scratch();
    let layouts: Vec<_> = (0..8).map(|_| Arc::new(Layout::create(&out).unwrap())).collect();
    std::thread::scope(|scope| {
        for (number, layout) in layouts.iter().enumerate() {
            scope.spawn(move || commit(layout, &[number as u8], &format!("tag{number}")));
        }
    });
    let index = layouts[0].index().unwrap();
    assert_eq!(index.manifests().len(), 8);
    for number in 0..8 {
        layouts[0].image(Some(&format!("tag{number}")), None).unwrap();
    }
}

#[test]
fn a_held_lock_is_waited_for_and_then_named() {
    let (_keep, out) = scratch();
    let holder = Layout::create(&out).unwrap();
    let guard = holder.lock().unwrap();
    let waiting = Layout::create_locking(&out, LayoutLocking::WaitFor(std::time::Duration::from_millis(20))).unwrap();
    let error = waiting.lock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&format!("locked by pid {}", std::process::id())), "{error}");
    drop(guard);
    waiting.lock().unwrap();
}

#[test]
#[cfg(unix)]
fn links_in_the_place_of_files_are_refused() {
    let (keep, out) = scratch();
    let layout = Arc::new(Layout::create(&out).unwrap());
    let digest = commit(&layout, b"1", "a");
    let outside = keep.path().join("outside");
    fs::rename(blob_path(&out, &digest), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, blob_path(&out, &digest)).unwrap();
    assert!(layout.image(None, None).unwrap_err().to_string().contains("not a regular file"));
    fs::remove_file(out.join(LOCK_FILE)).unwrap();
    std::os::unix::fs::symlink("elsewhere", out.join(LOCK_FILE)).unwrap();
    assert!(layout.lock().unwrap_err().to_string().contains("not a regular file"));
    std::os::unix::fs::symlink(&out, keep.path().join("link")).unwrap();
    Layout::open(&keep.path().join("link")).unwrap();
    std::os::unix::fs::symlink(keep.path().join("nowhere"), keep.path().join("dangling")).unwrap();
    assert!(Layout::create(&keep.path().join("dangling")).is_err());
}

#[test]
fn a_blob_with_a_gap_at_its_start_cannot_be_finished() {
    let keep = tempfile::tempdir().unwrap();
    let layout = Layout::create(&keep.path().join("out")).unwrap();
    let whole = layout.put_document(b"start, end", "text").unwrap();
    let mut hasher = Hasher::sha256();
    hasher.update(b"start, ");
    for fill in [true, false] {
        let mut writer = layout.blob_writer().unwrap();
        let gap = writer.begin_behind(7, hasher.clone()).unwrap();
        writer.write(b"other end").unwrap();
        if fill {
            gap.fill(&layout.open_verified(&whole).unwrap().unwrap()).unwrap();
            let (digest, size) = layout.finish_blob(writer).unwrap();
            assert_eq!((digest, size), (Digest::of(b"start, other end"), 16));
            let descriptor = Descriptor::new("text", digest, size);
            assert!(Layout::open(layout.root().path()).unwrap().contains(&descriptor).unwrap(), "hashed again");
        } else {
            assert!(layout.finish_blob(writer).unwrap_err().to_string().contains("never written"));
        }
    }
    // A blob that is too short does not fill the gap.
    let mut writer = layout.blob_writer().unwrap();
    let gap = writer.begin_behind(11, hasher).unwrap();
    assert!(gap.fill(&layout.open_verified(&whole).unwrap().unwrap()).is_err());
}
