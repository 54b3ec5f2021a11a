//! Copies in several layers: the same files as in one layer, and an edit that changes few of them.

use crate::bases::busybox_root;
use crate::consumers::{Containerd, Docker, Layout, Podman, Registry, Skopeo, Umoci, crane};
use crate::support::random::Random;
use crate::support::{Finished, Scratch, command, is_left_out, ocibuild, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// A directory with an application that has Python packages, and a layout beside it.
struct Shop {
    scratch: Scratch,
}

impl Shop {
    fn new() -> Shop {
        let shop = Shop { scratch: Scratch::new() };
        let mut random = Random::new(5);
        let packages = "app/lib/python3.12/site-packages";
        for package in ["alpha", "beta", "delta", "gamma"] {
            shop.scratch.write(format!("{packages}/{package}/library.so"), random.bytes(3 << 20));
            shop.scratch.write(format!("{packages}/{package}/module.py"), format!("name = '{package}'\n"));
            shop.scratch.write(format!("{packages}/{package}-1.0.dist-info/RECORD"), "");
        }
        shop.scratch.write("app/main.py", "import alpha\n");
        shop.scratch.write("app/zone/closed/file", "x");
        let at = |path: &str| shop.scratch.join("app").join(path);
        fs::create_dir(at("empty")).unwrap();
        fs::hard_link(at("main.py"), at("zone/main.py")).unwrap();
        fs::hard_link(
            at("lib/python3.12/site-packages/delta/library.so"),
            at("lib/python3.12/site-packages/gamma/same.so"),
        )
        .unwrap();
        symlink("../main.py", at("zone/link")).unwrap();
        for (path, mode) in [("zone", 0o2775), ("zone/closed", 0o711), ("empty", 0o1777), ("main.py", 0o4750)] {
            fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        shop
    }

    /// `ocibuild layout out -t TAG ARGUMENTS`, by default without a cache.
    #[track_caller]
    fn layout(&self, tag: &str, arguments: &[&str]) -> Finished {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).args(["layout", "out", "-t", tag]).args(arguments);
        run(&mut command)
    }

    /// Builds with a cache, and returns what the program says of the layers.
    #[track_caller]
    fn layers(&self, arguments: &[&str]) -> Vec<Value> {
        let mut command = ocibuild();
        command.env_remove("OCIBUILD_NO_CACHE").current_dir(self.scratch.path());
        command.args(["layout", "out", "-t", "v1", "--format=json", "--cache-dir=cache"]).args(arguments);
        let built: Value = serde_json::from_str(run(&mut command).success().text()).unwrap();
        built["layers"].as_array().unwrap().clone()
    }

    /// What `--dry-run` says of the layers: their entries and texts.
    fn planned(&self, arguments: &[&str]) -> Vec<(u64, String)> {
        let more = ["--dry-run", "--format=json", "--secrets=allow"];
        let planned = self.layout("dry", &[arguments, &more].concat()).success();
        let planned: Value = serde_json::from_str(planned.text()).unwrap();
        let layer =
            |layer: &Value| (layer["entries"].as_u64().unwrap(), layer["createdBy"].as_str().unwrap().to_owned());
        planned["layers"].as_array().unwrap().iter().map(layer).collect()
    }

    /// The final files of an image as a tar.
    fn files(&self, tag: &str) -> Vec<u8> {
        let name = format!("{tag}.tar");
        let mut export = ocibuild();
        export.current_dir(self.scratch.path()).args(["export", &format!("./out:{tag}"), &format!("rootfs:{name}")]);
        run(&mut export).success();
        fs::read(self.scratch.join(name)).unwrap()
    }
}

const COPY: [&str; 4] = ["--copy", "app:/app", "--preserve-modes", "--keep-owners"];

#[test]
fn the_files_are_those_of_the_image_in_one_layer() {
    if is_left_out() {
        return;
    }
    let shop = Shop::new();
    shop.layout("one", &[&COPY[..], &["--split=none"]].concat()).success();
    shop.layout("several", &[&COPY[..], &["--split=5"]].concat()).success();
    let [one, several] = ["one", "several"].map(|tag| Layout::new(shop.scratch.join("out"), tag));
    assert_eq!((one.layers().len(), several.layers().len()), (1, 5));
    assert!(shop.files("one") == shop.files("several"), "the final files differ");
    let Some(umoci) = Umoci::find() else { return };
    let unpacked = |layout: &Layout, name: &str| {
        let bundle = shop.scratch.join(name);
        umoci.unpack(layout, &bundle).success();
        let form = ["-mindepth", "1", "-printf", "%P %y %m %U:%G %T@ %s %n %l\\n"];
        let listed = run(command("find").arg(".").args(form).current_dir(bundle.join("rootfs"))).success();
        let mut lines: Vec<String> = listed.text().lines().map(str::to_owned).collect();
        // A directory's own size is that of the file system.
        lines.iter_mut().filter(|line| line.contains(" d ")).for_each(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            *line = [&words[..5], &words[7..]].concat().join(" ");
        });
        lines.sort_unstable();
        lines
    };
    let (one, several) = (unpacked(&one, "unpacked-one"), unpacked(&several, "unpacked-several"));
    let names = |line: &String| line.starts_with("app/main.py f 4750") && line.split(' ').nth(6) == Some("2");
    assert!(one.iter().any(names), "{one:#?}");
    assert_eq!(one, several);
}

/// Prints each entry of `/app` with its kind, mode, owner, time, names and content.
const LISTING: &str = "\
cd /app
busybox find . -exec stat -c '%n %F %a %u:%g %Y' {} +
busybox find . -type f -exec stat -c '%n %s %h' {} +
busybox find . -type f -exec sha256sum {} +
busybox find . -type l -exec busybox readlink {} +
sleep 0.3";

/// The image in one layer and the one in several are the same to every program that reads images.
#[test]
fn other_programs_read_the_files_of_all_layers() {
    let (Some(registry), Some(skopeo)) = (Registry::plain(), Skopeo::find()) else { return };
    let shop = Shop::new();
    let Some(()) = busybox_root(&shop.scratch.join("busybox")) else { return };
    let names = ["one", "several"].map(|tag| format!("{}/team/shop:{tag}", registry.address()));
    for (name, copy) in names.iter().zip(["--copy=app:/app", "--copy=app:/app,split=5"]) {
        let more = ["--copy=busybox:/", "--preserve-modes", "--keep-owners", "--secrets=allow"];
        shop.layout(name, &[&[copy], &more[..]].concat()).success();
        let mut push = ocibuild();
        push.current_dir(shop.scratch.path()).args(["export", &format!("./out:{name}"), &format!("docker://{name}")]);
        run(&mut push).success();
    }
    let listings = |program: &str, listing: &dyn Fn(&str) -> Finished| {
        let [one, several] = [&names[0], &names[1]].map(|name| {
            let mut lines: Vec<String> = listing(name).success().text().lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        });
        let has = |start: &str| several.iter().any(|line| line.starts_with(start));
        assert!(has("./main.py regular file 4750 0:0 ") && has("./main.py 13 2"), "{program}: {several:#?}");
        assert_eq!(one, several, "{program}");
    };
    let command_line = ["sh", "-c", LISTING];
    let copied = Layout::new(shop.scratch.join("copied"), "several");
    skopeo.copy(&["--src-tls-verify=false"], &format!("docker://{}", names[1]), &copied.location()).success();
    assert_eq!(copied.layers().len(), 6);
    run(ocibuild().arg("verify").arg(&copied.path)).success();
    if let Some(podman) = Podman::find() {
        listings("podman", &|name| {
            podman.pull(name).success();
            podman.run(name, &command_line)
        });
    }
    for docker in Docker::all() {
        listings("docker", &|name| {
            docker.pull(name);
            docker.run(name, &command_line)
        });
    }
    if let Some(containerd) = Containerd::find() {
        listings("containerd", &|name| {
            run(containerd.environment().args(["image", "pull", "--plain-http", name])).success();
            containerd.run(name, &command_line, |finished| finished.text().contains("main.py"))
        });
    }
    let Some(crane) = crane() else { return };
    let tars = names.map(|name| {
        run(command(&crane).args(["validate", "--remote", &name])).success();
        let tar = shop.scratch.join("crane.tar");
        run(command(&crane).args(["export", &name]).arg(&tar)).success();
        let listed = run(command("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(&tar)).success();
        let mut lines: Vec<String> = listed.text().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    });
    assert_eq!(tars[0], tars[1], "crane");
}

#[test]
fn an_edit_changes_the_layer_of_its_file() {
    if is_left_out() {
        return;
    }
    let shop = Shop::new();
    let digests = |layers: &[Value]| -> Vec<String> {
        layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    };
    let build = || shop.layers(&[&COPY[..], &["--split=5"]].concat());
    let mut before = build();
    let packages = "app/lib/python3.12/site-packages";
    for (path, content, layer) in [
        ("app/main.py".to_owned(), "import beta\n", 4),
        ("app/new.py".to_owned(), "", 4),
        (format!("{packages}/alpha/module.py"), "name = 'new'\n", 0),
        (format!("{packages}/gamma/more.py"), "", 3),
    ] {
        // In place, since the file has another name.
        fs::write(shop.scratch.join(&path), content).unwrap();
        let after = build();
        let changed: Vec<usize> = digests(&after)
            .iter()
            .enumerate()
            .filter(|(number, digest)| digests(&before).get(*number) != Some(*digest))
            .map(|(number, _)| number)
            .collect();
        assert_eq!((after.len(), changed), (5, vec![layer]), "{path}");
        let made: Vec<usize> = (0..5).filter(|number| after[*number]["origin"] == "made").collect();
        assert_eq!(made, [layer], "{path}");
        before = after;
    }
}

#[test]
fn the_bytes_are_the_same_everywhere() {
    let shop = Shop::new();
    let arguments = ["--copy=app:/app", "--split=5", "--compression=none", "--chmod=0644"];
    let built = shop.layout("v1", &arguments).success();
    // They are the same in every release until CHANGELOG.md says something else.
    assert_eq!(built.text(), "sha256:65552fa42784376e88084e84f9adf4583bf817834dfc01158d4675ff36474c8f");
    for more in ["--jobs=1", "--jobs=7"] {
        assert_eq!(shop.layout("v2", &[&arguments[..], &[more]].concat()).success().text(), built.text());
    }
}

#[test]
fn layers_are_named_after_what_they_begin_with_and_own_files_are_on_top() {
    let shop = Shop::new();
    let planned = shop.planned(&["--copy=app:/app", "--split=5"]);
    let texts: Vec<&str> = planned.iter().map(|(_, text)| text.as_str()).collect();
    let packages = "/app/lib/python3.12/site-packages";
    let expected = [
        "ocibuild: copy to /app".to_owned(),
        format!("ocibuild: copy to /app, from {packages}/beta"),
        format!("ocibuild: copy to /app, from {packages}/delta"),
        format!("ocibuild: copy to /app, from {packages}/gamma"),
        "ocibuild: copy to /app, own files".to_owned(),
    ];
    assert_eq!(texts, expected);
    let one: u64 = shop.planned(&["--copy=app:/app"])[0].0;
    let all: u64 = planned.iter().map(|(entries, _)| entries).sum();
    assert!(all > one, "directories are in each layer that needs them: {planned:?}");
}

#[test]
fn a_copy_is_split_as_it_says_and_otherwise_as_the_flag_says() {
    let shop = Shop::new();
    let count = |arguments: &[&str]| shop.planned(arguments).len();
    assert_eq!(count(&["--copy=app:/app"]), 1, "it is not large");
    assert_eq!(count(&["--copy=app:/app", "--split=auto"]), 1);
    assert_eq!(count(&["--copy=app:/app,split=2", "--copy=app:/b,split=none", "--copy=app:/c", "--split=3"]), 6);
    assert_eq!(count(&["--copy=app:/app", "--split=3", "--layer=all", "--copy=app:/b"]), 4);
    assert_eq!(count(&["--copy=app:/app,split=packages"]), 5);
    let fails = |arguments: &[&str], reason: &str| {
        shop.layout("bad", arguments).ended_with(2).failed_saying(reason);
    };
    fails(&["--copy=app:/app", "--split=0"], "not `auto`, `packages`, `none` or a number from 1 to 100");
    fails(&["--copy=app:/app,split=all"], "not `auto`, `packages`, `none` or a number from 1 to 100");
    fails(&["--file=/a=b", "--split=3"], "--split: has no effect without a --copy that has a layer of its own");
    fails(&["--layer=all", "--copy=app:/app", "--split=3"], "--split: has no effect");
    fails(&["--layer=all", "--copy=app:/app,split=3"], "has no effect after --layer, which makes one layer");
    fails(&["--copy=app/main.py:/m,split=3"], "is a file, on which `split` has no effect");
}

/// The sizes are those of sparse files, which nothing reads.
#[test]
fn a_large_copy_is_split_and_several_of_them_fit_into_an_image() {
    if is_left_out() {
        return;
    }
    let shop = Shop::new();
    let large = |path: &Path, size: u64| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().set_len(size).unwrap();
    };
    for number in 0..130 {
        large(&shop.scratch.join(format!("data/{number:03}")), 64 << 20);
    }
    assert_eq!(shop.planned(&["--copy=data:/data"]).len(), 32);
    let copies: Vec<String> = (0..9).map(|number| format!("--copy=data:/{number}")).collect();
    let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
    assert_eq!(shop.planned(&copies).len(), 9 * 13);
    assert_eq!(shop.planned(&[&copies[..], &["--split=100"]].concat()).len(), 9 * 13);
    assert_eq!(shop.planned(&["--copy=data:/data", "--split=100", "--mkdir=/x"]).len(), 101);
    // A tar is split as a directory is.
    let mut tar = command("tar");
    run(tar.current_dir(shop.scratch.path()).args(["-cf", "data.tar", "data/000", "data/001", "data/002"])).success();
    assert_eq!(shop.planned(&["--copy=data.tar:/data"]).len(), 3);
}
