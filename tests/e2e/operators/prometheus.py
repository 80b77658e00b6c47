"""Prometheus in a namespace of its own, set up with what docs/ops.md tells users to write into its configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import documents
from tests.e2e.kit import Kit
from tests.e2e.operators import roles
from tests.e2e.place import Deployed, until

DOCS = documents.HOUSE / "docs/ops.md"
IMAGE = "dev.local/prometheus:e2e"
PORT = 9090
SCRAPED_EVERY = "2s"


def documented(begins: str) -> Any:
    """The YAML that docs/ops.md shows in the block that begins so."""
    found = [block.body for block in documents.blocks(DOCS) if block.body.startswith(begins)]
    assert len(found) == 1, f"docs/ops.md shows {len(found)} blocks that begin with {begins}"
    return yaml.safe_load(found[0])


@dataclass(frozen=True)
class Prometheus:
    """The server that runs."""

    place: Deployed

    @property
    def url(self) -> str:
        """As pods reach it."""
        return f"http://prometheus.{self.place.namespace}.svc.cluster.local:{PORT}"

    def targets(self) -> list[dict[str, Any]]:
        """Whom it scrapes: `labels`, `health` and `lastError` of each."""
        return list(self._get("targets?state=active")["activeTargets"])

    def away(self) -> None:
        self.place.stop("prometheus")

    def back(self) -> None:
        self.place.start("prometheus")

    def _get(self, path: str) -> Any:
        raw = f"/api/v1/namespaces/{self.place.namespace}/services/prometheus:{PORT}/proxy/api/v1/{path}"
        return json.loads(self.place.kubectl("get", "--raw", raw))["data"]


@contextmanager
def running(place: Deployed, kit: Kit, program: Path) -> Iterator[Prometheus]:
    """The server in the namespace of `place`, which it makes; gone afterwards."""
    kit.image(IMAGE, "--bin", str(program), "--libs")
    try:
        place.kubectl("create", "namespace", place.namespace)
        place.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(_objects(place.namespace)))
        place.kubectl("rollout", "status", "deployment/prometheus", "--timeout=120s")
        yield Prometheus(place)
    finally:
        for kind in ("clusterrolebinding", "clusterrole"):
            place.try_kubectl("delete", kind, place.namespace, "--ignore-not-found")
        place.try_kubectl("delete", "namespace", place.namespace, "--wait=false")


def scraping(prometheus: Prometheus, namespace: str) -> list[dict[str, Any]]:
    """The targets of a namespace, waited for until there is one and all are up."""

    def up() -> list[dict[str, Any]] | None:
        found = [t for t in prometheus.targets() if t["labels"].get("namespace") == namespace]
        return found if found and all(t["health"] == "up" for t in found) else None

    return until(f"Prometheus' targets in {namespace}", up)


def _objects(namespace: str) -> Iterator[dict[str, Any]]:
    meta = {"name": "prometheus"}
    config = {"global": {"scrape_interval": SCRAPED_EVERY}, **documented("scrape_configs:")}
    yield {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"prometheus.yml": yaml.safe_dump(config)},
    }  # fmt: skip
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    yield from roles.allowed(namespace, rules, roles.account("prometheus", namespace))
    labels = {"app": "prometheus"}
    container = {
        "name": "prometheus",
        "image": IMAGE,
        "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/prometheus"}, {"name": "data", "mountPath": "/data"}],
        "resources": {"requests": {"cpu": "5m", "memory": "64Mi"}},
    }
    pod = {
        "serviceAccountName": "prometheus",
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    exposed = {"selector": labels, "ports": [{"port": PORT}]}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": exposed}
