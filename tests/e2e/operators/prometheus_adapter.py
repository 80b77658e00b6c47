"""prometheus-adapter beside a Prometheus, with the rule that docs/ops.md tells users to give it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.status import condition
from tests.e2e.kit import Kit
from tests.e2e.operators import prometheus, roles
from tests.e2e.operators.programs import built
from tests.e2e.operators.prometheus import Prometheus
from tests.e2e.place import Deployed, until

HERE = Path(__file__).with_name("adapter")
IMAGE = "dev.local/prometheus-adapter:e2e"
NAME = "prometheus-adapter"
GROUP = "custom.metrics.k8s.io"
SERVICE = f"v1beta1.{GROUP}"
PORT = 6443
RELISTED_EVERY = "5s"


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
        self.place.stop(NAME)

    def back(self) -> None:
        self.place.start(NAME)


@contextmanager
def running(kit: Kit, asked: Prometheus) -> Iterator[Adapter]:
    """It, telling what `asked` knows; gone afterwards."""
    place = asked.place
    assert place.try_kubectl("get", "apiservice", SERVICE).returncode, (
        f"APIService {SERVICE} is there: not ours to replace, or left by a run that was killed"
    )
    programs = built(HERE / "build", NAME, [HERE / "go.mod"])
    kit.image(IMAGE, "--bin", str(programs / NAME))
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


def _is_available(place: Deployed) -> bool:
    return condition(place.get("apiservice", SERVICE), "Available").get("status") == "True"


def _objects(namespace: str, url: str) -> Iterator[dict[str, Any]]:
    meta = {"name": NAME, "namespace": namespace}
    config = {"rules": prometheus.documented("- seriesQuery")}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"config.yaml": yaml.safe_dump(config)}}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
    account = roles.account(NAME, namespace)
    found = [{"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]}]
    yield from roles.allowed(f"{namespace}-adapter", found, account)
    yield roles.bound(f"{namespace}-delegator", "system:auth-delegator", account)
    yield from roles.allowed(f"{namespace}-told", roles.metrics([GROUP]), roles.NOBODY)
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
