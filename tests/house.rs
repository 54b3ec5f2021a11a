//! The plan of the house (ARCHITECTURE.md), held against the sources.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the library, from the top of the house to its foundation. One may use only what stands below it.
const ORDER: &[&str] = &[
    "dockerfile",
    "build",
    "verify",
    "rcc",
    "image",
    "cache",
    "layer",
    "rootfs",
    "tree",
    "trust",
    "store",
    "spec",
    "compression",
    "tar",
    "update",
    "lock",
    "root",
    "section",
    "threads",
    "name",
    "reference",
    "digest",
    "json",
    "time",
    "progress",
    "bounded",
    "wording",
    "error",
    "secrets",
    "lib",
    "main",
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The module at the top level that a file belongs to.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(src()).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The part of a file that is not its tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let place = |module: &str| ORDER.iter().position(|known| *known == module);
    for file in sources(&src()) {
        let module = module_of(&file);
        if module == "cli" || file.ends_with("tests.rs") {
            continue;
        }
        let own = place(&module).unwrap_or_else(|| panic!("{} is in no room of the house", file.display()));
        for used in code(&file).split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(used_place) = place(&used) else { continue };
            assert!(used == module || used_place > own, "{} uses {used}, which stands above it", file.display());
        }
    }
}

#[test]
fn only_the_command_line_prints_or_asks_the_machine() {
    for file in sources(&src()) {
        if module_of(&file) == "cli" {
            continue;
        }
        let text = code(&file);
        for forbidden in ["println!", "eprintln!", "env::var", "home_dir", "stdout()", "stderr()"] {
            let documented_only =
                text.lines().filter(|line| line.contains(forbidden)).all(|line| line.trim_start().starts_with("//"));
            assert!(documented_only, "{} uses {forbidden}", file.display());
        }
    }
}

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
    let (program, library): (Vec<_>, Vec<_>) = files.partition(|file| module_of(file) == "cli");
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

/// Everything that a person sees at the top of a checkout. `target` and `out` are made by building.
const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "docs",
    "examples",
    "out",
    "src",
    "target",
    "testdata",
    "tests",
];

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || TOP_LEVEL.contains(&name.as_str()), "{name} does not belong at the top level");
    }
}

#[test]
fn files_stay_small() {
    for file in sources(&src()) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 900, "{} has {lines} lines: more than one idea", file.display());
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = sources(&tests);
    let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for file in &files {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let name = if stem == "mod" { file.parent().unwrap().file_name().unwrap().to_str().unwrap() } else { stem };
        assert!(name == "all" || all.contains(&format!("mod {name};")), "{} is in no module list", file.display());
    }
}

/// The rows of the list of defects that tests are named after, but for those that only a measurement can show.
fn defects() -> impl Iterator<Item = u32> {
    (1..=71).filter(|row| !(67..=69).contains(row))
}

/// The rows that documentation comments of tests name in `text`: `M12` is one.
fn rows_of_tests(text: &str) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut documentation = String::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(comment) = line.strip_prefix("///") {
            documentation.push_str(comment);
        } else if line == "#[test]" {
            let words = documentation.split(|c: char| !c.is_alphanumeric());
            rows.extend(words.filter_map(|word| word.strip_prefix('M')?.parse::<u32>().ok()));
        } else if !line.starts_with("#[") {
            documentation.clear();
        }
    }
    rows
}

#[test]
fn every_defect_is_named_by_a_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = sources(&tests).into_iter().filter(|file| !file.ends_with("house.rs")).chain(sources(&src()));
    let named: Vec<u32> = files.flat_map(|file| rows_of_tests(&fs::read_to_string(file).unwrap())).collect();
    let missing: Vec<u32> = defects().filter(|row| !named.contains(row)).collect();
    assert_eq!(missing, [0; 0], "no test names these rows");
}

#[test]
fn only_documentation_of_a_test_names_a_row() {
    let text = "/// M1, M22: both.\n#[cfg(unix)]\n#[test]\nfn a() {}\n/// M3\nfn b() {}\n#[test]\n// M4\nfn c() {}";
    assert_eq!(rows_of_tests(text), [1, 22]);
}

#[test]
fn every_crate_is_argued_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let told = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rows: Vec<&str> = told.lines().filter(|line| line.starts_with("| ")).collect();
    let unix = &manifest["target"]["cfg(unix)"];
    for table in [&manifest["dependencies"], &manifest["dev-dependencies"], &unix["dependencies"]] {
        for name in table.as_table().unwrap().keys() {
            let words =
                |row: &&str| row.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c)).any(|word| word == name);
            assert!(rows.iter().any(words), "no word on {name}");
        }
    }
}
