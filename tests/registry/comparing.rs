//! `diff` of images in registries: what is fetched.

use super::real::layout;
use super::server::Server;
use crate::consumers;
use crate::support::{Scratch, is_left_out, ocibuild, run};
use serde_json::Value;

/// Runs `ocibuild` in `scratch`, with a cache of its own.
fn program(scratch: &Scratch, words: &[&str]) -> crate::support::Finished {
    let mut command = ocibuild();
    command.current_dir(scratch.path()).args(words).env("OCIBUILD_CACHE_DIR", scratch.join("cache"));
    run(&mut command)
}

#[test]
fn only_layers_that_differ_are_fetched() {
    if is_left_out() {
        return;
    }
    let (server, _shelf) = Server::with_shelf(|x, shelf| shelf.serve(x));
    let scratch = Scratch::new();
    layout(&scratch);
    let base = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let names: Vec<String> = (1..4).map(|number| format!("docker://{}/team/app:v{number}", server.host())).collect();
    for (name, content, file) in [(&names[0], "one", "app"), (&names[1], "two", "app"), (&names[2], "two", "other")] {
        scratch.write(format!("src/{content}/app"), content);
        let copy = format!("src/{content}/app:/srv/{file}");
        program(&scratch, &["layout", "out", "--no-cache", "-t", "x", "--base", &base, "--copy", &copy]).success();
        program(&scratch, &["export", "out:x", name]).success();
    }
    std::fs::remove_dir_all(scratch.join("cache")).unwrap();
    let fetched = |words: &[&str], status: i32| -> (usize, Value) {
        let before = server.lines().len();
        let finished = program(&scratch, words).ended_with(status);
        let found = serde_json::from_str(finished.text()).unwrap_or_default();
        let lines = server.lines();
        (lines[before..].iter().filter(|line| line.starts_with("GET ") && line.contains("/blobs/")).count(), found)
    };
    // Two configs and two layers.
    let (blobs, found) = fetched(&["diff", &names[0], &names[1], "--format", "json"], 1);
    assert_eq!(blobs, 4, "{found}");
    let files: Vec<&Value> = found.as_array().unwrap().iter().filter(|each| each["part"] == "file").collect();
    assert_eq!((files.len(), &files[0]["name"]), (1, &"/srv/app".into()));
    // What is in the base is unknown, and that is said.
    let (blobs, found) = fetched(&["diff", &names[1], &names[2], "--format", "json"], 1);
    assert_eq!(blobs, 4, "{found}");
    let unread = found.as_array().unwrap().iter().filter(|each| each["reasons"][0]["what"] == "unread");
    assert!(unread.count() > 0, "{found}");
    // The same image is the same, and needs no layer.
    assert_eq!(fetched(&["diff", &names[1], &names[1]], 0).0, 2);
    assert_eq!(fetched(&["diff", "out:x", &names[2], "--ignore", "annotations"], 0).0, 1);
}
