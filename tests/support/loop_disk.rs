//! Test disks: a file with a file system, mounted through a loop device that the system chooses.

use super::{Scratch, command, consumer, consumer_as_root, not_proven, run};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A mounted disk whose power can be cut. Dropping it unmounts the disk and frees the loop device.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    scratch: Scratch,
    kind: String,
}

impl LoopDisk {
    /// The file systems that power cuts are tried on.
    pub(crate) const KINDS: [&str; 3] = ["ext4", "xfs", "btrfs"];

    /// Creates a disk with the file system `kind`. Returns `None`, with a message, if none can be mounted.
    pub(crate) fn new(kind: &str) -> Option<LoopDisk> {
        consumer_as_root("mount")?;
        let make = consumer(&format!("mkfs.{kind}"))?;
        consumer("xfs_io")?;
        let disk = LoopDisk { scratch: Scratch::new(), kind: kind.to_owned() };
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
        if self.kind == "btrfs" {
            // It cannot be shut down, and unmounting it writes: what the disk has before that takes the place of what it has then.
            let copy = self.copy_of_one_moment();
            self.unmount();
            std::fs::rename(copy, self.image()).unwrap();
        } else {
            // Without -f, not even the journal is written.
            run(command("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.directory())).success();
            self.unmount();
        }
        self.mount().expect("a disk that could be mounted before");
    }

    /// Copies the file that is the disk, while nothing writes to the disk.
    fn copy_of_one_moment(&self) -> PathBuf {
        let copy = self.scratch.join("copy");
        let attached =
            run(command("losetup").args(["--noheadings", "--output", "NAME", "-j"]).arg(self.image())).success();
        let device = attached.text().trim_start_matches("/dev/").to_owned();
        // The numbers of reads and writes that have ended, of those under way, and more: iostats.rst of the kernel.
        let accesses = || std::fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
        let is_idle = |accesses: &str| accesses.split_whitespace().nth(8) == Some("0");
        let copied = || {
            let before = accesses();
            run(command("cp").arg("--sparse=always").arg(self.image()).arg(&copy)).success();
            is_idle(&before) && accesses() == before
        };
        wait_until(copied);
        copy
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
    // Not by a clock, which goes on while everything is stopped.
    for _ in 0..3000 {
        if happened() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the disk remains in use");
}

#[test]
fn a_power_cut_loses_what_is_not_synced_and_nothing_else() {
    for disk in LoopDisk::KINDS.into_iter().filter_map(LoopDisk::new) {
        std::fs::write(disk.join("synced"), "kept").unwrap();
        run(command("sync").arg("-f").arg(disk.directory())).success();
        std::fs::write(disk.join("not synced"), "lost").unwrap();
        disk.cut_power();
        assert_eq!(std::fs::read(disk.join("synced")).unwrap(), b"kept", "{}", disk.kind);
        assert!(!disk.join("not synced").exists(), "{}", disk.kind);
    }
}
