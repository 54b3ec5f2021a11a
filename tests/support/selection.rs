//! The choice of the tests that run, and what is printed about the others.
//!
//! `cargo test` runs the tests that are quick and need no other program. The rest run with `OCIBUILD_TESTS=all`, in CI, and when
//! tests are selected by name (`cargo test --test all upkeep`).

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

/// Returns whether a test that is long, or that needs other programs, is left out of this run. Prints so once.
///
/// ```text
/// if is_left_out() {
///     return;
/// }
/// ```
pub(crate) fn is_left_out() -> bool {
    let is_wanted =
        std::env::var("OCIBUILD_TESTS").is_ok_and(|value| value == "all") || is_required() || is_selected_by_name();
    if !is_wanted {
        not_proven("long tests and tests with other programs are left out (OCIBUILD_TESTS=all runs them)");
    }
    !is_wanted
}

/// Returns whether the command line of the test binary selects tests by their names.
fn is_selected_by_name() -> bool {
    let takes_value = |flag: &str| {
        ["--skip", "--test-threads", "--color", "--format", "--logfile", "--shuffle-seed", "-Z"].contains(&flag)
    };
    let arguments: Vec<String> = std::env::args().collect();
    arguments.windows(2).any(|pair| !takes_value(&pair[0]) && !pair[1].starts_with('-'))
}

/// Returns whether a missing program fails a test.
pub(crate) fn is_required() -> bool {
    let is_set = |name: &&str| std::env::var(name).is_ok_and(|value| value == "true" || value == "1");
    ["CI", "OCIBUILD_REQUIRE_CONSUMERS"].iter().any(is_set)
}

/// Prints once what the tests could not prove, and why.
pub(crate) fn not_proven(message: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_first = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(message.to_owned());
    if is_first {
        // Without eprintln, whose output the test runner hides when a test passes.
        writeln!(std::io::stderr(), "\nNOT PROVEN: {message}").ok();
    }
}
