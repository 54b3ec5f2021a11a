"""The programs that ocibuild is compared with: how each makes an image of a tree."""

import os
import shutil

from . import fetch
from .measure import call
from .program import Program, remove, set_aside


def umoci(scratch, tree, base):
    """The fastest peer that is widely packaged: gzip on all cores."""
    output = scratch / "umoci"

    def prepare(_):
        remove(output)
        shutil.copytree(base, output)

    version = call(fetch.installed("umoci"), "--version")
    command = ["umoci", "insert", "--image", f"{output}:latest", tree, "/env"]
    return Program("umoci insert", version, command, output, prepare=prepare)


def crane(scratch, tree):
    """What is scripted most often: a tar, and go-containerregistry to make a layer of it."""
    unpacked, version = fetch.debian_testing("crane")
    tar, output = scratch / "crane-layer.tar", scratch / "crane.tar"
    script = 'tar --create --file "$1" --directory "$2" . && "$3" append --oci-empty-base --new_layer "$1" --new_tag env:v1 --output "$4"'
    command = ["sh", "-c", script, "sh", tar, tree, unpacked / "usr/bin/crane", output]
    return Program("tar and crane append", f"crane {version}", command, output, prepare=lambda _: remove(tar, output))


def ocidir(scratch, tree):
    """The hardest peer of all: the threads of zstd itself behind a thin writer."""
    program, version = fetch.cargo("ocidir")
    output = scratch / "ocidir"
    name = "ocidir, zstd 3, 2 workers"
    return Program(name, f"ocidir {version}", [program, tree, output], output, prepare=lambda _: remove(output))


def buildah(scratch, tree):
    """The way of those who have buildah and no Dockerfile."""
    version = call(fetch.installed("buildah"), "--version")
    output, storage = scratch / "buildah", scratch / "buildah-storage"
    own = f"buildah --root {storage}/root --runroot {storage}/run --storage-driver overlay"
    script = (f'container=$({own} from scratch) && {own} add --quiet "$container" "$0" /env && '
              f'{own} commit --quiet --disable-compression=false "$container" oci:"$1":latest')

    def prepare(_):
        # Containers of earlier runs stay: see set_aside.
        remove(output)

    command = ["sh", "-c", script, tree, output]
    return Program("buildah from, add, commit", version, command, output, prepare=prepare)


def mise(scratch, tree):
    """The nearest rival in Rust."""
    program = fetch.npm("@jdxcode/mise", "mise")
    home, project, output = scratch / "mise-home", scratch / "mise-project", scratch / "mise"
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "MISE_EXPERIMENTAL": "1"}

    def prepare(_):
        remove(home, project, output)
        home.mkdir()
        project.mkdir()
        (project / "mise.toml").touch()

    prepare(0)
    version = call(program, "--version", env=environment, cwd=project).splitlines()[-1]
    command = ["unshare", "--net", program, "oci", "build", "--from", "scratch", "--no-mise", "--copy", f"{tree}:/env", "--output", output]
    return Program("mise oci build", f"mise {version}", command, output, prepare=prepare, directory=project, environment=environment)


def rcc(scratch, recording):
    """What there was before: the environment restored, and packed."""
    output = scratch / "space.tar.gz"
    script = '"$@" >/dev/null 2>&1 && tar --create --directory "$SPACES" . | gzip -1 >"$OUTPUT"'
    environment = recording.environment() | {"SPACES": str(recording.spaces), "OUTPUT": str(output)}

    def prepare(_):
        remove(output)
        set_aside(scratch, *recording.spaces.iterdir())

    version = call(recording.rcc, "version", env=recording.environment())
    command = ["sh", "-c", script, "sh", *recording.restore_command("user")]
    return Program("rcc restores, tar and gzip -1 pack", f"rcc {version}", command, output, prepare=prepare,
                   directory=recording.home, environment=environment)
