//! Random build files, each with the command line that says the same.

use crate::contents::{CERTIFICATE, zone};
use crate::rcc::machine::Machine;
use crate::support::random::Random;
use crate::support::{ocibuild, run};
use std::collections::BTreeSet;
use std::path::Path;

/// The variables of the environment that a file may list.
pub(super) const VARIABLES: [(&str, &str); 2] = [("A", "v,${LEVEL}: ü=\"'"), ("LEVEL", "3")];

/// The platforms of the base and of the robot's environments.
const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// A build file, and the words of the command line that say the same.
#[derive(Default)]
pub(super) struct BothForms {
    /// Keys at the top.
    keys: String,
    /// Tables, in order.
    tables: String,
    pub(super) words: Vec<String>,
    /// Whether the file lists [`VARIABLES`].
    has_variables: bool,
    /// Whether the file says where the image goes, which `layout` leaves to its command line.
    pub(super) has_output: bool,
    /// The members of the schema that were written, such as `user` and `copy.source`.
    pub(super) members: BTreeSet<String>,
    platforms: Vec<&'static str>,
}

/// What the files copy, build on and package.
pub(super) struct Bench {
    pub(super) machine: Machine,
    /// The blueprint of the robot's environment.
    hash: String,
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
    let parts = [
        "a", "b c", ",", "=", ":", "\"", "'", "\\", "ü", "$", "${A}", "${LEVEL}", "#", "\t", "[x]", "{", "7", ".", "-",
    ];
    (0..1 + random.below(4)).map(|_| random.choose(&parts)).collect()
}

impl Bench {
    pub(super) fn new() -> Bench {
        let machine = Machine::new();
        let scratch = &machine.scratch;
        for (path, content) in [
            ("app/main", "#!/bin/sh\n"),
            ("app/notes.md", "notes"),
            ("app/a,b", "comma"),
            ("by-amd64/own", "amd64"),
            ("by-arm64/own", "arm64"),
            ("patterns", "*.md\n"),
            ("vars.env", "FROM_FILE=${A}\n"),
            ("authorities.pem", CERTIFICATE),
            ("low/a,b", "a"),
            ("low/c", "c"),
            ("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#),
            ("logins.json", "{}"),
            ("digests.lock", r#"{"version":1}"#),
        ] {
            scratch.write(path, content);
        }
        scratch.write("zones/UTC", zone());
        scratch.write("rcc-amd64", std::fs::read(scratch.join("rcc")).unwrap());
        let mut arm = std::fs::read(scratch.join("rcc")).unwrap();
        arm[18] = 183;
        scratch.write("rcc-arm64", arm);
        std::fs::create_dir(scratch.join("certs")).unwrap();
        machine.robot("work/robot", "3.11", "");
        let hash = machine.record("amd64", "3.11");
        machine.record_on_arm("arm64/hololib", "3.11");
        machine.record("home/.robocorp", "3.11");
        machine.record_on_arm("home/.robocorp/hololib", "3.11");
        let platform = format!("--platform={}", PLATFORMS.join(","));
        run(ocibuild().current_dir(scratch.path()).args(["layout", "lower", "--copy", "low:/low", &platform]))
            .success();
        Bench { machine, hash }
    }
}

impl BothForms {
    /// The file.
    pub(super) fn file(&self) -> String {
        format!("{}{}\n{}", self.variables(), self.keys, self.tables)
    }

    /// A file with it as one of several images.
    pub(super) fn file_with_an_image(&self) -> String {
        let headers = |line: &str| match line.strip_prefix("[[") {
            Some(rest) => format!("[[image.{rest}\n"),
            None if line.starts_with('[') => format!("[image.{}\n", &line[1..]),
            None => format!("{line}\n"),
        };
        let tables: String = self.tables.lines().map(headers).collect();
        format!("{}[[image]]\nname = \"i\"\n{}\n{tables}", self.variables(), self.keys)
    }

    fn variables(&self) -> String {
        let names: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
        if self.has_variables { format!("variables = {names:?}\n") } else { String::new() }
    }

    /// What a text of the file means.
    fn meaning(&self, text: &str) -> String {
        if !self.has_variables {
            return text.to_owned();
        }
        // What is in a value is not replaced again.
        let parts = text.split("${A}").map(|part| part.replace("${LEVEL}", VARIABLES[1].1));
        parts.collect::<Vec<_>>().join(VARIABLES[0].1)
    }

    fn wrote(&mut self, member: &str) {
        self.members.insert(member.to_owned());
    }

    fn value(&mut self, name: &str, value: &str) {
        self.wrote(name);
        let is_number = value.parse::<u32>().is_ok_and(|number| number.to_string() == value);
        let written = if is_number { value.to_owned() } else { quoted(value) };
        self.keys += &format!("{name} = {written}\n");
        self.words.push(format!("--{name}={}", self.meaning(value)));
    }

    fn list(&mut self, name: &str, values: &[String], random: &mut Random) {
        self.wrote(name);
        self.keys += &match values {
            [only] if random.once_in(2) => format!("{name} = {}\n", quoted(only)),
            _ => {
                let quoted: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                format!("{name} = [{}]\n", quoted.join(", "))
            }
        };
        let words: Vec<_> = values.iter().map(|value| format!("--{name}={}", self.meaning(value))).collect();
        self.words.extend(words);
    }

    fn switch(&mut self, name: &str) {
        self.wrote(name);
        self.keys += &format!("{name} = true\n");
        self.words.push(format!("--{name}"));
    }

    /// A command as a list.
    fn command(&mut self, name: &str, words: &[String]) {
        self.wrote(name);
        let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.keys += &format!("{name} = [{}]\n", quoted.join(", "));
        let meaning: Vec<String> = words.iter().map(|word| self.meaning(word)).collect();
        self.words.push(format!("--{name}={}", serde_json::to_string(&meaning).unwrap()));
    }

    /// A name and a value of a list or a table, of which a file has one form for each flag.
    fn pairs(&mut self, name: &str, pairs: &[(String, String)], random: &mut Random) {
        let values: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if random.once_in(2) {
            return self.list(name, &values, random);
        }
        self.wrote(name);
        self.tables += &format!("[{name}]\n");
        for (key, value) in pairs {
            self.tables += &format!("{} = {}\n", quoted(key), quoted(value));
        }
        let words: Vec<_> = values.iter().map(|value| format!("--{name}={}", self.meaning(value))).collect();
        self.words.extend(words);
    }

    fn table(&mut self, name: &str, parts: &[(&str, &str)], word: String) {
        self.wrote(name);
        // They are one for each image, the others as many as there are.
        let is_list = !["ca-certificates", "timezones"].contains(&name);
        self.tables += &if is_list { format!("[[{name}]]\n") } else { format!("[{name}]\n") };
        for (part, value) in parts {
            self.wrote(&format!("{name}.{part}"));
            // A switch has no value, and a number needs no quotes.
            let value = match *value {
                "" => "true".to_owned(),
                mode if ["mode", "chmod"].contains(part) => quoted(mode),
                number if number.parse::<u32>().is_ok() && !number.starts_with('0') => number.to_owned(),
                text => quoted(text),
            };
            self.tables += &format!("{part} = {value}\n");
        }
        self.words.push(word);
    }

    pub(super) fn random(random: &mut Random, bench: &Bench) -> BothForms {
        let mut both = BothForms { has_variables: random.once_in(2), ..BothForms::default() };
        if both.has_variables {
            both.wrote("variables");
        }
        both.config(random);
        both.rules(random);
        both.base(random);
        both.this_machine(random);
        both.results(random);
        // With the environment of a robot there is something to push.
        if !both.members.contains("cache-to") && random.once_in(3) {
            both.robot(random, bench);
        }
        for name in ["ca-certificates", "timezones"] {
            if random.once_in(4) {
                both.of_the_host(name, random);
            }
        }
        for number in 0..1 + random.below(6) {
            both.layer(random, number);
        }
        both.copies(random);
        both
    }

    fn config(&mut self, random: &mut Random) {
        let values = [
            ("user", "7"),
            ("workdir", "/w,x"),
            ("created", "2024-05-06T07:08:09Z"),
            ("author", "Ü, \"${A}\" & 'co'"),
            ("stop-signal", "SIGUSR1"),
            ("cmd", "-x 'a b'"),
            ("entrypoint", "[\"/m\",\"\"]"),
        ];
        for (name, value) in random.some_of(3, &values) {
            self.value(name, value);
        }
        if random.once_in(3) {
            self.command("healthcheck", &["/check".to_owned(), text(random), text(random)]);
            let times = [("interval", "31s"), ("timeout", "1m1s"), ("start-period", "500ms"), ("retries", "3")];
            for (name, value) in random.some_of(2, &times) {
                self.value(&format!("health-{name}"), value);
            }
        }
        self.list("expose", &[(1 + random.below(9)).to_string(), "53/udp".to_owned()], random);
        let lists = [
            ("volume", ["/v,w", "/data"]),
            ("unset-env", ["GONE", "OLD"]),
            ("env-file", ["vars.env", "./vars.env"]),
            ("tag", ["team/app:v1", "latest"]),
        ];
        for (name, values) in random.some_of(4, &lists) {
            let values: Vec<String> = values[..1 + random.below(2)].iter().map(|value| (*value).to_owned()).collect();
            self.list(name, &values, random);
        }
        for name in ["env", "label", "annotation"] {
            let pairs: Vec<_> = (0..random.below(3)).map(|number| (format!("K.{number}"), text(random))).collect();
            if !pairs.is_empty() {
                self.pairs(name, &pairs, random);
            }
        }
    }

    /// How files are copied, and how layers are compressed.
    fn rules(&mut self, random: &mut Random) {
        match random.below(4) {
            0 => self.switch("keep-owners"),
            1 => self.value("chown", "11:12"),
            _ => {}
        }
        match random.below(4) {
            0 => self.switch("preserve-modes"),
            1 => self.value("chmod", "0711"),
            _ => {}
        }
        let compression = random.choose(&["gzip", "reuse", "zstd", "none"]);
        let values = [("compression", compression), ("secrets", "allow")];
        for (name, value) in random.some_of(3, &values) {
            self.value(name, value);
        }
        if !self.words.contains(&"--compression=none".to_owned()) && random.once_in(4) {
            self.value("compression-level", "2");
        }
    }

    fn base(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => self.value("base", "scratch"),
            1 => self.value("base", "oci:lower"),
            _ => {}
        }
        self.platforms = match random.below(4) {
            0 => PLATFORMS.to_vec(),
            1 => vec![random.choose(&PLATFORMS)],
            _ => return,
        };
        let platforms: Vec<String> = self.platforms.iter().map(|platform| (*platform).to_owned()).collect();
        self.list("platform", &platforms, random);
    }

    /// Flags that do not change the image: registries, caches, and how the layout is written.
    fn this_machine(&mut self, random: &mut Random) {
        let values = [
            ("authfile", "logins.json"),
            ("cache-dir", "cache"),
            ("cache-max-age", "3d"),
            ("cache-max-size", "1G"),
            ("lock-file", "digests.lock"),
            ("lock-timeout", "9"),
            ("layout-lock", "none"),
            ("pull", "missing"),
            ("signature-policy", "policy.json"),
        ];
        for (name, value) in random.some_of(6, &values) {
            self.value(name, value);
        }
        let lists = [
            ("auth-realm", "tokens.example:5000"),
            ("plain-http", "registry.example:5000"),
            ("cert-dir", "registry.example=certs"),
            ("cache-to", "docker://localhost:1/cache"),
        ];
        for (name, value) in random.some_of(6, &lists) {
            self.list(name, &[value.to_owned()], random);
        }
        match random.below(6) {
            0 => self.list("cache-from", &["docker://localhost:1/cache".to_owned()], random),
            1 => self.switch("no-cache"),
            _ => {}
        }
        if random.once_in(6) {
            let mirrors = ["docker.io", "quay.io"].map(|host| (host.to_owned(), "localhost:1/mirror".to_owned()));
            self.pairs("mirror", &mirrors[..1 + random.below(2)], random);
        }
        for name in random.some_of(6, &["offline", "verify-writes"]) {
            self.switch(name);
        }
        let has_nothing_to_lock = !self.words.contains(&"--base=oci:lower".to_owned());
        let is_locked =
            has_nothing_to_lock && self.members.contains("lock-file") && !self.members.contains("cache-from");
        match random.below(4) {
            0 => self.switch("lock"),
            1 | 2 if is_locked => self.switch("locked"),
            _ => {}
        }
        if random.once_in(6) {
            let choice = random.once_in(2);
            self.wrote("tls-verify");
            self.keys += &format!("tls-verify = {choice}\n");
            self.words.push(format!("--tls-verify={choice}"));
        }
    }

    /// Where the image goes, and what is written about it.
    fn results(&mut self, random: &mut Random) {
        let is_from_scratch = !self.words.contains(&"--base=oci:lower".to_owned());
        if self.platforms.len() < 2 && is_from_scratch && random.once_in(6) {
            return self.switch("sparse");
        }
        self.wrote("output");
        self.has_output = true;
        self.keys += "output = [\"oci:out\"]\n";
        let has_one_name = self.words.iter().filter(|word| word.starts_with("--tag=")).count() < 2;
        let is_added = has_one_name && random.once_in(4);
        if is_added {
            self.switch("into-index");
        }
        for name in random.some_of(4, &["digest-file", "metadata-file"]) {
            self.value(name, name);
        }
        if !is_added && self.platforms.len() < 2 && random.once_in(4) {
            self.value("iidfile", "iid");
        }
    }

    fn robot(&mut self, random: &mut Random, bench: &Bench) {
        self.value("robot", random.choose(&["work/robot", "./work/robot/robot.yaml"]));
        if !self.members.contains("base") {
            self.value("base", "scratch");
        }
        let mode = random.choose(&["sealed", "ready", "compact", "direct"]);
        self.value("environment", mode);
        if mode != "direct" {
            self.value("rcc-exec", if self.platforms.is_empty() { "rcc" } else { "rcc-{arch}" });
        }
        let own = if self.platforms.is_empty() { "amd64/hololib" } else { "{arch}/hololib" };
        let values = [
            ("root", "work"),
            ("task", "run"),
            ("home", "/home/r"),
            ("controller", "c"),
            ("space", "s"),
            ("hololib", own),
            ("catalog", &bench.hash),
            ("product", "robocorp"),
        ];
        for (name, value) in random.some_of(3, &values) {
            self.value(name, value);
        }
        if random.once_in(3) {
            self.switch("scrub");
        }
    }

    /// Flags that have no effect without a copy, or a robot.
    fn copies(&mut self, random: &mut Random) {
        let is_copy = |word: &&String| word.starts_with("--copy=");
        let copies = self.words.iter().filter(is_copy).count();
        let is_robot = self.members.contains("robot");
        if copies == 0 && !is_robot {
            return;
        }
        for name in random.some_of(3, &["xattrs", "skip-special"]) {
            self.switch(name);
        }
        for (name, values) in [("exclude", ["*.md", "a,b"]), ("include", ["notes.md", "**/b"])] {
            if random.once_in(4) {
                self.list(name, &values.map(str::to_owned), random);
            }
        }
        if random.once_in(3) {
            self.value("ignore-file", "./patterns");
        }
        if copies > 0 && random.once_in(3) {
            self.value("python-venv", "keep");
        }
        // A layer with a description is one.
        let before_layers = self.words.iter().take_while(|word| !word.starts_with("--layer="));
        if (is_robot || before_layers.filter(is_copy).count() > 0) && random.once_in(3) {
            self.value("split", random.choose(&["none", "3"]));
        }
    }

    /// Adds certificates or time zones in front of all tables.
    fn of_the_host(&mut self, name: &str, random: &mut Random) {
        let (here, file) = files_of(name);
        self.wrote(name);
        match Path::new(here).exists() && random.once_in(2) {
            true => {
                self.keys += &format!("{name} = true\n");
                self.words.push(format!("--{name}"));
            }
            false => {
                self.keys += &format!("{name} = {}\n", quoted(file));
                self.words.push(format!("--{name}={file}"));
            }
        }
    }

    fn layer(&mut self, random: &mut Random, number: usize) {
        match random.below(11) {
            0..=2 => self.copy(random, number),
            3 => self.placed("mkdir", random, number),
            4 => self.placed("file", random, number),
            5 => self.symlink(random, number),
            6 => self.account(random, number),
            7 => {
                let title = text(random);
                let word = format!("--layer={}", self.meaning(&title));
                self.table("layer", &[("description", &title)], word);
                self.placed("mkdir", random, number);
            }
            8 if self.words.contains(&"--base=oci:lower".to_owned()) => {
                let path = random.choose(&["/low/a,b", "/low/c"]);
                let word = format!("--remove={path}");
                if !self.words.contains(&word) {
                    self.table("remove", &[("path", path)], word);
                }
            }
            number => {
                let name = if number == 9 { "ca-certificates" } else { "timezones" };
                if !self.members.contains(name) {
                    let (here, file) = files_of(name);
                    match Path::new(here).exists() && random.once_in(2) {
                        true => self.table(name, &[], format!("--{name}")),
                        false => self.table(name, &[("from", file)], format!("--{name}={file}")),
                    }
                }
            }
        }
    }

    /// Adds an item with the options for an owner and a mode.
    fn placed(&mut self, name: &str, random: &mut Random, number: usize) {
        let path = format!("/{name}{number}/{}", random.choose(&["x", "x,y", "ü z", "a.b"]));
        let options = [("chown", random.choose(&["5", "6:7"])), ("mode", random.choose(&["0700", "1777", "640"]))];
        let options = random.some_of(2, &options);
        let words: Vec<String> = options.iter().map(|(option, value)| format!("{option}={value}")).collect();
        let mut parts = vec![("path", path.as_str())];
        parts.extend(options);
        match name {
            "mkdir" => {
                let behind: String = words.iter().map(|word| format!(",{word}")).collect();
                self.table(name, &parts, format!("--mkdir={}{behind}", doubled(&path)));
            }
            _ => {
                let line = text(random);
                parts.push(("text", &line));
                let front: String = words.iter().map(|word| format!("{word},")).collect();
                let word = format!("--file={front}{path}={}", self.meaning(&line));
                self.table(name, &parts, word);
            }
        }
    }

    fn symlink(&mut self, random: &mut Random, number: usize) {
        let (target, path) = (text(random), format!("/link{number}"));
        let mut parts = vec![("target", target.as_str()), ("path", &path)];
        let mut word = format!("--symlink={}:{path}", doubled(&self.meaning(&target)));
        if random.once_in(2) {
            parts.push(("chown", "8:9"));
            word += ",chown=8:9";
        }
        self.table("symlink", &parts, word);
    }

    fn copy(&mut self, random: &mut Random, number: usize) {
        let source = match self.platforms.is_empty() {
            true => random.choose(&["app", "./app", "app/main", "app/a,b"]),
            false => random.choose(&["app", "app/main", "by-{arch}", "by-{arch}/own"]),
        };
        let is_directory = source.ends_with("app") || source.ends_with('}');
        let destination = format!("/copy{number}{}", random.choose(&["/", "/x,y/", "/d", ""]));
        let mut parts = vec![("source", source), ("destination", destination.as_str())];
        let mut word = format!("--copy={}:{}", doubled(source), doubled(&destination));
        let glob = random.choose(&["*.md", "a,b", "[m]ain"]);
        // Of two of a group, there is one.
        let groups: [&[(&str, &str)]; 8] = [
            &[("chown", "3:4"), ("keep-owners", "")],
            &[("chmod", "0750"), ("preserve-modes", "")],
            &[("xattrs", "")],
            &[("exclude", glob)],
            &[("include", "notes.md")],
            &[("ignore-file", "patterns")],
            &[("skip-special", ""), ("split", "none")],
            &[("python-venv", "keep")],
        ];
        for (at, group) in groups.iter().enumerate() {
            // The others have no effect on a file.
            if (at < 3 || is_directory) && random.once_in(3) {
                let (option, value) = random.choose(group);
                let is_in_a_layer = self.words.iter().any(|word| word.starts_with("--layer="));
                if option != "split" || !is_in_a_layer {
                    parts.push((option, value));
                    let behind = if value.is_empty() { String::new() } else { format!("={}", doubled(value)) };
                    word += &format!(",{option}{behind}");
                }
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
}

/// Where this machine may have certificates or time zones, and where the bench has some.
fn files_of(name: &str) -> (&'static str, &'static str) {
    match name {
        "ca-certificates" => ("/etc/ssl/certs/ca-certificates.crt", "authorities.pem"),
        _ => ("/usr/share/zoneinfo/UTC", "./zones"),
    }
}
