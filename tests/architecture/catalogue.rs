//! Holds `tests/CATALOGUE.md` against the tests.

use super::{sources, src};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A test: its module and function, and the row numbers in its name and documentation.
struct NamedTest {
    path: String,
    rows: BTreeSet<String>,
}

/// The tests of `text`, a file whose module is `module`.
fn tests_of(text: &str, module: &str) -> Vec<NamedTest> {
    let mut tests = Vec::new();
    let (mut documentation, mut is_test) = (String::new(), false);
    for line in text.lines().map(str::trim_start) {
        if let Some(comment) = line.strip_prefix("///") {
            documentation.push_str(comment);
            documentation.push(' ');
        } else if line == "#[test]" {
            is_test = true;
        } else if !line.starts_with("#[") {
            let function = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            if let Some(name) = function.filter(|_| is_test) {
                let in_name = name.split('_').map(str::to_ascii_uppercase).take_while(|word| is_row(word));
                let in_words = documentation.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_row(word));
                let rows = in_name.chain(in_words.map(str::to_owned)).collect();
                tests.push(NamedTest { path: format!("{module}::{name}"), rows });
            }
            documentation.clear();
            is_test = false;
        }
    }
    tests
}

/// Whether `word` is the number of a row: a letter of an area and one or two digits. `V8` is not one.
fn is_row(word: &str) -> bool {
    let digits = word.strip_prefix(|letter| "ABCFHLMRSXY".contains(letter)).unwrap_or_default();
    (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn all_tests() -> Vec<NamedTest> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = sources(&root.join("tests")).into_iter().chain(sources(&src()));
    // The tests of these two files have numbers in their examples.
    let files = files
        .filter(|file| !file.ends_with("architecture/documents.rs") && !file.ends_with("architecture/catalogue.rs"));
    let module = |file: &Path| {
        let module = file.strip_prefix(root).unwrap().with_extension("").to_str().unwrap().replace('/', "::");
        module.trim_start_matches("tests::").trim_end_matches("::mod").to_owned()
    };
    files.flat_map(|file| tests_of(&fs::read_to_string(&file).unwrap(), &module(&file))).collect()
}

/// The rows of the catalogue: the number, the promise, and the tests.
fn catalogue() -> Vec<(String, String, Vec<String>)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/CATALOGUE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id "));
    let read = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [row, promise, tests] = cells[..] else { panic!("{line}: not three cells") };
        let tests = tests.split("<br>").map(|test| test.trim_matches(['`', ' ']).to_owned());
        (row.to_owned(), promise.to_owned(), tests.filter(|test| !test.is_empty()).collect())
    };
    rows.map(read).collect()
}

#[test]
fn every_test_in_the_catalogue_exists() {
    let known: BTreeSet<String> = all_tests().into_iter().map(|test| test.path).collect();
    for (row, _, tests) in catalogue() {
        for test in tests {
            assert!(known.contains(&test), "tests/CATALOGUE.md, {row}: there is no test {test}");
        }
    }
}

#[test]
fn every_promise_is_one_sentence_with_a_test() {
    let mut seen = BTreeSet::new();
    for (row, promise, tests) in catalogue() {
        assert!(!tests.is_empty(), "tests/CATALOGUE.md, {row}: no test");
        let is_sentence = promise.ends_with('.') && promise.starts_with(|first: char| !first.is_lowercase());
        assert!(is_sentence && promise.len() < 130, "tests/CATALOGUE.md, {row}: not one short sentence: {promise}");
        assert!(seen.insert(row.clone()), "tests/CATALOGUE.md, {row}: twice");
    }
}

/// The rows of each area that this project was planned with. Rows with other letters, and M rows, came later.
const PLANNED: [(char, usize); 10] =
    [('Y', 18), ('H', 44), ('B', 41), ('A', 35), ('F', 33), ('R', 50), ('C', 20), ('L', 19), ('S', 13), ('X', 12)];

#[test]
fn every_planned_row_is_tested_or_has_a_reason() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/CATALOGUE.md")).unwrap();
    let (_, reasons) = text.split_once("## Not tested here").unwrap();
    let reasons: BTreeSet<&str> = reasons.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let tested: BTreeSet<String> = catalogue().into_iter().map(|(row, _, _)| row).collect();
    let planned = PLANNED.iter().flat_map(|(area, last)| (1..=*last).map(move |number| format!("{area}{number}")));
    let missing: Vec<String> = planned.filter(|row| !tested.contains(row) && !reasons.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_row_that_a_test_names_lists_the_test() {
    let rows: BTreeMap<String, Vec<String>> = catalogue().into_iter().map(|(row, _, tests)| (row, tests)).collect();
    for test in all_tests() {
        for row in &test.rows {
            let tests = rows.get(row).unwrap_or_else(|| panic!("{} names {row}, which has no row", test.path));
            assert!(tests.contains(&test.path), "tests/CATALOGUE.md, {row}: {} is missing", test.path);
        }
    }
}

#[test]
fn row_numbers_are_found_in_names_and_documentation() {
    let text = "/// M7: both, see RFC 9110 and V8.\n#[test]\nfn f4_s3_killed_at_x1() {}\n/// M9\nfn helper() {}";
    let [test] = &tests_of(text, "module")[..] else { panic!("one test") };
    assert_eq!(test.path, "module::f4_s3_killed_at_x1");
    assert_eq!(test.rows.iter().map(String::as_str).collect::<Vec<_>>(), ["F4", "M7", "S3"]);
}
