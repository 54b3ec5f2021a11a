//! A placeholder for rcc in tests that do not run it.

/// Returns the smallest static program for Linux on x86-64, followed by `rest`.
pub(crate) fn static_program(rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[16] = 2;
    bytes[18] = 62;
    bytes[32] = 64;
    bytes[54] = 56;
    bytes.extend(rest);
    bytes
}
