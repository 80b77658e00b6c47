"""prometheus-adapter beside a Prometheus, with the rule that docs/ops.md tells users to give it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.kit import Kit
from tests.e2e.operators import prometheus
from tests.e2e.operators.prometheus import Prometheus
from tests.e2e.place import Deployed, until

HERE = Path(__file__).with_name("adapter")
BUILD_S = 3600.0
IMAGE = "dev.local/prometheus-adapter:e2e"
NAME = "prometheus-adapter"
GROUP = "custom.metrics.k8s.io"
SERVICE = f"v1beta1.{GROUP}"
PORT = 6443
RELISTED_EVERY = "5s"
AUTHORIZATION = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Adapter:
    """The server that runs, in Prometheus' namespace."""

    place: Deployed

    def values(self, namespace: str, metric: str) -> dict[str, str]:
        """What it tells of each pod, a quantity by the pod's name; empty where it has no such metric."""
        raw = f"/apis/{GROUP}/v1beta1/namespaces/{namespace}/pods/*/{metric}"
        done = self.place.try_kubectl("get", "--raw", raw)
        items = json.loads(done.stdout)["items"] if done.returncode == 0 else ()
        return {item["describedObject"]["name"]: item["value"] for item in items}

    def away(self) -> None:
        self.place.kubectl("scale", f"deployment/{NAME}", "--replicas=0")

    def back(self) -> None:
        self.place.kubectl("scale", f"deployment/{NAME}", "--replicas=1")
        self.place.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=120s")


@contextmanager
def running(kit: Kit, asked: Prometheus) -> Iterator[Adapter]:
    """It, telling what `asked` knows; gone afterwards."""
    place = asked.place
    assert place.try_kubectl("get", "apiservice", SERVICE).returncode, (
        f"APIService {SERVICE} is there: not ours to replace, or left by a run that was killed"
    )
    kit.image(IMAGE, "--bin", str(_program()))
    objects = list(_objects(place.namespace, asked.url))
    (service,) = [o for o in objects if o["kind"] == "APIService"]
    try:
        place.kubectl("apply", "-f", "-", given=yaml.safe_dump_all([o for o in objects if o is not service]))
        place.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=120s")
        # Without a pod it would fail whoever lists what there is: so it comes last, and goes first.
        place.kubectl("apply", "-f", "-", given=yaml.safe_dump(service))
        until(f"APIService {SERVICE}", lambda: _is_available(place))
        yield Adapter(place)
    finally:
        place.try_kubectl("delete", "apiservice", SERVICE, "--ignore-not-found")
        given = yaml.safe_dump_all(objects)
        place.try_kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", given=given)


def _program() -> Path:
    made_of = hashlib.sha256((HERE / "go.mod").read_bytes()).hexdigest()[:12]
    folder = Path.home() / ".cache/headrace/operators" / f"prometheus-adapter-{made_of}"
    done = subprocess.run([HERE / "build", folder], capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, f"{HERE / 'build'}: {done.returncode}\n{done.stderr[-4000:]}"
    return folder / "prometheus-adapter"


def _is_available(place: Deployed) -> bool:
    found = place.get("apiservice", SERVICE).get("status", {}).get("conditions", ())
    return any(c["type"] == "Available" and c["status"] == "True" for c in found)


def _objects(namespace: str, url: str) -> Iterator[dict[str, Any]]:
    meta = {"name": NAME, "namespace": namespace}
    config = {"rules": prometheus.documented("- seriesQuery")}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"config.yaml": yaml.safe_dump(config)}}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": namespace}
    found = [{"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]}]
    yield from _allowed(f"{namespace}-adapter", found, account)
    delegated = {"apiGroup": AUTHORIZATION, "kind": "ClusterRole", "name": "system:auth-delegator"}
    yield _binding(f"{namespace}-delegator", delegated, account)
    # The kit's API server passes for nobody where it asks others: see `keda.installation`.
    nobody = {"apiGroup": AUTHORIZATION, "kind": "User", "name": "system:anonymous"}
    told = [
        {"apiGroups": [GROUP], "resources": ["*"], "verbs": ["get", "list"]},
        {"nonResourceURLs": [f"/apis/{GROUP}/*"], "verbs": ["get"]},
    ]
    yield from _allowed(f"{namespace}-told", told, nobody)
    labels = {"app": NAME}
    container = {
        "name": NAME,
        "image": IMAGE,
        "args": [
            f"--prometheus-url={url}",
            "--config=/etc/adapter/config.yaml",
            f"--metrics-relist-interval={RELISTED_EVERY}",
            "--metrics-max-age=1m",
            "--cert-dir=/tmp",
            "--authentication-tolerate-lookup-failure=true",  # of whom to trust, which this API server does not say
            f"--secure-port={PORT}",
        ],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": PORT, "scheme": "HTTPS"}, "periodSeconds": 2},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/adapter"}, {"name": "tmp", "mountPath": "/tmp"}],
        "resources": {"requests": {"cpu": "5m", "memory": "64Mi"}},
    }
    pod = {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}, {"name": "tmp", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    exposed = {"selector": labels, "ports": [{"port": 443, "targetPort": PORT}]}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": exposed}
    yield {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": SERVICE},
        "spec": {
            "group": GROUP,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": NAME, "namespace": namespace},
        },
    }


def _allowed(name: str, rules: list[dict[str, Any]], subject: dict[str, str]) -> Iterator[dict[str, Any]]:
    yield {
        "apiVersion": f"{AUTHORIZATION}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
    yield _binding(name, {"apiGroup": AUTHORIZATION, "kind": "ClusterRole", "name": name}, subject)


def _binding(name: str, role: dict[str, str], subject: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": f"{AUTHORIZATION}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": role,
        "subjects": [subject],
    }
