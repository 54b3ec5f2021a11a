//! Secrets of a robot and of its environment.

use super::machine::{Machine, STAGE};
use crate::support::hololib::{Storage, checksum};
use crate::support::{Finished, is_left_out};
use ocibuild::codec::tar::{EntryType, TarEntry};
use std::collections::BTreeMap;

/// In pieces, so that this file holds none.
const SECRET: &str = concat!("example", "-of-a-test-7");

const MODES: [&str; 4] = ["sealed", "ready", "compact", "direct"];

/// A robot whose environment remembers secrets, which its blueprint does not hold.
fn forgetful() -> Machine {
    forgetful_with(Storage::Gzip)
}

/// The same, with the objects of its environment in the form `storage`, and a link out of it.
fn forgetful_with(storage: Storage) -> Machine {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.scratch.join("robot-tree")).unwrap();
    // The content is that of another file, because rcc does not record the targets of links.
    let outside = machine.scratch.write("outside", "python");
    std::os::unix::fs::symlink(outside, machine.scratch.join("robot-tree/link")).unwrap();
    let key = format!(
        "-----BEGIN PRIVATE {}-----\\n{}\\n-----END PRIVATE KEY-----\\n",
        "KEY",
        SECRET.repeat(4).replace('-', "a")
    );
    let activate = format!(r#"{{"A": "1", "DB_PASS": "correct horse {SECRET}", "KEY_PEM": "{key}"}}"#);
    let more = [
        ("rcc_activate.json", activate.as_str()),
        ("rcc_plan.log", &format!("pip --index-url https://robot:{SECRET}@index.example/simple --prefix {STAGE}\n")),
        ("home/.netrc", &format!("machine host.example login robot password {SECRET}\n")),
        ("etc/.npmrc", &format!("//registry.example/:_authToken={SECRET}\n")),
        ("etc/pip.conf", &format!("[global]\nindex-url = https://robot:{SECRET}@index.example/simple\n")),
    ];
    let conda = "channels: [conda-forge]\ndependencies: [python=3]\n";
    machine.robot_stored("robot", conda, "home/.robocorp", &more, storage);
    machine
}

fn holding(files: &BTreeMap<String, (TarEntry, Vec<u8>)>) -> Vec<&str> {
    let word = SECRET.replace('-', "a");
    let holds = |content: &[u8]| {
        [SECRET, &word].iter().any(|secret| memchr::memmem::find(content, secret.as_bytes()).is_some())
    };
    let inflated = |content: &[u8]| {
        let mut inflated = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(content), &mut inflated).map(|_| inflated)
    };
    let found =
        files.iter().filter(|(_, (_, content))| holds(content) || inflated(content).is_ok_and(|inner| holds(&inner)));
    found.map(|(path, _)| path.as_str()).collect()
}

fn says_nothing(finished: Finished) -> Finished {
    assert!(!finished.stderr.contains(SECRET), "{finished}");
    finished
}

/// M15, M16: secrets are found wherever an environment holds them, and overwritten whole.
#[test]
fn secrets_of_an_environment_are_found_and_overwritten_whole() {
    if is_left_out() {
        return;
    }
    let machine = forgetful();
    for mode in MODES {
        let reported = says_nothing(machine.layout("robot", &["--environment", mode])).success();
        for expected in [
            "`rcc_activate.json`: line 1 looks like a password",
            "`rcc_activate.json`: line 1 looks like a private key",
            "`rcc_plan.log`: line 1 looks like credentials in a URL",
            "`home/.netrc`: line 1 looks like a password",
            "`etc/.npmrc`: line 1 looks like a token",
            "`etc/pip.conf`: line 2 looks like credentials in a URL",
            "image: 6 secrets in 5 files",
        ] {
            assert!(reported.stderr.contains(expected), "{mode}: {expected} in {reported}");
        }
        let denied = says_nothing(machine.layout("robot", &["--environment", mode, "--secrets", "deny"])).ended_with(1);
        assert!(denied.stderr.contains("image: 6 secrets in 5 files of its sources"), "{denied}");
        assert!(!holding(&machine.files("robot", &["--environment", mode])).is_empty(), "{mode}");

        let words = ["--environment", mode, "--scrub"];
        let scrubbed = says_nothing(machine.layout("robot", &[&words[..], &["--secrets", "deny"]].concat())).success();
        assert!(
            scrubbed.stderr.contains("`rcc_activate.json`: 2 secrets overwritten, the first in line 1"),
            "{scrubbed}"
        );
        let files = machine.files("robot", &words);
        assert_eq!(holding(&files), Vec::<&str>::new(), "{mode}");
        let out = std::fs::read_dir(machine.scratch.join("robot.out/blobs/sha256")).unwrap();
        let latest = machine.layout("robot", &[&words[..], &["--format", "json"]].concat()).success();
        let built: serde_json::Value = serde_json::from_str(latest.text()).unwrap();
        let config = built["configDigest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        let config = out.map(|blob| blob.unwrap().path()).find(|path| path.ends_with(&config)).unwrap();
        let config = std::fs::read_to_string(config).unwrap();
        assert!(!config.contains(SECRET) && !config.contains("PRIVATE"), "{config}");
    }
}

/// rcc decompresses nothing in uncompressed mode, so overwritten objects are stored as their content there, too.
#[test]
fn overwritten_objects_of_an_uncompressed_library_are_content() {
    let machine = forgetful_with(Storage::Raw);
    for mode in ["sealed", "ready", "compact"] {
        let files = machine.files("robot", &["--environment", mode, "--scrub"]);
        assert_eq!(holding(&files), Vec::<&str>::new(), "{mode}");
        let is_object =
            |path: &str, entry: &TarEntry| path.contains("/hololib/library/") && entry.kind != EntryType::Directory;
        let objects: Vec<_> = files.iter().filter(|(path, (entry, _))| is_object(path, entry)).collect();
        assert!(objects.len() > 5, "{mode}");
        for (path, (entry, content)) in objects {
            let content = match entry.kind {
                EntryType::HardLink => &files[std::str::from_utf8(&entry.link).unwrap()].1,
                _ => content,
            };
            assert_eq!(Some(checksum(content).as_str()), path.rsplit('/').next(), "{mode}: {path}");
        }
    }
}

/// Overwriting reads the catalog twice, and warns about it once.
#[test]
fn warnings_of_an_overwritten_environment_are_given_once() {
    let machine = forgetful();
    for round in ["read", "from the notes"] {
        let scrubbed = machine.layout("robot", &["--scrub"]).success();
        let count = scrubbed.stderr.matches("links out of the environment").count();
        assert_eq!(count, 1, "{round}: {scrubbed}");
    }
}

const WITH_CREDENTIALS: &str = "channels:\n  - https://robot:SECRET@conda.example/main\ndependencies:\n  - python=3\n";

/// M17: rcc would not start an image whose blueprint was overwritten, so that is refused; a direct image has none left.
#[test]
fn a_blueprint_is_overwritten_in_direct_images_only() {
    let machine = Machine::new();
    machine.robot_of("robot", &WITH_CREDENTIALS.replace("SECRET", SECRET), "home/.robocorp", &[]);
    for mode in ["sealed", "ready", "compact"] {
        let refused = says_nothing(machine.layout("robot", &["--environment", mode, "--scrub"])).ended_with(1);
        let reason = format!(
            "`identity.yaml`: line 2: credentials in a URL cannot be overwritten: rcc compares the blueprint, and a {mode} image would not start \
             (--environment direct; or keep it out of the environment: pass credentials to rcc in PIP_INDEX_URL or .netrc)"
        );
        assert!(refused.stderr.contains(&reason), "{refused}");
        assert!(!machine.scratch.join("robot.out").exists());
        let reported = says_nothing(machine.layout("robot", &["--environment", mode])).success();
        for file in ["`identity.yaml`: line 2 looks like", "`/home/robot/app/conda.yaml`: line 2 looks like"] {
            assert!(reported.stderr.contains(file), "{reported}");
        }
        std::fs::remove_dir_all(machine.scratch.join("robot.out")).unwrap();
    }
    let words = ["--environment", "direct", "--scrub"];
    let files = machine.files("robot", &words);
    let (_, conda) = &files["home/robot/app/conda.yaml"];
    assert_eq!(holding(&files), Vec::<&str>::new());
    let conda = String::from_utf8(conda.clone()).unwrap();
    assert!(conda.starts_with("channels:\n  - xxxx") && !conda.contains("conda.example"), "{conda}");
}

/// M18: the lock file is not packaged, and files next to a robot are searched.
#[test]
fn the_lock_file_is_no_part_of_a_robot_and_other_files_are_searched() {
    let machine = Machine::new();
    machine.shell_robot("robot", "tasks: {a: {shell: 'true'}}\nartifactsDir: output\n");
    machine.scratch.write("robot/ocibuild.lock", "{\"version\": 1}");
    machine.scratch.write("robot/sub/ocibuild.lock", "somebody else's");
    machine.scratch.write("robot/devdata/env.json", format!("{{\"VAULT_TOKEN\": \"{SECRET}\"}}"));
    machine.scratch.write("robot/.aws/credentials", format!("[default]\naws_secret_access_key = {SECRET}\n"));
    let reported = says_nothing(machine.layout("robot", &["--environment", "direct"])).success();
    for file in ["devdata/env.json`: line 1 looks like a token", ".aws/credentials`: line 2 looks like a key"] {
        assert!(reported.stderr.contains(&format!("`/home/robot/app/{file}")), "{reported}");
    }
    let files = machine.files("robot", &["--environment", "direct"]);
    assert!(!files.contains_key("home/robot/app/ocibuild.lock"));
    assert!(files.contains_key("home/robot/app/sub/ocibuild.lock"));
}

/// M19: the error about a missing environment compares blueprints without their credentials.
#[test]
fn a_missing_environment_shows_no_credentials_of_another_one() {
    let machine = Machine::new();
    machine.robot_of("other", &WITH_CREDENTIALS.replace("SECRET", SECRET), "home/.robocorp", &[]);
    machine.robot("robot", "3", "");
    let missing = says_nothing(machine.layout("robot", &[])).ended_with(1);
    assert!(missing.stderr.contains("https://***@conda.example/main"), "{missing}");
}
