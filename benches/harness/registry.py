"""A registry on this machine."""

import re
import subprocess
import sys
import time


def start_registry(scratch):
    """Starts a registry on a free port, and answers the process and its address."""
    config = scratch / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {scratch}/storage}}}}\n"
        "http: {addr: '127.0.0.1:0'}\n"
    )
    log = open(scratch / "log", "wb")
    registry = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
    for _ in range(200):
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", (scratch / "log").read_text())
        if found:
            return registry, found[1]
        time.sleep(0.05)
    registry.kill()
    sys.exit("the registry does not start")
