//! Rules about secrets that follow from the path of a file.

use super::{SecretEnd, SecretMatch};
use std::borrow::Cow;

/// Extensions of files without text, sorted like the lists below.
const BINARY: [&str; 58] = [
    "7z", "a", "avi", "avif", "bin", "bmp", "bz2", "class", "dat", "dll", "dylib", "eot", "exe", "flac", "gif", "gz",
    "h5", "ico", "jar", "jpeg", "jpg", "lib", "lz4", "mo", "mov", "mp3", "mp4", "npy", "npz", "o", "obj", "ogg", "otf",
    "parquet", "pdf", "pickle", "pkl", "png", "ppt", "pyc", "pyd", "pyo", "rar", "so", "sqlite", "tar", "tgz", "tif",
    "tiff", "ttf", "wasm", "wav", "webp", "whl", "woff", "woff2", "xz", "zst",
];

/// Endings of program text, where a value without quotes is an expression.
const CODE: [&str; 53] = [
    "asm", "c", "cc", "cjs", "cpp", "cs", "css", "cu", "cxx", "dart", "f90", "fish", "go", "groovy", "h", "hpp", "hs",
    "htm", "html", "hxx", "ipynb", "java", "jl", "js", "jsx", "kt", "less", "lua", "m", "mjs", "ml", "php", "pl", "pm",
    "pxd", "py", "pyi", "pyw", "pyx", "r", "rb", "robot", "rs", "s", "scala", "scss", "sql", "svg", "swift", "tcl",
    "ts", "tsx", "vue",
];

/// Endings and names of text for people.
const PROSE: [&str; 15] = [
    "adoc", "asc", "bib", "changes", "csv", "diff", "markdown", "md", "patch", "po", "pot", "rst", "tex", "tsv", "txt",
];
const PROSE_NAMES: [&str; 10] =
    ["authors", "changelog", "contributing", "copying", "install", "license", "metadata", "notice", "readme", "record"];

/// The syntax of values in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueStyle {
    /// Settings: whatever follows a name is its value.
    Config,
    /// A program: only quoted text is a value.
    Code,
    /// Text for people: only what looks random is a value.
    Prose,
}

impl ValueStyle {
    pub(super) fn of(path: &[u8]) -> ValueStyle {
        let name = lower_name(path);
        let ending = name.rsplit_once('.').map(|(_, ending)| ending).unwrap_or_default();
        if CODE.binary_search(&ending).is_ok() {
            ValueStyle::Code
        } else if PROSE.binary_search(&ending).is_ok() || PROSE_NAMES.contains(&&*name) {
            ValueStyle::Prose
        } else {
            ValueStyle::Config
        }
    }
}

/// Returns `true` if a file of this path and size is searched: one that is not empty, and whose name is not that of a binary.
pub fn is_searched(path: &[u8], size: u64) -> bool {
    let name = lower_name(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending).unwrap_or_default();
    let is_library = name.contains(".so.");
    size > 0 && !is_library && BINARY.binary_search(&ending).is_err()
}

/// Files whose settings include credentials by convention, wherever they are.
const SETTINGS: [&str; 14] = [
    ".boto",
    ".condarc",
    ".env",
    ".mambarc",
    ".my.cnf",
    ".npmrc",
    ".pypirc",
    ".s3cfg",
    ".yarnrc",
    ".yarnrc.yml",
    "condarc",
    "pip.conf",
    "pip.ini",
    "rclone.conf",
];

/// Returns `true` if a file contains credentials by convention, judged by its path alone.
pub fn holds_credentials(path: &[u8]) -> bool {
    let name = lower_name(path);
    let below = |directory: &str, names: &[&str]| directory_name(path) == directory && names.contains(&&*name);
    Convention::of(path).is_some_and(|convention| convention != Convention::Json || name == "config.json")
        || SETTINGS.contains(&&*name)
        || name.starts_with(".env.")
        || below(".aws", &["credentials", "config"])
        || below(".kube", &["config"])
        || below("gcloud", &["credentials.db", "application_default_credentials.json"])
}

/// Returns `true` if the file is JSON by its name.
pub(super) fn is_json(path: &[u8]) -> bool {
    let name = lower_name(path);
    name.ends_with(".json") || matches!(Convention::of(path), Some(Convention::Json))
}

/// Returns `true` if the file is YAML by its name.
pub(super) fn is_yaml(path: &[u8]) -> bool {
    let name = lower_name(path);
    name.ends_with(".yaml") || name.ends_with(".yml") || matches!(&*name, ".condarc" | "condarc" | ".mambarc")
}

/// Returns the name of the file in lower case, as most names are already.
fn lower_name(path: &[u8]) -> Cow<'_, str> {
    let start = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
    let name = String::from_utf8_lossy(&path[start..]);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(name.to_ascii_lowercase()) } else { name }
}

/// Returns the name of the directory that the file is in.
fn directory_name(path: &[u8]) -> String {
    let mut parts = path.rsplit(|byte| *byte == b'/').skip(1);
    String::from_utf8_lossy(parts.next().unwrap_or_default()).to_ascii_lowercase()
}

/// Files that contain credentials by convention, in any directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convention {
    /// A file that is a private key or another secret.
    Whole,
    /// Words of `machine`, `login` and `password`.
    Netrc,
    /// The last of the fields that colons separate.
    LastField,
    /// JSON, whatever its name says.
    Json,
}

impl Convention {
    pub(super) fn of(path: &[u8]) -> Option<Convention> {
        let name = lower_name(path);
        let is_key = ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk", "identity.key"];
        let is_store = [".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk"];
        match &*name {
            ".netrc" | "_netrc" | "netrc" => Some(Convention::Netrc),
            ".pgpass" | "pgpass.conf" | ".htpasswd" | "htpasswd" => Some(Convention::LastField),
            ".vault-token" | ".git-credentials" => Some(Convention::Whole),
            ".dockercfg" => Some(Convention::Json),
            "config.json" if directory_name(path) == ".docker" => Some(Convention::Json),
            name if is_key.contains(&name) || is_store.iter().any(|ending| name.ends_with(ending)) => {
                Some(Convention::Whole)
            }
            _ => None,
        }
    }

    /// Adds the secrets that `content` has by convention to the secrets that were found in it.
    pub(super) fn search(self, content: &[u8], found: &mut Vec<SecretMatch>) {
        let exact = |what, span| SecretMatch { what, span, end: SecretEnd::Exact, is_named: false };
        let is_value = |text: &[u8]| text.iter().any(|byte| !b"xX* \n".contains(byte));
        match self {
            Convention::Json => {}
            Convention::Whole => {
                let start = content.iter().position(|byte| !byte.is_ascii_whitespace());
                let end = content.iter().rposition(|byte| !byte.is_ascii_whitespace());
                // The secrets found in the content are more exact.
                if let (Some(start), Some(end), true) = (start, end, found.is_empty())
                    && is_value(&content[start..=end])
                {
                    found.push(exact("a file of credentials", start..end + 1));
                }
            }
            Convention::Netrc => {
                found.clear();
                let mut is_password = false;
                for span in words(content) {
                    let word = &content[span.clone()];
                    if is_password {
                        found.extend(is_value(word).then(|| exact("a password", span)));
                        is_password = false;
                    } else {
                        is_password = word == b"password";
                    }
                }
            }
            Convention::LastField => {
                found.clear();
                let mut at = 0;
                for line in content.split_inclusive(|byte| *byte == b'\n') {
                    let text = line.trim_ascii_end();
                    let colon = memchr::memrchr(b':', text).filter(|_| !text.starts_with(b"#"));
                    if let Some(colon) = colon.filter(|colon| is_value(&text[colon + 1..])) {
                        found.push(exact("a password", at + colon + 1..at + text.len()));
                    }
                    at += line.len();
                }
            }
        }
    }
}

/// Returns the words of a text, by their places.
fn words(content: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + content[at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
        let length = content[start..].iter().position(u8::is_ascii_whitespace).unwrap_or(content.len() - start);
        at = start + length;
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_endings_are_sorted() {
        assert!(BINARY.is_sorted() && CODE.is_sorted() && PROSE.is_sorted());
        assert!(!is_searched(b"a/libx.SO", 1) && !is_searched(b"libx.so.1", 1) && is_searched(b"a.so/x", 1));
    }
}
