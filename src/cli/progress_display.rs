//! Progress: bars on a terminal, elsewhere one line for each step.

use super::output::complain;
use super::{Common, OutputFormat, ProgressStyle};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle as Look};
use ocibuild::common::error::message_text;
use ocibuild::common::human_numbers::size;
use ocibuild::common::progress::{ActivityId, Event, Progress};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A view of the work.
pub(super) struct Watch {
    view: View,
    /// The lines that are printed once. A blob that goes from a registry into the cache and from there into a layout that cannot share it
    /// has two steps of one line, and what is noticed for each of several platforms is mostly the same.
    said: Mutex<BTreeSet<String>>,
}

/// What is shown.
enum View {
    /// Nothing, because the same work is done again with another view.
    Nothing,
    /// Warnings only.
    Quiet,
    /// Warnings only, each as a JSON object.
    Json,
    /// A line when a step is done, and while it lasts.
    Lines(Mutex<BTreeMap<ActivityId, ProgressStep>>),
    /// Bars that move.
    Bars { all: MultiProgress, bars: Mutex<BTreeMap<ActivityId, ProgressBar>> },
}

/// A step under way, where each line stays.
pub(super) struct ProgressStep {
    name: String,
    done: u64,
    bytes: Option<u64>,
    last_line: Instant,
}

/// The most lines that are remembered, so that the memory of a long run is bounded. After these, a line may be printed twice.
const REMEMBERED: usize = 10_000;

/// Redraws of a bar in a second.
const RATE: u8 = 12;

/// The interval between lines about the progress of a step.
const PAUSE: Duration = Duration::from_secs(2);

impl Watch {
    /// Selects the requested view, or one that fits standard error.
    pub(super) fn new(common: &Common) -> Self {
        Watch::showing(View::new(common))
    }

    /// Shows nothing, not even warnings.
    pub(super) fn nothing() -> Self {
        Watch::showing(View::Nothing)
    }

    /// Shows warnings only.
    pub(super) fn quiet() -> Self {
        Watch::showing(View::Quiet)
    }

    fn showing(view: View) -> Self {
        Watch { view, said: Mutex::default() }
    }

    /// Prints a line, above the progress bars if there are any, unless --quiet is given.
    pub(super) fn say(&self, line: &str) {
        if matches!(self.view, View::Lines(_) | View::Bars { .. }) {
            self.print(&message_text(line));
        }
    }

    /// Prints a line as [`Watch::say`] does, unless it was printed by this function before.
    pub(super) fn say_once(&self, line: &str) {
        if self.is_new(line) {
            self.say(line);
        }
    }

    /// Prints a warning, also one that was printed before.
    pub(super) fn warn_again(&self, object: &str, reason: &str) {
        if let Some(line) = self.warning(object, reason) {
            self.print(&line);
        }
    }

    fn warn(&self, object: &str, reason: &str) {
        if let Some(line) = self.warning(object, reason).filter(|line| self.is_new(line)) {
            self.print(&line);
        }
    }

    fn warning(&self, object: &str, reason: &str) -> Option<String> {
        let (object, reason) = (message_text(object), message_text(reason));
        match self.view {
            View::Nothing => None,
            View::Json => Some(json!({"warning": {"object": object, "reason": reason}}).to_string()),
            View::Quiet | View::Lines(_) | View::Bars { .. } => Some(format!("ocibuild: warning: {object}: {reason}")),
        }
    }

    /// Returns `true` if the line was not printed yet, and remembers it.
    fn is_new(&self, line: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED {
            return !said.contains(line);
        }
        said.insert(line.to_owned())
    }

    fn print(&self, line: &str) {
        match &self.view {
            View::Bars { all, .. } => all.suspend(|| complain(line)),
            _ => complain(line),
        }
    }
}

impl View {
    fn new(common: &Common) -> Self {
        let is_plain_terminal = std::env::var_os("TERM").is_some_and(|term| term == "dumb") || set("CI");
        let style = match common.progress {
            _ if common.format == OutputFormat::Json => return View::Json,
            _ if common.quiet => ProgressStyle::None,
            ProgressStyle::Auto if is_plain_terminal || !std::io::stderr().is_terminal() => ProgressStyle::Plain,
            style => style,
        };
        match style {
            ProgressStyle::None => View::Quiet,
            ProgressStyle::Plain => View::Lines(Mutex::default()),
            ProgressStyle::Auto => {
                let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE));
                View::Bars { all, bars: Mutex::default() }
            }
        }
    }
}

impl ProgressStep {
    /// Adds processed bytes, and prints the progress of the step if it was not printed for a while.
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if self.last_line.elapsed() < PAUSE {
            return;
        }
        self.last_line = Instant::now();
        let all = self.bytes.map(|bytes| format!(" of {}", size(bytes))).unwrap_or_default();
        complain(&format!("{}: {}{all}", self.name, size(self.done)));
    }
}

/// Returns `true` if a variable of the environment is set to anything (no-color.org).
fn set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

impl Progress for Watch {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { object, reason } = event {
            self.warn(object, reason);
            return;
        }
        match &self.view {
            View::Nothing | View::Quiet | View::Json => {}
            View::Lines(steps) => {
                let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Started { activity, name, bytes } => {
                        let name = message_text(name).to_string();
                        steps.insert(activity, ProgressStep { name, done: 0, bytes, last_line: Instant::now() });
                    }
                    Event::Advanced { activity, bytes } => {
                        if let Some(step) = steps.get_mut(&activity) {
                            step.advance(bytes);
                        }
                    }
                    Event::Finished { activity, outcome } => {
                        if let Some(step) = steps.remove(&activity) {
                            self.say_once(&format!("{}: {outcome}", step.name));
                        }
                    }
                    _ => {}
                }
            }
            View::Bars { all, bars } => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Started { activity, name, bytes } => {
                        let bar = all.add(bar(name, bytes));
                        bars.insert(activity, bar);
                    }
                    Event::Advanced { activity, bytes } => {
                        if let Some(bar) = bars.get(&activity) {
                            bar.inc(bytes);
                        }
                    }
                    Event::Finished { activity, outcome } => {
                        if let Some(bar) = bars.remove(&activity) {
                            bar.finish_and_clear();
                            self.say_once(&format!("{}: {outcome}", bar.message()));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Returns a line that fits the terminal: what is left of it is for the name.
fn bar(name: &str, bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_msg} [{bar:10}] {bytes:>10}/{total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4}",
        ),
        None => (ProgressBar::new_spinner(), "{wide_msg} {bytes:>10} {binary_bytes_per_sec:>12}"),
    };
    let look = Look::with_template(template).unwrap_or_else(|_| Look::default_bar());
    bar.with_style(look.progress_chars("=> ")).with_message(message_text(name).to_string())
}
