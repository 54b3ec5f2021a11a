//! `--verify-writes`: every command that changes a layout or the store of bases reads back what it writes, and fails if it cannot.

use super::injector::traced;
use super::is_one_error;
use super::scenario::Rehearsed;
use super::scenarios::SCENARIOS;
use crate::support::{command, consumer, not_proven, run};

#[test]
fn f25_every_command_that_changes_a_layout_reads_back_on_request() {
    let Some(strace) = consumer("strace") else { return };
    for name in ["layout", "edit", "rebase", "squash", "tag", "verify", "pull"] {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.command == name).unwrap();
        let rehearsed = Rehearsed::new(scenario);
        let scene = rehearsed.scene();
        let reading_back = || {
            let mut program = rehearsed.command(scene.path());
            program.arg("--verify-writes");
            program
        };
        let row = format!("{}: not read back", scenario.name);
        let mut failing = command(&strace);
        failing.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fadvise64", "-e", "inject=fadvise64:error=EIO"]);
        let refused = run(traced(failing, &reading_back()).stdin(rehearsed.stdin(scene.path())));
        assert_eq!(refused.status, 1, "{row}: {refused}");
        assert!(refused.stderr.contains("cannot read back"), "{row}: {refused}");
        is_one_error(&refused, &row);
        rehearsed.is_safe(scene.path(), &row);
        rehearsed.left_nothing(scene.path(), &row);
        let finished = run(reading_back().stdin(rehearsed.stdin(scene.path())));
        if finished.stderr.contains("has no direct reads") {
            not_proven("no direct reads on this file system, so not proven: that writes are read back");
            return;
        }
        assert_eq!(finished.status, 0, "{row}: {finished}");
        assert!(rehearsed.is_done(scene.path(), &row), "{row}: {:?}", rehearsed.differing(scene.path(), &row));
    }
}
