"""ocibuild's side of the comparisons. Every build has a cache, as it has for everybody who says nothing of one."""

import dataclasses
import pathlib
import time

from . import PROGRAM
from .program import Program, remove

# A file that was changed within two seconds of the look at it is not believed by its time, but read again.
SETTLED = 2.1


@dataclasses.dataclass
class Maker:
    """Which ocibuild makes the images, and what is said of it behind the title of a row."""

    version: str
    program: pathlib.Path = PROGRAM
    remark: str = ""

    def make(self, title, command, output, **more):
        return Program(title + self.remark, self.version, [self.program, *command], output, **more)


class Own:
    """The commands of ocibuild on one tree."""

    def __init__(self, scratch, maker, tree, base):
        self.scratch, self.maker, self.tree, self.base = scratch, maker, tree, base

    def first(self, title, *words):
        """A first build: no layout yet, and nothing in the cache."""
        command, output, cache = self.command("first", *words)
        return self.maker.make(title, command, output, prepare=lambda _: remove(output, cache))

    def unchanged(self):
        """The same command again."""
        return self.again("unchanged", turns=3)

    def one_file_changed(self):
        """The same command after one of three files has grown by a line: the first, one in the middle, and a late one."""
        def edit(number):
            files = sorted(path for path in self.tree.rglob("*.py") if not path.is_symlink())
            place = (0, len(files) // 2, len(files) * 19 // 20)[number % 3]
            with open(files[place], "a") as file:
                file.write(f"# changed {number}\n")
            time.sleep(SETTLED)

        return self.again("one file changed", prepare=edit, turns=3)

    def again(self, title, **more):
        command, output, cache = self.command("again")

        def begin():
            if not output.exists():
                remove(cache)
                time.sleep(SETTLED)
                self.maker.make(title, command, output).round(0)

        return self.maker.make(title, command, output, begin=begin, **more)

    def command(self, place, *words):
        output, cache = self.scratch / f"{place}-layout", self.scratch / f"{place}-cache"
        command = ["layout", output, "--base", f"oci:{self.base}", "--copy", f"{self.tree}:/env", "--quiet",
                   "--cache-dir", cache, *words]
        return command, output, cache


class OwnRobot:
    """The commands of ocibuild for one robot, whose environment is in a hololib."""

    def __init__(self, scratch, maker, recording):
        self.scratch, self.maker, self.recording = scratch, maker, recording

    def first(self, title, *words):
        """An environment that no build has seen."""
        command, output, cache = self.command("first", *words)
        return self.program(title, command, output, prepare=lambda _: remove(output, cache))

    def new_code(self, title):
        """An environment that was built before, and a robot that has changed since."""
        command, output, cache = self.command("again")

        def begin():
            remove(output, cache)
            self.program(title, command, output).round(0)

        def edit(number):
            (self.recording.robot / "greet.py").write_text(f"print('hello', {number})\n")

        return self.program(title, command, output, begin=begin, prepare=edit, turns=3)

    def command(self, place, *words):
        output, cache = self.scratch / f"{place}-layout", self.scratch / f"{place}-cache"
        return self.recording.build_arguments(output, "ready", "--cache-dir", cache, *words), output, cache

    def program(self, title, command, output, **more):
        return self.maker.make(title, command, output, environment=self.recording.environment(), **more)
