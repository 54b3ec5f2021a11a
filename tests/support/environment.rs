//! Trees like those of recorded environments, with every case that a recording can get wrong.

use super::random::Random;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Writes an environment for the absolute path `prefix` into `directory`.
///
/// The same seed and prefix produce the same tree.
pub(crate) fn write_environment(directory: &Path, prefix: &str, seed: u64) {
    let random = &mut Random::new(seed);
    for folder in ["bin", "lib/python3.11/deep", "empty", "share/größe und raum", "lib/__pycache__", ".git"] {
        fs::create_dir_all(directory.join(folder)).unwrap();
    }
    let file = |path: &str, mode: u32, content: &[u8]| {
        fs::write(directory.join(path), content).unwrap();
        fs::set_permissions(directory.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let identity = prefix.rsplit('/').next().unwrap();

    file("bin/python", 0o755, format!("#!/bin/sh\necho prefix {prefix}\n").as_bytes());
    file("bin/setuid", 0o4755, b"#!/bin/sh\n");
    file("lib/libz.so.1.2", 0o755, &random.bytes(70_000));
    file("lib/private", 0o600, b"same content");
    file("lib/public", 0o644, b"same content");
    file("lib/readonly", 0o444, b"read only");
    file("lib/empty", 0o644, b"");
    file("lib/python3.11/deep/module.py", 0o644, format!("{prefix}\n{prefix}\n{prefix}/x").as_bytes());
    file("share/größe und raum/naïve\nname", 0o644, b"odd name");
    file("share/identity-at-end", 0o644, format!("x{prefix}").as_bytes());
    // RCC overlooks an occurrence at the end of a file that follows this letter.
    file("share/overlooked", 0o644, format!("t{identity}").as_bytes());

    let mut binary = random.bytes(100_000);
    for at in [500, 32_768 - 12, 65_536 - 24, 65_536, 99_000] {
        binary[at..at + identity.len()].copy_from_slice(identity.as_bytes());
    }
    file("lib/binary.so", 0o755, &binary);
    let mut large = random.bytes(5_000_000);
    for at in [0, (1 << 20) - 10, 4_999_900] {
        large[at..at + identity.len()].copy_from_slice(identity.as_bytes());
    }
    file("lib/large.so", 0o644, &large);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(b"packed before it was recorded").unwrap();
    file("share/packed.gz", 0o644, &packed.finish().unwrap());

    // Not recorded.
    file("lib/__pycache__/module.pyc", 0o644, b"compiled");
    file("lib/stray.pyc", 0o644, b"compiled");
    file(".git/HEAD", 0o644, b"ref: main");

    symlink("python", directory.join("bin/python3")).unwrap();
    symlink("../lib/libz.so.1.2", directory.join("bin/libz.so")).unwrap();
    symlink(format!("{prefix}/bin/python"), directory.join("bin/absolute")).unwrap();
    symlink("lib", directory.join("lib64")).unwrap();

    for number in 0..random.below(60) {
        let folder = directory.join(format!("random/{}/{}", random.below(4), random.below(3)));
        fs::create_dir_all(&folder).unwrap();
        let length = random.below(3000);
        let mut content = random.bytes(length);
        for _ in 0..random.below(3) {
            let at = random.below(content.len() + 1);
            let tail = content.split_off(at);
            content.extend_from_slice(identity.as_bytes());
            content.extend_from_slice(&tail);
            content.push(b'.');
        }
        fs::write(folder.join(format!("f{number}")), content).unwrap();
    }
}
