//! The packages in each layer of an environment.
//!
//! A large package gets a layer of its own. Small packages are collected in a few groups, in the group that a package's
//! name determines: so a new version of a package changes only the layer that it is in, and an additional package
//! displaces at most one other. Sizes are compared as powers of two, and names order packages of the same power, so
//! that hardly any new version moves to another layer.

use crate::common::digest::Digest;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The binary logarithm of the size from which a package gets a layer of its own.
///
/// 4 MiB are little more than 1 MB in a layer, which takes as long to send as the requests for another layer.
const SMALLEST_ALONE: u32 = 22;

/// Splits packages of these sizes among fewer than `most_layers` layers.
///
/// The last layer is for files that belong to no package. Packages that rarely change come first, since all layers
/// above a changed one must be unpacked again: large packages, the largest first, then the groups.
pub(super) fn divide<'a>(sizes: &BTreeMap<&'a str, u64>, most_layers: u8) -> Vec<Vec<&'a str>> {
    let layers = usize::from(most_layers.saturating_sub(1));
    if layers == 0 {
        return Vec::new();
    }
    let group_count = (layers / 5).max(1);
    let mut alone: Vec<(u32, &str)> =
        sizes.iter().map(|(name, size)| (size.checked_ilog2().unwrap_or(0), *name)).collect();
    alone.retain(|(class, _)| *class >= SMALLEST_ALONE);
    alone.sort_by_key(|(class, name)| (Reverse(*class), *name));
    alone.truncate(layers - group_count);
    let mut groups: Vec<Vec<&str>> = vec![Vec::new(); group_count];
    for name in sizes.keys().filter(|name| !alone.iter().any(|(_, alone)| alone == *name)) {
        groups[group_of(name, group_count)].push(name);
    }
    groups.retain(|group| !group.is_empty());
    alone.into_iter().map(|(_, name)| vec![name]).chain(groups).collect()
}

fn group_of(name: &str, groups: usize) -> usize {
    let hash = Digest::of(name.as_bytes());
    // The first bytes suffice: there are few groups.
    let number = hash.as_bytes().iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte));
    number % groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(packages: &[(&'static str, u64)]) -> BTreeMap<&'static str, u64> {
        packages.iter().map(|(name, mebibytes)| (*name, mebibytes << 20)).collect()
    }

    /// Returns the packages in each layer.
    fn divided(packages: &[(&'static str, u64)], most: u8) -> Vec<Vec<&'static str>> {
        divide(&sizes(packages), most)
    }

    const PACKAGES: [(&str, u64); 14] = [
        ("attrs", 1),
        ("botocore", 22),
        ("certifi", 0),
        ("idna", 0),
        ("jinja2", 1),
        ("lxml", 12),
        ("numpy", 70),
        ("openssl", 9),
        ("pandas", 80),
        ("pillow", 20),
        ("python", 120),
        ("scipy", 140),
        ("six", 0),
        ("urllib3", 1),
    ];

    #[test]
    fn large_packages_are_alone_and_small_ones_in_groups() {
        let divided = divided(&PACKAGES, 16);
        let alone: Vec<&str> = divided.iter().take_while(|part| part.len() == 1).map(|part| part[0]).collect();
        let expected = ["scipy", "numpy", "pandas", "python", "botocore", "pillow", "lxml", "openssl"];
        assert_eq!(alone[..8], expected);
        assert!(divided.len() <= 8 + 3, "{divided:?}");
    }

    #[test]
    fn another_version_or_another_package_moves_nothing_else() {
        let before = divided(&PACKAGES, 16);
        let mut newer = PACKAGES;
        newer[6].1 = 75;
        newer[0].1 = 2;
        assert_eq!(divided(&newer, 16), before);
        for (most, added, moved) in [
            (16, ("zlib", 1), 1),
            (16, ("qt", 100), 0),
            (6, ("zlib", 1), 1),
            (6, ("qt", 100), 1),
            (6, ("blender", 100), 2),
        ] {
            let before = divided(&PACKAGES, most);
            let after = divided(&[&PACKAGES[..], &[added]].concat(), most);
            let kept = before.iter().filter(|part| after.contains(part)).count();
            assert_eq!(kept + moved, before.len(), "{added:?}: {before:?} became {after:?}");
        }
    }

    #[test]
    fn there_are_never_more_layers_than_wanted() {
        for most in 1..=100 {
            for packages in [&PACKAGES[..], &PACKAGES[..1], &[]] {
                let divided = divided(packages, most);
                assert!(divided.len() < usize::from(most), "{most}: {divided:?}");
                let together: usize = divided.iter().map(Vec::len).sum();
                assert_eq!(together, if most == 1 { 0 } else { packages.len() });
            }
        }
        let names: Vec<String> = (0..1000).map(|number| format!("p{number}")).collect();
        let many = names.iter().map(|name| (name.as_str(), u64::MAX)).collect();
        assert_eq!(divide(&many, 16).len(), 15);
    }
}
