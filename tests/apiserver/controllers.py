"""Knative's controllers as far as a test needs them: they say of each object what became of it, in its status.

They stand at the process seam, behind a real API server: they look at all objects every LOOK_S, create Revisions for
Services, and write conditions through the status subresource, as Knative does. What answers under a tag is here, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

from knative import rollout
from knative.client import ClusterError
from knative.resources import RESOURCES
from tests.apiserver.control_plane import ControlPlane
from tests.functions.promoter import knative_stand_in
from tests.functions.promoter.knative_stand_in import Behaviour

Object = dict[str, Any]

LOOK_S = 0.1
KINDS = ("Service", "Broker", "Trigger", "JobSink", "ContainerSource")
NOW = "2026-01-01T00:00:00Z"


class Controllers:
    """What looks after one namespace.

    url: where Services answer, by path, as on a laptop.
    """

    def __init__(self, plane: ControlPlane, namespace: str, url: str) -> None:
        self.unready: dict[str, Mapping[str, str]] = {}
        """By kind and name, the Ready condition of what does not get so."""
        self.behaviours: dict[str, Behaviour] = {}
        """How the revisions of a model version answer."""
        self.splits: list[dict[str, int]] = []
        """Each split of traffic between model versions that was routed, in order."""
        self.tagged: dict[str, str] = {}
        """The version that answers under TAG-NAME."""
        self._cluster = plane.connect(namespace)
        api = kubernetes_config.new_client_from_config(str(plane.kubeconfig(namespace)))
        self._custom = kubernetes_client.CustomObjectsApi(api)
        self._namespace, self._url = namespace, url

    def behave(self, version: str) -> Behaviour:
        return self.behaviours.setdefault(version, Behaviour())

    def look(self) -> None:
        """One look at everything."""
        for kind in KINDS:
            for obj in self._cluster.list(kind):
                name, status = obj["metadata"]["name"], dict(obj.get("status") or {})
                if kind == "Service":
                    wanted = self._service(obj)
                elif kind == "Broker":
                    wanted = {"address": {"url": f"{self._url}/broker/{self._namespace}/{name}"}}
                else:
                    wanted = {}
                condition = {"type": "Ready", "status": "True", "lastTransitionTime": NOW}
                condition |= self.unready.get(f"{kind} {name}", {})
                wanted |= {"observedGeneration": obj["metadata"]["generation"], "conditions": [condition]}
                if any(status.get(key) != value for key, value in wanted.items()):
                    self._write(kind, name, wanted)

    def _service(self, service: Object) -> Object:
        """What the status of a Service says; its Revisions are made on the way."""
        name, template = service["metadata"]["name"], service["spec"]["template"]
        found = sorted(
            self._cluster.list("Revision", {rollout.SERVICE_LABEL: name}), key=lambda r: str(r["metadata"]["name"])
        )
        if not found or found[-1]["spec"] != template["spec"]:
            labels = {rollout.SERVICE_LABEL: name}
            made = {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Revision",
                "metadata": {"name": f"{name}-{len(found) + 1:05d}", "labels": labels},
                "spec": template["spec"],
            }
            found.append(self._cluster.create(made))
        names = [revision["metadata"]["name"] for revision in found]
        for revision in found:
            said = {"type": "Ready", "status": "True", "lastTransitionTime": NOW}
            said |= self.unready.get(f"Revision {revision['metadata']['name']}", {})
            if rollout.readiness(revision).status != said["status"]:
                generation = revision["metadata"]["generation"]
                self._write(
                    "Revision", revision["metadata"]["name"], {"observedGeneration": generation, "conditions": [said]}
                )
        targets = service["spec"].get("traffic") or [{"latestRevision": True, "percent": 100}]
        traffic = [{**t, "revisionName": t.get("revisionName") or names[-1]} for t in targets]
        versions = {revision["metadata"]["name"]: rollout.version_of(revision) for revision in found}
        split = {str(versions[t["revisionName"]]): t["percent"] for t in traffic if t.get("percent")}
        if not self.splits or self.splits[-1] != split:
            self.splits.append(split)
        self.tagged |= {f"{t['tag']}-{name}": str(versions[t["revisionName"]]) for t in traffic if t.get("tag")}
        return {
            "latestCreatedRevisionName": names[-1],
            "latestReadyRevisionName": names[-1],
            "address": {"url": f"{self._url}/svc/{self._namespace}/{name}"},
            "traffic": traffic,
        }

    def _write(self, kind: str, name: str, status: Object) -> None:
        group, _, version = RESOURCES[kind].api_version.partition("/")
        self._custom.patch_namespaced_custom_object_status(
            group, version, self._namespace, RESOURCES[kind].plural, name, {"status": status}
        )


@contextmanager
def running(plane: ControlPlane, namespace: str) -> Iterator[Controllers]:
    """Controllers that look again and again, until the end, and the revisions' answers."""
    stop = threading.Event()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            _, _, _, tagged, *rest = self.path.split("/")
            version = controllers.tagged.get(tagged, "")
            status, text = _said(version, controllers.behave(version), tagged.partition("-")[2], rest == ["metrics"])
            self.send_response(status if version else 404)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    controllers = Controllers(plane, namespace, f"http://127.0.0.1:{server.server_port}")

    def work() -> None:
        while not stop.wait(LOOK_S):
            try:
                controllers.look()
            except (ClusterError, kubernetes_client.ApiException):
                continue  # it was changed or removed meanwhile: the next look sees that

    threads = [threading.Thread(target=work), threading.Thread(target=server.serve_forever)]
    for thread in threads:
        thread.start()
    try:
        yield controllers
    finally:
        stop.set()
        server.shutdown()
        for thread in threads:
            thread.join()
        server.server_close()


def _said(version: str, behaviour: Behaviour, model: str, metrics: bool) -> tuple[int, str]:
    if metrics:
        return 200, knative_stand_in.exposition(model, version, behaviour)
    behaviour.requests += 1
    body = {"predictions": behaviour.answers} if behaviour.status == 200 else {"error": "no"}
    return behaviour.status, json.dumps(body)
