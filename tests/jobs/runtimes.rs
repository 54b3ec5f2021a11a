//! Base images with the Python, Node and Java of this machine, for want of those of a registry: each program with the shared
//! libraries that it needs, and with what it reads when it starts.

use crate::support::kept::kept;
use crate::support::{Scratch, command, consumer, not_proven, ocibuild, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A base with `python3`, which Debian has in `/usr/lib`.
pub(crate) fn python() -> Option<PathBuf> {
    let program = fs::canonicalize("/usr/bin/python3").ok();
    let library = program.as_ref().and_then(|program| Some(Path::new("/usr/lib").join(program.file_name()?)));
    let (Some(program), Some(library)) = (program, library.filter(|library| library.is_dir())) else {
        not_proven("this machine has no /usr/bin/python3, so not proven here: that a Python program runs");
        return None;
    };
    let modules = library.join("lib-dynload");
    let copy = format!("{0}:{0},exclude=**/__pycache__,exclude=config-*,exclude=test", library.display());
    let link = format!("{}:/usr/bin/python3", program.file_name()?.to_str()?);
    base("python", &[&program], &["--copy", &copy, "--symlink", &link], &[&modules])
}

/// A base with `node`.
pub(crate) fn node() -> Option<PathBuf> {
    let program = fs::canonicalize(consumer("node")?).unwrap();
    let copy = format!("{}:/usr/bin/node", program.display());
    let link = ["--copy", &copy];
    base("node", &[], &link, &[&program])
}

/// A base with `java` in `/usr/bin`.
pub(crate) fn java() -> Option<PathBuf> {
    let program = fs::canonicalize(consumer("java")?).unwrap();
    let home = program.parent()?.parent()?;
    if !home.join("lib/server/libjvm.so").is_file() {
        not_proven("the java of this machine is no OpenJDK, so not proven here: that a Java program runs");
        return None;
    }
    let copies = ["lib", "conf"].map(|part| {
        let real = fs::canonicalize(home.join(part)).unwrap();
        format!(
            "{}:{}/{part},exclude=src.zip,exclude=security/cacerts,exclude=**/*.jar",
            real.display(),
            home.display()
        )
    });
    let link = format!("{}:/usr/bin/java", program.display());
    let extra = ["--copy", &copies[0], "--copy", &copies[1], "--symlink", &link];
    base("java", &[&program], &extra, &[&home.join("lib")])
}

/// Builds the layout `name`: `programs` at their own paths, the libraries that they and the programs in `needing` load, and
/// `extra`.
fn base(name: &str, programs: &[&Path], extra: &[&str], needing: &[&Path]) -> Option<PathBuf> {
    consumer("ldd")?;
    kept(&format!("runtime-{name}-1"), |scratch| {
        let mut libraries = BTreeSet::new();
        for program in programs.iter().chain(needing) {
            libraries.extend(files_in(program).iter().flat_map(|file| loaded_by(file)));
        }
        let own = programs.iter().map(|program| program.to_path_buf());
        let copies: Vec<String> = own.chain(libraries).map(|file| copy_of(&file)).collect();
        let mut build = ocibuild();
        build.arg("layout").arg(scratch.join("layout")).args(["--compression", "none", "--env", "PATH=/usr/bin:/bin"]);
        build.args(copies.iter().flat_map(|copy| ["--copy", copy])).args(extra);
        build.args(["--mkdir", "/tmp,mode=1777"]);
        run(&mut build).success();
        Some(scratch.join("layout"))
    })
}

/// The file itself, or the shared libraries in a directory.
fn files_in(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|end| end == "so")).collect()
}

/// The libraries outside of its own directory that a program loads, at the paths where it looks for them.
fn loaded_by(program: &Path) -> Vec<PathBuf> {
    let listed = run(command("ldd").arg(program));
    let words = listed.text().split_whitespace().filter(|word| word.starts_with('/'));
    let is_outside = |file: &PathBuf| !file.starts_with("/usr/lib/jvm") && file.is_file();
    words.map(|word| PathBuf::from(word.trim_end_matches(':'))).filter(is_outside).collect()
}

fn copy_of(file: &Path) -> String {
    format!("{}:{}", fs::canonicalize(file).unwrap().display(), file.display())
}

/// Compiles a class that prints a line, and packs it into a jar.
pub(crate) fn jar(file: &Path, class: &str) -> Option<()> {
    let (compiler, packer) = (consumer("javac")?, consumer("jar")?);
    let scratch = Scratch::new();
    let prints = "public static void main(String[] words) { System.out.println(\"in the black\"); }";
    let source = scratch.write(format!("{class}.java"), format!("public class {class} {{ {prints} }}\n"));
    let classes = scratch.join("classes");
    run(command(compiler).arg("-d").arg(&classes).arg(source)).success();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    run(command(packer).arg("--create").arg("--file").arg(file).arg("-C").arg(classes).arg(".")).success();
    Some(())
}
