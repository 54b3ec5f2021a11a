"""One run of one program, and what it was run on."""

import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import tempfile
import time

from . import PROGRAM, ROOT


class Failed(Exception):
    """A program that did not do what it was started for."""


def measure(command, directory=None, environment=None):
    """Wall and CPU seconds of one run, and its peak memory in MiB."""
    with tempfile.NamedTemporaryFile("r") as peak:
        # Not by getrusage: a child's peak begins with what its parent has when it forks.
        timed = ["/usr/bin/time", "--format=%M", f"--output={peak.name}", *map(str, command)]
        cpu, began = cpu_of_children(), time.monotonic()
        ran = subprocess.run(timed, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wall, cpu = time.monotonic() - began, cpu_of_children() - cpu
        if ran.returncode:
            raise Failed(last_line(ran.stderr) or f"status {ran.returncode}")
        kilobytes = int(peak.read())
    return {"wall": round(wall, 4), "cpu": round(cpu, 4), "memory": round(kilobytes / 1024, 1)}


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def call(*command, **more):
    """What a short command prints, on standard output alone."""
    try:
        ran = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **more)
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from error
    if ran.returncode:
        raise Failed(f"{pathlib.Path(command[0]).name}: {last_line(ran.stderr) or ran.returncode}")
    return ran.stdout.decode().strip()


def last_line(text):
    return (text.decode(errors="replace").strip().splitlines() or [""])[-1][:300]


def build_ocibuild():
    """Builds the program as it is released, if that is not done already, and tells its version."""
    call("cargo", "build", "--release", "--locked", "--quiet", cwd=ROOT)
    commit = call("git", "describe", "--always", "--dirty", "--exclude=*", cwd=ROOT)
    return f"{call(PROGRAM, '--version')} ({commit})"


def machine():
    """The machine, as far as it decides times."""
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor,
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def median(runs, figure):
    return statistics.median(run[figure] for run in runs)


def keep(document, file, scratch, *trees):
    """Writes what was measured, without the names of directories on this machine."""
    text = json.dumps(document, indent=1, default=str)
    for tree in trees:
        text = text.replace(str(tree), tree.name.upper())
    file.parent.mkdir(exist_ok=True)
    file.write_text(text.replace(str(scratch), "SCRATCH").replace(str(ROOT), "SOURCE") + "\n")
