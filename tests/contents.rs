//! What is put into an image as wanted: options of one copy, directories, links, small files, users, and files of the host.

use crate::consumers::{Docker, Layout, Podman};
use crate::listers::{Entry, listed_by_us};
use crate::support::{Finished, Scratch, command, consumer, not_proven, ocibuild, run};
use ocibuild::Digest;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// A directory with sources, and layouts beside them.
struct Desk {
    scratch: Scratch,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { scratch: Scratch::new() };
        for (path, content) in [("app/main", "#!/bin/sh\n"), ("app/notes.md", "notes"), ("app/deep/data", "data")] {
            desk.scratch.write(path, content);
        }
        fs::set_permissions(desk.scratch.join("app/main"), fs::Permissions::from_mode(0o700)).unwrap();
        desk
    }

    /// `ocibuild layout out ARGUMENTS`.
    #[track_caller]
    fn layout(&self, arguments: &[&str]) -> Finished {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).args(["layout", "out", "--compression", "none"]).args(arguments);
        run(&mut command)
    }

    /// The entries of all layers of the image `tag` in `out`, as lines of path, kind, mode and owner.
    fn lines(&self, tag: &str) -> Vec<String> {
        let image = Layout::new(self.scratch.join("out"), tag);
        let layers = image.layers();
        let entries = layers.iter().flat_map(|layer| listed_by_us(&image.blob(layer["digest"].as_str().unwrap())));
        let line = |entry: Entry| {
            let path = String::from_utf8(entry.path).unwrap();
            format!("{path} {:?} {:04o} {}:{}", entry.kind, entry.mode, entry.uid, entry.gid)
        };
        entries.map(line).collect()
    }

    /// The texts of the image's history.
    fn history(&self, tag: &str) -> Vec<String> {
        let config = Layout::new(self.scratch.join("out"), tag).config();
        let entries = config["history"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["created_by"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn options_of_one_copy_do_not_touch_the_others() {
    let desk = Desk::new();
    let copies =
        ["--copy", "app:/one,chown=5:6,chmod=0640,exclude=*.md,exclude=deep", "--copy", "app/:/two,exclude=main"];
    desk.layout(&[&copies[..], &["--chown", "9", "-t", "v1"]].concat()).success();
    assert_eq!(
        desk.lines("v1"),
        [
            "one Directory 0750 5:6",
            "one/main File 0640 5:6",
            "two Directory 0755 9:9",
            "two/deep Directory 0755 9:9",
            "two/deep/data File 0644 9:9",
            "two/notes.md File 0644 9:9",
        ]
    );
    desk.layout(&["--copy", "app:/all,include=app,preserve-modes", "--exclude", "**/data", "-t", "v2"]).success();
    assert!(desk.lines("v2").contains(&"all/main File 0700 0:0".to_owned()));
    assert!(!desk.lines("v2").iter().any(|line| line.contains("data")));
    desk.scratch.write("patterns", "deep\n");
    desk.layout(&["--copy", "app:/a,ignore-file=patterns,include=deep/data", "-t", "v3"]).success();
    assert!(desk.lines("v3").iter().any(|line| line.starts_with("a/deep/data ")));
}

#[test]
fn a_comma_in_a_path_is_written_twice() {
    let desk = Desk::new();
    desk.scratch.write("a,b/f", "");
    desk.layout(&["--copy", "a,,b:/c,,d", "--mkdir", "/e,,f", "--file", "/g,h=i,j", "-t", "v1"]).success();
    let paths: Vec<String> = desk.lines("v1").iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(paths, ["c,d", "c,d/f", "e,f", "g,h"]);
}

#[test]
fn directories_links_and_files_need_no_source() {
    let desk = Desk::new();
    let items = [
        "--mkdir=/tmp,mode=1777",
        "--mkdir=/var/lib/app,chown=7:8",
        "--symlink=../tmp:/var/tmp,chown=3",
        "--file=mode=0600,chown=7,/etc/app/key=a = 1, b = 2",
        "--file=/etc/empty=",
    ];
    let built = desk.layout(&[&items[..], &["--chmod=0640", "-t", "v1"]].concat()).success();
    assert_eq!(
        desk.lines("v1"),
        [
            "etc Directory 0755 0:0",
            "etc/app Directory 0755 0:0",
            "etc/app/key File 0600 7:7",
            "etc/empty File 0640 0:0",
            "tmp Directory 1777 0:0",
            "var Directory 0755 0:0",
            "var/lib Directory 0755 0:0",
            "var/lib/app Directory 0750 7:8",
            "var/tmp Symlink 0777 3:3",
        ]
    );
    let read = |path: &str| {
        run(ocibuild().current_dir(desk.scratch.path()).args(["cat", "./out:v1", path])).success().text().to_owned()
    };
    assert_eq!((read("/etc/app/key"), read("/etc/empty")), ("a = 1, b = 2".to_owned(), String::new()));
    // The bytes are the same on every machine, and in every release until CHANGELOG.md says something else.
    assert_eq!(built.text(), "sha256:464ac1daaea8c1dc640de5bb60668d06d6c7850c2003a5a82eb93c421bbdc046");
    let again = desk.layout(&[&items[..], &["--chmod=0640", "-t", "v1", "--jobs=1", "--no-cache"]].concat()).success();
    assert_eq!(again.text(), built.text());
}

#[test]
fn small_contents_that_follow_each_other_share_a_layer() {
    let desk = Desk::new();
    let items = ["--mkdir=/a", "--file=/b=", "--copy=app:/c", "--symlink=a:/d", "--remove=/a", "--mkdir=/e"];
    desk.layout(&[&items[..], &["-t", "v1"]].concat()).success();
    let expected = ["mkdir /a, file /b", "copy to /c", "symlink /d", "remove /a", "mkdir /e"];
    assert_eq!(desk.history("v1"), expected.map(|done| format!("ocibuild: {done}")));
    desk.layout(&["--mkdir=/a", "--layer=all", "--file=/b=", "--copy=app:/c", "--mkdir=/e", "-t", "v2"]).success();
    assert_eq!(desk.history("v2"), ["ocibuild: mkdir /a", "all"]);
    let planned = desk.layout(&["--mkdir=/a", "--file=/b=text", "--dry-run", "--format=json"]).success();
    let planned: Value = serde_json::from_str(planned.text()).unwrap();
    assert_eq!(planned["layers"][0]["createdBy"], "ocibuild: mkdir /a, file /b");
    assert_eq!((&planned["layers"][0]["entries"], &planned["layers"][0]["bytes"]), (&2.into(), &5.into()));
}

#[test]
fn a_directory_of_the_base_keeps_what_is_not_said() {
    let desk = Desk::new();
    desk.layout(&[
        "--mkdir=/data,mode=0700,chown=7:8",
        "--symlink=data:/link",
        "--symlink=nowhere:/lost",
        "-t",
        "base",
    ])
    .success();
    let made = |items: &[&str]| {
        desk.layout(&[items, &["--base=./out:base", "-t", "v1"]].concat()).success();
        desk.lines("v1").split_off(3)
    };
    assert_eq!(made(&["--mkdir=/data"]), ["data Directory 0700 7:8"]);
    assert_eq!(made(&["--mkdir=/data,mode=0750"]), ["data Directory 0750 7:8"]);
    assert_eq!(made(&["--mkdir=/link,chown=9"]), ["data Directory 0700 9:9"]);
    assert_eq!(made(&["--mkdir=/link/x"]), ["data Directory 0700 7:8", "data/x Directory 0755 0:0"]);
    assert_eq!(made(&["--mkdir=/lost,chown=9"]), ["nowhere Directory 0755 9:9"]);
    assert_eq!(
        made(&["--file=/link/f=x", "--symlink=f:/link/g"])[1..],
        ["data/f File 0644 0:0", "data/g Symlink 0777 0:0"]
    );
    // What is asked for by name holds whatever is copied, in either order.
    for order in [["--mkdir=/data,mode=1777", "--copy=app:/data"], ["--copy=app:/data", "--mkdir=/data,mode=1777"]] {
        assert_eq!(made(&["--layer=x", order[0], order[1]])[0], "data Directory 1777 7:8");
    }
}

#[test]
fn contents_that_do_not_fit_are_refused() {
    let desk = Desk::new();
    desk.layout(&["--mkdir=/data", "--file=/file=x", "-t", "base"]).success();
    for (arguments, status, reason) in [
        (&["--copy=app:/x,owner=5"][..], 2, "option `owner`: unknown (the options are chown=UID[:GID], keep-owners"),
        (&["--copy=app/main:/x,exclude=a"], 2, "is a file, on which `exclude` has no effect"),
        (&["--copy=app/main:/x,skip-special"], 2, "on which `skip-special` has no effect"),
        (&["--mkdir=/x,mode=0755", "--mkdir=/x,mode=0700"], 2, "/x: is made twice in one layer"),
        (&["--mkdir=/x", "--file=/x=y"], 1, "/x: is in both --file /x and --mkdir /x"),
        (&["--file=/x=", "--symlink=y:/x"], 1, "/x: is in both --file /x and --symlink /x"),
        (
            &["--symlink=x:/data"],
            1,
            "is a directory in a layer below; a file would hide its content (to replace it, first --remove",
        ),
        (&["--mkdir=/file,mode=0700"], 1, "/file: is a file in a layer below, which a directory would replace"),
        (&["--mkdir=/file/x"], 1, "/file: is a file in a layer below"),
        (&["--file=/k=password = Tr0ub4dor-and-3", "--secrets=deny"], 1, "1 secret in 1 file"),
    ] {
        let refused = desk.layout(&[arguments, &["--base=./out:base", "-t", "v1"]].concat());
        refused.ended_with(status).failed_saying(reason);
    }
}

/// A base with users, in an odd file.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment:\nnode:x:1000:1000:Node\\,js:/home/node:/bin/ash";
const GROUP: &str = "root:x:0:node\nshadow:x:42:\nnode:x:1000:\n";

impl Desk {
    /// A desk with the image `base`, which has users.
    fn with_users() -> Desk {
        let desk = Desk::new();
        desk.scratch.write("etc/passwd", PASSWD);
        desk.scratch.write("etc/group", GROUP);
        desk.layout(&["--copy=etc:/etc,chmod=0664,chown=0:42", "--mkdir=/home/node", "-t", "base"]).success();
        desk
    }

    #[track_caller]
    fn cat(&self, image: &str, path: &str) -> String {
        let finished = run(ocibuild().current_dir(self.scratch.path()).args(["cat", image, path])).success();
        String::from_utf8(finished.stdout).unwrap()
    }
}

#[test]
fn users_and_groups_join_those_of_the_base() {
    let desk = Desk::with_users();
    let items = ["--add-user=app:65532", "--add-group=staff:50", "--add-user=job:70:42:/srv/job", "--user=app"];
    let built = desk.layout(&[&items[..], &["--base=./out:base", "-t", "v1", "--chown=9", "--chmod=0600"]].concat());
    let built = built.success();
    assert!(!built.stderr.contains("warning"), "{built}");
    let added = "\napp:*:65532:65532::/home/app:/bin/sh\njob:*:70:42::/srv/job:/bin/sh\n";
    assert_eq!(desk.cat("./out:v1", "/etc/passwd"), format!("{PASSWD}{added}"));
    assert_eq!(desk.cat("./out:v1", "/etc/group"), format!("{GROUP}app:*:65532:\nstaff:*:50:\n"));
    assert_eq!(desk.history("v1").last().unwrap(), "ocibuild: add-user app, add-group staff, add-user job");
    assert_eq!(
        desk.lines("v1").split_off(5),
        [
            "etc Directory 0775 0:42",
            "etc/group File 0664 0:42",
            "etc/passwd File 0664 0:42",
            "home Directory 0755 0:0",
            "home/app Directory 0755 65532:65532",
            "srv Directory 0755 0:0",
            "srv/job Directory 0755 70:42",
        ]
    );
    // The same users again change nothing, and make no layer.
    desk.layout(&[&items[..3], &["--base=./out:v1", "-t", "v2"]].concat()).success();
    assert_eq!(desk.lines("v2"), desk.lines("v1"));
    assert_eq!(desk.history("v2"), desk.history("v1"));
}

#[test]
fn users_of_others_are_not_replaced() {
    let desk = Desk::with_users();
    desk.layout(&["--mkdir=/d", "--symlink=loop:/etc/passwd", "-t", "odd"]).success();
    for (arguments, status, reason) in [
        (&["--add-user=node:1001"][..], 1, "user node: is another user in the image: node:x:1000:1000:"),
        (&["--add-user=app:1000"], 1, "the number 1000 belongs to another user of the image: node"),
        (
            &["--add-user=app:42"],
            1,
            "the number 42 belongs to a group of the image: shadow:x:42: (--add-user app:42:42",
        ),
        (&["--add-group=app:42"], 1, "group app: the number 42 belongs to another group of the image"),
        (&["--add-user=a:5", "--add-user=b:5"], 1, "user b: the number 5 belongs to another user of the image: a:*:5"),
        (&["--add-user=a:5:5:/etc/passwd"], 1, "/etc/passwd: the home of a is not a directory in the layers below"),
        (&["--layer=x", "--add-user=a:5", "--copy=etc:/etc"], 1, "is in both --add-user a and etc to /etc"),
        (&["--add-user=app"], 2, "not of the form NAME:UID[:GID[:HOME]]"),
        (&["--add-user=5:5"], 2, "name `5`: not a letter"),
    ] {
        desk.layout(&[arguments, &["--base=./out:base", "-t", "v1"]].concat()).ended_with(status).failed_saying(reason);
    }
    let known = desk.layout(&["--add-user=other:7:7:/home/node", "--base=./out:base", "-t", "v1"]).success();
    assert!(known.stderr.contains("/home/node: is there and stays unchanged"), "{known}");
    desk.layout(&["--add-user=a:5", "--base=./out:odd", "-t", "v1"]).success();
    assert_eq!(desk.cat("./out:v1", "/etc/loop"), "a:*:5:5::/home/a:/bin/sh\n");
}

/// A time zone: one hour ahead, all year (RFC 8536).
pub(crate) fn zone() -> Vec<u8> {
    let mut block = b"TZif2".to_vec();
    block.extend([0; 15]);
    for count in [0_u32, 0, 0, 0, 1, 4] {
        block.extend(count.to_be_bytes());
    }
    block.extend(3600_i32.to_be_bytes());
    block.extend([0, 0]);
    block.extend(b"CET\0");
    [&block[..], &block, b"\nCET-1\n"].concat()
}

pub(crate) const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

#[test]
fn certificates_and_time_zones_come_from_a_path() {
    let desk = Desk::new();
    desk.scratch.write("authorities.pem", CERTIFICATE);
    for file in ["zones/UTC", "zones/Europe/Berlin", "zones/right/UTC"] {
        desk.scratch.write(file, zone());
    }
    let items = ["--ca-certificates=authorities.pem", "--timezones=zones", "--add-user=app:65532", "--chown=9"];
    let built = desk.layout(&[&items[..], &["--user=app", "-t", "v1"]].concat()).success();
    assert!(built.stderr.contains("excluded 1 path from --timezones: right/ (--timezones: right)"), "{built}");
    let history = ["ca-certificates", "timezones", "add-user app"].map(|done| format!("ocibuild: {done}"));
    assert_eq!(desk.history("v1"), history);
    assert_eq!(
        desk.lines("v1"),
        [
            "etc Directory 0755 0:0",
            "etc/ssl Directory 0755 0:0",
            "etc/ssl/certs Directory 0755 0:0",
            "etc/ssl/certs/ca-certificates.crt File 0644 0:0",
            "usr Directory 0755 0:0",
            "usr/share Directory 0755 0:0",
            "usr/share/zoneinfo Directory 0755 0:0",
            "usr/share/zoneinfo/Europe Directory 0755 0:0",
            "usr/share/zoneinfo/Europe/Berlin File 0644 0:0",
            "usr/share/zoneinfo/UTC File 0644 0:0",
            "etc Directory 0755 0:0",
            "etc/group File 0644 0:0",
            "etc/passwd File 0644 0:0",
            "home Directory 0755 0:0",
            "home/app Directory 0755 65532:65532",
        ]
    );
    assert_eq!(built.text(), "sha256:50be32421695b0ef614a551def859d03af1d7142b4f98f4ede73ada5baea80f2");
    desk.scratch
        .write("key.pem", format!("{CERTIFICATE}-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"));
    desk.scratch.write("empty.pem", "");
    desk.scratch.write("no-zones/UTC", "UTC");
    pack(&desk.scratch, "no-zones.tar", &["no-zones"], Packing::Tar).unwrap();
    for (argument, status, reason) in [
        ("--ca-certificates=key.pem", 1, "key.pem: has a private key, which must not be in an image"),
        ("--ca-certificates=empty.pem", 1, "empty.pem: has no PEM certificate"),
        ("--ca-certificates=missing.pem", 1, "missing.pem: not found"),
        ("--ca-certificates=", 2, "path: is empty"),
        ("--timezones=app", 1, "app: not a directory of time zones: it has no zone called UTC"),
        ("--timezones=no-zones", 1, "no-zones: not a directory of time zones"),
        ("--timezones=missing", 1, "missing: not found"),
        ("--timezones=key.pem", 1, "key.pem"),
        ("--timezones=no-zones.tar", 1, "no-zones.tar: no directory in it has a time zone called UTC"),
    ] {
        desk.layout(&[argument, "-t", "v2"]).ended_with(status).failed_saying(reason);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Packing {
    Tar,
    Zip,
}

/// Packs directories by `tar`, or by the zip of Python.
fn pack(scratch: &Scratch, archive: &str, directories: &[&str], packing: Packing) -> Option<()> {
    let mut packing = match packing {
        Packing::Tar => {
            let mut tar = command("tar");
            tar.args(["--sort=name", "-caf", archive]);
            tar
        }
        Packing::Zip => {
            let mut python = command(consumer("python3")?);
            python.args(["-m", "zipfile", "-c", archive]);
            python
        }
    };
    run(packing.current_dir(scratch.path()).args(directories)).success();
    Some(())
}

#[test]
fn time_zones_in_an_archive_are_those_of_the_same_directory() {
    let desk = Desk::new();
    let package = "package/usr/share/zoneinfo";
    for file in ["Etc/UTC", "Europe/Berlin", "posix/UTC", "right/UTC", "tzdata.zi"] {
        desk.scratch.write(format!("{package}/{file}"), zone());
    }
    symlink("Etc/UTC", desk.scratch.join(package).join("UTC")).unwrap();
    fs::hard_link(desk.scratch.join(package).join("Europe/Berlin"), desk.scratch.join(package).join("Europe/Vaduz"))
        .unwrap();
    desk.scratch.write("package/usr/share/doc/copyright", "public domain");
    let expected = desk.layout(&[&format!("--timezones={package}"), "-t", "v1"]).success();
    let lines = desk.lines("v1");
    assert!(lines.iter().any(|line| line.starts_with("usr/share/zoneinfo/UTC Symlink")), "{lines:?}");
    for (archive, packed) in [("zones.tar", "package"), ("zones.tar.gz", package), ("other.tgz", "package/usr/share")] {
        pack(&desk.scratch, archive, &[packed], Packing::Tar).unwrap();
        let built = desk.layout(&[&format!("--timezones={archive}"), "-t", "v2"]).success();
        let excluded = "excluded 1 path from --timezones: right/ (--timezones: right)";
        assert!(built.stderr.contains(excluded), "{built}");
        assert_eq!(desk.lines("v2"), lines, "{archive}");
        assert_eq!(desk.cat("./out:v2", "/usr/share/zoneinfo/Europe/Vaduz").len(), zone().len());
    }
    // A zip made by Python has the targets of links, not links.
    let Some(()) = pack(&desk.scratch, "zones.zip", &["package/usr"], Packing::Zip) else { return };
    let zipped = desk.layout(&["--timezones=zones.zip", "-t", "v3"]).success();
    let names =
        |lines: &[String]| lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&desk.lines("v3")), names(&lines));
    let again = desk.layout(&["--timezones=zones.zip", "-t", "v4"]).success();
    assert_eq!((again.text(), expected.text() == again.text()), (zipped.text(), false));
    let whole = fs::read(desk.scratch.join("zones.zip")).unwrap();
    desk.scratch.write("cut.zip", &whole[..whole.len() / 2]);
    desk.layout(&["--timezones=cut.zip", "-t", "v5"]).ended_with(1).failed_saying("cut.zip");
    let whole = fs::read(desk.scratch.join("zones.tar")).unwrap();
    desk.scratch.write("cut.tar", &whole[..1500]);
    desk.layout(&["--timezones=cut.tar", "-t", "v5"]).ended_with(1).failed_saying("cut.tar: malformed tar");
}

/// One command makes an image without a base that runs as a user of its own, with certificates and time zones.
#[test]
fn an_image_without_a_base_runs_as_a_user_with_certificates_and_time_zones() {
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let Some(busybox) = consumer("busybox") else { return };
    if !bundle.exists() || !Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
        not_proven("certificates and time zones of this machine: it has none");
        return;
    }
    let desk = Desk::new();
    let copy = format!("{}:/bin/busybox", busybox.display());
    let items = ["--add-user=app:65532", "--ca-certificates", "--timezones", "--mkdir=/tmp,mode=1777", "--copy", &copy];
    let rest = ["--user=app", "--entrypoint=/bin/busybox", "--save=app.tar", "-t", "app:v1"];
    desk.layout(&[&items[..], &rest].concat()).success();
    let archive = desk.scratch.join("app.tar");
    if let Some(podman) = Podman::find() {
        let image = podman.load(&archive);
        check_running(&|script| podman.run(&image, &["sh", "-c", script]), bundle);
    }
    if let Some(docker) = Docker::find() {
        let image = docker.load(&archive);
        check_running(&|script| docker.run(&image, &["sh", "-c", script]), bundle);
    }
}

/// Runs scripts in a container of the image.
fn check_running(script: &dyn Fn(&str) -> Finished, bundle: &Path) {
    let shell = |text: &str| script(text).success().text().to_owned();
    assert_eq!(shell("busybox id -un; busybox id -u; echo $HOME"), "app\n65532\n/home/app");
    assert_eq!(shell("TZ=Europe/Berlin busybox date -d @1720000000 +%H:%M"), "11:46");
    let written =
        shell("echo x >/tmp/x && echo x >$HOME/x && busybox cat /tmp/x $HOME/x; echo x >/etc/x || echo refused");
    assert_eq!(written, "x\nx\nrefused");
    let sums = shell("busybox sha256sum /etc/ssl/certs/ca-certificates.crt");
    assert_eq!(sums.split(' ').next(), Digest::of(&fs::read(bundle).unwrap()).to_string().strip_prefix("sha256:"));
}
