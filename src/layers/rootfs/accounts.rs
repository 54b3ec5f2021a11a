//! Names of users and groups in `/etc/passwd` and `/etc/group`.

/// Returns whether `file`, in the format of passwd(5) or group(5), has an entry called `name`.
pub fn has_name(file: &[u8], name: &str) -> bool {
    let first = |line: &[u8]| line.split(|&byte| byte == b':').next().map(<[u8]>::to_vec);
    file.split(|&byte| byte == b'\n')
        .any(|line| line.contains(&b':') && first(line).as_deref() == Some(name.as_bytes()))
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
}
