//! The scripts of `completions` complete the names of images in a layout, paths in images, and catalogs.

use super::Yard;
use crate::registry::server::Server;
use crate::support::{command, consumer, run};
use std::path::Path;

/// A layout with three names, a hololib with one catalog, and the script of a shell.
fn yard(shell: &str, file: &str) -> Yard {
    let yard = Yard::new();
    for path in ["data/one", "data/other file", "data/$(touch harm)", "data/sub/x", "data=1"] {
        yard.scratch.write(format!("tree/{path}"), "x");
    }
    yard.text("layout out -t v1 -t v2 -t team/app:v1 --copy a:/a --copy tree:/");
    yard.scratch.write(format!("hololib/catalog/{CATALOG}"), "");
    // A name that a shell would run.
    yard.edit_index("out", |manifests| {
        let mut foreign = manifests[0].clone();
        foreign["annotations"]["org.opencontainers.image.ref.name"] = "v$(touch${IFS}harm)".into();
        manifests.push(foreign);
    });
    yard.scratch.write(file, yard.text(&format!("completions {shell}")));
    yard
}

const CATALOG: &str = "0123456789abcdefv12.linux_amd64";

/// Runs `script` in a shell, with the program in the PATH.
fn output(yard: &Yard, shell: &Path, arguments: &[&str], script: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_ocibuild")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", program.display());
    let mut shell = command(shell);
    shell.args(arguments).arg(script).env("PATH", path).env("HOME", yard.scratch.path());
    let text = run(shell.current_dir(yard.scratch.path())).success().text().to_owned();
    assert!(!yard.scratch.join("harm").exists());
    text
}

#[test]
fn bash_completes_names_of_images() {
    let Some(bash) = consumer("bash") else { return };
    let yard = yard("bash", "script");
    let script = r#"
        source ./script
        try() {
            COMP_LINE="$1" COMP_POINT=${#1} COMP_WORDS=($2) COMP_CWORD=$(($(wc -w <<<"$2") - 1)) COMPREPLY=()
            _ocibuild ocibuild "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "${COMPREPLY[@]}"
        }
        try "ocibuild rm ./out:" "ocibuild rm ./out :"
        try "ocibuild rm oci:out:v" "ocibuild rm oci : out : v"
        try "ocibuild rm ./out:team/app:" "ocibuild rm ./out : team/app :"
        try "ocibuild rm ./none:" "ocibuild rm ./none :"
        try "ocibuild ls --larg" "ocibuild ls --larg"
    "#;
    assert_eq!(output(&yard, &bash, &["--norc", "-c"], script), "v1 v2 team/app:v1\nv1 v2\nv1\n\n--largest");
    assert!(!yard.scratch.join("cache").join("listings").exists(), "completing names writes nothing");
    let paths = r#"
        source ./script
        try() {
            COMP_LINE="$1" COMP_POINT=${#1} COMP_WORDS=($1) COMP_CWORD=$(($(wc -w <<<"$1"))) COMPREPLY=()
            _ocibuild ocibuild "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" 2>/dev/null
            echo "${COMPREPLY[@]}"
        }
        try "ocibuild cat ./out:v1 "
        try "ocibuild cat ./out:v1 /data/"
        try "ocibuild ls --recursive out:team/app:v1 data/s"
        try "ocibuild cat out:v1 /data="
        try "ocibuild extract --platform linux/amd64 oci:out:v2 /data/o"
        try "ocibuild layout x --hololib hololib --catalog 01"
    "#;
    let expected = ["/a/ /data/ /data=1", "/data/one /data/sub/", "data/sub/", "1", "/data/one", CATALOG];
    assert_eq!(output(&yard, &bash, &["--norc", "-c"], paths), expected.join("\n"));
}

#[test]
fn fish_completes_names_of_images() {
    let Some(fish) = consumer("fish") else { return };
    let yard = yard("fish", "script");
    let complete =
        |line: &str| output(&yard, &fish, &["--no-config", "-c"], &format!("source ./script; complete -C '{line}'"));
    // fish offers files behind a colon, too.
    let names = complete("ocibuild rm oci:out:");
    let names: Vec<&str> = names.lines().filter(|name| name.contains('v')).collect();
    assert_eq!(names, ["oci:out:team/app:v1", "oci:out:v1", "oci:out:v2"]);
    assert_eq!(complete("ocibuild rm ./out:te"), "./out:team/app:v1");
    assert!(!complete("ocibuild rm ./none:").contains("v1"));
    assert_eq!(complete("ocibuild cat ./out:v1 /da"), "/data/\n/data=1");
    assert_eq!(complete("ocibuild extract ./out:v1 /data/o"), "/data/one");
    assert_eq!(complete("ocibuild layout x --hololib hololib --catalog 01"), CATALOG);
}

#[test]
fn zsh_completes_names_of_images() {
    let Some(zsh) = consumer("zsh") else { return };
    let yard = yard("zsh", "functions/_ocibuild");
    // A terminal is needed to complete.
    let script = r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        until_it_shows() {
            local text="" more
            for try in {1..100}; do
                while zpty -r -t shell more; do text+="$more"; done
                [[ "$text" == *"$1"* ]] && echo "shown $1" && return
                sleep 0.1
            done
            print -r -- "$text"
        }
        zpty -w shell 'fpath=(./functions $fpath); autoload -U compinit; compinit -u -D; echo read''y'
        until_it_shows ready
        zpty -w -n shell $'ocibuild rm ./out:te\t'
        until_it_shows ./out:team/app:v1
        zpty -w -n shell $'\x15ocibuild ls --larg\t'
        until_it_shows --largest
        zpty -w -n shell $'\x15ocibuild cat ./out:v1 /data/o\t'
        until_it_shows /data/one
        zpty -w -n shell $'\x15ocibuild ls ./out:v1 data/s\t'
        until_it_shows data/sub/
        zpty -w -n shell $'\x15ocibuild layout x --hololib hololib --catalog 01\t'
        until_it_shows v12.linux_amd64
    "#;
    let shown = output(&yard, &zsh, &["-f", "-c"], script);
    let expected = ["ready", "./out:team/app:v1", "--largest", "/data/one", "data/sub/", "v12.linux_amd64"];
    assert_eq!(shown, expected.map(|text| format!("shown {text}")).join("\n"));
}

/// The command that the scripts call says nothing about what it cannot read, asks no registry, and reads no command line wrong.
#[test]
fn what_cannot_be_completed_is_left_alone() {
    let yard = yard("bash", "script");
    let complete = |line: &str| {
        let done = yard.run(&format!("complete -- {line}")).success();
        assert_eq!(done.stderr, "", "{done}");
        done.text().to_owned()
    };
    assert_eq!(complete("cat out:v1 /data/"), "/data/one\n/data/sub/");
    assert!(yard.scratch.join("cache/listings").exists(), "the next time is faster");
    assert_eq!(complete("cat --offline out:v1 /data/o"), "/data/one");
    for line in [
        "cat out:v1",
        "cat out:none /",
        "cat docker-daemon:team/app:v1 /",
        "cat out:v1 /data/ more",
        "cat out:v1 ../",
        "cat out:v1 --unknown /",
        "cat --platform linux/arm64 out:v1 /",
        "ls out",
        "extract out:v1",
        "verify out /",
        "layout x --catalog",
        "layout x --hololib none --catalog 0",
        "layout x --catalog=0 y",
        "cat",
    ] {
        assert_eq!(complete(line), "", "{line}");
    }
    let server = Server::start(|x| x.refuse(404, "NAME_UNKNOWN", "unknown"));
    assert_eq!(complete(&format!("cat docker://{}/team/app:v1 /", server.host())), "");
    assert_eq!(server.lines(), [""; 0], "the network is not asked");
    assert_eq!(complete("layout x --hololib=hololib --catalog=0"), format!("--catalog={CATALOG}"));
    std::fs::remove_dir_all(yard.scratch.join("cache")).unwrap();
    let blobs = yard.scratch.join("out/blobs/sha256");
    for blob in std::fs::read_dir(blobs).unwrap() {
        let path = blob.unwrap().path();
        if std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]) {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(complete("cat out:v1 /data/"), "", "without a layer");
}
