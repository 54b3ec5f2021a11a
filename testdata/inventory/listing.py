"""One line for each entry below a directory: kind, size, beginning of the SHA-256, path, and where a link leads."""

import hashlib
import os


def lines(directory):
    """Yields the lines, sorted by path, whatever order the file system keeps."""
    paths = []
    for parent, directories, files in os.walk(directory):
        paths += [os.path.relpath(os.path.join(parent, name), directory) for name in directories + files]
    for path in sorted(paths):
        yield line(directory, path)


def line(directory, path):
    full = os.path.join(directory, path)
    if os.path.islink(full):
        return f"link       {'':8} {'':12} {path!a} -> {os.readlink(full)!a}"
    if os.path.isdir(full):
        return f"directory  {'':8} {'':12} {path!a}"
    with open(full, "rb") as file:
        content = file.read()
    kind = "executable" if os.access(full, os.X_OK) else "file      "
    return f"{kind} {len(content):8} {hashlib.sha256(content).hexdigest()[:12]} {path!a}"
