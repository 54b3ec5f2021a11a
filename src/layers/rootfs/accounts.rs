//! Users and groups in `/etc/passwd` and `/etc/group`.

use super::entry::ListedKind;
use super::stack::StackedEntry;
use crate::layers::tree::{Entry, Kind};
use std::fmt;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// A line of a file in the format of passwd(5) or group(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    line: &'a [u8],
}

impl<'a> Account<'a> {
    /// Returns the name of the user or group.
    pub fn name(&self) -> &'a [u8] {
        self.field(0).unwrap_or_default()
    }

    /// Returns the number of the user or group; `None` if the line has none.
    pub fn id(&self) -> Option<u32> {
        self.number(2)
    }

    /// Returns the number of the group of a user.
    pub fn group(&self) -> Option<u32> {
        self.number(3)
    }

    /// Returns the home of a user.
    pub fn home(&self) -> Option<&'a [u8]> {
        self.field(5)
    }

    fn number(&self, field: usize) -> Option<u32> {
        std::str::from_utf8(self.field(field)?).ok()?.parse().ok()
    }

    fn field(&self, number: usize) -> Option<&'a [u8]> {
        self.line.split(|&byte| byte == b':').nth(number)
    }
}

impl fmt::Display for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.line))
    }
}

/// Returns the users or groups of `file`. Comments, and lines without a colon, are not among them.
pub fn accounts(file: &[u8]) -> impl Iterator<Item = Account<'_>> {
    let lines = file.split(|&byte| byte == b'\n').filter(|line| line.contains(&b':') && !line.starts_with(b"#"));
    lines.map(|line| Account { line })
}

/// Returns whether `file` has an entry called `name`.
pub fn has_name(file: &[u8], name: &str) -> bool {
    accounts(file).any(|account| account.name() == name.as_bytes())
}

/// Returns the content of one of the two files, or `None` if it is not stored or too large.
pub fn content_of(below: &StackedEntry) -> Option<Vec<u8>> {
    match (&below.entry, &below.node.kind) {
        (Some(Entry { kind: Kind::File { size, content }, .. }), _) if *size <= LARGEST => {
            let mut bytes = Vec::new();
            // Errors are reported later, when the layer is built.
            content.append(0, usize::try_from(*size).ok()?, *size, &mut bytes).ok()?;
            Some(bytes)
        }
        (None, ListedKind::File { content, .. }) => content.clone(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_first_field_of_a_line() {
        let file = b"root:x:0:0:root:/root:/bin/sh\n#nobody\napp:x:1000:0::/app:\n";
        assert!(has_name(file, "root") && has_name(file, "app"));
        assert!(!has_name(file, "x") && !has_name(file, "#nobody") && !has_name(file, ""));
    }

    #[test]
    fn fields_of_a_line_may_be_missing_or_malformed() {
        let file = b"app:x:1000:5::/app:\nbad:x:-1:\xff\n+::::::\n";
        let found: Vec<_> = accounts(file).map(|account| (account.id(), account.group(), account.home())).collect();
        assert_eq!(
            found,
            [(Some(1000), Some(5), Some(&b"/app"[..])), (None, None, None), (None, None, Some(&b""[..]))]
        );
    }
}
