//! Credential helpers: programs named `docker-credential-*` that are queried over a pipe.
//!
//! The protocol is docker's: the argument `get`, the server's name on standard input, a JSON document on standard output, or
//! exit status 1 and a message there (docker-credential-helpers, README). A helper that fails is an error, never a reason to
//! continue with other credentials or none (CVE-2021-41092).

use super::credentials::Credentials;
use super::secret::Secret;
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The maximum output of a helper, in bytes.
const LARGEST_ANSWER: u64 = 64 << 10;

/// The messages of a helper that has no credentials for a server (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: [&str; 2] = ["credentials not found in native keychain", "no credentials server URL"];

/// Runs the helper `name` for the credentials of `server`.
///
/// The helper is searched in the absolute directories of `path`. Returns `None` if it has no credentials for the server.
///
/// # Errors
/// Fails if `name` or `server` is malformed, no helper of that name is found or can be run, or it fails, prints more than 64
/// KiB or anything but the document, or does not end within `patience`.
pub fn ask(path: &[PathBuf], name: &str, server: &str, patience: Duration) -> Result<Option<Credentials>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::invalid(
            format!("credential helper `{name}`"),
            "not a name of letters, digits, `.`, `_`, `-`",
        ));
    }
    let program = format!("docker-credential-{name}");
    if server.is_empty() || server.contains(char::is_control) {
        return Err(Error::invalid(program, "asked about a malformed server name"));
    }
    let child = start(path, &program)?;
    let (status, answer) = converse(child, &program, server, patience)?;
    interpret(&program, status, &answer)
}

/// Starts the first `program` of the search path. Skips relative entries: they would refer to the working directory, which may
/// be an untrusted repository (CVE-2025-15558).
fn start(path: &[PathBuf], program: &str) -> Result<Child> {
    let mut refused = None;
    for directory in path.iter().filter(|directory| directory.is_absolute()) {
        let started = Command::new(directory.join(program))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => return Ok(child),
            // A directory of PATH may be missing or be a file.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => refused = Some(Error::io(program, "run", error)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        Error::new(ErrorKind::NotFound, program, "not found").hint("install it into a directory of PATH")
    }))
}

/// Sends the server's name and collects the output, both on another thread: a helper that neither reads nor writes must not
/// block the program.
fn converse(mut child: Child, program: &str, server: &str, patience: Duration) -> Result<(ExitStatus, Vec<u8>)> {
    let (sender, receiver) = mpsc::channel();
    let pipes = (child.stdin.take(), child.stdout.take());
    let question = format!("{server}\n");
    let object = program.to_owned();
    let talk = move || {
        if let (Some(mut input), Some(output)) = pipes {
            // A helper may print its result without reading the server's name.
            input.write_all(question.as_bytes()).ok();
            drop(input);
            sender.send(bounded_read::read(output, LARGEST_ANSWER, &object)).ok();
        }
    };
    let deadline = Instant::now() + patience;
    let talking = Builder::new().spawn(talk).map_err(|error| Error::io(program, "start a thread for", error));
    let ended = match talking.map(|_| receiver.recv_timeout(patience)) {
        Err(error) => Err(error),
        Ok(Ok(Ok(answer))) => wait(&mut child, deadline, program).map(|status| (status, answer)),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Err(_)) => Err(timed_out(program)),
    };
    if ended.is_err() {
        child.kill().ok();
        child.wait().ok();
    }
    ended
}

/// Waits for a child that has closed its output, and so is about to exit.
fn wait(child: &mut Child, deadline: Instant, program: &str) -> Result<ExitStatus> {
    loop {
        match child.try_wait().map_err(|error| Error::io(program, "wait for", error))? {
            Some(status) => return Ok(status),
            None if Instant::now() >= deadline => return Err(timed_out(program)),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn timed_out(program: &str) -> Error {
    Error::new(ErrorKind::Denied, program, "timed out")
}

fn interpret(program: &str, status: ExitStatus, answer: &[u8]) -> Result<Option<Credentials>> {
    if !status.success() {
        let said = String::from_utf8_lossy(answer);
        if NOT_FOUND.iter().any(|words| said.contains(words)) {
            return Ok(None);
        }
        let said: String = said.trim().chars().take(200).collect();
        let reason = if said.is_empty() { format!("failed ({status})") } else { format!("failed ({status}): {said}") };
        return Err(Error::new(ErrorKind::Denied, program, reason));
    }
    // The messages of serde quote their input, which is a secret here.
    let document = json::parse(answer, json::DOCUMENT_DEPTH, program)
        .map_err(|_| Error::new(ErrorKind::Denied, program, "printed something other than its JSON document"))?;
    let text = |key: &str| match document.get(key).and_then(serde_json::Value::as_str) {
        Some(text) => Ok(text),
        None => Err(Error::new(ErrorKind::Denied, program, format!("printed a document without `{key}`"))),
    };
    let (user, secret) = (text("Username")?, Secret::new(text("Secret")?));
    Ok(match user {
        "" if secret.reveal().is_empty() => None,
        "<token>" => Some(Credentials::Identity(secret)),
        user => Some(Credentials::Password { user: user.to_owned(), password: secret }),
    })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Waits until no other of these tests runs. A program cannot be started while it is open for writing, and a child that
    /// another test starts at that moment keeps it open.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a directory with the helper `x`, whose shell script is `script`.
    fn helper(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        place(folder.path(), script, 0o755);
        folder
    }

    fn place(folder: &Path, script: &str, mode: u32) {
        let path = folder.join("docker-credential-x");
        #[expect(clippy::disallowed_methods, reason = "a fixture of these tests")]
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn said(script: &str, patience: Duration) -> String {
        let folder = helper(script);
        match ask(&[folder.path().to_owned()], "x", "reg.io", patience) {
            Ok(Some(Credentials::Password { user, password })) => format!("{user} {}", password.reveal()),
            Ok(Some(Credentials::Identity(token))) => format!("identity {}", token.reveal()),
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_helper_is_asked_with_the_servers_name() {
        let _turn = turn();
        let echo =
            r#"read server; printf '{"ServerURL": "%s", "Username": "%s", "Secret": "s"}' "$server" "$1-$server""#;
        assert_eq!(said(echo, PATIENCE), "get-reg.io s");
        assert_eq!(said(r#"echo '{"Username": "<token>", "Secret": "t"}'"#, PATIENCE), "identity t");
    }

    #[test]
    fn r5_only_not_found_means_anonymous() {
        let _turn = turn();
        assert_eq!(said("echo credentials not found in native keychain; exit 1", PATIENCE), "nothing");
        assert!(said("echo locked; exit 1", PATIENCE).ends_with("failed (exit status: 1): locked"));
        assert!(said("exit 3", PATIENCE).ends_with("failed (exit status: 3)"));
        assert!(said("echo hello", PATIENCE).ends_with("something other than its JSON document"));
        assert!(said("echo '{}'", PATIENCE).ends_with("without `Username`"));
    }

    #[test]
    fn r5_a_helper_that_hangs_or_floods_is_stopped() {
        let _turn = turn();
        let begin = Instant::now();
        assert!(said("exec sleep 60", Duration::from_millis(300)).ends_with("timed out"));
        assert!(said("exec 1>&-; exec sleep 60", Duration::from_millis(300)).ends_with("timed out"));
        assert!(said("exec cat /dev/zero", PATIENCE).ends_with("larger than 64 KiB"));
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    }

    #[test]
    fn r5_a_missing_or_unusable_helper_is_an_error() {
        let _turn = turn();
        let empty = tempfile::tempdir().unwrap();
        let missing = ask(&[empty.path().to_owned()], "x", "reg.io", PATIENCE).unwrap_err();
        assert_eq!(missing.to_string(), "docker-credential-x: not found (install it into a directory of PATH)");
        place(empty.path(), "true", 0o644);
        let unusable = ask(&[empty.path().to_owned()], "x", "reg.io", PATIENCE).unwrap_err();
        assert_eq!(unusable.to_string(), "docker-credential-x: cannot run: permission denied");
    }

    #[test]
    fn r7_names_that_could_lead_elsewhere_are_refused() {
        for name in ["", "../x", "a b", "x/y", "x\n"] {
            assert!(ask(&[], name, "reg.io", PATIENCE).unwrap_err().to_string().contains("not a name"), "{name:?}");
        }
        for server in ["", "reg.io\r\nevil.io"] {
            assert!(
                ask(&[], "x", server, PATIENCE).unwrap_err().to_string().contains("malformed server"),
                "{server:?}"
            );
        }
    }

    #[test]
    fn r7_a_relative_directory_of_path_is_never_searched() {
        let _turn = turn();
        // Cargo runs tests in the package's directory, so this relative path does lead to the helper.
        let folder = tempfile::tempdir_in("target").unwrap();
        place(folder.path(), r#"echo '{"Username": "u", "Secret": "s"}'"#, 0o755);
        let relative = Path::new("target").join(folder.path().file_name().unwrap());
        assert!(ask(&[std::env::current_dir().unwrap().join(&relative)], "x", "reg.io", PATIENCE).is_ok());
        assert!(ask(&[relative, PathBuf::new()], "x", "reg.io", PATIENCE).is_err());
    }
}
