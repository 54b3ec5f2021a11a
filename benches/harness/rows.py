"""The rows of the comparison: who meets whom, and what is aimed at."""

import dataclasses
import sys
import time
import typing

from . import peers
from .measure import Failed
from .own import Own, OwnRobot
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
                        runs[name].append(programs[name].round(number))
                except Failed as error:
                    not_run[name] = reason(name, error)
                    del runs[name]
        return runs, not_run


def groups(scratch, version, tree, base, files):
    """All of them. What takes time to prepare is prepared when its turn comes."""
    own = Own(scratch, version, tree, base)
    default, level_1 = "first build", "first build, level 1"

    def umoci():
        return peers.umoci(scratch, tree, base), [
            Row("1", own.first(default), {"wall": 0.62, "layer": 0.96}),
            Row("2", own.first(level_1, "--compression-level", "1"), {"wall": 0.50, "layer": 1.03}),
            Row("5", own.unchanged(), {"wall": 0.006}),
            Row("6", own.one_file_changed(), {"wall": 0.06}),
        ]

    def crane():
        return peers.crane(scratch, tree), [Row("3", own.first(level_1, "--compression-level", "1"), {"wall": 0.28})]

    def ocidir():
        return peers.ocidir(scratch, tree), [Row("4", own.first("first build, zstd 3", "--compression", "zstd"), {"wall": 0.95})]

    def rcc():
        recordings = [Recording(scratch / name, size) for name, size in (("robot", files), ("small-robot", files // 10))]
        robot, small = (OwnRobot(version, recording) for recording in recordings)
        seen = robot.new_code("environment seen before, new code")
        return peers.rcc(scratch, recordings[0]), [
            Row("7", robot.first("environment for the first time, level 1", "--compression-level", "1"), {"wall": 0.15}),
            Row("7", robot.first("environment for the first time, rcc's gzip reused", "--compression", "reuse"), {"wall": 0.15}),
            Row("8", seen, {"wall": 0.005}),
            Row("8", seen, theirs=small.new_code("ocibuild: a tenth of that environment")),
        ]

    def mise():
        return peers.mise(scratch, tree), [Row("10", own.first(default), {"wall": 0.28, "layer": 0.99, "memory": 0.05})]

    def buildah():
        return peers.buildah(scratch, tree), [Row("", own.first(default))]

    return {"umoci": Group("umoci insert", umoci), "crane": Group("tar and crane append", crane), "ocidir": Group("ocidir", ocidir),
            "rcc": Group("real rcc", rcc), "mise": Group("mise oci build", mise), "buildah": Group("buildah", buildah)}


def reason(name, error):
    say(f"NOT RUN: {name}: {error}")
    return str(error)


def say(message):
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)
