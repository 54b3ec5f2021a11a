//! `{os}`, `{arch}` and `{variant}` in arguments, which are replaced by the parts of each platform.

use ocibuild::Platform;
use std::borrow::Cow;
use std::path::Path;

const PLACEHOLDERS: [&str; 3] = ["{os}", "{arch}", "{variant}"];

/// Returns whether `text` depends on the platform.
pub(super) fn has_placeholder(text: &str) -> bool {
    PLACEHOLDERS.iter().any(|name| text.contains(name))
}

/// Returns `text` with the parts of `platform`.
pub(super) fn filled(text: &str, platform: &Platform) -> String {
    let values = [platform.os(), platform.architecture(), platform.variant().unwrap_or_default()];
    PLACEHOLDERS.iter().zip(values).fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Returns `path` with the parts of `platform`. A path that is not Unicode has no placeholders.
pub(super) fn filled_path<'p>(path: &'p Path, platform: &Platform) -> Cow<'p, Path> {
    match path.to_str().filter(|text| has_placeholder(text)) {
        Some(text) => Cow::Owned(filled(text, platform).into()),
        None => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_platform_take_their_places() {
        let platform: Platform = "linux/arm/v7".parse().unwrap();
        assert_eq!(filled("{os}-{arch}{variant}/{arch}", &platform), "linux-armv7/arm");
        assert_eq!(filled("rcc-{variant}", &Platform::linux_amd64()), "rcc-");
        assert_eq!(filled_path(Path::new("rcc-{arch}"), &platform), Path::new("rcc-arm"));
        assert!(matches!(filled_path(Path::new("rcc-{ARCH}"), &platform), Cow::Borrowed(_)));
    }
}
