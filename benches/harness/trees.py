"""Trees to put into images: from a seed, or wheels."""

import itertools
import math
import os
import random
import sys

from .measure import call

# Packages whose wheels make a usual environment of data and browser robots.
WHEELS = ("numpy", "pandas", "scipy", "scikit-learn", "matplotlib", "pyarrow", "playwright", "sympy", "plotly", "jupyterlab",
          "django", "botocore", "opencv-python-headless", "notebook", "nltk")

# Two environments: what both have, and what they have in other versions.
IN_BOTH = ("scipy==1.14.1", "matplotlib==3.9.2", "pyarrow==17.0.0", "playwright==1.47.0", "sympy==1.13.2", "django==5.1.1",
           "opencv-python-headless==4.10.0.84", "notebook==7.2.2", "nltk==3.9.1", "pillow==10.4.0", "lxml==5.3.0", "sqlalchemy==2.0.35",
           "cryptography==43.0.1", "babel==2.16.0")
ONLY_FIRST = ("numpy==2.1.1", "pandas==2.2.2", "scikit-learn==1.5.1", "plotly==5.23.0", "jupyterlab==4.2.4", "botocore==1.35.10",
              "boto3==1.35.10", "pydantic-core==2.23.3")
ONLY_SECOND = ("numpy==2.1.3", "pandas==2.2.3", "scikit-learn==1.5.2", "plotly==5.24.1", "jupyterlab==4.2.5", "botocore==1.35.30",
               "boto3==1.35.30", "pydantic-core==2.23.4")


def install_versions(first, second):
    """Fills two directories with environments of 22 packages, of which eight have other versions."""
    for directory, packages in ((first, ONLY_FIRST), (second, ONLY_SECOND)):
        call(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps",
             "--no-compile", "--target", directory, *IN_BOTH, *packages)


def write_small_files(directory, count):
    """Fills `directory` with `count` files of a few bytes, a hundred in each of its directories, and returns it."""
    for number in range(count // 100):
        package = directory / f"package{number:05}"
        package.mkdir(parents=True)
        for module in range(100):
            (package / f"module{module:05}.py").write_text(f"{module}\n")
    return directory


def install_wheels(directory):
    """Fills `directory` with wheels, without building anything."""
    call(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
         "--target", directory, *WHEELS)


def write_tree(directory, files, seed=1):
    """Fills `directory` with what a Python environment is made of, 31 KB for each of `files` files.

    Most are text: their median is 4.6 KB, and one in ten is larger than 35 KB. One in two hundred is a library; those hold
    half of all bytes, and one of them an eighth. There are hard links and symbolic links, too.
    """
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz_", weights=range(27, 0, -1), k=rng.randint(2, 12))) for _ in range(20_000)]
    libraries = max(files // 200, 2)
    texts = files - libraries
    packages = max(files // 130, 1)
    for package in range(packages):
        lines = source_lines(rng, words)
        for number in range(package, texts, packages):
            path = directory / f"package{package:03}" / f"part{number // packages % 20:02}" / f"module{number:05}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = min(int(rng.lognormvariate(math.log(4600), 1.6)), 2_000_000)
            path.write_bytes(source(rng, lines, words, size))
            if number % 200 == 7:
                os.link(path, path.with_suffix(".link.py"))
            if number % 300 == 11:
                path.with_suffix(".symlink.py").symlink_to(path.name)
    weights = [rng.expovariate(1) + 0.1 for _ in range(libraries)]
    weights[0] = sum(weights[1:]) / 3
    for number, weight in enumerate(weights):
        path = directory / f"package{number % packages:03}" / f"library{number}.so"
        path.write_bytes(library(rng, int(files * 15_500 * weight / sum(weights))))


def source_lines(rng, words):
    """Lines as they are repeated within a package: few words, some of them often."""
    own = rng.sample(words, 400)
    common = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(own))))

    def line():
        name, *others = rng.choices(own, cum_weights=common, k=rng.randint(2, 6))
        return " " * 4 * rng.randint(0, 4) + rng.choice(("{} = {}({})\n", "return {}({}, {})\n", "if {}.{}: {}\n", "# {} {} {}\n")).format(
            name, others[0], " ".join(others[1:]))

    return [line() for _ in range(300)]


def source(rng, lines, words, size):
    """Text about as compressible as source code: lines of its package and of its own."""
    count = size // 26 + 1
    own = [" ".join(rng.choices(words, k=4)) + "\n" for _ in range(count // 5 + 1)]
    return "".join(rng.choices(lines + own, k=count)).encode()[:size]


def library(rng, size):
    """Bytes about as compressible as machine code: repeated words of it, tables, and noise."""
    words = [rng.randbytes(rng.randint(2, 7)) + bytes(rng.randint(0, 2)) for _ in range(1500)]
    common = list(itertools.accumulate(1 / (rank + 2) for rank in range(len(words))))
    parts, length = [], 0
    while length < size:
        kind = rng.random()
        if kind < 0.75:
            part = b"".join(rng.choices(words, cum_weights=common, k=8000))
        elif kind < 0.9:
            part = b"".join(number.to_bytes(8, "little") for number in range(rng.randrange(1 << 30), 1 << 31, 4096)[:4000])
        else:
            part = rng.randbytes(8_000)
        parts.append(part)
        length += len(part)
    return b"".join(parts)[:size]


def facts(directory):
    """How many files a tree has, and how large they are."""
    found = {"files": 0, "links": 0, "directories": 0, "bytes": 0}
    for parent, directories, names in os.walk(directory):
        found["directories"] += len(directories)
        for name in names:
            status = os.lstat(os.path.join(parent, name))
            is_file = os.path.isfile(os.path.join(parent, name)) and not os.path.islink(os.path.join(parent, name))
            found["files" if is_file else "links"] += 1
            found["bytes"] += status.st_size
    return found
