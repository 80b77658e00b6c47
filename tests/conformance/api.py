"""The Kubernetes API as a test asks it: any method, query and content type, and the answer whatever its status.

The credentials are the kubeconfig's. Nothing of `knative.client` is used, for what is asked here is more than that
client asks, refusals included.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

from knative.resources import RESOURCES, Resource

Object = dict[str, Any]
T = TypeVar("T")

WITHIN_S = 120.0  # for anything that is waited for: generous, because the machine may be busy with other things
AGAIN_S = 0.5
GIVEN_UP = threading.Event()
"""Set when nobody waits for the promises any more: a run that is interrupted must end."""
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
APPLY, STRATEGIC = "application/apply-patch+yaml", "application/strategic-merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
CORE_SERVICE = Resource("v1", "services")  # of two kinds named Service, RESOURCES means Knative's


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API server answered."""

    status: int
    body: Object
    warnings: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Api:
    """The API server of a kubeconfig. namespace: where namespaced objects are, unless told otherwise."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
        configuration.retries = False
        configuration.connection_pool_maxsize = 64  # as many promises may ask at once
        self._client = client.ApiClient(configuration)
        self._server = str(configuration.host).rstrip("/")
        self.namespace = namespace

    def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        """The answer with its body unread. body: JSON value, or bytes as they are."""
        headers = {"Accept": accept, "Content-Type": content}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._server + path + (f"?{urlencode(query)}" if query else "")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        pool = self._client.rest_client.pool_manager
        response: urllib3.BaseHTTPResponse = pool.request(
            method, url, body=data, headers=headers, preload_content=False, timeout=WITHIN_S
        )
        return response

    def __call__(self, method: str, path: str, query: Mapping[str, Any] | None = None, **how: Any) -> Reply:
        with closing(self.open(method, path, query, **how)) as answer:
            raw = answer.read()
            warnings = tuple(answer.headers.getlist("Warning"))
            try:
                return Reply(answer.status, json.loads(raw), warnings)
            except ValueError:
                return Reply(answer.status, {"text": raw.decode(errors="replace")}, warnings)
            finally:
                answer.release_conn()

    def path(self, kind: str, name: str | None = None, subresource: str | None = None) -> str:
        return RESOURCES[kind].path(self.namespace, name, subresource)

    # ---- what most tests do with it ------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Object | None:
        reply = self("GET", self.path(kind, name))
        return None if reply.status == 404 else _fine(reply)

    def list(self, kind: str, **query: Any) -> list[Object]:
        items: list[Object] = _fine(self("GET", self.path(kind), query))["items"]
        return items

    def create(self, obj: Object) -> Object:
        return self._written("POST", self.path(obj["kind"]), {"fieldValidation": "Strict"}, body=obj)

    def apply(self, obj: Object, manager: str = "conformance") -> Object:
        """Server-side apply with force."""
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        path = self.path(obj["kind"], obj["metadata"]["name"])
        return self._written("PATCH", path, query, body=obj, content=APPLY)

    def merge(self, kind: str, name: str, patch: Object) -> Object:
        return self._written("PATCH", self.path(kind, name), body=patch, content=MERGE)

    def delete(self, kind: str, name: str) -> None:
        self._written("DELETE", self.path(kind, name), body={"propagationPolicy": "Background"})

    def _written(self, method: str, path: str, query: Mapping[str, Any] | None = None, **how: Any) -> Object:
        """What a write gives; a webhook's pod that has been restarted is waited for, for nothing was written."""

        def answered() -> Reply | None:
            reply = self(method, path, query, **how)
            return None if reply.status == 500 and "failed calling webhook" in reply.message else reply

        return _fine(until("an answer of the webhook", answered))

    def log(self, pod: str) -> str:
        reply = self("GET", self.path("Pod", pod, "log"))
        assert reply.status in (200, 204, 400, 404), reply  # its container has yet to start, or it has just gone
        return str(reply.body.get("text", json.dumps(reply.body))) if reply.status == 200 else ""

    def condition(self, kind: str, name: str, type: str = "Ready") -> Object:
        """The condition, empty as long as there is none."""
        found = (self.get(kind, name) or {}).get("status") or {}
        return next((c for c in found.get("conditions") or () if c["type"] == type), {})

    def until_condition(self, kind: str, name: str, type: str = "Ready", status: str = "True") -> Object:
        """The object, once the condition has that status for the newest generation."""

        def reached() -> Object | None:
            obj = self.get(kind, name) or {}
            told = obj.get("status") or {}
            # A status that is about an older spec says nothing of this one.
            if told.get("observedGeneration", obj.get("metadata", {}).get("generation")) != obj["metadata"].get(
                "generation"
            ):
                return None
            met = any(c["type"] == type and c["status"] == status for c in told.get("conditions") or ())
            return obj if met else None

        return until(f"{kind} {name}: {type}={status}", reached, lambda: self.get(kind, name))

    def watch(self, kind: str, **query: Any) -> Iterator[Object]:
        """Each line of a watch, until the server ends it."""
        with closing(self.open("GET", self.path(kind), {"watch": "true", **query})) as answer:
            rest = b""
            assert answer.status == 200, answer.read()
            while chunk := answer.read1(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)


def until(what: str, condition: Callable[[], T | None], or_show: Callable[[], Any] = lambda: "") -> T:
    """What `condition` gives once that is neither None nor false. Fails naming what was waited for, and what is."""
    ends = time.monotonic() + WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < ends, f"{what} did not come about within {WITHIN_S:.0f} s: {or_show()}"
        assert not GIVEN_UP.wait(AGAIN_S), f"{what} was waited for when the run was given up"
    return found


def _fine(reply: Reply) -> Object:
    assert reply.status < 300, f"{reply.status} {reply.message}"
    return reply.body
