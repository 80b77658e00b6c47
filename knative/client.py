"""Every call to the Kubernetes API: plain dicts in and out, nothing decided. It alone and `knative.kubeconfig` use
`kubernetes`.

Used by the promoter, the CLI and the tests, against a cluster and the laptop's platform alike. Paths come from
`knative.resources`, so a first call needs no discovery; `knative.answers` has what an API server may say besides yes.

Source: kubernetes.io/docs/reference/using-api/api-concepts (watch, resourceVersion, server-side apply).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import urllib3

from knative import answers, kubeconfig, pods
from knative.answers import ClusterError, Conflict, NotFound, OwnedField, Refused, Unreachable, refusal, skew
from knative.inside import Inside
from knative.resources import RESOURCES, Resource
from knative.streams import lines

__all__ = ["Cluster", "ClusterError", "Conflict", "NotFound", "Object", "OwnedField", "Refused", "Unreachable"]

Object = dict[str, Any]

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
WATCH_S = 60.0  # one watch request; shorter than the five minutes after which proxies cut what looks idle
RECONNECT_S = 1.0  # between a watch that broke and the next
GONE = 410
BUSY = 429  # a server that has more requests than it takes at once says so, and means it
BUSY_PAUSES_S = (1.0, 2.0, 4.0)
POD_WAIT_S = 60.0  # from a Job's creation to its pod's first line: scheduling and an image pull
NO_NAMES = ("", ".", "..")  # in a path they would lead to the list of all objects, or beside it
# Else an API server drops what it does not know without a word, and with it what somebody meant.
STRICTLY = {"fieldValidation": "Strict"}


class Cluster:
    """One namespace of one cluster. May be used from several threads at once.

    api: a kubernetes.client.ApiClient, which brings credentials (and renews them), certificates and connections.
    """

    def __init__(self, api: Any, namespace: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._api = api
        self._headers = headers
        self._skew_s = 0.0
        self.namespace = namespace
        """Where objects without a namespace of their own are read and written."""

    @classmethod
    def connect(
        cls,
        named: str | None = None,
        namespace: str | None = None,
        context: str | None = None,
        default_namespace: str = "default",
    ) -> Cluster:
        """The cluster that a kubeconfig names; no call to it is made yet.

        named: the kubeconfig's path, or several separated by `:`; None: kubectl's own, and where there is none, the
        pod's service account. context: one of the kubeconfig's, None: its current one. namespace: None takes the
        context's, or the pod's; default_namespace is for a context that names none. Raises Misconfigured.
        """
        opened = kubeconfig.opened(named, context, os.environ)
        return cls(opened.api, namespace or opened.namespace or default_namespace, opened.headers)

    def now(self) -> float:
        """Seconds since 1970 by the API server's clock, as of its last answer: the one that all pods can agree on."""
        return time.time() + self._skew_s

    @property
    def server(self) -> str:
        """The API server's URL, without credentials and without a slash at its end."""
        parts = urlsplit(str(self._api.configuration.host).rstrip("/"))
        # Credentials in a URL would end up in logs and errors; those of the kubeconfig's user travel in a header.
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def get(self, kind: str, name: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return self._json("GET", self._path(kind, name))
        except NotFound:
            return None

    def subresource(self, kind: str, name: str, subresource: str) -> Object | None:
        """What an object's subresource tells, or None where there is no such object or no such subresource."""
        try:
            return self._json("GET", self._path(kind, name, subresource=subresource))
        except NotFound:
            return None

    def list(self, kind: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        """All objects of `kind`, or those that carry all of `labels`."""
        found = self._json("GET", self._path(kind), _selector(labels))
        return [_typed(item, kind) for item in found.get("items") or ()]

    def create(self, obj: Object) -> Object:
        """The object as created. Raises Conflict where one of that name exists."""
        return self._json("POST", self._path(obj["kind"], namespace=_namespace(obj)), STRICTLY, obj)

    def apply(self, obj: Object, field_manager: str = "headrace", force: bool = True, dry_run: bool = False) -> Object:
        """The object after a server-side apply: the fields in `obj` are ours, all others stay as they are.

        force: takes over fields that another manager set; without it, Conflict names them all. dry_run: judged, with
        webhooks, and answered as it would be, but not written. Unknown fields are refused.
        """
        query = {"fieldManager": field_manager, "force": str(force).lower(), **STRICTLY}
        query |= {"dryRun": "All"} if dry_run else {}
        path = self._path(obj["kind"], obj["metadata"]["name"], namespace=_namespace(obj))
        return self._json("PATCH", path, query, obj, "application/apply-patch+yaml")

    def patch(self, kind: str, name: str, merge_patch: Object) -> Object:
        """The object after a JSON merge patch (RFC 7386): None removes a field, a list replaces the whole list.

        With `metadata.resourceVersion` in the patch: Conflict where the object is no longer the one that was read.
        """
        return self._json("PATCH", self._path(kind, name), STRICTLY, merge_patch, "application/merge-patch+json")

    def replace(self, obj: Object) -> Object:
        """The object as replaced. Raises Conflict where its resourceVersion is not the newest."""
        path = self._path(obj["kind"], obj["metadata"]["name"], namespace=_namespace(obj))
        return self._json("PUT", path, STRICTLY, obj)

    def delete(self, kind: str, name: str) -> None:
        """The object is asked to go, and with it, in the background, what it owns. Raises NotFound."""
        self._json("DELETE", self._path(kind, name), body={"propagationPolicy": "Background"})

    def serves(self, kind: str) -> bool:
        """Whether the cluster knows `kind`, in the version in which it is read and written here."""
        resource = _resource(kind)
        return any(each["name"] == resource.plural for each in self._resources(resource.root))

    def contents(self) -> Iterator[Object]:
        """Every object of the namespace, of every kind that the cluster can list and delete: what would go with it."""
        roots = [("", "/api/v1")]
        for group in self._json("GET", "/apis")["groups"]:
            # A group's preferred version comes first, and may lack kinds that another one has.
            versions = dict.fromkeys(v["groupVersion"] for v in (group["preferredVersion"], *group["versions"]))
            roots += [(group["name"], f"/apis/{version}") for version in versions]
        seen: set[tuple[str, str]] = set()
        for name, root in roots:
            for each in self._resources(root):
                if (name, each["name"]) in seen or not each["namespaced"] or "/" in each["name"]:
                    continue
                seen.add((name, each["name"]))
                if {"list", "delete"} <= set(each["verbs"]):
                    found = self._json("GET", f"{root}/namespaces/{quote(self.namespace)}/{each['name']}")
                    yield from ({"kind": each["kind"], **item} for item in found.get("items") or ())

    def _resources(self, root: str) -> Sequence[Object]:
        """What discovery lists below a group version's path; nothing where there is no such group version."""
        try:
            return self._json("GET", root).get("resources") or ()
        except NotFound:
            return ()

    def watch(
        self,
        kind: str,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[tuple[str, Object]]:
        """("ADDED" | "MODIFIED" | "DELETED", object): first what is there, as ADDED, then each change as it comes.

        Goes on across broken connections; after a gap too long for the server to fill, everything is listed again and
        what has gone meanwhile comes as DELETED. timeout_s: ends after that many seconds; None: never.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        known: dict[str, Object] = {}
        version: str | None = None
        while ends is None or time.monotonic() < ends:
            try:
                if version is None:
                    listed = self._json("GET", self._path(kind), _selector(labels))
                    version = str(listed["metadata"]["resourceVersion"])
                    yield from _differences(known, [_typed(i, kind) for i in listed.get("items") or ()], name)
                left = WATCH_S if ends is None else min(WATCH_S, ends - time.monotonic())
                for change, obj in self._changes(kind, labels, version, max(left, 1.0)):
                    if change == "ERROR":  # 410 Gone: the server no longer knows what happened since `version`
                        version = None
                        break
                    version = str(obj["metadata"]["resourceVersion"])
                    if change == "BOOKMARK" or (name is not None and obj["metadata"]["name"] != name):
                        continue
                    if change == "DELETED":
                        known.pop(obj["metadata"]["name"], None)
                    else:
                        known[obj["metadata"]["name"]] = obj
                    yield change, obj
            except Unreachable:
                time.sleep(RECONNECT_S if ends is None else max(0.0, min(RECONNECT_S, ends - time.monotonic())))
            except Refused as e:
                if version is None or e.status != GONE:
                    raise
                version = None  # the same 410, told before the stream began

    def through(
        self,
        place: Inside,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_s: float | None = READ_TIMEOUT_S,
    ) -> urllib3.BaseHTTPResponse:
        """What answers at `place`, asked through the API server; whatever its status, its body is not read yet.

        Asks with the kubeconfig's credentials, which the API server keeps to itself. Raises Refused without the right
        to do so, NotFound where there is no such Service, Unreachable where nothing answers behind it.
        """
        what = f"{method} {place.proxy_path}"
        response = self._request(method, place.proxy_path, headers, body, read_s)
        try:
            if response.status >= 300 and "json" in response.headers.get("Content-Type", ""):
                # Its own answers are Status objects; what the place itself said is handed on as it is.
                said = response.data
                if answers.is_status(said):
                    raise refusal(what, response.status, said)
        except urllib3.exceptions.HTTPError as e:
            raise Unreachable(f"{what}: no answer from {self.server}: {e}") from e
        return response

    def pod_logs(self, pod: str, container: str | None = None, follow: bool = False) -> Iterator[str]:
        """The lines that a pod's container wrote, without their line ends; with `follow` until it ends.

        container: None where the pod has one alone. Raises NotFound, Refused while it has not begun.
        """
        query = {"follow": "true"} if follow else {}
        query |= {"container": container} if container else {}
        path = self._path("Pod", pod, subresource="log")
        with closing(self._open("GET", path, query, read_s=None if follow else READ_TIMEOUT_S)) as response:
            yield from lines(response)

    def logs(self, job: str, follow: bool = False) -> Iterator[str]:
        """The lines that the newest pod of Job `job` wrote, without their line ends; with `follow` until it ends.

        With `follow` a pod that has yet to start is waited for, a minute at most. Raises NotFound: no pod.
        """
        ends = time.monotonic() + POD_WAIT_S
        while True:
            pod = pods.newest(self.list("Pod", {pods.JOB_LABEL: job}))
            try:
                if pod is None:
                    raise NotFound(f"Job {job} has no pod")
                yield from self.pod_logs(pod["metadata"]["name"], follow=follow)
                return
            except (NotFound, Refused):
                # A pod whose container is not created yet is answered 400.
                if not follow or time.monotonic() > ends:
                    raise
                time.sleep(RECONNECT_S)

    def _changes(
        self, kind: str, labels: Mapping[str, str] | None, version: str, timeout_s: float
    ) -> Iterator[tuple[str, Object]]:
        """One watch request's changes, until the server or the connection ends it."""
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query |= {"timeoutSeconds": str(int(timeout_s)), **_selector(labels)}
        # The server ends it; the margin is for one that died without a word.
        with closing(self._open("GET", self._path(kind), query, read_s=timeout_s + READ_TIMEOUT_S)) as response:
            for line in lines(response):
                if line:
                    change = json.loads(line)
                    yield str(change["type"]), change["object"]

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        with closing(self._open(method, path, query, body, content)) as response:
            try:
                answer = json.loads(response.data)
            except urllib3.exceptions.HTTPError as e:
                raise Unreachable(f"{method} {path}: the answer broke off: {e}") from e
            except ValueError as e:
                raise Refused(
                    f"{method} {path}", f"the answer is no JSON: {response.data[:200]!r}", response.status
                ) from e
        if not isinstance(answer, dict):
            raise Refused(f"{method} {path}", f"the answer is no object: {response.data[:200]!r}", response.status)
        return answer

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
        read_s: float | None = READ_TIMEOUT_S,
    ) -> urllib3.BaseHTTPResponse:
        """A 2xx answer whose body has not been read. Raises what the module's tree shows."""
        headers = {"Accept": "application/json", "Content-Type": content}
        sent = None if body is None else json.dumps(body).encode()
        target = path + (f"?{urlencode(query)}" if query else "")
        response = self._request(method, target, headers, sent, read_s)
        for pause_s in BUSY_PAUSES_S:
            if response.status != BUSY:
                break
            # It has done nothing yet, whatever was asked. Its own Retry-After is one second, mostly.
            response.close()
            time.sleep(pause_s)
            response = self._request(method, target, headers, sent, read_s)
        self._skew_s = skew(response.headers.get("Date"), time.time())
        if response.status >= 300:
            with closing(response):
                try:
                    said = response.data
                except urllib3.exceptions.HTTPError as e:
                    raise Unreachable(f"{method} {path}: the answer broke off: {e}") from e
                raise refusal(f"{method} {path}", response.status, said)
        return response

    def _request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, read_s: float | None
    ) -> urllib3.BaseHTTPResponse:
        """The answer to one request in the kubeconfig's name, whatever its status, its body not read yet.

        Past `ApiClient.call_api`, which makes an error of its own of a certificate that is not trusted.
        """
        sent = urllib3.HTTPHeaderDict(headers)
        self._api.update_params_for_auth(sent, [], ["BearerToken"], None, None, None)
        if "authorization" in sent:  # a token that was pasted with its line end is a token
            sent["authorization"] = sent["authorization"].strip()
        for name, value in self._headers:
            sent.add(name, value)
        try:
            response: urllib3.BaseHTTPResponse = self._api.rest_client.pool_manager.request(
                method,
                self.server + target,
                body=body,
                headers=sent,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_s),
                preload_content=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as e:
            path = target.partition("?")[0]
            raise Unreachable(f"{method} {path}: no answer from {self.server}: {e}") from e
        return response

    def _path(
        self, kind: str, name: str | None = None, subresource: str | None = None, namespace: str | None = None
    ) -> str:
        if name in NO_NAMES:
            raise NotFound(f"no {kind} can be called {name!r}")
        return _resource(kind).path(namespace or self.namespace, name, subresource)


def _resource(kind: str) -> Resource:
    resource = RESOURCES.get(kind)
    if resource is None:
        raise NotFound(f"kind {kind!r} is unknown here; expected one of {', '.join(RESOURCES)}")
    return resource


def _selector(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{k}={v}" for k, v in labels.items())} if labels else {}


def _namespace(obj: Object) -> str | None:
    namespace: str | None = obj["metadata"].get("namespace")
    return namespace


def _typed(item: Object, kind: str) -> Object:
    """A list's item with the kind that a list leaves to its head."""
    return {"apiVersion": RESOURCES[kind].api_version, "kind": kind, **item}


def _differences(known: dict[str, Object], items: list[Object], name: str | None) -> Iterator[tuple[str, Object]]:
    """What a fresh list tells that `known` (name to object, brought up to date here) did not."""
    fresh = {item["metadata"]["name"]: item for item in items if name is None or item["metadata"]["name"] == name}
    for gone in [n for n in known if n not in fresh]:
        yield "DELETED", known.pop(gone)
    for n, item in fresh.items():
        change = "MODIFIED" if n in known else "ADDED"
        if n not in known or known[n]["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
            known[n] = item
            yield change, item
