//! What our reader of tars accepts, and what other programs read in the same bytes: they list the same entries, or refuse the archive.
//!
//! ```text
//! OCIBUILD_FUZZ_SECONDS=600 cargo test --test all fuzz::differential
//! ```

use super::structure;
use crate::listers::{self, Entry};
use crate::support::random::Random;
use crate::support::{Scratch, is_left_out};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many archives are listed at once.
const BATCH: usize = 100;

#[test]
fn other_readers_agree_on_every_tar_that_we_accept() {
    if is_left_out() {
        return;
    }
    let seconds = super::variable("OCIBUILD_FUZZ_SECONDS").unwrap_or(0);
    let mut seed = super::variable("OCIBUILD_FUZZ_SEED").unwrap_or(if seconds == 0 { 1 } else { super::time_seed() });
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut accepted, mut disagreements) = (0, Vec::new());
    loop {
        accepted += compare(seed, &mut disagreements);
        seed = seed.wrapping_add(1);
        if Instant::now() >= end {
            break;
        }
    }
    eprintln!("{accepted} archives that we accept, {} of which others read otherwise", disagreements.len());
    assert!(accepted > 0 && disagreements.is_empty(), "{disagreements:#?}");
}

/// Compares the lists of some archives that we accept. Returns how many that were.
fn compare(seed: u64, disagreements: &mut Vec<String>) -> usize {
    let mut random = Random::new(seed);
    let scratch = Scratch::new();
    let mut archives: Vec<(PathBuf, Vec<Entry>)> = Vec::new();
    for number in 0..10 * BATCH {
        let length = random.below(400);
        let bytes = structure::tar(&random.bytes(length));
        let Some(ours) = listers::accepted_by_us(&bytes) else { continue };
        archives.push((scratch.write(format!("{number}.tar"), bytes), ours));
        if archives.len() == BATCH {
            break;
        }
    }
    let paths: Vec<&Path> = archives.iter().map(|(path, _)| path.as_path()).collect();
    // libarchive finds no target of a link that only an extended header names.
    let others = listers::listed_by_others(&paths).into_iter().filter(|(reader, _)| *reader != "libarchive");
    for (reader, lists) in others {
        for ((path, ours), theirs) in archives.iter().zip(lists) {
            // A reader that refuses an archive does not unpack anything else.
            let Some(theirs) = theirs.filter(|theirs| theirs != ours) else { continue };
            let place = ours.iter().zip(&theirs).take_while(|(own, their)| own == their).count();
            let (own, their) = (ours.get(place), theirs.get(place));
            let name = path.file_name().unwrap().display();
            disagreements
                .push(format!("OCIBUILD_FUZZ_SEED={seed}: {name}: entry {place}: we read {own:?}, {reader} {their:?}"));
        }
    }
    archives.len()
}
