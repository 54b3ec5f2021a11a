//! Test disks: a file with a file system, mounted through a loop device that the system chooses.

use super::{Scratch, command, consumer, consumer_as_root, not_proven, run};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A mounted disk whose power can be cut. Dropping it unmounts the disk and frees the loop device.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    scratch: Scratch,
}

impl LoopDisk {
    /// Creates a disk with the file system `kind`. Returns `None`, with a message, if none can be mounted.
    pub(crate) fn new(kind: &str) -> Option<LoopDisk> {
        consumer_as_root("mount")?;
        let make = consumer(&format!("mkfs.{kind}"))?;
        consumer("xfs_io")?;
        let disk = LoopDisk { scratch: Scratch::new() };
        std::fs::File::create(disk.image()).unwrap().set_len(512 << 20).unwrap();
        run(command(make).arg("-q").arg(disk.image())).success();
        std::fs::create_dir(disk.directory()).unwrap();
        let mounted = disk.mount();
        if mounted.is_none() {
            not_proven(&format!("no {kind} can be mounted through a loop device here, so not proven: power cuts"));
        }
        mounted.map(|()| disk)
    }

    /// Returns the path of `name` on the disk.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory().join(name)
    }

    /// Ends all access to the disk at once, without writing data in memory, and mounts it again.
    #[track_caller]
    pub(crate) fn cut_power(&self) {
        // Without -f, not even the journal is written.
        run(command("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.directory())).success();
        self.unmount();
        self.mount().expect("a disk that could be mounted before");
    }

    /// Unmounts the disk, as soon as a process that was killed has let go of it, and waits until it is in use nowhere: a
    /// container that another test starts may have a copy of every mount.
    #[track_caller]
    fn unmount(&self) {
        let is_unmounted = || run(command("umount").arg(self.directory())).status == 0;
        let is_free = || run(command("losetup").arg("-j").arg(self.image())).success().stdout.is_empty();
        wait_until(is_unmounted);
        wait_until(is_free);
    }

    fn mount(&self) -> Option<()> {
        let mounted = run(command("mount").args(["-o", "loop"]).arg(self.image()).arg(self.directory()));
        (mounted.status == 0).then_some(())
    }

    /// Returns the file that is the disk.
    pub(crate) fn image(&self) -> PathBuf {
        self.scratch.join("disk")
    }

    fn directory(&self) -> PathBuf {
        self.scratch.join("mounted")
    }
}

#[track_caller]
fn wait_until(happened: impl Fn() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(60), "the disk remains in use");
        std::thread::sleep(Duration::from_millis(20));
    }
}
