//! The program itself against registries: what the environment and the command line do.

use super::real::layout;
use super::server::Server;
use super::*;
use crate::consumers::{self, PASSWORD, USER};
use crate::support::{Scratch, ocibuild, run};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;

fn export(from: &str, to: &str) -> Command {
    let mut command = ocibuild();
    command.args(["export", from, to]);
    command
}

/// A file as podman login and docker login write it.
fn auth_file(host: &str, user: &str, password: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    serde_json::json!({"auths": {host: {"auth": auth}}}).to_string()
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let Some(registry) = consumers::Registry::plain() else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1");
    let remote = format!("docker://{}/team/robot:v1", registry.address());
    let pushed = run(export(&ours.image(), &remote).args(["--format", "json"])).success();
    let report: serde_json::Value = serde_json::from_slice(&pushed.stdout).unwrap();
    assert_eq!(report["digest"], ours.manifest_digest());
    assert_eq!(report["blobs"]["copied"], 4);

    let back = consumers::Layout::new(scratch.join("back"), "v1");
    run(&mut export(&remote, &back.location())).success().printed(&format!("{}\n", ours.manifest_digest()));
    assert_eq!(back.manifest_digest(), ours.manifest_digest());
    run(ocibuild().args(["inspect", &remote])).success();
    let other = format!("docker://{}/team/other:v2", registry.address());
    let mounted = run(export(&remote, &other).args(["--format", "json"])).success();
    let report: serde_json::Value = serde_json::from_slice(&mounted.stdout).unwrap();
    assert_eq!((&report["blobs"]["mounted"], &report["blobs"]["copied"]), (&4.into(), &0.into()));
}

#[test]
fn credentials_come_from_where_people_keep_them() {
    let Some(registry) = consumers::Registry::with_password() else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let (ours, host) = (consumers::Layout::new(scratch.join("ours"), "v1").image(), registry.address());
    let remote = format!("docker://{host}/team/robot:v1");
    let good = scratch.write("good/config.json", auth_file(&host, USER, PASSWORD));
    let wrong = scratch.write("wrong/config.json", auth_file(&host, USER, SECRET));
    scratch.write("run/containers/auth.json", auth_file(&host, USER, PASSWORD));

    let nothing = run(&mut export(&ours, &remote)).ended_with(1).failed_saying("no credentials: tried ");
    assert!(nothing.stderr.contains(".docker/config.json"), "{nothing}");
    let refused = run(export(&ours, &remote).arg("--authfile").arg(&wrong)).ended_with(1);
    assert!(refused.stderr.contains("answered 401") && !refused.stderr.contains(SECRET), "{refused}");
    run(export(&ours, &remote).arg("--authfile").arg(scratch.join("none"))).ended_with(1).failed_saying("not found");

    run(export(&ours, &remote).arg("--authfile").arg(&good)).success();
    run(export(&ours, &remote).env("REGISTRY_AUTH_FILE", &good)).success();
    run(export(&ours, &remote).env("DOCKER_CONFIG", scratch.join("good"))).success();
    let podmans = scratch.join("run");
    run(export(&ours, &remote).env("XDG_RUNTIME_DIR", podmans).env("DOCKER_CONFIG", scratch.join("wrong"))).success();
    let stdin = std::fs::File::open(scratch.write("stdin", format!("{USER}:{PASSWORD}\n"))).unwrap();
    run(export(&ours, &remote).arg("--creds-stdin").stdin(stdin)).success();
}

#[test]
fn a_credential_helper_of_the_search_path_is_asked() {
    let Some(registry) = consumers::Registry::with_password() else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let script = format!("#!/bin/sh\necho '{{\"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n");
    let helper = scratch.write("bin/docker-credential-test", script);
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    scratch.write("docker/config.json", r#"{"credsStore": "test"}"#);
    let remote = format!("docker://{}/team/robot:v1", registry.address());
    let path = format!("{}:{}", scratch.join("bin").display(), std::env::var("PATH").unwrap());
    run(export(&ours, &remote).env("DOCKER_CONFIG", scratch.join("docker")).env("PATH", path)).success();
    // The working directory is not searched.
    let mut nearby = export(&ours, &remote);
    nearby.env("DOCKER_CONFIG", scratch.join("docker")).current_dir(scratch.join("bin"));
    run(&mut nearby).ended_with(1).failed_saying("docker-credential-test: not found");
}

#[test]
fn an_authority_is_trusted_by_directory_or_by_environment() {
    let Some(registry) = consumers::Registry::with_tls() else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let remote = format!("docker://{}/team/robot:v1", registry.address());
    run(&mut export(&ours, &remote)).ended_with(1).failed_saying("signed by an unknown authority");
    run(export(&ours, &remote).arg("--cert-dir").arg(registry.certificates())).success();
    run(export(&ours, &remote).env("SSL_CERT_FILE", registry.certificates().join("ca.crt"))).success();
}

#[test]
fn r44_an_interrupted_push_ends_at_once_and_gives_its_uploads_back() {
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let shelf = Shelf::default();
    let server = Server::start({
        let shelf = shelf.clone();
        move |x| match x.request.method.as_str() {
            "PUT" => x.hang(),
            _ => shelf.serve(x),
        }
    });
    let mut command = export(&ours, &format!("docker://{}/team/robot:v1", server.host()));
    let mut program = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while server.lines().iter().filter(|line| line.starts_with("PUT")).count() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", server.lines());
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = format!("kill -s INT {}", program.id());
    run(crate::support::command("sh").args(["-c", &kill])).success();
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert_eq!(shelf.open_uploads(), 0);
}
