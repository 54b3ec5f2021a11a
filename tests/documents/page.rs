//! A document and its blocks of commands.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A document of the project.
pub(crate) struct Page {
    /// Its path in the checkout.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block<'p> {
    /// The number of its first line.
    pub(crate) line: usize,
    /// The words behind the language: what its commands need.
    pub(crate) needs: BTreeSet<&'p str>,
    /// Its commands.
    pub(crate) text: &'p str,
}

/// The command in a checkout that runs the program.
const RUNNER: &str = "cargo run --release -- ";

impl Page {
    /// Reads the document at `path` in the checkout.
    pub(crate) fn read(path: &str) -> Page {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        Page { path: path.to_owned(), text: fs::read_to_string(file).unwrap() }
    }

    /// Reads every document of the checkout.
    pub(crate) fn all() -> Vec<Page> {
        let mut paths: Vec<String> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned).into();
        for directory in ["docs", "docs/design"] {
            let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            paths.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{directory}/{name}")));
        }
        paths.sort();
        paths.iter().map(|path| Page::read(path)).collect()
    }

    /// Returns the blocks of shell commands, in order.
    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        self.fenced("sh")
    }

    /// Returns the fenced blocks of a language, in order.
    pub(crate) fn fenced(&self, language: &str) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut opened: Option<(usize, usize, BTreeSet<&str>)> = None;
        let mut offset = 0;
        for (number, line) in self.text.split_inclusive('\n').enumerate() {
            if let Some(info) = line.strip_prefix("```") {
                match opened.take() {
                    Some((first, _, needs)) if needs.contains(language) => {
                        let needs = needs.into_iter().filter(|word| *word != language).collect();
                        let start = self.text.split_inclusive('\n').take(first).map(str::len).sum();
                        blocks.push(Block { line: first + 1, needs, text: &self.text[start..offset] });
                    }
                    Some(_) => {}
                    None => opened = Some((number + 1, offset, info.split_whitespace().collect())),
                }
            }
            offset += line.len();
        }
        assert!(opened.is_none(), "{}: the last block has no end", self.path);
        blocks
    }
}

impl Block<'_> {
    /// Returns the commands that share an expected exit status, with that status. A command that has to fail ends with
    /// `   # exit status N`. Of a checkout's commands, only those that run the program are returned.
    pub(crate) fn steps(&self) -> Vec<(String, i32)> {
        let mut steps = vec![(String::new(), 0)];
        for line in self.text.lines() {
            let line = match line.strip_prefix(RUNNER) {
                Some(arguments) => format!("ocibuild {arguments}"),
                None if self.needs.contains("checkout") => continue,
                None => line.to_owned(),
            };
            match line.split_once("   # exit status ") {
                Some((command, status)) => {
                    steps.push((command.to_owned(), status.parse().unwrap()));
                    steps.push((String::new(), 0));
                }
                None => steps.last_mut().unwrap().0 += &format!("{line}\n"),
            }
        }
        steps.retain(|(text, _)| !text.trim().is_empty());
        steps
    }
}

mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: "page.md".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn blocks_are_found_with_what_they_need() {
        let page = page(
            "a\n```sh registry\none\n```\n\n```yaml\nx: y\n```\n```sh\ntwo\n\nthree   # exit status 7\nfour\n```\n",
        );
        let blocks = page.blocks();
        let found: Vec<_> = blocks.iter().map(|block| (block.line, block.needs.len(), block.steps())).collect();
        let step = |text: &str, status| (text.to_owned(), status);
        assert_eq!(
            found,
            [(3, 1, vec![step("one\n", 0)]), (10, 0, vec![step("two\n\n", 0), step("three", 7), step("four\n", 0)])]
        );
    }

    #[test]
    fn of_a_checkout_only_the_program_is_run() {
        let page = page("```sh checkout\ncargo test\ncargo run --release -- layout out\n```\n");
        assert_eq!(page.blocks()[0].steps(), [("ocibuild layout out\n".to_owned(), 0)]);
    }
}
