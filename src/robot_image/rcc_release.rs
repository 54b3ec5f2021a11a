//! The addresses of RCC's releases.

/// The folder of RCC's releases: the README of robocorp/rcc, "Installing RCC from the command line". (Before version 18 it was
/// at downloads.robocorp.com, with the same folders. Releases of forks are named by URL.)
const RELEASES: &str = "https://cdn.sema4.ai/rcc/releases";

/// Returns the URL of the Linux rcc of `version`, below `mirror` or RCC's release page.
///
/// Returns `None` if `version` is not a version.
pub fn rcc_release_url(version: &str, mirror: Option<&str>) -> Option<String> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let is_version = version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let releases = mirror.unwrap_or(RELEASES).trim_end_matches('/');
    is_version.then(|| format!("{releases}/v{version}/linux64/rcc"))
}
