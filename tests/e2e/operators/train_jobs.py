"""A namespace with the overlay `trainjob` in it, and what its TrainJobs have become."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from knative.pods import JOB_SET_LABEL
from tests.e2e import policy_agent
from tests.e2e.images import reference
from tests.e2e.kustomization import images, patch
from tests.e2e.place import Deployed, until
from tests.e2e.store import S3
from tests.manifests.kustomized import FOLDER, build

Object = dict[str, Any]

NAMESPACE = time.strftime("headrace-trainjob-%H%M%S")  # new each time: a namespace takes minutes to go
QUICK = {"HEADRACE_CANARY_S": "10", "HEADRACE_CANARY_POLL_S": "1", "HEADRACE_LATENCY_FLOOR_MS": "60000"}
SHORT_S = 15  # what of the trainer `neural_net` stays after its end, in place of a day
END_S = 420.0  # a trainer waits for the promoter's answer, five minutes at most
RUNTIME = "/spec/template/spec"
JOB = f"{RUNTIME}/replicatedJobs/0/template/spec"
CPU = f"{JOB}/template/spec/containers/0/resources/requests/cpu"


@dataclass(frozen=True)
class TrainJobs(Deployed):
    """A namespace with the overlay in it."""

    applied: tuple[Object, ...] = ()
    """The overlay's objects."""

    def train_jobs(self) -> dict[str, Object]:
        """By name, each with what its trainer was told."""
        return {o["metadata"]["name"]: o for o in self.items("trainjobs")}

    def of_event(self, id: str) -> Object | None:
        """The TrainJob that an event has become."""
        return next((o for o in self.train_jobs().values() if event(o)["id"] == id), None)

    def end(self, name: str) -> Object:
        """The condition with which a TrainJob is over."""

        def over() -> Object | None:
            conditions = self.get("trainjob", name).get("status", {}).get("conditions", ())
            return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)

        return until(f"the end of TrainJob {name}", over, END_S)

    def pods(self, name: str) -> list[Object]:
        """Of a TrainJob, oldest first."""
        found = self.items("pods", f"{JOB_SET_LABEL}={name}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def drop(self, file: Path, *words: str) -> str:
        """The id of the event that says so."""
        told = self.headrace("drop", str(file), "--target", "late", *words, "-o", "json")
        return str(json.loads(told)["event"])


@contextmanager
def applied(kubeconfig: Path, gateway: str, s3: S3, folder: Path) -> Iterator[TrainJobs]:
    """The overlay with this run's images upon the store; all gone afterwards. `folder`: for a kustomization."""
    objects = _overlay(folder, s3, policy_agent.gateway_networks(kubeconfig))
    environ = {**s3.outside, "HEADRACE_GATEWAY": f"http://{gateway}"}
    here = TrainJobs(kubeconfig, NAMESPACE, gateway, environ, applied=tuple(objects))
    try:
        (namespace,) = [o for o in objects if o["kind"] == "Namespace"]
        here.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(namespace))
        here.bring_keys(s3.keys)
        here.kubectl("apply", "--server-side", "-f", "-", given=listed(objects))
        until("everything Ready", lambda: here.run("status").returncode == 0)
        yield here
    finally:
        # A runtime stays for as long as there are TrainJobs of it, and Trainer to see that there are none.
        here.try_kubectl("delete", "trainjobs", "--all")
        here.try_kubectl("delete", "trainingruntimes", "--all")
        here.try_kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _overlay(folder: Path, s3: S3, networks: str) -> list[Object]:
    """What kustomize makes of an overlay upon ours: images, bucket and address, and this place's gateway."""
    container = "/spec/template/spec/containers/0"
    predictor = [
        {"op": "replace", "path": f"{container}/image", "value": reference("predictor")},
        {"op": "replace", "path": f"{container}/resources/requests/cpu", "value": "50m"},
    ]
    sink = f"http://broker-ingress.knative-eventing.svc.cluster.local/{NAMESPACE}/default"
    values = {
        "HEADRACE_STORE": f"s3://{s3.bucket}",
        "AWS_ENDPOINT_URL": s3.inside,
        "HEADRACE_JOURNAL": f"http://journal.{NAMESPACE}.svc.cluster.local/journal",
        "HEADRACE_PREDICTOR_PATCH": json.dumps(predictor),
        "K_SINK": sink,
        **QUICK,
    }
    gateways = [{"ipBlock": {"cidr": network}} for network in networks.split(",") if network]
    kustomization = {
        "resources": [os.path.relpath(FOLDER / "overlays" / "trainjob", folder.resolve())],
        "images": images(),
        "patches": [
            *(patch("ConfigMap", "headrace", "add", f"/data/{key}", value) for key, value in values.items()),
            patch("NetworkPolicy", "store", "add", "/spec/egress/0/ports/-", {"port": 8333, "protocol": "TCP"}),
            *(patch("NetworkPolicy", "services", "add", "/spec/ingress/0/from/-", each) for each in gateways),
            *(patch("NetworkPolicy", "canaries", "add", "/spec/egress/0/to/-", each) for each in gateways),
            # Small files, on a node that has other things to do.
            patch("TrainingRuntime", ".*", "add", CPU, "100m"),
            # Of one of the two, what else takes a day, and a minute.
            patch("TrainingRuntime", "neural-net", "add", f"{RUNTIME}/ttlSecondsAfterFinished", SHORT_S),
            patch("TrainingRuntime", "neural-net", "add", f"{JOB}/backoffLimit", 0),
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = [o for o in yaml.safe_load_all(build(folder)) if o]
    for o in objects:
        _move(o)
        if o["kind"] == "Namespace":
            o["metadata"]["name"] = NAMESPACE
    return objects


def _move(node: Any) -> None:
    """Into this namespace, references too: the overlay is for `headrace`, which somebody else may have."""
    if isinstance(node, dict):
        if node.get("namespace") == "headrace":
            node["namespace"] = NAMESPACE
        for each in node.values():
            _move(each)
    elif isinstance(node, list):
        for each in node:
            _move(each)


def listed(objects: Sequence[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def event(train_job: Object) -> Object:
    """What its trainer is told."""
    (variable,) = train_job["spec"]["trainer"]["env"]
    return dict(json.loads(variable["value"].replace("$$", "$")))
