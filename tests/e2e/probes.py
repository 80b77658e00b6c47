"""Pods that stand where ours stand, by their labels, and say what they reach: in them is seen who is let through where.

Of predictors there are two, by a Deployment, and the trainer is a Job's, as in the loop: budgets of disruption look at
who runs a pod. Two more bear none of our labels: a neighbour in the namespace, and a stranger in another one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Kubectl = Callable[..., str]
Object = dict[str, Any]

PART_OF = {"app.kubernetes.io/part-of": "headrace"}
COMPONENTS = ("predictor", "trainer", "source", "promoter", "drift-watch", "dead-letters")
OTHERS = ("neighbour", "stranger")
LISTENING = (8012, 8080, 9090)  # queue-proxy, the process behind it, queue-proxy's measurements
READY_S = 180.0
SETTLED_S = 30.0  # policies follow a pod that has just started within a moment; this long it may take

SERVER = """
import signal, socket, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
def serve(port):
    with socket.create_server(("0.0.0.0", port)) as listener:
        while True:
            listener.accept()[0].close()
for port in map(int, sys.argv[1:]):
    threading.Thread(target=serve, args=(port,), daemon=True).start()
signal.pause()
"""
# What is open and what is not, each waited for until it is as it should be; a name that nobody knows is an error.
CLIENT = """
import json, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
wanted, within = json.loads(sys.argv[1]), float(sys.argv[2])
def opens(host, port):
    address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    try:
        socket.create_connection(address, 2).close()
    except OSError:
        return False
    return True
def settled(target):
    host, port, expected = target
    deadline, seen = time.monotonic() + within, None
    while time.monotonic() < deadline:
        try:
            seen = opens(host, port)
        except socket.gaierror as e:
            seen = f"{host}: {e}"
        if seen is expected:
            break
        time.sleep(0.5)
    return seen
with ThreadPoolExecutor(16) as pool:
    print(json.dumps(dict(zip(wanted, pool.map(settled, wanted.values())))))
"""


@dataclass(frozen=True)
class Probes:
    """The pods, ready."""

    kubectl: Kubectl
    """In the namespace that is looked at; another `-n` may follow."""
    elsewhere: str
    """The other namespace."""

    def pods(self, who: str) -> list[Object]:
        found = json.loads(self.kubectl(*self._at(who), "get", "pods", "-l", f"probe={who}", "-o", "json"))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def run(self, who: str, code: str, *words: str) -> str:
        """What Python code prints in a pod."""
        pod = self.pods(who)[0]["metadata"]["name"]
        return self.kubectl(*self._at(who), "exec", pod, "--", "python", "-c", code, *words)

    def reach(self, who: str, targets: Mapping[str, tuple[str, int, bool]]) -> dict[str, bool | str]:
        """Whether each target (host, port, whether it should) takes a connection from there."""
        found: dict[str, bool | str] = json.loads(self.run(who, CLIENT, json.dumps(targets), str(SETTLED_S)))
        return found

    def _at(self, who: str) -> tuple[str, ...]:
        return ("-n", self.elsewhere) if who == "stranger" else ()


@contextmanager
def running(kubectl: Kubectl, elsewhere: str, image: str) -> Iterator[Probes]:
    """All of them, of an image that has Python; gone afterwards."""
    probes = Probes(kubectl, elsewhere)
    objects = [*_of_ours(image), _bare("neighbour", image, {})]
    try:
        kubectl("create", "namespace", elsewhere)
        kubectl("apply", "-f", "-", given=_list(objects))
        kubectl("-n", elsewhere, "apply", "-f", "-", given=_list([_bare("stranger", image, {})]))
        _wait(probes)
        yield probes
    finally:
        kubectl("delete", "deployment,job,pod", "-l", "probe", "--wait=false", "--now")
        kubectl("delete", "namespace", elsewhere, "--wait=false", "--ignore-not-found")


def _wait(probes: Probes) -> None:
    deadline = time.monotonic() + READY_S
    missing = {who: 2 if who == "predictor" else 1 for who in (*COMPONENTS, *OTHERS)}
    while missing and time.monotonic() < deadline:
        missing = {who: n for who, n in missing.items() if sum(map(_is_ready, probes.pods(who))) < n}
        time.sleep(0.5)
    assert not missing, f"not ready: {', '.join(missing)}\n{probes.kubectl('get', 'events')}"


def _is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def _of_ours(image: str) -> Iterator[Object]:
    for component in COMPONENTS:
        labels = {**PART_OF, "app.kubernetes.io/component": component}
        if component == "predictor":
            # As of a Knative Service: what such a pod lets in is selected by that.
            yield _deployment(component, image, {**labels, "serving.knative.dev/service": "probe"}, replicas=2)
        elif component == "trainer":
            yield _job(component, image, labels)
        else:
            yield _bare(component, image, labels)


def _bare(name: str, image: str, labels: Mapping[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _meta(name, labels, named=True), "spec": _spec(image)}


def _job(name: str, image: str, labels: Mapping[str, str]) -> Object:
    template = {"metadata": _meta(name, labels), "spec": {**_spec(image), "restartPolicy": "Never"}}
    head = {"apiVersion": "batch/v1", "kind": "Job", "metadata": _meta(name, {}, named=True)}
    return {**head, "spec": {"template": template}}


def _deployment(name: str, image: str, labels: Mapping[str, str], replicas: int) -> Object:
    template = {"metadata": _meta(name, labels), "spec": _spec(image)}
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _meta(name, {}, named=True)}
    selector = {"matchLabels": {"probe": name}}
    return {**head, "spec": {"replicas": replicas, "selector": selector, "template": template}}


def _meta(name: str, labels: Mapping[str, str], named: bool = False) -> Object:
    return {**({"name": f"probe-{name}"} if named else {}), "labels": {"probe": name, **labels}}


def _spec(image: str) -> Object:
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "probe",
                "image": image,
                "command": ["python", "-c", SERVER, *map(str, LISTENING)],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "runAsNonRoot": True,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            }
        ],
    }


def _list(objects: list[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
