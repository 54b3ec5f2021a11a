//! Environments of packages, as conda and pip install them.

use super::random::Random;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SITE: &str = "lib/python3.11/site-packages";

/// The installer of a package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Conda,
    Pip,
}

/// The packages, with the size of their largest file in bytes.
const PACKAGES: [(Tool, &str, usize); 9] = [
    (Tool::Conda, "interpreter", 9_000_000),
    (Tool::Conda, "openssl", 30_000),
    (Tool::Conda, "tzdata", 9_000),
    (Tool::Pip, "attrs", 2_000),
    (Tool::Pip, "certifi", 20_000),
    (Tool::Pip, "idna", 3_000),
    (Tool::Pip, "numpy", 4_500_000),
    (Tool::Pip, "pandas", 5_000_000),
    (Tool::Pip, "six", 1_000),
];

/// The packages that are large enough for a layer of their own, in the order of their layers.
pub(crate) const LARGE: [&str; 3] = ["interpreter", "numpy", "pandas"];

/// Installs the packages into `tree` for the path `prefix`, and replaces earlier versions. Packages in `newer` get version 2,
/// all others version 1. All of them share some files, and have a script that contains the prefix.
pub(crate) fn install_packages(tree: &Path, prefix: &str, newer: &[&str]) {
    for (number, (tool, name, size)) in PACKAGES.into_iter().enumerate() {
        let version = if newer.contains(&name) { 2 } else { 1 };
        for old in [format!("{SITE}/{name}"), format!("{SITE}/{name}-1.0.dist-info"), format!("share/{name}")] {
            fs::remove_dir_all(tree.join(old)).ok();
        }
        fs::remove_file(tree.join(format!("conda-meta/{name}-1.0-h{number}_0.json"))).ok();
        let home = if tool == Tool::Conda { format!("share/{name}") } else { format!("{SITE}/{name}") };
        // Repetitive content, since no test here is about compression.
        let library = Random::new(100 * version + number as u64).bytes(1000).repeat(size / 1000);
        let script = format!("#!{prefix}/bin/python\n# {name}\n");
        let mut files = vec![
            (format!("{home}/__init__.py"), 0o644, Vec::new()),
            (format!("{home}/LICENSE"), if name == "six" { 0o755 } else { 0o644 }, b"the same for all\n".to_vec()),
            (format!("{home}/library-{version}.so"), 0o755, library),
            (format!("bin/{name}"), 0o755, script.into_bytes()),
        ];
        let lines = |separator: &str, path: fn(&str) -> String| -> String {
            files.iter().map(|(name, ..)| path(name)).collect::<Vec<_>>().join(separator)
        };
        let list = match tool {
            Tool::Conda => {
                let list =
                    format!("{{\"name\": \"{name}\", \"files\": [{}]}}", lines(", ", |path| format!("{path:?}")));
                (format!("conda-meta/{name}-{version}.0-h{number}_0.json"), list)
            }
            Tool::Pip => {
                let list = lines("\r\n", |path| format!("../../../{path},sha256=x,1"));
                (format!("{SITE}/{name}-{version}.0.dist-info/RECORD"), list)
            }
        };
        files.push((list.0, 0o644, list.1.into_bytes()));
        for (path, mode, content) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}
