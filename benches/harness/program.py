"""One side of a comparison."""

import dataclasses
import json
import os
import pathlib
import shutil
import tarfile
import tempfile
import typing

from .measure import measure


@dataclasses.dataclass
class Program:
    """A command, what it writes, and what has to be as it should before it is timed."""

    name: str
    version: str
    command: list
    output: pathlib.Path
    # Once, before the first run.
    begin: typing.Callable[[], None] = lambda: None
    # Before each run, with its number.
    prepare: typing.Callable[[int], None] = lambda number: None
    # A round has so many runs, of which the median counts.
    turns: int = 1
    directory: pathlib.Path | None = None
    environment: dict | None = None

    def round(self, number):
        """The figures of every run of a round."""
        runs = []
        for turn in range(self.turns):
            self.prepare(number * self.turns + turn)
            # What another one wrote must not be paid for by this one.
            os.sync()
            runs.append(measure(self.command, self.directory, self.environment) | written(self.output))
        return runs


def written(output):
    """The size of the largest layer in bytes, and the digest of the image where it has one."""
    if output.is_dir():
        digest = json.loads((output / "index.json").read_text())["manifests"][-1]["digest"]
        manifest = json.loads((output / "blobs" / digest.replace(":", "/")).read_text())
        return {"layer": max(layer["size"] for layer in manifest["layers"]), "digest": digest}
    if output.suffix == ".tar":
        with tarfile.open(output) as archive:
            return {"layer": max(member.size for member in archive)}
    return {"layer": output.stat().st_size}


def set_aside(scratch, *paths):
    """Moves directories of many files out of the way, where they stay until `scratch` is deleted.

    Before ext4 takes an inode for a new file, it skips those that were deleted in the last minute, one by one (recently_deleted in
    fs/ext4/ialloc.c). So whoever makes many files next would pay for their removal: rcc half as much again.
    """
    (scratch / "set-aside").mkdir(exist_ok=True)
    for path in paths:
        if path.exists():
            path.rename(tempfile.mkdtemp(dir=scratch / "set-aside") + f"/{path.name}")


def remove(*paths):
    for path in paths:
        path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
