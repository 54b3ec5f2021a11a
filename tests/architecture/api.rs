//! The public interface of the library, held against a snapshot, so that a break is seen.
//!
//! The sources are formatted by rustfmt, so lines and indentation show what an item is. Every `pub` item counts: the lint
//! `unreachable_pub` denies those that another crate cannot reach.

use super::{code, sources, src};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The beginnings of items that another crate can name.
const ITEMS: [&str; 9] =
    ["pub fn", "pub struct", "pub enum", "pub trait", "pub const", "pub static", "pub type", "pub mod", "pub use"];

/// Returns the public items of one file, each on one line: attributes, signatures, fields, variants and implemented traits.
fn items(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut attributes, mut is_hidden) = (String::new(), false);
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if is_hidden {
            is_hidden = false;
            continue;
        }
        if line.starts_with("#[derive") || line.starts_with("#[non_exhaustive") {
            attributes += &format!("{line} ");
        } else if line.starts_with("impl") || ITEMS.iter().any(|item| line.starts_with(item)) {
            let head = format!("{attributes}{}", signature(line, &mut lines));
            attributes.clear();
            let (body, owner) = (line_opens_body(&head), owner(&head));
            found.push(head.trim_end_matches([' ', '{', ';', '=']).to_owned());
            if body {
                found.extend(members(&head, &mut lines).into_iter().map(|member| format!("{owner}: {member}")));
            }
        } else if !line.starts_with("#[") {
            attributes.clear();
        }
        is_hidden = line == "#[doc(hidden)]";
    }
    // The header of a plain `impl` is no item; that of a trait's is one.
    found.retain(|item| !item.starts_with("impl") || item.contains(" for "));
    found
}

/// Returns whether lines of the item follow its signature.
fn line_opens_body(head: &str) -> bool {
    head.ends_with('{') && !head.contains("pub fn") && !head.contains("pub use")
}

/// Returns the name of the type or trait that a signature declares or implements.
fn owner(head: &str) -> String {
    let after = |word: &str| head.split_once(word).map(|(_, rest)| rest.to_owned());
    let named = [" for ", "pub struct ", "pub enum ", "pub trait "].iter().find_map(|word| after(word));
    let name = named.or_else(|| after("impl")).unwrap_or_default();
    name.trim_start_matches(|c: char| c != '>' && name.starts_with('<'))
        .trim_start_matches(['>', ' '])
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Reads the rest of a signature, and returns all of it on one line.
fn signature<'a>(first: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut whole = first.trim().to_owned();
    while !whole.ends_with(['{', ';', '}', ',']) || whole.matches('(').count() > whole.matches(')').count() {
        let Some(line) = lines.next() else { break };
        whole += &format!(" {}", line.trim());
    }
    whole.replace("( ", "(").replace(", )", ")").replace("(mut self", "(self")
}

/// Reads the body of a type, trait or implementation, and returns what in it is public.
fn members<'a>(head: &str, lines: &mut impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_open = head.contains("pub enum") || head.contains("pub trait");
    let mut members = Vec::new();
    while let Some(line) = lines.next().filter(|line| *line != "}") {
        let member = line.trim_start();
        let depth = line.len() - member.len();
        let is_attribute = member.starts_with("#[") || member.starts_with('}') || member.is_empty();
        let is_variant_field = head.contains("pub enum") && depth == 8;
        if is_attribute || (depth != 4 && !is_variant_field) {
            continue;
        }
        if is_open || member.starts_with("pub ") {
            let member = signature(line, lines);
            members.push(member.trim_end_matches([' ', '{', ';', ',', '}']).to_owned());
        }
    }
    members
}

/// Returns the public module of a file: its own, or the nearest one that contains it. A module that the documentation hides is
/// only for the program: it has no interface.
fn public_module(file: &Path) -> Option<String> {
    let mut directory = src();
    let mut module = String::from("ocibuild");
    let mut declarations = fs::read_to_string(directory.join("lib.rs")).unwrap();
    for part in file.strip_prefix(src()).unwrap().with_extension("").components() {
        let name = part.as_os_str().to_str().unwrap();
        if declarations.contains(&format!("\n#[doc(hidden)]\npub mod {name};")) {
            return None;
        }
        if !declarations.contains(&format!("\npub mod {name};")) {
            break;
        }
        module += &format!("::{name}");
        directory = directory.join(name);
        let own = [directory.join("mod.rs"), directory.with_extension("rs")];
        declarations = own.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap();
    }
    Some(module)
}

/// Update the snapshot with `INSTA_UPDATE=always cargo test --test all architecture::api`, and say in CHANGELOG.md what changed.
#[test]
fn the_public_interface_is_the_one_in_the_snapshot() {
    let program = [src().join("cli"), src().join("main.rs")];
    let mut all = BTreeSet::new();
    for file in sources(&src()) {
        if program.iter().any(|own| file.starts_with(own)) || file.ends_with("tests.rs") {
            continue;
        }
        let Some(module) = public_module(&file) else { continue };
        all.extend(items(&code(&file)).into_iter().map(|item| format!("{module} {item}")));
    }
    // An implementation for a private type is no part of the interface.
    let declared = |item: &String| ["struct ", "enum "].iter().any(|kind| item.contains(&format!("pub {kind}")));
    let types: BTreeSet<String> = all.iter().filter(|item| declared(item)).map(|item| owner(item)).collect();
    all.retain(|item| !item.contains(" impl") || !item.contains(" for ") || types.contains(&owner(item)));
    let text: String = all.iter().map(|item| format!("{item}\n")).collect();
    assert!(all.len() > 500, "{} public items are too few to be all", all.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("api", text));
}

#[test]
fn public_items_are_found() {
    let text = "#[derive(Debug)]\n#[non_exhaustive]\npub struct Spec<T> {\n    /// Doc.\n    pub a: T,\n    b: u8,\n}\n\n\
        impl<T> Spec<T> {\n    pub fn long(\n        mut self,\n        a: T,\n    ) -> Self {\n        self\n    }\n\n    \
        fn own(&self) {}\n}\n\nimpl Clone for Spec<u8> {\n    fn clone(&self) -> Self {\n    }\n}\n\n\
        pub(crate) fn hidden() {}\n\npub enum Kind {\n    One,\n    Two {\n        size: u64,\n    },\n}\n\n\
        pub trait Sink {\n    /// Doc.\n    fn put(&self) -> bool {\n        false\n    }\n}\n\npub const MOST: u8 = 1;\n";
    assert_eq!(
        items(text),
        [
            "#[derive(Debug)] #[non_exhaustive] pub struct Spec<T>",
            "Spec: pub a: T",
            "Spec: pub fn long(self, a: T) -> Self",
            "impl Clone for Spec<u8>",
            "pub enum Kind",
            "Kind: One",
            "Kind: Two",
            "Kind: size: u64",
            "pub trait Sink",
            "Sink: fn put(&self) -> bool",
            "pub const MOST: u8 = 1",
        ]
    );
}
