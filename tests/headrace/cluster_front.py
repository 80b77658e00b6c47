"""A cluster as it looks from outside, for tests: a laptop's platform behind an API server that alone can be reached.

What answers inside bears names that resolve nowhere; the API server's service proxy leads to the Broker's ingress and
to the activator, which asks for its two headers, as Knative's does. Rights may be taken away.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

TOKEN = "of-somebody-outside"
PROXY = re.compile(r"/api/v1/namespaces/([^/]+)/services/([^/]+)/proxy(/.*)")


@dataclass
class Front:
    """One API server before a platform."""

    platform: str
    """Its URL, with credentials as its kubeconfig has them."""
    token: str
    kubeconfig: Path
    forbidden: set[str] = field(default_factory=set)
    """Names of services/proxy that are refused."""
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Requests that passed the proxy: path, headers."""

    def inside(self, text: str) -> str:
        """A platform's answer with the addresses of a cluster in it."""
        url = re.escape(self.platform)
        text = re.sub(rf"{url}/broker/", "http://broker-ingress.knative-eventing.svc.cluster.local/", text)
        text = re.sub(rf"{url}/jobsink/", "http://job-sink.knative-eventing.svc.cluster.local/", text)
        port = re.escape(self.platform.rpartition(":")[2])
        text = re.sub(rf"http://([a-z0-9-]+)\.([a-z0-9-]+)\.localhost:{port}", r"http://\1.\2.example.invalid", text)
        return re.sub(rf"{url}/svc/([a-z0-9-]+)/([a-z0-9-]+)", r"http://\2.\1.example.invalid", text)


@contextmanager
def front(home: Path, folder: Path, namespace: str) -> Iterator[Front]:
    """Before the platform of a home; its kubeconfig, in `folder`, has contexts `elsewhere` and `shop`."""
    theirs = yaml.safe_load((home / "kubeconfig").read_text())
    server = urlsplit(theirs["clusters"][0]["cluster"]["server"])
    platform = f"http://{server.hostname}:{server.port}"
    made = Front(platform, theirs["users"][0]["user"]["token"], folder / "front-kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._status(401, "Unauthorized")
            elif found := PROXY.fullmatch(self.path):
                self._proxy(*found.groups())
            else:
                self._forward(self.path, {"Authorization": f"Bearer {made.token}"}, rewrite=True)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

        def _proxy(self, namespace: str, name: str, path: str) -> None:
            if name in made.forbidden:
                verb = "create" if self.command == "POST" else "get"
                self._status(403, f'services "{name}" is forbidden: User "me" cannot {verb} resource "services/proxy"')
                return
            made.seen.append((path, {k.lower(): v for k, v in self.headers.items()}))
            if (namespace, name) == ("knative-eventing", "http:broker-ingress:80"):
                self._forward(f"/broker{path}")
            elif (namespace, name) == ("knative-serving", "http:activator-service:80"):
                revision = self.headers.get("Knative-Serving-Revision", "")
                within = self.headers.get("Knative-Serving-Namespace", "")
                self._forward(f"/svc/{within}/{revision.rpartition('-')[0]}{path}")
            else:
                self._status(404, f'services "{name}" not found')

        def _forward(self, path: str, more: dict[str, str] | None = None, rewrite: bool = False) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept = {k: v for k, v in self.headers.items() if k.lower() not in ("authorization", "host", "connection")}
            upstream = http.client.HTTPConnection(str(server.hostname), server.port, timeout=300)
            upstream.request(self.command, path, body, {**kept, **(more or {}), "Connection": "close"})
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(key, value)
            self.end_headers()
            if rewrite and "watch=" not in path and "/log" not in path:
                self.wfile.write(_rewritten(answer.read(), made))
                return
            while chunk := answer.read1(65536):
                self.wfile.write(chunk)
                self.wfile.flush()

        def _status(self, code: int, message: str) -> None:
            said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{listener.server_port}"
    contexts = [
        {"name": "elsewhere", "context": {"cluster": "c", "user": "me", "namespace": "nowhere"}},
        {"name": "shop", "context": {"cluster": "c", "user": "me", "namespace": namespace}},
    ]
    made.kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "elsewhere",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "me", "user": {"token": TOKEN}}],
                "contexts": contexts,
            }
        )
    )
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        listener.shutdown()
        listener.server_close()


def _rewritten(body: bytes, made: Front) -> bytes:
    """The statuses of objects with a cluster's addresses; their specs, and the ConfigMap, stay as they are."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    for item in [value, *(value.get("items") or ())] if isinstance(value, dict) else []:
        if isinstance(item, dict) and isinstance(item.get("status"), dict):
            item["status"] = json.loads(made.inside(json.dumps(item["status"])))
    return json.dumps(value).encode()
