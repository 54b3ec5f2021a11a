//! Helper threads, if the system can start them.
//!
//! A limit on processes (`ulimit -u`, `pids.max` of a container) may refuse a thread at any moment. The work is then done
//! on this thread instead, which only takes longer.

use rayon::ThreadPoolBuilder;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, ScopedJoinHandle, scope};

/// Fewer files than this are looked up without further threads, because starting them takes longer.
pub const FEW_FILES: usize = 256;
/// The number of threads that look up files, for each thread of the program. Where the disk has to be read, most of them wait.
const WAITING: usize = 4;
/// The largest number of threads that are started because some wait.
const MOST_WAITING: usize = 32;

/// Calls `work`, whose parallel iterators look up `files` files, with threads enough to keep a disk busy.
pub fn looking_up<T: Send>(files: usize, work: impl FnOnce() -> T + Send) -> T {
    if files < FEW_FILES {
        return work();
    }
    let threads = rayon::current_num_threads();
    match ThreadPoolBuilder::new().num_threads(threads.max((WAITING * threads).min(MOST_WAITING))).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

/// Calls `work` on up to `count` threads at once, including this one. Each call takes items that the others have left.
pub fn together(count: usize, work: impl Fn() + Sync) {
    scope(|scope| {
        for _ in 1..count {
            if Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

/// Calls `beside` on another thread and `here` on this one. If no thread can be started, calls `beside` first. Its result
/// is `None` if it panicked.
pub fn both<A: Send, B>(beside: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (Option<A>, B) {
    // Kept here, so that it is not lost with a thread that cannot be started.
    let beside = Mutex::new(Some(beside));
    let take = || beside.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = || take().map(|beside| beside());
    scope(|scope| match Builder::new().spawn_scoped(scope, run) {
        Ok(running) => {
            let here = here();
            (ScopedJoinHandle::join(running).ok().flatten(), here)
        }
        Err(_) => (run(), here()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn work_is_shared_and_done_once() {
        let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
        together(4, || {
            while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < 1000) {
                sum.fetch_add(number, Ordering::Relaxed);
            }
        });
        assert_eq!(sum.into_inner(), 499_500);
        assert_eq!(both(|| 1, || 2), (Some(1), 2));
    }

    #[test]
    fn many_files_are_looked_up_by_more_threads() {
        let threads = |files| looking_up(files, rayon::current_num_threads);
        let here = rayon::current_num_threads();
        assert_eq!(threads(FEW_FILES - 1), here);
        assert!(here >= MOST_WAITING || threads(FEW_FILES) > here);
    }

    #[test]
    fn a_panic_in_a_thread_is_reported() {
        assert_eq!(both(|| -> u8 { std::panic::resume_unwind(Box::new(())) }, || 2), (None, 2));
    }
}
