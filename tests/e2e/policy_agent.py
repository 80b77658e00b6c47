"""NetworkPolicies enforced while a run lasts, which the kit's network plugin does not: `policy-agent` does it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.kit import Kit, KitFailed

PROGRAM = Path(__file__).with_name("policy-agent")
WITHIN_S = 900.0  # it is built at its first start


@contextmanager
def running(kit: Kit) -> Iterator[None]:
    """The agent beside the kit's kubelet; it and its rules are gone afterwards."""
    stop(kit)
    _run(kit, "start")
    try:
        yield
    finally:
        stop(kit)


def stop(kit: Kit) -> None:
    """The agent and its rules away, also of a run that was killed; nothing where there are none."""
    _run(kit, "stop")


def gateway_networks(kubeconfig: Path) -> str:
    """Where the kit's gateway answers, networks by commas: on the node's own network, so that no policy knows it by its
    labels. Empty where there is no such gateway.
    """
    words = ["kubectl", "--kubeconfig", str(kubeconfig), "-n", "knative-gateway", "get", "endpointslices", "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    slices = json.loads(done.stdout)["items"] if done.returncode == 0 else []
    found = {a for s in slices for e in s.get("endpoints") or () if "targetRef" not in e for a in e["addresses"]}
    return ",".join(f"{address}/32" for address in sorted(found))


def _run(kit: Kit, verb: str) -> None:
    environ = {
        **os.environ,
        "KUBECONFIG": str(kit.kubeconfig),
        "PATH": f"{kit.programs}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run([PROGRAM, verb], env=environ, capture_output=True, text=True, timeout=WITHIN_S)
    if done.returncode:
        raise KitFailed(f"policy-agent {verb} ended with {done.returncode}: {done.stderr.strip()}")
