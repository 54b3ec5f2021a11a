//! Words of other programs, with what does the same here, and the guesses at what was mistyped.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of docker, podman, crane, skopeo and umoci.
const COMMANDS: [(&[&str], &str); 20] = [
    (&["oci", "create", "new", "b"], "`ocibuild build` builds an image, `ocibuild layout DIR` into a layout"),
    (&["buildx", "bake", "bud"], "`ocibuild build` builds the image of the flags, or that of ocibuild.toml"),
    (&["push"], "`ocibuild export LAYOUT docker://REFERENCE` pushes, and so does `ocibuild build --push`"),
    (
        &["cp", "copy", "convert"],
        "`ocibuild export SOURCE DESTINATION` copies an image; `--copy SRC:DST` of layout copies files into one",
    ),
    (&["save"], "`ocibuild export LAYOUT docker-archive:FILE` saves, and so does `--save FILE` of layout"),
    (
        &["load", "import"],
        "`docker load` and `podman load` read what `ocibuild export LAYOUT docker-archive:FILE` writes",
    ),
    (&["run", "exec", "start"], "engines run images: `ocibuild export LAYOUT - | docker load`, then `docker run`"),
    (
        &["images", "image", "history", "manifest", "show", "info"],
        "`ocibuild ls LAYOUT` lists images, `ocibuild inspect IMAGE` shows one",
    ),
    (
        &["config", "mutate", "annotate"],
        "`ocibuild edit IMAGE` changes the config and the annotations of an image, `ocibuild inspect IMAGE` shows them",
    ),
    (
        &["append", "insert", "repack", "commit"],
        "`ocibuild layout DIR --base IMAGE --copy SRC:DST` adds files to an image",
    ),
    (&["digest"], "`ocibuild inspect IMAGE` shows the digest of an image"),
    (&["version"], "`ocibuild --version` prints the version"),
    (&["flatten"], "`ocibuild squash IMAGE` makes one layer of several"),
    (
        &["rmi", "remove", "delete"],
        "`ocibuild rm IMAGE` removes an image from a layout; `ocibuild cache clear` empties the cache",
    ),
    (
        &["prune", "clean", "system"],
        "`ocibuild gc LAYOUT` removes unreferenced blobs; `ocibuild cache prune` removes the least recently used cache entries",
    ),
    (&["registry", "daemon", "server", "mirror"], "`ocibuild serve LAYOUT` serves a layout as a read-only registry"),
    (
        &["unpack", "mount", "unzip", "untar"],
        "`ocibuild extract IMAGE DIR` writes the files of an image into a directory",
    ),
    (&["validate", "check", "fsck"], "`ocibuild verify LAYOUT` checks an image"),
    (&["fetch", "download"], "`ocibuild pull REFERENCE` fetches a base image"),
    (
        &["wrap", "pack", "bundle", "robot", "holotree"],
        "`ocibuild layout DIR` in a robot's directory builds its image; `ocibuild catalogs` lists environments",
    ),
];

/// Flags of theirs.
const FLAGS: [(&[&str], &str); 22] = [
    (&["."], "there is no build context; --copy SRC:DST copies files into the image"),
    (
        &["-f", "--dockerfile"],
        "no Dockerfile is read; `ocibuild dockerfile` prints one; `build -f` reads ocibuild.toml",
    ),
    (
        &[
            "--build-arg",
            "--target",
            "--ssh",
            "--network",
            "--mount",
            "--add-host",
            "--shm-size",
            "--shell",
            "--rm",
            "--force-rm",
        ],
        "nothing runs during a build; --env sets a variable",
    ),
    (
        &["--secret"],
        "nothing runs during a build, so no secret is needed; --secrets sets what to do about secrets in sources",
    ),
    (
        &["-o", "--output", "--dest"],
        "the layout is the first argument: ocibuild layout DIR; --output DEST is a flag of `ocibuild build`",
    ),
    (&["-v"], "-V prints the version; --volume PATH declares a volume"),
    (&["-p", "--port", "--publish"], "--expose PORT declares a port"),
    (
        &["--push"],
        "`ocibuild build --push` pushes what it builds, `ocibuild export LAYOUT docker://REFERENCE` afterwards",
    ),
    (&["--load"], "`ocibuild build --load ENGINE` loads what it builds; --save FILE writes what docker load reads"),
    (&["--name"], "--tag NAME names an image"),
    (
        &["--all"],
        "--platform OS/ARCH,OS/ARCH builds for several platforms, and `ocibuild export --all-platforms` copies all that there are",
    ),
    (
        &["--os", "--arch", "--variant", "--override-os", "--override-arch"],
        "--platform OS/ARCH[/VARIANT] selects a platform",
    ),
    (
        &["--verbose", "--debug", "-D", "--log-level"],
        "progress and warnings are printed without a flag; `ocibuild layout --explain` says why each layer was made",
    ),
    (&["--force-compression"], "--compression is for new layers; those of a base stay as they are"),
    (
        &["--layers", "--squash", "--squash-all"],
        "layers are reused without a flag; `ocibuild squash IMAGE` makes one of several",
    ),
    (&["--sbom", "--provenance", "--attest"], "attestations are not made; those of a base stay with it"),
    (&["--add", "--append", "-a"], "--copy SRC:DST adds files"),
    (&["--ignore", "--ignorefile"], "--exclude GLOB, or --ignore-file FILE"),
    (
        &["--creds", "--dest-creds", "--src-creds", "--username", "--password", "--password-stdin"],
        "--creds-stdin reads NAME:PASSWORD from standard input, and `ocibuild login` keeps it; other users see a command line",
    ),
    (
        &["--retry", "--retry-times", "--retry-delay"],
        "failed requests are repeated up to 5 times without a flag, and interrupted transfers go on where they ended",
    ),
    (
        &["--insecure", "--src-tls-verify", "--dest-tls-verify", "--allow-insecure"],
        "--tls-verify=false, or --plain-http HOST, or --cert-dir DIR with the certificate authority",
    ),
    (&["--timestamp", "--source-date-epoch"], "--created TIME sets the time of the image and its files"),
];

/// Values of their flags, by the flag.
const VALUES: [(&str, &[&str], &str); 7] = [
    ("--progress", &["tty", "fancy"], "auto shows bars on a terminal"),
    ("--progress", &["json", "rawjson"], "--format json prints JSON"),
    ("--progress", &["quiet"], "none, or --quiet"),
    (
        "--compression",
        &["estargz", "zstd:chunked", "zstd-chunked"],
        "zstd; layers have no list of files for pulling them in parts",
    ),
    ("--compression", &["uncompressed"], "none"),
    ("--pull", &["newer"], "always asks the registry"),
    ("--format", &["docker", "oci", "v2s2"], "images are those of OCI, which docker reads"),
];

/// Returns a hint for a mistake on the command line: the equivalent of another program's word, or a correction.
pub(super) fn hint(error: &clap::Error) -> Option<String> {
    let (word, answer, suggestions) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = word_at(error, ContextKind::InvalidSubcommand)?;
            (word, answer_in(&COMMANDS, word), ContextKind::SuggestedSubcommand)
        }
        ErrorKind::UnknownArgument => {
            let word = word_at(error, ContextKind::InvalidArg)?;
            (word, answer_in(&FLAGS, word), ContextKind::SuggestedArg)
        }
        ErrorKind::InvalidValue => {
            let word = word_at(error, ContextKind::InvalidValue)?;
            (word, answer_to_value(word_at(error, ContextKind::InvalidArg)?, word), ContextKind::SuggestedValue)
        }
        _ => return None,
    };
    if let Some(answer) = answer {
        return Some(answer.to_owned());
    }
    let suggested: &[String] = match error.get(suggestions) {
        Some(ContextValue::String(one)) => std::slice::from_ref(one),
        Some(ContextValue::Strings(several)) => several,
        _ => &[],
    };
    let nearest = nearest(word, suggested.iter().map(String::as_str))?;
    Some(format!("did you mean {nearest}?"))
}

/// Returns the word that the error is about: a command, a flag without its value, or a value.
fn word_at(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    let Some(ContextValue::String(given)) = error.get(kind) else { return None };
    given.split(['=', ' ']).next()
}

fn answer_in(table: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, answer)| *answer)
}

fn answer_to_value(flag: &str, value: &str) -> Option<&'static str> {
    let is_it = |(of, values, _): &&(&str, &[&str], &str)| *of == flag && values.contains(&value);
    VALUES.iter().find(is_it).map(|(_, _, answer)| *answer)
}

/// Returns the word of `known` that is most like `word`, if there is one that may have been meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known.into_iter().min_by_key(|known| distance(word, known)).filter(|known| distance(word, known) <= FARTHEST)
}

/// The maximum edit distance between a mistyped word and its correction.
const FARTHEST: usize = 2;

/// Returns the edit distance of two words (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, wanted) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (one, other, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("--tga", "--tag", 2), ("cp", "cp", 0)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn no_word_is_in_a_table_twice() {
        let words_of = |table: &[(&'static [&'static str], &str)]| -> Vec<(&str, &str)> {
            table.iter().flat_map(|(words, _)| words.iter().map(|word| ("", *word))).collect()
        };
        let values = VALUES.iter().flat_map(|(flag, values, _)| values.iter().map(|value| (*flag, *value))).collect();
        for words in [words_of(&COMMANDS), words_of(&FLAGS), values] {
            let unique: std::collections::BTreeSet<(&str, &str)> = words.iter().copied().collect();
            assert_eq!(words.len(), unique.len());
        }
    }
}
