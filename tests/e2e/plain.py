"""An overlay without Knative in a namespace of its own, with this run's images and a store, and what is done with it.

Nothing here touches Knative, though it may lie beside: events go from process to process, and Deployments and Jobs are
Kubernetes' own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, landing
from functions.store import Store
from tests.e2e.kustomization import images, patch
from tests.e2e.place import Deployed
from tests.e2e.store import S3
from tests.manifests.kustomized import FOLDER, build

# Sent from a predictor's pod, which may: nobody else than the loop's own reaches the receiver.
SEND = (
    "import sys, orjson; from eventing import binding, sender; "
    "sender.Sender('http://trainings').send(binding.from_json(orjson.loads(sys.stdin.read())), attempts=5)"
)
CPU = "/spec/jobTemplate/spec/template/spec/containers/0/resources/requests/cpu"
ABSENT = "{$patch: delete, apiVersion: apps/v1, kind: Deployment, metadata: {name: any}}"


class Plain(Deployed):
    """A namespace with the overlay in it."""

    @property
    def store(self) -> str:
        return f"s3://headrace/{self.namespace}"

    def flights(self) -> dict[str, Any]:
        return self.get("deployment", "flights")

    def pinned(self) -> str:
        annotations = self.flights()["spec"]["template"]["metadata"].get("annotations") or {}
        return str(annotations.get("headrace.dev/pinned", "")).removeprefix("@")

    @property
    def door(self) -> str:
        """The model's Service by way of the API server: what a kubeconfig alone can reach anywhere."""
        return f"/api/v1/namespaces/{self.namespace}/services/flights:80/proxy"

    def ask_plain(self, path: str, body: Any, folder: Path) -> Any:
        (folder / "body.json").write_text(json.dumps(body))
        return json.loads(self.kubectl("create", "--raw", f"{self.door}{path}", "-f", str(folder / "body.json")))

    def drop(self, file: Path) -> CloudEvent:
        """The file into the store, and its event to the receiver."""
        arrived = landing.land(file, "flights", self.store, target="late", parameters={"n_estimators": 10})
        event = landing.arrived_event(arrived, datetime.now(UTC))
        self.send(event)
        return event

    def send(self, event: CloudEvent) -> None:
        text = json.dumps(binding.to_json(event))
        self.kubectl("exec", "-i", "deploy/flights", "--", "python", "-c", SEND, given=text)

    def serves(self) -> str | None:
        """The version that the store says serves, once it is the one that is rolled out."""
        found = Store.open(self.store).serving("flights")
        ready = self.flights()["status"].get("readyReplicas")
        return found.version if found and ready and self.pinned() == found.version else None

    def is_running(self, name: str) -> bool:
        """Whether a pod's process has begun; of a model without a version it is not ready, and waits."""
        labels = self.get("deployment", name)["spec"]["selector"]["matchLabels"]
        pods = self.items("pod", ",".join(f"{k}={v}" for k, v in labels.items()))
        started = [s.get("started") for pod in pods for s in pod["status"].get("containerStatuses", ())]
        return bool(started) and all(started)


@contextmanager
def applied(
    here: Plain, overlay: str, store: S3, folder: Path, more: Sequence[Mapping[str, Any]] = ()
) -> Iterator[Plain]:
    """`here` with the overlay, and `more` patches of its own; without the watched folder, whose claim nobody brings.

    The store is written to from here meanwhile: its keys stand in this process's environment.
    """
    kustomization = {
        "namespace": here.namespace,
        "resources": [os.path.relpath(FOLDER / "overlays" / overlay, folder.resolve())],
        "images": images(),
        "patches": [
            patch("ConfigMap", "headrace", "replace", "/data/HEADRACE_STORE", here.store),
            patch("ConfigMap", "headrace", "add", "/data/AWS_ENDPOINT_URL", store.inside),
            patch("ConfigMap", "headrace", "add", "/data/HEADRACE_PROMOTER_POLL_S", "1"),
            # What serves next is not the question here, and what is broken is to be known soon.
            patch("ConfigMap", "headrace", "add", "/data/HEADRACE_MAX_REGRESSION", "1"),
            patch("Deployment", "flights", "replace", "/spec/progressDeadlineSeconds", 30),
            # Small files, on a node that has other things to do.
            patch("CronJob", "random-forest", "replace", CPU, "100m"),
            patch("NetworkPolicy", "store", "add", "/spec/egress/0/ports/-", {"port": 8333, "protocol": "TCP"}),
            {"target": {"kind": "Deployment", "name": "folder"}, "patch": ABSENT},
            *more,
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    kept = {k: os.environ.get(k) for k in here.environ}
    os.environ.update(here.environ)
    try:
        here.kubectl("create", "namespace", here.namespace)
        here.bring_keys(store.keys)
        here.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=build(folder))
        yield here
    finally:
        os.environ.update({k: v for k, v in kept.items() if v is not None})
        for key in [k for k, v in kept.items() if v is None]:
            del os.environ[key]
        here.try_kubectl("delete", "namespace", here.namespace, "--wait=false")
