"""Where the commands act: the laptop's platform or a cluster, through one client and the same objects.

Everything else a command needs (store, broker, journal) is found in that place's own objects, so that no address is
configured twice; how they are reached from here is `headrace.reach`'s.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eventing import sender
from eventing.errors import HeadraceError
from functions import store
from headrace import config, place_store
from headrace.journal import Journal
from headrace.local import platform_state
from headrace.reach import Reach, is_loopback
from knative import client


class NotHere(HeadraceError):
    """What was asked for does not exist in this place."""


@dataclass(frozen=True)
class Place:
    """One place with a running Headrace."""

    cluster: client.Cluster
    kubeconfig: Path | None
    gateway: str | None = None
    """See `headrace.reach`."""

    @classmethod
    def of(cls, settings: config.Config) -> Place:
        """The place that `settings` name: an explicit kubeconfig or context, else the platform in the home.

        Raises NotHere when none answers, Misconfigured for a context that is not there.
        """
        if settings.names_a_cluster:
            named = str(settings.kubeconfig) if settings.kubeconfig else None
            cluster = client.Cluster.connect(named, settings.namespace, settings.context, config.NAMESPACE)
            return cls(cluster, settings.kubeconfig, settings.gateway)
        running = platform_state.read(settings.home)
        if running is not None:
            cluster = client.Cluster.connect(running.kubeconfig, settings.namespace)
            return cls(cluster, Path(running.kubeconfig))
        if (process := platform_state.holder(settings.home)) is not None:
            raise NotHere(
                f"the platform in {settings.home} (process {process}) starts or stops and does not answer; try again, "
                f"its log is {settings.home / 'platform.log'}"
            )
        raise NotHere(
            f"no platform runs in {settings.home}; start one with `headrace up`, or name a cluster with --kubeconfig, "
            f"or with --context one of {os.environ.get('KUBECONFIG') or '~/.kube/config'}"
        )

    @functools.cached_property
    def values(self) -> dict[str, str]:
        """The ConfigMap `headrace`: what differs from place to place."""
        found = self.cluster.get("ConfigMap", config.CONFIG_MAP)
        if found is None:
            raise NotHere(
                f"there is no ConfigMap {config.CONFIG_MAP} in namespace {self.cluster.namespace} of "
                f"{self.cluster.server}; is Headrace deployed there? --namespace names another"
            )
        return dict(found.get("data") or {})

    @functools.cached_property
    def is_laptop(self) -> bool:
        """Whether everything here runs on this machine."""
        return is_loopback(urlsplit(self.values.get("K_SINK", "")).hostname or "")

    @functools.cached_property
    def is_around_us(self) -> bool:
        """Whether this process runs in a pod of this very cluster, where its names resolve."""
        own = os.environ.get("KUBERNETES_SERVICE_HOST")
        return own is not None and urlsplit(self.cluster.server).hostname in (own, "kubernetes.default.svc")

    @functools.cached_property
    def reach(self) -> Reach:
        return Reach(self.cluster, self.gateway, self.is_around_us)

    @functools.cached_property
    def store(self) -> store.Store:
        return store.Store.open(self.store_url)

    @functools.cached_property
    def store_url(self) -> str:
        """The store's URL, with this process prepared to open it. Raises NotHere where it cannot be from here."""
        settings = place_store.settings(self.values, os.environ, self.is_laptop, self.is_around_us)
        os.environ.update(settings)  # where fsspec's drivers look
        url = self.values.get("HEADRACE_STORE")
        if not url:
            raise NotHere(
                f"ConfigMap {config.CONFIG_MAP} in namespace {self.cluster.namespace} names no store; is it Headrace's?"
            )
        return url

    @property
    def broker_url(self) -> str:
        return address(self._existing("Broker", config.BROKER))

    @functools.cached_property
    def broker(self) -> sender.Sender:
        """Sends to the Broker."""
        return self.reach.sender(self.broker_url)

    @functools.cached_property
    def journal(self) -> Journal:
        url = self.values.get("HEADRACE_JOURNAL")
        if not url:
            raise NotHere("this place keeps no journal of events (ConfigMap key HEADRACE_JOURNAL)")
        return Journal(url, self.reach.open)

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
            if not self.is_laptop:
                raise NotHere("a cluster has no page; `headrace status`, `models` and `events` tell the same")
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
    if inner and is_loopback(urlsplit(inner).hostname or ""):
        return str(inner)
    if not (outer or inner):
        kind, name = addressable["kind"], addressable["metadata"]["name"]
        raise NotHere(f"{kind} {name!r} has no address yet: {_why_not_ready(addressable)}")
    return str(outer or inner)


def _why_not_ready(o: dict[str, Any]) -> str:
    conditions = (o.get("status") or {}).get("conditions") or []
    ready: dict[str, Any] = next((c for c in conditions if c.get("type") == "Ready"), {})
    return ready.get("message") or ready.get("reason") or json.dumps(ready) or "it was never reconciled"
