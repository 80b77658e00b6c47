"""Images built for real, and processes in them as a cluster would have them: not root, nothing writable but /tmp.

No engine starts these processes: a mount namespace and a chroot make of an image's files a root that is read-only.
Needs root, buildah, and util-linux's unshare.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parent.parent.parent
# `make e2e` has built them already, and says so; else they are built here, under a name of their own.
TOLD = os.environ.get("E2E_IMAGES", "localhost/headrace-test:0.0.0-test")
REPO, _, VERSION = TOLD.rpartition(":")
BASE = "docker.io/library/python:3.11-slim-bookworm"
DEADLINE_S = 120.0  # two cores, other tests beside
MOUNTED = "/mnt"  # where a folder of the test's lies inside
# Run by unshare, in a mount namespace of its own; the process that it becomes is the one that was started.
ENTER = """
set -eu
root=$1 folder=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$folder" "$root/mnt"
exec setpriv --no-new-privs chroot --userspec=65532:65532 "$root" "$@"
"""


def buildah(*words: str) -> str:
    return subprocess.run(["buildah", *words], check=True, capture_output=True, text=True).stdout.strip()


def able() -> bool:
    """Whether this machine builds images and lets us look into them."""
    return os.geteuid() == 0 and all(map(shutil.which, ("buildah", "mmdebstrap", "unshare", "setpriv")))


def missing(*images: str) -> set[str]:
    """Of the images that `make e2e` tells of, those that are not on this machine: its cluster pulls them elsewhere."""
    there = {name for each in json.loads(buildah("images", "--json")) for name in each["names"] or ()}
    return {f"{REPO}/{image}:{VERSION}" for image in images} - there if "E2E_IMAGES" in os.environ else set()


def build(*images: str, version: str = VERSION) -> None:
    """The images, unless `make e2e` has built them; over a base that is made here where the real one is not there."""
    if "E2E_IMAGES" in os.environ and version == VERSION:
        return
    environ = {**os.environ, "REPO": REPO, "VERSION": version, "ENGINE": "buildah"}
    for command in ([str(HOUSE / "tests/images/base")], [str(HOUSE / "deploy/images/build"), *images]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@dataclass
class Started:
    """A process in an image. log: its lines so far, both streams."""

    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def until(self, told: str) -> str:
        """What its log says behind `told`, once it does. Fails where the process ends before."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            ended = self.process.poll()
            if (found := next((line for line in self.log if told in line), None)) is not None:
                return found.rsplit(told, 1)[1].strip()
            assert ended is None, f"exit status {ended}: {''.join(self.log)}"
            assert time.monotonic() < deadline, f"{told!r} was not told: {''.join(self.log)}"
            time.sleep(0.02)


@dataclass(frozen=True)
class Image:
    """An image that is built, its files mounted. root: where they are."""

    name: str
    root: Path

    @property
    def said(self) -> dict[str, Any]:
        """The image's configuration, as OCI has it."""
        described = json.loads(buildah("inspect", "--type", "image", self.name))
        config: dict[str, Any] = described["OCIv1"]["config"]
        return config

    @property
    def site(self) -> Path:
        (found,) = self.root.glob("opt/headrace/lib/python*/site-packages")
        return found

    @contextmanager
    def started(self, *words: str, folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Started]:
        """A process with the image's own environment, `folder` at MOUNTED; killed at the end where it still runs."""
        settings = [*self.said["Env"], *(f"{key}={value}" for key, value in (environ or {}).items())]
        inside = ["/usr/bin/env", "-i", "-C", self.said["WorkingDir"], *settings, *words]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "enter"]
        process = subprocess.Popen(
            [*command, str(self.root), str(folder), *inside],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started = Started(process)
        reader = threading.Thread(target=lambda: started.log.extend(process.stdout or ()), daemon=True)
        reader.start()
        try:
            yield started
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join()
            assert process.stdout is not None
            process.stdout.close()

    def run(self, *words: str, folder: Path, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit status and all output of a process that ends by itself."""
        with self.started(*words, folder=folder, environ=environ) as started:
            status = started.process.wait(DEADLINE_S)
        return status, "".join(started.log)


@contextmanager
def mounted(name: str) -> Iterator[Image]:
    """The files of an image of that name, to look at."""
    container = buildah("from", "--pull-never", name)
    try:
        yield Image(name, Path(buildah("mount", container)))
    finally:
        buildah("rm", container)


def beyond(root: Path, base: Path) -> int:
    """Bytes of the files below `root` that `base` has not, or not as large: what an image adds, unpacked.

    What it removes of its base is no discount. A file of two names counts once.
    """
    below, seen = _sizes(base), dict[int, int]()
    for name, (inode, size) in _sizes(root).items():
        if name not in below or below[name][1] != size:
            seen[inode] = size
    return sum(seen.values())


def _sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Of each file below, by its path there: inode and bytes."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            told = (Path(folder) / name).lstat()
            found[os.path.relpath(Path(folder) / name, root)] = (told.st_ino, told.st_size)
    return found


def programs(root: Path) -> set[str]:
    """Names of the programs on any usual path inside."""
    places = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "opt/headrace/bin")
    return {file.name for place in places if (root / place).is_dir() for file in (root / place).iterdir()}


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
