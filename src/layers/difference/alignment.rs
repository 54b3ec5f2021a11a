//! Which layers of two images belong together.

use crate::common::digest::DiffId;

/// Layers that belong together, by their places from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlignedLayers {
    /// Both images have the layer, in the same order as its neighbours.
    Same(usize, usize),
    /// Both images have the layer, above or below others.
    Moved(usize, usize),
    /// Different layers in one place.
    Changed(usize, usize),
    /// Only the first image has a layer here.
    Removed(usize),
    /// Only the second image has a layer here.
    Added(usize),
}

/// Aligns the layers of two images: as many as possible stay in their order, and the others are moved or changed.
pub(super) fn align(before: &[DiffId], after: &[DiffId]) -> Vec<AlignedLayers> {
    let same = longest_common(before, after);
    let ends = std::iter::once((before.len(), after.len()));
    let (mut aligned, mut start) = (Vec::new(), (0, 0));
    for (one, other) in same.iter().copied().chain(ends) {
        let is_elsewhere = |place: &usize, of: &[DiffId], all: &[DiffId]| all.contains(&of[*place]);
        let removed: Vec<usize> = (start.0..one).filter(|place| !is_elsewhere(place, before, after)).collect();
        let added: Vec<usize> = (start.1..other).filter(|place| !is_elsewhere(place, after, before)).collect();
        if removed.len() == added.len() {
            aligned.extend(removed.into_iter().zip(added).map(|(one, other)| AlignedLayers::Changed(one, other)));
        } else {
            aligned.extend(removed.into_iter().map(AlignedLayers::Removed));
            aligned.extend(added.into_iter().map(AlignedLayers::Added));
        }
        if one < before.len() {
            aligned.push(AlignedLayers::Same(one, other));
        }
        start = (one + 1, other + 1);
    }
    aligned.extend(moved(before, after, &same));
    aligned
}

/// Returns the layers that both have, beside those in `same`. A layer may be in an image several times.
fn moved(before: &[DiffId], after: &[DiffId], same: &[(usize, usize)]) -> Vec<AlignedLayers> {
    let mut left: Vec<usize> = (0..after.len()).filter(|place| !same.iter().any(|(_, other)| other == place)).collect();
    let mut found = Vec::new();
    for (one, layer) in before.iter().enumerate().filter(|(place, _)| !same.iter().any(|(one, _)| one == place)) {
        let elsewhere = left.iter().position(|other| after[*other] == *layer);
        match elsewhere {
            Some(at) => found.push(AlignedLayers::Moved(one, left.remove(at))),
            // It is there more often than in the other image.
            None if after.contains(layer) => found.push(AlignedLayers::Removed(one)),
            None => {}
        }
    }
    found.extend(left.into_iter().filter(|other| before.contains(&after[*other])).map(AlignedLayers::Added));
    found
}

/// Returns the places of a longest common subsequence.
fn longest_common(before: &[DiffId], after: &[DiffId]) -> Vec<(usize, usize)> {
    // `lengths[i][j]` is the length for what begins at `i` and `j`. An image has at most 500 layers.
    let mut lengths = vec![vec![0_u32; after.len() + 1]; before.len() + 1];
    for one in (0..before.len()).rev() {
        for other in (0..after.len()).rev() {
            lengths[one][other] = match before[one] == after[other] {
                true => lengths[one + 1][other + 1] + 1,
                false => lengths[one + 1][other].max(lengths[one][other + 1]),
            };
        }
    }
    let (mut one, mut other, mut found) = (0, 0, Vec::new());
    while one < before.len() && other < after.len() {
        if before[one] == after[other] {
            found.push((one, other));
            (one, other) = (one + 1, other + 1);
        } else if lengths[one + 1][other] >= lengths[one][other + 1] {
            one += 1;
        } else {
            other += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::AlignedLayers::{Added, Changed, Moved, Removed, Same};
    use super::*;
    use crate::common::digest::Digest;

    fn aligned(before: &str, after: &str) -> Vec<AlignedLayers> {
        let layers =
            |names: &str| -> Vec<DiffId> { names.bytes().map(|name| DiffId::of_tar(Digest::of(&[name]))).collect() };
        align(&layers(before), &layers(after))
    }

    #[test]
    fn layers_are_matched_in_order() {
        assert_eq!(aligned("abc", "abc"), [Same(0, 0), Same(1, 1), Same(2, 2)]);
        assert_eq!(aligned("abc", "axc"), [Same(0, 0), Changed(1, 1), Same(2, 2)]);
        assert_eq!(aligned("ab", "axb"), [Same(0, 0), Added(1), Same(1, 2)]);
        assert_eq!(aligned("ab", "axy"), [Same(0, 0), Removed(1), Added(1), Added(2)]);
        assert_eq!(aligned("ab", "ba"), [Same(1, 0), Moved(0, 1)]);
        assert_eq!(aligned("a", "aa"), [Same(0, 0), Added(1)]);
        assert_eq!(aligned("aab", "ab"), [Same(0, 0), Same(2, 1), Removed(1)]);
        assert_eq!(aligned("", "a"), [Added(0)]);
    }
}
