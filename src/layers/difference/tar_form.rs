//! Why the tars of two layers differ.

use super::{IgnoredDifference, IgnoredDifferences, LayerAspect, LayerReason};
use crate::common::error::Result;
use crate::common::human_numbers::counted;
use crate::layers::rootfs::{HeaderForm, LayerListing, PairedRecords, TarFacts};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A layer that was read for a comparison.
pub(super) struct ReadLayer<'a> {
    pub(super) listing: &'a LayerListing,
    pub(super) facts: &'a TarFacts,
}

/// What differs between the entries of two tars that have the same path.
#[derive(Default)]
struct EntryDifferences {
    files: usize,
    times: usize,
    duplicates: usize,
    owner_names: usize,
    headers: usize,
    /// The pairs of header formats, with the number of entries.
    forms: BTreeMap<(HeaderForm, HeaderForm), usize>,
}

/// Returns why the tars of two layers with different diff IDs differ. At least one reason is found.
///
/// # Errors
/// Fails if a listing is damaged.
pub(super) fn reasons_of_tars(
    before: &ReadLayer<'_>,
    after: &ReadLayer<'_>,
    ignored: &IgnoredDifferences,
) -> Result<Vec<LayerReason>> {
    let mut found = EntryDifferences::default();
    before.facts.pair_up(after.facts, |pair| found.note(&pair));
    let mut reasons = Vec::new();
    let mut add = |what, detail: String| reasons.push(LayerReason::new(what, detail));
    let counts_times = !ignored.contains(&IgnoredDifference::Times);
    let markers = markers_that_differ(before.listing, after.listing)?;
    // Whiteouts are entries as well, but not files.
    let has_other_files = found.files > markers.entries || counts_times && found.times > 0;
    if has_other_files {
        add(LayerAspect::Files, String::new());
    }
    if let Some(first) = &markers.first {
        let more = match markers.count {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        add(LayerAspect::Whiteouts, format!("{first}{more}"));
    }
    if found.duplicates > 0 {
        add(LayerAspect::Duplicates, counted(found.duplicates, "path"));
    }
    if !before.facts.has_order_of(after.facts) {
        add(LayerAspect::Order, String::new());
    }
    for ((one, other), count) in found.forms {
        add(LayerAspect::TarFormat, format!("{} -> {} in {}", one.name(), other.name(), counted(count, "entry")));
    }
    if found.owner_names > 0 {
        add(LayerAspect::OwnerNames, counted(found.owner_names, "entry"));
    }
    if found.headers > 0 {
        add(LayerAspect::Headers, counted(found.headers, "entry"));
    }
    let (tail, other_tail) = (before.facts.tail(), after.facts.tail());
    // Some programs fill the last 10 KiB, so that other files leave another rest.
    if tail != other_tail && !has_other_files {
        add(LayerAspect::Padding, format!("{tail} B -> {other_tail} B"));
    }
    if reasons.is_empty() && (counts_times || found.times == 0) {
        reasons.push(LayerReason::new(LayerAspect::Unknown, ""));
    }
    Ok(reasons)
}

impl EntryDifferences {
    fn note(&mut self, pair: &PairedRecords<'_>) {
        let PairedRecords::Both { records: [one, other], counts: [count, other_count] } = pair else {
            self.files += 1;
            return;
        };
        self.duplicates += usize::from(count != other_count);
        if one.node != other.node || one.content != other.content {
            self.files += 1;
        } else if one.time != other.time {
            self.times += 1;
        } else if one.form != other.form {
            *self.forms.entry((one.form, other.form)).or_default() += 1;
        } else if one.names != other.names {
            self.owner_names += 1;
        } else if one.header != other.header {
            self.headers += 1;
        }
    }
}

/// The whiteouts that only one of two layers has.
#[derive(Default)]
struct DifferentMarkers {
    /// The number of paths.
    count: usize,
    /// The number of entries of the tars.
    entries: usize,
    /// The first one, in words.
    first: Option<String>,
}

fn markers_that_differ(before: &LayerListing, after: &LayerListing) -> Result<DifferentMarkers> {
    let (mut ours, mut theirs) = (before.entries().peekable(), after.entries().peekable());
    let mut found = DifferentMarkers::default();
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => return Ok(found),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(Ok(one)), Some(Ok(other))) => one.path.cmp(&other.path),
            // The error is returned below.
            (Some(_), Some(_)) => Ordering::Equal,
        };
        let one = ours.next_if(|_| order.is_le()).transpose()?;
        let other = theirs.next_if(|_| order.is_ge()).transpose()?;
        let markers =
            [&one, &other].map(|entry| entry.as_ref().map_or((false, false), |it| (it.is_whiteout, it.is_opaque)));
        if markers[0] == markers[1] {
            continue;
        }
        found.count += 1;
        found.entries += usize::from(markers[0].0 != markers[1].0) + usize::from(markers[0].1 != markers[1].1);
        let path = one.or(other).map(|entry| entry.path).unwrap_or_default();
        let describe = |(is_whiteout, is_opaque)| match (is_whiteout, is_opaque) {
            (false, false) => "none",
            (true, false) => "whiteout",
            (false, true) => "opaque",
            (true, true) => "whiteout and opaque",
        };
        found.first.get_or_insert_with(|| {
            let path = String::from_utf8_lossy(&path);
            format!("/{path}: {} -> {}", describe(markers[0]), describe(markers[1]))
        });
    }
}
