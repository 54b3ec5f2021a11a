//! The layers below a layer: links and directories of the base, compared with what `COPY` of buildah does with them.

use crate::consumers::{Buildah, Layout};
use crate::support::{Finished, Scratch, ocibuild, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A base with links, odd directories and programs, in the layout `base`; sources beside it.
struct Yard {
    scratch: Scratch,
}

impl Yard {
    fn new() -> Yard {
        let scratch = Scratch::new();
        let root = scratch.join("root");
        for directory in ["opt/v2/plugins", "tmp", "bin", "srv/real", "etc", "usr/lib", "var/lib/app"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for (link, target) in [
            ("opt/current", "v2"),
            ("opt/newest", "/opt/./current"),
            ("lib", "usr/lib"),
            ("srv/file", "real/f"),
            ("srv/dangling", "nowhere/../somewhere"),
            ("srv/circle", "circle"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        for (file, content) in [
            ("srv/real/f", "content"),
            ("opt/v2/base", "content"),
            ("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:7:7::/:/bin/sh\n"),
            ("bin/arm", "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\u{28}\0........"),
            ("bin/good", "#!/bin/sh\n"),
        ] {
            fs::write(root.join(file), content).unwrap();
        }
        for (path, mode) in [
            ("tmp", 0o1777),
            ("opt/v2/plugins", 0o2775),
            ("bin/arm", 0o755),
            ("bin/good", 0o755),
            ("var/lib/app", 0o750),
        ] {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        for (path, owner) in [("opt/v2/plugins", 7), ("var/lib/app", 999)] {
            rustix::fs::chown(
                root.join(path),
                Some(rustix::fs::Uid::from_raw(owner)),
                Some(rustix::fs::Gid::from_raw(owner)),
            )
            .ok();
        }
        let yard = Yard { scratch };
        yard.scratch.write("tool", "tool");
        yard.scratch.write("site/page", "page");
        yard.scratch.write("rootfs/lib/module", "module");
        yard
    }

    /// The same with the base as a layout, made by buildah, which keeps modes and owners.
    fn with_base() -> Option<Yard> {
        let yard = Yard::new();
        Buildah::find()?.image_of(&yard.scratch.join("root"), "good", &yard.base());
        Some(yard)
    }

    fn base(&self) -> Layout {
        Layout::new(self.scratch.join("base"), "v1")
    }

    fn ocibuild(&self) -> Command {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        command
    }

    fn build(&self, arguments: &[&str]) -> Finished {
        run(self.ocibuild().args(["layout", "out", "--base", "oci:base:v1"]).args(arguments))
    }

    fn built(&self) -> Layout {
        Layout::new(self.scratch.join("out"), "latest")
    }
}

/// M9, M20: links on the way are followed and directories on the way stay what they are, as `COPY` has it.
#[test]
fn links_and_parent_directories_are_handled_as_by_copy() {
    let (Some(yard), Some(buildah)) = (Yard::with_base(), Buildah::find()) else { return };
    for (source, destination) in [
        ("tool", "/opt/current/plugins/tool"),
        ("tool", "/opt/newest/plugins/tool"),
        ("tool", "/opt/newest/new/deep/tool"),
        ("tool", "/tmp/tool"),
        ("tool", "/var/lib/app/tool"),
        ("tool", "/lib/tool"),
        ("tool", "/opt/current/"),
        ("tool", "/srv/file"),
        ("tool", "/srv/dangling/tool"),
        ("site", "/tmp/"),
        ("site", "/opt/current/"),
        ("site", "/var/lib/app/"),
        ("site", "/opt/new/"),
    ] {
        yard.build(&["--copy", &format!("{source}:{destination}")]).success();
        let expected = buildah.copied(&yard.base(), &yard.scratch.join(source), destination);
        assert_eq!(buildah.files(&yard.built()), expected, "{source} to {destination}");
    }
    run(yard.ocibuild().args(["verify", "out"])).success();
}

/// M9, M20: what would replace a link or a directory of the base is refused, with the real path.
#[test]
fn files_that_would_replace_links_or_directories_are_refused() {
    let Some(yard) = Yard::with_base() else { return };
    for (copy, reason, hint) in [
        ("site:/opt/current", "/opt/current: is a link to /opt/v2 in a layer below", "copy to /opt/v2"),
        ("rootfs:/", "/lib: is a link to /usr/lib in a layer below", "copy to /usr/lib"),
        ("tool:/opt/current", "/opt/current: is a link to /opt/v2", "end DST with a slash"),
        ("tool:/opt/v2", "/opt/v2: is a directory in a layer below", "end DST with a slash"),
        ("site:/srv/real/f", "/srv/real/f: is a file in a layer below", "first --remove /srv/real/f"),
        ("tool:/etc/passwd/tool", "/etc/passwd: is a file in a layer below", ""),
        ("tool:/srv/circle/tool", "/srv/circle: is a symbolic link loop in a layer below", ""),
        ("tool:/srv/file/tool", "/srv/file: is a link to /srv/real/f in a layer below, which is not a directory", ""),
    ] {
        yard.build(&["--copy", copy]).ended_with(1).failed_saying(reason).failed_saying(hint);
    }
    // What an earlier layer has removed is not there any more.
    yard.build(&["--remove", "/opt/current", "--copy", "site:/opt/current"]).success();
    // So are the layers of this image: the link is one of ours here.
    fs::create_dir(yard.scratch.join("links")).unwrap();
    symlink("v2", yard.scratch.join("links/mine")).unwrap();
    yard.build(&["--copy", "links:/opt/", "--copy", "tool:/opt/mine/tool", "--remove", "/opt/mine/base"]).success();
    let built = yard.built();
    let paths = |layer: usize| listed(&built, layer);
    assert_eq!(paths(2), ["opt/", "opt/v2/", "opt/v2/tool"]);
    assert_eq!(paths(3), ["opt/", "opt/v2/", "opt/v2/.wh.base"]);
    let warned = yard.build(&["--copy", "site:/tmp"]).success().stderr;
    assert!(warned.contains("/tmp: is 1777 0:0 below, and becomes 0755 0:0"), "{warned}");
}

/// The names in a layer, by GNU tar.
fn listed(image: &Layout, layer: usize) -> Vec<String> {
    let blob = image.blob(image.layers()[layer]["digest"].as_str().unwrap());
    let listed = run(crate::support::command("tar").args(["--list", "--gzip", "--file"]).arg(blob)).success();
    listed.text().lines().map(str::to_owned).collect()
}

/// M8: only what is there is removed.
#[test]
fn a_missing_path_cannot_be_removed() {
    let Some(yard) = Yard::with_base() else { return };
    let missing = "/etc/nosuch: not found in the layers below, so there is nothing to remove";
    yard.build(&["--remove", "/etc/nosuch"]).ended_with(1).failed_saying(missing);
    run(yard.ocibuild().args(["layout", "out", "--remove", "/etc/nosuch"])).ended_with(1).failed_saying(missing);
    yard.build(&["--remove", "/etc/passwd", "--remove", "/etc/passwd"])
        .ended_with(1)
        .failed_saying("/etc/passwd: not found in the layers below");
    yard.build(&["--remove", "/etc/passwd"]).success();
    yard.build(&["--remove", "/opt/current/base"]).success();
    assert_eq!(listed(&yard.built(), 1), ["opt/", "opt/v2/", "opt/v2/.wh.base"]);
}

/// M14: what cannot run is said when the image is built.
#[test]
fn commands_that_cannot_run_are_a_warning() {
    let Some(yard) = Yard::with_base() else { return };
    for (arguments, warning) in [
        (&["--user", "nonroot"][..], Some("user nonroot: not in the image's /etc/passwd")),
        (&["--user", "app:staff"], Some("group staff: the image has no /etc/group")),
        (&["--user", "app"], None),
        (&["--user", "1234:5"], None),
        (&["--entrypoint", "/app/nosuch"], Some("entrypoint /app/nosuch: not found in the image")),
        (&["--entrypoint", "nosuch"], Some("entrypoint nosuch: not found in the image's PATH")),
        (&["--entrypoint", "/opt/current/base"], Some("/opt/v2/base is not executable: its mode is 0644")),
        (&["--entrypoint", "/bin/arm"], Some("/bin/arm is a program for arm, and the image is for linux/amd64")),
        (&["--entrypoint", "good"], None),
        (&["--entrypoint", "/bin/good", "--cmd", "a $HOME"], Some("--cmd: `$HOME` is passed to the program unchanged")),
        (&["--entrypoint", "good a && b"], Some("--entrypoint: `&&` is passed to the program unchanged")),
        (&["--entrypoint", "good > log"], Some("--entrypoint: `>` is passed to the program unchanged")),
        (&["--entrypoint", r#"["/bin/sh", "-c", "a && b $PORT"]"#], Some("entrypoint /bin/sh: not found in the image")),
        (&["--copy", "root/bin/good:/app/nosuch", "--entrypoint", "/app/nosuch"], None),
        (
            &["--copy", "root/bin/arm:/app/arm"],
            Some("/app/arm: is a program for arm, and the image is for linux/amd64"),
        ),
        (&["--copy", "accounts:/etc/", "--user", "nonroot"], None),
        (&["--remove", "/bin/good"], Some("entrypoint good: not found in the image's PATH")),
    ] {
        yard.scratch.write("accounts/passwd", "nonroot:x:5:5::/:\n");
        let warned = yard.build(arguments).success().stderr;
        let lines: Vec<&str> = warned.lines().filter(|line| line.contains("warning: ")).collect();
        match warning {
            Some(warning) => assert!(lines.len() == 1 && lines[0].contains(warning), "{arguments:?}: {warned}"),
            None => assert!(lines.is_empty(), "{arguments:?}: {warned}"),
        }
    }
}

/// M20: with a listing, without one, with a damaged one and without a cache the image has the same bytes.
#[test]
fn listings_never_change_the_bytes_of_an_image() {
    let Some(yard) = Yard::with_base() else { return };
    let build = |cache: &str| {
        let mut command = yard.ocibuild();
        command.args(["layout", "out", "--base", "oci:base:v1", "--copy", "tool:/opt/newest/plugins/tool"]);
        run(command.args(["--copy", "site:/tmp/"]).env("OCIBUILD_NO_CACHE", cache)).success()
    };
    let expected = build("1");
    assert!(!yard.scratch.join("cache/listings").exists());
    let cold = build("0");
    assert!(cold.stderr.contains("list sha256:"), "{cold}");
    let listing = only_file(&yard.scratch.join("cache/listings/v1"));
    let whole = fs::read(&listing).unwrap();
    let warm = build("0");
    assert!(!warm.stderr.contains("list sha256:"), "{warm}");
    assert_eq!((&cold.stdout, &warm.stdout), (&expected.stdout, &expected.stdout));
    for at in [0, 20, 60, 90, 110, 121, 127, 130, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        for bytes in [&damaged, &whole[..at]] {
            fs::remove_file(&listing).unwrap();
            fs::write(&listing, bytes).unwrap();
            assert_eq!(build("0").stdout, expected.stdout, "byte {at}");
            assert_eq!(fs::read(&listing).unwrap(), whole, "made again: byte {at}");
        }
    }
}

fn only_file(directory: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// M21: an edit keeps the base that the image has, and the same edit gives the same image again.
#[test]
fn an_edit_of_an_image_keeps_its_base() {
    let Some(yard) = Yard::with_base() else { return };
    let base = |image: &Layout| image.manifest()["annotations"]["org.opencontainers.image.base.digest"].clone();
    let name = |image: &Layout| image.manifest()["annotations"]["org.opencontainers.image.base.name"].clone();
    yard.build(&["--copy", "site:/app", "--annotation", "vendor=us", "-t", "team/app:v1"]).success();
    let image = Layout::new(yard.scratch.join("out"), "v1");
    let below = base(&image);
    assert_eq!(below, yard.base().manifest_digest());
    let edits: Vec<String> = (0..4)
        .map(|_| {
            let edit = ["layout", "out", "--base", "oci:out:v1", "--label", "a=b", "-t", "team/app:v1"];
            run(yard.ocibuild().args(edit)).success().text().to_owned()
        })
        .collect();
    assert!(edits.iter().all(|digest| *digest == edits[0]), "{edits:?}");
    assert_eq!((base(&image), name(&image)), (below, serde_json::Value::Null), "a name on this machine is no origin");
    assert_eq!(image.manifest()["annotations"]["vendor"], "us");
    // An image that names no base has none after an edit, either.
    run(yard.ocibuild().args(["layout", "own", "--copy", "site:/app"])).success();
    run(yard.ocibuild().args(["layout", "own", "--base", "oci:own", "--label", "a=b"])).success();
    assert_eq!(base(&Layout::new(yard.scratch.join("own"), "latest")), serde_json::Value::Null);
}
