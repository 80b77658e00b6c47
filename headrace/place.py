"""Where the commands act: the laptop's platform or a cluster, through one client and the same objects.

Everything else a command needs (store, broker, journal) is found in that place's own objects, so that no address is
configured twice.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eventing.errors import HeadraceError
from functions import store
from headrace import config
from headrace.local import platform_state
from knative import client


class NotHere(HeadraceError):
    """What was asked for does not exist in this place."""


@dataclass(frozen=True)
class Place:
    """One place with a running Headrace."""

    cluster: client.Cluster
    kubeconfig: Path | None

    @classmethod
    def of(cls, settings: config.Config) -> Place:
        """The place that `settings` name: an explicit kubeconfig, else the platform in the home, else the current
        kubeconfig of kubectl. Raises NotHere when none answers.
        """
        if settings.kubeconfig is not None:
            return cls(client.Cluster.connect(str(settings.kubeconfig)), settings.kubeconfig)
        running = platform_state.read(settings.home)
        if running is not None:
            return cls(client.Cluster.connect(running.kubeconfig), Path(running.kubeconfig))
        raise NotHere(
            f"no platform runs in {settings.home}; start one with `headrace up`, or name a cluster with --kubeconfig"
        )

    @functools.cached_property
    def values(self) -> dict[str, str]:
        """The ConfigMap `headrace`: what differs from place to place."""
        found = self.cluster.get("ConfigMap", config.CONFIG_MAP)
        if found is None:
            raise NotHere(f"there is no ConfigMap {config.CONFIG_MAP} here; is Headrace deployed in this namespace?")
        return dict(found.get("data") or {})

    @functools.cached_property
    def store(self) -> store.Store:
        return store.Store.open(self.store_url)

    @property
    def store_url(self) -> str:
        return self.values["HEADRACE_STORE"]

    @property
    def broker_url(self) -> str:
        return address(self._existing("Broker", config.BROKER))

    @property
    def journal_url(self) -> str:
        url = self.values.get("HEADRACE_JOURNAL")
        if not url:
            raise NotHere("this place keeps no journal of events (ConfigMap key HEADRACE_JOURNAL)")
        return url

    def service(self, name: str) -> dict[str, Any]:
        return self._existing("Service", name)

    def url(self, what: str) -> str:
        """The URL of a Service by name, or of `broker`, `jobsink/NAME`, `console`, `api`."""
        if what == "broker":
            return self.broker_url
        if what.startswith("jobsink/"):
            return address(self._existing("JobSink", what.removeprefix("jobsink/")))
        if what == "api":
            return self.cluster.server
        if what == "console":
            return f"{self.cluster.server}/console"
        return address(self._existing("Service", what))

    def _existing(self, kind: str, name: str) -> dict[str, Any]:
        found = self.cluster.get(kind, name)
        if found is None:
            names = sorted(o["metadata"]["name"] for o in self.cluster.list(kind))
            raise NotHere(f"there is no {kind} {name!r} here; there are: {', '.join(names) or 'none'}")
        return found


def address(addressable: dict[str, Any]) -> str:
    """Where an object answers. The laptop's addresses are told by path, which every client can reach."""
    status = addressable.get("status") or {}
    inner = (status.get("address") or {}).get("url")
    outer = status.get("url")
    if inner and urlsplit(inner).hostname == "127.0.0.1":
        return str(inner)
    if not (outer or inner):
        kind, name = addressable["kind"], addressable["metadata"]["name"]
        raise NotHere(f"{kind} {name!r} has no address yet: {_why_not_ready(addressable)}")
    return str(outer or inner)


def _why_not_ready(o: dict[str, Any]) -> str:
    conditions = (o.get("status") or {}).get("conditions") or []
    ready: dict[str, Any] = next((c for c in conditions if c.get("type") == "Ready"), {})
    return ready.get("message") or ready.get("reason") or json.dumps(ready) or "it was never reconciled"
