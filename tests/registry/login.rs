//! `ocibuild login` and `logout`, and several names in one push.

use super::real::layout;
use super::server::{Server, Shelf};
use super::*;
use crate::consumers::{self, PASSWORD, USER};
use crate::support::{Finished, Scratch, is_left_out, ocibuild, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn login(scratch: &Scratch, host: &str, password: &str, arguments: &[&str]) -> Finished {
    let stdin = fs::File::open(scratch.write("stdin", format!("{password}\n"))).unwrap();
    let mut command = ocibuild();
    command.args(["login", host, "-u", USER, "--password-stdin"]).args(arguments).stdin(stdin);
    let finished = run(command.env("XDG_RUNTIME_DIR", scratch.join("run")));
    let said = format!("{finished}");
    assert!(!said.contains(password), "{said}");
    finished
}

#[test]
fn a_login_is_proved_kept_and_forgotten() {
    let Some(registry) = consumers::Registry::with_password() else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let (ours, host) = (consumers::Layout::new(scratch.join("ours"), "v1").image(), registry.address());
    let file = scratch.join("run/containers/auth.json");
    login(&scratch, &host, SECRET, &[]).ended_with(1).failed_saying("credentials from the command line were rejected");
    assert!(!file.exists());

    login(&scratch, &host, PASSWORD, &[]).success().printed("");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let push = |arguments: &[&str]| {
        let mut command = ocibuild();
        command.args(["export", &ours, &format!("docker://{host}/team/robot:v1")]).args(arguments);
        run(command.env("XDG_RUNTIME_DIR", scratch.join("run")))
    };
    push(&[]).success();
    // skopeo reads the written file.
    if let Some(skopeo) = crate::support::consumer("skopeo") {
        let remote = format!("docker://{host}/team/robot:v1");
        let mut command = crate::support::command(skopeo);
        command.args(["inspect", "--tls-verify=false", "--authfile"]).arg(&file).arg(remote);
        run(&mut command).success();
    }

    // A symlink is kept, and another registry's entry is unchanged.
    let linked = scratch.write("elsewhere.json", r#"{"auths": {"other.io": {"auth": "YTpi"}}}"#);
    symlink(&linked, scratch.join("link.json")).unwrap();
    let link = scratch.join("link.json");
    login(&scratch, &host, PASSWORD, &["--authfile", link.to_str().unwrap()]).success();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = fs::read_to_string(&linked).unwrap();
    assert!(text.contains("other.io") && text.contains(&host), "{text}");

    let mut logout = ocibuild();
    logout.args(["logout", &host]).env("XDG_RUNTIME_DIR", scratch.join("run"));
    run(&mut logout).success();
    push(&[]).ended_with(1).failed_saying("no credentials");
    run(&mut logout).ended_with(1).failed_saying("not logged in");
}

#[test]
fn a_login_is_not_kept_unproved_in_silence() {
    let shelf = Shelf::default();
    let open = Server::start(move |x| shelf.serve(x));
    let scratch = Scratch::new();
    let said = login(&scratch, &open.host(), SECRET, &[]).success();
    assert!(said.stderr.contains("did not require credentials"), "{said}");
    assert_no_credentials(&open);

    // Another token server does not get the password, and anonymous success proves nothing.
    let elsewhere = Server::start(gives_token);
    let tokens = elsewhere.host().replace("127.0.0.1", "localhost");
    let realm = format!("http://{tokens}/token");
    let asking = Server::start(move |x| {
        if x.header("authorization").is_some() {
            return x.answer(200, &[], "{}");
        }
        x.answer(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\",service=\"test\""))], "{}");
    });
    login(&scratch, &asking.host(), SECRET, &[]).ended_with(1).failed_saying(&format!("--auth-realm {tokens}"));
    assert_no_credentials(&elsewhere);
    login(&scratch, &asking.host(), SECRET, &["--auth-realm", &tokens]).success();
    login(&scratch, &asking.host(), SECRET, &["--offline"]).ended_with(2);
    login(&scratch, "http://reg.io", SECRET, &[]).ended_with(2);
    login(&scratch, "reg.io/team", SECRET, &[]).ended_with(2);
}

#[test]
fn several_names_are_given_in_one_push() {
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let shelf = Shelf::default();
    let server = Server::start({
        let shelf = shelf.clone();
        move |x| shelf.serve(x)
    });
    let name = |tag: &str| format!("docker://{}/team/robot:{tag}", server.host());
    let archive = format!("oci-archive:{}", scratch.join("also.tar").display());
    let mut command = ocibuild();
    command.args(["export", &ours, &name("v1"), &name("v1.2"), &archive, &name("v1.2"), &name("latest")]);
    run(&mut command).success();
    let tagged: Vec<_> = ["v1", "v1.2", "latest"].map(|tag| shelf.manifest("team/robot", tag)).into();
    assert!(tagged.iter().all(|manifest| manifest.is_some() && *manifest == tagged[0]));
    assert_eq!(
        server.lines().iter().filter(|line| line.starts_with("HEAD ")).count(),
        4,
        "each blob is asked for once"
    );
    assert!(scratch.join("also.tar").is_file());
    run(ocibuild().args(["export", &ours, &name("v1"), "-"])).ended_with(2);
}

/// Starts a registry that accepts every name and password.
fn registry_that_asks() -> Server {
    Server::start(|x| match x.header("authorization") {
        Some(_) => x.answer(200, &[], "{}"),
        None => x.answer(401, &[("WWW-Authenticate", "Basic realm=\"test\"")], "{}"),
    })
}

fn auth_file(scratch: &Scratch) -> serde_json::Value {
    serde_json::from_slice(&fs::read(scratch.join("run/containers/auth.json")).unwrap()).unwrap()
}

/// M30: concurrent logins keep each other's entries, and so do logouts.
#[test]
fn what_many_logins_write_at_once_is_all_kept() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    let registries: Vec<Server> = (0..20).map(|_| registry_that_asks()).collect();
    let at_once = |work: &(dyn Fn(&Server) + Sync)| {
        std::thread::scope(|scope| registries.iter().for_each(|registry| drop(scope.spawn(move || work(registry)))));
    };
    let stdin = scratch.write("stdin", format!("{SECRET}\n"));
    at_once(&|registry| {
        let mut command = ocibuild();
        command.args(["login", &registry.host(), "-u", USER, "--password-stdin"]);
        command.stdin(fs::File::open(&stdin).unwrap()).env("XDG_RUNTIME_DIR", scratch.join("run"));
        run(&mut command).success();
    });
    assert_eq!(auth_file(&scratch)["auths"].as_object().unwrap().len(), 20);
    at_once(&|registry| {
        run(ocibuild().args(["logout", &registry.host()]).env("XDG_RUNTIME_DIR", scratch.join("run"))).success();
    });
    assert_eq!(auth_file(&scratch)["auths"].as_object().unwrap().len(), 0);
}

/// M31: other users cannot read credentials at any time, and a killed login leaves no copy after a logout.
#[test]
fn credentials_are_never_open_and_leave_no_copy() {
    let Some(strace) = crate::support::consumer("strace") else { return };
    let scratch = Scratch::new();
    let registry = registry_that_asks();
    let log = scratch.join("strace.log");
    let login = |flags: &[&str]| {
        let mut command = crate::support::command(&strace);
        command.args(["-f", "-qq", "-o"]).arg(&log).args(flags).arg(env!("CARGO_BIN_EXE_ocibuild"));
        command.args(["login", &registry.host(), "-u", USER, "--password-stdin"]);
        let stdin = fs::File::open(scratch.write("stdin", format!("{SECRET}\n"))).unwrap();
        run(command.stdin(stdin).env("XDG_RUNTIME_DIR", scratch.join("run")))
    };
    // Killed after everything is written, before the rename.
    let renames = "renameat,renameat2,rename";
    login(&["-e", &format!("trace={renames}"), "-e", &format!("inject={renames}:signal=KILL")]).ended_with(137);
    let directory = scratch.join("run/containers");
    let copies = || {
        let files = fs::read_dir(&directory).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        files.filter(|content| content.contains("auth\":")).count()
    };
    assert_eq!(copies(), 1, "the temporary file");
    let logout = || run(ocibuild().args(["logout", &registry.host()]).env("XDG_RUNTIME_DIR", scratch.join("run")));
    logout().ended_with(1).failed_saying("not logged in");
    assert_eq!(copies(), 0, "a logout left credentials");

    fs::remove_dir_all(scratch.join("run")).unwrap();
    login(&["-e", "trace=openat,openat2,mkdirat,mkdir"]).success();
    let calls = fs::read_to_string(&log).unwrap();
    let made: Vec<&str> =
        calls.lines().filter(|line| line.contains("O_CREAT") && line.contains(".ocibuild-")).collect();
    assert!(!made.is_empty() && made.iter().all(|line| line.contains("0600")), "{made:#?}");
    let mode = fs::metadata(&directory).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "of the directory");
    assert!(calls.lines().filter(|line| line.contains("mkdir")).all(|line| line.contains("0700")), "{calls}");
    logout().success();
    assert_eq!(copies(), 0);
}
