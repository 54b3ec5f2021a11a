//! Rows F3 and F7 to F33: what file systems do to a builder. (F1, F2 and F4 are in `injected_faults`, F15 to F18 in
//! `changing_sources`.)

use super::archives::layer_entries;
use super::contract::{self, Bench, build, is_one_line, is_whole, no_temporaries, spec, tags};
use crate::consumers::Layout as Image;
use crate::support::{Finished, command, consumer, consumer_as_root, is_left_out, ocibuild, run};
use ocibuild::common::progress::Silent;
use ocibuild::store::Layout;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

/// Runs a shell script in the scratch directory; `$OCIBUILD` is the program.
fn shell(bench: &Bench, script: &str) -> Finished {
    let mut shell = command("sh");
    shell.args(["-c", script]).env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild")).current_dir(bench.scratch.path());
    run(&mut shell)
}

/// Runs a shell script in a separate mount namespace, as root; `None` if that is not possible.
fn shell_with_mounts(bench: &Bench, script: &str) -> Option<Finished> {
    let unshare = consumer_as_root("unshare")?;
    let mut shell = command(unshare);
    shell.args(["--mount", "sh", "-ec", script]).env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild"));
    Some(run(shell.current_dir(bench.scratch.path())))
}

/// The program, run by the user `nobody`, who can write only to world-writable directories; `None` if that is not possible.
fn as_nobody(bench: &Bench, arguments: &[&str]) -> Option<std::process::Command> {
    crate::support::as_nobody(&bench.scratch, arguments)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn f3_limits_of_the_process_are_named() {
    let bench = Bench::keeping();
    bench.source();
    let large: Vec<u8> =
        (0..3_000_000_u64).flat_map(|number| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect();
    bench.scratch.write("large/file", &large[..4 << 20]);
    let few_files =
        shell(&bench, "ulimit -n 8; exec \"$OCIBUILD\" layout out --quiet --jobs 1 --tag new --copy src:/srv");
    assert_eq!(few_files.status, 1, "F3: {few_files}");
    assert!(few_files.stderr.contains("too many open files"), "F3: {few_files}");
    is_one_line("F3", &few_files, &[]);
    bench.is_intact("F3");
    let enough_files = shell(&bench, "ulimit -n 24; exec \"$OCIBUILD\" layout out --quiet --tag new --copy large:/srv");
    assert_eq!(enough_files.status, 0, "F3: {enough_files}");
    for compression in ["none", "gzip"] {
        let script = format!(
            "ulimit -f 1024; exec \"$OCIBUILD\" layout out --quiet --copy large:/srv --compression {compression} --tag new"
        );
        let small_files = shell(&bench, &script);
        assert_eq!(small_files.status, 1, "F3: {small_files}");
        is_one_line("F3", &small_files, &["out/blobs/sha256", "file too large"]);
        bench.is_intact("F3");
    }
    let long = "x".repeat(300);
    bench.refuses("F3", &mut bench.command(&["layout", &long, "-q", "--label", "a=b"]), &["file name too long"]);
    bench.refuses("F3", bench.layout().arg("--copy").arg(format!("{long}:/srv")), &["file name too long"]);
}

#[test]
fn f3_places_that_may_not_be_written_are_named() {
    let bench = Bench::keeping();
    bench.source();
    let Some(mut unwritable) = as_nobody(&bench, &["layout", "out", "-q", "--tag", "new", "--copy", "src:/srv"]) else {
        return;
    };
    bench.refuses("F3", &mut unwritable, &["out", "permission denied"]);
    let mut parent = as_nobody(&bench, &["layout", "elsewhere/deep", "-q", "--copy", "src:/srv"]).unwrap();
    bench.refuses("F13", &mut parent, &["elsewhere", "cannot create directory: permission denied"]);
    let script = "mount --bind out out && mount -o remount,ro,bind out && exec \"$OCIBUILD\" layout out -q --tag new --copy src:/srv";
    if let Some(read_only) = shell_with_mounts(&bench, script) {
        assert_eq!(read_only.status, 1, "F3: {read_only}");
        is_one_line("F3", &read_only, &["out", "read-only file system"]);
        bench.is_intact("F3");
    }
}

#[test]
fn f7_a_layout_one_page_too_small_keeps_what_it_has() {
    let bench = Bench::keeping();
    bench.scratch.write(
        "src/file",
        (0..60_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<u8>>(),
    );
    let script = r#"
        mkdir small; mount -t tmpfs -o size=96k none small; cp -r out/. small
        before=$(sha256sum <small/index.json)
        set +e
        "$OCIBUILD" layout small -q --tag new --compression none --copy src:/srv; echo "status $?"
        set -e
        test "$before" = "$(sha256sum <small/index.json)"
        find small -name '.ocibuild-*'
        "$OCIBUILD" verify small -q
        df small | tail -1 >&2"#;
    let Some(ran) = shell_with_mounts(&bench, script) else { return };
    let ran = ran.success().printed("status 1\n");
    let line = ran.stderr.lines().next().unwrap();
    assert_eq!(
        line, "ocibuild: error: src to /srv: small/blobs/sha256: cannot write a blob: no space left on device",
        "F7"
    );
}

#[test]
fn f8_f9_damaged_blobs_are_healed_by_the_same_command() {
    if is_left_out() {
        return;
    }
    for damage in ["empty", "short", "long", "other bytes", "missing", "a link", "a directory"] {
        let bench = Bench::keeping();
        bench.source();
        let again = || run(bench.layout().args(["--tag", "new", "--copy", "src:/srv", "--label", "a=b"])).success();
        let digest = again().text().to_owned();
        let image = Image::new(&bench.out, "new");
        let layer = image.layers()[0]["digest"].as_str().unwrap().to_owned();
        for blob in [layer, image.config_digest(), image.manifest_digest()] {
            let path = image.blob(&blob);
            let whole = fs::read(&path).unwrap();
            let mut other = whole.clone();
            other[whole.len() / 2] ^= 1;
            fs::remove_file(&path).unwrap();
            match damage {
                "empty" => fs::write(&path, b"").unwrap(),
                "short" => fs::write(&path, &whole[1..]).unwrap(),
                "long" => fs::write(&path, [&whole[..], b"x"].concat()).unwrap(),
                "other bytes" => fs::write(&path, other).unwrap(),
                "missing" => {}
                "a link" => symlink("elsewhere", &path).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            if damage == "a directory" {
                bench.refuses_damage(
                    &blob,
                    bench.layout().args(["--tag", "new", "--copy", "src:/srv", "--label", "a=b"]),
                );
                fs::remove_dir(&path).unwrap();
            }
            let healed = again();
            assert_eq!(healed.text(), digest, "F8 {damage}");
            let notices = match damage {
                "empty" | "short" | "long" | "other bytes" => 1,
                _ => 0,
            };
            let notice = format!("blob {blob}: was damaged; written again");
            assert_eq!(healed.stderr.matches(&notice).count(), notices, "F8 {damage}: {}", healed.stderr);
            assert_eq!(fs::read(&path).unwrap(), whole, "F8 {damage}");
            assert!(fs::symlink_metadata(&path).unwrap().is_file(), "F8 {damage}");
            bench.is_intact("F8");
        }
    }
}

impl Bench {
    /// Damage that cannot be repaired is an error, and is not removed.
    #[track_caller]
    fn refuses_damage(&self, blob: &str, command: &mut std::process::Command) {
        let before = fs::read(self.out.join("index.json")).unwrap();
        let refused = run(command);
        assert_eq!(refused.status, 1, "F8: {refused}");
        is_one_line("F8", &refused, &[&blob[7..], "is a directory"]);
        assert_eq!(fs::read(self.out.join("index.json")).unwrap(), before, "F8");
        no_temporaries("F8", self.scratch.path());
    }
}

#[test]
fn f10_an_index_that_cannot_be_read_is_never_replaced() {
    if is_left_out() {
        return;
    }
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let spoil: [Spoil<'_>; 10] = [
        ("empty", &|index| fs::write(index, b"").unwrap(), "not JSON"),
        ("truncated", &|index| fs::write(index, &fs::read(index).unwrap()[..50]).unwrap(), "not JSON"),
        ("garbage", &|index| fs::write(index, [0xff; 100]).unwrap(), "not JSON"),
        ("an array", &|index| fs::write(index, b"[]").unwrap(), "`schemaVersion` is not 2"),
        ("9 MiB", &|index| fs::write(index, vec![b' '; 9 << 20]).unwrap(), "larger than 8 MiB"),
        (
            "another version",
            &|index| fs::write(index, br#"{"schemaVersion":3,"manifests":[]}"#).unwrap(),
            "`schemaVersion` is not 2",
        ),
        (
            "without manifests",
            &|index| fs::write(index, br#"{"schemaVersion":2}"#).unwrap(),
            "an index without `manifests`",
        ),
        (
            "a link",
            &|index| {
                fs::rename(index, index.with_file_name("moved")).unwrap();
                symlink("moved", index).unwrap();
            },
            "not a regular file",
        ),
        (
            "a directory",
            &|index| {
                fs::remove_file(index).unwrap();
                fs::create_dir(index).unwrap();
            },
            "not a regular file",
        ),
        ("missing", &|index| fs::remove_file(index).unwrap(), "not found"),
    ];
    for (name, spoil, reason) in spoil {
        let bench = Bench::keeping();
        bench.source();
        let index = bench.out.join("index.json");
        spoil(&index);
        let before = fs::symlink_metadata(&index).ok();
        let bytes = fs::read(&index).ok();
        for arguments in [
            &["layout", "out", "-q", "--copy", "src:/srv"][..],
            &["export", "out", "oci:copy", "-q"],
            &["inspect", "out", "-q"],
        ] {
            let refused = run(&mut bench.command(arguments));
            assert_eq!(refused.status, 1, "F10 {name}: {refused}");
            is_one_line(&format!("F10 {name}"), &refused, &["out/index.json: ", reason]);
        }
        assert_eq!(
            fs::symlink_metadata(&index).ok().map(|is| (is.file_type(), is.len())),
            before.map(|was| (was.file_type(), was.len())),
            "F10 {name}"
        );
        assert_eq!(fs::read(&index).ok(), bytes, "F10 {name}");
        no_temporaries("F10", bench.scratch.path());
        let verified = run(&mut bench.command(&["verify", "out"])).ended_with(1);
        assert!(verified.text().contains(reason), "F10 {name}: {verified}");
    }
    let bench = Bench::keeping();
    bench.source();
    set_mode(&bench.out.join("index.json"), 0);
    set_mode(&bench.out, 0o777);
    if let Some(mut unreadable) = as_nobody(&bench, &["layout", "out", "-q", "--copy", "src:/srv"]) {
        bench.refuses("F10", &mut unreadable, &["out/index.json: cannot open: permission denied"]);
    }
}

/// F10: a nested index that cannot be read is not taken for one without the image.
#[test]
fn f10_a_nested_index_that_cannot_be_read_is_named() {
    let bench = Bench::keeping();
    let index = bench.out.join("index.json");
    let inner = fs::read(&index).unwrap();
    let mut outer: serde_json::Value = serde_json::from_slice(&inner).unwrap();
    let image = outer["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let digest = ocibuild::Digest::of(&inner);
    let blob = bench.out.join("blobs/sha256").join(digest.hex());
    fs::write(&blob, &inner).unwrap();
    outer["manifests"] = serde_json::json!([{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(), "size": inner.len(),
    }]);
    fs::write(&index, outer.to_string()).unwrap();
    let name = format!("oci:out@{image}");
    run(&mut bench.command(&["inspect", &name])).success();
    set_mode(&blob, 0);
    let Some(mut nobody) = as_nobody(&bench, &["inspect", &name]) else { return };
    let refused = run(&mut nobody).ended_with(1);
    assert!(refused.stderr.contains(&format!("{}: cannot open: permission denied", digest.hex())), "F10: {refused}");
}

#[test]
fn f11_a_directory_without_oci_layout_is_not_treated_as_a_new_layout() {
    if is_left_out() {
        return;
    }
    for (mark, reason) in [
        (None, "`oci-layout` is missing"),
        (Some(&b""[..]), "not JSON"),
        (Some(br#"{"imageLayoutVersion":"1.1.0"}"#), "unsupported layout version 1.1.0, expected 1.0.0"),
        (Some(br#"{"imageLayoutVersion":1}"#), "expected a string"),
    ] {
        let bench = Bench::keeping();
        bench.source();
        match mark {
            None => fs::remove_file(bench.out.join("oci-layout")).unwrap(),
            Some(bytes) => fs::write(bench.out.join("oci-layout"), bytes).unwrap(),
        }
        let index = fs::read(bench.out.join("index.json")).unwrap();
        for arguments in
            [&["layout", "out", "-q", "--copy", "src:/srv"][..], &["verify", "out", "-q"], &["inspect", "out"]]
        {
            let refused = run(&mut bench.command(arguments));
            assert_eq!(refused.status, 1, "F11: {refused}");
            is_one_line("F11", &refused, &["out: not an OCI layout: ", reason]);
        }
        assert_eq!(fs::read(bench.out.join("index.json")).unwrap(), index, "F11");
        assert!(!bench.out.join(".ocibuild.lock").exists(), "F11");
    }
}

#[test]
fn f12_f13_a_layout_is_created_in_new_and_empty_directories_only() {
    let bench = Bench::empty();
    bench.source();
    let build_into = |output: &str| bench.command(&["layout", output, "-q", "--copy", "src:/srv"]);
    bench.scratch.write("file", "x");
    bench.refuses("F12", &mut build_into("file"), &["file: ", "not a directory"]);
    bench.scratch.write("full/stranger", "x");
    bench.refuses("F12", &mut build_into("full"), &["full: not an OCI layout, and not empty"]);
    assert_eq!(fs::read_dir(bench.scratch.join("full")).unwrap().count(), 1, "F12");
    symlink("nowhere", bench.scratch.join("dangling")).unwrap();
    bench.refuses("F12", &mut build_into("dangling"), &["dangling: not found"]);
    assert!(!bench.scratch.join("nowhere").exists(), "F12");
    run(&mut build_into("a/new/place")).success();
    is_whole("F13", &bench.scratch.join("a/new/place"));
    symlink("a/new/place", bench.scratch.join("link")).unwrap();
    run(&mut build_into("link")).success();
    is_whole("F12", &bench.scratch.join("a/new/place"));
    fs::create_dir(bench.scratch.join("empty")).unwrap();
    run(&mut build_into("empty")).success();
    bench.refuses_usage("F12", &mut build_into(""), &["an empty path"]);
    for output in [".", "..", "/"] {
        bench.refuses("F12", &mut build_into(output), &[]);
    }
}

#[test]
fn f14_reading_needs_no_right_to_write() {
    let bench = Bench::keeping();
    let commands = [
        &["verify", "out", "-q"][..],
        &["inspect", "out:keep"],
        &["export", "out:keep", "docker-archive:f.tar:a/b:c", "-q"],
        &["export", "out:keep", "oci:copy:keep", "-q"],
        &["layout", "new", "-q", "--base", "oci:out:keep"],
    ];
    let quoted: Vec<String> =
        commands.iter().map(|arguments| format!("\"$OCIBUILD\" {}", arguments.join(" "))).collect();
    let script = format!("mount --bind out out && mount -o remount,ro,bind out && {}", quoted.join(" && "));
    if let Some(ran) = shell_with_mounts(&bench, &script) {
        ran.success();
    }
    assert!(!bench.out.join(".ocibuild.lock").exists(), "F14");
    set_mode(bench.scratch.path(), 0o777);
    for arguments in
        [&["verify", "out", "-q"][..], &["inspect", "out:keep"], &["export", "out:keep", "oci-archive:g.tar", "-q"]]
    {
        let Some(mut reader) = as_nobody(&bench, arguments) else { break };
        run(&mut reader).success();
    }
    assert!(!bench.out.join(".ocibuild.lock").exists(), "F14");
}

#[test]
fn f19_links_are_data_and_special_files_are_refused() {
    let bench = Bench::keeping();
    bench.scratch.write("src/sub/file", "x");
    let src = bench.scratch.join("src");
    symlink(".", src.join("loop")).unwrap();
    symlink("b", src.join("a")).unwrap();
    symlink("a", src.join("b")).unwrap();
    symlink("../..", src.join("sub/up")).unwrap();
    symlink("/dev/zero", src.join("endless")).unwrap();
    run(bench.layout().args(["--tag", "new", "--compression", "none", "--copy", "src:/"])).success();
    let links: Vec<(Vec<u8>, Vec<u8>)> = layer_entries(&bench.out, "new")
        .into_iter()
        .filter(|entry| entry.kind == ocibuild::codec::tar::EntryType::Symlink)
        .map(|entry| (entry.path, entry.link))
        .collect();
    let expected = [("a", "b"), ("b", "a"), ("endless", "/dev/zero"), ("loop", "."), ("sub/up", "../..")];
    assert_eq!(links, expected.map(|(path, link)| (path.into(), link.into())), "F19");
    let pipe = src.join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    bench.refuses("F19", bench.layout().args(["--copy", "src:/"]), &["src/pipe: not a file"]);
    fs::remove_file(&pipe).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(src.join("socket")).unwrap();
    bench.refuses("F19", bench.layout().args(["--copy", "src:/"]), &["src/socket: not a file"]);
    for flags in [&["--skip-special"][..], &["--exclude", "socket"]] {
        run(bench.layout().args(["--tag", "new", "--copy", "src:/"]).args(flags)).success();
    }
    drop(socket);
    bench.refuses("F19", bench.layout().args(["--copy", "/dev/zero:/x"]), &["/dev/zero: not a regular file"]);
    bench.refuses("F19", bench.layout().args(["--copy", "src/a:/x"]), &["src/a: "]);
}

#[test]
fn f20_files_without_read_permission_are_named() {
    let bench = Bench::empty();
    bench.scratch.write("files/sub/secret", "x");
    bench.scratch.write("directories/sub/closed/x", "x");
    set_mode(&bench.scratch.join("files/sub/secret"), 0);
    set_mode(&bench.scratch.join("directories/sub/closed"), 0);
    set_mode(bench.scratch.path(), 0o777);
    for (copy, reason) in [
        ("files:/srv", "files/sub/secret: cannot open: permission denied"),
        ("directories:/srv", "directories/sub/closed: cannot read directory: permission denied"),
        ("files/sub/secret:/srv", "files/sub/secret: cannot open: permission denied"),
        ("directories/sub/closed:/srv", "directories/sub/closed/.dockerignore: cannot open: permission denied"),
    ] {
        let Some(mut nobody) = as_nobody(&bench, &["layout", "out", "-q", "--copy", copy]) else { return };
        bench.refuses("F20", &mut nobody, &[reason]);
    }
}

#[test]
fn f21_names_are_bytes_and_hard_links_stay_links() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::keeping();
    let names: [&[u8]; 9] = [
        b"\xff\xfe",
        b"new\nline",
        b"tab\t",
        b"quote\"'",
        "grün".as_bytes(),
        "gru\u{308}n".as_bytes(),
        b"CON",
        b"trailing. ",
        &[b'n'; 255],
    ];
    for name in names {
        bench.scratch.write(Path::new("src").join(std::ffi::OsStr::from_bytes(name)), name);
    }
    for name in ["z", "y", "x"] {
        fs::hard_link(bench.scratch.join("src/CON"), bench.scratch.join("src").join(name)).unwrap();
    }
    run(bench.layout().args(["--tag", "new", "--compression", "none", "--copy", "src:/"])).success();
    let entries = layer_entries(&bench.out, "new");
    for name in names {
        assert!(entries.iter().any(|entry| entry.path == name && entry.size == name.len() as u64), "F21 {name:?}");
    }
    let links: Vec<_> =
        entries.iter().filter(|entry| entry.kind == ocibuild::codec::tar::EntryType::HardLink).collect();
    assert_eq!(
        links.iter().map(|link| (&link.path[..], &link.link[..])).collect::<Vec<_>>(),
        [(&b"x"[..], &b"CON"[..]), (b"y", b"CON"), (b"z", b"CON")]
    );
    bench.is_intact("F21");
}

#[test]
fn f22_a_file_with_holes_is_the_same_as_one_without() {
    let bench = Bench::keeping();
    let content = |dense: bool| {
        let path = bench.scratch.write(if dense { "dense/file" } else { "sparse/file" }, b"start");
        let file = fs::File::options().write(true).open(path).unwrap();
        if dense {
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; 9 << 20], 5).unwrap();
        }
        file.set_len(9 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", (9 << 20) - 3).unwrap();
    };
    content(true);
    content(false);
    bench.scratch.write("dense/empty", b"");
    bench.scratch.write("sparse/empty", b"");
    let digest = |source: &str| {
        run(bench.layout().args(["--tag", "new", "--copy", &format!("{source}:/srv")])).success().text().to_owned()
    };
    assert_eq!(digest("dense"), digest("sparse"), "F22");
}

#[test]
fn f23_mounts_are_a_warning_and_proc_is_refused() {
    let bench = Bench::keeping();
    bench.scratch.write("src/file", "x");
    fs::create_dir(bench.scratch.join("src/mounted")).unwrap();
    let script = "mount -t tmpfs none src/mounted; echo x >src/mounted/inner; exec \"$OCIBUILD\" layout out -q --tag new --compression none --copy src:/";
    if let Some(mounted) = shell_with_mounts(&bench, script) {
        let warned = mounted.success().stderr;
        assert_eq!(
            warned, "ocibuild: warning: src/mounted: a mount point of another file system; its content is copied too\n",
            "F23"
        );
        assert!(layer_entries(&bench.out, "new").iter().any(|entry| entry.path == b"mounted/inner"), "F23");
    }
    bench.refuses("F23", bench.layout().args(["--copy", "/proc/self:/x", "--skip-special"]), &["/proc/self"]);
}

#[test]
fn f30_modes_of_the_layout_follow_the_umask_and_the_image_does_not() {
    let mut digests = Vec::new();
    for (umask, mode) in [("000", 0o666), ("022", 0o644), ("077", 0o600), ("777", 0)] {
        let bench = Bench::empty();
        bench.scratch.write("src/file", "x");
        bench.scratch.write("src/tool", "x");
        set_mode(&bench.scratch.join("src/file"), 0o640);
        set_mode(&bench.scratch.join("src/tool"), 0o700);
        let is_root = consumer_as_root("setpriv").is_some();
        if umask == "777" && !is_root {
            continue;
        }
        let built = shell(
            &bench,
            &format!(
                "umask {umask}; \"$OCIBUILD\" layout out -q --copy src:/srv && \"$OCIBUILD\" export out docker-archive:f.tar -q"
            ),
        );
        digests.push(built.success().text().to_owned());
        let image = Image::new(&bench.out, "latest");
        for file in [
            bench.out.join("index.json"),
            bench.out.join("oci-layout"),
            image.blob(&image.config_digest()),
            bench.scratch.join("f.tar"),
        ] {
            // Configs and layers are read-only.
            let mode = if file.starts_with(bench.out.join("blobs")) { mode & 0o444 } else { mode };
            assert_eq!(
                fs::metadata(&file).unwrap().permissions().mode() & 0o777,
                mode,
                "F30 {umask} {}",
                file.display()
            );
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "F30: {digests:?}");
}

#[test]
fn f31_the_temporary_directory_is_not_used() {
    let bench = Bench::keeping();
    bench.source();
    for tmpdir in ["/nonexistent", "/proc", ""] {
        run(bench.layout().args(["--tag", "new", "--copy", "src:/srv"]).env("TMPDIR", tmpdir)).success();
    }
    bench.scratch.write("source.tar", super::forge::tar(&[]));
    run(bench.layout().args(["--tag", "new", "--copy", "source.tar:/srv"]).env("TMPDIR", "/nonexistent")).success();
    bench.is_intact("F31");
}

#[test]
fn f32_a_file_system_that_cannot_sync_is_warned_of_once() {
    let Some(strace) = consumer("strace") else { return };
    for errno in ["EINVAL", "ENOTTY", "EOPNOTSUPP"] {
        let bench = Bench::keeping();
        bench.source();
        let mut traced = command(&strace);
        traced.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync",
            "-e",
            &format!("inject=fsync:error={errno}"),
        ]);
        traced.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["layout", "out", "-q", "--tag", "new", "--copy", "src:/srv"]);
        let built = run(traced.current_dir(bench.scratch.path()));
        assert_eq!(built.status, 0, "F32 {errno}: {built}");
        assert_eq!(built.stderr.lines().count(), 1, "F32: {built}");
        assert!(built.stderr.contains("warning: out: this file system does not support fsync"), "F32: {built}");
        bench.is_intact("F32");
    }
}

#[test]
fn f33_a_layout_that_is_moved_or_removed_meanwhile_touches_nothing_else() {
    let bench = Bench::keeping();
    let spec = spec(&bench.source());
    let moved = bench.scratch.join("moved");
    let layout = Arc::new(Layout::create(&bench.out).unwrap());
    let plan = spec().plan(layout.root(), None, &Silent).unwrap();
    fs::rename(&bench.out, &moved).unwrap();
    contract::copy_directory(&moved, &bench.out);
    let error = plan.build(&layout, None, &["new".parse().unwrap()], &Silent).unwrap_err();
    assert_eq!(error.kind(), ocibuild::ErrorKind::Changed, "F33: {error}");
    assert_eq!(tags(&moved), ["keep", "new"], "F33");
    assert_eq!(tags(&bench.out), ["keep"], "F33");
    is_whole("F33", &moved);

    let layout = Arc::new(Layout::create(&moved).unwrap());
    fs::remove_dir_all(&moved).unwrap();
    let error = plan.build(&layout, None, &["new".parse().unwrap()], &Silent).unwrap_err();
    assert_eq!(error.kind(), ocibuild::ErrorKind::NotFound, "F33: {error}");
    assert!(!moved.exists(), "F33");
    bench.is_intact("F33");
}

#[test]
fn f34_outputs_of_a_build_are_checked_before_it() {
    let bench = Bench::keeping();
    let source = format!("{}:/srv", bench.source().display());
    for flag in ["--iidfile", "--digest-file"] {
        bench.refuses("F34", bench.layout().args(["--copy", &source, flag, "absent/file"]), &["absent: not found"]);
        bench.refuses("F34", bench.layout().args(["--copy", &source, flag, "src"]), &["src: is a directory"]);
    }
    let one = ["--iidfile", "one", "--digest-file", "./one"];
    bench.refuses_usage("L5", bench.layout().args(["--copy", &source]).args(one), &["--digest-file"]);
    run(bench.layout().args(["--tag", "new", "--copy", &source, "--iidfile", "id", "--digest-file", "digest"]))
        .success();
    let image = Image::new(&bench.out, "new");
    assert_eq!(fs::read_to_string(bench.scratch.join("id")).unwrap(), image.config_digest());
    assert_eq!(fs::read_to_string(bench.scratch.join("digest")).unwrap(), image.manifest_digest());
}

/// A name as files in the making have.
const DEAD: &str = ".ocibuild-00000000000000000000000000000000";

#[test]
fn s3_a_killed_writer_s_files_are_swept_by_the_next() {
    let bench = Bench::keeping();
    for name in [format!("out/{DEAD}"), format!("out/blobs/sha256/{DEAD}")] {
        bench.scratch.write(name, "half");
    }
    build(&spec(&bench.source()), &bench.out, "new").unwrap();
    no_temporaries("S3", &bench.out);
    // A locked file belongs to a running process.
    let alive = fs::File::create(bench.out.join("blobs/sha256/.ocibuild-11111111111111111111111111111111")).unwrap();
    alive.lock().unwrap();
    build(&spec(&bench.source()), &bench.out, "new").unwrap();
    assert_eq!(contract::temporaries(&bench.out).len(), 1);
    drop(alive);
    assert!(run(ocibuild().arg("verify").arg(&bench.out)).success().text().ends_with(": no errors found"));
}
