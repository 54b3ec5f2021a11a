//! Saying which images lost their names.

use super::progress_display::Watch;
use ocibuild::spec::Replaced;
use serde_json::{Value, json};

/// Says one line for each image that is no longer listed under its name.
pub(super) fn report_replaced(replaced: &[Replaced], watch: &Watch) {
    for Replaced { name, digest } in replaced {
        watch.say(&format!("replaced {digest}, which was {name}"));
    }
}

/// The same for programs.
pub(super) fn replaced_json(replaced: &[Replaced]) -> Value {
    let described =
        |Replaced { name, digest }: &Replaced| json!({"name": name.to_string(), "digest": digest.to_string()});
    replaced.iter().map(described).collect()
}
