"""What a promoter needs around it in tests: a Kubernetes API, a Knative, a store, and a trainer's part of the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from cloudevents.core.v1.event import CloudEvent

from eventing.contract import ModelPromoted, ModelTrained
from functions.model import Model
from functions.promoter import held_out
from functions.promoter.function import Promoter
from functions.promoter.promotion import Means
from functions.store import Store
from knative import client, rollout
from knative.canary import Limits
from tests.functions import packages
from tests.functions.promoter.knative_stand_in import Knative
from tests.knative import local_api
from tests.knative.local_api import LocalAPI

V1, V2, V3 = "v20260101-000000-000001", "v20260201-000000-000002", "v20260301-000000-000003"
LIMITS = Limits(canary_s=0.3, ready_s=5, failure_grace_s=0.1, min_requests=5, abandoned_s=1)


@dataclass
class House:
    """Everything that a promoter needs, and a trainer's part of the work."""

    api: LocalAPI
    knative: Knative
    cluster: client.Cluster
    store: Store
    home: Path
    stop: threading.Event = field(default_factory=threading.Event)

    def promoter(self, **changes: Any) -> Promoter:
        means: dict[str, Any] = {
            "cluster": self.cluster,
            "store": self.store,
            "limits": LIMITS,
            "max_regression": 0.0,
            "hold_s": 20,
            "poll_s": 0.02,
            "stop": self.stop,
        }
        return Promoter(Means(**{**means, **changes}))

    def train(self, version: str, *, trees: int = 20, **changes: Any) -> CloudEvent:
        """A package and its held-out rows in the store, and the event that tells of it.

        trees: as many score as well as the champion, one scores worse. changes: to the package's manifest.
        """
        folder = packages.build_package(self.home / "packages", version=version, trees=trees, **changes)
        published = self.store.publish(folder)
        data, truth = packages.frame(200, seed=3)
        rows = {name: data[name].to_numpy() for name in ("distance", "delay")}
        rows |= {"carrier": data["carrier"].to_numpy().astype(str), held_out.TARGET: truth}
        np.savez(self.home / "rows.npz", **rows)
        self.store.put_file(f"heldout/flights/{version}.npz", self.home / "rows.npz")
        sample = packages.sample(Model.load(folder))
        self.knative.behave(version).answers = [request["outputs"] for request in sample["requests"]]
        return trained(version, published.sha256)

    def serve(self, version: str = V1) -> None:
        """A first version, promoted."""
        reply = self.promoter().handle(self.train(version))
        assert reply.get_type() == ModelPromoted.TYPE, reply

    def service(self) -> dict[str, Any]:
        found = self.cluster.get("Service", "flights")
        assert found is not None
        return found

    def serves(self) -> str | None:
        """The version that answers everything but tagged requests."""
        revision = rollout.serving_revision(self.service())
        found = self.cluster.get("Revision", revision) if revision else None
        return rollout.version_of(found) if found else None


def trained(version: str, sha256: str, model: str = "flights") -> CloudEvent:
    told = ModelTrained(
        model=model,
        version=version,
        uri=f"memory://models/{model}/{version}",
        sha256=sha256,
        scores={"roc_auc": 0.9},
        parity={},
        rows=300,
        seconds=1.5,
        dataset_sha256="0" * 64,
    )
    return told.to_event(source="/headrace/trainers/job", id=f"trained-{version}", time=datetime.now(UTC))


@contextmanager
def built(home: Path) -> Iterator[House]:
    """A house in the folder `home`, with an API and a Knative of its own."""
    knative = Knative()
    with local_api.serving(home, knative.answer) as api:
        knative.attach(api)
        yield House(api, knative, api.connect(), Store.open((home / "store").as_uri()), home)


def eventually(condition: Callable[[], bool]) -> None:
    """Waits, a generous half a minute, for what another thread brings about."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.02)


def insist(house: House, patch: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Patches the Service as a person's command does: read again on Conflict."""
    while True:
        try:
            house.cluster.patch("Service", "flights", patch(house.service()))
            return
        except client.Conflict:
            continue
