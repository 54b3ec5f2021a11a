//! The list of files in a `RECORD` ("Recording installed projects" of the Python packaging specifications).
//!
//! It is CSV. The first column is a path relative to the directory of all packages.

use std::borrow::Cow;

/// Calls `claim` with each path of `record`, relative to the environment.
///
/// `directory` is the directory of the list, and `stage` the directory in which the environment was recorded, with a
/// slash at its end. Returns `None` if `record` is malformed.
pub(super) fn each_file(record: &[u8], directory: &str, stage: &str, mut claim: impl FnMut(&str)) -> Option<()> {
    let packages = directory.rsplit_once('/').map_or("", |(packages, _)| packages);
    let mut rest = std::str::from_utf8(record).ok()?;
    while !rest.is_empty() {
        let (path, mut after) = field(rest)?;
        if let Some(path) = resolved(packages, &path, stage) {
            claim(&path);
        }
        while let Some(next) = after.strip_prefix(',') {
            after = field(next)?.1;
        }
        rest = after.strip_prefix("\r\n").or_else(|| after.strip_prefix(['\n', '\r'])).unwrap_or(after);
    }
    Some(())
}

/// Splits the first field from `text` (RFC 4180, section 2).
///
/// The rest begins with a comma or the end of a line, or is empty. Returns `None` if the quotes are malformed.
fn field(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', '\n', '\r']).unwrap_or(text.len());
        return Some((Cow::Borrowed(&text[..end]), &text[end..]));
    };
    let mut whole = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        whole.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                whole.push('"');
                rest = next;
            }
            None if after.is_empty() || after.starts_with([',', '\n', '\r']) => return Some((whole.into(), after)),
            None => return None,
        }
    }
}

/// Resolves `path` from the directory `packages`. Returns `None` if it leads out of the environment.
fn resolved(packages: &str, path: &str, stage: &str) -> Option<String> {
    let (start, path) = match path.starts_with('/') {
        true => ("", path.strip_prefix(stage)?),
        false => (packages, path),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(record: &[u8]) -> Option<Vec<String>> {
        let mut files = Vec::new();
        let directory = "lib/python3/site-packages/a-1.dist-info";
        each_file(record, directory, "/stage/x/", |path| files.push(path.to_owned()))?;
        Some(files)
    }

    #[test]
    fn paths_are_found_in_every_notation() {
        let record = b"a/b.py,sha256=x,10\r\n\"a/with, \"\"quotes\"\"\nand lines\",,\n../../../bin/a,,\n\
            /stage/x/bin/absolute,,\n./a//c.py,\"x\",\n\na/last";
        assert_eq!(
            files(record).unwrap(),
            [
                "lib/python3/site-packages/a/b.py",
                "lib/python3/site-packages/a/with, \"quotes\"\nand lines",
                "bin/a",
                "bin/absolute",
                "lib/python3/site-packages/a/c.py",
                "lib/python3/site-packages",
                "lib/python3/site-packages/a/last",
            ]
        );
    }

    #[test]
    fn paths_that_lead_out_are_left_out() {
        assert!(
            files(b"../../../../etc/passwd,,\n/etc/passwd,,\n/stage/y/a,,\n/stage/x/../../etc,,\n").unwrap().is_empty()
        );
    }

    #[test]
    fn what_is_no_list_gives_none() {
        for record in [&b"\"never closed"[..], b"\"a\"b,,", b"\xff\xfe,,\n"] {
            assert_eq!(files(record), None);
        }
        assert_eq!(files(b"").unwrap(), [""; 0]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_quoted_is_read_back(names in proptest::collection::vec("[a-c\",\n\r ]{1,8}", 0..8), junk in ".*") {
            let quoted: String = names.iter().map(|name| format!("\"x{}\",,\n", name.replace('"', "\"\""))).collect();
            let expected: Vec<String> = names.iter().map(|name| format!("lib/python3/site-packages/x{name}")).collect();
            assert_eq!(files(quoted.as_bytes()).unwrap(), expected);
            files(junk.as_bytes());
        }
    }
}
