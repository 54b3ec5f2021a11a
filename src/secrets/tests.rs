use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/secrets").join(name)
}

/// Returns the cases of a file (`testdata/secrets/ORIGIN`): the path, and the content with its marks.
fn cases(name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(testdata(name)).unwrap().replace('·', "");
    let case = |line: &str| line.split_once('\t').map(|(path, content)| (path.to_owned(), content.replace('⏎', "\n")));
    text.lines().map(|line| case(line).unwrap_or_else(|| panic!("no tab in {line:?}"))).collect()
}

/// Returns the content without its marks, and the text between the marks.
fn unmarked(marked: &str) -> (String, Vec<String>) {
    let secrets = marked.split('«').skip(1).map(|part| part.split('»').next().unwrap().to_owned()).collect();
    (marked.replace(['«', '»'], ""), secrets)
}

fn texts(path: &str, content: &str) -> Vec<String> {
    find(path.as_bytes(), content.as_bytes()).into_iter().map(|finding| content[finding.span].to_owned()).collect()
}

/// M16: every secret of the corpus is found, with the exact bytes.
#[test]
fn every_secret_of_the_corpus_is_found_exactly() {
    let cases = cases("found.txt");
    let mut wrong = Vec::new();
    for (path, marked) in &cases {
        let (content, expected) = unmarked(marked);
        let found = texts(path, &content);
        if found != expected {
            wrong.push(format!("{path}: {content:?}\n    expected {expected:?}\n    found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 60, "{}", cases.len());
    assert_eq!(cases.iter().collect::<BTreeSet<_>>().len(), cases.len(), "a case is listed twice");
}

/// M16: nothing of what only looks like a secret is found.
#[test]
fn nothing_harmless_is_taken_for_a_secret() {
    let cases = cases("harmless.txt");
    let wrong: Vec<String> = cases
        .iter()
        .map(|(path, content)| (path, content, texts(path, content)))
        .filter(|(_, _, found)| !found.is_empty())
        .map(|(path, content, found)| format!("{path}: {content:?}: {found:?}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 200, "{}", cases.len());
    assert_eq!(cases.iter().collect::<BTreeSet<_>>().len(), cases.len(), "a case is listed twice");
}

/// This repository is packed with ocibuild, too, and must not be warned of. Keys of test servers are keys, and the file
/// that reads credentials has some in its tests.
#[test]
fn this_repository_holds_no_secret_but_the_keys_of_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut left: Vec<PathBuf> = ["src", "tests", "testdata", "benches"].map(|name| root.join(name)).to_vec();
    let mut wrong = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let is_key = path.starts_with(root.join("testdata/tls")) || path.ends_with("registry/credentials.rs");
        let name = path.as_os_str().as_encoded_bytes();
        for finding in find(name, &fs::read(&path).unwrap()).iter().filter(|_| !is_key) {
            wrong.push(format!("{}:{}: {}", path.display(), finding.line, finding.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lines_and_ends_are_found() {
    let content = b"a=1\n\nDB_PASSWORD=example-7\nB=\"\"\nPIN_TOKEN='no end 7\n";
    let found: Vec<_> = find(b".env", content).into_iter().map(|found| (found.what, found.line, found.end)).collect();
    assert_eq!(found, [("a password", 3, SecretEnd::Exact), ("a token", 5, SecretEnd::Guessed)]);
    let key = "-----BEG·IN PRIVATE KEY-----\nRVhBTVBMRSBFWEFNUExFIEVYQU1QTEU=\n".replace('·', "");
    let found = find(b"server.key", key.as_bytes());
    assert_eq!((found.len(), found[0].end), (1, SecretEnd::Guessed));
    assert_eq!(find(b"x.env", b"PASSWORD=example-7\0"), [], "no text");
}

/// Overwrites and compares; `·` marks an empty text.
#[track_caller]
fn becomes(path: &str, before: &str, after: &str) {
    let (before, after) = (before.replace('·', ""), after.replace('·', ""));
    let mut content = before.clone().into_bytes();
    overwrite(path.as_bytes(), &mut content).unwrap_or_else(|error| panic!("{before:?}: {error}"));
    assert_eq!(String::from_utf8(content).unwrap(), after, "{path}");
    assert_eq!(before.len(), after.len());
}

/// M15: a value is overwritten completely, whatever characters it has.
#[test]
fn a_value_is_overwritten_to_its_end() {
    becomes("a.json", r#"{"pa·ss": "correct horse battery"}"#, r#"{"pa·ss": "xxxxxxxxxxxxxxxxxxxxx"}"#);
    becomes("a.json", r#"{"pa·ss": "a \" b 7", "b": "c"}"#, r#"{"pa·ss": "xxxxxxxx", "b": "c"}"#);
    becomes("a.json", r#"{"cmd": "--url https:·//u:p7@host/x y"}"#, r#"{"cmd": "xxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#);
    let key = r#"-----BEG·IN PRIVATE KEY-----\nRVhBTVBMRSBFWEFNUExFIEVYQU1QTEU=\n-----END PRIVATE KEY-----\n"#;
    let length = key.replace('·', "").len();
    becomes("rcc_activate.json", &format!(r#"{{"K": "{key}"}}"#), &format!(r#"{{"K": "{}"}}"#, "x".repeat(length)));
    becomes("a.yaml", "a:\n  pa·ssword: two words 7 # why\nb: 1\n", "a:\n  pa·ssword: xxxxxxxxxxx # why\nb: 1\n");
    becomes("a.yaml", "- --url https:·//u:p7@host/x\n- y\n", "- xxxxxxxxxxxxxxxxxxxxxxxxx\n- y\n");
    becomes("a.yaml", "se·cret: |\n  first line 7\n  second\nb: 1\n", "se·cret: |\n  xxxxxxxxxxxx\n  xxxxxx\nb: 1\n");
    becomes("a.yaml", "pa·ss: 'it''s 7'\n", "pa·ss: 'xxxxxxx'\n");
    becomes("a.env", "DB_PA·SS=two words 7 # x\nB=1\n", "DB_PA·SS=xxxxxxxxxxxxxxx\nB=1\n");
    becomes("a.sh", "export DB_PA·SS=\"two words 7\"\nB=1\n", "export DB_PA·SS=\"xxxxxxxxxxx\"\nB=1\n");
    becomes("x.log", "run --pass·word example-7 --more words\n", "run --pass·word xxxxxxxxxxxxxxxxxxxxxx\n");
    becomes("pip.conf", "url = https:·//robot:exa/mple7@host/x\n", "url = https:·//xxxxxxxxxxxxxxx@host/x\n");
    let key = "-----BEG·IN PRIVATE KEY-----\nRVhBTVBMRSBFWEFNUExFIEVYQU1QTEU=\n-----END PRIVATE KEY-----\n";
    let hidden: String = key.replace('·', "").chars().map(|c| if c == '\n' { c } else { 'x' }).collect();
    becomes("a.pem", &format!("# a\n{key}# b\n"), &format!("# a\n{hidden}# b\n"));
}

/// M15: what has no certain end is refused, and left alone.
#[test]
fn a_value_without_a_certain_end_is_refused() {
    let key = "-----BEG·IN PRIVATE KEY-----\nRVhBTVBMRSBFWEFNUExFIEVYQU1QTEU=\n";
    for (path, before) in [
        ("a.pem", key),
        ("a.env", "DB_PA·SS=\"two words 7\nsecond line\"\n"),
        ("a.env", "DB_PA·SS=two words 7 \\\nsecond line\n"),
        ("a.sh", "DB_PA·SS='one 7'\"two 8\"\n"),
        ("a.json", "{\"pa·ss\": \"no end 7"),
    ] {
        let before = before.replace('·', "");
        let mut content = before.clone().into_bytes();
        let refused = overwrite(path.as_bytes(), &mut content).expect_err(&before);
        assert_eq!(refused.line, 1);
        assert!(refused.to_string().ends_with("cannot be overwritten: its end is ambiguous"));
        assert_eq!(content, before.into_bytes(), "untouched");
    }
}

/// Every secret of the corpus is gone after overwriting, or the file is refused.
#[test]
fn nothing_of_the_corpus_survives_overwriting() {
    for (path, marked) in cases("found.txt") {
        let (content, secrets) = unmarked(&marked);
        let mut overwritten = content.clone().into_bytes();
        if overwrite(path.as_bytes(), &mut overwritten).is_ok() {
            let left = String::from_utf8(overwritten).unwrap();
            assert_eq!(left.lines().count(), content.lines().count());
            for secret in secrets.iter().filter(|secret| secret.len() > 2) {
                assert!(!left.contains(secret.as_str()), "{path}: {left:?}");
            }
        }
    }
}

/// M19: nothing secret of a URL, a reference or a foreign line reaches a message.
#[test]
fn messages_hide_what_is_secret() {
    for (text, expected) in [
        ("docker:·//u:p@host/a: no", "docker:·//***@host/a: no"),
        ("reference `u:p@host/a`", "reference `***@host/a`"),
        ("`u:p@host:5000/a:v1`", "`***@host:5000/a:v1`"),
        ("https:·//u:pa/ss@host/x?sig=abc&n=1 is", "https:·//***@host/x?sig=***&n=1 is"),
        ("https:·//only-a-user@host/x", "https:·//***@host/x"),
        ("https:·//host/x?se=1&code=2#f", "https:·//host/x?se=***&code=***"),
        ("host/a:v1@sha256:0123 and a@b.example", "host/a:v1@sha256:0123 and a@b.example"),
        (
            "https:·//host:5000/v2/a/blobs/uploads/?digest=sha256:1",
            "https:·//host:5000/v2/a/blobs/uploads/?digest=sha256:1",
        ),
        ("token: invalid JSON", "token: invalid JSON"),
        ("git+https:·//host/a/b@v1.0", "git+https:·//host/a/b@v1.0"),
    ] {
        let (text, expected) = (text.replace('·', ""), expected.replace('·', ""));
        assert_eq!(Redacted::message(&text).to_string(), expected);
    }
    let foreign = "- --extra-index-url https:·//u:p@host/x and PASS·WORD=example-7".replace('·', "");
    let expected = "- --extra-index-url https:·//***@host/x and PASS·WORD=***".replace('·', "");
    assert_eq!(Redacted::foreign(&foreign).to_string(), expected);
}

#[test]
fn records_name_a_file_without_its_secrets() {
    for (address, bare) in [
        ("https:·//u:p@host:1/a/rcc?sig=x#f", "https:·//host:1/a/rcc"),
        ("https:·//host/a", "https:·//host/a"),
        ("https:·//u:p/q@host/a", "https:·//host/a"),
    ] {
        assert_eq!(bare_url(&address.replace('·', "")), bare.replace('·', ""));
    }
}
