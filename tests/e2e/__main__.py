"""`make e2e`: a cluster, images, a store, everything that is promised of a cluster, and nothing left behind.

    python -m tests.e2e [--kubeconfig FILE --images PREFIX:TAG] [--bad-days | --operators] [--keep]
                        [PYTEST …]

Without a kubeconfig a cluster of this machine's own is made by the kit (see `tests.e2e.kit`) and stopped at the end,
whatever comes between; its images are built here meanwhile. With one, images are those that its nodes can pull. What
Headrace does and what the place itself promises are asked side by side, for both wait most of their time. Each step is
told with its seconds. Exit status: pytest's, or 1 where a step before it failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from tests.e2e import images, policy_agent
from tests.e2e.kit import PACKAGES, Kit, KitFailed

ROOT = Path(__file__).resolve().parents[2]
LOOP = ("tests/e2e", "tests/images")
PROMISES = ("tests/conformance",)


def main(words: Sequence[str]) -> int:
    asked, pytest_words = _arguments(words)
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            environ = _foreign(asked) if asked.kubeconfig else stack.enter_context(_own(asked))
            status = _tests(asked, pytest_words, environ)
    except KitFailed as e:
        print(f"e2e: {e}", file=sys.stderr)
        status = 1
    print(f"{time.monotonic() - began:6.0f} s  in all, exit status {status}", flush=True)
    return status


def _tests(asked: argparse.Namespace, words: Sequence[str], environ: Mapping[str, str]) -> int:
    if words or asked.marker != "cluster":
        return _pytest(asked.marker, words or LOOP[:1], environ)
    with tempfile.TemporaryFile("w+") as told, ThreadPoolExecutor(1) as beside:
        promises = beside.submit(_pytest, "cluster", PROMISES, environ, told)
        status = _pytest("cluster", LOOP, environ)
        status = promises.result() or status
        told.seek(0)
        print("\nWhat both places promise:", told.read(), sep="\n")
    return status


def _pytest(marker: str, words: Sequence[str], environ: Mapping[str, str], told: TextIO | None = None) -> int:
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-raR", "--durations=15", "-m", marker, *words]
    # What a crowded node fails, it is asked again, and the report says so and why; a bad day has no second morning.
    command += ["--reruns=2", "--reruns-delay=5", "--rerun-show-tracebacks"] if marker == "cluster" else []
    environment = {**os.environ, **environ}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=told, stderr=told).returncode


def _arguments(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="of a cluster with Knative; else one is made by the kit")
    parser.add_argument("--images", default="", metavar="PREFIX:TAG", help="where that cluster pulls ours from")
    parser.add_argument("--gateway", default="", metavar="HOST:PORT", help="of its Knative, as seen from here")
    parser.add_argument("--kit", type=Path, default=ROOT / "../shared/cluster", help="the cluster kit's folder")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--bad-days", dest="marker", action="store_const", const="bad_day", default="cluster",
                       help="what fails, in place of what works")  # fmt: skip
    other.add_argument("--operators", dest="marker", action="store_const", const="operator",
                       help="the overlays that want another operator, with that operator")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="leave the kit's cluster running")
    return parser.parse_known_args([w for w in words if w != "--"])


def _foreign(asked: argparse.Namespace) -> dict[str, str]:
    if not (asked.images and asked.gateway):
        raise KitFailed(
            "a kubeconfig needs --images PREFIX:TAG and --gateway HOST:PORT beside it (make: IMAGES, GATEWAY)"
        )
    return {"KUBECONFIG": str(asked.kubeconfig), "E2E_IMAGES": asked.images, "E2E_GATEWAY": asked.gateway}


@contextmanager
def _own(asked: argparse.Namespace) -> Iterator[dict[str, str]]:
    """The kit's cluster with our images and a keeper of NetworkPolicies; the environment for the tests."""
    kit = Kit.of(asked.kit, os.environ)
    with step("Debian packages"):
        _install((*PACKAGES, *images.PACKAGES))
    with ExitStack() as stack:
        stack.enter_context(kit.reserved())
        kit.kill_tests()
        if kit.is_left_over:
            with step("what a run has left that was cut off, away"):
                policy_agent.stop(kit)
                kit.down()
        if kit.is_up and not asked.keep:
            raise KitFailed(
                f"a cluster runs already in {kit.state}; stop it with {kit.folder}/down, or go on with --keep"
            )
        if not asked.keep:
            stack.callback(kit.down)
        kit.keep(asked.keep)
        built = _started(kit)
        with step("NetworkPolicies enforced"):
            stack.enter_context(policy_agent.running(kit))
        # Any image with Python does for the containers of the conformance suite.
        told = {
            "E2E_IMAGES": built,
            "E2E_STORE_IMAGE": images.STORE,
            "CONFORMANCE_IMAGE": images.reference("functions", built),
        }
        yield {**kit.test_environ(), **told}


def _started(kit: Kit) -> str:
    """The cluster, up and with our images; `PREFIX:TAG` of them."""
    with tempfile.TemporaryDirectory() as archives, ThreadPoolExecutor(1) as beside:
        # One waits for the network, the other for the processor.
        building = beside.submit(images.build, Path(archives))
        if not kit.is_built:
            with step("the cluster's programs (18 minutes, once per machine)"):
                kit.build()
        if not kit.is_up:
            with step("Kubernetes and Knative up"):
                kit.up()
        with step("images built and loaded"):
            built = building.result()
            images.load(kit, Path(archives))
        return built


@contextmanager
def step(what: str) -> Iterator[None]:
    """What is done now, and, once it is, how long it took."""
    began = time.monotonic()
    print(f"          {what} …", flush=True)
    yield
    print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)


def _install(packages: Sequence[str]) -> None:
    known = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Status}\n", *packages], capture_output=True, text=True
    )
    have = {line.split()[0] for line in known.stdout.splitlines() if line.endswith("install ok installed")}
    missing = [p for p in packages if p not in have]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise KitFailed(f"missing, and not to be installed here: {', '.join(missing)}")
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        if subprocess.run(["apt-get", *words], **quiet).returncode:  # type: ignore[call-overload]
            raise KitFailed(f"apt-get {' '.join(words)} failed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
