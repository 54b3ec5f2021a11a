//! `ocibuild dockerfile`, built by others, held against what `ocibuild layout` makes of the same request.

use crate::bases;
use crate::consumers::{Buildah, Docker, Layout, Podman, Settings};
use crate::listers::{Entry, listed_by_us, with_files_for_links};
use crate::support::{Finished, Scratch, command, ocibuild, run, run_within};
use ocibuild::Location;
use ocibuild::build::BuildSpec;
use ocibuild::build::dockerfile::Dockerfile;
use ocibuild::build::image::Base;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Nothing that is built here takes this long.
const PATIENCE: Duration = Duration::from_secs(300);

/// What becomes of hard links where docker builds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// They stay.
    Kept,
    /// Some become files: docker leaves a file out of a layer that is the same in the layer below, and with it what would be
    /// linked to it.
    MayBecomeFiles,
}

/// Builds the context with podman, buildah and docker. Asserts that each image has the files and the config that
/// `archive` has, whose layers are in `layout`, and answers what running each of them gives, that of `archive` first.
pub(crate) fn built_by_others(
    scratch: &Scratch,
    base: &Layout,
    context: &Path,
    (layout, archive): (&Layout, &Path),
    links: Links,
) -> Vec<Finished> {
    tars_are_the_layers(context, layout);
    let Some(podman) = Podman::find() else { return Vec::new() };
    let own = podman.load(archive);
    let (files, config) = (files(&podman, &own, scratch), config(&podman, &own));
    let mut runs = vec![podman.run(&own, &[])];
    let mut check = |builder: &str, image: &str| {
        let theirs = self::files(&podman, image, scratch);
        let listed = |entries: &[Entry]| match (builder, links) {
            ("docker", Links::MayBecomeFiles) => with_files_for_links(entries),
            _ => entries.to_vec(),
        };
        for (ours, theirs) in listed(&files).iter().zip(&listed(&theirs)) {
            assert_eq!(ours, theirs, "left: ocibuild layout; right: {builder}");
        }
        assert_eq!(files.len(), theirs.len(), "{builder}");
        assert_eq!(config, self::config(&podman, image), "left: ocibuild layout; right: {builder}");
        runs.push(podman.run(image, &[]));
    };
    let built =
        run_within(PATIENCE, podman.command().args(["build", "--quiet", "--network=none"]).arg(context)).success();
    check("podman", built.text());
    if let Some(buildah) = Buildah::find() {
        let saved = scratch.join("by-buildah.tar");
        buildah.build(context, &saved);
        check("buildah", &podman.load(&saved));
    }
    // The daemons know the base by a name only.
    let name = format!("localhost/base-of-{}:1", scratch.path().file_name().unwrap().to_str().unwrap());
    let base = bases::docker_archive(scratch, base, &name).unwrap();
    for (number, docker) in Docker::all().enumerate() {
        docker.load(&base);
        let saved = scratch.join(format!("by-docker-{number}.tar"));
        docker.build(context, &name, &saved);
        check("docker", &podman.load(&saved));
    }
    runs
}

/// What the context holds are the tars of the new layers, byte by byte.
#[track_caller]
fn tars_are_the_layers(context: &Path, layout: &Layout) {
    let config = layout.config();
    let diff_ids: Vec<&str> =
        config["rootfs"]["diff_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let mut tars = 0;
    for entry in fs::read_dir(context).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            let digest = ocibuild::Digest::of(&fs::read(&path).unwrap()).to_string();
            assert!(diff_ids.contains(&digest.as_str()), "{} is not a layer: {digest}", path.display());
            tars += 1;
        }
    }
    assert!(tars > 0);
}

/// Everything that a container of the image would see, except for the times of directories: those show when a builder put
/// something into them.
fn files(podman: &Podman, image: &str, scratch: &Scratch) -> Vec<Entry> {
    let tar = scratch.join("exported.tar");
    let container = run(podman.command().args(["create", "--pull=never", "--network=none", image])).success();
    run(podman.command().arg("export").arg("--output").arg(&tar).arg(container.text())).success();
    run(podman.command().args(["rm", container.text()])).success();
    let mut entries = listed_by_us(&tar);
    for entry in entries.iter_mut().filter(|entry| entry.kind == ocibuild::codec::tar::EntryType::Directory) {
        entry.mtime = 0;
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
}

/// The config, less the name of the builder, and the order in which builders write variables.
fn config(podman: &Podman, image: &str) -> Value {
    let inspected = run(podman.command().args(["image", "inspect", image])).success();
    let mut config = serde_json::from_slice::<Value>(&inspected.stdout).unwrap()[0]["Config"].take();
    if let Some(variables) = config["Env"].as_array_mut() {
        variables.sort_by_key(Value::to_string);
    }
    if let Some(labels) = config["Labels"].as_object_mut() {
        labels.remove("io.buildah.version");
    }
    config
}

/// Builds the request with `ocibuild layout` and writes its context with `ocibuild dockerfile`.
fn both(scratch: &Scratch, base: &Layout, request: &[&str]) -> (Layout, PathBuf, PathBuf) {
    let layout = Layout::new(scratch.join("own"), "latest");
    let (archive, context) = (scratch.join("own.tar"), scratch.join("context"));
    let base = ["--base", &base.location()];
    let mut build = ocibuild();
    run(build.arg("layout").arg(&layout.path).arg("--save").arg(&archive).args(base).args(request)).success();
    let write = || {
        let mut write = ocibuild();
        run(write.args(["dockerfile", "--context"]).arg(&context).args(base).args(request)).success()
    };
    let printed = write();
    assert_eq!(printed.stdout, fs::read(context.join("Dockerfile")).unwrap());
    let again = write();
    assert_eq!(again.stdout, printed.stdout);
    (layout, archive, context)
}

#[test]
fn the_same_files_with_the_same_owners_modes_times_and_links() {
    let scratch = Scratch::new();
    let Some(base) = bases::busybox_by_umoci(&scratch, &Settings { entrypoint: &["/bin/sh"], cmd: &["-c", "exit 9"] })
    else {
        return;
    };
    let tree = bases::strange_tree(&scratch);
    let copy = format!("{}:/srv/strange", tree.display());
    let script = r#"["/bin/sh", "-c", "echo $A; echo \"$B\"; id -u; exit 7"]"#;
    let request = [
        "--preserve-modes",
        "--skip-special",
        "--chown",
        "3000:4000",
        "--copy",
        &copy,
        "--entrypoint",
        script,
        "--env",
        r#"A=a $HOME "quoted" \n 'single' ${B}"#,
        "--env",
        "B=#  two blanks ",
        "--env",
        "PATH=/bin",
        "--label",
        "with.dots=x y",
        "--label",
        r"odd key=$\",
        "--user",
        "1234:5",
        "--workdir",
        "/srv/strange",
        "--expose",
        "8080",
        "--volume",
        "/data dir",
        "--stop-signal",
        "SIGINT",
        "--created",
        "1700000000",
    ];
    let (layout, archive, context) = both(&scratch, &base, &request);
    let runs = built_by_others(&scratch, &base, &context, (&layout, &archive), Links::Kept);
    for finished in runs {
        finished.ended_with(7).printed("a $HOME \"quoted\" \\n 'single' ${B}\n#  two blanks \n1234\n");
    }
}

#[test]
fn removals_take_the_rm_of_the_base() {
    let scratch = Scratch::new();
    let Some(base) = bases::busybox_by_umoci(&scratch, &Settings { entrypoint: &[], cmd: &["cat", "/etc/motd"] })
    else {
        return;
    };
    std::os::unix::fs::symlink("busybox", scratch.join("rm")).unwrap();
    let tar = scratch.join("rm.tar");
    run(command("tar").arg("--create").arg("--file").arg(&tar).arg("--directory").arg(scratch.path()).arg("rm"))
        .success();
    let below = Layout::new(scratch.join("below"), "latest");
    let programs = format!("{}:/bin", tar.display());
    let mut prepare = ocibuild();
    prepare.arg("layout").arg(&below.path).args(["--base", &base.location(), "--copy", &programs, "--user", "7"]);
    run(&mut prepare).success();
    let motd = format!("{}:/etc/motd", scratch.write("motd", "hello\n").display());
    let (_, archive, context) =
        both(&scratch, &below, &["--remove", "/bin/stat", "--layer", "later", "--copy", &motd, "--remove", "/bin/id"]);
    let text = fs::read_to_string(context.join("Dockerfile")).unwrap();
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part:?} in {text}"));
    assert!(place("USER 0") < place(r#"RUN ["rm","-rf","/bin/stat"]"#), "{text}");
    assert!(place(r#"RUN ["rm","-rf","/bin/id"]"#) < place("ADD [\"layer-2-"), "{text}");
    assert!(text.ends_with("\nUSER 7\n"), "{text}");
    let Some(podman) = Podman::find() else { return };
    let built =
        run_within(PATIENCE, podman.command().args(["build", "--quiet", "--network=none"]).arg(&context)).success();
    let names = |image: &str| -> Vec<Vec<u8>> {
        let below = |path: &[u8]| path.starts_with(b"bin/") || path.starts_with(b"etc/motd");
        files(&podman, image, &scratch).into_iter().map(|entry| entry.path).filter(|path| below(path)).collect()
    };
    let (ours, theirs) = (names(&podman.load(&archive)), names(built.text()));
    assert_eq!(ours, theirs);
    assert!(ours.contains(&b"etc/motd".to_vec()) && !ours.contains(&b"bin/id".to_vec()), "{ours:?}");
    podman.run(built.text(), &[]).success().printed("hello\n");
}

#[test]
fn what_a_dockerfile_cannot_say_is_refused() {
    let scratch = Scratch::new();
    let Some(base) = bases::busybox_by_umoci(&scratch, &Settings { entrypoint: &[], cmd: &["sh"] }) else { return };
    let dockerfile =
        |arguments: &[&str]| run(ocibuild().args(["dockerfile", "--base", &base.location()]).args(arguments));
    dockerfile(&["--unset-env", "PATH"])
        .failed_saying("variable PATH: a Dockerfile cannot remove a variable of the base");
    dockerfile(&["--unset-env", "NOT_THERE"]).success();
    dockerfile(&["--label", "a=b\nRUN evil"]).failed_saying("a Dockerfile cannot contain a line break in a value");
}

#[test]
fn a_base_in_a_registry_is_named_by_its_digest() {
    let scratch = Scratch::new();
    let Some(base) = bases::busybox_by_umoci(&scratch, &Settings { entrypoint: &[], cmd: &["sh"] }) else { return };
    let spec = BuildSpec::new(Base::open(&base.location().parse().unwrap(), None).unwrap());
    let plan = spec.plan(&Root::open(scratch.path()).unwrap(), None, &Silent).unwrap();
    let location = Location::Registry("registry.example/team/base:1".parse().unwrap());
    let dockerfile = Dockerfile::of(&plan, Some(&location), &Silent).unwrap().without_context(&Silent).unwrap();
    let from = format!("\nFROM registry.example/team/base@{}\n", base.manifest_digest());
    assert!(dockerfile.text().contains(&from), "{}", dockerfile.text());
}
