//! The help of the command line, its progress and its errors.

use crate::support::random::Random;
use crate::support::{Scratch, command, is_left_out, ocibuild, python_with, run};
use serde_json::Value;

/// M50, M57: words of other programs are answered with what does the same here, and nonsense is not suggested.
#[test]
fn words_of_other_programs_are_answered_with_ours() {
    for (words, answer) in [
        (&["build", "."][..], "there is no build context; --copy SRC:DST copies files into the image"),
        (&["oci", "build"], "`ocibuild build` builds an image, `ocibuild layout DIR` into a layout"),
        (&["push"], "`ocibuild export LAYOUT docker://REFERENCE` pushes"),
        (&["cp"], "`ocibuild export SOURCE DESTINATION` copies an image"),
        (&["run"], "docker load`, then `docker run`"),
        (&["images"], "`ocibuild ls LAYOUT` lists images"),
        (&["rmi"], "`ocibuild rm IMAGE` removes an image from a layout"),
        (&["export", "out", "-", "-f", "x"], "no Dockerfile is read"),
        (&["dockerfile", "--dockerfile=x"], "no Dockerfile is read"),
        (&["layout", "out", "--secret", "id=x"], "no secret is needed"),
        (&["layout", "-o", "out"], "the layout is the first argument: ocibuild layout DIR"),
        (&["layout", "--output=out"], "the layout is the first argument: ocibuild layout DIR"),
        (&["-v"], "-V prints the version"),
        (&["lay"], "unrecognized subcommand 'lay' (see --help)"),
        (&["layuot"], "did you mean layout?"),
        (&["layout", "out", "--cpoy", "x"], "did you mean --copy?"),
        (&["layout", "out", "--strange"], "unexpected argument '--strange' found (see --help)"),
    ] {
        let refused = run(ocibuild().args(words)).ended_with(2).failed_saying(answer);
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
        assert!(!refused.stderr.contains("similar") && !refused.stderr.contains("-- -"), "{refused}");
    }
    let help = |words: &[&str]| run(ocibuild().args(words)).success().text().to_owned();
    assert_eq!(help(&["help", "layout"]), help(&["layout", "--help"]));
    assert_eq!(help(&["help"]), help(&["--help"]));
    assert_eq!(help(&["help", "cache", "prune"]), help(&["cache", "prune", "--help"]));
    assert_eq!(help(&["version"]), help(&["--version"]));
    run(ocibuild().args(["help", "absent"])).ended_with(2).failed_saying("unrecognized subcommand 'absent'");
    assert!(help(&["layout", "--help"]).contains("[alias: --rcc-binary]"));
    let scratch = Scratch::new();
    scratch.write("src/file", "x");
    let words = ["dockerfile", "-o", "context", "--base", "scratch", "--copy", "src:/"];
    run(ocibuild().args(words).current_dir(scratch.path())).success();
    assert!(scratch.join("context/Dockerfile").is_file());
}

/// M56: a command of a command has a manual page, too.
#[test]
fn every_subcommand_has_a_manual_page() {
    assert!(run(ocibuild().args(["man", "cache", "prune"])).success().text().contains("older\\-than"));
    run(ocibuild().args(["man", "cache", "absent"])).ended_with(2).failed_saying("`cache absent`: unknown command");
}

/// A manual page has the sections that other manual pages have, with the variables and files of its command only.
#[test]
fn manual_pages_have_exit_status_environment_files_examples_and_see_also() {
    let page = |words: &[&str]| run(ocibuild().arg("man").args(words)).success().text().to_owned();
    let layout = page(&["layout"]);
    for part in [
        ".SH \"EXIT STATUS\"",
        ".SH ENVIRONMENT",
        "SOURCE_DATE_EPOCH",
        ".SH FILES",
        "ocibuild.lock",
        ".SH EXAMPLES",
        ".SH \"SEE ALSO\"",
        "containers\\-auth.json(5)",
    ] {
        assert!(layout.contains(part), "{part}: {layout}");
    }
    let verify = page(&["verify"]);
    assert!(verify.contains("OCIBUILD_CACHE_DIR") && !verify.contains("SOURCE_DATE_EPOCH"), "{verify}");
    let inspect = page(&["inspect"]);
    assert!(!inspect.contains("ocibuild.lock"), "{inspect}");
    assert!(page(&[]).contains("ocibuild\\-layout(1)"));
}

/// M56: the help does not promise a smaller image than there is: a catalog and its library are smaller only when unpacked.
#[test]
fn compact_is_the_smallest_once_it_is_unpacked() {
    if is_left_out() {
        return;
    }
    let help = run(ocibuild().args(["layout", "--help"])).success();
    let compact = help.text().lines().find(|line| line.trim_start().starts_with("- compact:")).unwrap();
    assert!(compact.contains("smallest once unpacked"), "{help}");
}

/// M51: a flag is listed under the heading of its topic.
#[test]
fn flags_are_listed_under_headings() {
    for command in ["layout", "dockerfile", "export", "inspect", "pull"] {
        let help = run(ocibuild().args([command, "--help"])).success();
        let mut headings: Vec<(&str, &str)> = Vec::new();
        let mut heading = "";
        for line in help.text().lines() {
            match line.strip_suffix(':') {
                Some(title) if !line.starts_with(' ') => heading = title,
                _ if line.trim_start().starts_with('-') => headings.push((heading, line.trim_start())),
                _ => {}
            }
        }
        for flag in ["-q, --quiet", "--progress", "--format", "-j, --jobs"] {
            assert!(
                headings.iter().any(|(title, line)| *title == "General" && line.starts_with(flag)),
                "{flag} {help}"
            );
        }
        let platform = headings.iter().find(|(_, line)| line.starts_with("--platform ")).unwrap();
        assert_ne!(platform.0, "Registries", "{help}");
    }
}

/// M52: with `--format json` each line on standard error is one object, from any part of the program, and there is no progress.
#[test]
fn json_holds_for_every_mistake_and_warning() {
    let scratch = Scratch::new();
    scratch.write("src/file", "x");
    let failing: [&[&str]; 5] = [
        &["layout", "--format", "json"],
        &["layout", "out", "--format=json", "--absent"],
        &["absent", "--format", "json"],
        &["--format", "json"],
        &["layout", "out", "--format", "json", "--copy", "absent:/"],
    ];
    for words in failing {
        let refused = run(ocibuild().args(words).current_dir(scratch.path()));
        let document: Value = serde_json::from_str(&refused.stderr).unwrap_or_else(|_| panic!("{refused}"));
        assert!(refused.status > 0 && document["error"]["reason"].is_string(), "{refused}");
    }
    scratch.write("src/robot.yaml", "tasks: {a: {shell: b}}\nartifactsDir: output\n");
    let words = ["layout", "../out", "--base", "scratch", "--environment", "direct", "--format", "json"];
    let built = run(ocibuild().args(words).current_dir(scratch.join("src"))).success();
    assert!(built.stderr.lines().count() > 0, "{built}");
    for line in built.stderr.lines() {
        let document: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{built}"));
        assert!(document["warning"]["reason"].is_string(), "{built}");
    }
}

/// M53: without a terminal a long step says every few seconds how far it is.
#[test]
fn a_long_step_prints_its_progress() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("src/file", Random::new(1).bytes(48 << 20));
    // The slowest there is takes longer than the pause between two lines.
    let slowly = ["--compression", "zstd", "--compression-level", "19", "--jobs", "1"];
    let words = [&["layout", "out", "--copy", "src:/"][..], &slowly].concat();
    let built = run(ocibuild().args(words).current_dir(scratch.path())).success();
    let line = built.stderr.lines().next().unwrap();
    assert!(line.starts_with("src to /: ") && line.contains(" of 48"), "{built}");
}

/// M53: bars fit a terminal of 80 columns, show the total, and `NO_COLOR` takes nothing but colour.
#[test]
fn bars_fit_the_terminal() {
    if is_left_out() {
        return;
    }
    let Some(python) = python_with("pty") else { return };
    let scratch = Scratch::new();
    scratch.write("src/file", Random::new(2).bytes(24 << 20));
    let script = r#"
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execv(sys.argv[1], sys.argv[1:])
told = b""
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:
        break
    if not part:
        break
    told += part
sys.stdout.buffer.write(told)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let words = ["layout", "out", "--copy", "src:/a/directory/with/a/long/name/for/a/bar", "--compression-level", "12"];
    let mut terminal = command(python);
    terminal.args(["-c", script, env!("CARGO_BIN_EXE_ocibuild")]).args(words);
    terminal.env("NO_COLOR", "1").env("TERM", "xterm").env("OCIBUILD_NO_CACHE", "1").current_dir(scratch.path());
    let reported = run(&mut terminal).success();
    let bars: Vec<&str> = reported.text().split(['\r', '\n']).filter(|line| line.contains(" [")).collect();
    assert!(bars.iter().any(|bar| bar.contains("/24.0")), "{reported}");
    for bar in bars {
        let mut columns = 0;
        let mut letters = bar.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\u{1b}' => drop(letters.by_ref().find(char::is_ascii_alphabetic)),
                _ => columns += 1,
            }
        }
        assert!(columns <= 80, "{columns}: {bar:?}");
    }
}
