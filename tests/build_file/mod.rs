//! `ocibuild.toml`, held against the command line that it stands for.

mod images;
mod random_file;
mod same_digest;
mod schema;

use crate::consumers::Layout;
use crate::support::{Finished, Scratch, ocibuild, run};
use serde_json::json;
use std::fs;

/// A scratch directory with something to copy.
fn bench() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("app/main", "#!/bin/sh\n");
    scratch.write("app/notes.md", "notes");
    scratch.write("app/a,b", "comma");
    scratch
}

/// `ocibuild ARGUMENTS` in `scratch`.
#[track_caller]
fn program(scratch: &Scratch, arguments: &[&str]) -> Finished {
    run(ocibuild().current_dir(scratch.path()).env("LEVEL", "3").args(arguments))
}

/// The digest that a build with `ocibuild.toml` prints, after the file was written.
#[track_caller]
fn built(scratch: &Scratch, file: &str, arguments: &[&str]) -> String {
    scratch.write("ocibuild.toml", file);
    let words = [&["layout", "out", "--quiet"], arguments].concat();
    program(scratch, &words).success().text().to_owned()
}

/// The digest that a command line prints.
#[track_caller]
fn typed(scratch: &Scratch, arguments: &[&str]) -> String {
    fs::remove_file(scratch.join("ocibuild.toml")).ok();
    let words = [&["layout", "out", "--quiet"], arguments].concat();
    program(scratch, &words).success().text().to_owned()
}

#[test]
fn a_file_and_its_command_line_give_one_digest() {
    let scratch = bench();
    scratch.write("base/etc/os-release", "ID=none\n");
    program(&scratch, &["layout", "lower", "--copy", "app:/x,,y", "--platform=linux/arm64"]).success();
    scratch.write("vars.env", "A=1\n");
    let file = r#"
        platform = ["linux/arm64"]
        user = 1000
        entrypoint = ["/app/main", "a b"]
        cmd = "-v 'x y'"
        expose = [8080, "53/udp"]
        env-file = ["vars.env"]
        created = 2024-01-02T03:04:05Z
        volume = "/data"
        compression = "zstd"
        compression-level = 7
        chmod = 0o640
        tls-verify = true
        no-cache = false
        health-retries = 2
        healthcheck = ["/bin/check"]
        base = "oci:lower"
        remove = ["/x,y"]

        [env]
        LEVEL = 4
        "odd.name" = "${LEVEL} $HOME"

        [label]
        "org.example" = "a=b"

        [annotation]
        "org.example.kind" = "test"

        [[mkdir]]
        path = "/before"
        mode = 0o1777

        [[copy]]
        source = "./app"
        destination = "/app"
        chown = "7:8"
        chmod = "0750"
        exclude = ["*.md"]

        [[copy]]
        source = "app/a,b"
        destination = "/c,d"

        [[file]]
        path = "/etc/motd"
        mode = "0600"
        text = """
hello, world
= two
"""

        [[symlink]]
        target = "app/main"
        path = "/run"

        [[add-user]]
        name = "app"
        uid = 1000
        home = "/srv"

        [[add-group]]
        name = "staff"
        gid = 50

        [[layer]]
        description = "last, not least"

        [[copy]]
        source = "base"
        destination = "/"
        keep-owners = true
        preserve-modes = true
    "#;
    let words = [
        "--platform=linux/arm64",
        "--user=1000",
        r#"--entrypoint=["/app/main","a b"]"#,
        "--cmd=-v 'x y'",
        "--expose=8080",
        "--expose=53/udp",
        "--env-file=vars.env",
        "--created=2024-01-02T03:04:05Z",
        "--volume=/data",
        "--compression=zstd",
        "--compression-level=7",
        "--chmod=0640",
        "--health-retries=2",
        "--healthcheck=/bin/check",
        "--base=oci:lower",
        "--remove=/x,y",
        "-eLEVEL=4",
        "-eodd.name=${LEVEL} $HOME",
        "--label=org.example=a=b",
        "--annotation=org.example.kind=test",
        "--mkdir=/before,mode=1777",
        "--copy=./app:/app,chown=7:8,chmod=0750,exclude=*.md",
        "--copy=app/a,,b:/c,,d",
        "--file=mode=0600,/etc/motd=hello, world\n= two\n",
        "--symlink=app/main:/run",
        "--add-user=app:1000:1000:/srv",
        "--add-group=staff:50",
        "--layer=last, not least",
        "--copy=base:/,keep-owners,preserve-modes",
    ];
    assert_eq!(built(&scratch, file, &[]), typed(&scratch, &words));
    let swapped: Vec<&str> = words.iter().rev().copied().collect();
    assert_ne!(built(&scratch, file, &[]), typed(&scratch, &swapped), "the order of layers is that of the file");
}

#[test]
fn build_reads_the_file_of_the_directory_and_writes_where_it_says() {
    let scratch = bench();
    scratch.write("ocibuild.toml", "tag = \"a:v1\"\noutput = \"oci:made\"\ncopy = \"app:/app\"\n");
    let digest = program(&scratch, &["build", "--quiet"]).success().text().to_owned();
    assert_eq!(Layout::new(scratch.join("made"), "v1").manifest_digest(), digest);
    assert_eq!(program(&scratch, &["build", "-q", "-o", "oci:other"]).success().text(), digest);
    assert_eq!(Layout::new(scratch.join("other"), "v1").manifest_digest(), digest);
    let elsewhere = program(&scratch, &["build", "-o", "oci:typed", "--copy", "app/main:/main"]).success();
    assert!(elsewhere.stderr.contains("ocibuild.toml: not read, because --copy says"), "{elsewhere}");
    fs::rename(scratch.join("ocibuild.toml"), scratch.join("app/other.toml")).unwrap();
    program(&scratch, &["build"]).ended_with(2).failed_saying("nothing says where it goes");
    program(&scratch, &["build", "-f", "absent.toml"]).ended_with(1).failed_saying("absent.toml: not found");
}

#[test]
fn paths_are_relative_to_the_file() {
    let scratch = bench();
    scratch.write("app/x.env", "A=1");
    let digest = typed(&scratch, &["--copy", "app/main:/main", "--env-file", "app/x.env"]);
    scratch.write("app/ocibuild.toml", "copy = [\"main:/main\"]\nenv-file = \"./x.env\"\noutput = \"oci:../made\"\n");
    let built = program(&scratch, &["build", "-q", "-f", "app/ocibuild.toml"]).success();
    assert_eq!(built.text(), digest);
    assert!(scratch.join("made/index.json").is_file());
    // The robot and the lock file are looked for beside it, too.
    scratch.write("app/ocibuild.toml", "locked = true\nbase = \"docker://registry.invalid/a\"\n");
    program(&scratch, &["layout", "out", "-f", "app/ocibuild.toml"]).failed_saying("app/ocibuild.lock");
}

#[test]
fn flags_that_are_typed_override_those_of_the_file() {
    let scratch = bench();
    let file = "tag = [\"a:v1\", \"a:v2\"]\nuser = 1\nchown = \"5\"\nenv = [\"A=1\", \"B=1\"]\nunset-env = [\"C\"]\n\
                expose = [1]\ncopy = \"app:/app\"\n";
    let words = ["--user", "2", "-e", "B=2", "-e", "C=3", "--expose", "2", "-t", "b", "--keep-owners"];
    let digest = built(&scratch, file, &words);
    let config = Layout::new(scratch.join("out"), "b").config()["config"].clone();
    assert_eq!(config["Env"], json!(["A=1", "B=2", "C=3"]));
    assert_eq!(config["ExposedPorts"], json!({"1/tcp": {}, "2/tcp": {}}));
    assert_eq!(config["User"], "2");
    let index = fs::read_to_string(scratch.join("out/index.json")).unwrap();
    assert!(!index.contains("\"v1\"") && !index.contains("a:v"), "{index}");
    let all = ["-u", "2", "-e", "A=1", "-e", "B=2", "-e", "C=3", "--expose", "1", "--expose", "2"];
    assert_eq!(digest, typed(&scratch, &[&all[..], &["-t", "b", "--keep-owners", "--copy", "app:/app"]].concat()));
    // A switch of the file cannot be turned off, but by a file above it.
    assert_eq!(built(&scratch, "xattrs = false\ncopy = \"app:/app\"", &[]), typed(&scratch, &["--copy", "app:/app"]));
}

#[test]
fn only_listed_variables_are_replaced() {
    let scratch = bench();
    let file = "variables = [\"LEVEL\"]\nlabel = [\"${LEVEL}=${HOME} $LEVEL\"]\n";
    built(&scratch, file, &[]);
    let labels = Layout::new(scratch.join("out"), "latest").config()["config"]["Labels"].clone();
    assert_eq!(labels, json!({"3": "${HOME} $LEVEL"}));
}

#[test]
fn files_import_others() {
    let scratch = bench();
    scratch.write("shared/base.toml", "import = [\"env.toml\"]\nuser = 1\ncopy = \"../app/main:/main\"\n");
    scratch.write("shared/env.toml", "user = 0\nkeep-owners = true\n[env]\nA = 1\nB = 1\n");
    let file = "import = [\"shared/base.toml\"]\nchown = \"7\"\ncopy = \"app:/app\"\n[env]\nB = 2\n";
    let words = ["-u1", "-eA=1", "-eB=2", "--chown=7", "--copy=app/main:/main", "--copy=app:/app"];
    assert_eq!(built(&scratch, file, &[]), typed(&scratch, &words));
    scratch.write("shared/env.toml", "import = [\"base.toml\"]\n");
    scratch.write("ocibuild.toml", file);
    let reason = "shared/env.toml:1:11: shared/base.toml imports this file, so it cannot be imported here";
    program(&scratch, &["layout", "out"]).ended_with(1).failed_saying(reason);
    for number in 0..9 {
        scratch.write(format!("deep/{number}.toml"), format!("import = [\"{}.toml\"]\n", number + 1));
    }
    program(&scratch, &["layout", "out", "-f", "deep/0.toml"])
        .ended_with(1)
        .failed_saying("deep/7.toml:1:11: deep/8.toml would be the 9th file in a row");
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_column() {
    let scratch = bench();
    for (file, message) in [
        ("user = 1\n  bas = \"x\"\n", "bad.toml:2:3: unknown key `bas` (did you mean base?)"),
        ("dry-run = true\n", "bad.toml:1:1: unknown key `dry-run` (that flag is for the command line only)"),
        ("save = \"x\"\n", "bad.toml:1:1: unknown key `save` (that is a flag of `ocibuild layout`"),
        ("tag = 1.0\n", "bad.toml:1:7: `tag` is a text (in quotes: \"1.0\")"),
        ("user = 1\nchown = \"a\"\n", "bad.toml:2:1: chown: owner `a`: not of the form UID[:GID]"),
        ("a =\n", "bad.toml:1:4: "),
        ("FROM debian\n", "it looks like a Dockerfile, which is not read"),
        ("[[copy]]\nsource = \"app\"\n", "bad.toml:1:1: has no `destination`"),
        (
            "[[copy]]\nsource = \"a\"\ndestination = \"/\"\nchmd = 1\n",
            "bad.toml:4:1: unknown key `chmd` (did you mean chmod?)",
        ),
        ("[[copy]]\nsource = \"a:/b\"\ndestination = \"c\"\n", "bad.toml:1:1: `destination` is not an absolute path"),
        ("chmod = 755\n", "bad.toml:1:9: `chmod` is octal (\"0755\" or 0o755)"),
        ("chown = \"1\"\nkeep-owners = true\n", "bad.toml:2:1: the argument '--chown <UID[:GID]>' cannot be used with"),
        ("pull = \"often\"\n", "bad.toml:1:1: invalid value 'often' for '--pull <WHEN>'"),
        ("push = \"yes\"\n", "bad.toml:1:1: `push` is true or false"),
        ("variables = [\"ABSENT\"]\n", "bad.toml:1:14: the variable ABSENT is not set in this environment"),
        ("variables = [\"A-B\"]\n", "bad.toml:1:14: not the name of a variable"),
        ("import = [\"no.toml\"]\n", "bad.toml:1:11: no.toml: not found"),
        ("import = [\"bad.toml\"]\n", "bad.toml:1:11: bad.toml imports this file"),
        ("tag = \"a\"\ntag = \"b\"\n", "bad.toml:2:1: duplicate key"),
        ("name = \"a\"\n", "bad.toml:1:1: `name` is for an `[[image]]`"),
        ("[env]\n\"a=b\" = 1\n", "bad.toml:2:1: `a=b` is no name"),
        ("\"ünit\" = 1\nx = [1, \"é\", é]\n", "bad.toml:2:"),
    ] {
        scratch.write("bad.toml", file);
        let refused = program(&scratch, &["build", "-o", "oci:made", "-f", "bad.toml"]).ended_with(1);
        let refused = refused.failed_saying(message);
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    }
    scratch.write("bad.toml", [b'#', 0xff]);
    program(&scratch, &["build", "-f", "bad.toml"]).ended_with(1).failed_saying("bad.toml: not UTF-8");
    scratch.write("bad.toml", "#".repeat((1 << 20) + 1));
    program(&scratch, &["build", "-f", "bad.toml"]).ended_with(1).failed_saying("bad.toml: larger than 1 MiB");
    scratch.write("bad.toml", format!("a = {}{}\n", "[".repeat(100_000), "]".repeat(100_000)));
    program(&scratch, &["build", "-f", "bad.toml"]).ended_with(1).failed_saying("bad.toml:1:");
    assert!(!scratch.join("made").exists());
}

#[test]
fn a_file_to_begin_with_builds_and_all_of_its_keys_are_real() {
    let scratch = bench();
    assert_eq!(program(&scratch, &["init"]).success().text(), "ocibuild.toml");
    program(&scratch, &["init"]).ended_with(1).failed_saying("ocibuild.toml: exists, and is not overwritten");
    let built = program(&scratch, &["build", "-q"]).success();
    assert_eq!(program(&scratch, &["build", "-q"]).success().text(), built.text(), "the layout is left out");
    program(&scratch, &["init", "other.toml", "--format", "json"]).success().printed("{\"file\":\"other.toml\"}\n");
    let start = fs::read_to_string(scratch.join("other.toml")).unwrap();
    fs::create_dir(scratch.join("My App")).unwrap();
    run(ocibuild().current_dir(scratch.join("My App")).arg("init")).success();
    assert!(fs::read_to_string(scratch.join("My App/ocibuild.toml")).unwrap().contains("\ntag = \"my-app:latest\"\n"));
    // The sentences begin with capitals, the keys and tables do not.
    let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[' || c == 'L');
    let uncommented = start.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line));
    let all: Vec<&str> = uncommented.filter(|line| !line.starts_with("base")).collect();
    assert!(all.contains(&"push = true") && all.contains(&"LEVEL = \"info\""), "{all:?}");
    scratch.write("ocibuild.toml", all.join("\n"));
    program(&scratch, &["build", "--dry-run"]).success();
    program(&scratch, &["init", "absent/x.toml"]).ended_with(1).failed_saying("absent");
    program(&scratch, &["init", "--schema", "x.toml"]).ended_with(2).failed_saying("cannot be used with");
}

#[test]
fn a_command_line_is_written_down() {
    let scratch = bench();
    let words = [
        "--tag=a:v1",
        "--user=7",
        "-eA=1",
        "--copy=./app:/app,exclude=*.md,exclude=a,,b,keep-owners",
        "--ca-certificates",
        "--file=/etc/motd=x",
        "--entrypoint=/app/main 'a b'",
        "--tls-verify=false",
        "--label=a.b=c",
        "--save=docker-archive:saved.tar",
    ];
    let as_toml = ["--dry-run", "--format=toml"];
    let written = program(&scratch, &[&["layout", "out", "-q"], &words[..], &as_toml].concat()).success();
    let expected = r#"output = ["oci:out", "docker-archive:saved.tar"]
tag = ["a:v1"]
tls-verify = false
entrypoint = ["/app/main", "a b"]
user = "7"

[env]
A = "1"

[label]
"a.b" = "c"

[[copy]]
source = "./app"
destination = "/app"
keep-owners = true
exclude = ["*.md", "a,b"]

[ca-certificates]

[[file]]
path = "/etc/motd"
text = "x"
"#;
    assert_eq!(format!("{}\n", written.text()), expected);
    let twice =
        program(&scratch, &["layout", "out", "-q", "-e", "LEVEL", "-e", "A=1", "--dry-run", "--format", "toml"]);
    let text = twice.success().text().to_owned();
    assert!(text.contains("env = [\"LEVEL\", \"A=1\"]"), "the value of the environment is not written: {text}");
    for (words, reason) in [
        (&["layout", "out", "--user=7", "--format", "toml"][..], "--format toml: is for --dry-run"),
        (&["ls", "out", "--format", "toml"], "invalid value 'toml' for '--format <FORMAT>'"),
        (&["layout", "out", "--user=7", "--format", "yaml", "--dry-run"], "[possible values: text, json, toml]"),
    ] {
        program(&scratch, words).ended_with(2).failed_saying(reason);
    }
}

/// What a file can have is what the schema says, and it is a schema that other programs can read.
#[test]
fn the_schema_knows_every_key() {
    let schema: serde_json::Value =
        serde_json::from_str(run(ocibuild().args(["init", "--schema"])).success().text()).unwrap();
    let help = run(ocibuild().args(["build", "--help"])).success().text().to_owned();
    let flags = help.lines().filter_map(|line| Some(line.trim_start().split_once("--")?.1));
    let names = flags.filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next());
    let mut known: Vec<&str> = names.filter(|name| schema["properties"].get(*name).is_some()).collect();
    known.sort_unstable();
    known.dedup();
    let own = ["image", "import", "variables"].len();
    assert_eq!(known.len() + own, schema["properties"].as_object().unwrap().len(), "{known:?}");
    assert_eq!(schema["properties"]["copy"]["anyOf"][0]["anyOf"][1]["required"], json!(["source", "destination"]));
    assert_eq!(schema["properties"]["load"]["anyOf"][0]["enum"], json!(["docker", "podman", "containerd"]));
}
