//! Programs that tests make and then run.
//!
//! Another process writes them. A file that is open for writing cannot be run ("Text file busy"), and every process that
//! another test starts in that moment holds this process's open files for a while.

use super::command::{command, run};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Copies the program under test into `directory`, where another user can run it.
pub(crate) fn install_ocibuild(directory: &Path) -> PathBuf {
    let program = directory.join("ocibuild");
    run(installing().arg(env!("CARGO_BIN_EXE_ocibuild")).arg(&program)).success();
    program
}

/// Makes a program of the script `text`, which names its interpreter in the first line.
pub(crate) fn install_script(program: &Path, text: &str) {
    let mut process = installing().arg("/dev/stdin").arg(program).stdin(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(process.wait().unwrap().success(), "{}", program.display());
}

fn installing() -> Command {
    let mut install = command("install");
    install.args(["-D", "-m", "755"]);
    install
}
