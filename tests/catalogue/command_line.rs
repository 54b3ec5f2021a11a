//! Rows L1 to L19: requests that cannot be meant, odd surroundings, and what is said about them. (L18 is about `gc`; L17 is in
//! `verifying`.)

use super::contract::{Bench, is_one_line, tags};
use crate::consumers::Layout as Image;
use crate::support::{command, consumer_as_root, install_ocibuild, is_left_out, ocibuild, run};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

/// Each line of flags is refused as a request that cannot be meant, with these words.
#[track_caller]
fn cannot_be_meant(row: &str, requests: &[(&[&str], &str)]) {
    let bench = Bench::keeping();
    bench.source();
    for (flags, words) in requests {
        bench.refuses_usage(row, bench.layout().args(["--copy", "src:/srv"]).args(*flags), &[words]);
    }
}

#[test]
fn l1_unknown_flags_are_usage_errors() {
    cannot_be_meant(
        "L1",
        &[
            (&["--absent"], "command line: unexpected argument '--absent'"),
            (&["--tag"], "a value is required for '--tag <NAME>'"),
            (&["--base", "scratch", "--base", "scratch"], "cannot be used multiple times"),
            (&["extra"], "unexpected argument 'extra'"),
            (&["--compression", "bzip2"], "invalid value 'bzip2'"),
            (&["--compression-level", "13"], "gzip has levels 1 to 12"),
            (
                &["--compression", "none", "--compression-level", "3"],
                "compression level 3: has no effect without compression",
            ),
            (&["--compression", "zstd", "--compression-level", "20"], "zstd has levels 1 to 19"),
            (&["--jobs", "0"], "--jobs"),
            (&["--chmod", "0644", "--preserve-modes"], "cannot be used with"),
            (&["--ta", "x"], "unexpected argument '--ta'"),
        ],
    );
    let bench = Bench::empty();
    bench.refuses_usage("L1", &mut bench.command(&["absent"]), &["unrecognized subcommand 'absent'"]);
    bench.refuses_usage("L1", &mut bench.command(&["layout"]), &["<OUTPUT>"]);
    bench.refuses_usage("L1", &mut bench.command(&[]), &["command line: no command (see --help)"]);
}

#[test]
fn l2_l3_malformed_tags_are_usage_errors() {
    if is_left_out() {
        return;
    }
    let long = "a".repeat(129);
    let rule = "a tag is 1 to 128 letters";
    cannot_be_meant(
        "L2",
        &[
            (&["--tag", ".bad"], rule),
            (&["--tag=-bad"], rule),
            (&["--tag", &long], rule),
            (&["--tag", "a b"], rule),
            (&["--tag", "a:b:c"], "a repository is"),
            (&["--tag", "ü"], rule),
            (&["--tag", ""], rule),
            (&["--tag", "@"], "invalid digest"),
            (&["--tag", "team/Upper"], "a repository is lower-case"),
            (&["--tag", "a/b:"], rule),
            (
                &["--tag", "a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
                "a digest cannot be chosen",
            ),
        ],
    );
    let bench = Bench::keeping();
    let most = "a".repeat(128);
    for tag in ["v1", "_x", "A.b-c_d", "team/app", "team/app:v2", "reg.io:5000/a/b:v3", &most] {
        run(bench.empty_image().args(["--tag", tag])).success();
    }
    assert_eq!(tags(&bench.out), ["A.b-c_d", "_x", &most, "keep", "latest", "v1", "v2", "v3"], "L2");
}

#[test]
fn l4_platforms_are_normalised_or_refused() {
    for bad in ["linux", "linux/foo", "linux/arm/v9", "all", "linux/amd64/v1/x", ""] {
        cannot_be_meant("L4", &[(&["--platform", bad], "--platform")]);
    }
    let bench = Bench::empty();
    for (text, architecture) in
        [("Linux/AMD64", "amd64"), ("linux/x86_64", "amd64"), ("linux/aarch64", "arm64"), ("linux/arm/v7", "arm")]
    {
        run(bench.empty_image().args(["--platform", text])).success();
        assert_eq!(Image::new(&bench.out, "latest").config()["architecture"], architecture, "L4");
    }
}

#[test]
fn l5_repeated_values_and_outputs_inside_their_source_are_refused() {
    cannot_be_meant(
        "L5",
        &[
            (&["--tag", "a", "--tag", "a"], "tag `a`: given twice"),
            (&["--tag", "team/app:a", "--tag", "docker.io/team/app:a"], "tag `docker.io/team/app:a`: given twice"),
            (&["--label", "a=1", "--label", "a=2"], "--label a: given twice"),
            (&["--env", "A=1", "--env", "A=1"], "--env A: given twice"),
            (&["--env", "A=1", "--unset-env", "A"], "the variable is also set"),
            (&["--annotation", "a=1", "--annotation", "a=1"], "given twice"),
        ],
    );
    let bench = Bench::keeping();
    bench.source();
    bench.refuses(
        "L5",
        bench.layout().args(["--copy", "out:/srv"]),
        &["out: is both the layout and a source of --copy"],
    );
    // Outputs inside a source are excluded, under whatever name the source has.
    run(bench.layout().args(["--tag", "new", "--copy", ".:/srv"])).success();
    symlink(".", bench.scratch.join("here")).unwrap();
    run(bench.layout().args(["--tag", "new", "--copy", "here:/srv"])).success();
    bench.is_intact("L5");
}

#[test]
fn l6_malformed_values_of_flags_are_usage_errors() {
    cannot_be_meant(
        "L6",
        &[
            (&["--env", "A"], "variable `A`: not set in this environment (A=VALUE sets a value)"),
            (&["--env", "=x"], "not of the form KEY=VALUE"),
            (&["--label", "x"], "not of the form KEY=VALUE"),
            (&["--user", "root:root:x"], "not of the form USER[:GROUP]"),
            (&["--user", "a b"], "not of the form USER[:GROUP]"),
            (&["--workdir", "relative"], "not an absolute path"),
            (&["--workdir", "/a/../../b"], "`..` points outside the image"),
            (&["--volume", "data"], "not an absolute path"),
            (&["--expose", "http"], "not of the form PORT"),
            (&["--expose", "65536"], "not of the form PORT"),
            (&["--stop-signal", "TERM"], "neither SIG"),
            (&["--entrypoint", "[1]"], "not a JSON array of strings"),
            (&["--cmd", "'open"], "unterminated quote"),
            (&["--chown", "root"], "numbers"),
            (&["--chmod", "999"], "not an octal number"),
            (&["--copy", "src"], "not of the form SRC:DST"),
            (&["--copy", "src:relative"], "not of the form SRC:DST"),
            (&["--copy", "src:/../x"], "`..` points outside the image"),
            (&["--remove", "x"], "not an absolute path"),
            (&["--remove", "/"], "the root cannot be removed"),
            (&["--exclude", "["], "pattern `[`"),
            (&["--exclude", "../x"], "pattern `../x`"),
            (&["--created", "soon"], "neither RFC 3339 nor a number"),
            (&["--created", "10000-01-01T00:00:00Z"], "--created"),
        ],
    );
    let bench = Bench::keeping();
    let values = [
        "--cmd",
        "-v",
        "--entrypoint",
        "prog 'a b'",
        "--env",
        "A=",
        "--env",
        "B==",
        "--user",
        "1000:0",
        "--tag",
        "new",
    ];
    run(bench.layout().args(values)).success();
    let config = Image::new(&bench.out, "new").config()["config"].clone();
    assert_eq!(
        config,
        serde_json::json!({"Cmd": ["-v"], "Entrypoint": ["prog", "a b"], "Env": ["A=", "B=="], "User": "1000:0"})
    );
}

#[test]
fn l7_a_source_may_be_a_directory_or_a_file_and_must_exist() {
    let bench = Bench::keeping();
    bench.scratch.write("file", "x");
    fs::create_dir(bench.scratch.join("empty")).unwrap();
    bench.refuses("L7", bench.layout().args(["--copy", "absent:/srv"]), &["absent: not found"]);
    bench.refuses("L7", bench.layout().args(["--copy", "file/x:/srv"]), &["file/x: "]);
    bench.refuses("L7", bench.layout().args(["--copy", "empty:/x", "--ignore-file", "absent"]), &["absent: not found"]);
    for copy in ["empty:/", "empty:/srv", "file:/srv", "file:/srv/", "file:/a/b/c"] {
        run(bench.layout().args(["--tag", "new", "--copy", copy])).success();
        bench.is_intact("L7");
    }
    bench.refuses(
        "L7",
        bench.layout().args(["--copy", "file:/"]).args(["--layer", "x", "--copy", "file:/srv", "--copy", "file:/srv"]),
        &["/srv: is in both file to /srv and file to /srv"],
    );
}

#[test]
fn l8_source_date_epoch_is_read_strictly() {
    if is_left_out() {
        return;
    }
    for (epoch, created) in [
        ("-1", None),
        ("now", None),
        ("9223372036854775808", None),
        ("9223372036854775807", None),
        ("1.5", None),
        ("0", Some("1970-01-01T00:00:00Z")),
        ("", Some("1970-01-01T00:00:00Z")),
        ("1700000000", Some("2023-11-14T22:13:20Z")),
        ("253402300800", None),
    ] {
        let bench = Bench::empty();
        let mut build = bench.empty_image();
        build.env("SOURCE_DATE_EPOCH", epoch);
        match created {
            None => drop(bench.refuses_usage("L8", &mut build, &["SOURCE_DATE_EPOCH `", epoch])),
            Some(created) => {
                run(&mut build).success();
                assert_eq!(Image::new(&bench.out, "latest").config()["created"], created, "L8 {epoch}");
            }
        }
        // A flag is stronger.
        run(build.args(["--created", "0"])).success();
    }
}

#[test]
fn l9_an_archive_replaces_files_atomically_and_never_goes_to_a_terminal() {
    let bench = Bench::keeping();
    let export = |to: &str| bench.command(&["export", "out:keep", to, "-q"]);
    bench.scratch.write("old.tar", "");
    bench.scratch.write("target.tar", "");
    symlink("target.tar", bench.scratch.join("link.tar")).unwrap();
    fs::create_dir(bench.scratch.join("directory")).unwrap();
    for file in ["old.tar", "deep/er/new.tar"] {
        for transport in ["oci-archive", "docker-archive"] {
            run(&mut export(&format!("{transport}:{file}"))).success();
            let written = fs::symlink_metadata(bench.scratch.join(file)).unwrap();
            assert!(written.is_file() && written.len() > 5000, "L9 {file}");
        }
    }
    // A link stays one, and leads to the archive then; what is no archive is not replaced through a link, either.
    run(&mut export("docker-archive:link.tar")).success();
    assert!(fs::symlink_metadata(bench.scratch.join("link.tar")).unwrap().is_symlink(), "L9");
    assert!(fs::metadata(bench.scratch.join("target.tar")).unwrap().len() > 5000, "L9");
    bench.scratch.write("target.tar", "untouched");
    bench.refuses("L9", &mut export("docker-archive:link.tar"), &["link.tar: exists and is not an image archive"]);
    assert_eq!(fs::read_to_string(bench.scratch.join("target.tar")).unwrap(), "untouched", "L9");
    bench.refuses("L9", &mut export("oci-archive:directory"), &["directory: is a directory"]);
    bench.refuses("L9", &mut export("docker-archive:out"), &["out: is a directory"]);
    bench.refuses("L9", &mut export("oci:old.tar"), &["old.tar: "]);
    bench.refuses("L9", &mut export("oci:directory/../out/blobs"), &["not an OCI layout"]);
    bench.refuses_usage(
        "L9",
        &mut export("file.tar"),
        &["`file.tar`: not found, and has no transport", "docker-archive:file.tar"],
    );
    bench.refuses_usage("L9", &mut export("oci-archive:"), &["has no path"]);
    bench.refuses_usage("L9", &mut export("docker-archive:f.tar:Upper"), &["reference `Upper`"]);
    bench.refuses_usage("L9", &mut export("oci-archive:f.tar:bad tag"), &["tag `bad tag`"]);
    // Its own layout is a destination like any other.
    run(&mut export("oci:out:again")).success();
    assert_eq!(tags(&bench.out), ["again", "keep"], "L9");
    if crate::support::consumer("script").is_some() {
        let mut terminal = command("script");
        let export = format!("{} export out:keep - -q", env!("CARGO_BIN_EXE_ocibuild"));
        let refused =
            run(terminal.args(["-qec", &export, "/dev/null"]).current_dir(bench.scratch.path())).ended_with(2);
        assert!(refused.text().contains("an archive cannot be written to a terminal"), "L9: {refused}");
    }
}

#[test]
fn l10_closed_streams_cause_no_panic() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    bench.source();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        for (line, status) in [
            ("layout out -q --tag new --copy src:/srv", 0),
            ("layout out --tag new --copy src:/srv", 0),
            ("verify out", 0),
            ("inspect out:keep", 0),
            ("layout out -q --base oci:absent", 1),
            ("--absent", 2),
            ("--help", 0),
        ] {
            let script = format!("exec \"$OCIBUILD\" {line} {closed}");
            let mut shell = command("sh");
            shell
                .args(["-c", &script])
                .env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild"))
                .current_dir(bench.scratch.path());
            run(&mut shell).ended_with(status);
        }
        bench.is_intact("L10");
    }
    // A full disk behind standard output is an error.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = bench.command(&["inspect", "out:keep"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "L10: {output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "ocibuild: error: standard output: cannot write: no space left on device\n"
    );
}

#[test]
fn l11_paths_that_are_not_unicode_work() {
    let bench = Bench::keeping();
    let name = std::ffi::OsStr::from_bytes(b"\xff-dir");
    bench.scratch.write(std::path::Path::new(name).join("file"), "x");
    let mut out = std::ffi::OsString::from("out-");
    out.push(name);
    let mut build = ocibuild();
    build.current_dir(bench.scratch.path()).arg("layout").arg(&out).args(["-q", "--copy"]);
    let mut copy = name.to_owned();
    copy.push(":/srv");
    run(build.arg(&copy)).success();
    run(ocibuild().current_dir(bench.scratch.path()).args(["verify", "-q"]).arg(&out)).success();

    for odd in ["new\nline", "\u{1b}[31mred", "\u{202e}backwards", "tab\there"] {
        let refused = run(bench.layout().args(["--copy", &format!("{odd}:/srv")]));
        is_one_line("L11", &refused, &["not found"]);
        assert!(!refused.stderr.trim_end().contains(|c: char| c.is_control() || c == '\u{202e}'), "L11: {refused}");
        let refused = run(&mut bench.command(&["export", &format!("out:{odd}"), "oci:copy", "-q"]));
        is_one_line("L11", &refused, &["no image"]);
        let refused = run(bench.layout().args(["--tag", odd]));
        is_one_line("L11", &refused, &["command line"]);
    }
}

#[test]
fn l12_flags_that_exclude_each_other_are_usage_errors() {
    let repository = "docker://127.0.0.1:1/cache";
    cannot_be_meant(
        "L12",
        &[
            (&["--lock", "--locked"], "'--lock' cannot be used with '--locked'"),
            (&["--no-cache", "--cache-from", repository], "'--no-cache' cannot be used with '--cache-from"),
            (&["--chown", "1:1", "--keep-owners"], "cannot be used with"),
            (&["--base", "oci:out:keep", "--sparse"], "not in a registry, which --sparse requires"),
        ],
    );
    let bench = Bench::keeping();
    bench.source();
    let words = ["build", "-q", "-t", "127.0.0.1:1/app:v1", "--copy", "src:/srv", "--push"];
    let offline = "network access is disabled (--offline)";
    bench.refuses_usage("L12", bench.command(&words).arg("--offline"), &[offline]);
    bench.refuses_usage("L12", bench.command(&words).arg("--sparse"), &["cannot be used with"]);
    let target = "docker://127.0.0.1:1/app:v1";
    bench.refuses_usage("L12", &mut bench.command(&["export", "out:keep", target, "--offline"]), &[offline]);
    bench.refuses_usage("L12", &mut bench.command(&["pull", target, "--offline"]), &[offline]);
    let both = ["export", "out:keep", "oci:copy", "--all-platforms", "--platform", "linux/amd64"];
    bench.refuses_usage("L12", &mut bench.command(&both), &["'--all-platforms' cannot be used with '--platform"]);
    bench.refuses_usage("L12", &mut bench.command(&["verify", "out", "--from", "out"]), &["--repair"]);
}

#[test]
fn l13_thousands_of_tags_labels_and_layers_are_built_or_refused() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    bench.source();
    let names = |count: usize, flag: &'static str, value: &'static str| {
        (0..count)
            .flat_map(move |number| [flag.to_owned(), value.replace('#', &number.to_string())])
            .collect::<Vec<_>>()
    };
    run(bench.empty_image().args(names(9_999, "--tag", "t#"))).success();
    assert_eq!(tags(&bench.out).len(), 10_000, "L13");
    bench.refuses(
        "L13",
        bench.empty_image().args(["--tag", "one-more"]),
        &["index.json: would contain 10001 images, more than 10000"],
    );
    run(bench.layout().args(["--tag", "t0", "--label", "a=b"])).success();
    run(bench.layout().args(["--tag", "t1"]).args(names(10_000, "--label", "l#=x"))).success();
    bench.refuses("L13", bench.layout().args(names(501, "--layer", "number #")), &["image: 501 layers, more than 500"]);
    bench.is_intact("L13");
    let other = Bench::keeping();
    let many = run(other.layout().args(["--tag", "new"]).args(names(500, "--layer", "number #"))).success();
    assert_eq!(
        many.stderr, "ocibuild: warning: image: 500 layers; Docker cannot run images with more than 125\n",
        "L13"
    );
}

#[test]
fn l14_escape_codes_are_written_to_terminals_only() {
    let bench = Bench::keeping();
    bench.source();
    for (variable, value) in [("TERM", "dumb"), ("NO_COLOR", "1"), ("TERM", "xterm-256color")] {
        for arguments in
            [&["layout", "out", "--tag", "new", "--copy", "src:/srv"][..], &["--help"], &["layout", "--bad"]]
        {
            let ran = run(bench.command(arguments).env(variable, value));
            assert!(!ran.stderr.contains('\u{1b}') && !ran.stdout.contains(&0x1b), "L14: {ran}");
        }
    }
}

#[test]
fn l15_locales_change_no_byte() {
    let bench = Bench::keeping();
    bench.source();
    let outputs: Vec<_> = ["C", "tr_TR.UTF-8", "en_US.UTF-8", "no such locale"]
        .iter()
        .map(|locale| {
            let built =
                run(bench.layout().args(["--tag", "INDIA", "--copy", "src:/srv"]).env("LC_ALL", locale)).success();
            let refused = run(bench.layout().args(["--base", "oci:absent"]).env("LC_ALL", locale));
            (built.stdout, refused.stderr)
        })
        .collect();
    assert!(outputs.iter().all(|output| *output == outputs[0]), "L15: {outputs:?}");
}

#[test]
fn l16_help_needs_no_environment() {
    for arguments in [["--help"], ["--version"]] {
        let mut bare = std::process::Command::new(env!("CARGO_BIN_EXE_ocibuild"));
        run(bare.args(arguments).env_clear()).success();
        run(ocibuild().args(arguments).env_remove("HOME").env("SOURCE_DATE_EPOCH", "x").env("PATH", "")).success();
        let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$OCIBUILD\" \"$0\"";
        let bench = Bench::empty();
        let mut shell = command("sh");
        shell
            .args(["-c", script, arguments[0]])
            .env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild"))
            .current_dir(bench.scratch.path());
        run(&mut shell).success();
    }
}

#[test]
fn l19_variables_that_sound_secret_are_warned_of_without_their_value() {
    let bench = Bench::keeping();
    let variables = ["API_TOKEN=hunter2", "db_password=hunter2", "HARMLESS=hunter2", "EMPTY_SECRET="];
    let built =
        run(bench.layout().args(["--tag", "new"]).args(variables.iter().flat_map(|variable| ["--env", variable])))
            .success();
    let warned: Vec<&str> = built.stderr.lines().collect();
    assert_eq!(warned.len(), 2, "L19: {built}");
    assert!(
        warned[0].contains("--env API_TOKEN: looks like a secret") && warned[1].contains("--env db_password"),
        "L19: {built}"
    );
    assert!(!built.stderr.contains("hunter2"), "L19");
}

#[test]
fn l20_errors_can_be_read_by_programs() {
    let bench = Bench::keeping();
    let refused = run(bench.layout().args(["--base", "oci:absent", "--format", "json"])).ended_with(1);
    let error: serde_json::Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(
        error,
        serde_json::json!({"error": {"kind": "not-found", "object": "absent", "reason": "not found", "hint": null}})
    );
    let built = run(bench.empty_image().args(["--tag", "new", "--format", "json"])).success();
    let result: serde_json::Value = serde_json::from_str(built.text()).unwrap();
    assert_eq!(result["digest"], Image::new(&bench.out, "new").manifest_digest());
    assert_eq!(result["names"], serde_json::json!(["new"]));
}

/// M11: a switch of the environment is on, off or wrong, whichever it is.
#[test]
fn a_switch_of_the_environment_is_on_off_or_wrong() {
    if is_left_out() {
        return;
    }
    let bench = Bench::empty();
    bench.source();
    let cache = bench.scratch.join("cache");
    let build = |switch: &str, value: &str| {
        let mut command = bench.layout();
        command.args(["--copy", "src:/srv", "--cache-dir"]).arg(&cache).env_remove("OCIBUILD_NO_CACHE");
        run(command.env(switch, value))
    };
    for (value, is_kept) in [("1", false), ("Yes", false), ("0", true), ("false", true), ("off", true), ("", true)] {
        build("OCIBUILD_NO_CACHE", value).success();
        assert_eq!(cache.join("store").is_dir(), is_kept, "OCIBUILD_NO_CACHE={value}");
        fs::remove_dir_all(&cache).ok();
    }
    let base = |value: &str| {
        let mut command = bench.layout();
        command.args(["--base", "docker://127.0.0.1:1/absent", "--cache-dir"]).arg(&cache);
        run(command.env("OCIBUILD_OFFLINE", value))
    };
    for (value, words) in [("on", "--offline"), ("off", "connection refused"), ("No", "connection refused")] {
        base(value).ended_with(1).failed_saying(words);
    }
    for (switch, wrong) in
        [("OCIBUILD_NO_CACHE", build("OCIBUILD_NO_CACHE", "2")), ("OCIBUILD_OFFLINE", base("perhaps"))]
    {
        wrong.ended_with(2).failed_saying(&format!("error: {switch}="));
    }
}

/// M32: where the system starts no thread, every command says so in one line, or does without.
#[test]
fn without_threads_there_is_one_line() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    bench.source();
    let commands: [&[&str]; 11] = [
        &["layout", "out", "--copy", "src:/srv"],
        &["export", "out:keep", "oci-archive:x.tar"],
        &["pull", "127.0.0.1:1/absent"],
        &["login", "127.0.0.1:1", "-u", "me", "--password-stdin"],
        &["logout", "127.0.0.1:1"],
        &["verify", "out"],
        &["inspect", "out"],
        &["dockerfile", "--context", "context", "--copy", "src:/srv"],
        &["cache", "info"],
        &["catalogs"],
        &["completions", "bash"],
    ];
    for arguments in commands {
        // No system has a stack of 64 TiB for a thread.
        let finished = run(bench.command(arguments).env("RUST_MIN_STACK", (1_u64 << 46).to_string()));
        match finished.status {
            0 => {}
            1 => is_one_line("M32", &finished, &["threads: cannot start threads"]),
            _ => panic!("M32: {finished}"),
        }
    }
}

/// M32: where the system starts some threads and then no more, the rest of the work is done by those that there are.
#[test]
fn with_few_threads_the_work_is_done_or_refused() {
    if is_left_out() {
        return;
    }
    let Some(setpriv) = consumer_as_root("setpriv") else { return };
    let bench = Bench::empty();
    let place = bench.scratch.join("place");
    fs::create_dir(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(4242), Some(4242)).unwrap();
    // Where another user may run it.
    install_ocibuild(&place);
    bench.scratch.write("place/src/file", vec![7; 3 << 20]);
    let as_other = |most: usize, arguments: &[&str]| {
        let mut command = command(&setpriv);
        command.args(["--reuid", "4242", "--regid", "4242", "--clear-groups", "prlimit", &format!("--nproc={most}")]);
        run(command.arg("./ocibuild").args(arguments).args(["-q", "--jobs", "2"]).current_dir(&place))
    };
    as_other(100, &["layout", "base", "--copy", "src:/base"]).success();
    let (mut refused, mut done) = (0, 0);
    for most in 1..10 {
        let out = format!("out{most}");
        let finished = as_other(most, &["layout", &out, "--base", "oci:base", "--copy", "src:/srv"]);
        match finished.status {
            0 => done += 1,
            _ => {
                is_one_line("M32", &finished.ended_with(1), &["threads"]);
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && done > 4, "{refused} refused, {done} done");
}
