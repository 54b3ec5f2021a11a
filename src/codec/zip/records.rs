//! The signatures and lengths of the records of a zip, and a parser of their numbers.

/// Section 4.3.16: end of central directory record.
pub(super) const END: u32 = 0x0605_4b50;
pub(super) const END_LENGTH: u64 = 22;
/// Section 4.3.15: its 64-bit locator.
pub(super) const LOCATOR: u32 = 0x0706_4b50;
pub(super) const LOCATOR_LENGTH: u64 = 20;
/// Section 4.3.14: its 64-bit form.
pub(super) const END_64: u32 = 0x0606_4b50;
pub(super) const END_64_LENGTH: u64 = 56;
/// Section 4.3.12: central directory header.
pub(super) const CENTRAL: u32 = 0x0201_4b50;
pub(super) const CENTRAL_LENGTH: usize = 46;
/// Section 4.3.7: local file header.
pub(super) const LOCAL: u32 = 0x0403_4b50;
pub(super) const LOCAL_LENGTH: usize = 30;
/// Section 4.3.9: data descriptor.
pub(super) const DESCRIPTOR: u32 = 0x0807_4b50;
/// Section 4.5.3: the extra field with 64-bit sizes.
const EXTRA_64: u16 = 1;

/// Section 4.4.4: sizes follow the data. `ALLOWED_FLAGS` adds UTF-8 names and the two bits for the compression level.
pub(super) const HAS_DESCRIPTOR: u16 = 1 << 3;
pub(super) const ALLOWED_FLAGS: u16 = HAS_DESCRIPTOR | 1 << 11 | 1 << 1 | 1 << 2;

/// A parser of consecutive little-endian numbers.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// The 64-bit values of an extra field.
///
/// They are in the order of the header fields that are too small for them.
pub(super) struct Sizes<'a>(Fields<'a>);

impl<'a> Sizes<'a> {
    pub(super) fn new(mut extra: &'a [u8]) -> Sizes<'a> {
        while let Some((head, rest)) = extra.split_first_chunk::<4>() {
            let [id_low, id_high, length_low, length_high] = *head;
            let length = usize::from(u16::from_le_bytes([length_low, length_high]));
            let Some((content, rest)) = rest.split_at_checked(length) else { break };
            if u16::from_le_bytes([id_low, id_high]) == EXTRA_64 {
                return Sizes(Fields(content));
            }
            extra = rest;
        }
        Sizes(Fields(&[]))
    }

    pub(super) fn widen(&mut self, narrow: u32) -> Option<u64> {
        if narrow == u32::MAX { self.0.u64() } else { Some(narrow.into()) }
    }
}
