//! Python virtual environments, copied to another place and onto another Python.

use crate::consumers::Podman;
use crate::jobs::runtimes;
use crate::support::{Finished, Scratch, command, install_script, not_proven, ocibuild, run};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The Python that the forged environments were made with.
const HOME: &str = "/opt/py/bin";

const PACKAGES: &str = "lib/python3.11/site-packages";

/// Forged environments and bases, and layouts beside them.
struct Desk {
    scratch: Scratch,
}

impl Desk {
    /// With the base `./base`, which has `/usr/local/bin/python3.11` and glibc.
    fn new() -> Desk {
        let desk = Desk { scratch: Scratch::new() };
        desk.base("base", "usr/local/bin/python3.11", "lib64/ld-linux-x86-64.so.2");
        desk
    }

    /// Makes a base with an interpreter and a loader.
    fn base(&self, name: &str, python: &str, loader: &str) {
        let files = format!("files-of-{name}");
        install_script(&self.scratch.join(&files).join(python), "#!/bin/sh\n");
        self.scratch.write(format!("{files}/{loader}"), "a loader");
        let copy = format!("{files}:/");
        run(ocibuild().current_dir(self.scratch.path()).args(["layout", name, "--copy", &copy, "-t", "v1"])).success();
    }

    /// Forges an environment in `directory`, which says that it was made at `place`.
    fn environment(&self, directory: &str, place: &str) {
        let write = |path: &str, text: &str| {
            self.scratch.write(format!("{directory}/{path}"), text.replace("PLACE", place));
        };
        write(
            "pyvenv.cfg",
            &format!(
                "home = {HOME}\ninclude-system-site-packages = false\nversion = 3.11.2\nexecutable = {HOME}/python3.11\ncommand = {HOME}/python3 -m venv PLACE\n"
            ),
        );
        write("bin/activate", "VIRTUAL_ENV=\"PLACE\"\nexport VIRTUAL_ENV\n");
        write("bin/notes", "PLACE is only named\n");
        write(&format!("{PACKAGES}/greet.py"), "place = 'PLACE'\n");
        write(
            &format!("{PACKAGES}/greet-1.dist-info/RECORD"),
            "../../../bin/greet,sha256=x,1\ngreet.py,sha256=y,2\ngreet-1.dist-info/RECORD,,\n",
        );
        install_script(
            &self.scratch.join(directory).join("bin/greet"),
            &format!("#!{place}/bin/python3\nimport greet # {place}\n"),
        );
        let links = [
            (format!("{HOME}/python3"), "bin/python3"),
            ("python3".to_owned(), "bin/python"),
            ("lib".to_owned(), "lib64"),
        ];
        for (target, link) in links {
            symlink(target, self.scratch.join(directory).join(link)).unwrap();
        }
    }

    #[track_caller]
    fn layout(&self, arguments: &[&str]) -> Finished {
        run(ocibuild()
            .current_dir(self.scratch.path())
            .args(["layout", "out", "--compression", "none"])
            .args(arguments))
    }

    fn cat(&self, image: &str, path: &str) -> String {
        let cat = run(ocibuild().current_dir(self.scratch.path()).args(["cat", image, path])).success();
        String::from_utf8(cat.stdout).unwrap()
    }
}

#[test]
fn an_environment_is_relocated_to_its_new_place() {
    let desk = Desk::new();
    desk.environment("venv", "/home/me/venv");
    let arguments = ["--base=./base", "--copy=venv:/app/venv", "--cmd=/app/venv/bin/python", "-t", "v1"];
    let line = "relocated the environment of python3.11 to /app/venv from /home/me/venv: 5 files changed, \
                which runs /usr/local/bin/python3.11";
    let first = desk.layout(&arguments).success();
    assert!(first.stderr.contains(line) && !first.stderr.contains("warning"), "{first}");
    let built = desk.layout(&[&arguments[..3], &["-t", "v2", "--format", "json"]].concat()).success();
    let described: Value = serde_json::from_str(built.text()).unwrap();
    let environment = &described["pythonEnvironments"];
    assert_eq!(
        environment,
        &json!([{
            "path": "/app/venv", "madeAt": "/home/me/venv", "python": "python3.11",
            "interpreter": "/usr/local/bin/python3.11",
            "changed": ["bin/activate", "bin/greet", "bin/python3", format!("{PACKAGES}/greet-1.dist-info/RECORD"), "pyvenv.cfg"],
        }])
    );
    let cat = |path: &str| desk.cat("./out:v1", &format!("/app/venv/{path}"));
    assert_eq!(
        cat("pyvenv.cfg"),
        "home = /usr/local/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n\
         executable = /usr/local/bin/python3.11\ncommand = /usr/local/bin/python3 -m venv /app/venv\n"
    );
    assert_eq!(cat("bin/activate"), "VIRTUAL_ENV=\"/app/venv\"\nexport VIRTUAL_ENV\n");
    assert_eq!(cat("bin/greet"), "#!/app/venv/bin/python3\nimport greet # /home/me/venv\n");
    assert_eq!(cat("bin/notes"), "/home/me/venv is only named\n");
    assert_eq!(cat("bin/python3"), "#!/bin/sh\n", "a link to the interpreter of the base");
    assert_eq!(cat(&format!("{PACKAGES}/greet.py")), "place = '/home/me/venv'\n");
    let record = cat(&format!("{PACKAGES}/greet-1.dist-info/RECORD"));
    assert!(
        record.starts_with("../../../bin/greet,sha256=") && record.contains(",53\ngreet.py,sha256=y,2\n"),
        "{record}"
    );
    // The same again is the same, and a dry run says it, too.
    assert_eq!(described["digest"], first.text());
    let planned = desk.layout(&[&arguments[..], &["--dry-run"]].concat()).success();
    assert!(planned.text().contains("relocated   the environment of python3.11 to /app/venv"), "{planned}");
}

#[test]
fn an_environment_is_the_same_wherever_it_was_made() {
    let desk = Desk::new();
    for (directory, place) in [("one/venv", "/home/me/project/venv"), ("two/venv", "/srv/build/v")] {
        desk.environment(directory, place);
        // These name the place where they are not changed.
        for same in ["bin/notes", &format!("{PACKAGES}/greet.py")] {
            desk.scratch.write(format!("{directory}/{same}"), "same");
        }
        install_script(&desk.scratch.join(directory).join("bin/greet"), &format!("#!{place}/bin/python3\n"));
    }
    let digest = |directory: &str| {
        let copy = format!("{directory}:/app/venv");
        desk.layout(&["--base=./base", "--copy", &copy, "-t", "v1"]).success().text().to_owned()
    };
    assert_eq!(digest("one/venv"), digest("two/venv"));
    run(command("tar").current_dir(desk.scratch.path()).args(["-cf", "venv.tar", "-C", "two", "venv"])).success();
    let unpacked = desk.layout(&["--base=./base", "--copy=venv.tar:/app", "-t", "v2"]).success();
    assert!(unpacked.stderr.contains("to /app/venv from /srv/build/v"), "{unpacked}");
}

#[test]
fn an_environment_with_a_project_in_it_finds_its_sources() {
    let desk = Desk::new();
    desk.environment("project/.venv", "/home/me/project/.venv");
    desk.scratch.write("project/src/app.py", "x");
    let pth = format!("project/.venv/{PACKAGES}/_app.pth");
    desk.scratch.write(&pth, "/home/me/project/src\n");
    let editable = r#"{"url": "file:///home/me/project", "dir_info": {"editable": true}}"#;
    desk.scratch.write(format!("project/.venv/{PACKAGES}/app-1.dist-info/direct_url.json"), editable);
    desk.layout(&["--base=./base", "--copy=project:/app", "-t", "v1"]).success();
    assert_eq!(desk.cat("./out:v1", &format!("/app/.venv/{PACKAGES}/_app.pth")), "/app/src\n");
    let origin = desk.cat("./out:v1", &format!("/app/.venv/{PACKAGES}/app-1.dist-info/direct_url.json"));
    assert_eq!(origin, editable.replace("/home/me/project", "/app"));
    // The sources may be in another copy.
    let copies = ["--copy=project/.venv:/app/.venv", "--copy=project/src:/app/src"];
    desk.layout(&[&["--base=./base", "-t", "v2"], &copies[..]].concat()).success();
    desk.layout(&["--base=./base", "-t", "v3", copies[0]]).ended_with(1).failed_saying(
        "/app/.venv: lib/python3.11/site-packages/_app.pth refers to /home/me/project/src, which is not in the image, nor is /app/src, \
         where it would belong (install it without `-e`, or copy that directory as well; --python-venv keep copies it unchanged)",
    );
}

#[test]
fn an_environment_that_cannot_work_is_refused() {
    let desk = Desk::new();
    desk.base("newer", "usr/bin/python3.12", "lib64/ld-linux-x86-64.so.2");
    desk.base("alpine", "usr/bin/python3.11", "lib/ld-musl-x86_64.so.1");
    desk.environment("venv", "/home/me/venv");
    for (directory, module) in [
        ("gnu", "fast.cpython-311-x86_64-linux-gnu.so"),
        ("musl", "fast.cpython-311-x86_64-linux-musl.so"),
        ("arm", "fast.cpython-311-aarch64-linux-gnu.so"),
        ("mac", "fast.cpython-311-darwin.so"),
    ] {
        desk.environment(directory, "/home/me/venv");
        desk.scratch.write(format!("{directory}/{PACKAGES}/{module}"), "a module");
    }
    desk.scratch.write("windows/pyvenv.cfg", "home = C:\\Python\nversion = 3.11.2\n");
    desk.scratch.write("windows/Scripts/python.exe", "MZ");
    desk.scratch.write("windows/bin/x", "x");
    desk.environment("two", "/home/me/venv");
    desk.scratch.write("two/pyvenv.cfg", "home = /usr/bin\n");
    desk.scratch.write("two/lib/python3.9/site-packages/x.py", "x");
    let long = format!("venv:/{}", "long/".repeat(25));
    for (copy, base, reason) in [
        (
            "venv:/app/venv",
            "scratch",
            "/app/venv: needs python3.11, which the image does not have, neither as /opt/py/bin/python3 nor in /usr/local/sbin, ",
        ),
        (
            "venv:/app/venv",
            "./newer",
            "/usr/bin, /sbin, /bin (a base with Python 3.11; --python-venv keep copies it unchanged)",
        ),
        (
            "gnu:/v",
            "./alpine",
            "/v: cannot run in the image: its module /v/lib/python3.11/site-packages/fast.cpython-311-x86_64-linux-gnu.so needs glibc, and the image has musl (a base with glibc",
        ),
        ("musl:/v", "./base", "needs musl, and the image has glibc"),
        ("arm:/v", "./base", "is for arm64, and the image is for linux/amd64"),
        ("mac:/v", "./base", "is for macOS, and the image is for linux/amd64"),
        ("windows:/v", "./base", "/v: cannot run in the image: it has no lib/pythonX.Y, so it was not made on Linux"),
        ("two:/v", "./base", "it has several directories lib/pythonX.Y"),
        ("venv:/a b/v", "./base", "/a b/v: a Python environment cannot be at a path with a space or quote"),
        (&long, "./base", "a Python environment cannot be at so long a path"),
        ("venv:/,exclude=lib64", "./base", "/: a Python environment cannot be the root of an image"),
    ] {
        let base = format!("--base={base}");
        desk.layout(&["--copy", copy, &base, "-t", "v1"]).ended_with(1).failed_saying(reason);
        desk.layout(&["--copy", copy, &base, "-t", "v1", "--python-venv=keep"]).success();
    }
}

#[test]
fn an_environment_is_kept_unchanged_when_asked() {
    let desk = Desk::new();
    desk.environment("venv", "/home/me/venv");
    for (tag, arguments) in [
        ("flag", &["--copy=venv:/v", "--python-venv=keep"][..]),
        ("option", &["--copy=venv:/v,python-venv=keep"]),
        ("group", &["--layer=both", "--copy=venv:/v,python-venv=keep", "--copy=venv:/w"]),
        ("first", &["--python-venv=keep", "--copy=venv:/v", "--copy=venv:/w,python-venv=relocate"]),
    ] {
        desk.layout(&[arguments, &["--base=./base", "-t", tag]].concat()).success();
        for file in ["pyvenv.cfg", "bin/activate", "bin/greet"] {
            let whole = fs::read_to_string(desk.scratch.join("venv").join(file)).unwrap();
            assert_eq!(desk.cat(&format!("./out:{tag}"), &format!("/v/{file}")), whole, "{tag}");
            if arguments.len() > 2 {
                assert_ne!(desk.cat(&format!("./out:{tag}"), &format!("/w/{file}")), whole, "{tag}");
            }
        }
    }
    desk.scratch.write("file", "x");
    for (arguments, reason) in [
        (&["--python-venv=keep", "--mkdir=/x"][..], "--python-venv: has no effect without --copy"),
        (&["--python-venv=move", "--copy=venv:/v"], "neither relocate nor keep"),
        (&["--copy=file:/f,python-venv=keep"], "is a file, on which `python-venv` has no effect"),
    ] {
        desk.layout(&[arguments, &["-t", "v"]].concat()).ended_with(2).failed_saying(reason);
    }
    // A file of this name alone makes no environment.
    desk.scratch.write("other/pyvenv.cfg", "home = /usr/bin\n");
    desk.scratch.write("other/notes/pyvenv.cfg", "x");
    desk.layout(&["--copy=other:/o", "-t", "other"]).success();
}

/// Makes the environment `directory` of the Python of this machine, with a package that pip has installed: the module and program `greet`.
pub(crate) fn real_environment(scratch: &Scratch, directory: &str) -> Option<()> {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        not_proven("this machine has no /usr/bin/python3, so not proven here: that a Python environment runs");
        return None;
    }
    let wheel = "wheel/greet-1.0-py3-none-any.whl";
    scratch.write("wheel/greet.py", "import sys\ndef main():\n    print('hello from', sys.prefix, *sys.argv[1:])\n");
    for (file, text) in [
        ("METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n"),
        ("WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("entry_points.txt", "[console_scripts]\ngreet = greet:main\n"),
        (
            "RECORD",
            "greet.py,,\ngreet-1.0.dist-info/METADATA,,\ngreet-1.0.dist-info/WHEEL,,\ngreet-1.0.dist-info/entry_points.txt,,\ngreet-1.0.dist-info/RECORD,,\n",
        ),
    ] {
        scratch.write(format!("wheel/greet-1.0.dist-info/{file}"), text);
    }
    let python = |arguments: &[&str]| run(command(python).current_dir(scratch.path()).args(arguments));
    python(&["-m", "zipfile", "-c", wheel, "wheel/greet.py", "wheel/greet-1.0.dist-info"]).success();
    python(&["-m", "venv", "--without-pip", directory]).success();
    let own = format!("{directory}/bin/python");
    let installed = python(&["-m", "pip", "--python", &own, "install", "--no-index", "--quiet", wheel]);
    if !installed.stderr.contains("No module named pip") {
        installed.success();
        return Some(());
    }
    not_proven("the Python of this machine has no pip, so not proven here: that an environment made by pip runs");
    None
}

#[test]
fn a_real_environment_runs_in_podman() {
    let Some(base) = runtimes::python() else { return };
    let Some(podman) = Podman::find() else { return };
    let scratch = Scratch::new();
    let Some(()) = real_environment(&scratch, "project/.venv") else { return };
    let base = format!("--base={}", base.display());
    let build = |tag: &str| {
        let archive = format!("{tag}.tar");
        let arguments =
            ["layout", "out", &base, "--copy=project/.venv:/app/venv", "--user=1000", "--cmd=/app/venv/bin/greet"];
        let mut build = ocibuild();
        build.current_dir(scratch.path()).args(arguments).args(["-t", &format!("venv:{tag}"), "--save", &archive]);
        run(&mut build).success();
        podman.load(&scratch.join(&archive))
    };
    let image = build("same");
    assert_eq!(podman.run(&image, &["/app/venv/bin/greet", "you"]).success().text(), "hello from /app/venv you");
    let code = "import importlib.metadata as m, sys; print(sys.prefix, sys.base_prefix, m.version('greet'))";
    let told = podman.run(&image, &["/app/venv/bin/python", "-c", code]).success();
    assert_eq!(told.text(), "/app/venv /usr 1.0");
    // As if it had been made by a Python that the image has elsewhere.
    let venv = scratch.join("project/.venv");
    let settings = fs::read_to_string(venv.join("pyvenv.cfg")).unwrap();
    fs::write(venv.join("pyvenv.cfg"), settings.replace("/usr/bin", HOME)).unwrap();
    fs::remove_file(venv.join("bin/python3")).unwrap();
    symlink(format!("{HOME}/python3"), venv.join("bin/python3")).unwrap();
    let image = build("elsewhere");
    assert_eq!(podman.run(&image, &["/app/venv/bin/greet"]).success().text(), "hello from /app/venv");
    // The proof: without relocation it does not run.
    let mut kept = ocibuild();
    kept.current_dir(scratch.path()).args([
        "layout",
        "out",
        &base,
        "--copy=project/.venv:/app/venv",
        "--python-venv=keep",
    ]);
    run(kept.args(["-t", "venv:kept", "--save", "kept.tar"])).success();
    let image = podman.load(&scratch.join("kept.tar"));
    let failed = podman.run(&image, &["/app/venv/bin/greet"]);
    assert_ne!(failed.status, 0, "{failed}");
}
