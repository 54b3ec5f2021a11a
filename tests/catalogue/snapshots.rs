//! What the program says, whole: standard output, standard error and status together, and every page of help.

use super::contract::Bench;
use super::forge::Forged;
use crate::support::{ocibuild, run};
use std::fmt::Write as _;

/// Runs a line of arguments and renders everything that came of it.
fn said(bench: &Bench, line: &str) -> String {
    let words = shlex::split(line).unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut ran = run(&mut bench.command(&words));
    if ran.status == 0 {
        // In which order steps end is a matter of threads.
        let mut lines: Vec<&str> = ran.stderr.lines().collect();
        lines.sort_unstable();
        ran.stderr = lines.iter().map(|line| format!("{line}\n")).collect();
    }
    let mut text = format!("$ ocibuild {line}\n");
    for (name, content) in [("stdout", String::from_utf8(ran.stdout).unwrap()), ("stderr", ran.stderr)] {
        if !content.is_empty() {
            write!(text, "--- {name}\n{content}").unwrap();
        }
    }
    writeln!(text, "--- status {}", ran.status).unwrap();
    text.replace(&bench.scratch.path().display().to_string(), "[scratch]")
}

/// Renders several lines, one after the other.
fn all_said(bench: &Bench, lines: &[&str]) -> String {
    lines.iter().map(|line| said(bench, line)).collect::<Vec<_>>().join("\n")
}

/// Asserts a snapshot in tests/snapshots.
fn is_as_before(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn bench() -> Bench {
    let bench = Bench::empty();
    bench.scratch.write("app/main.py", "print('hello')\n");
    bench.scratch.write("app/data/large", vec![b'x'; 100_000]);
    bench.scratch.write("site/index.html", "<p>hello</p>\n");
    Forged::new(bench.scratch.join("base"));
    bench
}

#[test]
fn a_build_and_what_can_be_done_with_it() {
    let text = all_said(
        &bench(),
        &[
            "layout out --base oci:base --copy app:/app --entrypoint 'python3 /app/main.py' --jobs 1",
            "layout out --base oci:base --copy app:/app --entrypoint 'python3 /app/main.py' --jobs 1",
            "layout out -t v1 -t team/site:v2 --layer 'the site' --copy site:/srv --layer 'without notes' --remove /srv/index.html --user 1000 --expose 8080 --format json -q",
            "layout out --dry-run --base oci:base --copy app:/app --compression zstd",
            "layout out --dry-run --copy app:/app --format json",
            "inspect out:latest",
            "inspect out:team/site:v2",
            "inspect out:team/site",
            "inspect out:v1 --format json",
            "verify out",
            "verify out --format json -q",
            "export out:v1 oci-archive:site.tar",
            "export out:v1 docker-archive:site.tar:team/site:v2 --format json -q",
            "export oci-archive:site.tar oci:copy:v3",
            "inspect docker-archive:site.tar",
        ],
    );
    is_as_before("work", &text);
}

#[test]
fn what_is_refused_and_how() {
    let bench = bench();
    bench.scratch.write("full/stranger", "x");
    let text = all_said(
        &bench,
        &[
            "",
            "layout",
            "layout out --cpoy app:/app",
            "layout out --tag .bad",
            "layout out --copy app",
            "layout out --copy absent:/app",
            "layout out --base oci:absent",
            "layout out --base oci:base:absent",
            "layout out --base oci:base --platform linux/arm64",
            "layout out --base scratch:latest",
            "layout full --copy app:/app",
            "layout out --layer x --copy app:/app --copy app/main.py:/app/main.py",
            "layout out --copy app:/app --format json --base oci:absent",
            "inspect out",
            "verify full",
            "export base -q nowhere",
            "completions tcsh",
            "man absent",
        ],
    );
    is_as_before("refusals", &text);
}

#[test]
fn faults_that_are_found() {
    let bench = bench();
    let base = Forged::new(bench.scratch.join("faulty"));
    base.edit_config(|config| config["history"] = serde_json::json!([{}, {}]));
    std::fs::write(base.blob(&base.layer_digest()), b"short").unwrap();
    is_as_before("faults", &all_said(&bench, &["verify faulty --quiet", "verify faulty --format json --quiet"]));
}

#[test]
fn every_page_of_help() {
    let mut text = String::new();
    let commands = [
        "",
        "build",
        "layout",
        "init",
        "export",
        "pull",
        "login",
        "logout",
        "verify",
        "inspect",
        "ls",
        "cat",
        "diff",
        "extract",
        "tag",
        "rm",
        "gc",
        "edit",
        "rebase",
        "squash",
        "serve",
        "dockerfile",
        "cache",
        "cache prune",
        "catalogs",
        "completions",
        "man",
    ];
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let help = run(ocibuild().args(&words).env("COLUMNS", "100")).success();
        assert_eq!(help.stderr, "");
        writeln!(text, "$ ocibuild {}\n{}\n", words.join(" "), help.text()).unwrap();
    }
    is_as_before("help", &text);
    let commands = run(ocibuild().arg("--help")).success();
    let listed =
        commands.text().lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that is too long goes on in a line that is indented further.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty());
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 5, "{names:?}");
    for command in names {
        assert!(text.contains(&format!("$ ocibuild {command} --help")), "no page of {command}");
    }
}

#[test]
fn pages_and_scripts_are_made_for_every_command_and_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(ocibuild().args(["completions", shell])).success();
        assert!(script.text().contains("compression-level"), "{shell}");
    }
    for command in ["layout", "export", "verify", "inspect"] {
        let page = run(ocibuild().args(["man", command])).success();
        assert!(page.text().contains(".SH OPTIONS"), "{command}");
    }
}
