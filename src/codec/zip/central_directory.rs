//! The central directory: one header for each member.

use super::records::{ALLOWED_FLAGS, CENTRAL, CENTRAL_LENGTH, Fields, Sizes};
use crate::common::error::{Error, Result};

/// A header of the central directory.
pub(super) struct CentralHeader {
    pub(super) name: String,
    pub(super) raw_name: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: Method,
    pub(super) crc: u32,
    pub(super) compressed: u64,
    pub(super) size: u64,
    pub(super) offset: u64,
    pub(super) is_program: bool,
}

/// The compression method of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

impl Method {
    /// Returns the number of the method in headers (section 4.4.5).
    pub(super) fn number(self) -> u16 {
        match self {
            Method::Stored => 0,
            Method::Deflated => 8,
        }
    }
}

/// Parses the central directory, which must have `count` headers.
pub(super) fn central_headers(directory: &[u8], count: u64, shown: &str) -> Result<Vec<CentralHeader>> {
    let mut headers = Vec::new();
    let mut rest = directory;
    while !rest.is_empty() {
        let header = central_header(&mut rest).map_err(|reason| Error::corrupt(shown, reason))?;
        headers.push(header);
    }
    if headers.len() as u64 != count {
        let reason = format!("its end record has {count} members, the central directory has {}", headers.len());
        return Err(Error::corrupt(shown, reason));
    }
    Ok(headers)
}

fn central_header(rest: &mut &[u8]) -> Result<CentralHeader, String> {
    let cut_off = || "the central directory is truncated".to_owned();
    let (fixed, behind) = rest.split_at_checked(CENTRAL_LENGTH).ok_or_else(cut_off)?;
    let mut fields = Fields(fixed);
    if fields.u32() != Some(CENTRAL) {
        return Err("the central directory is malformed".to_owned());
    }
    let made_by = fields.u16().unwrap_or(0);
    let _needed = fields.u16();
    let (flags, method) = (fields.u16().unwrap_or(0), fields.u16().unwrap_or(0));
    let _time = fields.u32();
    let crc = fields.u32().unwrap_or(0);
    let (compressed, size) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));
    let lengths = [fields.u16(), fields.u16(), fields.u16()].map(|length| usize::from(length.unwrap_or(0)));
    let (disk, _internal) = (fields.u16(), fields.u16());
    let (attributes, offset) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));

    let (variable, behind) = behind.split_at_checked(lengths.iter().sum()).ok_or_else(cut_off)?;
    let (raw_name, variable) = variable.split_at(lengths[0]);
    let (extra, _comment) = variable.split_at(lengths[1]);
    *rest = behind;

    let name = safe_name(raw_name)?;
    let wrong = |reason: &str| format!("member `{name}`: {reason}");
    if flags & 1 != 0 {
        return Err(wrong("encrypted"));
    }
    if flags & !ALLOWED_FLAGS != 0 {
        return Err(wrong("unknown flags"));
    }
    let method = match method {
        0 => Method::Stored,
        8 => Method::Deflated,
        _ => return Err(wrong(&format!("unknown compression method {method}"))),
    };
    // Section 4.4.2: 3 is Unix, whose mode is in the upper half of the attributes.
    let mode = attributes >> 16;
    if made_by >> 8 == 3 && !matches!(mode & 0o170_000, 0 | 0o100_000 | 0o040_000) {
        return Err(wrong("neither a file nor a directory"));
    }
    let is_program = made_by >> 8 == 3 && mode & 0o100 != 0;
    let mut sizes = Sizes::new(extra);
    let size = sizes.widen(size);
    let compressed = sizes.widen(compressed);
    let offset = sizes.widen(offset);
    let (Some(size), Some(compressed), Some(offset), Some(0)) = (size, compressed, offset, disk) else {
        return Err(wrong("its 64-bit sizes are missing or wrong"));
    };
    if method == Method::Stored && size != compressed {
        return Err(wrong("stored without compression, but with two sizes"));
    }
    Ok(CentralHeader { raw_name: raw_name.to_vec(), flags, method, crc, compressed, size, offset, is_program, name })
}

/// Returns a safe name with `/` as separator. RCC on Windows writes `\`.
fn safe_name(raw: &[u8]) -> Result<String, String> {
    let name = std::str::from_utf8(raw).map_err(|_| "a name that is not UTF-8".to_owned())?.replace('\\', "/");
    let parts = name.strip_suffix('/').unwrap_or(&name).split('/');
    let is_unsafe = parts.into_iter().any(|part| matches!(part, "" | "." | "..") || part.contains(['\0', ':']));
    if is_unsafe { Err(format!("unsafe name `{name}`")) } else { Ok(name) }
}
