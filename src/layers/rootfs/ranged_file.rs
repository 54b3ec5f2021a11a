//! Reading one file of a layer in a registry without the rest of the layer.
//!
//! ```text
//! tar      │ … header │ content of the file          │ …
//! members  │    1     │     2     │     3     │    4    │      each a gzip stream of its own
//! blob     │  1  │  2  │ 3 │   4   │                         2 to 3 are fetched
//! ```
//!
//! The listing has the place of each content in the tar, and the place and digest of each member. All of that was noted while the
//! whole blob was read and found to be what the manifest names, so a member that has its digest is what the manifest names, too.

use super::listing::LayerListing;
use crate::codec::compression::{Encoding, NotedMember, decode};
use crate::common::digest::{Algorithm, Hashing};
use crate::common::error::{Error, Result};
use crate::spec::Descriptor;
use crate::store::BlobSource;
use std::io::{self, Read, Write};
use std::ops::Range;

/// Writes the part `content` of the tar of `layer` to `out`. Returns whether it could be read without the rest of the layer.
///
/// # Errors
/// Fails if the source cannot be read, or has something else than the layer. What was written is not verified then.
pub(super) fn copy_members(
    source: &dyn BlobSource,
    (layer, listing): (&Descriptor, &LayerListing),
    content: &Range<u64>,
    out: &mut impl Write,
) -> Result<bool> {
    if content.is_empty() {
        return Ok(true);
    }
    let object = format!("blob {}", layer.digest);
    let failed = |error| Error::io(&object, "read", error);
    let mut wanted = members_with(listing.members(), content).peekable();
    let Some(start) = wanted.peek().map(|(before, _)| before.packed_end) else { return Ok(false) };
    let wanted: Vec<(MemberEnd, NotedMember)> = wanted.collect();
    let packed = start..wanted.last().map_or(start, |(_, member)| member.packed_end);
    let is_whole_layer = packed.end.saturating_sub(packed.start) >= layer.size;
    let Some(mut stored) = (if is_whole_layer { None } else { source.open_range(layer, packed)? }) else {
        return Ok(false);
    };
    let mut left = content.end - content.start;
    for (before, member) in wanted {
        let mut hashed = Hashing::new((&mut stored).take(member.packed_end - before.packed_end), Algorithm::Sha256);
        let part = content.start.max(before.end)..content.end.min(member.end);
        let mut decoded = decode(&mut hashed, Encoding::Gzip).map_err(failed)?;
        io::copy(&mut (&mut decoded).take(part.start - before.end), &mut io::sink()).map_err(failed)?;
        let length = part.end - part.start;
        let written = io::copy(&mut (&mut decoded).take(length), out).map_err(failed)?;
        drop(decoded);
        let (digest, _) = hashed.finish().map_err(failed)?;
        if digest != member.digest || written < length {
            return Err(Error::corrupt(object, "a part of it is not what it was"));
        }
        left -= written;
    }
    // The noted members may end before the content does.
    Ok(left == 0)
}

/// Where the member before another one ends.
#[derive(Debug, Clone, Copy, Default)]
struct MemberEnd {
    packed_end: u64,
    end: u64,
}

/// Returns the members that have a part of `content`, each with the end of the one before it.
fn members_with(
    members: impl Iterator<Item = NotedMember>,
    content: &Range<u64>,
) -> impl Iterator<Item = (MemberEnd, NotedMember)> {
    let with_end = members.scan(MemberEnd::default(), |before, member| {
        let NotedMember { packed_end, end, .. } = member;
        Some((std::mem::replace(before, MemberEnd { packed_end, end }), member))
    });
    let is_in_order = |(before, member): &(MemberEnd, NotedMember)| {
        before.end <= member.end && before.packed_end <= member.packed_end
    };
    let overlaps = |(before, member): &(MemberEnd, NotedMember)| before.end < content.end && content.start < member.end;
    with_end.take_while(is_in_order).filter(overlaps)
}
