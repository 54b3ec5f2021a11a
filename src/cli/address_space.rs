//! A limit of the address space (`ulimit -v`), most of which the C library may reserve.
//!
//! glibc reserves 64 MiB of addresses for each thread that allocates memory, and twice that for a moment (mallopt(3),
//! `M_ARENA_MAX`). If another thread allocates at that moment and no addresses are left, the program is aborted.

/// Starts the program again with one reservation for all threads, if its address space is limited.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn reserve_little() {
    use std::os::unix::process::CommandExt;

    const RESERVATIONS: &str = "MALLOC_ARENA_MAX";

    let is_limited = rustix::process::getrlimit(rustix::process::Resource::As).current.is_some();
    if is_limited && std::env::var_os(RESERVATIONS).is_none() {
        let mut arguments = std::env::args_os();
        if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
            // It returns if that is impossible: most commands have enough room even so.
            let _not_started =
                std::process::Command::new(program).arg0(name).args(arguments).env(RESERVATIONS, "1").exec();
        }
    }
}

/// Other systems and C libraries reserve little.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn reserve_little() {}
