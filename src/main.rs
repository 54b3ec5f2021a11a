//! The `ocibuild` program: command-line flags over the library.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
