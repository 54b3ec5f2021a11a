//! What of a source goes into an image, and what is said of the rest.

use crate::catalogue::forge::FILE;
use crate::consumers::{Buildah, Layout};
use crate::listers::{Entry, listed_by_us};
use crate::support::{Finished, Scratch, command, consumer_as_root, ocibuild, run};
use ocibuild::codec::tar;
use ocibuild::codec::tar::{EntryType, Header};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;
use std::process::Command;

/// `ocibuild ARGUMENTS`, run in `directory`.
fn program(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = ocibuild();
    command.args(arguments).current_dir(directory);
    command
}

/// What every build of a robot without an environment says.
const ROBOT: [&str; 4] = ["--base", "scratch", "--environment", "direct"];

/// A directory with a robot that needs no environment.
fn robot() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("robot.yaml", "tasks:\n  run:\n    shell: python main.py\nartifactsDir: output\n");
    scratch.write("main.py", "print()\n");
    scratch
}

/// The entries of the layers of the image `latest` in `layout`, which are not compressed.
fn entries(layout: &Path) -> Vec<Entry> {
    let image = Layout::new(layout, "latest");
    let blob = |layer: &Value| image.blob(layer["digest"].as_str().unwrap());
    image.layers().iter().flat_map(|layer| listed_by_us(&blob(layer))).collect()
}

/// The paths of the files among them.
fn files(layout: &Path) -> BTreeSet<String> {
    let file = |entry: Entry| (entry.kind == EntryType::File).then(|| String::from_utf8(entry.path).unwrap());
    entries(layout).into_iter().filter_map(file).collect()
}

/// The lines that say what is excluded.
fn said(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().filter(|line| line.starts_with("excluded ")).collect()
}

/// M1: what a build writes into the robot's directory is not in the next one.
#[test]
fn four_builds_beside_their_own_outputs_give_one_image() {
    let robot = robot();
    let build = || {
        let outputs = ["--save", "robot.tar", "--iidfile", "ids/image", "--digest-file", "ids/manifest"];
        let cache = ["--cache-dir", "cache[1]"];
        run(program(robot.path(), &["layout", "./out"]).args(ROBOT).args(outputs).args(cache)).success()
    };
    fs::create_dir(robot.join("ids")).unwrap();
    let first = build();
    // What another build has in the making, and so holds locked.
    let half = robot.write(format!(".ocibuild-{}", "0123456789abcdef".repeat(2)), "half");
    let living = fs::File::open(half).unwrap();
    living.lock().unwrap();
    let again = [build(), build(), build()];
    for finished in &again {
        assert_eq!(finished.text(), first.text());
        let [line] = said(finished)[..] else { panic!("{finished}") };
        for part in [
            "out/ (the layout)",
            "robot.tar (--save)",
            "ids/image (--iidfile)",
            "ids/manifest (--digest-file)",
            "(a temporary file)",
        ] {
            assert!(line.contains(part), "{part}: {finished}");
        }
    }
}

/// M1: images that other commands wrote are left out at any depth, of robots and of copied directories, unless they are named.
#[test]
fn images_in_a_source_are_excluded_wherever_they_are() {
    let robot = robot();
    let elsewhere = Scratch::new();
    let (out, built) = (elsewhere.join("copied"), elsewhere.join("built"));
    let build = |more: &[&str]| run(program(robot.path(), &["layout"]).arg(&built).args(ROBOT).args(more)).success();
    let copy = |source: &str, more: &[&str]| {
        run(program(robot.path(), &["layout"]).arg(&out).args(["--copy", source, "--compression", "none"]).args(more))
            .success()
    };
    fs::create_dir_all(robot.join("a/deep")).unwrap();
    let of = |arguments: &[&str]| run(&mut program(robot.path(), arguments)).success();
    of(&["layout", "a/deep/layout", "--copy", "main.py:/main.py"]);
    of(&["export", "a/deep/layout", "docker-archive:a/image.docker"]);
    of(&["export", "a/deep/layout", "oci-archive:a/image.oci"]);
    let archive = fs::read(robot.join("a/image.docker")).unwrap();
    robot.write("a/image.tar.gz", crate::catalogue::forge::gzip(&archive));
    crate::catalogue::forge::DockerSaved::new().write(&robot.join("a/saved"));
    of(&["dockerfile", "--context", "a/context", "--base", "scratch", "--copy", "main.py:/main.py"]);
    for finished in [build(&[]), copy(".:/srv", &[])] {
        let [line] = said(&finished)[..] else { panic!("{finished}") };
        assert!(line.starts_with("excluded 6 paths from "), "{finished}");
        for part in
            ["a/deep/layout/ (an image layout)", "a/context/ (a context with an image)", "(an archive of an image)"]
        {
            assert!(line.contains(part), "{part}: {finished}");
        }
        assert!(line.ends_with(" (--dry-run lists all)"), "{finished}");
    }
    assert_eq!(files(&out), ["srv/main.py", "srv/robot.yaml"].map(str::to_owned).into());
    let names: Vec<_> = entries(&out).iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
    assert_eq!(names, ["srv", "srv/a", "srv/a/deep", "srv/main.py", "srv/robot.yaml"]);
    copy(".:/srv", &["--include", "a/image.oci"]);
    assert!(files(&out).contains("srv/a/image.oci"));
    copy("a/deep/layout:/images", &[]);
    assert!(files(&out).contains("images/oci-layout"), "what is named is copied");
    // Tars that hold no image stay, whatever the names in them.
    robot.write("a/plain.tar", tar_of(&[Header { path: b"manifest.json", size: 2, ..FILE }]));
    copy(".:/srv", &[]);
    assert!(files(&out).contains("srv/a/plain.tar"));
}

/// M10: what the rules of robots exclude is said in one line, completely in a dry run and in JSON, and can be kept.
#[test]
fn what_a_robots_rules_exclude_is_said_and_can_be_kept() {
    let robot = robot();
    for file in ["libs/temp/__init__.py", "libs/rcc", "tmp/x", "output/log", ".git/HEAD", "libs/__pycache__/a.pyc"] {
        robot.write(file, "");
    }
    let build = |more: &[&str]| {
        run(program(robot.path(), &["layout", "./out", "--compression", "none"]).args(ROBOT).args(more)).success()
    };
    let finished = build(&[]);
    let [line] = said(&finished)[..] else { panic!("{finished}") };
    assert!(
        line.starts_with("excluded 7 paths from robot ./robot.yaml: ") && line.contains("(robot: temp/)"),
        "{finished}"
    );
    let dry = build(&["--dry-run"]);
    let excluded: Vec<&str> = dry.text().lines().filter(|line| line.starts_with("excluded ")).collect();
    for path in ["libs/temp/", "libs/rcc", "tmp/", "output/", ".git/", "libs/__pycache__/", "out/"] {
        assert!(excluded.iter().any(|line| line.split_whitespace().nth(1) == Some(path)), "{path}: {dry}");
    }
    let reported = |more: &[&str]| {
        let finished = build(&[&["--format", "json"], more].concat());
        serde_json::from_str::<Value>(finished.text()).unwrap()["excluded"].clone()
    };
    let temp = json!({"source": "robot ./robot.yaml", "rule": "robot", "pattern": "temp/", "count": 1, "paths": ["libs/temp/"]});
    for document in [reported(&[]), reported(&["--dry-run"])] {
        assert!(document.as_array().unwrap().contains(&temp), "{document:#}");
    }
    let kept = reported(&["--include", "libs/temp", "--include", "libs/rcc"]);
    assert!(!kept.as_array().unwrap().contains(&temp), "{kept:#}");
    let files = files(&robot.join("out"));
    assert!(files.contains("home/robot/app/libs/temp/__init__.py") && files.contains("home/robot/app/libs/rcc"));
    assert!(!files.contains("home/robot/app/tmp/x"));
    let elsewhere = Scratch::new();
    run(&mut program(elsewhere.path(), &["layout", "out", "--label", "a=b", "--exclude", "x"]))
        .ended_with(2)
        .failed_saying("--exclude: has no effect without --copy or --robot");
}

/// M58: a `.dockerignore` in the root of a copied directory means what it means to builders, and that is said.
#[test]
fn a_dockerignore_means_what_it_means_to_builders() {
    let scratch = Scratch::new();
    let names = [
        "a.md",
        "README.md",
        "docs/a.md",
        "docs/keep/b",
        "docs/keep/c.log",
        "src/x.log",
        "src/deep/x.log",
        "src/x.py",
        "[x]",
        "x",
        "node_modules/p/index.js",
        "app/node_modules/q",
        ".env",
        "app/.env",
        "build/out/a",
        "build/b",
        "{a,b}",
        "a",
        "#note",
        "secret.key",
        "app/secret.key",
        "sub/.dockerignore",
        "last/one",
        "last/two",
    ];
    for name in names {
        scratch.write(Path::new("src").join(name), name);
    }
    let ignore = "\u{feff}# a comment\n*.md\n!README.md\ndocs\n!docs/keep\n/**/*.log\n[x]\n**/node_modules/\n\
        .env\n\n  build/*  \n!build/b\n{a,b}\n\\#note\n**/*.key\n!/app/secret.key\n../outside\nlast\n!last/one\nlast/o?e\n";
    scratch.write("src/.dockerignore", ignore);
    let finished =
        run(&mut program(scratch.path(), &["layout", "out", "--copy", "src:/", "--compression", "none"])).success();
    let ours = files(&scratch.join("out"));
    let [line] = said(&finished)[..] else { panic!("{finished}") };
    assert!(line.contains("from src to /: ") && line.contains("(.dockerignore: "), "{finished}");
    let expected = [
        ".dockerignore",
        "README.md",
        "[x]",
        "a",
        "app/.env",
        "app/secret.key",
        "build/b",
        "docs/keep/b",
        "sub/.dockerignore",
        "src/x.py",
    ];
    assert_eq!(ours, expected.map(str::to_owned).into());
    run(&mut program(
        scratch.path(),
        &["layout", "out", "--copy", "src:/", "--compression", "none", "--include", "docs"],
    ))
    .success();
    assert!(files(&scratch.join("out")).contains("docs/a.md"), "the command line has the last word");
    let Some(buildah) = Buildah::find() else { return };
    scratch.write("src/Dockerfile", "FROM scratch\nCOPY . /\n");
    buildah.build(&scratch.join("src"), &scratch.join("built.tar"));
    let out = scratch.join("theirs").display().to_string();
    run(&mut program(scratch.path(), &["export", "docker-archive:built.tar", &format!("oci:{out}:latest")])).success();
    let mut theirs = files(Path::new(&out));
    theirs.remove("Dockerfile");
    assert_eq!(ours, theirs);
}

/// What `COPY site/*.html /srv/` copies is said with `include`, and a pattern in the place of a source is answered with that.
#[test]
fn files_that_match_a_pattern_are_copied_by_include() {
    let scratch = Scratch::new();
    for file in
        ["site/index.html", "site/a,b.html", "site/style.css", "site/pages/one.html", "site/pages/more/two.html"]
    {
        scratch.write(file, file);
    }
    let copied = |copy: &str| {
        run(&mut program(scratch.path(), &["layout", "out", "--compression=none", "--copy", copy])).success();
        files(&scratch.join("out")).into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(copied("site:/srv,exclude=**,include=*.html"), "srv/a,b.html srv/index.html");
    assert_eq!(copied("site:/srv,exclude=**,include=[^a]*.html"), "srv/index.html");
    assert_eq!(copied("site:/srv,exclude=**,include=page?"), "srv/pages/more/two.html srv/pages/one.html");
    assert_eq!(
        copied("site:/srv,exclude=**,include=**/*.html"),
        "srv/a,b.html srv/index.html srv/pages/more/two.html srv/pages/one.html"
    );
    for (source, advice) in [
        ("site/*.html", "--copy 'site:/srv,exclude=**,include=*.html' copies what matches"),
        ("./site/page?/*.html", "--copy './site:/srv,exclude=**,include=page?/*.html' copies what matches"),
        ("*.html", "--copy '.:/srv,exclude=**,include=*.html' copies what matches"),
        ("/no[a]/x,,y", "--copy '/:/srv,exclude=**,include=no[a]/x,,y' copies what matches"),
    ] {
        let copy = format!("{source}:/srv/");
        let refused = run(&mut program(scratch.path(), &["layout", "out", "--copy", &copy])).ended_with(1);
        let expected = format!("{}: not found (it is a name, not a pattern: {advice})", source.replace(",,", ","));
        refused.failed_saying(&expected);
    }
    // A character like any other, where there is such a file.
    scratch.write("site/*.html", "star");
    assert_eq!(copied("site/*.html:/srv/"), "srv/*.html");
}

fn tar_of(headers: &[Header<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for header in headers {
        tar::append(header, &mut bytes);
        bytes.resize(bytes.len() + (header.size + tar::padding(header.size)) as usize, b'x');
    }
    bytes.extend(tar::END);
    bytes
}

/// Mode and owner of each entry, but for directories that nothing names.
fn access(layout: &Path) -> Vec<(String, u32, u64, u64)> {
    let reported = |entry: Entry| (String::from_utf8(entry.path).unwrap(), entry.mode, entry.uid, entry.gid);
    entries(layout).into_iter().map(reported).collect()
}

/// M60: owners of a tar can be kept, special bits go where their owner goes, and that is said.
#[test]
fn special_bits_survive_only_with_their_owner() {
    let scratch = Scratch::new();
    let root = tar_of(&[
        Header { path: b"etc/shadow", mode: 0o640, gid: 42, ..FILE },
        Header { path: b"tmp", kind: EntryType::Directory, mode: 0o1777, ..FILE },
        Header { path: b"usr/bin/chage", mode: 0o2755, gid: 42, ..FILE },
        Header { path: b"usr/bin/su", mode: 0o4755, ..FILE },
        Header { path: b"usr/bin/theirs", mode: 0o4755, uid: 1000, gid: 1000, ..FILE },
    ]);
    scratch.write("root.tar", root);
    let build = |more: &[&str]| {
        let arguments = ["layout", "out", "--copy", "root.tar:/", "--compression", "none"];
        run(program(scratch.path(), &arguments).args(more)).success()
    };
    let of = |paths: [(&str, u32, u64, u64); 5]| paths.map(|(path, mode, uid, gid)| (path.to_owned(), mode, uid, gid));
    let named = |found: Vec<(String, u32, u64, u64)>| -> Vec<_> {
        found.into_iter().filter(|(path, ..)| !matches!(&**path, "etc" | "usr" | "usr/bin")).collect()
    };
    let finished = build(&["--preserve-modes"]);
    let lost = [
        ("etc/shadow", 0o640, 0, 0),
        ("tmp", 0o1777, 0, 0),
        ("usr/bin/chage", 0o755, 0, 0),
        ("usr/bin/su", 0o4755, 0, 0),
        ("usr/bin/theirs", 0o755, 0, 0),
    ];
    assert_eq!(named(access(&scratch.join("out"))), of(lost));
    let warning = "ocibuild: warning: root.tar to /: setuid, setgid or sticky removed from 2 files \
        whose owner changes: usr/bin/chage 2755, usr/bin/theirs 4755 (--keep-owners preserves both)\n";
    assert!(finished.stderr.contains(warning), "{finished}");
    let finished = build(&["--preserve-modes", "--keep-owners"]);
    let kept = [
        ("etc/shadow", 0o640, 0, 42),
        ("tmp", 0o1777, 0, 0),
        ("usr/bin/chage", 0o2755, 0, 42),
        ("usr/bin/su", 0o4755, 0, 0),
        ("usr/bin/theirs", 0o4755, 1000, 1000),
    ];
    assert_eq!(named(access(&scratch.join("out"))), of(kept));
    assert!(!finished.stderr.contains("warning"), "{finished}");
    run(&mut program(scratch.path(), &["layout", "out", "--copy", "root.tar:/", "--keep-owners", "--chown", "1"]))
        .ended_with(2)
        .failed_saying("cannot be used with");
}

/// M60: owners and special bits of a directory, and what becomes of devices.
#[test]
fn owners_of_a_directory_are_kept_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let file = scratch.write("src/bin/tool", "");
    let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&file).unwrap());
    let owner = if own == 0 { 1234 } else { own };
    if own == 0 {
        std::os::unix::fs::chown(&file, Some(owner), Some(owner)).unwrap();
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let build = |more: &[&str]| {
        let arguments = ["layout", "out", "--copy", "src:/", "--compression", "none", "--preserve-modes"];
        run(program(scratch.path(), &arguments).args(more)).success()
    };
    let finished = build(&[]);
    let tool = || access(&scratch.join("out")).into_iter().find(|(path, ..)| path == "bin/tool").unwrap();
    assert_eq!(tool(), ("bin/tool".to_owned(), 0o755, 0, 0));
    assert!(
        finished.stderr.contains("warning: src: setuid, setgid or sticky removed from 1 file whose owner changes"),
        "{finished}"
    );
    build(&["--keep-owners"]);
    let (_, mode, uid, _) = tool();
    assert_eq!((mode, uid), (0o4755, u64::from(owner)));
    let device = tar_of(&[Header { path: b"dev/null", kind: EntryType::CharacterDevice, ..FILE }, FILE]);
    scratch.write("dev.tar", device);
    let copy = ["layout", "out", "--copy", "dev.tar:/", "--compression", "none"];
    run(&mut program(scratch.path(), &copy))
        .ended_with(1)
        .failed_saying("`/dev/null` is a device or pipe (--skip-special excludes it; container engines create");
    let finished = run(program(scratch.path(), &copy).arg("--skip-special")).success();
    assert_eq!(said(&finished), ["excluded 1 path from dev.tar to /: dev/null (a device, socket or pipe)"]);
}

/// Owners and modes of a minimal Debian, as `debootstrap` leaves them.
const DEBIAN: &str = "\
d 755 0 0 dev
c 666 0 0 dev/null 1,3
c 620 0 5 dev/console 5,1
b 660 0 6 dev/loop0 7,0
d 755 0 0 etc
d 755 0 0 etc/ssl
d 710 0 101 etc/ssl/private
f 640 0 42 etc/gshadow
f 640 0 42 etc/shadow
f 644 0 0 etc/passwd
l 777 0 0 bin usr/bin
d 1777 0 0 run/lock
d 1777 0 0 tmp
d 700 0 0 root
d 755 0 0 usr/bin
f 2755 0 42 usr/bin/chage
f 2755 0 42 usr/bin/expiry
f 4755 0 0 usr/bin/su
f 4754 0 102 usr/lib/dbus-daemon-launch-helper
f 755 0 0 usr/bin/perl
h 755 0 0 usr/bin/perl5.36.0 ./usr/bin/perl
d 2775 0 50 usr/local/share/fonts
d 700 100 0 var/cache/apt/archives/partial
d 2775 0 50 var/local
f 664 0 43 var/log/wtmp
d 2775 0 8 var/mail
d 1777 0 0 var/tmp
";

/// Makes the members below `root`, with their owners: kind, mode, owner, group, path, and a target or device numbers.
fn make_root(root: &Path, members: &[Vec<&str>]) {
    for member in members {
        let (path, number) = (root.join(member[4]), |at: usize| member[at].parse::<u32>().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match member[0] {
            "d" => fs::create_dir_all(&path).unwrap(),
            "f" => fs::write(&path, "bytes").unwrap(),
            "l" => symlink(member[5], &path).unwrap(),
            "h" => fs::hard_link(root.join(member[5]), &path).unwrap(),
            kind => drop(run(command("mknod").arg(&path).arg(kind).args(member[5].split(','))).success()),
        }
        lchown(&path, Some(number(2)), Some(number(3))).unwrap();
        if member[0] != "l" {
            let mode = u32::from_str_radix(member[1], 8).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// M60: the root of a Debian keeps its owners, special bits and sticky directories, and loses its devices; where its owners are
/// not kept, no program runs as another user or group than in the source.
#[test]
fn a_root_file_system_keeps_its_owners_and_special_bits() {
    let Some(tar) = consumer_as_root("tar") else { return };
    let scratch = Scratch::new();
    let members: Vec<Vec<&str>> = DEBIAN.lines().map(|line| line.split(' ').collect()).collect();
    make_root(&scratch.join("root"), &members);
    let build = |flags: &[&str]| {
        let arguments = ["layout", "out", "--base", "scratch", "--copy", "root.tar:/", "--compression", "none"];
        run(program(scratch.path(), &arguments).args(flags))
    };
    let expected = |change: fn(&str, u32, u64, u64) -> (u32, u64, u64)| -> BTreeSet<(String, u32, u64, u64)> {
        let kept = members.iter().filter(|member| !matches!(member[0], "c" | "b"));
        let changed = |member: &Vec<&str>| {
            let mode = u32::from_str_radix(member[1], 8).unwrap();
            let (mode, uid, gid) = change(member[0], mode, member[2].parse().unwrap(), member[3].parse().unwrap());
            (member[4].to_owned(), mode, uid, gid)
        };
        kept.map(changed).collect()
    };
    let found = || -> BTreeSet<(String, u32, u64, u64)> {
        let named = |path: &str| members.iter().any(|member| member[4] == path);
        access(&scratch.join("out")).into_iter().filter(|(path, ..)| named(path)).collect()
    };
    let without_owners = |kind: &str, mode, uid, gid| match kind {
        "f" if uid != 0 => (mode & 0o777, 0, 0),
        "f" if gid != 0 => (mode & !0o2000, 0, 0),
        // On a directory the bits do not grant the rights of its owner.
        _ => (mode, 0, 0),
    };
    for format in ["gnu", "oldgnu", "pax", "ustar"] {
        let mut write = command(&tar);
        write.args(["--create", "--sort=name", "--format", format, "--file"]).arg(scratch.join("root.tar"));
        run(write.arg("--directory").arg(scratch.join("root")).arg(".")).success();
        let lost = build(&["--preserve-modes", "--skip-special"]).success();
        assert_eq!(found(), expected(without_owners), "{format}");
        assert!(lost.stderr.contains("setuid, setgid or sticky removed from 2 files"), "{lost}");
        let kept = build(&["--preserve-modes", "--keep-owners", "--skip-special"]).success();
        assert_eq!(found(), expected(|_, mode, uid, gid| (mode, uid, gid)), "{format}");
        assert!(said(&kept)[0].contains("dev/console"), "{kept}");
        build(&["--preserve-modes", "--keep-owners"]).ended_with(1).failed_saying("is a device or pipe");
    }
}
