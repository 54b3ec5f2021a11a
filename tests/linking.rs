//! Programs and native modules that cannot run in the image that they are copied to.

use crate::support::{Finished, Scratch, command, consumer, ocibuild, run};
use std::fs;

/// Compiles `main` to `name`.
fn compile(scratch: &Scratch, name: &str, flags: &[&str]) -> Option<()> {
    let compiler = consumer("gcc")?;
    let source = scratch.write("main.c", "int main(void) { return 0; }\n");
    run(command(compiler).args(flags).arg("-o").arg(scratch.join(name)).arg(source)).success();
    Some(())
}

#[track_caller]
fn layout(scratch: &Scratch, arguments: &[&str]) -> Finished {
    let mut build = ocibuild();
    build.current_dir(scratch.path()).args(["layout", "out", "--compression", "none"]).args(arguments);
    run(&mut build).success()
}

#[test]
fn a_program_without_its_loader_is_noticed() {
    let scratch = Scratch::new();
    let (Some(()), Some(())) = (compile(&scratch, "dynamic", &[]), compile(&scratch, "alone", &["-static"])) else {
        return;
    };
    let start = fs::read(scratch.join("dynamic")).unwrap();
    let loader = "/lib64/ld-linux-x86-64.so.2";
    if !start.windows(loader.len()).any(|part| part == loader.as_bytes()) {
        return;
    }
    let warning = format!(
        "/dynamic: needs {loader}, which the image does not have, so it cannot start (use a base with glibc, or link it statically)"
    );
    let built = layout(&scratch, &["--copy=dynamic:/dynamic", "-t", "v1"]);
    assert!(built.stderr.contains(&warning), "{built}");
    // The same program a second time, from the cache, is still the entrypoint.
    let again = layout(&scratch, &["--copy=dynamic:/dynamic", "--entrypoint=/dynamic", "-t", "v2"]);
    assert!(
        again.stderr.contains("entrypoint /dynamic: /dynamic needs /lib64/ld-linux-x86-64.so.2, which the image"),
        "{again}"
    );
    let fine = layout(&scratch, &["--copy=alone:/alone", "--entrypoint=/alone", "-t", "v3"]);
    assert!(!fine.stderr.contains("needs"), "{fine}");
    scratch.write("base/lib64/ld-linux-x86-64.so.2", "a loader");
    let with_loader = ["--copy=base:/", "--copy=dynamic:/bin/other", "--entrypoint=/bin/other", "-t", "v4"];
    assert!(!layout(&scratch, &with_loader).stderr.contains("needs"));
}

/// An ELF file for a machine, linked to a library.
fn addon(machine: u8, library: &str) -> Vec<u8> {
    let strings = format!("\0{library}\0").into_bytes();
    let dynamic: Vec<u8> = [1_u64, 1, 5, 0x1000, 0, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (bytes[16], bytes[18], bytes[32], bytes[54], bytes[56]) = (3, machine, 64, 56, 2);
    let mut offset = 64 + 2 * 56;
    for (kind, address, length) in [(1_u32, 0x1000_u64, strings.len() + 64), (2, 0, dynamic.len())] {
        let mut header = [0; 56];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..16].copy_from_slice(&(offset as u64).to_le_bytes());
        header[16..24].copy_from_slice(&address.to_le_bytes());
        header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        bytes.extend(header);
        offset += length;
    }
    [bytes, strings, vec![0; 64], dynamic].concat()
}

#[test]
fn native_modules_of_node_for_another_platform_are_noticed() {
    let scratch = Scratch::new();
    scratch.write("alpine/lib/ld-musl-x86_64.so.1", "a loader");
    layout(&scratch, &["--copy=alpine:/", "-t", "alpine"]);
    let mac = [&[0xcf, 0xfa, 0xed, 0xfe][..], &[0; 60]].concat();
    for (content, expected) in [
        (addon(62, "libc.so.6"), Some("is a native module for glibc, and the image has musl")),
        (addon(183, "libc.so.6"), Some("is a native module for arm64, and the image is for linux/amd64")),
        (mac, Some("is a native module for macOS, and the image is for linux/amd64")),
        (addon(62, "libc.musl-x86_64.so.1"), None),
        (b"not a module".to_vec(), None),
    ] {
        let path = "app/node_modules/fast/build/Release/fast.node";
        scratch.write(path, &content);
        let built = layout(&scratch, &["--copy=app:/app", "--base=./out:alpine", "-t", "v1"]);
        match expected {
            Some(reason) => {
                let warning = format!("/{path}: {reason} (run `npm ci` in a container of the base)");
                assert!(built.stderr.contains(&warning), "{built}");
            }
            None => assert!(!built.stderr.contains("native module"), "{built}"),
        }
        // A package that chooses among several platforms has modules for others.
        fs::remove_file(scratch.join(path)).unwrap();
        scratch.write("app/node_modules/fast/prebuilds/linux-x64/fast.node", &content);
        let built = layout(&scratch, &["--copy=app:/app", "--base=./out:alpine", "-t", "v1"]);
        assert!(!built.stderr.contains("native module"), "{built}");
        fs::remove_dir_all(scratch.join("app/node_modules/fast/prebuilds")).unwrap();
    }
}
