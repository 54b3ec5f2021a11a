//! Our blueprint hash against that of the real rcc.

use crate::support::random::Random;
use crate::support::real_rcc::RealRcc;
use ocibuild::common::progress::Silent;
use ocibuild::rcc::{Blueprint, BlueprintOptions};
use std::fs;

const CONDA_FILES: u64 = 600;
const PACKAGE_FILES: u64 = 60;

#[test]
fn generated_environment_files_hash_as_with_the_real_rcc() {
    let directory = tempfile::tempdir().unwrap();
    let Some(rcc) = RealRcc::new(directory.path()) else { return };
    let check = |seed: u64, name: &str, text: String| {
        let case = directory.path().join(format!("{seed}-{name}"));
        fs::create_dir(&case).unwrap();
        let path = case.join(name);
        fs::write(&path, &text).unwrap();
        let ours = Blueprint::read(text.as_bytes(), name, &BlueprintOptions::default(), &Silent);
        let ours = ours.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        let output = rcc.run(&["holotree", "hash", "--show-blueprint", path.to_str().unwrap()]);
        let theirs = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let answer = format!("is {}.", ours.hash());
        assert!(theirs.contains(&answer), "seed {seed}:\n{text}\nours:\n{}\ntheirs:\n{theirs}", ours.text());
    };
    for seed in 0..CONDA_FILES {
        check(seed, "conda.yaml", conda_file(&mut Random::new(seed)));
    }
    for seed in 0..PACKAGE_FILES {
        check(seed, "package.yaml", package_file(&mut Random::new(seed)));
    }
}

/// M49: a scalar that begins with a byte order mark is written in escapes from its beginning to its end.
#[test]
fn a_byte_order_mark_in_a_scalar_hashes_as_with_the_real_rcc() {
    let directory = tempfile::tempdir().unwrap();
    let Some(rcc) = RealRcc::new(directory.path()) else { return };
    let long = "a b ".repeat(40);
    for (number, text) in [
        "channels: [\"\\uFEFFa\", \"\\uFEFF\"]\n".to_owned(),
        "rccPostInstall: [\"\\uFEFFecho a\\t\\\"\\\\ é\\n x😀\", \"ec\\uFEFFho a\"]\n".to_owned(),
        format!("rccPostInstall:\n- \"\\uFEFF{long}\"\n- \"x{long}\\uFEFF\"\n"),
        "name: \"\\uFEFFx\"\ndependencies:\n- \"\\uFEFFpython=3.9\"\n- pip:\n  - \"\\uFEFFa==1\"\n".to_owned(),
        "\u{feff}channels: [a]\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let path = directory.path().join(format!("{number}.yaml"));
        fs::write(&path, text).unwrap();
        let ours = Blueprint::read(text.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap();
        let output = rcc.run(&["holotree", "hash", "--show-blueprint", path.to_str().unwrap()]);
        let theirs = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(theirs.contains(&format!("is {}.", ours.hash())), "{text}\nours:\n{}\ntheirs:\n{theirs}", ours.text());
    }
}

#[test]
fn a_channel_in_rccs_home_is_part_of_the_hash() {
    let directory = tempfile::tempdir().unwrap();
    let Some(rcc) = RealRcc::new(directory.path()) else { return };
    let channel = rcc.product_home().join("channel");
    fs::create_dir(&channel).unwrap();
    fs::write(channel.join("channeldata.json"), "{}").unwrap();
    let text = "channels: [conda-forge]\ndependencies: [python=3.11.7]\n";
    fs::write(directory.path().join("conda.yaml"), text).unwrap();
    let options = BlueprintOptions { local_channel: Some(channel.to_str().unwrap().to_owned()) };
    let ours = Blueprint::read(text.as_bytes(), "conda.yaml", &options, &Silent).unwrap();
    let output = rcc.run(&["holotree", "hash", "conda.yaml"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(&ours.hash().to_string()), "{output:?}\n{}", ours.text());
}

/// Names that meet one another often, so that conflicts, replacements and promotions happen.
const NAMES: [&str; 9] = ["python", "pip", "zlib", "uv", "nodejs", "rpaframework", "rpaframework[all]", "-r", "Größe"];
const QUALIFIERS: [&str; 9] = ["=", "==", ">=", "~=", " = ", " ", ">= ", "!=", "="];
const VERSIONS: [&str; 8] = ["3.9", "3.10", "1", "22.1.2", "1.*", "3.9.13 h123_0", "1,<2", "yes"];
const CHANNELS: [&str; 12] = [
    "conda-forge",
    "defaults",
    "https://example.org/channel",
    "file:///srv/channel",
    "yes",
    "3.10",
    "2024-01-02",
    "1:30",
    "a: b",
    "# x",
    "",
    "~",
];
const WORDS: [&str; 16] = [
    "python",
    "-m",
    "pip",
    "install",
    "--no-deps",
    "https://example.org/a/very/long/path/to/some/wheel-1.2.3-py3-none-any.whl",
    "'quoted'",
    "\"double\"",
    "a\\b",
    ":",
    "#",
    "&&",
    "größer",
    "\u{1f600}",
    "x\ty",
    "",
];

fn requirement(random: &mut Random) -> String {
    let mut text = random.choose(&NAMES).to_owned();
    if !random.once_in(4) {
        text.push_str(random.choose(&QUALIFIERS));
        text.push_str(random.choose(&VERSIONS));
    }
    if random.once_in(8) {
        let length = 40 + random.below(60);
        text = format!("{text}{} ; python_version < \"3.11\" and sys_platform == 'linux'", "0".repeat(length));
    }
    text
}

fn sentence(random: &mut Random) -> String {
    let words: Vec<&str> = (0..random.below(14)).map(|_| random.choose(&WORDS)).collect();
    let mut text = words.join(" ");
    if random.once_in(6) {
        text = text.replacen(' ', "\n", 3);
    }
    text
}

/// `text` as a YAML scalar that reads as this text, in one of the notations.
fn scalar(random: &mut Random, text: &str) -> String {
    let is_simple = |c: char| c.is_alphanumeric() || "=-_./<>~![] ,".contains(c);
    let begins_simply = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let may_be_plain = begins_simply && !text.ends_with(' ') && text.chars().all(is_simple);
    let is_a_word = matches!(text, "yes" | "~" | "");
    match random.below(3) {
        0 if may_be_plain && !is_a_word && !text.contains([',', '[', ']']) => text.to_owned(),
        1 if text.chars().all(|c| c >= ' ') => format!("'{}'", text.replace('\'', "''")),
        _ => {
            let mut quoted = String::from("\"");
            for c in text.chars() {
                match c {
                    '"' | '\\' => quoted.extend(['\\', c]),
                    '\n' => quoted.push_str("\\n"),
                    '\t' => quoted.push_str("\\t"),
                    _ => quoted.push(c),
                }
            }
            quoted.push('"');
            quoted
        }
    }
}

/// A list under `key`, as a block or in brackets.
fn list(random: &mut Random, indent: &str, items: &[String]) -> String {
    if items.is_empty() || random.once_in(4) {
        return format!(" [{}]\n", items.join(", "));
    }
    let deeper = if random.once_in(2) { "  " } else { "" };
    let mut text = String::from(if random.once_in(5) { " # a comment\n" } else { "\n" });
    for item in items {
        text.push_str(&format!("{indent}{deeper}- {item}\n"));
    }
    text
}

fn scalars(random: &mut Random, most: usize, make: fn(&mut Random) -> String) -> Vec<String> {
    let count = random.below(most + 1);
    (0..count)
        .map(|_| {
            let text = make(random);
            scalar(random, &text)
        })
        .collect()
}

fn channel(random: &mut Random) -> String {
    random.choose(&CHANNELS).to_owned()
}

fn conda_file(random: &mut Random) -> String {
    let mut entries = Vec::new();
    if random.once_in(3) {
        let name = channel(random);
        entries.push(format!("name: {}\n", scalar(random, &name)));
    }
    let mut channels = scalars(random, 4, channel);
    if random.once_in(4) {
        // As they are: YAML makes something else of some, RCC takes the text.
        channels.extend(["3.10", "yes", "~", "0x1f", "1_000"].map(str::to_owned));
    }
    entries.push(format!("channels:{}", list(random, "", &channels)));
    let mut dependencies = scalars(random, 7, requirement);
    let pips = random.below(3);
    for _ in 0..pips {
        let items = scalars(random, 5, requirement);
        let at = random.below(dependencies.len() + 1);
        dependencies.insert(at, format!("{{pip: [{}]}}", items.join(", ")));
    }
    entries.push(format!("dependencies:{}", list(random, "", &dependencies)));
    if random.once_in(2) {
        let commands = scalars(random, 4, sentence);
        entries.push(format!("rccPostInstall:{}", list(random, "", &commands)));
    }
    if random.once_in(6) {
        entries.push("prefix: /opt/some where\n".to_owned());
    }
    if random.once_in(6) {
        entries.push("unknown:\n  - key\n".to_owned());
    }
    let start = random.below(entries.len());
    entries.rotate_left(start);
    entries.concat()
}

fn package_file(random: &mut Random) -> String {
    let conda = scalars(random, 6, requirement);
    let pypi = scalars(random, 6, requirement);
    let post_install = scalars(random, 3, sentence);
    format!(
        "name: x\ndependencies:\n  conda-forge:{}  pypi:{}post-install:{}",
        list(random, "  ", &conda),
        list(random, "  ", &pypi),
        list(random, "", &post_install)
    )
}
