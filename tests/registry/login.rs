//! `ocibuild login` and `logout`, and several names in one push.

use super::real::layout;
use super::server::{Server, Shelf};
use super::*;
use crate::consumers::{self, PASSWORD, USER};
use crate::support::{Finished, Scratch, ocibuild, run};
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
    login(&scratch, &host, SECRET, &[]).ended_with(1).failed_saying("credentials of the command line were refused");
    assert!(!file.exists());

    login(&scratch, &host, PASSWORD, &[]).success().printed("");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let push = |arguments: &[&str]| {
        let mut command = ocibuild();
        command.args(["export", &ours, &format!("docker://{host}/team/robot:v1")]).args(arguments);
        run(command.env("XDG_RUNTIME_DIR", scratch.join("run")))
    };
    push(&[]).success();
    // What we wrote, skopeo reads.
    if let Some(skopeo) = crate::support::consumer("skopeo") {
        let remote = format!("docker://{host}/team/robot:v1");
        let mut command = crate::support::command(skopeo);
        command.args(["inspect", "--tls-verify=false", "--authfile"]).arg(&file).arg(remote);
        run(&mut command).success();
    }

    // A link stays one, and another registry's entry stays as it is.
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
    run(&mut logout).ended_with(1).failed_saying("nobody is logged in");
}

#[test]
fn a_login_is_not_kept_unproved_in_silence() {
    let shelf = Shelf::default();
    let open = Server::start(move |x| shelf.serve(x));
    let scratch = Scratch::new();
    let said = login(&scratch, &open.host(), SECRET, &[]).success();
    assert!(said.stderr.contains("did not ask"), "{said}");
    assert_no_credentials(&open);

    // A token server elsewhere is not given the password, and anonymous success proves nothing.
    let elsewhere = Server::start(gives_token);
    let realm = format!("http://{}/token", elsewhere.host().replace("127.0.0.1", "localhost"));
    let asking = Server::start(move |x| {
        if x.header("authorization").is_some() {
            return x.answer(200, &[], "{}");
        }
        x.answer(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\",service=\"test\""))], "{}");
    });
    login(&scratch, &asking.host(), SECRET, &[]).ended_with(1).failed_saying("--auth-realm localhost");
    assert_no_credentials(&elsewhere);
    login(&scratch, &asking.host(), SECRET, &["--auth-realm", "localhost"]).success();
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
