//! Base images as users have them: made by umoci, buildah, skopeo, podman, docker and debootstrap, none of them by us.

use crate::consumers::{Buildah, Docker, Layout, Podman, Settings, Skopeo, Umoci};
use crate::support::debian::debootstrap;
use crate::support::kept::kept;
use crate::support::{Scratch, command, consumer, run};
use std::path::{Path, PathBuf};

/// Makes a root directory of busybox and links to it: 2 MB.
pub(crate) fn busybox_root(directory: &Path) -> Option<()> {
    let busybox = consumer("busybox")?;
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(directory.join("tmp")).unwrap();
    std::fs::copy(busybox, bin.join("busybox")).unwrap();
    for applet in ["cat", "echo", "env", "id", "ls", "sh", "sha256sum", "sleep", "stat", "touch"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    Some(())
}

/// A busybox image made by umoci: one gzip layer, and a manifest without a media type.
pub(crate) fn busybox_by_umoci(scratch: &Scratch, settings: &Settings<'_>) -> Option<Layout> {
    let umoci = Umoci::find()?;
    let (root, tar) = (scratch.join("busybox-root"), scratch.join("busybox.tar"));
    busybox_root(&root)?;
    pack(&root, &tar, &[]);
    let layout = Layout::new(scratch.join("busybox-by-umoci"), "busybox");
    umoci.create(&layout);
    umoci.add_layer(&layout, &tar);
    umoci.configure(&layout, settings);
    Some(layout)
}

/// A busybox image made by buildah: one uncompressed layer, and annotations without a value.
pub(crate) fn busybox_by_buildah(scratch: &Scratch) -> Option<Layout> {
    let buildah = Buildah::find()?;
    let root = scratch.join("buildah-root");
    busybox_root(&root)?;
    let layout = Layout::new(scratch.join("busybox-by-buildah"), "busybox");
    buildah.image_of(&root, "sh", &layout);
    Some(layout)
}

/// `image` with its layers compressed by zstd, by skopeo.
pub(crate) fn with_zstd(scratch: &Scratch, image: &Layout) -> Option<Layout> {
    let layout = Layout::new(scratch.join("zstd"), &image.tag);
    Skopeo::find()?.to_zstd(image, &layout);
    Some(layout)
}

/// `image` as an oci-archive, by skopeo.
pub(crate) fn oci_archive(scratch: &Scratch, image: &Layout) -> Option<PathBuf> {
    let archive = scratch.join("oci-archive.tar");
    let destination = format!("oci-archive:{}:{}", archive.display(), image.tag);
    Skopeo::find()?.copy(&[], &image.location(), &destination).success();
    Some(archive)
}

/// `image` as a docker-archive that names it `name`, by skopeo.
pub(crate) fn docker_archive(scratch: &Scratch, image: &Layout, name: &str) -> Option<PathBuf> {
    let archive = scratch.join("docker-archive.tar");
    let destination = format!("docker-archive:{}:{name}", archive.display());
    Skopeo::find()?.copy(&[], &image.location(), &destination).success();
    Some(archive)
}

/// `image` as Docker saves since version 25: one tar that is an OCI layout and a docker-archive, and names the image `name`
/// to readers of either.
pub(crate) fn dual_archive(scratch: &Scratch, image: &Layout, name: &str) -> PathBuf {
    let (directory, archive) = (scratch.join("dual"), scratch.join("dual.tar"));
    run(command("cp").arg("-r").args([&image.path, &directory])).success();
    let mut index = image.index();
    index["manifests"][0]["annotations"]["io.containerd.image.name"] = name.into();
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    let path = |digest: &serde_json::Value| format!("blobs/{}", digest.as_str().unwrap().replacen(':', "/", 1));
    let layers: Vec<String> = image.layers().iter().map(|layer| path(&layer["digest"])).collect();
    let config = path(&image.manifest()["config"]["digest"]);
    let manifest = serde_json::json!([{ "Config": config, "RepoTags": [name], "Layers": layers }]);
    std::fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    pack(&directory, &archive, &[]);
    archive
}

/// What `docker save` makes of an archive.
pub(crate) fn saved_by_docker(scratch: &Scratch, archive: &Path, name: &str) -> Option<PathBuf> {
    let docker = Docker::find()?;
    let saved = scratch.join("saved-by-docker.tar");
    docker.tag(&docker.load(archive), name);
    docker.save(name, &saved);
    Some(saved)
}

/// What `podman save` makes of an archive.
pub(crate) fn saved_by_podman(scratch: &Scratch, archive: &Path) -> Option<PathBuf> {
    let podman = Podman::find()?;
    let saved = scratch.join("saved-by-podman.tar");
    podman.save(&podman.load(archive), &saved);
    Some(saved)
}

/// A Debian with Python, by debootstrap and umoci: 6,700 files, 50 MB compressed.
pub(crate) fn debian() -> Option<Layout> {
    let path = kept("debian-bookworm-1", |scratch| {
        let (root, tar) = (scratch.join("root"), scratch.join("debian.tar"));
        let umoci = Umoci::find()?;
        debootstrap("bookworm", &["python3-minimal"], &root)?.success();
        pack(&root, &tar, &["./dev/*", "./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./var/log/*"]);
        let layout = Layout::new(scratch.join("debian"), "debian");
        umoci.create(&layout);
        umoci.add_layer(&layout, &tar);
        umoci.configure(&layout, &Settings { entrypoint: &[], cmd: &["/bin/sh"] });
        Some(layout.path)
    })?;
    Some(Layout::new(path, "debian"))
}

/// Packs `directory` with GNU tar.
pub(crate) fn pack(directory: &Path, tar: &Path, without: &[&str]) {
    let mut pack = command("tar");
    pack.args(["--create", "--sort=name", "--numeric-owner", "--owner=0", "--group=0", "--mtime=@0"]);
    pack.args(without.iter().map(|pattern| format!("--exclude={pattern}")));
    run(pack.arg("--file").arg(tar).arg("--directory").arg(directory).arg(".")).success();
}

/// A directory with every kind of entry that a tar supports, except for devices.
pub(crate) fn strange_tree(scratch: &Scratch) -> PathBuf {
    let make = "
        set -e
        mkdir -p 'tree/sticky' \"tree/$(printf 'n%.0s' $(seq 120))/$(printf 'm%.0s' $(seq 200))\"
        cd tree
        printf 'hello' > plain
        ln plain 'z another name of it'
        ln -s 'x -> y' 'link -> with arrow'
        ln -s \"$(printf 'l%.0s' $(seq 150))\" long-link
        printf x > \"$(printf 'quote\" newline\\n tab\\t back\\\\slash bell\\a')\"
        printf x > \"$(printf 'not UTF-8: \\377\\200')\"
        printf x > grüße
        mkfifo pipe
        printf x > suid; chmod 4711 suid
        printf x > mode-zero; chmod 0000 mode-zero
        printf x > strange; chmod 7644 strange
        chmod 1777 sticky
        touch -d '2242-03-16 12:56:32 UTC' future
        truncate -s 3M large
    ";
    run(command("bash").args(["-c", make]).current_dir(scratch.path())).success();
    scratch.join("tree")
}
