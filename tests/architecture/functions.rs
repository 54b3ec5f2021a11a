//! Public functions: each is called by the program or by an example.

use super::{code, sources, src};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The words of Rust code, without comments.
fn words(code: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The names of public functions of `library` that neither it, nor `callers`, mention outside definitions.
fn uncalled<'a>(library: &'a [String], callers: &[String]) -> Vec<&'a str> {
    let all = || library.iter().zip(library.iter().skip(1)).chain(callers.iter().zip(callers.iter().skip(1)));
    let mut mentions: HashMap<&str, i64> = HashMap::new();
    for (before, word) in all() {
        *mentions.entry(word).or_default() += i64::from(before != "fn");
    }
    let public =
        library.windows(3).filter(|words| words[0] == "pub" && words[1] == "fn").map(|words| words[2].as_str());
    public.filter(|name| mentions.get(name).is_none_or(|count| *count == 0)).collect()
}

/// M7, and the class of it: what is tested is what runs.
#[test]
fn every_public_function_is_called_by_the_program_or_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = sources(&src()).into_iter().filter(|file| !file.ends_with("tests.rs"));
    let (program, library): (Vec<_>, Vec<_>) =
        files.partition(|file| file.strip_prefix(src()).unwrap().starts_with("cli"));
    let read = |files: &[PathBuf]| files.iter().flat_map(|file| words(&code(file))).collect::<Vec<_>>();
    let callers = [read(&program), read(&sources(&root.join("examples")))].concat();
    assert_eq!(uncalled(&read(&library), &callers), [""; 0], "only tests call these");
}

#[test]
fn a_function_that_only_tests_call_is_found() {
    let library = words("pub fn called() {}\npub fn tested() {}\n// tested()\nfn own() { called() }");
    assert_eq!(uncalled(&library, &words("main(own)")), ["tested"]);
    assert_eq!(uncalled(&library, &words("main(x.tested())")), [""; 0]);
}
