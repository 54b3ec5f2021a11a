"""podman, docker and containerd, each with a store of its own on a file system of its own, and what their users run."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import subprocess
import time
import typing

from .fetch import installed
from .measure import Failed, call, measure
from .program import remove

# podman writes to these places of the machine if it is not told others. runc, since crun refuses some cgroups; the limits, since
# podman's own take a capability that root may lack.
PODMAN = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{store}/tmp"
volume_path = "{store}/volumes"
[network]
network_config_dir = "{store}/networks"
"""
CONTAINERD = """version = 2
root = "{store}/root"
state = "{store}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{store}/socket"
[ttrpc]
address = "{store}/socket.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{store}/opt"
"""
RUNS = itertools.count(1)


@dataclasses.dataclass
class Engine:
    """An engine, by the name that `build --load` has for it, and the commands of its users."""

    name: str
    version: str
    environment: dict
    # Shell commands: $1 is a name of an image, $2 the context of a build.
    pull: str
    run: str
    build: str
    # The daemons, whose processor time is part of what a command costs.
    daemons: list = dataclasses.field(default_factory=list)

    def timed(self, script, *words):
        before = sum(map(processor_time, self.daemons))
        figures = measure(self.command(script, *words), environment=self.environment)
        return figures | {"cpu": round(figures["cpu"] + sum(map(processor_time, self.daemons)) - before, 2)}

    def prints(self, image):
        """What a container of the image prints. ctr loses the output of a few that end at once."""
        for _ in range(3):
            if printed := call(*self.command(self.run, image), env=self.environment):
                return printed
        return ""

    def command(self, script, *words):
        return ["sh", "-euc", script.replace("$RUN", str(next(RUNS))), "sh", *words]


def processor_time(daemon):
    """The seconds of a daemon and of all processes below it."""
    parents, used = {}, {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            pid = int(status.parent.name)
            parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def is_below(pid):
        return pid == daemon or (pid in parents and is_below(parents[pid]))

    return sum(seconds for pid, seconds in used.items() if is_below(pid))


@contextlib.contextmanager
def podman(store):
    installed("podman"), installed("runc")
    with file_system(store):
        storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{store}/root"\nrunroot = "{store}/run"\n'
        (store / "storage.conf").write_text(storage)
        (store / "containers.conf").write_text(PODMAN.format(store=store))
        environment = os.environ | {
            "CONTAINERS_CONF": f"{store}/containers.conf", "CONTAINERS_STORAGE_CONF": f"{store}/storage.conf",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1", "TMPDIR": str(store / "temporary")}
        (store / "temporary").mkdir()
        try:
            yield Engine(
                "podman", call("podman", "--version", env=environment).replace(" version", ""), environment,
                pull='podman pull --quiet --tls-verify=false "$1"',
                run='podman run --rm --pull=never --network=none "$1"',
                build='podman build --quiet --tag "$1" "$2"')
        finally:
            # podman mounts this directory on itself.
            subprocess.run(["umount", "--quiet", "--lazy", store / "root/overlay"], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def docker(store):
    with file_system(store):
        (store / "daemon.json").write_text("{}")
        # The machine's network is not ours to change.
        network = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
        command = [installed("dockerd"), "--config-file", store / "daemon.json", "--host", f"unix://{store}/socket",
                   "--data-root", store / "data", "--exec-root", store / "exec", "--pidfile", store / "pid",
                   "--storage-driver", "overlay2", "--group", "root", *network]
        # Its own builder: BuildKit is another package.
        environment = os.environ | {"DOCKER_HOST": f"unix://{store}/socket", "DOCKER_BUILDKIT": "0"}
        with daemon(command, store) as process:
            version = call("docker", "version", "--format", "{{.Server.Version}}", env=environment)
            yield Engine(
                "docker", f"docker {version}", environment,
                pull='docker pull --quiet "$1"',
                run='docker run --rm --pull=never --network=none "$1"',
                build='docker build --quiet --file "$2/Containerfile" --tag "$1" "$2"', daemons=[process])


@contextlib.contextmanager
def containerd(store):
    """containerd builds nothing: what its users run on a machine without more is docker's builder."""
    with file_system(store):
        (store / "config.toml").write_text(CONTAINERD.format(store=store))
        environment = os.environ | {"CONTAINERD_ADDRESS": f"{store}/socket", "CONTAINERD_NAMESPACE": store.name}
        with daemon([installed("containerd"), "--config", store / "config.toml"], store) as process:
            version = call("ctr", "version", env=environment)
            yield Engine(
                "containerd", " ".join(["containerd", *re.findall(r"Version: +(\S+)", version)[-1:]]), environment,
                pull='ctr image pull --plain-http "$1"',
                # ctr keeps runc's state in one place for all daemons by default.
                run=f'ctr run --rm --runc-root {store}/runc --fifo-dir {store}/fifo "$1" {store.name}-$RUN',
                build='docker build --quiet --file "$2/Containerfile" --tag "$1" "$2" && docker save "$1" | ctr image import -',
                daemons=[process])


@contextlib.contextmanager
def containerd_beside_docker(store):
    with docker(store.with_name(f"{store.name}-docker")) as builder, containerd(store) as engine:
        environment = builder.environment | engine.environment
        yield dataclasses.replace(engine, environment=environment, daemons=engine.daemons + builder.daemons,
                                  version=f"{engine.version}, {builder.version}")


ENGINES = {"podman": podman, "docker": docker, "containerd": containerd}


@contextlib.contextmanager
def daemon(command, store):
    """A daemon that listens at `socket` in its store, and the number of its process."""
    with open(store / "log", "wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        for _ in range(400):
            if (store / "socket").exists():
                break
            time.sleep(0.05)
        else:
            raise Failed(f"{command[0]} does not start")
        time.sleep(1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
        subprocess.run(["umount", "--quiet", "--lazy", store / "exec/netns/default"], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def file_system(store):
    """An empty file system at `store`: what another engine removes must not be paid for by this one, see `set_aside`."""
    image = store.with_name(f"{store.name}.ext4")
    store.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate(64 << 30)
    call("mkfs.ext4", "-q", image)
    # Nothing is written beside the engine.
    call("mount", "-o", "loop,noinit_itable", image, store)
    try:
        yield
    finally:
        call("umount", "--recursive", "--lazy", store)
        remove(image, store)


@contextlib.contextmanager
def served(program, layout, log) -> typing.Iterator[str]:
    """A registry that serves a layout, by its address."""
    with open(log, "wb") as output:
        server = subprocess.Popen([program, "serve", layout, "--listen", "127.0.0.1:0"], stdout=output, stderr=output)
    try:
        for _ in range(200):
            if found := re.search(r"127\.0\.0\.1:\d+", log.read_text()):
                yield found[0]
                return
            time.sleep(0.05)
        raise Failed("the layout is not served")
    finally:
        server.terminate()
        server.wait()
