"""The Kubernetes REST API of the laptop: the seam through which kubectl, the promoter, the CLI and the tests work.

What a request may do is parsed in `api_request`, done in `writes` and `watching`, shown by `table`, `discovery` and
`openapi`; here is the door: who may come in, which of them a request is for, and how a refusal is said.

Left out, and answered honestly (404, or 400 with the reason): resources and fields that our manifests do not use, exec,
attach, port-forward, authorization (whoever has the token of this home may do everything).
Source: kubernetes.io/docs/reference/using-api/api-concepts.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import orjson
from aiohttp import web

from headrace.local import disk
from headrace.local.api import admission, api_request, discovery, openapi, paging, table, watching
from headrace.local.api.api_request import BadRequest, Selector, Target
from headrace.local.api.paging import Page
from headrace.local.api.writes import Admit, Options, Writes
from headrace.local.objects import kinds
from headrace.local.objects.object_errors import Invalid, NotFound, ObjectError
from headrace.local.objects.objects import Objects
from knative import annotations as autoscaling_annotations
from knative.settings import Config

Object = dict[str, Any]

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/version", "/healthz", "/readyz", "/livez"})
USER = "headrace"
CONTEXT = "headrace"
REVIEWS = f"/apis/{discovery.AUTHORIZATION}/v1/{discovery.ACCESS_REVIEW}"


class KubernetesAPI:
    """The API over `objects`.

    token: what every request but a few harmless ones must bear. read_log: where a pod's log is, None when it has none.
    read_decision: the autoscaler's last decision about a revision, None before it has taken it up.
    admit: faults beyond those of schema and kind, as sentences; those of the autoscaling annotations unless given.
    """

    def __init__(
        self,
        objects: Objects,
        token: str,
        read_log: Callable[[str, str], Path | None],
        read_decision: Callable[[str, str], Object | None] = lambda namespace, revision: None,
        admit: Admit | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects = objects
        self._token = token
        self._read_log = read_log
        self._read_decision = read_decision
        self._clock = clock
        self._writes = Writes(objects, admit or self._autoscaling_faults, clock)
        self._stopping = asyncio.Event()
        if objects.get("Namespace", "", "default") is None:
            objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})

    def _autoscaling_faults(self, obj: Object) -> list[str]:
        """Faults of the autoscaling annotations, by what the ConfigMap of the autoscaler says of all Services."""
        kept = self._objects.get("ConfigMap", admission.CONFIG_NAMESPACE, admission.CONFIG_NAME) or {}
        config, faults = Config.judged(kept.get("data") or {})
        return autoscaling_annotations.admit(obj, None if faults else config)

    async def start(self) -> None:
        """Accept watches again."""
        self._stopping.clear()

    async def stop(self) -> None:
        """End the watches and followed logs, so that the server need not wait for their readers."""
        self._stopping.set()

    def kubeconfig(self, base_url: str, token: str, namespace: str) -> Object:
        """The kubeconfig for this API, as a dict to be written as YAML, for its owner's eyes alone.

        The token stands in the server's URL too: to a server without TLS client-go sends no credentials of a user
        (clientcmd/client_config.go), but it does send those of the URL.
        """
        url = urlsplit(base_url)
        server = urlunsplit(url._replace(netloc=f"{USER}:{quote(token, safe='')}@{url.netloc}"))
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": {"server": server}}],
            "users": [{"name": USER, "user": {"token": token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": USER, "namespace": namespace}}],
        }

    def path_of(self, obj: Mapping[str, Any]) -> str:
        """The path at which an object is read and written. Raises NotFound for a kind that is not served."""
        kind = kinds.by_kind(obj["kind"])
        if kind is None or kind.api_version != obj["apiVersion"]:
            raise NotFound(f'no matches for kind "{obj["kind"]}" in version "{obj["apiVersion"]}"')
        meta = obj["metadata"]
        return f"{kind.collection.format(namespace=meta.get('namespace', 'default'))}/{meta['name']}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every refusal is a Status object."""
        target = None
        try:
            self._let_in(request)
            target = api_request.target(request.path)
            if target is not None:
                return await self._resource(request, target)
            return await self._about(request)
        except ObjectError as e:
            return _json(watching.status_of(e, target), e.status_code)
        except web.HTTPRequestEntityTooLarge as e:
            error = ObjectError(413, "RequestEntityTooLarge", f"the request is too large: {e.text}")
            return _json(watching.status_of(error, target), 413)
        except (OSError, sqlite3.Error) as e:
            if not disk.is_at_fault(e):
                raise
            log.error("%s %s: the home cannot be written to: %s", request.method, request.path, e)
            error = ObjectError(
                500, "InternalError", f"the platform's home cannot be written to: {e}; nothing was kept"
            )
            return _json(watching.status_of(error, target), 500)

    def _let_in(self, request: web.BaseRequest) -> None:
        # A page in a browser can make any name resolve to 127.0.0.1, but not send our token nor an honest Host.
        if not _is_loopback(request.host):
            raise ObjectError(421, "Misdirected", f"this API answers on the loopback only, not as {request.host!r}")
        if request.path in OPEN_PATHS:
            return
        if not hmac.compare_digest(_credentials(request.headers.get("Authorization", "")), self._token.encode()):
            raise ObjectError(401, "Unauthorized", "Unauthorized: use the kubeconfig that `headrace up` wrote")

    async def _about(self, request: web.BaseRequest) -> web.Response:
        """What is not an object: version, health, discovery, the OpenAPI documents, access reviews."""
        path = request.path.rstrip("/")
        if path in ("/healthz", "/readyz", "/livez"):
            return web.Response(text="ok")
        if path == REVIEWS and request.method == "POST":
            review, _ = api_request.decode(await request.read())
            reason = "the owner of this home may do everything"
            return _json({**review, "status": {"allowed": True, "reason": reason}}, 201)
        if request.method != "GET":
            raise _nowhere()
        aggregated = discovery.AGGREGATED in request.headers.get("Accept", "").replace(" ", "")
        if path in ("/api", "/apis") and aggregated:
            return _json(discovery.aggregated(core=path == "/api"), content_type=discovery.AGGREGATED)
        if path == "/openapi/v2":
            return web.Response(body=openapi.V2, headers={"Content-Type": openapi.V2_TYPE})
        found = _document(path, request.host)
        if found is None:
            raise _nowhere()
        return _json(found)

    async def _resource(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        method = request.method
        if method == "GET" and target.subresource == "log":
            self._get(target)
            path = self._read_log(target.namespace or "", target.name or "")
            return await watching.follow_log(request, self._objects, target, path, self._stopping)
        if method == "GET" and target.subresource == "decision":
            self._get(target)
            return _json(self._read_decision(target.namespace or "", target.name or "") or {})
        if method == "GET":
            return await self._read(request, target)
        if target.subresource in target.kind.subresources:
            raise _not_allowed()
        body = await request.read()
        if method == "DELETE" and target.subresource is None:
            return self._delete(request, target, body)
        if method == "POST" and target.name is None:
            options = _options(request)
            return self._show(request, target, self._writes.create(target, body, options), options, 201)
        if method == "PUT" and target.name is not None:
            options = _options(request)
            return self._show(request, target, self._writes.update(target, body, options), options)
        if method == "PATCH" and target.name is not None:
            content_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
            options = _options(request, apply=content_type == openapi.APPLY_PATCH)
            obj, created = self._writes.patch(target, content_type, body, options)
            return self._show(request, target, obj, options, 201 if created else 200)
        raise _not_allowed()

    async def _read(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        query = request.query
        selector = Selector.parse(query.get("labelSelector", ""), query.get("fieldSelector", ""), target.kind.kind)
        kind, include = target.kind, query.get("includeObject", "Metadata")
        tabular = _wants_table(request)
        if query.get("watch") in ("true", "1"):
            present = watching.as_rows(kind.kind, include, self._clock) if tabular else lambda obj: obj
            return await watching.watch(request, self._objects, target, selector, self._stopping, present)
        if target.name is not None:
            obj = self._get(target)
            if not tabular:
                return _json(obj)
            meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            return _json(table.table(kind.kind, [obj], meta, self._clock(), include))
        page = Page.parse(query)
        items, meta = page.cut(*self._as_of(target, selector, page))
        if tabular:
            return _json(table.table(kind.kind, items, meta, self._clock(), include))
        return _json({"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta, "items": items})

    def _delete(self, request: web.BaseRequest, target: Target, body: bytes) -> web.Response:
        query = request.query
        if target.name is None:
            selector = Selector.parse(query.get("labelSelector", ""), query.get("fieldSelector", ""), target.kind.kind)
            deleted = self._writes.delete_collection(target, self._select(target, selector), query, body)
            kind = target.kind
            listed = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": {}, "items": deleted}
            return _json(listed)
        obj = self._writes.delete(target, query, body)
        if obj["metadata"].get("finalizers") or target.kind.kind == "Pod":
            return _json(obj)
        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural}
        details["uid"] = obj["metadata"]["uid"]
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    def _get(self, target: Target) -> Object:
        obj = self._objects.get(target.kind.kind, target.namespace or "", target.name or "")
        if obj is None:
            raise NotFound(f'{target.kind.qualified} "{target.name}" not found')
        return obj

    def _select(self, target: Target, selector: Selector) -> list[Object]:
        return [obj for obj in self._objects.list(target.kind.kind, target.namespace) if selector.matches(obj)]

    def _as_of(self, target: Target, selector: Selector, page: Page) -> tuple[list[Object], int]:
        """What is selected, as of the page's moment, and that moment's resourceVersion. Raises Expired."""
        version = page.resource_version
        if version is None:
            return self._select(target, selector), self._objects.resource_version
        kind = target.kind.kind
        now, changes = self._objects.list(kind, target.namespace), self._objects.changes_since(version)
        then = paging.taken_back(kind, target.namespace, now, changes)
        return [obj for obj in then if selector.matches(obj)], version

    def _show(
        self, request: web.BaseRequest, target: Target, obj: Object, options: Options, status: int = 200
    ) -> web.Response:
        shown = obj
        if _wants_table(request):
            include = request.query.get("includeObject", "Metadata")
            shown = table.table(target.kind.kind, [obj], {}, self._clock(), include)
        response = _json(shown, status)
        for warning in options.warnings:
            escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{escaped}"')
        return response


def _document(path: str, host: str) -> Object | None:
    parts = path.strip("/").split("/")
    match parts:
        case ["version"]:
            return discovery.VERSION
        case ["api"]:
            return discovery.core_versions(host)
        case ["apis"]:
            return discovery.groups()
        case ["api", version]:
            return discovery.resources("", version)
        case ["apis", group]:
            return discovery.group(group)
        case ["apis", group, version]:
            return discovery.resources(group, version)
        case ["openapi", "v3"]:
            return openapi.index()
        case ["openapi", "v3", *root]:
            return openapi.document("/" + "/".join(root))
    return None


def _options(request: web.BaseRequest, apply: bool = False) -> Options:
    """Raises BadRequest."""
    query = request.query
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise BadRequest(f"fieldValidation {validation!r}: supported values: Ignore, Warn, Strict")
    if query.get("dryRun", "All") not in ("", "All"):
        raise BadRequest(f"dryRun {query['dryRun']!r}: supported values: All")
    manager = query.get("fieldManager", "")
    if apply and not manager:
        message = "Required value: is required for apply patch"
        cause = {"reason": "FieldValueRequired", "message": message, "field": "fieldManager"}
        raise Invalid(f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {message}', [cause])
    # As apiserver's managerOrUserAgent: `kubectl/v1.32.4 (linux/amd64)` is kubectl.
    manager = manager or request.headers.get("User-Agent", "unknown").partition("/")[0]
    force = query.get("force") == "true"
    return Options(manager, query.get("dryRun") == "All", validation, force)


def _wants_table(request: web.BaseRequest) -> bool:
    accept = request.headers.get("Accept", "").replace(" ", "")
    return any("as=Table" in each and "v=v1beta1" not in each for each in accept.split(","))


def _credentials(authorization: str) -> bytes:
    """The token that a request bears: as Bearer, or as the password of Basic (see `kubeconfig`)."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _nowhere() -> NotFound:
    return NotFound("the server could not find the requested resource")


def _not_allowed() -> ObjectError:
    return ObjectError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def _json(value: Any, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers={"Content-Type": content_type})
