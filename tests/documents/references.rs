//! What documents refer to: other documents, files of the checkout, and flags.

use super::Page;
use crate::support::{ocibuild, run};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Flags of other programs that documents name.
const FLAGS_OF_OTHERS: [&str; 24] = [
    "--all",
    "--attach",
    "--detach",
    "--earlier",
    "--fast",
    "--image",
    "--lib",
    "--name",
    "--omit",
    "--path",
    "--preserve-digests",
    "--read-only",
    "--recursive",
    "--release",
    "--rm",
    "--secret",
    "--src-tls-verify",
    "--target",
    "--test",
    "--time",
    "--tmpfs",
    "--userns",
    "--verbose",
    "--wheels",
];

/// A flag of rcc that a help text names.
const FLAG_OF_RCC: &str = "--sema4ai";

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the targets of the links in `text`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut links = Vec::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        if !is_code {
            links.extend(line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)));
        }
    }
    links
}

/// Returns the name that a link gives to a heading: lower case, spaces as hyphens, no other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

/// Returns `target`, as a document in `directory` names it, without `..`.
fn resolve(directory: &Path, target: &str) -> PathBuf {
    directory.join(target).components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
        path
    })
}

/// Returns what is wrong with the link `target` of the document at `path`.
fn fault(path: &str, target: &str) -> Option<String> {
    if target.starts_with("https://") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let file = match file {
        "" => PathBuf::from(path),
        file => resolve(Path::new(path).parent().unwrap(), file),
    };
    if !checkout().join(&file).exists() {
        return Some(format!("{path}: {target} does not exist"));
    }
    let is_there = |page: &Page| page.text.lines().any(|line| anchor(line.trim_start_matches(['#', ' '])) == heading);
    (!heading.is_empty() && !is_there(&Page::read(file.to_str().unwrap())))
        .then(|| format!("{path}: {target} is no heading"))
}

#[test]
fn every_link_resolves() {
    let pages = Page::all();
    let faults: Vec<String> = pages
        .iter()
        .flat_map(|page| links(&page.text).into_iter().filter_map(|link| fault(&page.path, link)))
        .collect();
    assert_eq!(faults, [""; 0]);
    assert!(fault("docs/guide.md", "json.md#exprt").is_some() && fault("docs/guide.md", "jsn.md").is_some());
    assert!(fault("docs/guide.md", "json.md#export").is_none());
}

/// Returns the words of `text` that look like long flags.
fn flags(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let candidates = text
        .match_indices("--")
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == '/'));
    let names = candidates.map(|(at, _)| text[at..].split(|c| !is_part(c)).next().unwrap());
    names.filter(|flag| flag.len() > 3 && !flag.starts_with("---")).map(str::to_owned).collect()
}

/// Returns the help text of the command `words`, and those of its subcommands.
fn help_texts(words: &[&str]) -> String {
    let help = run(ocibuild().args(words).arg("--help")).success().text().to_owned();
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let below = names.map(|line| help_texts(&[words, &[line.split(' ').next().unwrap()]].concat()));
    help.clone() + &below.collect::<String>()
}

/// Returns every flag of the program.
fn flags_of_the_program() -> BTreeSet<String> {
    let flags = flags(&help_texts(&[]));
    assert!(flags.contains("--sparse") && flags.contains("--older-than"), "{flags:?}");
    flags
}

#[test]
fn every_flag_in_a_document_exists() {
    let known = flags_of_the_program();
    // The CHANGELOG names flags that are gone, too.
    for page in Page::all().iter().filter(|page| page.path != "CHANGELOG.md") {
        let unknown: Vec<_> = flags(&page.text)
            .into_iter()
            .filter(|flag| !known.contains(flag) && !FLAGS_OF_OTHERS.contains(&flag.as_str()))
            .collect();
        assert_eq!(unknown, [""; 0], "{}", page.path);
    }
}

#[test]
fn every_flag_is_documented() {
    let pages = Page::all();
    let documented: BTreeSet<String> =
        pages.iter().filter(|page| page.path != "CHANGELOG.md").flat_map(|page| flags(&page.text)).collect();
    let is_missing = |flag: &String| flag != FLAG_OF_RCC && !documented.contains(flag);
    let missing: Vec<_> = flags_of_the_program().into_iter().filter(is_missing).collect();
    assert_eq!(missing, [""; 0]);
}

/// Returns the words of `text` in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).filter(|word| !word.contains(char::is_whitespace))
}

/// The directories whose files documents name.
const DIRECTORIES: [&str; 8] = ["src/", "tests/", "benches/", "docs/", "examples/", "testdata/", ".ci/", ".config/"];

fn files_below(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_below(&path, found),
            false => found.push(path.display().to_string()),
        }
    }
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut files = Vec::new();
    for directory in ["src", "tests", "benches"] {
        files_below(&checkout().join(directory), &mut files);
    }
    let is_file = |name: &str| match DIRECTORIES.iter().any(|directory| name.starts_with(directory)) {
        true => checkout().join(name).exists(),
        // A file of the room that the text is about.
        false => !name.ends_with(".rs") || files.iter().any(|file| file.ends_with(&format!("/{name}"))),
    };
    for page in Page::all().iter().filter(|page| page.path != "CHANGELOG.md") {
        let missing: Vec<&str> = quoted(&page.text).filter(|name| !is_file(name)).collect();
        assert_eq!(missing, [""; 0], "{}", page.path);
    }
    assert!(!is_file("src/nowhere.rs") && !is_file("nowhere.rs"));
}

#[test]
fn the_architecture_and_the_readme_are_short() {
    for path in ["ARCHITECTURE.md", "README.md"] {
        let lines = Page::read(path).text.lines().count();
        assert!(lines < 120, "{path} has {lines} lines: docs/ has room");
    }
}
