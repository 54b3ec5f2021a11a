//! `diff`: what differs between two images.

mod image;
mod places;
mod planted;

use crate::support::{Finished, Scratch, ocibuild, run};
use serde_json::Value;

/// A directory with images, in which commands are run.
struct Yard {
    scratch: Scratch,
}

impl Yard {
    fn new() -> Yard {
        Yard { scratch: Scratch::new() }
    }

    /// Runs a command line whose words contain no blanks.
    fn run(&self, line: &str) -> Finished {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).args(line.split_ascii_whitespace());
        command.env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        run(&mut command)
    }

    /// Returns the differences between two images, and asserts the exit status.
    fn diff(&self, before: &str, after: &str, status: i32) -> Value {
        let finished = self.run(&format!("diff {before} {after} --format json")).ended_with(status);
        serde_json::from_str(finished.text()).unwrap()
    }
}

/// Returns the differences, one line each, without what follows from others: layers with other files.
fn lines(differences: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for difference in differences.as_array().unwrap() {
        let text = |member: &str| difference[member].as_str().unwrap_or_default();
        let sign = match text("change") {
            "added" => "+",
            "removed" => "-",
            _ => "~",
        };
        let words = |member: &str, key: &str| -> Vec<String> {
            let all = difference[member].as_array().into_iter().flatten();
            all.map(|each| if key.is_empty() { each } else { &each[key] })
                .map(|it| it.as_str().unwrap().to_owned())
                .collect()
        };
        match text("part") {
            "layer" => {
                let place = |side: &str| difference[side]["layer"].as_u64();
                let (before, after) = (place("before"), place("after"));
                let number = before.or(after).unwrap();
                lines.extend(match text("change") {
                    "same" => Vec::new(),
                    "moved" => vec![format!("layer {number} -> {} moved", after.unwrap())],
                    "changed" => words("reasons", "what")
                        .into_iter()
                        .filter(|what| what != "files")
                        .map(|what| format!("layer {number} ~ {what}"))
                        .collect(),
                    _ => vec![format!("layer {number} {sign}")],
                });
            }
            "file" => {
                let what = words("what", "");
                lines.push(format!("{} {sign} {}", text("name"), what.join(" ")).trim_end().to_owned());
            }
            part => lines.push(format!("{part} {sign} {}", text("name"))),
        }
    }
    lines
}
