//! Flags that people know from docker, podman and buildah.

use crate::consumers::Layout;
use crate::support::{Finished, Scratch, ocibuild, run};
use serde_json::{Value, json};
use std::fs;

/// `ocibuild ARGUMENTS` in `scratch`, with two variables in the environment.
#[track_caller]
fn program(scratch: &Scratch, arguments: &[&str]) -> Finished {
    run(ocibuild().current_dir(scratch.path()).env("LEVEL", "3").env("MODE", "host").args(arguments))
}

fn config(scratch: &Scratch) -> Value {
    Layout::new(scratch.join("out"), "latest").config()["config"].clone()
}

#[test]
fn variables_come_from_flags_files_and_the_environment() {
    let scratch = Scratch::new();
    scratch.write("one.env", "\u{feff}# comment\n\n  A=1\nB=\"two\"  \nMODE\r\nC=\n");
    scratch.write("two.env", "A=2\n");
    let files = ["--env-file", "one.env", "--env-file", "two.env"];
    program(&scratch, &[&["layout", "out", "-e", "LEVEL", "-e", "C=three"][..], &files].concat()).success();
    assert_eq!(config(&scratch)["Env"], json!(["A=2", "B=\"two\"  ", "C=three", "LEVEL=3", "MODE=host"]));
    for (file, reason) in [
        ("A=1\nA=2\n", "bad.env:2: A is in the file twice"),
        ("export A=1\n", "bad.env:1: the name `export A` contains a space"),
        ("\n=x\n", "bad.env:2: `=x`: not of the form KEY=VALUE"),
        ("MISSING\n", "bad.env:1: variable `MISSING`: not set in this environment"),
    ] {
        scratch.write("bad.env", file);
        program(&scratch, &["layout", "out", "--env-file", "bad.env"]).ended_with(1).failed_saying(reason);
    }
    program(&scratch, &["layout", "out", "-e", "MISSING"]).ended_with(2).failed_saying("MISSING=VALUE sets a value");
    program(&scratch, &["layout", "out", "--env-file", "no.env"]).ended_with(1).failed_saying("no.env: not found");
    program(&scratch, &["layout", "out", "--env-file", "two.env", "--unset-env", "A"])
        .ended_with(2)
        .failed_saying("--unset-env A: the variable is also set");
    let warned = program(&scratch, &["layout", "out", "--env-file", "two.env", "-e", "API_TOKEN=x"]).success();
    assert!(warned.stderr.contains("--env API_TOKEN: looks like a secret"), "{warned}");
}

#[test]
fn a_new_image_has_a_health_check() {
    let scratch = Scratch::new();
    let check = ["--healthcheck", "/bin/check -v", "--health-interval", "30s", "--health-retries", "2"];
    program(&scratch, &[&["layout", "out"], &check[..]].concat()).success();
    let expected = json!({"Test": ["CMD", "/bin/check", "-v"], "Interval": 30_000_000_000_u64, "Retries": 2});
    assert_eq!(config(&scratch)["Healthcheck"], expected);
    program(&scratch, &["layout", "out", "--base", "./out", "--health-timeout", "5s"]).success();
    assert_eq!(config(&scratch)["Healthcheck"]["Timeout"], 5_000_000_000_u64);
    program(&scratch, &["layout", "new", "--health-timeout", "5s"]).failed_saying("has no health check to change");
    let printed = program(&scratch, &[&["dockerfile"], &check[..]].concat()).success();
    let line = r#"HEALTHCHECK --interval=30000ms --retries=2 CMD ["/bin/check","-v"]"#;
    assert!(printed.text().lines().any(|shown| shown == line), "{printed}");
    program(&scratch, &["dockerfile", "--base", "./out", "--health-retries", "9"])
        .failed_saying("health check: a Dockerfile cannot change a health check of the base");
}

#[test]
fn results_are_written_to_files() {
    let scratch = Scratch::new();
    let read = |file: &str| fs::read_to_string(scratch.join(file)).unwrap();
    let metadata = || -> Value { serde_json::from_str(&read("metadata")).unwrap() };
    let files = ["--iidfile", "id", "--digest-file", "digest", "--metadata-file", "metadata"];
    let names = ["-t", "team/app:v1", "-t", "latest"];
    program(&scratch, &[&["layout", "out", "--user", "7"], &names[..], &files].concat()).success();
    let image = Layout::new(scratch.join("out"), "latest");
    let expected = json!({
        "containerimage.config.digest": image.config_digest(),
        "containerimage.descriptor": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": image.manifest_digest(),
            "size": fs::metadata(image.blob(&image.manifest_digest())).unwrap().len(),
        },
        "containerimage.digest": image.manifest_digest(),
        "image.name": "docker.io/team/app:v1,latest",
    });
    assert_eq!(metadata(), expected);
    assert_eq!((read("id"), read("digest")), (image.config_digest(), image.manifest_digest()));
    for file in ["id", "digest", "metadata"] {
        fs::remove_file(scratch.join(file)).unwrap();
    }
    program(&scratch, &[&["export", "out:latest", "oci:copy:v1"], &files[..]].concat()).success();
    assert_eq!(metadata()["containerimage.digest"], expected["containerimage.digest"]);
    assert_eq!((read("id"), read("digest")), (image.config_digest(), image.manifest_digest()));
    for clash in [["--iidfile", "x", "--metadata-file", "./x"], ["--digest-file", "x", "--metadata-file", "x"]] {
        program(&scratch, &[&["export", "out:latest", "oci:other"], &clash[..]].concat())
            .ended_with(2)
            .failed_saying(&format!("--metadata-file: names the same file as {}", clash[0]));
    }
    assert!(!scratch.join("other").exists());
}

#[test]
fn words_of_others_mean_the_same_or_are_answered() {
    let scratch = Scratch::new();
    program(&scratch, &["layout", "out", "--user=7", "--annotation=manifest:a=b", "--annotation=c:d=e"]).success();
    assert_eq!(Layout::new(scratch.join("out"), "latest").manifest()["annotations"], json!({"a": "b", "c:d": "e"}));
    for (arguments, answer) in [
        (
            &["layout", "out", "--annotation", "index:a=b"][..],
            "only manifests get annotations, not the index of several platforms (a=VALUE)",
        ),
        (&["layout", "out", "--file", "Dockerfile"], "no Dockerfile is read"),
        (&["export", "out", "docker://r/a", "--creds", "a:b"], "--creds-stdin reads NAME:PASSWORD"),
        (&["export", "out", "docker://r/a", "--retry-times", "3"], "failed requests are repeated up to 5 times"),
        (&["export", "out", "docker://r/a", "--dest-tls-verify=false"], "--tls-verify=false"),
        (&["layout", "out", "--timestamp", "0"], "--created TIME sets the time"),
    ] {
        program(&scratch, arguments).ended_with(2).failed_saying(answer);
    }
}

/// The flags of docker, podman, buildah, skopeo and crane that people type: each means here what it means there, or the answer names
/// what does.
#[test]
fn every_flag_that_people_know_is_taken_or_answered() {
    let scratch = Scratch::new();
    scratch.write("app/main", "x");
    scratch.write("lines", "A=1\n");
    for (flags, answer) in [
        ("-t a:b --tag c", None),
        ("-o oci:other --output oci-archive:a.tar", None),
        ("--platform linux/arm/v7", None),
        ("--platform linux/amd64,linux/arm64", None),
        ("--platform all", Some("for example linux/amd64")),
        ("--base scratch", None),
        ("--from scratch", None),
        ("--base-image scratch", None),
        ("--label k=v -l k2=v", None),
        ("--annotation manifest:k=v --annotation k2=v", None),
        ("--annotation index:k=v", Some("only manifests get annotations")),
        ("--annotation manifest-descriptor:k=v", Some("only manifests get annotations")),
        ("--annotation manifest[linux/amd64]:k=v", Some("annotations are of the manifests of all platforms (k=VALUE)")),
        ("--env k=v -e k2=v -e LEVEL", None),
        ("--env-file lines", None),
        ("--entrypoint [\"a\",\"b\"] --cmd c", None),
        ("--entrypoint a --entrypoint b", Some("cannot be used multiple times")),
        ("--user 7 --workdir /w --expose 80 --stop-signal 9", None),
        ("-u 7 -w /w", None),
        ("--chown 1:2 --chmod 755", None),
        ("--healthcheck /x --health-interval 1m30s --health-timeout 500ms", None),
        ("--compression zstd --compression-level 3", None),
        ("--compression none", None),
        ("--compression uncompressed", Some("(none; see --help)")),
        ("--compression estargz", Some("zstd; layers have no list of files")),
        ("--compression zstd:chunked", Some("zstd; layers have no list of files")),
        ("--force-compression", Some("--compression is for new layers")),
        ("--source-date-epoch 0", Some("--created TIME sets the time")),
        ("--timestamp 0", Some("--created TIME sets the time")),
        ("--created 0", None),
        ("--jobs 1", None),
        ("-j1", None),
        ("--cache-dir c", None),
        ("--cache-from docker://localhost:1/x --cache-to docker://localhost:1/x", None),
        ("--cache-from localhost:1/x", Some("has no transport (docker://HOST/NAME)")),
        ("--cache-from type=registry,ref=localhost:1/x", Some("(docker://HOST/NAME)")),
        ("--no-cache", None),
        ("--offline", None),
        ("--pull always", None),
        ("--pull missing", None),
        ("--pull never", None),
        ("--pull newer", Some("always asks the registry")),
        ("--iidfile i --digestfile d --metadata-file m", None),
        ("--authfile a.json", None),
        ("--creds u:p", Some("--creds-stdin reads NAME:PASSWORD")),
        ("--password-stdin", Some("--creds-stdin reads NAME:PASSWORD")),
        ("--tls-verify=false", None),
        ("--cert-dir certs", None),
        ("--insecure", Some("--tls-verify=false")),
        ("--retry 3", Some("failed requests are repeated up to 5 times")),
        ("--retry-times 3", Some("failed requests are repeated up to 5 times")),
        ("--retry-delay 1s", Some("failed requests are repeated up to 5 times")),
        ("--quiet", None),
        ("-q", None),
        ("--verbose", Some("progress and warnings are printed without a flag")),
        ("--debug", Some("progress and warnings are printed without a flag")),
        ("-v", Some("-V prints the version")),
        ("--progress auto", None),
        ("--progress plain", None),
        ("--progress none", None),
        ("--progress tty", Some("auto shows bars on a terminal")),
        ("--progress json", Some("--format json prints JSON")),
        ("--format json", None),
        ("--format docker", Some("images are those of OCI")),
        ("--load oci", Some("[possible values: docker, podman, containerd] (see --help)")),
        ("--file Dockerfile", Some("no Dockerfile is read")),
        ("--exclude *.md --ignore-file lines", None),
        ("--ignorefile lines", Some("--ignore-file FILE")),
        ("--all", Some("export --all-platforms")),
        ("--arch arm64", Some("--platform OS/ARCH[/VARIANT]")),
        ("--squash", Some("`ocibuild squash IMAGE`")),
        ("--sbom=true", Some("attestations are not made")),
        ("--build-arg A=1", Some("nothing runs during a build")),
    ] {
        let words = ["build", "--copy", "app:/app", "--dry-run", "-o", "oci:out"];
        let words: Vec<&str> = words.into_iter().chain(flags.split_whitespace()).collect();
        let finished = program(&scratch, &words);
        match answer {
            None => drop(finished.success()),
            Some(answer) => drop(finished.ended_with(2).failed_saying(answer)),
        }
    }
    for (verb, answer) in [
        ("push", "`ocibuild export LAYOUT docker://REFERENCE` pushes"),
        ("copy", "`ocibuild export SOURCE DESTINATION`"),
        ("cp", "`ocibuild export SOURCE DESTINATION`"),
        ("digest", "`ocibuild inspect IMAGE`"),
        ("manifest", "`ocibuild inspect IMAGE`"),
        ("config", "`ocibuild edit IMAGE`"),
        ("append", "--base IMAGE --copy SRC:DST"),
        ("mutate", "`ocibuild edit IMAGE`"),
        ("flatten", "`ocibuild squash IMAGE`"),
        ("validate", "`ocibuild verify LAYOUT`"),
        ("fsck", "`ocibuild verify LAYOUT`"),
        ("completion", "did you mean completions?"),
        ("version --format json", "`ocibuild --version`"),
    ] {
        let words: Vec<&str> = verb.split_whitespace().collect();
        let refused = run(ocibuild().args(&words)).ended_with(2);
        assert!(refused.stderr.contains(answer), "{refused}");
    }
}
