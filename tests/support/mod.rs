//! Support for all tests: scratch directories, commands, and the search for other programs.

mod command;
#[cfg(target_os = "linux")]
pub(crate) mod debian;
#[cfg(target_os = "linux")]
pub(crate) mod environment;
#[cfg(target_os = "linux")]
pub(crate) mod hololib;
#[cfg(target_os = "linux")]
pub(crate) mod kept;
#[cfg(target_os = "linux")]
mod loop_disk;
#[cfg(target_os = "linux")]
mod own_memory;
#[cfg(target_os = "linux")]
pub(crate) mod packages;
#[cfg(target_os = "linux")]
mod presence;
#[cfg(target_os = "linux")]
mod programs;
#[cfg(target_os = "linux")]
pub(crate) mod random;
#[cfg(target_os = "linux")]
pub(crate) mod real_rcc;
mod scratch;
mod second_reader;
mod selection;
#[cfg(target_os = "linux")]
mod static_program;

pub(crate) use command::{Finished, Used, command, ocibuild, run, run_within};
#[cfg(target_os = "linux")]
pub(crate) use command::{processor_time, use_program};
#[cfg(target_os = "linux")]
pub(crate) use loop_disk::LoopDisk;
#[cfg(target_os = "linux")]
pub(crate) use own_memory::most_own_memory;
#[cfg(target_os = "linux")]
pub(crate) use presence::{as_nobody, consumer, consumer_as_root, python_with};
#[cfg(target_os = "linux")]
pub(crate) use programs::{install_ocibuild, install_script};
pub(crate) use scratch::{Scratch, session};
pub(crate) use selection::is_left_out;
#[cfg(target_os = "linux")]
pub(crate) use selection::not_proven;
#[cfg(target_os = "linux")]
pub(crate) use static_program::static_program;
