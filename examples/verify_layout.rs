//! Verifies an image layout, and prints what is wrong with it.
//!
//! The exit status is 1 if there is a fault:
//!
//! ```text
//! cargo run --example verify_layout -- ./out
//! ```

use ocibuild::{Silent, verify};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: verify_layout LAYOUT")?;
    let report = verify(directory.as_ref(), &Silent)?;
    let mut stdout = std::io::stdout();
    for fault in &report.faults {
        writeln!(stdout, "{fault}")?;
    }
    writeln!(stdout, "images: {}, blobs: {}, faults: {}", report.images, report.blobs, report.faults.len())?;
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
