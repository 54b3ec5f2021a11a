//! Where the files of a layer end up whose directories are links in the layers below.

/// The directories of a layer that are links, each with the path of the directory that the link leads to, sorted.
pub(super) type MovedDirectories = Vec<(Vec<u8>, Vec<u8>)>;

/// Returns the path where the entry at `path` of a layer ends up.
pub(super) fn place(moved: &MovedDirectories, path: &[u8]) -> Vec<u8> {
    // Sorted, so the last directory that the path is in is the nearest.
    let nearest = moved.iter().rev().find_map(|(from, to)| {
        path.strip_prefix(&from[..]).filter(|rest| rest.starts_with(b"/")).map(|rest| (to, &rest[1..]))
    });
    match nearest {
        None => path.to_vec(),
        Some((to, rest)) if to.is_empty() => rest.to_vec(),
        Some((to, rest)) => [to, &b"/"[..], rest].concat(),
    }
}
