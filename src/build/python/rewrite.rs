//! The texts of an environment with other paths in them.

use memchr::memmem;

/// Returns `text` with `new` for each `old` that is a whole path, or the beginning of one; `None` if it has no such path.
pub(super) fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    if old == new || old.is_empty() {
        return None;
    }
    let mut changed = Vec::new();
    let mut copied = 0;
    for at in memmem::find_iter(text, old) {
        let (before, behind) = (text[..at].last(), text.get(at + old.len()));
        if before.is_some_and(is_of_name) || behind.is_some_and(is_of_name) {
            continue;
        }
        changed.extend_from_slice(&text[copied..at]);
        changed.extend_from_slice(new);
        copied = at + old.len();
    }
    if copied == 0 {
        return None;
    }
    changed.extend_from_slice(&text[copied..]);
    Some(changed)
}

/// Returns whether a byte next to a path makes it another path.
fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') || !byte.is_ascii()
}

/// Returns the part of a script that names its interpreter: the first line, and the second where a shell begins the interpreter (as
/// pip writes it if the path is long or has a space). Empty for anything else.
pub(super) fn start_of_script(text: &[u8]) -> &[u8] {
    if !text.starts_with(b"#!") {
        return b"";
    }
    let end_of_line = |from: usize| memchr::memchr(b'\n', &text[from..]).map_or(text.len(), |length| from + length);
    let first = end_of_line(0);
    let second = text.get(first + 1..).unwrap_or_default();
    if second.starts_with(b"'''exec'") { &text[..end_of_line(first + 1)] } else { &text[..first] }
}

/// Returns a script whose interpreter is in `new` instead of `old`; `None` if it is elsewhere.
pub(super) fn script(text: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    let start = start_of_script(text);
    let mut changed = replaced(start, old.as_bytes(), new.as_bytes())?;
    changed.extend_from_slice(&text[start.len()..]);
    Some(changed)
}

/// Returns the new place of `path` if it is in the environment, which moved from `old` to `new`, or in a directory above it that moved
/// along: `/home/me/project/src` is `/app/src` if `/home/me/project/.venv` is `/app/.venv`.
pub(super) fn mapped(path: &str, old: &str, new: &str) -> Option<String> {
    let (mut old, mut new) = (old, new);
    loop {
        let rest = path.strip_prefix(old).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(rest) = rest {
            let moved = format!("{new}{rest}");
            return Some(if moved.is_empty() { "/".to_owned() } else { moved });
        }
        let ((above_old, name), (above_new, same)) = (old.rsplit_once('/')?, new.rsplit_once('/')?);
        if name != same || above_old.is_empty() {
            return None;
        }
        (old, new) = (above_old, above_new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_are_replaced() {
        let replace =
            |text: &str| replaced(text.as_bytes(), b"/old/venv", b"/new").map(|text| String::from_utf8(text).unwrap());
        assert_eq!(replace("A='/old/venv' B=/old/venv/bin:/old/venv"), Some("A='/new' B=/new/bin:/new".to_owned()));
        assert_eq!(replace("file:///old/venv/x"), Some("file:///new/x".to_owned()));
        for other in ["/old/venv2", "/very/old/venv.bak", "x/old/venv", "/old/venv-3/bin", ""] {
            assert_eq!(replace(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_interpreter_of_a_script_is_replaced() {
        let moved = |text: &str| script(text.as_bytes(), "/old", "/new").map(|text| String::from_utf8(text).unwrap());
        assert_eq!(moved("#!/old/bin/python3\nx = '/old/x'\n"), Some("#!/new/bin/python3\nx = '/old/x'\n".to_owned()));
        let shell = "#!/bin/sh\n'''exec' \"/old/bin/python\" \"$0\" \"$@\"\n' '''\n/old\n";
        assert_eq!(moved(shell), Some(shell.replacen("/old", "/new", 1)));
        for other in ["#!/usr/bin/env python\n/old", "#!/bin/sh\n/old/bin/python", "/old/bin", "", "#!"] {
            assert_eq!(moved(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_beside_the_environment_moves_with_it() {
        let moved = |path: &str| mapped(path, "/home/me/project/.venv", "/app/.venv");
        assert_eq!(moved("/home/me/project/.venv/lib"), Some("/app/.venv/lib".to_owned()));
        assert_eq!(moved("/home/me/project/src"), Some("/app/src".to_owned()));
        assert_eq!(moved("/home/me/project"), Some("/app".to_owned()));
        for outside in ["/home/me/other", "/home/me/project2", "relative", ""] {
            assert_eq!(moved(outside), None, "{outside}");
        }
        assert_eq!(mapped("/p/x", "/p/v", "/v"), Some("/x".to_owned()));
        assert_eq!(mapped("/etc", "/v", "/v"), None);
    }
}
