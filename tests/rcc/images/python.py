"""Copies the Python that runs this into an environment, and the machine's C library into a root directory."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zlib

C_LIBRARY = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv))[-.]")
LEFT_OUT = shutil.ignore_patterns(
    "config-*", "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "pydoc_data",
    "distutils", "*-packages", "__pycache__", "sitecustomize.py")


def copy(source, destination):
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    shutil.copyfile(source, destination)
    shutil.copymode(source, destination)


tree, root = sys.argv[1:]
python = os.path.realpath(sys.executable)
copy(python, os.path.join(tree, "bin/python"))
os.chmod(os.path.join(tree, "bin/python"), 0o755)
library = os.path.join(tree, getattr(sys, "platlibdir", "lib"), "python%d.%d" % sys.version_info[:2])
shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=LEFT_OUT, ignore_dangling_symlinks=True)
modules = [module.__file__ for module in (json, zlib) if getattr(module, "__file__", "").endswith(".so")]
for program in [python, *modules]:
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, check=True).stdout.decode()
    for needed in (word for word in listed.split() if word.startswith("/")):
        name = os.path.basename(needed)
        copy(needed, root + needed if C_LIBRARY.match(name) else os.path.join(tree, "lib/machine", name))
