//! Secrets in the sources of an image, and in what the program says.

use super::forge::Forged;
use crate::support::{Finished, Scratch, command, consumer, is_left_out, ocibuild, run};
use ocibuild::codec::tar::Headers;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// In pieces, so that this file holds none.
const SECRET: &str = concat!("example", "-of-a-test-7");

/// A directory `app` with two files that hold a secret, and some that do not.
fn sources() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("app/.env", format!("DEBUG=1\nDB_PASSWORD={SECRET}\n"));
    scratch.write("app/deep/settings.json", format!("{{\"apiKey\": \"{SECRET}\"}}"));
    scratch.write("app/main.py", "password = os.environ['DB_PASSWORD']\n");
    scratch.write("app/photo.png", format!("DB_PASSWORD={SECRET}\n"));
    scratch
}

fn layout(scratch: &Scratch, more: &[&str]) -> Finished {
    let mut command = ocibuild();
    command.args(["layout", "out", "--base", "scratch", "--copy", "app:/srv", "--compression", "none"]).args(more);
    run(command
        .env_remove("OCIBUILD_NO_CACHE")
        .env("OCIBUILD_CACHE_DIR", scratch.join("cache"))
        .current_dir(scratch.path()))
}

fn warnings(finished: &Finished) -> Vec<String> {
    assert!(!finished.stderr.contains(SECRET), "{finished}");
    let lines = finished.stderr.lines().filter_map(|line| line.strip_prefix("ocibuild: warning: "));
    lines.map(str::to_owned).collect()
}

const BOTH: [&str; 3] = [
    "app to /srv: `/srv/.env`: line 2 looks like a password",
    "app to /srv: `/srv/deep/settings.json`: line 1 looks like a key",
    "image: 2 secrets in 2 files; anyone with the image can read them (--secrets deny fails the build)",
];

/// M18: a secret in a source is a warning with its file and line, in every build, and never its value.
#[test]
fn secrets_in_sources_are_warned_of_in_every_build() {
    let scratch = sources();
    let first = layout(&scratch, &[]).success();
    assert_eq!(warnings(&first), BOTH);
    let again = layout(&scratch, &["--explain"]).success();
    assert!(again.stderr.contains("from the cache") || again.stderr.contains("cache hit"), "{again}");
    assert_eq!((warnings(&again), &again.stdout), (BOTH.map(str::to_owned).to_vec(), &first.stdout));

    // A file with a secret stays, and another one comes and goes.
    scratch.write("app/token.yaml", format!("token: {SECRET}\n"));
    let third = layout(&scratch, &[]).success();
    assert!(
        warnings(&third).contains(&"app to /srv: `/srv/token.yaml`: line 1 looks like a token".to_owned()),
        "{third}"
    );
    assert_eq!(warnings(&third).len(), 4, "{third}");
    fs::remove_file(scratch.join("app/token.yaml")).unwrap();
    scratch.write("app/.env", format!("DEBUG=1\n\n\nDB_PASSWORD={SECRET}\n"));
    let fourth = warnings(&layout(&scratch, &[]).success());
    assert_eq!(fourth[0], "app to /srv: `/srv/.env`: line 4 looks like a password");
    assert_eq!(fourth[1..], BOTH[1..]);
}

/// M18: programs get all of them.
#[test]
fn secrets_are_listed_for_programs() {
    let scratch = sources();
    let listed = layout(&scratch, &["--format", "json"]).success();
    let result: Value = serde_json::from_str(listed.text()).unwrap();
    let expected = serde_json::json!([
        {"source": "app to /srv", "path": "/srv/.env", "line": 2, "looksLike": "a password"},
        {"source": "app to /srv", "path": "/srv/deep/settings.json", "line": 1, "looksLike": "a key"},
    ]);
    assert_eq!(result["secrets"], expected);
    for number in 0..30 {
        scratch.write(format!("app/many/{number:02}.env"), format!("TOKEN={SECRET}\n"));
    }
    let many = layout(&scratch, &[]).success();
    let warnings = warnings(&many);
    assert_eq!(warnings.len(), 11, "{many}");
    assert!(
        warnings[10].contains("32 secrets in 32 files") && warnings[10].contains("22 of them are not shown"),
        "{many}"
    );
}

/// M18: `--secrets deny` publishes nothing, also where the layer is in the cache; `allow` does not search.
#[test]
fn denied_secrets_are_in_no_blob() {
    let scratch = sources();
    let denied = layout(&scratch, &["--secrets", "deny"]).ended_with(1);
    assert_eq!(warnings(&denied), BOTH[..2]);
    let error = "image: 2 secrets in 2 files of its sources, not allowed by --secrets deny";
    assert!(denied.stderr.contains(error), "{denied}");
    assert!(lists_nothing(&scratch));
    assert!(!holds_secret(&scratch.join("out")) && !holds_secret(&scratch.join("cache")));
    assert_eq!(warnings(&layout(&scratch, &["--secrets", "allow"]).success()), [""; 0]);
    fs::remove_dir_all(scratch.join("out")).unwrap();
    layout(&scratch, &["--secrets", "deny"]).ended_with(1).failed_saying(error);
    assert!(lists_nothing(&scratch));
    for file in ["app/.env", "app/deep/settings.json"] {
        fs::remove_file(scratch.join(file)).unwrap();
    }
    assert_eq!(warnings(&layout(&scratch, &["--secrets", "deny"]).success()), [""; 0]);
    // As a Dockerfile.
    let scratch = sources();
    let mut dockerfile = ocibuild();
    dockerfile.args([
        "dockerfile",
        "--context",
        "context",
        "--base",
        "scratch",
        "--copy",
        "app:/srv",
        "--secrets",
        "deny",
    ]);
    run(dockerfile.current_dir(scratch.path())).ended_with(1).failed_saying(error);
    assert!(!holds_secret(&scratch.join("context")));
}

/// Whether the layout names no image.
fn lists_nothing(scratch: &Scratch) -> bool {
    let index: Value = serde_json::from_slice(&fs::read(scratch.join("out/index.json")).unwrap()).unwrap();
    index["manifests"].as_array().unwrap().is_empty()
}

/// Whether a file in a directory holds the secret.
fn holds_secret(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    entries.map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => holds_secret(&path),
        false => fs::read(path).unwrap().windows(SECRET.len()).any(|window| window == SECRET.as_bytes()),
    })
}

/// M18: a text file of any size is searched, and so is UTF-16.
#[test]
fn large_files_and_text_of_windows_are_searched() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    let padding = "nothing = here\n".repeat(300_000);
    scratch.write("app/large.conf", format!("{padding}DB_PASSWORD={SECRET}\n{padding}"));
    let utf_16 = |text: &str| std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let windows: Vec<u8> = utf_16(&format!("[db]\r\npassword = {SECRET}\r\n"));
    scratch.write("app/windows.ini", windows);
    let expected = [
        "app to /srv: `/srv/large.conf`: line 300001 looks like a password",
        "app to /srv: `/srv/windows.ini`: line 2 looks like a password",
        "image: 2 secrets in 2 files; anyone with the image can read them (--secrets deny fails the build)",
    ];
    for _ in ["cold", "warm"] {
        assert_eq!(warnings(&layout(&scratch, &[]).success()), expected);
    }
}

/// M18: a dry run searches as the build does, and fails where the build fails.
#[test]
fn a_dry_run_finds_the_secrets_that_the_build_finds() {
    let scratch = sources();
    let dry = layout(&scratch, &["--dry-run"]).success();
    assert_eq!(warnings(&dry), BOTH);
    let denied = layout(&scratch, &["--dry-run", "--secrets", "deny"]).ended_with(1);
    denied.failed_saying("image: 2 secrets in 2 files of its sources, not allowed by --secrets deny");
    assert_eq!(warnings(&layout(&scratch, &["--dry-run", "--secrets", "allow"]).success()), [""; 0]);
    let listed = layout(&scratch, &["--dry-run", "--format", "json"]).success();
    let result: Value = serde_json::from_str(listed.text()).unwrap();
    assert_eq!(result["secrets"][0]["path"], "/srv/.env");
    assert!(!scratch.join("out").exists());
}

/// M18: a build that takes a layer from the cache reads none of its files, and warns as the first one did.
#[test]
fn a_cache_hit_reads_no_file_for_its_secrets() {
    let Some(strace) = consumer("strace") else { return };
    let scratch = sources();
    // Files that were just written are not believed to be at rest.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let opened = || {
        let mut traced = command(&strace);
        traced.args(["-f", "-qq", "-o", "calls", "-e", "trace=openat,openat2", env!("CARGO_BIN_EXE_ocibuild")]);
        traced.args(["layout", "out", "--base", "scratch", "--copy", "app:/srv"]);
        traced.env_remove("OCIBUILD_NO_CACHE").env("OCIBUILD_CACHE_DIR", scratch.join("cache"));
        let built = run(traced.current_dir(scratch.path())).success();
        assert_eq!(warnings(&built), BOTH);
        fs::read_to_string(scratch.join("calls")).unwrap().matches("settings.json").count()
    };
    assert!(opened() > 0);
    assert_eq!(opened(), 0);
}

/// M18: a file that only its owner can read keeps its mode, unless a mode is given.
#[test]
fn a_private_file_stays_private() {
    let scratch = Scratch::new();
    for (name, mode) in [("closed", 0o600), ("program", 0o700), ("open", 0o640)] {
        let file = scratch.write(format!("app/{name}"), "x");
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }
    let modes = |more: &[&str]| {
        layout(&scratch, more).success();
        let modes = modes_in(&scratch.join("out"));
        ["srv/closed", "srv/program", "srv/open"].map(|name| modes[name])
    };
    assert_eq!(modes(&[]), [0o600, 0o700, 0o644]);
    assert_eq!(modes(&["--chmod", "640"]), [0o640, 0o640, 0o640]);
}

/// The modes in the only layer of a layout, by path.
fn modes_in(out: &Path) -> BTreeMap<String, u32> {
    let read = |digest: &str| fs::read(out.join("blobs").join(digest.replacen(':', "/", 1))).unwrap();
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let index = parse(&fs::read(out.join("index.json")).unwrap());
    let manifest = parse(&read(index["manifests"][0]["digest"].as_str().unwrap()));
    let tar = read(manifest["layers"][0]["digest"].as_str().unwrap());
    let (mut source, mut headers) = (Cursor::new(&tar), Headers::new("layer"));
    let next = || {
        source.set_position(headers.position());
        headers.next(&mut source).unwrap()
    };
    std::iter::from_fn(next).map(|entry| (String::from_utf8(entry.path).unwrap(), entry.mode)).collect()
}

/// M18: what is in a source by accident is reported with its size.
#[test]
fn litter_is_reported_with_its_size() {
    let scratch = Scratch::new();
    scratch.write("app/.git/objects/x", [b'x'; 2048]);
    scratch.write("app/lib/__pycache__/a.pyc", "12345");
    scratch.write("app/lib/a.py", "");
    let built = layout(&scratch, &[]).success();
    let expected =
        "app: contains .git (1 file of 2 KiB), __pycache__ (1 file of 5 B), which is copied too (--exclude skips it)";
    assert_eq!(warnings(&built), [expected]);
    assert_eq!(warnings(&layout(&scratch, &["--exclude", ".git", "--exclude", "**/__pycache__"]).success()), [""; 0]);
}

/// M19: no error shows a password that was typed.
#[test]
fn errors_show_no_password_of_a_name() {
    let scratch = sources();
    layout(&scratch, &[]).success();
    let shown = |words: &[&str]| {
        let finished = run(ocibuild().args(words).current_dir(scratch.path()));
        assert!(finished.status != 0 && !finished.stderr.contains(SECRET), "{finished}");
        assert!(finished.stderr.contains("***"), "{finished}");
        finished.stderr
    };
    let with_scheme = format!("docker://robot:{SECRET}@registry.example/a");
    shown(&["export", "out", &with_scheme]);
    shown(&["export", "out", "--format", "json", &with_scheme]);
    shown(&["layout", "new", "--base", &format!("robot:{SECRET}@registry.example/a")]);
    shown(&["pull", &with_scheme]);
    shown(&["layout", "new", "--base", "scratch", "--copy", "app:/a", "--platform", &with_scheme]);
}

/// M43: nothing of a base becomes an instruction of a Dockerfile.
#[test]
fn a_user_of_the_base_is_no_instruction() {
    for user in ["app\nRUN touch /evil", "app\rx", "app\u{1b}[2J"] {
        let scratch = Scratch::new();
        let forged = Forged::new(scratch.join("base"));
        forged.edit_config(|config| config["config"]["User"] = user.into());
        let mut command = ocibuild();
        command.args(["dockerfile", "--base", &forged.location(), "--remove", "/base"]);
        let refused = run(command.current_dir(scratch.path())).ended_with(1);
        assert!(refused.stderr.contains("user of the base: a Dockerfile cannot contain a"), "{refused}");
        assert!(refused.stdout.is_empty());
    }
}
