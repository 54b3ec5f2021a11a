//! The contexts that `ocibuild dockerfile` writes.

use super::contract::{Bench, no_temporaries};
use crate::support::{command, consumer, is_left_out, run};
use ocibuild::Digest;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The tars that the Dockerfile of a context adds, each of which has to be there with the content that its name says.
#[track_caller]
fn complete_tars(row: &str, context: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(context.join("Dockerfile")).unwrap();
    let added = text.lines().filter_map(|line| line.strip_prefix("ADD [\"")?.split('"').next().map(str::to_owned));
    let added: BTreeSet<String> = added.collect();
    assert!(!added.is_empty(), "{row}: {text}");
    for name in &added {
        let tar = fs::read(context.join(name)).unwrap_or_else(|error| panic!("{row}: {name}: {error}"));
        assert!(name.contains(&Digest::of(&tar).hex()), "{row}: {name} holds something else");
    }
    added
}

/// Every tar in a context.
fn tars(context: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(context).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("layer-")).collect()
}

/// M29: at whatever step it is killed or fails, the context is the one that was there before or the new one.
#[test]
fn a_context_is_the_old_or_the_new_one_at_every_moment() {
    if is_left_out() {
        return;
    }
    let Some(strace) = consumer("strace") else { return };
    let bench = Bench::keeping();
    bench.source();
    let context = bench.scratch.join("context");
    let request =
        ["dockerfile", "-q", "--context", "context", "--copy", "src:/a", "--layer", "two", "--copy", "src:/b"];
    run(&mut bench.command(&request)).success();
    for (call, fault) in [("renameat", "signal=KILL"), ("fsync", "signal=KILL"), ("renameat", "error=EIO")] {
        for number in 1..1000 {
            let row = format!("{fault} at {call} {number}");
            bench.scratch.write("src/file", &row);
            let mut traced = command(&strace);
            traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            traced.args(["-e", &format!("inject={call}:{fault}:when={number}")]);
            let finished =
                run(traced.arg(env!("CARGO_BIN_EXE_ocibuild")).args(request).current_dir(bench.scratch.path()));
            let named = complete_tars(&row, &context);
            assert_eq!(named.len(), 2, "{row}");
            run(&mut bench.command(&request)).success();
            no_temporaries(&row, &context);
            assert_eq!(complete_tars(&row, &context), tars(&context), "{row}: what is no longer named is gone");
            if finished.status == 0 {
                assert!(number > 2, "{row}: {finished}");
                break;
            }
        }
    }
    bench.scratch.write("context/layer-1.tar", "a file of the user");
    let printed = run(bench.command(&request).arg("--label").arg("a=b")).success();
    assert!(context.join("layer-1.tar").exists());
    // What is printed names the same tars, with a context or without.
    let without = ["dockerfile", "-q", "--copy", "src:/a", "--layer", "two", "--copy", "src:/b", "--label", "a=b"];
    assert_eq!(run(&mut bench.command(&without)).success().text(), printed.text());
}
