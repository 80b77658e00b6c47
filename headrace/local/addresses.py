"""Where things answer on the laptop: one port, told apart by path or by Host.

A Service, Broker or JobSink has the same name here and in a cluster; only the address differs. Used by whoever writes
`.status.url` and `.status.address.url`, and by whoever follows a destination (Trigger, dead letter sink, reply).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

DOMAIN = "localhost"  # NAME.NAMESPACE.localhost: browsers and curl take every *.localhost to the loopback by themselves


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of one running platform.

    base_url: `http://127.0.0.1:PORT`, without a slash at its end.
    """

    base_url: str

    def service_host(self, namespace: str, name: str) -> str:
        """What `kubectl get ksvc` shows: the URL by Host, as in a cluster with another domain."""
        return f"http://{name}.{namespace}.{DOMAIN}:{urlsplit(self.base_url).port}"

    def tag_host(self, namespace: str, name: str, tag: str) -> str:
        return self.service_host(namespace, f"{tag}-{name}")

    def service(self, namespace: str, name: str) -> str:
        """The URL by path, for clients that cannot set Host."""
        return f"{self.base_url}/svc/{namespace}/{name}"

    def broker(self, namespace: str, name: str) -> str:
        return f"{self.base_url}/broker/{namespace}/{name}"

    def job_sink(self, namespace: str, name: str) -> str:
        return f"{self.base_url}/jobsink/{namespace}/{name}"

    def destination(self, destination: dict[str, Any], namespace: str) -> str:
        """The URL that a Knative destination (`ref` and/or `uri`) names. Raises ValueError for what cannot be
        addressed.
        """
        uri, ref = destination.get("uri"), destination.get("ref")
        if ref is None:
            if not uri:
                raise ValueError("a destination needs ref or uri")
            return str(uri)
        of = {"Service": self.service, "Broker": self.broker, "JobSink": self.job_sink}.get(ref.get("kind"))
        if of is None:
            raise ValueError(
                f"a destination of kind {ref.get('kind')!r} has no address here; expected Service, Broker or JobSink"
            )
        base = of(ref.get("namespace") or namespace, ref["name"])
        return base + "/" + str(uri).lstrip("/") if uri else base
