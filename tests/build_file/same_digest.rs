//! Random build files beside their command lines.

use super::{bench, program};
use crate::support::random::Random;
use crate::support::{Scratch, is_left_out};
use std::fs;

/// The number of files.
const FILES: u64 = 24;

/// A build file, and the words of the command line that say the same.
#[derive(Default)]
struct BothForms {
    /// Keys at the top.
    keys: String,
    /// Tables, in order.
    tables: String,
    words: Vec<String>,
}

/// Returns `text` as a TOML string. What is valid in JSON is valid there.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn doubled(text: &str) -> String {
    text.replace(',', ",,")
}

/// Characters that mean something in TOML, in items, or in messages.
fn text(random: &mut Random) -> String {
    let parts = ["a", "b c", ",", "=", ":", "\"", "'", "\\", "ü", "$", "${A}", "#", "\t", "[x]", "{", "7", ".", "-"];
    (0..1 + random.below(4)).map(|_| random.choose(&parts)).collect()
}

impl BothForms {
    fn value(&mut self, name: &str, value: &str) {
        self.keys += &format!("{name} = {}\n", quoted(value));
        self.words.push(format!("--{name}={value}"));
    }

    fn list(&mut self, name: &str, values: &[String]) {
        let quoted: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.keys += &format!("{name} = [{}]\n", quoted.join(", "));
        self.words.extend(values.iter().map(|value| format!("--{name}={value}")));
    }

    fn switch(&mut self, name: &str) {
        self.keys += &format!("{name} = true\n");
        self.words.push(format!("--{name}"));
    }

    /// A name and a value of a list or a table, of which a file has one form for each flag.
    fn pairs(&mut self, name: &str, pairs: &[(String, String)], random: &mut Random) {
        let words: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if random.once_in(2) {
            return self.list(name, &words);
        }
        self.tables += &format!("[{name}]\n");
        for (key, value) in pairs {
            self.tables += &format!("{} = {}\n", quoted(key), quoted(value));
        }
        self.words.extend(words.iter().map(|word| format!("--{name}={word}")));
    }

    fn table(&mut self, name: &str, parts: &[(&str, &str)], word: String) {
        self.tables += &format!("[[{name}]]\n");
        for (part, value) in parts {
            // A switch has no value, and a number needs no quotes.
            let value = match *value {
                "" => "true".to_owned(),
                mode if *part == "mode" => quoted(mode),
                number if number.parse::<u32>().is_ok() && !number.starts_with('0') => number.to_owned(),
                text => quoted(text),
            };
            self.tables += &format!("{part} = {value}\n");
        }
        self.words.push(word);
    }

    /// Adds an item with the options for an owner and a mode.
    fn placed(&mut self, name: &str, random: &mut Random, number: usize) {
        let path = format!("/{name}{number}/{}", random.choose(&["x", "x,y", "ü z", "a.b"]));
        let (owner, mode) = (random.choose(&["5", "6:7"]), random.choose(&["0700", "1777", "640"]));
        let with_options = random.once_in(2);
        let options = if with_options { format!(",chown={owner},mode={mode}") } else { String::new() };
        let mut parts = vec![("path", path.as_str())];
        if with_options {
            parts.extend([("chown", owner), ("mode", mode)]);
        }
        match name {
            "mkdir" => self.table(name, &parts, format!("--mkdir={}{options}", doubled(&path))),
            _ => {
                let line = text(random);
                parts.push(("text", &line));
                let options = options.trim_start_matches(',');
                let comma = if with_options { "," } else { "" };
                self.table(name, &parts, format!("--file={options}{comma}{path}={line}"));
            }
        }
    }

    fn copy(&mut self, random: &mut Random, number: usize) {
        let source = random.choose(&["app", "./app", "app/main", "app/a,b"]);
        let destination = format!("/copy{number}{}", random.choose(&["/", "/x,y/", "/d", ""]));
        let mut parts = vec![("source", source), ("destination", destination.as_str())];
        let mut word = format!("--copy={}:{}", doubled(source), doubled(&destination));
        if random.once_in(3) {
            parts.push(("chown", "3:4"));
            word += ",chown=3:4";
        }
        if source.ends_with("app") && random.once_in(2) {
            let glob = random.choose(&["*.md", "a,b", "[m]ain"]);
            parts.push(("exclude", glob));
            word += &format!(",exclude={}", doubled(glob));
        }
        let options = ["keep-owners", "preserve-modes", "xattrs", "skip-special", "split"];
        for option in options {
            let fits = match option {
                "keep-owners" => !word.contains("chown"),
                // They have no effect on a file.
                "skip-special" => source.ends_with("app"),
                "split" => source.ends_with("app") && !self.words.iter().any(|word| word.starts_with("--layer=")),
                _ => true,
            };
            if fits && random.once_in(4) {
                let value = if option == "split" { "none" } else { "" };
                parts.push((option, value));
                word += &if value.is_empty() { format!(",{option}") } else { format!(",{option}={value}") };
            }
        }
        self.table("copy", &parts, word);
    }

    fn account(&mut self, random: &mut Random, number: usize) {
        let (name, id, group) = (format!("u{number}"), (1000 + number).to_string(), (2000 + number).to_string());
        let mut parts = vec![("name", name.as_str()), ("uid", id.as_str())];
        match random.below(4) {
            0 => self.table("add-group", &[("name", &name), ("gid", &id)], format!("--add-group={name}:{id}")),
            1 => self.table("add-user", &parts, format!("--add-user={name}:{id}")),
            2 => {
                parts.push(("gid", &group));
                self.table("add-user", &parts, format!("--add-user={name}:{id}:{group}"));
            }
            _ => {
                // The group of a user without one has the user's number.
                parts.push(("home", "/srv/h,m"));
                self.table("add-user", &parts, format!("--add-user={name}:{id}:{id}:/srv/h,m"));
            }
        }
    }

    fn random(random: &mut Random) -> BothForms {
        let mut both = BothForms::default();
        let values = [
            ("user", "7"),
            ("workdir", "/w,x"),
            ("created", "2024-05-06T07:08:09Z"),
            ("compression", "zstd"),
            ("author", "Ü, \"quoted\" & 'co'"),
            ("stop-signal", "SIGUSR1"),
            ("cmd", "-x 'a b'"),
            ("entrypoint", "[\"/m\",\"\"]"),
            ("chmod", "0711"),
            ("platform", "linux/arm64"),
            ("health-retries", "3"),
        ];
        for (name, value) in values {
            if random.once_in(3) {
                both.value(name, value);
            }
        }
        if random.once_in(3) {
            both.value("healthcheck", "/check it");
        } else {
            both.keys = both.keys.replace("health-retries = \"3\"\n", "");
            both.words.retain(|word| !word.starts_with("--health-retries"));
        }
        match random.below(4) {
            0 => both.switch("keep-owners"),
            1 => both.value("chown", "11:12"),
            _ => {}
        }
        if random.once_in(3) {
            both.switch("xattrs");
        }
        both.list("expose", &[(1 + random.below(9)).to_string(), "53/udp".to_owned()]);
        for name in ["env", "label", "annotation"] {
            let pairs: Vec<_> = (0..random.below(3)).map(|number| (format!("K.{number}"), text(random))).collect();
            if !pairs.is_empty() {
                both.pairs(name, &pairs, random);
            }
        }
        for number in 0..1 + random.below(6) {
            match random.below(8) {
                0..=2 => both.copy(random, number),
                3 => both.placed("mkdir", random, number),
                4 => both.placed("file", random, number),
                5 => {
                    let (target, path) = (text(random), format!("/link{number}"));
                    let word = format!("--symlink={}:{path}", doubled(&target));
                    both.table("symlink", &[("target", &target), ("path", &path)], word);
                }
                6 => both.account(random, number),
                _ => {
                    let title = text(random);
                    both.table("layer", &[("description", &title)], format!("--layer={title}"));
                    both.placed("mkdir", random, number);
                }
            }
        }
        both
    }
}

/// Builds into the layout `out`, and returns what is printed.
#[track_caller]
fn printed(scratch: &Scratch, arguments: &[&str]) -> String {
    let finished = program(scratch, &[&["layout", "out", "--quiet"], arguments].concat()).success();
    finished.text().to_owned()
}

#[test]
fn random_files_and_their_command_lines_give_one_digest_and_one_file() {
    if is_left_out() {
        return;
    }
    let scratch = bench();
    for seed in 0..FILES {
        let both = BothForms::random(&mut Random::new(seed));
        let file = both.keys + "\n" + &both.tables;
        scratch.write("random.toml", &file);
        let words: Vec<&str> = both.words.iter().map(String::as_str).collect();
        let digest = printed(&scratch, &words);
        assert_eq!(printed(&scratch, &["-f", "random.toml"]), digest, "{seed}:\n{file}\n{words:?}");
        let as_toml = ["--dry-run", "--format", "toml"];
        let written = printed(&scratch, &[&words[..], &as_toml].concat());
        fs::write(scratch.join("written.toml"), &written).unwrap();
        assert_eq!(printed(&scratch, &["-f", "written.toml"]), digest, "{seed}:\n{written}");
        let again = printed(&scratch, &[&["-f", "written.toml"][..], &as_toml].concat());
        assert_eq!(again, written, "{seed}");
        // Imported by another file, in another directory, and one of several images.
        fs::create_dir_all(scratch.join("sub")).unwrap();
        fs::write(scratch.join("sub/several.toml"), "import = [\"../random.toml\"]\n[[image]]\nname = \"i\"\n")
            .unwrap();
        assert_eq!(printed(&scratch, &["-f", "sub/several.toml"]), digest, "{seed}:\n{file}");
    }
}
