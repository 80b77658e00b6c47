"""KEDA and the metrics server in a cluster, of the manifests that their modules bring; gone afterwards, all of it.

Others in the cluster are not to notice: an APIService without its pods fails whoever lists what there is, the deletion
of namespaces among them, so that APIServices come last and go first. And an object that waits for a controller which is
gone would keep its namespace for ever.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from headrace.status import condition
from tests.e2e.kit import Kit
from tests.e2e.operators import roles
from tests.e2e.operators.programs import built
from tests.e2e.place import WITHIN_S, until

BUILD = Path(__file__).with_name("build")
NAMESPACE = "keda"  # its manifests' own
TAG = "e2e"
IMAGES = {
    "keda": "ghcr.io/kedacore/keda",
    "keda-adapter": "ghcr.io/kedacore/keda-metrics-apiserver",
    "keda-admission-webhooks": "ghcr.io/kedacore/keda-admission-webhooks",
    "metrics-server": "gcr.io/k8s-staging-metrics-server/metrics-server",
}
DEPLOYMENTS = (
    (NAMESPACE, "keda-operator"),
    (NAMESPACE, "keda-metrics-apiserver"),
    (NAMESPACE, "keda-admission"),
    ("kube-system", "metrics-server"),
)
READY_S = 300.0
AGAIN_S = 60.0
# Kinds that stand in other's way while their pods are away: they come last, and go first.
IN_THE_WAY = ("APIService", "ValidatingWebhookConfiguration")
METRICS = ["metrics.k8s.io", "external.metrics.k8s.io"]
ANONYMOUS = roles.allowed("headrace-e2e-metrics", roles.metrics(METRICS), roles.NOBODY)


def programs() -> Path:
    """The folder with KEDA's, the metrics server's and Prometheus' programs, built where it lacks them."""
    return built(BUILD, "keda", sorted(BUILD.parent.glob("src/*/go.mod")))


@contextmanager
def running(kubeconfig: Path, kit: Kit, folder: Path, work: Path) -> Iterator[None]:
    """Both of them, of the programs in `folder`, ready; `work` is an empty folder to write into."""
    for program in IMAGES:
        kit.image(f"dev.local/{program}:{TAG}", "--add", f"{folder / program}:/{program}")
    objects = [*_manifests(kubeconfig, folder, work), *ANONYMOUS]
    last = [o for o in objects if o["kind"] in IN_THE_WAY]
    first = [o for o in objects if o["kind"] not in IN_THE_WAY]
    services = [o["metadata"]["name"] for o in last if o["kind"] == "APIService"]
    for service in services:
        found = _try_kubectl(kubeconfig, "get", "apiservice", service)
        assert found.returncode, f"APIService {service} is there: not ours to replace, or left by a run that was killed"
    try:
        # The namespace and the definitions before what lies in them: kustomize has put them in that order.
        _apply(kubeconfig, first)
        # KEDA's operator makes certificates for the others, and writes whom to trust into what comes last.
        _apply(kubeconfig, last)
        for namespace, name in DEPLOYMENTS:
            _kubectl(
                kubeconfig, "-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={READY_S:.0f}s"
            )
        for service in services:
            until(f"APIService {service}", lambda name=service: _is_available(kubeconfig, name), READY_S)
        yield
    finally:
        _take_away(kubeconfig, first, last)


def _apply(kubeconfig: Path, objects: list[dict[str, Any]]) -> None:
    """All of them. Somebody else's webhook that is asked about Deployments may be away for a moment."""
    words, given = ("apply", "--server-side", "-f", "-"), yaml.safe_dump_all(objects)
    deadline = time.monotonic() + AGAIN_S
    while _try_kubectl(kubeconfig, *words, given=given).returncode and time.monotonic() < deadline:
        time.sleep(2)
    _kubectl(kubeconfig, *words, given=given)


def _take_away(kubeconfig: Path, first: list[dict[str, Any]], last: list[dict[str, Any]]) -> None:
    definitions = [o for o in first if o["kind"] == "CustomResourceDefinition"]
    _delete(kubeconfig, last, "--timeout=60s")
    left = _try_kubectl(kubeconfig, "get", "scaledobjects", "-A", "-o", "json")
    for o in json.loads(left.stdout)["items"] if left.returncode == 0 else ():
        at = ("-n", o["metadata"]["namespace"], "scaledobject", o["metadata"]["name"])
        _try_kubectl(kubeconfig, "patch", *at, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    # Waited for: whoever applied them again while they go would find them gone a moment later.
    _delete(kubeconfig, definitions, "--timeout=60s")
    _delete(kubeconfig, [o for o in first if o not in definitions], "--wait=false")


def _delete(kubeconfig: Path, objects: list[dict[str, Any]], how: str) -> None:
    _try_kubectl(kubeconfig, "delete", "--ignore-not-found", how, "-f", "-", given=yaml.safe_dump_all(objects))


def _is_available(kubeconfig: Path, service: str) -> bool:
    shown = json.loads(_kubectl(kubeconfig, "get", "apiservice", service, "-o", "json"))
    return condition(shown, "Available").get("status") == "True"


def _manifests(kubeconfig: Path, folder: Path, work: Path) -> list[dict[str, Any]]:
    paths = (folder / "config/default", folder / "manifests/base")
    kustomization = {
        "resources": [os.path.relpath(path, work.resolve()) for path in paths],
        "images": [
            {"name": image, "newName": f"dev.local/{program}", "newTag": TAG} for program, image in IMAGES.items()
        ],
    }
    (work / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    found = list(yaml.safe_load_all(_kubectl(kubeconfig, "kustomize", str(work))))
    for o in found:
        if o["kind"] == "Deployment":
            _fit(o)
    return found


def _fit(deployment: dict[str, Any]) -> None:
    """To a small node without a registry, whose kubelet has signed its certificate itself."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["imagePullPolicy"] = "IfNotPresent"
    container["resources"]["requests"]["cpu"] = "5m"
    for probe in ("readinessProbe", "livenessProbe"):
        container[probe].pop("initialDelaySeconds", None)
    container["readinessProbe"]["periodSeconds"] = 2
    container["livenessProbe"]["failureThreshold"] = 12
    if deployment["metadata"]["name"] == "metrics-server":
        container["command"] = ["/metrics-server"]
        container["args"].append("--kubelet-insecure-tls")


def _kubectl(kubeconfig: Path, *words: str, given: str = "") -> str:
    done = _try_kubectl(kubeconfig, *words, given=given)
    assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _try_kubectl(kubeconfig: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """In whatever namespace each object names."""
    command = ["kubectl", "--kubeconfig", str(kubeconfig), *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=max(WITHIN_S, 2 * READY_S))
