"""A robot and its environment, recorded by the real rcc without a network, for measurements.

The environment holds a copy of this machine's Python, so that the robot runs, and as many generated files as are wanted.
"""

import os
import shutil
import sys

from . import PROGRAM, ROOT, fetch, trees
from .measure import call

# What rcc asks of micromamba: a version, a directory filled, a list, an activation.
STAND_IN = """#!/bin/sh
prefix=; command=; previous=
for argument in "$@"; do
  case "$argument" in
  --version) echo 2.9.9; exit 0 ;;
  create|list|shell) [ -n "$command" ] || command=$argument ;;
  esac
  case "$previous" in -p|--prefix) prefix=$argument ;; esac
  previous=$argument
done
case "$command" in
create) mkdir -p "$prefix" && cp -a "@TREE@/." "$prefix/" ;;
list) echo '[]' ;;
shell) echo "export LD_LIBRARY_PATH=$prefix/lib/machine" ;;
esac
"""


class Recording:
    """A user's home in `scratch` with the recorded environment, the robot in `robot`, and a base image in `base`."""

    def __init__(self, scratch, files):
        self.rcc, self.scratch = fetch.rcc(), scratch
        self.home, self.robot, self.base = scratch / "home", scratch / "robot", scratch / "base"
        tree, root = scratch / "tree", scratch / "root"
        busybox = fetch.installed("busybox")
        (root / "bin").mkdir(parents=True)
        shutil.copy(busybox, root / "bin/busybox")
        for name in ("sh", "true"):
            (root / "bin" / name).symlink_to("busybox")
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        call(python, ROOT / "tests/rcc/images/python.py", tree, root)
        trees.write_tree(tree / "lib/generated", files)
        call(PROGRAM, "layout", self.base, "--copy", f"{root}:/", "--preserve-modes", "--quiet", "--no-cache")
        self.robot.mkdir()
        (self.robot / "robot.yaml").write_text(
            "tasks:\n  greet:\n    shell: python greet.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\n")
        (self.robot / "conda.yaml").write_text("channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n")
        (self.robot / "greet.py").write_text("print('hello')\n")
        product = self.home / ".robocorp"
        micromamba = product / "micromamba/v1.5.11_/micromamba"
        micromamba.parent.mkdir(parents=True)
        micromamba.write_text(STAND_IN.replace("@TREE@", str(tree)))
        micromamba.chmod(0o755)
        (product / "rcc.yaml").write_text(
            "tracking:\n  consent: false\n  identity: 00000000-0000-0000-0000-000000000000\n")
        self.hololib, self.spaces = product / "hololib", product / "holotree"
        self.restore("user")
        shutil.rmtree(tree)

    def restore_command(self, space):
        """What makes rcc restore the environment into a space."""
        return ["unshare", "-n", self.rcc, "holotree", "variables", "--robot", self.robot / "robot.yaml",
                "--space", space, "--bundled"]

    def restore(self, space):
        call(*self.restore_command(space), cwd=self.home, env=self.environment())

    def environment(self):
        return {"HOME": str(self.home), "USER": "robot", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}

    def build_arguments(self, output, mode, *more):
        """The arguments with which ocibuild builds the robot's image in this mode."""
        return ["layout", output, "--robot", self.robot, "--environment", mode, "--rcc-exec", self.rcc,
                "--base", f"oci:{self.base}", "--quiet", *more]

    def facts(self):
        """How large the environment is."""
        paths = [path for path in self.spaces.glob("*_*_*/**/*") if path.is_file() and not path.is_symlink()]
        objects = sum(1 for path in (self.hololib / "library").rglob("*") if path.is_file())
        return {"files": len(paths), "bytes": sum(path.stat().st_size for path in paths), "objects": objects}
