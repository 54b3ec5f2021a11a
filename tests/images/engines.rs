//! Images in the stores of docker, podman and containerd.

use super::Yard;
use crate::bases::busybox_root;
use crate::consumers::{Containerd, Docker, Podman};
use crate::support::{Finished, install_script, is_left_out, run};
use std::fs;
use std::process::Command;

impl Yard {
    /// Makes a program of a shell script.
    pub(super) fn program(&self, name: &str, script: &str) {
        install_script(&self.scratch.join("bin").join(name), &format!("#!/bin/sh\n{script}\n"));
    }

    /// Makes the program of an engine which pulls nothing, calls two images `id`, and loads archives by a shell script.
    pub(super) fn engine(&self, name: &str, id: &str, load: &str) {
        let answers = "*pull*) echo no pulls >&2; exit 9;;\n*inspect*|*list*) echo HEAD; echo";
        self.program(name, &format!("case \"$*\" in\n{answers} {id} {id}; exit;;\nesac\n{load}"));
    }

    /// Runs a command line that finds no program but those of the yard.
    pub(super) fn run_among(&self, line: &str) -> Finished {
        run(self.command(line).env("PATH", self.scratch.join("bin")))
    }
}

/// What is left in the cache of an archive that was read.
fn spooled(yard: &Yard) -> Vec<String> {
    let entries = fs::read_dir(yard.scratch.join("cache")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".ocibuild-"))
        .collect()
}

/// M65: the archive goes to the program of the engine, under the name that was given.
#[test]
fn the_program_of_the_engine_gets_an_archive() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t v1 --copy a:/a");
    let config = yard.json("inspect out")["configDigest"].as_str().unwrap().to_owned();
    yard.engine("docker", &config, r#"echo "$DOCKER_HOST $*" > asked; /bin/cat > loaded.tar; echo Loaded image"#);
    yard.engine("podman", &config["sha256:".len()..], r#"echo "$*" > asked; /bin/cat > loaded.tar"#);
    for (destination, asked, name) in [
        ("docker-daemon:team/app", "unix:///d load", "docker.io/team/app:latest"),
        ("containers-storage:localhost/app:v2", "load", "localhost/app:v2"),
    ] {
        let exported = run(yard
            .command(&format!("export out {destination}"))
            .env("PATH", yard.scratch.join("bin"))
            .env("DOCKER_HOST", "unix:///d"));
        exported.success().printed(&format!("{digest}\n"));
        assert_eq!(fs::read_to_string(yard.scratch.join("asked")).unwrap().trim(), asked);
        assert_eq!(yard.json("inspect loaded.tar")["names"][0], name);
        assert_eq!(yard.json("inspect loaded.tar")["manifest"]["digest"], digest);
    }
    yard.engine("ctr", &digest, r#"echo "$*" > asked; /bin/cat > loaded.tar"#);
    yard.run_among("build -t team/app:v2 -t team/app:v3 --copy a:/a --load containerd --namespace k8s.io").success();
    let asked = fs::read_to_string(yard.scratch.join("asked")).unwrap();
    assert_eq!(asked.trim(), "--namespace=k8s.io image import -");
    assert_eq!(yard.json("inspect loaded.tar")["names"][1], "docker.io/team/app:v3");
    fs::remove_file(yard.scratch.join("bin/ctr")).unwrap();
    let missing = yard.run_among("export out containerd:team/app").ended_with(1);
    missing.failed_saying("containerd: ctr not found in PATH (docker-archive:FILE is what `ctr image import` reads)");
    yard.refuses("export out oci:copy --namespace k8s.io", &["--namespace", "is that of containerd"]);
    yard.refuses("export out containerd:app --namespace a/b", &["`a/b`", "not a namespace"]);
    // containerd without docker.
    fs::remove_file(yard.scratch.join("bin/docker")).unwrap();
    yard.engine("ctr", &digest, r#"echo "$*" > asked; /bin/cat > loaded.tar"#);
    yard.run_among("export out docker-daemon:team/app:v3").success();
    assert_eq!(fs::read_to_string(yard.scratch.join("asked")).unwrap().trim(), "image import -");
    assert_eq!(yard.json("inspect loaded.tar")["names"][0], "docker.io/team/app:v3");
}

/// M65: an image is read out of what the program saves, if it has the name that was asked for.
#[test]
fn an_image_is_read_from_what_the_program_saves() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a");
    yard.text("export out docker-archive:both.tar:team/app:v1");
    yard.program("docker", r#"[ "$1" = save ] && echo "$2" > asked && /bin/cat both.tar"#);
    yard.program("podman", r#"[ "$1" = save ] && /bin/cat both.tar"#);
    for image in ["docker-daemon:team/app:v1", "containers-storage:team/app:v1"] {
        let exported = yard.run_among(&format!("export {image} oci:copy")).success();
        assert_eq!(exported.text(), digest);
        assert_eq!(yard.json("inspect copy")["names"][0], "docker.io/team/app:v1");
        fs::remove_dir_all(yard.scratch.join("copy")).unwrap();
        yard.run_among(&format!("layout based --base {image} --copy b:/b")).success();
        let wrong = yard.run_among(&format!("inspect {}", image.replace("app", "other"))).ended_with(1);
        wrong.failed_saying("save: no image `docker.io/team/other:v1` (it has docker.io/team/app:v1)");
    }
    assert_eq!(fs::read_to_string(yard.scratch.join("asked")).unwrap().trim(), "docker.io/team/other:v1");
    assert!(spooled(&yard).is_empty());
    // What a killed run left is removed.
    yard.scratch.write(format!("cache/.ocibuild-{}", "0".repeat(32)), "half an archive");
    yard.run_among("inspect docker-daemon:team/app:v1").success();
    assert!(spooled(&yard).is_empty());
}

/// M65: what goes wrong is one line that quotes the program.
#[test]
fn faults_of_the_program_are_quoted() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out --copy a:/a");
    let fails = |line: &str, expected: &str| {
        let finished = yard.run_among(line).ended_with(1);
        assert_eq!(finished.stderr.lines().last(), Some(&*format!("ocibuild: error: {expected}")));
    };
    let hint = "docker-archive:FILE is what `docker save` writes and `docker load` reads";
    let missing = format!("docker-daemon: docker or ctr not found in PATH ({hint})");
    fails("inspect docker-daemon:app", &missing);
    fails("export out docker-daemon:app", &missing);
    let finished = yard.run_among("export out containers-storage:app").ended_with(1);
    finished.failed_saying("containers-storage: podman not found in PATH");
    yard.program("docker", "echo pulling >&2; echo; echo 'Error: no such image' >&2; exit 3");
    let failed = "failed (exit status: 3): pulling; Error: no such image";
    fails("inspect docker-daemon:app", &format!("docker save: {failed}"));
    fails("export out docker-daemon:app", &format!("docker load: {failed}"));
    yard.program("docker", "/bin/cat > /dev/null; kill -9 $$");
    fails("export out docker-daemon:app", "docker load: failed (signal: 9 (SIGKILL))");
    // An archive that a pipe holds is written without a reader.
    for program in ["exit 0", "exec 0</dev/null; exit 0", "/bin/head -c 100 > /dev/null"] {
        yard.program("docker", program);
        fails("export out docker-daemon:app", "docker load: exited before it had read the archive");
    }
    // A program may wait before it reads.
    let digest =
        yard.text("ls out --format json").split('"').find(|word| word.starts_with("sha256:")).unwrap().to_owned();
    yard.engine("docker", &digest, "/bin/sleep 0.1; /bin/cat > /dev/null; /bin/sleep 0.1");
    yard.run_among("export out docker-daemon:app").success();
    // More than a pipe holds.
    yard.scratch.write("big/file", vec![0; 1 << 20]);
    yard.text("layout big-one --compression none --copy big:/big");
    yard.program("docker", "exit 0");
    fails("export big-one docker-daemon:app", "docker load: exited before it had read the archive");
    yard.program("docker", "echo half an archive");
    fails("inspect docker-daemon:app", "docker save: malformed tar near byte 0: unexpected end inside a header");
    assert!(spooled(&yard).is_empty());
    for (image, reason) in [
        ("containers-storage:[vfs@/srv]app", "podman reads the store from its own configuration"),
        (&*format!("docker-daemon:sha256:{}", "0".repeat(64)), "images are selected by name, not by ID"),
        (&*format!("docker-daemon:app@sha256:{}", "0".repeat(64)), "not by digest"),
        ("docker-daemon:Upper", "reference `Upper`"),
    ] {
        yard.refuses(&format!("inspect {image}"), &[reason]);
    }
}

/// M65: an archive that cannot be finished is not loaded.
#[test]
fn half_an_archive_is_not_loaded() {
    let yard = Yard::new();
    let report = yard.json("layout out --copy a:/a");
    let layer = &report["layers"][0]["digest"].as_str().unwrap()[7..];
    let file = yard.scratch.join("out/blobs/sha256").join(layer);
    let mut damaged = fs::read(&file).unwrap();
    damaged[20] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, damaged).unwrap();
    yard.engine("docker", "", "/bin/cat > /dev/null && echo all of it > loaded");
    yard.run_among("export out docker-daemon:app").ended_with(1).failed_saying("its content has the digest");
    assert!(!yard.scratch.join("loaded").exists());
}

/// M65: `--offline` allows a store of this machine, and none of another.
#[test]
fn offline_forbids_stores_of_other_machines() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a");
    yard.engine("docker", &digest, "/bin/cat > /dev/null");
    yard.engine("podman", &digest, "/bin/cat > /dev/null");
    let export = |destination: &str, variable: &str, host: &str| {
        let mut command: Command = yard.command(&format!("export out {destination}:app --offline"));
        run(command.env("PATH", yard.scratch.join("bin")).env(variable, host))
    };
    export("docker-daemon", "DOCKER_HOST", "unix:///run/docker.sock").success();
    export("containers-storage", "CONTAINER_HOST", "").success();
    for (destination, variable, host) in [
        ("docker-daemon", "DOCKER_HOST", "tcp://10.0.0.1:2375"),
        ("docker-daemon", "DOCKER_HOST", "ssh://someone@build"),
        ("containers-storage", "CONTAINER_HOST", "ssh://someone@build/run/podman.sock"),
    ] {
        let refused = export(destination, variable, host).ended_with(2);
        refused.failed_saying(&format!("{variable} is a remote address, and network access is disabled (--offline)"));
    }
}

/// An engine that does not pull gets an archive, and has the image in the end.
#[test]
fn an_engine_that_does_not_pull_gets_an_archive_and_is_asked_for_the_image() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a");
    let load = r#"echo "$*" >> asked; /bin/cat > /dev/null"#;
    yard.engine("docker", &digest, load);
    let export = |host: &str| {
        let mut command = yard.command("export out docker-daemon:app");
        run(command.env("PATH", yard.scratch.join("bin")).env("DOCKER_HOST", host))
    };
    let says = |finished: Finished, reason: &str| {
        let line = format!("docker-daemon: loads an archive with all layers instead of pulling: {reason}");
        assert!(finished.stderr.lines().any(|said| said.ends_with(&line)), "{finished}");
    };
    says(export("unix:///d").success(), "docker pull: failed (exit status: 9): no pulls");
    says(export("tcp://10.0.0.1:2375").success(), "DOCKER_HOST is another machine");
    yard.program("docker", "case \"$1\" in load) /bin/cat > /dev/null;; esac");
    let none = export("unix:///d").ended_with(1);
    none.failed_saying("docker image inspect: has no image docker.io/library/app:latest");
    let other = format!("sha256:{}", "0".repeat(64));
    yard.engine("docker", &other, load);
    export("unix:///d").ended_with(1).failed_saying(&format!("docker.io/library/app:latest is another image, {other}"));
    // ctr names an image before it unpacks it.
    let pulls = format!("echo \"$*\" >> asked; case \"$*\" in *pull*) exit 9;; *list*) echo {digest};; esac");
    yard.program("ctr", &format!("{pulls}\n[ \"$*\" != 'image import -' ] || /bin/cat > /dev/null"));
    fs::remove_file(yard.scratch.join("asked")).unwrap();
    yard.run_among("export out containerd:app").success();
    let asked = fs::read_to_string(yard.scratch.join("asked")).unwrap();
    let asked: Vec<&str> = asked.lines().map(|line| line.split('@').next().unwrap()).collect();
    assert!(asked[0].starts_with("image pull --plain-http 127.0.0.1:"), "{asked:?}");
    assert_eq!(asked[1], asked[0].replace("pull --plain-http", "rm"));
    // One of several names is missing.
    yard.engine("podman", &digest, load);
    let three = yard.run_among("build -t app:1 -t app:2 -t app:3 --copy a:/a --load podman").ended_with(1);
    let names = ["1", "2", "3"].map(|tag| format!("docker.io/library/app:{tag}")).join(" or ");
    three.failed_saying(&format!("podman image inspect: has no image {names}"));
    // The one that pulled it has another image, too.
    yard.program("docker", &format!("case \"$*\" in *inspect*) echo {other};; load) /bin/cat > loaded;; esac"));
    says(
        export("unix:///d").ended_with(1),
        &format!("docker image inspect: docker.io/library/app:latest is another image, {other}"),
    );
    assert!(yard.scratch.join("loaded").is_file());
}

/// Loads an image and its next version into a store, and returns the digest of the config of that.
fn load_twice(yard: &Yard, destination: &str, environment: &Command) -> String {
    // No other test has these layers.
    for source in ["a", "b"] {
        yard.scratch.write(format!("{source}/file"), format!("{destination} {}", yard.scratch.path().display()));
    }
    let load = || -> serde_json::Value {
        yard.text("layout twice -q -t v1 --copy a:/a --copy b:/b");
        let export = yard.command(&format!("export twice:v1 {destination} --format json"));
        let loaded = run(&mut with_environment(export, environment)).success();
        serde_json::from_str::<serde_json::Value>(loaded.text()).unwrap()["blobs"].clone()
    };
    let blobs = load();
    assert_eq!((&blobs["copied"], &blobs["present"]), (&3.into(), &0.into()), "{blobs}");
    yard.scratch.write("b/file", "changed");
    let blobs = load();
    assert_eq!((&blobs["copied"], &blobs["present"]), (&2.into(), &1.into()), "{blobs}");
    yard.json("inspect twice:v1")["configDigest"].as_str().unwrap().to_owned()
}

#[test]
fn an_engine_gets_only_the_layers_that_it_lacks() {
    let yard = Yard::new();
    if let Some(podman) = Podman::find() {
        let config = load_twice(&yard, "containers-storage:localhost/twice:1", &podman.command());
        assert_eq!(podman.image_id("localhost/twice:1"), config);
        let names = run(podman.command().args(["image", "inspect", "--format", "{{.RepoTags}}", "localhost/twice:1"]));
        assert_eq!(names.success().text(), "[localhost/twice:1]");
        let both = "export twice:v1 containers-storage:localhost/both:1 containers-storage:localhost/both:2";
        run(&mut with_environment(yard.command(both), &podman.command())).success();
        assert_eq!(podman.image_id("localhost/both:1"), podman.image_id("localhost/both:2"));
    }
    for docker in Docker::all() {
        let name = format!("ocibuild-twice-{}:1", std::process::id());
        load_twice(&yard, &format!("docker-daemon:{name}"), &docker.command());
        let all = "{{.RepoTags}} {{.RepoDigests}}";
        let names = run(docker.command().args(["image", "inspect", "--format", all, &name])).success();
        assert!(names.text().starts_with(&format!("[{name}] ")) && !names.text().contains("127.0.0.1"), "{names}");
    }
    if let Some(containerd) = Containerd::find() {
        fs::create_dir_all(yard.scratch.join("bin")).unwrap();
        std::os::unix::fs::symlink(containerd.program(), yard.scratch.join("bin/ctr")).unwrap();
        let mut environment = containerd.environment();
        environment.env("PATH", yard.scratch.join("bin"));
        load_twice(&yard, "containerd:twice:1", &environment);
        let mut list = with_environment(crate::support::command(containerd.program()), &environment);
        assert_eq!(run(list.args(["image", "list", "-q"])).success().text(), "docker.io/library/twice:1");
    }
}

/// Builds an image with `--compression auto`, and returns the compression, what it was chosen for and the types of the layers.
fn built_automatically(yard: &Yard, line: &str, environment: &Command) -> (String, String, String) {
    let build = |more: &str| {
        let command = yard.command(&format!("build --compression auto --copy a:/a {line} {more}"));
        run(&mut with_environment(command, environment)).success()
    };
    let json = |more: &str| serde_json::from_str::<serde_json::Value>(build(more).text()).unwrap();
    let built = json("--format json");
    let planned = json("--format json --dry-run");
    let types = |document: &serde_json::Value| {
        let layers = document["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((&planned["compression"], types(&planned)), (&built["compression"], types(&built)));
    let said = build("");
    let line = said.stderr.lines().find_map(|line| line.split_once("compression: ")).expect("the choice is said").1;
    let chosen = built["compression"].as_str().unwrap();
    let reason = line.strip_prefix(chosen).and_then(|rest| rest.strip_prefix(", ")).expect("the choice comes first");
    (chosen.to_owned(), reason.to_owned(), types(&built))
}

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What reads the image decides about its compression, and all readers have to read zstd.
#[test]
fn zstd_is_for_engines_that_read_it() {
    let yard = Yard::new();
    let engine = |name: &str, version: &str| {
        let prints = format!("case \"$*\" in *version*) printf '{version}'; exit;; esac");
        yard.program(name, &format!("{prints}\n/bin/cat > /dev/null"));
    };
    let refuses =
        |line: &str, status: i32| run(yard.command(line).env("PATH", yard.scratch.join("bin"))).ended_with(status);
    let dry = |line: &str| {
        let line = format!("build --dry-run -t app:1 --copy a:/a --compression auto {line}");
        let planned = run(yard.command(&line).env("PATH", yard.scratch.join("bin"))).success();
        let kind = if planned.text().contains(", zstd 2  ") { "zstd" } else { "gzip" };
        let (_, line) = planned.stderr.lines().find_map(|line| line.split_once("compression: ")).unwrap();
        assert!(line.starts_with(kind), "{planned}");
        line.to_owned()
    };
    engine("docker", "20.10.24");
    engine("podman", "5.8.6");
    engine("ctr", "Client:\\n  Version: 2.0\\n\\nServer:\\n  Version: 1.5.2\\n");
    assert_eq!(dry("--load podman"), "zstd 2, read by podman 5.8.6");
    assert_eq!(dry("--load docker"), "gzip 5, since docker 20.10.24 is not known to read zstd");
    assert_eq!(dry("--load containerd"), "gzip 5, since ctr 1.5.2 is not known to read zstd");
    assert_eq!(dry("--load podman --load docker"), "gzip 5, since docker 20.10.24 is not known to read zstd");
    engine("docker", "28.5.2");
    assert_eq!(dry("--load podman --load docker"), "zstd 2, read by podman 5.8.6 and docker 28.5.2");
    assert_eq!(dry("-o rootfs:files.tar"), "zstd 2, read by ocibuild");
    for place in ["oci-archive:x.tar", "docker-archive:x.tar", "oci:x", "dir:x", "docker://127.0.0.1:1/app:1"] {
        let expected = format!("gzip 5, since it is not known what reads {place}");
        assert_eq!(dry(&format!("--load podman -o {place}")), expected);
    }
    let layout = run(yard.command("layout out --copy a:/a --compression auto").env("PATH", yard.scratch.join("bin")));
    assert!(layout.success().stderr.contains("compression: gzip 5, since it is not known what reads out\n"));
    let mut remote = yard.command("build --dry-run -t app:1 --copy a:/a --compression auto --load docker");
    let remote = run(remote.env("PATH", yard.scratch.join("bin")).env("DOCKER_HOST", "tcp://10.0.0.1:2375")).success();
    assert!(remote.stderr.contains("compression: gzip 5, since DOCKER_HOST is another machine, which gets an archive"));

    let level = refuses("build -t app:1 --copy a:/a --compression auto --compression-level 3 --load podman", 2);
    level.failed_saying("--compression-level: `--compression auto` chooses the level");
    engine("podman", "");
    let none = refuses("build -t app:1 --copy a:/a --compression auto --load podman", 1);
    none.failed_saying("podman version: printed no version");
    yard.program("podman", "echo no daemon >&2; exit 1");
    let none = refuses("build -t app:1 --copy a:/a --compression auto --load podman", 1);
    none.failed_saying("podman version: failed (exit status: 1): no daemon");

    yard.scratch.write("ocibuild.toml", "tag = 'app:1'\ncopy = 'a:/a'\ncompression = 'auto'\nload = 'docker'\n");
    let of_file = run(yard.command("build -f ocibuild.toml --dry-run").env("PATH", yard.scratch.join("bin"))).success();
    assert!(of_file.stderr.contains("compression: zstd 2, read by docker 28.5.2\n"), "{of_file}");
}

/// The real engines run what was chosen for them.
#[test]
fn engines_run_what_was_chosen_for_them() {
    let yard = Yard::new();
    let Some(()) = busybox_root(&yard.scratch.join("root")) else { return };
    yard.text("layout below --copy root:/");
    let base = "--base oci:below --entrypoint /bin/cat --cmd /a/file";
    yard.scratch.write("a/file", "it runs");
    if let Some(podman) = Podman::find() {
        let line = format!("{base} -t localhost/chosen:1 --load podman");
        let (compression, reason, types) = built_automatically(&yard, &line, &podman.command());
        assert!(reason.starts_with("read by podman "), "{reason}");
        assert_eq!((&*compression, &*types), ("zstd 2", ZSTD));
        assert_eq!(podman.run("localhost/chosen:1", &[]).success().text(), "it runs");
    }
    for docker in Docker::all() {
        let name = format!("ocibuild-chosen-{}:1", std::process::id());
        let line = format!("{base} -t {name} --load docker");
        let (compression, reason, types) = built_automatically(&yard, &line, &docker.command());
        let expected = if reason.starts_with("since ") { ("gzip 5", GZIP) } else { ("zstd 2", ZSTD) };
        assert_eq!((&*compression, &*types), expected, "{reason}");
        assert_eq!(reason.contains("docker 20."), reason.starts_with("since "), "{reason}");
        assert_eq!(docker.run(&name, &[]).success().text(), "it runs");
    }
    if let Some(containerd) = Containerd::find() {
        fs::create_dir_all(yard.scratch.join("bin")).unwrap();
        std::os::unix::fs::symlink(containerd.program(), yard.scratch.join("bin/ctr")).unwrap();
        let mut environment = containerd.environment();
        environment.env("PATH", yard.scratch.join("bin"));
        let line = format!("{base} -t chosen:1 --load containerd");
        let (compression, reason, types) = built_automatically(&yard, &line, &environment);
        assert_eq!((&*compression, &*types), ("zstd 2", ZSTD), "{reason}");
        let ran = containerd.run("docker.io/library/chosen:1", &[], |finished| finished.text() == "it runs");
        assert_eq!(ran.success().text(), "it runs");
    }
}

/// Copies `destination` there and back by the real programs, of which `environment` says where their stores are.
fn there_and_back(yard: &Yard, destination: &str, environment: &Command) -> String {
    let with = |line: &str| run(&mut with_environment(yard.command(line), environment)).success();
    with(&format!("export out {destination}"));
    let image: serde_json::Value =
        serde_json::from_str(with(&format!("inspect {destination} --format json")).text()).unwrap();
    with(&format!("export {destination} oci:back"));
    with(&format!("layout based --base {destination} --copy b:/b"));
    let config = image["configDigest"].as_str().unwrap().to_owned();
    assert_eq!(yard.json("inspect back")["configDigest"], config);
    config
}

/// M65: podman, docker of two generations and containerd take the image and give it back, with the same config.
#[test]
fn engines_take_an_image_and_give_it_back() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a");
    let config = yard.json("inspect out")["configDigest"].clone();
    if let Some(podman) = Podman::find() {
        assert_eq!(there_and_back(&yard, "containers-storage:localhost/engines:1", &podman.command()), config);
        assert_eq!(podman.image_id("localhost/engines:1"), config);
        let absent = yard.command("inspect containers-storage:localhost/absent:1");
        let absent = run(&mut with_environment(absent, &podman.command()));
        absent.ended_with(1).failed_saying("podman save: failed (exit status: 125): ");
    }
    for docker in Docker::all() {
        fs::remove_dir_all(yard.scratch.join("back")).ok();
        assert_eq!(there_and_back(&yard, "docker-daemon:ocibuild-engines:1", &docker.command()), config);
        let absent = yard.command("inspect docker-daemon:ocibuild-engines:absent");
        let absent = run(&mut with_environment(absent, &docker.command()));
        absent.ended_with(1).failed_saying("docker save: failed (exit status: 1): ");
    }
    if let Some(containerd) = Containerd::find() {
        fs::remove_dir_all(yard.scratch.join("back")).ok();
        fs::create_dir_all(yard.scratch.join("bin")).unwrap();
        std::os::unix::fs::symlink(containerd.program(), yard.scratch.join("bin/ctr")).unwrap();
        let mut environment = containerd.environment();
        environment.env("PATH", yard.scratch.join("bin"));
        assert_eq!(there_and_back(&yard, "docker-daemon:engines:1", &environment), config);
        fs::remove_dir_all(yard.scratch.join("back")).ok();
        assert_eq!(there_and_back(&yard, "containerd:engines:2", &environment), config);
        // Another namespace is another store.
        let build = yard.command("build -t engines:3 --copy a:/a --load containerd --namespace other");
        run(&mut with_environment(build, &environment)).success();
        let absent = run(&mut with_environment(yard.command("inspect containerd:engines:3"), &environment));
        absent.ended_with(1).failed_saying("ctr image export: failed (exit status: 1): ");
        environment.env("CONTAINERD_NAMESPACE", "other");
        run(&mut with_environment(yard.command("inspect containerd:engines:3"), &environment)).success();
    }
}

pub(super) fn with_environment(mut command: Command, environment: &Command) -> Command {
    command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}
