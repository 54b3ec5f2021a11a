//! Saying which images lost their names.

use super::progress_display::Watch;
use ocibuild::common::human_numbers::size;
use ocibuild::spec::Replaced;
use serde_json::{Value, json};

/// Prints one line for each image that lost its name.
pub(super) fn report_replaced(replaced: &[Replaced], watch: &Watch) {
    for Replaced { name, image, unneeded } in replaced {
        let unneeded = match unneeded {
            None | Some(0) => String::new(),
            Some(bytes) => format!("; gc can free {}", size(*bytes)),
        };
        watch.say(&format!("replaced {}, the former {name}{unneeded}", image.digest));
    }
}

/// Returns the same as JSON.
pub(super) fn replaced_json(replaced: &[Replaced]) -> Value {
    let described = |Replaced { name, image, unneeded }: &Replaced| json!({"name": name.to_string(), "digest": image.digest.to_string(), "unneededBytes": unneeded});
    replaced.iter().map(described).collect()
}
