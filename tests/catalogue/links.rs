//! One file in several layouts and in the cache: where that happens, where it does not, and who lives with it.

use super::contract::{Bench, is_whole, tags};
use crate::support::{LoopDisk, command, consumer_as_root, install_ocibuild, run};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The build of `src` into the layout `out`, with a cache beside it.
fn build(bench: &Bench, out: &str) -> Command {
    let mut build = bench.command(&["layout", out, "-q", "-t", "new", "--copy", "src:/srv", "--cache-dir", "cache"]);
    build.env_remove("OCIBUILD_NO_CACHE");
    build
}

/// Every blob of a layout.
fn blobs(layout: &Path) -> Vec<PathBuf> {
    let mut blobs: Vec<PathBuf> =
        fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    blobs.sort();
    blobs
}

/// The only blob of the cache in `directory`, which is the layer.
fn cached(directory: &Path) -> PathBuf {
    let blobs = blobs(&directory.join("cache/store"));
    assert_eq!(blobs.len(), 1);
    blobs[0].clone()
}

fn layer(out: &Path, directory: &Path) -> PathBuf {
    out.join("blobs/sha256").join(cached(directory).file_name().unwrap())
}

/// M28: what may be in several places is read-only; what skopeo writes in place is not.
#[test]
fn layers_and_configs_are_read_only() {
    let bench = Bench::keeping();
    bench.source();
    run(&mut build(&bench, "out")).success();
    let image = crate::consumers::Layout::new(&bench.out, "new");
    for blob in blobs(&bench.out) {
        let is_manifest = image.manifest_digest().ends_with(blob.file_name().unwrap().to_str().unwrap());
        let mode = blob.metadata().unwrap().permissions().mode() & 0o777;
        let keep = crate::consumers::Layout::new(&bench.out, "keep").manifest_digest();
        let is_manifest = is_manifest || keep.ends_with(blob.file_name().unwrap().to_str().unwrap());
        assert_eq!(mode & 0o222 == 0, !is_manifest, "{}: {mode:o}", blob.display());
    }
}

/// M28: a file that belongs to another user, or that anybody can write to, does not get into the cache.
#[test]
fn files_that_others_can_change_are_copied_and_not_linked() {
    if consumer_as_root("setpriv").is_none() {
        return;
    }
    let give_away = |blob: &Path| std::os::unix::fs::chown(blob, Some(1000), None).unwrap();
    let open_to_all = |blob: &Path| fs::set_permissions(blob, fs::Permissions::from_mode(0o666)).unwrap();
    let changes: [&dyn Fn(&Path); 2] = [&give_away, &open_to_all];
    for (name, change) in ["another user's", "writable"].into_iter().zip(changes) {
        let bench = Bench::empty();
        bench.source();
        run(&mut build(&bench, "out")).success();
        let blob = layer(&bench.out, bench.scratch.path());
        fs::remove_file(cached(bench.scratch.path())).unwrap();
        change(&blob);
        run(build(&bench, "out").args(["-t", "again"])).success();
        let (cached, blob) = (cached(bench.scratch.path()).metadata().unwrap(), blob.metadata().unwrap());
        assert_ne!(cached.ino(), blob.ino(), "{name}");
        assert_eq!((cached.uid(), cached.mode() & 0o222), (0, 0), "{name}");
    }
}

/// M28: where blocks can be shared, files are not: what happens to one never reaches another.
#[test]
fn blocks_are_shared_where_the_file_system_can() {
    let Some(disk) = LoopDisk::new("xfs") else { return };
    let directory = disk.join("work");
    fs::create_dir_all(directory.join("src")).unwrap();
    fs::write(directory.join("src/file"), crate::support::random::Random::new(1).bytes(8 << 20)).unwrap();
    let bench = Bench::empty();
    for out in ["first", "second"] {
        run(build(&bench, out).current_dir(&directory)).success();
    }
    let files = ["first", "second"].map(|out| layer(&directory.join(out), &directory));
    let mut inodes = files.each_ref().map(|file| file.metadata().unwrap().ino()).to_vec();
    inodes.push(cached(&directory).metadata().unwrap().ino());
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), 3);
    let extents = run(command("xfs_io").args(["-r", "-c", "fiemap -v"]).arg(&files[1])).success();
    let is_shared = |line: &str| {
        let flags = line
            .split_whitespace()
            .last()
            .and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
        flags.is_some_and(|flags| flags & 0x2000 != 0)
    };
    assert!(extents.text().lines().any(is_shared), "{extents}");
    is_whole("M28", &directory.join("second"));
}

/// M28: other tools, run by the user who built the layout, write beside us and remove what they like.
#[test]
fn others_write_beside_read_only_blobs() {
    let (Some(setpriv), Some(skopeo), Some(umoci)) =
        (consumer_as_root("setpriv"), crate::support::consumer("skopeo"), crate::support::consumer("umoci"))
    else {
        return;
    };
    let bench = Bench::empty();
    bench.source();
    fs::set_permissions(bench.scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = install_ocibuild(bench.scratch.path());
    let as_user = |program: &Path, arguments: &[&str]| {
        let mut user = command(&setpriv);
        user.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(arguments);
        user.env("HOME", bench.scratch.path()).current_dir(bench.scratch.path());
        run(&mut user).success()
    };
    as_user(&program, &["layout", "out", "-q", "-t", "v1", "--copy", "src:/srv"]);
    for tag in ["oci:out:v2", "oci:out:v2", "oci:other:v1"] {
        as_user(&skopeo, &["--insecure-policy", "copy", "-q", "oci:out:v1", tag]);
    }
    as_user(&umoci, &["tag", "--image", "out:v1", "v3"]);
    as_user(&umoci, &["config", "--image", "out:v1", "--tag", "v4", "--config.user=1000"]);
    assert_eq!(tags(&bench.out), ["v1", "v2", "v3", "v4"]);
    is_whole("M28", &bench.out);
    for tag in ["v1", "v2", "v3"] {
        as_user(&umoci, &["rm", "--image", &format!("out:{tag}")]);
    }
    as_user(&umoci, &["gc", "--layout", "out"]);
    as_user(&program, &["layout", "out", "-q", "-t", "v1", "--copy", "src:/srv"]);
    is_whole("M28", &bench.out);
    as_user(Path::new("/bin/rm"), &["-rf", "out", "other"]);
}
