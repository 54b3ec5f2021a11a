//! Where a list of files is cut into parts.
//!
//! The heaviest part is cut in two until there are as many parts as wanted, or none is too heavy; weights within a fifth of
//! each other count as one. A cut is in the middle
//! quarter of a part, counted in bytes. Of the places there, it is the one whose two neighbours have the fewest directories in
//! common, files of different packages before all others; of several such places, the one with the lowest hash of the name
//! behind it.
//!
//! So an edit moves a cut only if the place is no longer in the middle quarter, or if an added name has a lower hash than
//! all others there. For an edit of a few bytes that is improbable, and the other parts stay as they are even then.

use super::SplitLimits;
use super::packages::LeafName;
use siphasher::sip::SipHasher13;
use std::cmp::Reverse;
use std::hash::Hasher as _;
use std::ops::Range;

/// What every entry weighs besides its content: its header and its work.
const WEIGHT_OF_ENTRY: u64 = 1 << 10;

/// The smallest part that is worth a cut, compared with the size up to which parts are not cut.
const SMALLEST_SHARE: u64 = 8;

/// A file, link or empty directory, and the place before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    /// What it weighs.
    weight: u64,
    /// A hash of the name behind the place.
    hash: u64,
    /// Its number in the tree, which has fewer entries than 2^32.
    entry: u32,
    /// How closely it belongs to the leaf before it: zero for different packages, otherwise more the more names they share.
    closeness: u16,
    /// The length of the start of its path that ends with the name behind the place. Paths in images are shorter than 2^16.
    name_length: u16,
}

impl Leaf {
    /// Describes entry number `entry`. `previous` is the name before it.
    pub(super) fn after(previous: &LeafName, (entry, name): (usize, &LeafName), size: u64) -> Leaf {
        let path = name.path();
        let (closeness, name_length) = match name.package() {
            Some(package) if previous.package() != Some(package) => (0, package.len()),
            _ => {
                let shared = shared_directories(previous.path(), path);
                let name = path[shared..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| shared + at);
                (1 + path[..shared].iter().filter(|byte| **byte == b'/').count(), name)
            }
        };
        let mut hash = SipHasher13::new();
        hash.write(&path[..name_length]);
        Leaf {
            weight: size.saturating_add(WEIGHT_OF_ENTRY),
            hash: hash.finish(),
            entry: u32::try_from(entry).unwrap_or(u32::MAX),
            closeness: u16::try_from(closeness).unwrap_or(u16::MAX),
            name_length: u16::try_from(name_length).unwrap_or(u16::MAX),
        }
    }

    /// Returns its number in the tree.
    pub(super) fn entry(&self) -> usize {
        self.entry as usize
    }

    /// Returns the length of the start of its path that names a part which begins with it.
    pub(super) fn name_length(&self) -> usize {
        usize::from(self.name_length)
    }
}

/// Returns the length of the directories that two paths share, with the slash behind them.
fn shared_directories(one: &[u8], other: &[u8]) -> usize {
    let shared = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    other[..shared].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}

/// Returns where the parts begin, in order. The first one begins at zero. Those from `own` on are not files of packages.
pub(super) fn cut(leaves: &[Leaf], own: usize, limits: SplitLimits) -> Vec<usize> {
    let places = Places::of(leaves);
    let smallest = limits.uncut / SMALLEST_SHARE;
    let all = 0..leaves.len();
    if limits.most < 2 || places.weight(&all) <= limits.uncut {
        return vec![0];
    }
    // However few own files there are: they change without the packages.
    let mut open = match places.weight(&(0..own)) >= smallest && own < leaves.len() {
        true => vec![0..own, own..leaves.len()],
        false => vec![all],
    };
    let mut solid = Vec::new();
    while open.len() + solid.len() < usize::from(limits.most) {
        let too_heavy = (0..open.len()).filter(|number| places.weight(&open[*number]) > limits.uncut);
        // Of parts with similar weights, the one whose name says so: an edit that makes another one a little heavier must not
        // decide which of them is cut.
        let key = |number: &usize| (power(places.weight(&open[*number])), leaves[open[*number].start].hash);
        let Some(part) = too_heavy.max_by_key(key).map(|number| open.swap_remove(number)) else { break };
        match places.best(&part, smallest) {
            Some(at) => open.extend([part.start..at, at..part.end]),
            None => solid.push(part),
        }
    }
    let mut starts: Vec<usize> = open.into_iter().chain(solid).map(|part| part.start).collect();
    starts.sort_unstable();
    starts
}

/// Returns the power of two that a weight has, in quarters.
fn power(weight: u64) -> u32 {
    let exponent = weight.checked_ilog2().unwrap_or(0);
    let quarter = weight >> exponent.saturating_sub(2) & 3;
    4 * exponent + u32::try_from(quarter).unwrap_or(0)
}

/// The places between leaves.
struct Places<'a> {
    leaves: &'a [Leaf],
    /// The weight before each leaf, and that of all.
    before: Vec<u64>,
}

impl<'a> Places<'a> {
    fn of(leaves: &'a [Leaf]) -> Self {
        let mut sum = 0_u64;
        let after = leaves.iter().map(|leaf| {
            sum = sum.saturating_add(leaf.weight);
            sum
        });
        Places { leaves, before: std::iter::once(0).chain(after).collect() }
    }

    fn weight(&self, part: &Range<usize>) -> u64 {
        self.before[part.end] - self.before[part.start]
    }

    /// Returns the best place to cut a part, unless every cut makes a part that weighs less than `smallest`.
    fn best(&self, part: &Range<usize>, smallest: u64) -> Option<usize> {
        let (begin, eighth) = (self.before[part.start], self.weight(part) / 8);
        let inner = part.start + 1..part.end;
        let first = self.place_from(begin + 3 * eighth).clamp(inner.start, inner.end);
        let end = self.place_from((begin + 5 * eighth).saturating_add(1)).clamp(first, inner.end);
        let key = |place: &usize| (self.leaves[*place].closeness, self.leaves[*place].hash, *place);
        if let Some(best) = (first..end).min_by_key(key) {
            return Some(best);
        }
        // A file covers the middle quarter: it is cut off on the side where there is more.
        let sides = [first.checked_sub(1), Some(first)].into_iter().flatten().filter(|place| inner.contains(place));
        let lighter = |place: &usize| self.weight(&(part.start..*place)).min(self.weight(&(*place..part.end)));
        sides
            .max_by_key(|place| (power(lighter(place)), Reverse(self.leaves[*place].hash)))
            .filter(|place| lighter(place) >= smallest)
    }

    /// Returns the first place with at least this weight before it.
    fn place_from(&self, weight: u64) -> usize {
        self.before.partition_point(|before| *before < weight)
    }
}
