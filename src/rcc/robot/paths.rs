//! Paths in a robot file, which are relative to the directory of that file.

/// Resolves `.` and `..` in a relative path.
///
/// A result above the start begins with `..`, and the start itself is `.`. Returns `None` for an absolute path.
pub(super) fn resolved(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Resolves a relative path. Returns `None` if it leads above its start.
pub(super) fn within(path: &str) -> Option<String> {
    resolved(path).filter(|path| path != ".." && !path.starts_with("../"))
}

/// Joins the relative path `path` to `folder`, which may be empty.
pub(super) fn below(folder: &str, path: &str) -> String {
    match path.starts_with('/') || folder.is_empty() {
        true => path.to_owned(),
        false => format!("{folder}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_without_a_file_system() {
        for (path, expected, is_within) in [
            ("a/./b//c/", "a/b/c", true),
            ("a/..", ".", true),
            ("..", "..", false),
            ("../a/../b", "../b", false),
            ("a/../../b", "../b", false),
            ("../../a", "../../a", false),
            ("..a", "..a", true),
        ] {
            assert_eq!(resolved(path).as_deref(), Some(expected), "{path}");
            assert_eq!(within(path).is_some(), is_within, "{path}");
        }
        assert_eq!((resolved("/a"), within("/a")), (None, None));
        assert_eq!((below("", "/a").as_str(), below("x/y", "../../z").as_str()), ("/a", "x/y/../../z"));
    }
}
