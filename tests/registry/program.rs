//! Tests of the program against registries: the effects of environment and command line.

use super::real::layout;
use super::server::{Exchange, Server};
use super::*;
use crate::bases;
use crate::consumers::{self, PASSWORD, USER};
use crate::support::{Scratch, install_script, is_left_out, ocibuild, run};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn export(from: &str, to: &str) -> Command {
    let mut command = ocibuild();
    command.args(["export", from, to]);
    command
}

/// Returns a file in the format of podman login and docker login.
fn auth_file(host: &str, user: &str, password: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    serde_json::json!({"auths": {host: {"auth": auth}}}).to_string()
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    consumers::Registry::all().for_each(|registry| there_and_back(&registry));
}

fn there_and_back(registry: &consumers::Registry) {
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
    let expected = if registry.mounts { (&4.into(), &0.into()) } else { (&0.into(), &4.into()) };
    assert_eq!((&report["blobs"]["mounted"], &report["blobs"]["present"]), expected);
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
fn r47_nothing_that_the_program_writes_holds_a_secret() {
    if is_left_out() {
        return;
    }
    // A registry with a token server. Each server in turn refuses, cuts the connection, or redirects the client with its
    // credentials.
    let answers: [fn(&mut Exchange); 8] = [
        |x| x.answer(401, &[("WWW-Authenticate", "Basic realm=\"test\"")], "{}"),
        |x| x.refuse(403, "DENIED", "go away"),
        |x| x.answer(307, &[("Location", "https://alice:planted-secret@127.0.0.1:1/?token=planted-token")], ""),
        |x| x.answer(307, &[("Location", "http://127.0.0.1:1/%zz?token=planted-token")], ""),
        |x| x.answer(202, &[("Location", "ftp://alice:planted-secret@reg.io/?_state=planted-token")], ""),
        |x| x.answer(200, &[("Content-Type", "text/html")], "<html>log in</html>"),
        |x| x.answer(400, &[], "no"),
        |x| x.cut(),
    ];
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    for (number, answer) in answers.into_iter().enumerate() {
        let server = Server::start(move |x| match x.line().as_str() {
            "GET /token" => gives_token(x),
            _ if x.request.method == "HEAD" && !asks_for_token(x) => x.answer(404, &[], ""),
            _ if x.request.method == "HEAD" => {}
            _ => answer(x),
        });
        let file = scratch.write("auth.json", auth_file(&server.host(), USER, SECRET));
        let repository = format!("{}/team/robot:v1", server.host());
        let stdin = scratch.write("stdin", format!("{USER}:{SECRET}\n"));
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{SECRET}"));
        for (from, to) in
            [(&ours[..], format!("docker://{repository}")), (&format!("docker://{repository}"), "oci:x".to_owned())]
        {
            for format in ["text", "json"] {
                for given in ["--authfile", "--creds-stdin"] {
                    let mut command = export(from, &to);
                    command.current_dir(scratch.path()).args(["--format", format, given]);
                    if given == "--authfile" {
                        command.arg(&file);
                    }
                    command.stdin(std::fs::File::open(&stdin).unwrap());
                    let mut program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                    // Retries print the same messages each time, so a limited time is enough.
                    let begin = Instant::now();
                    while program.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(2) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    program.kill().ok();
                    let output = program.wait_with_output().unwrap();
                    let said = [output.stdout, output.stderr].concat();
                    let said = String::from_utf8(said).unwrap();
                    assert!(!said.is_empty(), "case {number} says nothing");
                    for secret in [SECRET, TOKEN, &encoded] {
                        assert!(!said.contains(secret), "case {number}: {said}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_credential_helper_of_the_search_path_is_asked() {
    let Some(registry) = consumers::Registry::with_password() else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let script = format!("#!/bin/sh\necho '{{\"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n");
    install_script(&scratch.join("bin/docker-credential-test"), &script);
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
fn a_client_certificate_of_the_directory_is_shown() {
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let shelf = Shelf::default();
    let server = Server::start_tls(super::reaching::tls("good", true), move |x| shelf.serve(x));
    let remote = format!("docker://{}/team/robot:v1", server.host());
    let certificates = scratch.join("certificates");
    for (from, to) in [("authority.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")] {
        scratch.write(Path::new("certificates").join(to), std::fs::read(Path::new("testdata/tls").join(from)).unwrap());
    }
    run(export(&ours, &remote).arg("--cert-dir").arg(&certificates)).success();
    // The directory of podman's certificates for this registry.
    let home = scratch.join("home");
    let usual = home.join(".config/containers/certs.d").join(server.host());
    std::fs::create_dir_all(usual.parent().unwrap()).unwrap();
    std::fs::rename(&certificates, &usual).unwrap();
    run(export(&ours, &remote).env("HOME", &home)).success();
    std::fs::remove_file(usual.join("client.key")).unwrap();
    run(export(&ours, &remote).env("HOME", &home)).ended_with(1).failed_saying("client.key");
    std::fs::remove_file(usual.join("client.cert")).unwrap();
    run(export(&ours, &remote).env("HOME", &home)).ended_with(1);
    std::fs::remove_dir_all(&usual).unwrap();
    std::fs::write(&usual, "").unwrap();
    run(export(&ours, &remote).env("HOME", &home)).ended_with(1).failed_saying("cannot open: not a directory");
}

#[test]
fn a_registry_at_an_ipv6_address_is_one() {
    let shelf = Shelf::default();
    let Some(server) = Server::start_at_ipv6(move |x| shelf.serve(x)) else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1");
    assert!(server.host().starts_with("[::1]:"));
    let remote = format!("docker://{}/team/robot:v1", server.host());
    run(&mut export(&ours.image(), &remote)).success();
    let back = consumers::Layout::new(scratch.join("back"), "v1");
    run(&mut export(&remote, &back.location())).success();
    assert_eq!(back.manifest_digest(), ours.manifest_digest());
    let mut pull = ocibuild();
    pull.args(["pull", &format!("{}/team/robot:v1", server.host())]).arg("--cache-dir").arg(scratch.join("cache"));
    run(&mut pull).success();
}

#[test]
fn each_blob_says_what_became_of_it() {
    let shelf = Shelf::default();
    let server = Server::start(move |x| shelf.serve(x));
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let remote = |name: &str| format!("docker://{}/team/{name}:v1", server.host());
    let count = |text: &str, words: &str| text.lines().filter(|line| line.contains(words)).count();
    let first = run(&mut export(&ours, &remote("robot"))).success();
    assert_eq!(count(&first.stderr, "MiB"), 3, "{first}");
    let second = run(&mut export(&ours, &remote("robot"))).success();
    assert_eq!(count(&second.stderr, ": already there"), 4, "{second}");
    let third = run(&mut export(&remote("robot"), &remote("other"))).success();
    assert_eq!(count(&third.stderr, ": mounted from team/robot"), 4, "{third}");
}

#[test]
fn podman_and_docker_pull_and_run_what_was_pushed() {
    let Some(registry) = consumers::Registry::plain() else { return };
    let scratch = Scratch::new();
    let Some(busybox) = crate::support::consumer("busybox") else { return };
    let name = format!("{}/team/robot:v1", registry.address());
    let mut build = ocibuild();
    build.args(["layout", "out", "--entrypoint", r#"["/bin/busybox", "echo", "pushed and pulled"]"#, "--copy"]);
    build.arg(format!("{}:/bin/busybox", busybox.display())).args(["--chmod", "755"]).current_dir(scratch.path());
    run(build.arg("--no-cache")).success();
    run(export("out", &format!("docker://{name}")).current_dir(scratch.path())).success();
    if let Some(podman) = consumers::Podman::find() {
        podman.pull(&name).success();
        podman.run(&name, &[]).success().printed("pushed and pulled\n");
    }
    for docker in consumers::Docker::all() {
        docker.pull(&name);
        docker.run(&name, &[]).success().printed("pushed and pulled\n");
    }
}

#[test]
fn what_podman_and_docker_push_is_built_on() {
    let Some(registry) = consumers::Registry::plain() else { return };
    let scratch = Scratch::new();
    let Some(busybox) = bases::busybox_by_umoci(&scratch, &consumers::Settings { entrypoint: &[], cmd: &["sh"] })
    else {
        return;
    };
    let local = "localhost/pushed-by-others:1";
    let archive = bases::docker_archive(&scratch, &busybox, local).unwrap();
    let mut pushed = Vec::new();
    if let Some(podman) = consumers::Podman::find() {
        podman.load(&archive);
        let name = format!("{}/team/by-podman:1", registry.address());
        run(podman.command().args(["push", "--quiet", "--tls-verify=false", local, &name])).success();
        pushed.push(name);
    }
    for (number, docker) in consumers::Docker::all().enumerate() {
        let name = format!("{}/team/by-docker-{number}:1", registry.address());
        docker.tag(&docker.load(&archive), &name);
        run(docker.command().args(["push", "--quiet", &name])).success();
        pushed.push(name);
    }
    for (number, base) in pushed.iter().enumerate() {
        let out = format!("out{number}");
        let in_scratch = || {
            let mut command = ocibuild();
            command.env("OCIBUILD_CACHE_DIR", scratch.join("cache")).current_dir(scratch.path());
            command
        };
        run(in_scratch().args(["layout", &out, "--base", base, "--entrypoint", "echo built on"])).success();
        run(in_scratch().args(["verify", &out])).success();
        run(in_scratch().args(["export", &out, &format!("docker-archive:{out}.tar")])).success();
        let Some(podman) = consumers::Podman::find() else { continue };
        podman.run(&podman.load(&scratch.join(format!("{out}.tar"))), &[]).success().printed("built on\n");
    }
}

#[test]
fn r44_an_interrupted_push_ends_at_once_and_gives_its_uploads_back() {
    let (scratch, shelf) = (Scratch::new(), Shelf::default());
    let server = Server::start({
        let shelf = shelf.clone();
        move |x| match x.request.method.as_str() {
            "PUT" => x.hang(),
            _ => shelf.serve(x),
        }
    });
    let mut program = hanging_push(&scratch, &server);
    interrupt(&program);
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert_eq!(shelf.open_uploads(), 0);
}

#[test]
fn s2_a_second_signal_waits_for_no_registry() {
    let (scratch, shelf) = (Scratch::new(), Shelf::default());
    let server = Server::start(move |x| match x.request.method.as_str() {
        "PUT" | "DELETE" => x.hang(),
        _ => shelf.serve(x),
    });
    let mut program = hanging_push(&scratch, &server);
    interrupt(&program);
    // It gives its uploads back now, and the registry does not answer.
    wait_for(&server, "DELETE", 1);
    assert!(program.try_wait().unwrap().is_none());
    let begin = Instant::now();
    interrupt(&program);
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// Starts a push of three layers, and returns when the registry was sent the end of each.
fn hanging_push(scratch: &Scratch, server: &Server) -> Child {
    layout(scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let mut push = export(&ours, &format!("docker://{}/team/robot:v1", server.host()));
    let program = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(server, "PUT", 3);
    program
}

/// Waits until the registry has got `count` requests of this method.
fn wait_for(server: &Server, method: &str, count: usize) {
    let begin = Instant::now();
    while server.lines().iter().filter(|line| line.starts_with(method)).count() < count {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", server.lines());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(program: &Child) {
    let id = rustix::process::Pid::from_child(program);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
}

/// M42: a password goes to the port that it is for, and to no other of that host.
#[test]
fn a_realm_on_another_port_gets_no_password() {
    let scratch = Scratch::new();
    let tokens = Server::start(|x| x.answer(200, &[], format!("{{\"token\": \"{TOKEN}\"}}")));
    let (shelf, realm) = (shelf_with_manifest(), tokens.host());
    let registry = Server::start(move |x| match x.header("authorization") {
        Some(header) if header == format!("Bearer {TOKEN}") => shelf.serve(x),
        _ => x.answer(401, &[("WWW-Authenticate", &format!("Bearer realm=\"http://{realm}/token\""))], "{}"),
    });
    let auth = scratch.write("auth.json", auth_file(&registry.host(), USER, SECRET));
    let asked = |flags: &[&str]| {
        let mut inspect = ocibuild();
        inspect.args(["inspect", &format!("docker://{}/team/robot:v1", registry.host())]).args(flags);
        run(inspect.env("REGISTRY_AUTH_FILE", &auth));
        tokens.seen().last().expect("the realm is asked").header("authorization").is_some()
    };
    assert!(!asked(&[]));
    assert!(asked(&["--auth-realm", &tokens.host()]));
}

/// M42: `NO_PROXY` may name an address together with a port.
#[test]
fn an_address_with_its_port_is_reached_without_the_proxy() {
    let scratch = Scratch::new();
    let (registry, shelf) = Server::with_shelf(|x, shelf| shelf.serve(x));
    super::bases::index(&shelf, 100, "v1");
    let proxy = Server::start(|x| x.cut());
    // The same place as 127.0.0.1, which is never reached through a proxy.
    let host = registry.host().replace("127.0.0.1", "0.0.0.0");
    let conf = scratch.write("registries.conf", format!("[[registry]]\nlocation = '{host}'\ninsecure = true\n"));
    let pull = |except: &str| {
        let mut pull = ocibuild();
        pull.args(["pull", &format!("{host}/{}:v1", super::bases::BASE)]);
        pull.env("OCIBUILD_CACHE_DIR", scratch.join("cache")).env("CONTAINERS_REGISTRIES_CONF", &conf);
        let proxy = format!("http://{}", proxy.host());
        run(pull.env("HTTP_PROXY", &proxy).env("HTTPS_PROXY", &proxy).env("NO_PROXY", except))
    };
    pull(&host).success();
    assert_eq!(proxy.seen().len(), 0);
    pull("0.0.0.0:1").ended_with(1);
    assert!(!proxy.seen().is_empty());
}
