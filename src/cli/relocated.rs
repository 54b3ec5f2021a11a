//! Reports of Python environments that are relocated: one line for each.

use super::progress_display::Watch;
use ocibuild::build::{Plan, PythonEnvironment};
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::counted;

/// Prints a line for each environment that changes.
pub(super) fn say(plan: &Plan, watch: &Watch) {
    for environment in changed(plan) {
        watch.say_once(&format!("relocated {}", described(environment)));
    }
}

/// Returns a line for each environment that changes, for a dry run.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    changed(plan).map(|environment| format!("relocated   {}", described(environment))).collect()
}

fn changed(plan: &Plan) -> impl Iterator<Item = &PythonEnvironment> {
    plan.python_environments.iter().filter(|environment| !environment.changed.is_empty())
}

fn described(environment: &PythonEnvironment) -> String {
    let PythonEnvironment { path, made_at, python, interpreter, changed, .. } = environment;
    let from = made_at.as_ref().filter(|place| **place != path.to_string());
    let from = from.map(|place| format!(" from {}", one_line(place))).unwrap_or_default();
    let runs = interpreter.as_ref().map(|path| format!(", which runs {path}")).unwrap_or_default();
    format!("the environment of {python} to {path}{from}: {} changed{runs}", counted(changed.len(), "file"))
}
