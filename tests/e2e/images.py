"""The images of a run: ours as their Dockerfile says, and what the tests need beside them, all made on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import clocks
from tests.e2e.kit import Kit, KitFailed

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("buildah", "mmdebstrap", "gcc", "libc6-dev")
# Knative asks no registry for the digests of images below this name, nor does the kubelet for the images.
REPOSITORY = "dev.local/headrace"
STORE = "dev.local/seaweedfs:e2e"
WITHIN_S = 1800.0


def build(folder: Path) -> str:
    """Build ours, an archive of each in `folder`; `PREFIX:TAG` of them. Needs no cluster."""
    tag = time.strftime("e2e-%H%M%S")  # new each time: a running revision keeps the image that it began with
    _make("base-image", {})
    _make("images", {"REPO": REPOSITORY, "VERSION": tag, "ARCHIVES": str(folder)})
    _forget_earlier(tag)
    return f"{REPOSITORY}:{tag}"


def _forget_earlier(tag: str) -> None:
    """Take earlier runs' images away; layers that this one has too stay."""
    names = _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    earlier = [n for n in names if n.startswith(f"{REPOSITORY}/") and ":e2e-" in n and not n.endswith(f":{tag}")]
    if earlier:
        _buildah("rmi", *earlier)


def load(kit: Kit, folder: Path) -> None:
    """Give the images in `folder`, and the store's, to the cluster."""
    for archive in sorted(folder.glob("*.tar")):
        kit.load(archive)
    kit.image(STORE, "--bin", str(Path(sys.executable).parent / "weed"))


def with_clock(kit: Kit, room: str, offset_s: int) -> str:
    """One of ours whose programs find their clock `offset_s` ahead, given to the cluster; its reference."""
    name = f"{reference(room)}-clock-{offset_s}".replace("--", "-minus-")
    container = _buildah("from", reference(room)).strip()
    with tempfile.TemporaryDirectory() as folder:
        library, archive = clocks.library(Path(folder)), Path(folder) / "image.tar"
        if library is None:
            raise KitFailed("no C compiler, for a program whose clock is off")
        inside = f"/opt/{library.name}"
        told = [word for key, value in clocks.environ(inside, offset_s).items() for word in ("--env", f"{key}={value}")]
        _buildah("add", "--quiet", "--chmod", "755", container, str(library), inside)
        _buildah("config", *told, container)
        _buildah("commit", "--quiet", "--rm", container, name)
        _buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")
        kit.load(archive)
    return name


def reference(room: str, images: str | None = None) -> str:
    """The image of predictor, functions or trainers, out of `PREFIX:TAG`; without one E2E_IMAGES has it."""
    prefix, _, tag = (images or os.environ["E2E_IMAGES"]).rpartition(":")
    return f"{prefix}/{room}:{tag}"


def _buildah(*words: str) -> str:
    done = subprocess.run(["buildah", *words], capture_output=True, text=True, timeout=WITHIN_S)
    if done.returncode:
        raise KitFailed(f"buildah {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def _make(target: str, told: dict[str, str]) -> None:
    done = subprocess.run(
        ["make", target], cwd=ROOT, env={**os.environ, **told}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=WITHIN_S,
    )  # fmt: skip
    if done.returncode:
        raise KitFailed(f"make {target} ended with {done.returncode}:\n{done.stdout[-4000:]}")
