//! Progress: bars on a terminal, elsewhere one line for each step.

use super::output::complain;
use super::{Common, ProgressStyle};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle as Look};
use ocibuild::progress::{ActivityId, Event, Progress};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

/// A person's view of the work.
pub(super) enum Watch {
    /// Warnings only.
    Quiet,
    /// A line when a step is done.
    Lines(Mutex<BTreeMap<ActivityId, String>>),
    /// Bars that move.
    Bars { all: MultiProgress, bars: Mutex<BTreeMap<ActivityId, ProgressBar>> },
}

/// Redraws a second.
const RATE: u8 = 12;

impl Watch {
    /// Chooses the view that was asked for, or that fits where standard error leads.
    pub(super) fn new(common: &Common) -> Self {
        let is_plain_terminal =
            std::env::var_os("TERM").is_some_and(|term| term == "dumb") || set("NO_COLOR") || set("CI");
        let style = match common.progress {
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

    /// Says one line, above the bars if there are any, unless everything is to be quiet.
    pub(super) fn say(&self, line: &str) {
        let line = &ocibuild::error::shown(line);
        match self {
            Watch::Quiet => {}
            Watch::Lines(_) => complain(line),
            Watch::Bars { all, .. } => all.suspend(|| complain(line)),
        }
    }

    fn warn(&self, line: &str) {
        match self {
            Watch::Quiet | Watch::Lines(_) => complain(line),
            Watch::Bars { all, .. } => all.suspend(|| complain(line)),
        }
    }
}

/// Whether a variable of the environment is set to anything (no-color.org).
fn set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

impl Progress for Watch {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { object, reason } = event {
            let (object, reason) = (ocibuild::error::shown(object), ocibuild::error::shown(reason));
            self.warn(&format!("ocibuild: warning: {object}: {reason}"));
            return;
        }
        match self {
            Watch::Quiet => {}
            Watch::Lines(names) => {
                let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Started { activity, name, .. } => drop(names.insert(activity, name.to_owned())),
                    Event::Finished { activity, outcome } => {
                        if let Some(name) = names.remove(&activity) {
                            complain(&format!("{}: {outcome}", ocibuild::error::shown(&name)));
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
                            all.suspend(|| complain(&format!("{}: {outcome}", bar.message())));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

fn bar(name: &str, bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => {
            (ProgressBar::new(bytes), "{msg:40!} [{bar:24}] {bytes:>10} {binary_bytes_per_sec:>12} {eta:>4}")
        }
        None => (ProgressBar::new_spinner(), "{msg:40!} {bytes:>10} {binary_bytes_per_sec:>12}"),
    };
    let look = Look::with_template(template).unwrap_or_else(|_| Look::default_bar());
    bar.with_style(look.progress_chars("=> ")).with_message(ocibuild::error::shown(name))
}
