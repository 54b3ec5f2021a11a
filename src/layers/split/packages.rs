//! Packages, as the paths of their files show them.
//!
//! Package managers put what they install into directories whose names are known. Files in such a directory change when a
//! package is updated, and then most files of the package change; all others are someone's own and change at any time.

use crate::spec::ImagePath;

/// The path of a file, link or empty directory, and where the name of its package ends.
pub(super) struct LeafName {
    path: ImagePath,
    package: Option<usize>,
}

impl LeafName {
    /// Returns the name before the first one.
    pub(super) fn root() -> LeafName {
        LeafName { path: ImagePath::root(), package: None }
    }

    pub(super) fn of(path: ImagePath) -> LeafName {
        let package = package_of(path.as_bytes()).map(<[u8]>::len);
        LeafName { path, package }
    }

    pub(super) fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// Returns the start of the path that it has in common with the other files of its package. `None` if it is in none.
    pub(super) fn package(&self) -> Option<&[u8]> {
        self.package.map(|length| &self.path()[..length])
    }
}

/// Returns the start of `path` that it has in common with the other files of its package. `None` if it is in none.
///
/// It ends before the version, where a version is part of a name: so the parts of an image stay the same with another version.
fn package_of(path: &[u8]) -> Option<&[u8]> {
    let mut start = 0;
    let mut above: &[u8] = b"";
    for name in path.split(|byte| *byte == b'/') {
        let below = path.get(start + name.len() + 1..);
        let end = start + name.len() + 1;
        let length = match (name, below) {
            (b"site-packages" | b"dist-packages", Some(below)) => Some(python(below)),
            (b"node_modules", Some(below)) => Some(node(below)),
            (b"vendor", Some(below)) if !below.starts_with(b"bundle/") => Some(vendored(below)),
            (b"gems", Some(below)) if above.first().is_some_and(u8::is_ascii_digit) => Some(versioned(below)),
            (b"deps" | b"build" | b".fingerprint", Some(below)) if is_profile_of_cargo(&path[..start]) => {
                Some(cargo(below))
            }
            (jar, None) if jar.ends_with(b".jar") && above != b"target" => {
                return Some(&path[..start + versioned(jar)]);
            }
            _ => None,
        };
        if let Some(length) = length {
            return Some(&path[..end + length]);
        }
        above = name;
        start = end;
    }
    None
}

/// `numpy/…`, `numpy.libs/…`, `numpy-2.1.0.dist-info/…`, `six.py`: the name up to what is no part of a module's name.
fn python(below: &[u8]) -> usize {
    below.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(below.len())
}

/// `react/…`, `@scope/name/…`, and `.pnpm/react@18.2.0/…`.
fn node(below: &[u8]) -> usize {
    match below {
        [b'@', ..] => names(below, 2),
        [b'.', b'p', b'n', b'p', b'm', b'/', store @ ..] => {
            // The name itself may begin with the character, before a scope.
            let version = store.iter().skip(1).position(|byte| *byte == b'@' || *byte == b'/');
            6 + version.map_or(store.len(), |at| at + 1)
        }
        _ => names(below, 1),
    }
}

/// `github.com/owner/name/…` of Go, and otherwise the first name: an owner of PHP, a crate of Rust.
fn vendored(below: &[u8]) -> usize {
    let first = names(below, 1);
    if below[..first].contains(&b'.') { names(below, 3) } else { first }
}

/// `serde-0123456789abcdef.d`, `libserde-0123456789abcdef.rlib` and `serde-0123456789abcdef/…`.
fn cargo(below: &[u8]) -> usize {
    let name = names(below, 1);
    below[..name].iter().rposition(|byte| *byte == b'-').unwrap_or(name)
}

/// `name-1.2.3…`: the name up to a hyphen with a digit behind it.
fn versioned(below: &[u8]) -> usize {
    let name = names(below, 1);
    let version = below[..name].windows(2).position(|pair| pair[0] == b'-' && pair[1].is_ascii_digit());
    version.unwrap_or(name)
}

/// Returns whether a directory is `target/debug/` or another profile, also for a named target.
fn is_profile_of_cargo(directory: &[u8]) -> bool {
    let names: Vec<&[u8]> = directory.split(|byte| *byte == b'/').rev().skip(1).take(3).collect();
    names.iter().skip(1).any(|name| *name == b"target")
}

/// Returns the length of the first `count` names in `path`.
fn names(path: &[u8], count: usize) -> usize {
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.nth(count - 1).unwrap_or(path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(path: &str) -> Option<&str> {
        package_of(path.as_bytes()).map(|package| std::str::from_utf8(package).unwrap())
    }

    #[test]
    fn files_of_a_package_have_its_start_in_common() {
        for (start, paths) in [
            (
                "v/lib/python3.12/site-packages/numpy",
                &[
                    "v/lib/python3.12/site-packages/numpy/core/a.py",
                    "v/lib/python3.12/site-packages/numpy.libs/b.so",
                    "v/lib/python3.12/site-packages/numpy-2.1.0.dist-info/RECORD",
                ][..],
            ),
            ("usr/lib/python3/dist-packages/six", &["usr/lib/python3/dist-packages/six.py"]),
            ("app/node_modules/react", &["app/node_modules/react/a.js", "app/node_modules/react/node_modules/b/c.js"]),
            ("app/node_modules/@types/node", &["app/node_modules/@types/node/index.d.ts"]),
            (
                "app/node_modules/.pnpm/react",
                &[
                    "app/node_modules/.pnpm/react@18.2.0/node_modules/react/a.js",
                    "app/node_modules/.pnpm/react@19.0.0/a",
                ],
            ),
            ("app/node_modules/.pnpm/@vue+core", &["app/node_modules/.pnpm/@vue+core@3.4/a"]),
            ("vendor/github.com/owner/name", &["vendor/github.com/owner/name/a.go"]),
            ("vendor/symfony", &["vendor/symfony/console/a.php"]),
            ("vendor/bundle/ruby/3.2.0/gems/rails", &["vendor/bundle/ruby/3.2.0/gems/rails-7.1.0/lib/a.rb"]),
            ("app/lib/spring-core", &["app/lib/spring-core-6.1.2.jar", "app/lib/spring-core-6.2.jar"]),
            ("target/release/deps/libserde", &["target/release/deps/libserde-0123456789abcdef.rlib"]),
            (
                "target/x86_64-unknown-linux-musl/debug/build/ring",
                &["target/x86_64-unknown-linux-musl/debug/build/ring-0a/out"],
            ),
        ] {
            for path in paths {
                assert_eq!(package(path), Some(start), "{path}");
            }
        }
    }

    #[test]
    fn own_files_are_in_no_package() {
        for path in [
            "app/main.py",
            "lib/python3.12/json/decoder.py",
            "node_modules",
            "site-packages",
            "app/target/app-1.0.jar",
            "target/release/app",
            "target/classes/a.class",
            "src/build/mod.rs",
            "gems/list",
            "",
        ] {
            assert_eq!(package(path), None, "{path}");
        }
    }
}
