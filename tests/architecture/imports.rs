//! Which file of the library imports from which, resolved through re-exports.

use super::{code, sources, src};
use std::collections::{BTreeMap, BTreeSet};

/// A path of modules, without `crate`.
type Module = Vec<String>;

/// The imports between the files of `src`.
pub(super) struct Imports {
    /// For each file, relative to `src`, the files that it takes names from.
    pub(super) files: BTreeMap<String, BTreeSet<String>>,
}

/// The modules of the crate, and the names that each passes on from others.
#[derive(Default)]
struct Modules {
    files: BTreeMap<Module, String>,
    exports: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Imports {
    pub(super) fn of_sources() -> Imports {
        let mut modules = Modules::default();
        let mut texts = Vec::new();
        for file in sources(&src()) {
            let name = file.strip_prefix(src()).unwrap().to_str().unwrap().replace('\\', "/");
            if name == "lib.rs" || name == "main.rs" || name.ends_with("tests.rs") {
                continue;
            }
            modules.files.insert(module(&name), name.clone());
            texts.push((name, without_comments(&code(&file))));
        }
        modules.files.insert(Module::new(), "lib.rs".to_owned());
        texts.push(("lib.rs".to_owned(), without_comments(&code(&src().join("lib.rs")))));
        for (name, text) in &texts {
            for (path, alias, is_public) in uses(text) {
                if let (true, Some(path)) = (is_public, modules.absolute(&module(name), &path)) {
                    modules.exports.entry(module(name)).or_default().insert(alias, path);
                }
            }
        }
        let mut files = BTreeMap::new();
        for (name, text) in texts.iter().filter(|(name, _)| name != "lib.rs") {
            files.insert(name.clone(), modules.imported(name, text));
        }
        Imports { files }
    }

    /// The imports between rooms, which are the folders of `src`.
    pub(super) fn between_rooms(&self) -> BTreeSet<(String, String)> {
        let room = |file: &str| file.split('/').next().unwrap().to_owned();
        let all = self.files.iter().flat_map(|(from, to)| to.iter().map(move |to| (room(from), room(to))));
        all.filter(|(from, to)| from != to).collect()
    }

    /// A circle of files that import from each other. The front of a folder, `mod.rs`, declares what its files share, so it is
    /// not counted.
    pub(super) fn circle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.files.keys().find_map(|file| self.circle_from(file, &mut Vec::new(), &mut done))
    }

    fn circle_from(&self, file: &str, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|passed| passed == file) {
            return Some(way[start..].to_vec());
        }
        if file.ends_with("mod.rs") || !done.insert(file.to_owned()) {
            return None;
        }
        way.push(file.to_owned());
        let circle = self.files.get(file)?.iter().find_map(|next| self.circle_from(next, way, done));
        way.pop();
        circle
    }
}

impl Modules {
    /// The files that `text`, which is the file `name`, takes names from.
    fn imported(&self, name: &str, text: &str) -> BTreeSet<String> {
        let own = module(name);
        let mut paths: Vec<Module> = Vec::new();
        let mut aliases = BTreeMap::new();
        for (path, alias, is_public) in uses(text) {
            let Some(path) = self.absolute(&own, &path) else { continue };
            let passes_on_its_own = is_public && name.ends_with("mod.rs") && path.starts_with(&own);
            aliases.insert(alias, path.clone());
            if !passes_on_its_own {
                paths.push(path);
            }
        }
        for path in inline_paths(text) {
            match (self.absolute(&own, &path), aliases.get(&path[0])) {
                (Some(path), _) => paths.push(path),
                (None, Some(module)) => paths.push([module, &path[1..]].concat()),
                (None, None) => {}
            }
        }
        let files = paths.iter().filter_map(|path| self.file(path, 0));
        files.filter(|file| file != name && file != "lib.rs").collect()
    }

    /// A path from the root of the crate; `None` for one that leads into another crate.
    fn absolute(&self, own: &Module, path: &[String]) -> Option<Module> {
        match path[0].as_str() {
            "crate" | "ocibuild" => Some(path[1..].to_vec()),
            "self" => Some([own, &path[1..]].concat()),
            "super" => {
                let up = path.iter().take_while(|word| *word == "super").count();
                Some([&own[..own.len().checked_sub(up)?], &path[up..]].concat())
            }
            child => {
                let is_child = self.files.contains_key(&[own.as_slice(), &[child.to_owned()]].concat());
                is_child.then(|| [own, path].concat())
            }
        }
    }

    /// The file that declares what is at `path`.
    fn file(&self, path: &[String], depth: usize) -> Option<String> {
        let length = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let passed_on = rest.first().and_then(|name| self.exports.get(module)?.get(name));
        match passed_on {
            Some(target) if depth < 10 => self.file(&[target, &rest[1..]].concat(), depth + 1),
            _ => self.files.get(module).cloned(),
        }
    }
}

/// The module that a file is.
fn module(file: &str) -> Module {
    let mut path: Module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(path.last().unwrap().as_str(), "mod" | "lib") {
        path.pop();
    }
    path
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The names that `text` imports: path, local name, and whether it passes the name on.
fn uses(text: &str) -> Vec<(Module, String, bool)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((before, tree)) = line.trim_start().split_once("use ") else { continue };
        if !(before.is_empty() || before.starts_with("pub")) {
            continue;
        }
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(line) = lines.next() else { break };
            tree.push_str(line);
        }
        let is_public = before.starts_with("pub");
        expand(&Module::new(), tree.trim_end_matches(';'), &mut |path, alias| found.push((path, alias, is_public)));
    }
    found
}

/// Takes the braces of a `use` apart.
fn expand(before: &Module, tree: &str, each: &mut impl FnMut(Module, String)) {
    let words =
        |text: &str| text.split("::").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let Some((head, rest)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut path: Module = [before.clone(), words(path)].concat();
        if path.last().is_some_and(|last| last == "self" || last == "*") {
            path.pop();
        }
        let Some(last) = path.last().cloned() else { return };
        return each(path, if alias.is_empty() { last } else { alias.trim().to_owned() });
    };
    let before = [before.clone(), words(head)].concat();
    let body = rest.rsplit_once('}').map_or(rest, |(body, _)| body);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in body.char_indices().chain([(body.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !body[start..at].trim().is_empty() {
                    expand(&before, body[start..at].trim(), each);
                }
                start = (at + 1).min(body.len());
            }
            _ => {}
        }
    }
}

/// The paths with `::` outside `use` statements.
fn inline_paths(text: &str) -> Vec<Module> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let paths = words.filter(|word| word.contains("::") && word.starts_with(|c: char| c.is_ascii_lowercase()));
    let split = |word: &str| word.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect::<Module>();
    paths.map(split).filter(|path| !path.is_empty()).collect()
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use a::b::{self, C, d::{E, F as G}};\npub use super::H;\nfn f() { x::y::z() }\nuse I;";
    let names: Vec<String> = uses(text).iter().map(|(path, name, _)| format!("{} {name}", path.join("::"))).collect();
    assert_eq!(names, ["a::b b", "a::b::C C", "a::b::d::E E", "a::b::d::F G", "super::H H", "I I"]);
    assert!(uses(text)[4].2 && !uses(text)[0].2);
    assert!(inline_paths(text).contains(&vec!["x".to_owned(), "y".to_owned(), "z".to_owned()]));
}

#[test]
fn a_circle_is_found() {
    let files = |pairs: &[(&str, &str)]| {
        let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            files.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        Imports { files }
    };
    assert!(files(&[("a", "b"), ("b", "c"), ("a", "c")]).circle().is_none());
    assert_eq!(files(&[("a", "b"), ("b", "c"), ("c", "b")]).circle().unwrap(), ["b", "c"]);
}
