//! The promises of the program, row by row: bad input, faults of the machine, concurrency, determinism. The rows are
//! numbered as in the catalogue that this project was planned with; the number is in the name of each test or in its table.

pub(crate) mod contract;
pub(crate) mod forge;

mod archives;
mod changing_sources;
mod collecting;
mod command_line;
mod concurrency;
mod contexts;
mod destinations;
mod determinism;
mod durable;
mod file_system;
mod foreign_bases;
mod injected_faults;
pub(crate) mod limits;
mod links;
mod numbers;
mod output;
mod read_back;
mod secrets;
mod snapshots;
mod verifying;
