//! The cache directory as a whole: it heals, it is one view, and it stays small by itself.

use crate::support::{Finished, Scratch, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A source directory, and a cache beside it.
struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { scratch: Scratch::new() };
        bench.scratch.write("source/file", "content\n".repeat(5000));
        // Long enough that the file is not racy any more.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        bench
    }

    fn cache(&self) -> PathBuf {
        self.scratch.join("cache")
    }

    /// `ocibuild ARGUMENTS` with this cache, in the scratch directory.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut program = crate::support::ocibuild();
        program.args(arguments).arg("--cache-dir").arg(self.cache());
        program.env_remove("OCIBUILD_NO_CACHE").current_dir(self.scratch.path());
        program
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        run(&mut self.command(arguments))
    }

    #[track_caller]
    fn build(&self, out: &str) -> Finished {
        self.run(&["layout", out, "--copy", "source:/srv"]).success()
    }

    /// The largest blob below `directory`.
    fn largest_blob(&self, directory: &str) -> PathBuf {
        let blobs = fs::read_dir(self.scratch.join(directory).join("blobs/sha256")).unwrap();
        blobs.map(|blob| blob.unwrap().path()).max_by_key(|blob| blob.metadata().unwrap().len()).unwrap()
    }
}

/// Changes one byte in place: the size and the modification time stay as they are.
fn damage(file: &Path) {
    let modified = file.metadata().unwrap().modified().unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(file, content).unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
}

/// M26: damage that no stamp tells is believed until somebody looks; from then on the next build heals it.
#[test]
fn what_was_found_damaged_is_healed_by_the_next_build() {
    for (find, damaged) in [(["verify", "out"], "out"), (["cache", "verify"], "cache/store")] {
        let bench = Bench::new();
        bench.build("out");
        bench.run(&["verify", "out"]).success();
        bench.build("out");
        damage(&bench.largest_blob(damaged));
        bench.run(&find).ended_with(1);
        bench.build("out");
        bench.run(&["verify", "out"]).success();
        bench.build("other");
        bench.run(&["verify", "other"]).success();
    }
}
