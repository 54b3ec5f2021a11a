//! M39: plain HTTP and unverified certificates are allowed only for the intended registries.

use super::real::layout;
use super::server::{Exchange, Server, Shelf};
use super::*;
use crate::consumers;
use crate::support::{Finished, Scratch, is_left_out, ocibuild, run};
use std::process::Command;

/// Starts a plain HTTP registry called `hub.corp`, and the proxy through which that name is reached.
fn hub() -> (Server, Shelf) {
    Server::with_shelf(|x: &mut Exchange, shelf: &Shelf| {
        if x.request.method == "CONNECT" {
            let own = x.host();
            return x.tunnel_to(&own);
        }
        if let Some(path) = x.request.target.strip_prefix("http://hub.corp") {
            x.request.target = path.to_owned();
        }
        match x.header("authorization") {
            None => x.answer(401, &[("WWW-Authenticate", "Basic realm=hub")], "{}"),
            Some(_) => shelf.serve(x),
        }
    })
}

struct Machine {
    scratch: Scratch,
    hub: Server,
    image: String,
}

impl Machine {
    fn new() -> Machine {
        let scratch = Scratch::new();
        layout(&scratch);
        let image = consumers::Layout::new(scratch.join("ours"), "v1").image();
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("alice:{SECRET}"));
        let auths = serde_json::json!({"auths": {"hub.corp": {"auth": auth}}}).to_string();
        scratch.write("auth.json", auths);
        Machine { scratch, hub: hub().0, image }
    }

    fn ocibuild(&self) -> Command {
        let mut command = ocibuild();
        let proxy = format!("http://{}", self.hub.host());
        command.env("HTTP_PROXY", &proxy).env("HTTPS_PROXY", &proxy).current_dir(self.scratch.path());
        command.env("REGISTRY_AUTH_FILE", self.scratch.join("auth.json"));
        command.env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        command
    }

    fn push(&self, arguments: &[&str]) -> Finished {
        let mut command = self.ocibuild();
        command.args(["export", &self.image, "docker://hub.corp/team/robot:v1"]);
        run(command.args(arguments))
    }

    fn login(&self, arguments: &[&str], conf: &str) -> Finished {
        let stdin = std::fs::File::open(self.scratch.write("stdin", format!("{SECRET}\n"))).unwrap();
        let mut command = self.ocibuild();
        command.args(["login", "hub.corp", "-u", "alice", "--password-stdin"]).args(arguments).stdin(stdin);
        run(command.env("CONTAINERS_REGISTRIES_CONF", self.scratch.write("registries.conf", conf)))
    }

    /// Returns whether the password was sent during `work`.
    fn saw_the_password(&self, work: impl FnOnce()) -> bool {
        let before = self.hub.seen().len();
        work();
        self.hub.seen()[before..].iter().any(|seen| seen.header("authorization").is_some())
    }
}

const WARNING: &str = "hub.corp: the password is sent to hub.corp unencrypted";

/// M39: plain HTTP is allowed for each host separately, and a password in clear text causes a warning.
#[test]
fn plain_http_is_for_the_host_that_is_named() {
    let machine = Machine::new();
    let refused = |arguments: &[&str]| {
        let saw = machine.saw_the_password(|| {
            let failed = machine.push(arguments).ended_with(1).failed_saying("not a TLS server");
            assert!(failed.stderr.contains("to allow HTTP: --plain-http hub.corp"), "{failed}");
        });
        assert!(!saw);
    };
    refused(&[]);
    refused(&["--plain-http", "other.corp"]);
    refused(&["--plain-http", "hub.corp:5000"]);
    refused(&["--tls-verify"]);
    refused(&["--tls-verify=true"]);
    let saw = machine.saw_the_password(|| {
        let pushed = machine.push(&["--plain-http", "other.corp", "--plain-http", "hub.corp", "--quiet"]).success();
        assert_eq!(pushed.stderr.matches(WARNING).count(), 1, "{pushed}");
        assert!(!pushed.stderr.contains(SECRET), "{pushed}");
    });
    assert!(saw);
    let pushed = machine.push(&["--tls-verify=false", "--quiet"]).success();
    assert!(pushed.stderr.contains(WARNING), "{pushed}");
    // The option expects a host, without a repository.
    let mut pull = machine.ocibuild();
    run(pull.args(["pull", "--plain-http", "hub.corp/team/robot:v1"])).ended_with(2).failed_saying("not a registry");
}

/// M39: settings for a registry in registries.conf also apply to pushes, logins and caches.
#[test]
fn insecure_in_registries_conf_counts_everywhere() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    let conf = "[[registry]]\nlocation = 'hub.corp'\ninsecure = true\n";
    let with_conf = |conf: &str, command: &mut Command| {
        run(command.env("CONTAINERS_REGISTRIES_CONF", machine.scratch.write("registries.conf", conf)))
    };
    let push = |conf: &str| {
        let mut command = machine.ocibuild();
        command.args(["export", &machine.image, "docker://hub.corp/team/robot:v1", "--quiet"]);
        with_conf(conf, &mut command)
    };
    push("[[registry]]\nlocation = 'hub.corp/other'\ninsecure = true\n")
        .ended_with(1)
        .failed_saying("not a TLS server");
    assert!(push(conf).success().stderr.contains(WARNING));
    push("[[registry]]\nlocation = 'hub.corp'\nblocked = true\n")
        .ended_with(1)
        .failed_saying("blocked by registries.conf");
    // A directory that cannot be listed could block the registry.
    machine.scratch.write("home/.config/containers/registries.conf.d", "");
    let mut unlisted = machine.ocibuild();
    unlisted.args(["export", &machine.image, "docker://hub.corp/team/robot:v1", "--quiet"]);
    with_conf(conf, unlisted.env("HOME", machine.scratch.join("home")))
        .ended_with(1)
        .failed_saying("registries.conf.d: cannot open: not a directory");
    machine.login(&[], "").ended_with(1).failed_saying("not a TLS server");
    let logged_in = machine.login(&["--quiet"], conf).success();
    assert!(logged_in.stderr.contains(WARNING), "{logged_in}");
    machine.login(&["--plain-http", "hub.corp"], "").success();
    // A cache is a repository like any other: the group is missing, but the request is allowed.
    let mut build = machine.ocibuild();
    build.args(["layout", "out", "--copy", "ours:/x", "--cache-to", "docker://hub.corp/team/cache", "--quiet"]);
    let built = with_conf(conf, build.env_remove("OCIBUILD_NO_CACHE")).success();
    assert!(!built.stderr.contains("not a TLS server"), "{built}");
}

/// M39: `--tls-verify=false` applies to the registries that the command names, and to no mirror.
#[test]
fn tls_verify_false_is_for_registries_that_are_named() {
    let scratch = Scratch::new();
    layout(&scratch);
    let ours = consumers::Layout::new(scratch.join("ours"), "v1").image();
    let shelf = Shelf::default();
    let its = shelf.clone();
    let registry = Server::start_tls(super::reaching::tls("good", false), move |x| its.serve(x));
    let remote = format!("docker://{}/team/robot:v1", registry.host());
    let in_scratch = || {
        let mut command = ocibuild();
        command.current_dir(scratch.path()).env("OCIBUILD_CACHE_DIR", scratch.join("cache"));
        command
    };
    let export = |arguments: &[&str]| run(in_scratch().args(["export", &ours, &remote]).args(arguments));
    export(&[]).ended_with(1).failed_saying("signed by an unknown authority");
    export(&["--tls-verify=true"]).ended_with(1).failed_saying("signed by an unknown authority");
    export(&["--plain-http", &registry.host()]).ended_with(1).failed_saying("signed by an unknown authority");
    export(&["--tls-verify=false"]).success();

    let (own, _) = Server::with_shelf(move |x, _| shelf.serve(x));
    let rule = format!("{}={}", own.host(), registry.host());
    let reference = format!("{}/team/robot:v1", own.host());
    let before = registry.seen().len();
    let pulled = run(in_scratch().args(["pull", &reference, "--mirror", &rule, "--tls-verify=false"])).success();
    assert!(pulled.stderr.contains("unknown authority; trying the next location"), "{pulled}");
    assert_eq!(registry.seen().len(), before);
    // In a file, the setting belongs to the mirror itself.
    let conf = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}'\ninsecure = true\n",
        own.host(),
        registry.host()
    );
    let mut pull = in_scratch();
    pull.args(["pull", &reference]).env("CONTAINERS_REGISTRIES_CONF", scratch.write("registries.conf", conf));
    run(&mut pull).success();
    assert!(registry.seen().len() > before);
}
