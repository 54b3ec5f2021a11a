//! Files of an environment that record details of the machine on which it was made.
//!
//! RCC keeps whole command lines and variables of the recording in an environment; conda keeps the URLs of channels.

use crate::secrets;

/// Files of RCC at the root of an environment that hold variables, commands and requirements.
const RCC_FILES: [&str; 5] = ["rcc_activate.json", "rcc_activate.sh", "rcc_plan.log", BLUEPRINT_FILE, "golden-ee.yaml"];

/// The file with an environment's own blueprint. RCC compares it before it runs the environment.
pub(crate) const BLUEPRINT_FILE: &str = "identity.yaml";

/// Returns whether a file is known to record such details, or conventionally holds credentials.
pub fn may_leak(path: &str) -> bool {
    let is_conda_record = path.strip_prefix("conda-meta/").is_some_and(|name| name.ends_with(".json"));
    RCC_FILES.contains(&path)
        || path == "conda-meta/history"
        || is_conda_record
        || path.ends_with(".dist-info/direct_url.json")
        || secrets::holds_credentials(path.as_bytes())
}

/// Returns whether `content` contains a path below a user's home directory.
///
/// Home directories are `/home/`, `/Users/` and `/root/`. Paths below `base`, which contains the environment itself, do
/// not count.
pub fn names_a_home(content: &[u8], base: &str) -> bool {
    ["/home/", "/Users/", "/root/"].iter().any(|prefix| {
        memchr::memmem::find_iter(content, prefix).any(|at| {
            let begins_path = at == 0 || content[at - 1].is_ascii_whitespace() || b"\"'=:[(".contains(&content[at - 1]);
            begins_path && !content[at..].starts_with(base.as_bytes())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_noticed_and_the_environment_is_none() {
        let names = |content: &str| names_a_home(content.as_bytes(), "/home/robot/.robocorp/holotree");
        assert!(names("{\n\"PWD\": \"/home/alice/work\"}"));
        assert!(names("X=/home/robot/.robocorp/holotree/h_1/bin:/root/bin"));
        assert!(!names("X=/home/robot/.robocorp/holotree/h_1/bin"));
        assert!(!names("https://host/home/alice"));
    }

    /// M16: credentials are searched for wherever they are in the environment.
    #[test]
    fn only_files_that_remember_are_searched() {
        for path in [
            "rcc_activate.json",
            "rcc_plan.log",
            "conda-meta/python.json",
            "lib/x.dist-info/direct_url.json",
            "pip.conf",
            "etc/pip.conf",
            ".condarc",
            "home/.netrc",
            "share/.npmrc",
            "x/.pypirc",
            "x/.aws/credentials",
        ] {
            assert!(may_leak(path), "{path}");
        }
        for path in ["lib/rcc_plan.log", "bin/python", "conda-meta/x.txt", "lib/x/credentials", "lib/x/config.json"] {
            assert!(!may_leak(path), "{path}");
        }
    }
}
