//! Handling of termination signals.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Set when a termination signal arrives, and never cleared.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the first signal does instead of ending the process.
static INSTEAD: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Makes the first termination signal call `stop`, for a command that ends by itself then. The second one ends the process.
pub(super) fn on_first_signal(stop: impl FnOnce() + Send + 'static) {
    *INSTEAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(stop));
}

/// On SIGINT, SIGTERM or SIGHUP, files in the making are removed, uploads given back, and the process ends with 128 and the
/// signal's number. No other clean-up is needed: an index is only ever replaced whole. A second signal ends the process at
/// once.
#[cfg(unix)]
pub(super) fn clean_up_on_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use std::sync::Arc;

    report_files_that_grow_too_large();
    let ignored = ignored_signals();
    let signals: Vec<i32> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !ignored.contains(signal)).collect();
    let stopped_before = Arc::new(AtomicBool::new(false));
    for &signal in &signals {
        // If the system refuses a handler, the signal keeps its default: the process ends, and the next run cleans up.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stopped_before.clone()).ok();
    }
    let Ok(mut pending) = signal_hook::iterator::Signals::new(signals) else { return };
    let first = stopped_before.clone();
    let handle = move || {
        if let Some(signal) = pending.forever().next() {
            first.store(true, Ordering::SeqCst);
            if let Some(stop) = INSTEAD.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return stop();
            }
            INTERRUPTED.store(true, Ordering::SeqCst);
            ocibuild::common::root::remove_live_temporaries();
            super::network::abandon_uploads();
            std::process::exit(128 + signal);
        }
    };
    if std::thread::Builder::new().spawn(handle).is_err() {
        // Without a thread for it, the first signal ends the process at once, and the next run cleans up.
        stopped_before.store(true, Ordering::SeqCst);
    }
}

/// Waits for the end if the process is being ended: work that fails because its files are being removed has not failed.
pub(super) fn wait_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// A file beyond the limit of `ulimit -f` is to be an error of the write, not the silent end of the process.
#[cfg(unix)]
fn report_files_that_grow_too_large() {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::new(AtomicBool::new(false))).ok();
}

/// Signals that the parent process has set to be ignored, as `nohup` does and shells do for background jobs.
#[cfg(unix)]
fn ignored_signals() -> Vec<i32> {
    let status = ocibuild::common::root::Root::open_named_file(std::path::Path::new("/proc/self/status"))
        .and_then(|file| ocibuild::common::bounded_read::read(file, 64 << 10, "status"))
        .unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

/// Elsewhere the process just ends, and the next run cleans up.
#[cfg(not(unix))]
pub(super) fn clean_up_on_signals() {}
