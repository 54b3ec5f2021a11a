"""The rows of the comparison: who meets whom, and what is aimed at."""

import dataclasses
import shutil
import subprocess
import sys
import time
import typing

from . import peers
from .measure import Failed, call
from .own import Maker, Own, OwnRobot
from .program import Program
from .recording import Recording


@dataclasses.dataclass
class Row:
    """One of our programs beside a peer, and the highest ratios of its figures that we want."""

    number: str
    ours: Program
    targets: dict = dataclasses.field(default_factory=dict)
    # Where it is not the peer of the group.
    theirs: Program | None = None


@dataclasses.dataclass
class Group:
    """A peer, and the rows in which it is met. In each round every program of the group runs, one after the other."""

    peer: str
    make: typing.Callable[[], tuple[Program, list[Row]]]
    # The directories that the programs read. They are in memory when a program begins.
    inputs: list

    def run(self, rounds):
        """Which programs meet in which row, what each of them did, and why some did nothing."""
        try:
            say(f"{self.peer}: preparing")
            peer, rows = self.make()
        except Failed as error:
            return {"peer": self.peer, "rows": [], "programs": {}, "not run": {self.peer: reason(self.peer, error)}}
        rows = [dataclasses.replace(row, theirs=row.theirs or peer) for row in rows]
        # A peer that is met in several rows runs once in a round, right after the program of the first of them.
        programs = {program.name: program for row in rows for program in (row.ours, row.theirs)}
        runs, not_run = self.measure(programs, rounds)
        return {
            "peer": self.peer,
            "rows": [{"row": row.number, "ours": row.ours.name, "theirs": row.theirs.name, "targets": row.targets} for row in rows],
            "programs": {name: {"version": programs[name].version, "command": list(map(str, programs[name].command)), "rounds": done}
                         for name, done in runs.items()},
            "not run": not_run,
        }

    def measure(self, programs, rounds):
        runs, not_run = {name: [] for name in programs}, {}
        for number in range(-1, rounds):
            for name in list(runs):
                try:
                    if number < 0:
                        programs[name].begin()
                    else:
                        say(f"{self.peer}: round {number + 1} of {rounds}: {name}")
                        warm(self.inputs)
                        runs[name].append(programs[name].round(number))
                except Failed as error:
                    not_run[name] = reason(name, error)
                    del runs[name]
        return runs, not_run


# What a build is called that several peers meet.
DEFAULT, LEVEL_1, ZSTD_3 = "first build", "first build, level 1", "first build, zstd 3"
ROBOT_LEVEL_1, ROBOT_REUSED = "environment for the first time, level 1", "environment for the first time, rcc's gzip reused"
ROBOT_AGAIN = "environment seen before, new code"


def groups(scratch, maker, tree, base, files):
    """Those of other programs. What takes time to prepare is prepared when its turn comes."""
    own = Own(scratch, maker, tree, base)

    def umoci():
        return peers.umoci(scratch, tree, base), [
            Row("1", own.first(DEFAULT), {"wall": 0.62, "layer": 0.96}),
            Row("2", own.first(LEVEL_1, "--compression-level", "1"), {"wall": 0.50, "layer": 1.03}),
            Row("5", own.unchanged(), {"wall": 0.006}),
            Row("6", own.one_file_changed(), {"wall": 0.06}),
        ]

    def crane():
        return peers.crane(scratch, tree), [Row("3", own.first(LEVEL_1, "--compression-level", "1"), {"wall": 0.28})]

    def ocidir():
        return peers.ocidir(scratch, tree), [Row("4", own.first(ZSTD_3, "--compression", "zstd"), {"wall": 0.95})]

    def rcc():
        recordings = [Recording(scratch / name, size) for name, size in (("robot", files), ("small-robot", files // 10))]
        robot, small = (OwnRobot(recording.scratch, maker, recording) for recording in recordings)
        seen = robot.new_code(ROBOT_AGAIN)
        return peers.rcc(scratch, recordings[0]), [
            Row("7", robot.first(ROBOT_LEVEL_1, "--compression-level", "1"), {"wall": 0.15}),
            Row("7", robot.first(ROBOT_REUSED, "--compression", "reuse"), {"wall": 0.15}),
            Row("8", seen, {"wall": 0.005}),
            Row("8", seen, theirs=small.new_code("ocibuild: a tenth of that environment")),
        ]

    def mise():
        return peers.mise(scratch, tree), [Row("10", own.first(DEFAULT), {"wall": 0.28, "layer": 0.99, "memory": 0.05})]

    def buildah():
        return peers.buildah(scratch, tree), [Row("", own.first(DEFAULT))]

    robots = [scratch / "robot", scratch / "small-robot"]
    return {"umoci": Group("umoci insert", umoci, [tree]), "crane": Group("tar and crane append", crane, [tree]),
            "ocidir": Group("ocidir", ocidir, [tree]), "rcc": Group("real rcc", rcc, robots),
            "mise": Group("mise oci build", mise, [tree]), "buildah": Group("buildah", buildah, [tree])}


def beside_earlier(scratch, maker, program, tree, base, files):
    """The rows in which this program is to be as fast as an earlier one. Each has its own copy of the tree, which it changes."""

    def make():
        before = Maker(call(program, "--version"), program, ", the earlier program")
        trees, robots = scratch / "earlier", scratch / "earlier-robot"
        robots.mkdir()
        shutil.copytree(tree, trees / "tree", symlinks=True)
        recording = Recording(scratch / "robot", files)
        sides = [(Own(scratch, maker, tree, base), OwnRobot(recording.scratch, maker, recording)),
                 (Own(trees, before, trees / "tree", base), OwnRobot(robots, before, recording))]
        kinds = [
            ("1", lambda own, _: own.first(DEFAULT)),
            ("2", lambda own, _: own.first(LEVEL_1, "--compression-level", "1")),
            ("4", lambda own, _: own.first(ZSTD_3, "--compression", "zstd")),
            ("5", lambda own, _: own.unchanged()),
            ("6", lambda own, _: own.one_file_changed()),
            ("7", lambda _, robot: robot.first(ROBOT_LEVEL_1, "--compression-level", "1")),
            ("7", lambda _, robot: robot.first(ROBOT_REUSED, "--compression", "reuse")),
            ("8", lambda _, robot: robot.new_code(ROBOT_AGAIN)),
        ]
        rows = [Row(number, build(*sides[0]), {"wall": 1.02}, build(*sides[1])) for number, build in kinds]
        return rows[0].theirs, rows

    return Group("an earlier program", make, [tree, scratch / "earlier/tree", scratch / "robot"])


def warm(directories):
    """Reads all files, which the system may have dropped from its memory in the meantime."""
    for directory in directories:
        subprocess.run(["sh", "-c", 'tar --create --directory "$0" . | cat >/dev/null', directory], check=True)


def reason(name, error):
    say(f"NOT RUN: {name}: {error}")
    return str(error)


def say(message):
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)
