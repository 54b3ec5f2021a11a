//! The `ocibuild` program: flags and glue. What it does is in the library.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
