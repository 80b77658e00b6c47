"""A place where Headrace's manifests run, as the suite meets it: a kubeconfig, an image, and how to reach a URL.

The laptop is `headrace up` in a home of its own. A cluster is whatever `$KUBECONFIG` names; its variables:

    CONFORMANCE_NAMESPACE  made, and removed at the end; `conformance-` and four letters, as the last may be on its
                           way out still
    CONFORMANCE_IMAGE      holds `python`, 3.11 or newer; without it one is made by `tests.conformance.image`
    CONFORMANCE_ADDRESSES  NAME.NAMESPACE=HOST:PORT by commas: where a Service of the cluster answers, e.g. from
                           `kubectl port-forward`; without it at its ClusterIP, which a node of the cluster reaches
    CONFORMANCE_GATEWAY    what routes Knative's hosts, HOST:PORT or the NAME.NAMESPACE of a Service; else E2E_GATEWAY,
                           else the one that a kit of this machine makes
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from tests.conformance import image, manifests, wire
from tests.conformance.api import CORE_SERVICE, WITHIN_S, Api, Object, until
from tests.conformance.wire import Answer, Seen
from tests.running import platform

CLUSTER_LOCAL = ".svc.cluster.local"
# As quick to zero as the other place, which has to wait for the same: Knative's defaults are 60 s and 30 s.
# Knative's default doubles its wait up to minutes: an attempt that a busy machine fails would be made again too late.
SOON_AGAIN = {"retry": 15, "backoffPolicy": "linear", "backoffDelay": "PT0.5S"}
AUTOSCALER = {"stable-window": "10s", "scale-to-zero-grace-period": "5s"}


class Stage:
    """What many promises look at: made once, by the first that asks; where that failed, it has failed for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._made: dict[str, Future[Any]] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        with turn:
            made = self._made.get(name)
            if made is None:
                made = self._made[name] = Future()
                try:
                    made.set_result(make())
                except Exception as e:  # noqa: BLE001 - whoever asks hears of it
                    made.set_exception(e)
        return made.result()

    def forget_failures(self) -> None:
        """Who asks next makes anew what could not be made."""
        with self._lock:
            self._made = {name: made for name, made in self._made.items() if not (made.done() and made.exception())}


@dataclass(frozen=True)
class Place:
    """named: the rows of the table of differences that a promise named."""

    name: str
    api: Api
    kubeconfig: Path
    image: str
    gateway: str
    addresses: Mapping[str, str]
    scratch: Path
    stage: Stage = field(default_factory=Stage)
    named: set[str] = field(default_factory=set)

    @property
    def is_laptop(self) -> bool:
        return self.name == "laptop"

    # ---- HTTP ----------------------------------------------------------------------------------------------------

    def where(self, url: str) -> tuple[str, str, str]:
        """Address to connect to, Host, and path of a URL that an object's status tells."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.hostname or ""
        if self.is_laptop:
            return f"127.0.0.1:{parts.port}", parts.netloc, path
        if host.endswith(CLUSTER_LOCAL):
            return self.address(host.removesuffix(CLUSTER_LOCAL)), parts.netloc, path
        return self.address(self.gateway), parts.netloc, path

    def address(self, service: str) -> str:
        """HOST:PORT of a core Service, NAME.NAMESPACE; what is an address already is itself."""
        if ":" in service:
            return service
        if service in self.addresses:
            return self.addresses[service]

        def read() -> str:
            name, _, namespace = service.partition(".")
            spec = self.api("GET", CORE_SERVICE.path(namespace, name)).body["spec"]
            return f"{spec['clusterIP']}:{spec['ports'][0]['port']}"

        return str(self.stage.once(f"address of {service}", read))

    def ask(
        self,
        url: str,
        path: str = "",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_s: float = wire.ANSWER_S,
    ) -> Answer:
        """The answer at `path` below `url`, whatever its status."""
        address, host, here = self.where(url)
        return wire.ask(
            address,
            here.rstrip("/") + path if path else here,
            method,
            {"Host": host, **(headers or {})},
            body,
            timeout_s,
        )

    @contextlib.contextmanager
    def asked(self, url: str, path: str, method: str = "GET", body: Any = None) -> Iterator[Any]:
        """The answer with its body unread."""
        address, host, here = self.where(url)
        with wire.asked(address, here.rstrip("/") + path, method, {"Host": host}, body) as answer:
            yield answer

    def kubectl(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """`kubectl WORDS` in the suite's namespace, however it ends."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", self.api.namespace]
        command += ["--cache-dir", str(self.scratch / "kubectl-cache"), *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=WITHIN_S, check=False)

    # ---- Services ------------------------------------------------------------------------------------------------

    def service(self, name: str, **options: Any) -> Object:
        """A Service of the suite's program, Ready: one of a name, whoever asks for it. options: `manifests.service`."""

        def make() -> Object:
            self.api.apply(manifests.service(self.image, name, **options))
            return self.api.until_condition("Service", name)

        made: Object = self.stage.once(f"Service {name}", make)
        return made

    def url(self, service: str) -> str:
        return str(self.service(service)["status"]["url"])

    def echo(
        self, path: str = "/", method: str = "GET", headers: Mapping[str, str] | None = None, body: Any = None
    ) -> Seen:
        """How the Service `echo` saw a request."""
        answer = self.ask(self.url("echo"), path, method, headers, body)
        assert answer.status == 200, answer
        return Seen.of(answer.json())

    # ---- boxes: what a subscriber was sent -------------------------------------------------------------------------

    def box(self, name: str, service: str = "sink") -> list[Seen]:
        """What a box has been sent, oldest first."""
        if service == "sink":
            self.service("sink", scale=(1, 1))
        answer = self.ask(self.url(service), f"/box/{name}")
        assert answer.status == 200, answer
        return [Seen.of(note) for note in answer.json()]

    def until_box(self, name: str, count: int = 1) -> list[Seen]:
        """What the box has been sent, once that is `count` requests."""

        def enough() -> tuple[list[Seen]] | None:
            return (seen,) if len(seen := self.box(name)) >= count else None

        (seen,) = until(f"{count} requests in box {name}", enough, lambda: self.box(name))
        return seen

    # ---- pods ----------------------------------------------------------------------------------------------------

    def scale(self, service: str) -> tuple[int, str]:
        """Pods of the Service's latest revision, and the status of the revision's condition Active."""
        name = self.service(service)["status"]["latestReadyRevisionName"]
        revision = self.api.get("Revision", name) or {}
        pods = (revision.get("status") or {}).get("actualReplicas") or 0
        return pods, str(self.api.condition("Revision", name, "Active").get("status"))

    def until_zero(self, service: str) -> None:
        until(f"no pod of {service}", lambda: self.scale(service) == (0, "False"), lambda: self.scale(service))

    def until_pods(self, service: str, count: int = 1) -> None:
        until(f"pods of {service}", lambda: self.scale(service)[0] >= count, lambda: self.scale(service))

    def jobs_told(self, job_sink: str = "train") -> list[Object]:
        """What the Jobs of a JobSink have written of themselves, of those that have got so far."""
        selector = {"labelSelector": f"sinks.knative.dev/job-sink-name={job_sink}"}
        return [told for job in self.api.list("Job", **selector) for told in self.told(job["metadata"]["name"])]

    def told(self, job: str) -> list[Object]:
        """What each pod of a Job has written: one JSON object, or nothing yet."""
        pods = self.api.list("Pod", labelSelector=f"batch.kubernetes.io/job-name={job}")
        lines = [line for pod in pods for line in self.api.log(pod["metadata"]["name"]).splitlines()]
        # Before a container writes, a node may have words of its own in the place of the log.
        return [json.loads(line) for line in lines if line.startswith("{")]

    # ---- Broker and JobSink --------------------------------------------------------------------------------------

    def broker(self, name: str = "default", **spec: Any) -> str:
        """The URL of a Broker that is Ready, made by the first that asks."""

        def make() -> str:
            self.api.apply(manifests.broker(name, **(spec or {"delivery": SOON_AGAIN})))
            return str(self.api.until_condition("Broker", name)["status"]["address"]["url"])

        return str(self.stage.once(f"Broker {name}", make))

    def trigger(self, name: str, sink: str | None = None, broker: str = "default", **spec: Any) -> Object:
        """A Trigger at work, to path `sink` (box `name`) of the sink, for events of type `test.NAME` by default.

        Ready is not enough: for a while after it, the channel of a cluster's Broker may lose what it has taken. So an
        event goes ahead that nobody asks after.
        """
        wanted = spec.pop("filters", [{"exact": {"type": f"test.{name}"}}])
        spec["filters"] = [{"any": [{"all": wanted}, {"exact": {"type": f"probe.{name}"}}]}]
        path = sink or f"/box/{name}"
        made = self.ready_trigger(name, path, broker, **spec)
        box = "probes-of-" + path.partition("?")[0].removeprefix("/box/")

        def at_work() -> bool:
            self.send(wire.binary(f"probe-{name}", type=f"probe.{name}"), broker=broker)
            return bool(self.box(box))

        until(f"an event through Trigger {name}", at_work)
        return made

    def ready_trigger(self, name: str, sink: str, broker: str = "default", **spec: Any) -> Object:
        """A Trigger as it is given, Ready, to a path of the sink."""
        self.service("sink", scale=(1, 1))
        self.broker(broker)
        self.api.apply(manifests.trigger(name, sink, broker, **spec))
        return self.api.until_condition("Trigger", name)

    def send(self, headers: Mapping[str, str], body: Any = b'{"n":1}', broker: str = "default") -> Answer:
        """The Broker's answer to an event."""
        return self.ask(self.broker(broker), "", "POST", headers, body)

    def job_sink(self, name: str = "train", **options: Any) -> str:
        """The URL of a JobSink of the suite's program that is Ready, and known where events come in: in a cluster that
        is another process, which hears of it a moment later and refuses for good what comes before.
        """

        def make() -> str:
            self.api.apply(manifests.job_sink(self.image, name, **options))
            url = str(self.api.until_condition("JobSink", name)["status"]["address"]["url"])
            nothing = f"/namespaces/{self.api.namespace}/name/{name}/sources/nobody/ids/nothing"
            until(f"JobSink {name} where events come in", lambda: self.follow(url, nothing).status != 400)
            return url

        return str(self.stage.once(f"JobSink {name}", make))

    def follow(self, url: str, location: str) -> Answer:
        """The answer at a Location that `url` answered with."""
        address, host, _ = self.where(url)
        return wire.ask(address, urlsplit(urljoin(url, location)).path, headers={"Host": host})


@contextlib.contextmanager
def laptop(scratch: Path) -> Iterator[Place]:
    """`headrace up`, in a namespace of the suite's own."""
    for running in platform():
        kubeconfig = running.home / "kubeconfig"
        api = Api(kubeconfig, "conformance")
        for namespace in ("conformance", "knative-serving"):
            api("POST", "/api/v1/namespaces", body=manifests.namespace(namespace))
        defaults = manifests.config_map("config-autoscaler", AUTOSCALER, "knative-serving")
        Api(kubeconfig, "knative-serving").create(defaults)
        yield Place("laptop", api, kubeconfig, "example.test/conformance:1", "", {}, scratch)


@contextlib.contextmanager
def cluster(scratch: Path) -> Iterator[Place]:
    """The cluster of `$KUBECONFIG`, in a namespace that is removed at the end."""
    namespace = os.environ.get("CONFORMANCE_NAMESPACE") or f"conformance-{secrets.token_hex(2)}"
    kubeconfig = Path(os.environ["KUBECONFIG"])
    api = Api(kubeconfig, namespace)
    until(f"namespace {namespace}", lambda: _made(api, namespace))
    pairs = [pair.split("=", 1) for pair in os.environ.get("CONFORMANCE_ADDRESSES", "").split(",") if pair]
    gateway = os.environ.get("CONFORMANCE_GATEWAY") or os.environ.get("E2E_GATEWAY") or "gateway.knative-gateway"
    try:
        yield Place("cluster", api, kubeconfig, image.name(), gateway, dict(pairs), scratch)
    finally:
        api("DELETE", f"/api/v1/namespaces/{namespace}")


def _made(api: Api, namespace: str) -> bool:
    """Whether the namespace is there, and not on its way out since an earlier run."""
    made = api("POST", "/api/v1/namespaces", body=manifests.namespace(namespace))
    assert made.status in (201, 409), made
    return made.status == 201 or api("GET", f"/api/v1/namespaces/{namespace}").body["status"]["phase"] == "Active"
