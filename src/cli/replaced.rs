//! Saying which images lost their names.

use super::progress_display::Watch;
use ocibuild::spec::Replaced;
use serde_json::{Value, json};

/// Prints one line for each image that lost its name.
pub(super) fn report_replaced(replaced: &[Replaced], watch: &Watch) {
    for Replaced { name, digest } in replaced {
        watch.say(&format!("replaced {digest}, the former {name}"));
    }
}

/// Returns the same as JSON.
pub(super) fn replaced_json(replaced: &[Replaced]) -> Value {
    let described =
        |Replaced { name, digest }: &Replaced| json!({"name": name.to_string(), "digest": digest.to_string()});
    replaced.iter().map(described).collect()
}
