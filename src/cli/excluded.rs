//! Reports of excluded paths: one line per source in a build, and one line per path in a dry run.

use super::progress_display::Watch;
use ocibuild::build::Plan;
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::counted;
use ocibuild::layers::tree::Excluded;

/// The number of rules in the line of a source, as many as a build has outputs of its own, and of paths per rule.
const RULES: usize = 6;
const PATHS: usize = 2;

/// Prints one line per source, with the number of excluded paths, the rules and the first names.
pub(super) fn say(plan: &Plan, watch: &Watch) {
    let all: Vec<&Excluded> = plan.excluded().collect();
    for excluded in all.chunk_by(|one, other| one.source == other.source) {
        watch.say_once(&line(excluded));
    }
}

/// Returns a line for each path that is excluded.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let shown = |Excluded { source, cause, path }: &Excluded| {
        format!("excluded    {}  ({cause})  {}", one_line(path), one_line(source))
    };
    plan.excluded().map(shown).collect()
}

fn line(excluded: &[&Excluded]) -> String {
    let rules: Vec<&[&Excluded]> = excluded.chunk_by(|one, other| one.cause == other.cause).collect();
    let mut described: Vec<String> = rules.iter().take(RULES).map(|rule| described(rule)).collect();
    if rules.len() > RULES {
        described.push("…".to_owned());
    }
    let is_complete = rules.len() <= RULES && rules.iter().all(|rule| rule.len() <= PATHS);
    let all = if is_complete { "" } else { " (--dry-run lists all)" };
    let source = one_line(&excluded[0].source);
    format!("excluded {} from {source}: {}{all}", counted(excluded.len(), "path"), described.join("; "))
}

/// Returns the paths that one rule excludes.
fn described(rule: &[&Excluded]) -> String {
    let mut names: Vec<String> = rule.iter().take(PATHS).map(|excluded| one_line(&excluded.path)).collect();
    if rule.len() > PATHS {
        names.push(format!("{} more", rule.len() - PATHS));
    }
    format!("{} ({})", names.join(", "), rule[0].cause)
}
