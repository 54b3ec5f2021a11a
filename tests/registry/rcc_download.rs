//! The download of the rcc for an image.

use super::server::{Exchange, Server};
use super::*;
use crate::support::{Finished, Scratch, ocibuild, run, static_program};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A machine without rcc, with a robot that needs no environment.
struct Yard {
    scratch: Scratch,
    server: Server,
}

impl Yard {
    fn new(script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Yard {
        let scratch = Scratch::new();
        scratch.write("robot/robot.yaml", "tasks:\n  Run:\n    shell: echo hello\nartifactsDir: output\n");
        Yard { scratch, server: Server::start(script) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.host())
    }

    fn build(&self, arguments: &[&str]) -> Finished {
        let mut command = ocibuild();
        command.args(["layout", "out", "--robot", "robot", "--base", "scratch"]).args(arguments);
        command.env("PATH", "/nowhere").env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        run(command.current_dir(self.scratch.path()))
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.scratch.join("robot/ocibuild.lock")).unwrap_or_default()
    }
}

#[test]
fn rcc_is_fetched_once_and_remembered_in_the_lock_file() {
    let yard = Yard::new(|x| match x.line().as_str() {
        "GET /rcc/v19.0.2/linux64/rcc" => x.answer(302, &[("Location", "/storage")], ""),
        "GET /storage" => x.answer(200, &[], static_program(b"1")),
        _ => x.answer(404, &[], ""),
    });
    let mirror = yard.url("/rcc/");
    let arguments = ["--rcc-download", "19.0.2", "--rcc-mirror", &mirror];
    let offline = ["--rcc-download", "19.0.2", "--rcc-mirror", &mirror, "--offline"];
    yard.build(&offline).ended_with(1).failed_saying("network access is disabled (--offline)");
    let built = yard.build(&arguments).success();
    let digest = Digest::of(&static_program(b"1"));
    let url = yard.url("/rcc/v19.0.2/linux64/rcc");
    assert!(yard.lock().contains(&format!("\"{url}\": \"{digest}\"")), "{}", yard.lock());
    assert_no_credentials(&yard.server);

    let before = yard.server.seen().len();
    assert_eq!(yard.build(&offline).success().stdout, built.stdout);
    assert_eq!(yard.build(&[&arguments[..], &["--locked"]].concat()).success().stdout, built.stdout);
    assert_eq!(yard.server.seen().len(), before);

    // A damaged copy is downloaded again.
    fs::write(yard.scratch.join("cache/rcc").join(digest.hex()), static_program(b"2")).unwrap();
    assert_eq!(yard.build(&arguments).success().stdout, built.stdout);
    fs::remove_file(yard.scratch.join("robot/ocibuild.lock")).unwrap();
    yard.build(&[&arguments[..], &["--locked"]].concat()).ended_with(1).failed_saying("--lock creates it");
    yard.build(&["--rcc-download", "20.0.0", "--rcc-mirror", &mirror]).ended_with(1).failed_saying("404");
}

#[test]
fn a_changed_rcc_is_refused_until_it_is_locked_again() {
    let versions = Arc::new(AtomicUsize::new(1));
    let yard = Yard::new({
        let versions = versions.clone();
        move |x| x.answer(200, &[], static_program(&[u8::try_from(versions.load(Ordering::Relaxed)).unwrap()]))
    });
    let url = yard.url("/rcc");
    yard.build(&["--rcc-download", &url]).success();
    versions.store(2, Ordering::Relaxed);
    fs::remove_dir_all(yard.scratch.join("cache")).unwrap();
    let before = yard.lock();
    yard.build(&["--rcc-download", &url]).ended_with(1).failed_saying("but the file has sha256:");
    assert_eq!(yard.lock(), before);
    assert_eq!(fs::read_dir(yard.scratch.join("cache/rcc")).unwrap().count(), 0, "nothing is left of it");
    yard.build(&["--rcc-download", &url, "--lock"]).success();
    assert_ne!(yard.lock(), before);
    yard.build(&["--rcc-download", &url, "--locked"]).success();
    // The command line must not contradict the lock file.
    let other = Digest::of(&static_program(b"x"));
    yard.build(&["--rcc-download", &url, "--rcc-sha256", &other.hex().to_string()]).ended_with(1);
}

#[test]
fn a_given_digest_is_enforced_and_needs_no_lock_file() {
    let yard = Yard::new(|x| match x.line().as_str() {
        "GET /page" => x.answer(200, &[("Content-Type", "text/html")], "<html>log in</html>"),
        "GET /cut" if x.nth == 1 => {
            x.answer(200, &[("Content-Length", "100")], static_program(b""));
            x.cut();
        }
        _ => x.answer(200, &[], static_program(b"1")),
    });
    let good = Digest::of(&static_program(b"1"));
    let with_digest = |path: &str, digest: Digest| {
        yard.build(&["--rcc-download", &yard.url(path), "--rcc-sha256", &digest.hex().to_string()])
    };
    with_digest("/rcc", Digest::of(b"other")).ended_with(1).failed_saying("expected the digest sha256:");
    with_digest("/cut", good).success();
    assert_eq!(yard.lock(), "");
    with_digest("/page", Digest::of(b"<html>log in</html>")).ended_with(1).failed_saying("not a Linux program");
    yard.build(&["--rcc-download", &yard.url("/page")]).ended_with(1).failed_saying("not a Linux program");
    assert_eq!(yard.lock(), "", "what is no program is not written down");
    yard.build(&["--rcc-download", "http://reg.example/rcc"]).ended_with(2).failed_saying("not an https URL");
    yard.build(&["--rcc-download", &yard.url("/x"), "--rcc-sha256", "abc"]).ended_with(2);
}

/// M19: a signature in the query of a download is neither printed nor stored.
#[test]
fn the_query_of_a_download_is_kept_nowhere() {
    let yard = Yard::new(|x| match x.line().as_str() {
        line if line.starts_with("GET /rcc") => x.answer(200, &[], static_program(b"1")),
        _ => x.answer(404, &[], ""),
    });
    let signature = concat!("example0123456789", "signature");
    let url = yard.url(&format!("/rcc?sv=1&sig={signature}"));
    let shows_nothing = |finished: Finished| {
        assert!(!finished.stderr.contains(signature), "{finished}");
        finished
    };
    let failed = shows_nothing(yard.build(&["--rcc-download", &url, "--offline"])).ended_with(1);
    assert!(failed.stderr.contains("/rcc?sv=***&sig=***: not in the cache"), "{failed}");
    shows_nothing(yard.build(&["--rcc-download", &url])).success();
    let lock = yard.lock();
    assert!(lock.contains(&format!("\"{}\": \"sha256:", yard.url("/rcc"))) && !lock.contains("sig"), "{lock}");
    // Another signature, the same file.
    let again = yard.url("/rcc?sv=1&sig=other");
    shows_nothing(yard.build(&["--rcc-download", &again, "--locked", "--offline"])).success();
    shows_nothing(yard.build(&["--rcc-download", &yard.url(&format!("/none?sig={signature}")), "--lock"]))
        .ended_with(1);
}
