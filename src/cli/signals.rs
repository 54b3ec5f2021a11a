//! What happens when the program is told to stop.

/// On SIGINT, SIGTERM or SIGHUP, files in the making are removed, uploads given back, and the process ends with 128 and the signal's number. No
/// other clean-up is needed: an index is only ever replaced whole. A second signal ends the process at once.
#[cfg(unix)]
pub(super) fn clean_up_when_told_to_stop() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let signals = [SIGINT, SIGTERM, SIGHUP];
    let told_before = Arc::new(AtomicBool::new(false));
    for signal in signals {
        // Where the system refuses a handler, the signal keeps its default: the process ends, and the next run cleans up.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, told_before.clone()).ok();
    }
    let Ok(mut told) = signal_hook::iterator::Signals::new(signals) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = told.forever().next() {
            told_before.store(true, Ordering::SeqCst);
            ocibuild::root::remove_live_temporaries();
            super::network::abandon_uploads();
            std::process::exit(128 + signal);
        }
    });
}

/// Elsewhere the process just ends, and the next run cleans up.
#[cfg(not(unix))]
pub(super) fn clean_up_when_told_to_stop() {}
