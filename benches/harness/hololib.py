"""A robot whose environment has very many small files, as rcc records one."""

import gzip
import hashlib
import json

# What rcc computes of CONDA.
BLUEPRINT = "5f74d1b6dace1dfc"
CONDA = "channels: [conda-forge]\ndependencies: [python=3.11.7]\n"
IDENTITY = "hdc4d952_493f813dad24d3t"
# As much of a static program for x86-64 as is looked at: e_type, e_machine, e_phentsize (elf(5)).
PROGRAM = bytearray(b"\x7fELF\x02\x01\x01".ljust(64, b"\0"))
PROGRAM[16], PROGRAM[18], PROGRAM[54] = 2, 62, 56


class Hololib:
    """A hololib, a robot, and what is taken for its rcc, in `directory`. Each of the files is another one."""

    def __init__(self, directory, count):
        self.directory, self.made = directory, set()
        packages, tree = max(count // 500, 1), folder("")
        lists = [[] for _ in range(packages)]
        for number in range(count):
            # The first packages are large, the last ones small.
            package = number * number * packages // (count * count)
            path = f"lib/python3.11/site-packages/package_{package}/part_{number % 17}/module_{number}.py"
            self.add(tree, path, f"# {number}\nA line\n")
            lists[package].append(path)
        for package, files in enumerate(lists):
            document = {"name": f"package-{package}", "version": "1.0", "files": files}
            self.add(tree, f"conda-meta/package-{package}-1.0-0.json", json.dumps(document))
        self.add(tree, "identity.yaml", CONDA)
        catalog = {"rcc": "v19.0.2", "identity": IDENTITY, "path": f"/home/robot/.robocorp/holotree/{IDENTITY}", "controller": "",
                   "space": "", "platform": "linux_amd64", "blueprint": BLUEPRINT, "lifted": True, "tree": tree}
        self.write(f"hololib/catalog/{BLUEPRINT}v12.linux_amd64", gzip.compress(json.dumps(catalog, indent=1).encode(), 1))
        self.write("robot/robot.yaml", b"tasks: {greet: {shell: python}}\nartifactsDir: output\ncondaConfigFile: conda.yaml\n")
        self.write("robot/conda.yaml", CONDA.encode())
        self.write("rcc", PROGRAM)

    def arguments(self, mode):
        """What a build takes to ship the environment in this mode."""
        return ["--base", "scratch", "--robot", self.directory / "robot", "--environment", mode, "--catalog", BLUEPRINT,
                "--hololib", self.directory / "hololib", "--rcc-exec", self.directory / "rcc", "--compression-level", "1"]

    def add(self, tree, path, content):
        """Keeps a file in the library, and names it in the catalog."""
        content = content.encode()
        digest = hashlib.sha256(content).hexdigest()
        self.write(f"hololib/library/{digest[:2]}/{digest[2:4]}/{digest[4:6]}/{digest}", gzip.compress(content, 1, mtime=0))
        *folders, name = path.split("/")
        for above in folders:
            tree = tree["subdirs"].setdefault(above, folder(above))
        tree["files"][name] = {"name": name, "size": len(content), "mode": 0o644, "digest": digest, "rewrite": []}

    def write(self, path, content):
        path = self.directory / path
        if path.parent not in self.made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.made.add(path.parent)
        path.write_bytes(content)


def folder(name):
    return {"name": name, "mode": 1 << 31 | 0o755, "subdirs": {}, "files": {}}
