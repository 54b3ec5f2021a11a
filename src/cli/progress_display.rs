//! Progress: bars on a terminal, elsewhere one line for each step.

use super::output::complain;
use super::{Common, OutputFormat, ProgressStyle};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle as Look};
use ocibuild::common::human_numbers::size;
use ocibuild::common::progress::{ActivityId, Event, Progress};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A view of the work.
pub(super) enum Watch {
    /// Nothing, because the same work is done again with another view.
    Nothing,
    /// Warnings only.
    Quiet,
    /// Warnings only, each as a JSON object.
    Json,
    /// A line when a step is done, and while it lasts.
    Lines(Mutex<Steps<ProgressStep>>),
    /// Bars that move.
    Bars { all: MultiProgress, bars: Mutex<Steps<ProgressBar>> },
}

/// The steps under way, and the lines of those that are done. A blob that goes from a registry into the cache and from there into a
/// layout that cannot share it has two steps of one line, which is said once.
pub(super) struct Steps<S> {
    open: BTreeMap<ActivityId, S>,
    said: BTreeSet<String>,
}

impl<S> Default for Steps<S> {
    fn default() -> Self {
        Steps { open: BTreeMap::new(), said: BTreeSet::new() }
    }
}

/// A step under way, where each line stays.
pub(super) struct ProgressStep {
    name: String,
    done: u64,
    bytes: Option<u64>,
    last_line: Instant,
}

/// Redraws of a bar in a second.
const RATE: u8 = 12;

/// The interval between lines about the progress of a step.
const PAUSE: Duration = Duration::from_secs(2);

impl Watch {
    /// Selects the requested view, or one that fits standard error.
    pub(super) fn new(common: &Common) -> Self {
        let is_plain_terminal = std::env::var_os("TERM").is_some_and(|term| term == "dumb") || set("CI");
        let style = match common.progress {
            _ if common.format == OutputFormat::Json => return Watch::Json,
            _ if common.quiet => ProgressStyle::None,
            ProgressStyle::Auto if is_plain_terminal || !std::io::stderr().is_terminal() => ProgressStyle::Plain,
            style => style,
        };
        match style {
            ProgressStyle::None => Watch::Quiet,
            ProgressStyle::Plain => Watch::Lines(Mutex::default()),
            ProgressStyle::Auto => {
                let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE));
                Watch::Bars { all, bars: Mutex::default() }
            }
        }
    }

    /// Prints a line, above the progress bars if there are any, unless --quiet is given.
    pub(super) fn say(&self, line: &str) {
        let line = &ocibuild::common::error::message_text(line);
        match self {
            Watch::Nothing | Watch::Quiet | Watch::Json => {}
            Watch::Lines(_) => complain(line),
            Watch::Bars { all, .. } => all.suspend(|| complain(line)),
        }
    }

    fn warn(&self, object: &str, reason: &str) {
        let (object, reason) =
            (ocibuild::common::error::message_text(object), ocibuild::common::error::message_text(reason));
        let line = format!("ocibuild: warning: {object}: {reason}");
        match self {
            Watch::Nothing => {}
            Watch::Json => complain(&json!({"warning": {"object": object, "reason": reason}}).to_string()),
            Watch::Quiet | Watch::Lines(_) => complain(&line),
            Watch::Bars { all, .. } => all.suspend(|| complain(&line)),
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
        match self {
            Watch::Nothing | Watch::Quiet | Watch::Json => {}
            Watch::Lines(steps) => {
                let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Started { activity, name, bytes } => {
                        let name = ocibuild::common::error::message_text(name).to_string();
                        steps.open.insert(activity, ProgressStep { name, done: 0, bytes, last_line: Instant::now() });
                    }
                    Event::Advanced { activity, bytes } => {
                        if let Some(step) = steps.open.get_mut(&activity) {
                            step.advance(bytes);
                        }
                    }
                    Event::Finished { activity, outcome } => {
                        if let Some(step) = steps.open.remove(&activity) {
                            let line = format!("{}: {outcome}", step.name);
                            if steps.said.insert(line.clone()) {
                                complain(&line);
                            }
                        }
                    }
                    _ => {}
                }
            }
            Watch::Bars { all, bars } => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Started { activity, name, bytes } => {
                        let bar = all.add(bar(name, bytes));
                        bars.open.insert(activity, bar);
                    }
                    Event::Advanced { activity, bytes } => {
                        if let Some(bar) = bars.open.get(&activity) {
                            bar.inc(bytes);
                        }
                    }
                    Event::Finished { activity, outcome } => {
                        if let Some(bar) = bars.open.remove(&activity) {
                            bar.finish_and_clear();
                            let line = format!("{}: {outcome}", bar.message());
                            if bars.said.insert(line.clone()) {
                                all.suspend(|| complain(&line));
                            }
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
    bar.with_style(look.progress_chars("=> ")).with_message(ocibuild::common::error::message_text(name).to_string())
}
