//! The scripts of `completions` complete the names of images in a layout.

use super::Yard;
use crate::support::{command, consumer, run};
use std::path::Path;

/// A layout with three names, and the script of a shell.
fn yard(shell: &str, file: &str) -> Yard {
    let yard = Yard::new();
    yard.text("layout out -t v1 -t v2 -t team/app:v1 --copy a:/a");
    // A name that a shell would run.
    yard.edit_index("out", |manifests| {
        let mut foreign = manifests[0].clone();
        foreign["annotations"]["org.opencontainers.image.ref.name"] = "v$(touch${IFS}harm)".into();
        manifests.push(foreign);
    });
    yard.scratch.write(file, yard.text(&format!("completions {shell}")));
    yard
}

/// Runs `script` in a shell, with the program in the PATH.
fn output(yard: &Yard, shell: &Path, arguments: &[&str], script: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_ocibuild")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", program.display());
    let mut shell = command(shell);
    shell.args(arguments).arg(script).env("PATH", path).env("HOME", yard.scratch.path());
    let text = run(shell.current_dir(yard.scratch.path())).success().text().to_owned();
    assert!(!yard.scratch.join("harm").exists());
    assert!(!yard.scratch.join("cache").join("listings").exists(), "completing writes nothing");
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
    "#;
    let shown = output(&yard, &zsh, &["-f", "-c"], script);
    assert_eq!(shown, "shown ready\nshown ./out:team/app:v1\nshown --largest");
}
