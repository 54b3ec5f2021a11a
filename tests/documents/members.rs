//! The members of JSON output and their descriptions in `docs/json.md`.

use super::Page;
use crate::consumers::Registry;
use crate::support::{Scratch, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Members whose values are documents or maps of other origin.
const FOREIGN: [&str; 3] = ["annotations", "config", "kinds"];

/// Adds the names of all members of `value` to `names`.
fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                names.insert(name.clone());
                if !FOREIGN.contains(&name.as_str()) {
                    collect(value, names);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

/// Returns the part of `page` below the heading of a command.
fn section<'p>(page: &'p Page, command: &str) -> &'p str {
    let heading = |line: &str| line.starts_with("## ") && line.contains(&format!("`{command}`"));
    let start = page.text.lines().find(|line| heading(line)).unwrap_or_else(|| panic!("no section for {command}"));
    let (_, after) = page.text.split_once(start).unwrap();
    after.split("\n## ").next().unwrap()
}

/// Returns the members of `document` that the section of `docs/json.md` about `command` does not name.
pub(crate) fn undescribed(command: &str, document: &Value) -> Vec<String> {
    let page = &Page::read("docs/json.md");
    let mut names = BTreeSet::new();
    collect(document, &mut names);
    let mut section = section(page, command).to_owned();
    // Where a list has the form of another command's, its description refers to it.
    if section.contains("as for `layout`") {
        section += self::section(page, "layout");
    }
    let words: BTreeSet<&str> = section.split(|c: char| !c.is_alphanumeric()).collect();
    names.into_iter().filter(|name| !words.contains(name.as_str())).collect()
}

fn ocibuild(scratch: &Scratch, words: &str) -> Command {
    let mut command = crate::support::ocibuild();
    command.current_dir(scratch.path()).args(words.split(' ')).args(["--format", "json"]);
    command.env_remove("OCIBUILD_NO_CACHE").env("OCIBUILD_CACHE_DIR", scratch.join("cache"));
    command
}

#[test]
fn every_member_is_described() {
    let scratch = Scratch::new();
    scratch.write("src/file", "one");
    scratch.write("src/password.ini", "password = hunter2-and-more\n");
    scratch.write("src/left.map", "x");
    scratch.write("src/.dockerignore", "*.map\n");
    for (command, words) in [
        ("layout", "layout out --copy src:/app -t team/app:v1"),
        ("build", "build -o oci:built --copy src:/app -t team/app:v1"),
        ("layout", "layout several --copy src:/app --platform linux/amd64,linux/arm64"),
        ("layout --dry-run", "layout several --copy src:/app --platform linux/amd64,linux/arm64 --dry-run"),
        ("layout --dry-run", "layout out --copy src:/app --dry-run"),
        ("export", "export out oci:copy:v1"),
        ("inspect", "inspect out"),
        ("verify", "verify out"),
        ("tag", "tag out:team/app:v1 team/app:v2"),
        ("ls", "ls out"),
        ("edit", "edit out:team/app:v2 --label a=b"),
        ("rebase", "rebase out:team/app:v2 --from ./out:team/app:v1 --onto ./out:team/app:v1"),
        ("squash", "squash out:team/app:v2"),
        ("rm", "rm out:team/app:v2"),
        ("gc", "gc out --dry-run"),
        ("dockerfile", "dockerfile --base scratch --copy src:/app --context context"),
        ("cache info", "cache info"),
        ("cache verify", "cache verify"),
        ("cache prune", "cache prune --keep 1GiB"),
    ] {
        let finished = run(&mut ocibuild(&scratch, words)).success();
        let document: Value = serde_json::from_str(finished.text()).unwrap();
        assert_eq!(undescribed(command, &document), [""; 0], "{command}");
        if command == "cache info" {
            let page = Page::read("docs/json.md");
            let kinds = document["kinds"].as_object().unwrap().keys();
            let missing: Vec<_> =
                kinds.filter(|kind| !section(&page, command).contains(&format!("`{kind}`"))).collect();
            assert_eq!(missing, [""; 0]);
        }
    }
    scratch.write("src/file", "two");
    scratch.write("src/more", "two");
    let again = run(&mut ocibuild(&scratch, "layout out --copy src:/app -t team/app:v1")).success();
    let document: Value = serde_json::from_str(again.text()).unwrap();
    assert!(document["layers"][0]["differences"]["added"].is_object(), "{document}");
    assert_eq!(undescribed("layout", &document), [""; 0]);
    for other in ["layout other --copy src:/app --label a=b", "layout third --base oci:out:v1 --copy src:/more"] {
        run(&mut ocibuild(&scratch, other)).success();
    }
    for words in ["diff out:v1 other", "diff out:v1 third"] {
        let differences = run(&mut ocibuild(&scratch, words)).ended_with(1);
        let mut document: Value = serde_json::from_str(differences.text()).unwrap();
        for difference in document.as_array_mut().unwrap().iter_mut().filter(|each| each["part"] == "config") {
            // Values of the images' documents.
            difference["before"].take();
            difference["after"].take();
        }
        assert_eq!(undescribed("diff", &document), [""; 0]);
    }
    let broken = serde_json::json!({"digest": "", "layers": [{"diffIdd": ""}]});
    assert_eq!(undescribed("layout", &broken), ["diffIdd"]);
}

#[test]
fn members_about_registries_are_described() {
    let Some(registry) = Registry::plain() else { return };
    let scratch = Scratch::new();
    scratch.write("src/file", "one");
    let base = format!("{}/team/base:v1", registry.address());
    run(&mut ocibuild(&scratch, "layout base --copy src:/base")).success();
    run(&mut ocibuild(&scratch, &format!("export base docker://{base}"))).success();
    for (command, words) in [
        ("pull", format!("pull {base}")),
        ("layout", format!("layout out --base {base} --sparse --copy src:/app")),
        ("verify", "verify out".to_owned()),
        ("export", format!("export out docker://{}/team/other:v1", registry.address())),
    ] {
        let finished = run(&mut ocibuild(&scratch, &words)).success();
        let document: Value = serde_json::from_str(finished.text()).unwrap();
        assert_eq!(undescribed(command, &document), [""; 0], "{command}");
        let is_sparse = document["leftOut"].as_array().is_none_or(|layers| layers.len() == 1);
        assert!(is_sparse, "{document}");
    }
}

#[test]
fn members_of_an_error_are_described() {
    let page = Page::read("docs/json.md");
    let scratch = Scratch::new();
    let failed = run(&mut ocibuild(&scratch, "layout out --copy missing:/app")).ended_with(1);
    let error: Value = serde_json::from_str(&failed.stderr).unwrap();
    let mut names = BTreeSet::new();
    collect(&error, &mut names);
    assert!(names.iter().all(|name| page.text.contains(&format!("error.{name}")) || name == "error"), "{names:?}");
    assert!(page.text.contains(&format!("`{}`", error["error"]["kind"].as_str().unwrap())));
}
