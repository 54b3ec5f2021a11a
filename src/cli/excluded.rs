//! What of the sources is not in the image: one line while it is built, and a line for each path where nothing is.

use super::progress_display::Watch;
use ocibuild::build::Plan;
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::counted;
use ocibuild::layers::tree::Excluded;

/// How many rules are named in the one line, and how many paths of each.
const RULES: usize = 5;
const PATHS: usize = 2;

/// Says in one line for each source how much of it is excluded, by which rules, and the first names.
pub(super) fn say(plan: &Plan, watch: &Watch) {
    let all: Vec<&Excluded> = plan.excluded().collect();
    for excluded in all.chunk_by(|one, other| one.source == other.source) {
        watch.say(&line(excluded));
    }
}

/// A line for each path that is excluded.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let shown = |Excluded { source, cause, path }: &Excluded| {
        format!("excluded    {}  ({cause})  {}", one_line(path), one_line(source))
    };
    plan.excluded().map(shown).collect()
}

fn line(excluded: &[&Excluded]) -> String {
    let rules: Vec<&[&Excluded]> = excluded.chunk_by(|one, other| one.cause == other.cause).collect();
    let mut told: Vec<String> = rules.iter().take(RULES).map(|rule| told(rule)).collect();
    if rules.len() > RULES {
        told.push("…".to_owned());
    }
    let is_complete = rules.len() <= RULES && rules.iter().all(|rule| rule.len() <= PATHS);
    let all = if is_complete { "" } else { " (--dry-run lists all)" };
    let source = one_line(&excluded[0].source);
    format!("excluded {} of {source}: {}{all}", counted(excluded.len(), "path"), told.join("; "))
}

/// The paths that one rule excludes.
fn told(rule: &[&Excluded]) -> String {
    let mut names: Vec<String> = rule.iter().take(PATHS).map(|excluded| one_line(&excluded.path)).collect();
    if rule.len() > PATHS {
        names.push(format!("{} more", rule.len() - PATHS));
    }
    format!("{} ({})", names.join(", "), rule[0].cause)
}
