"""functions.promoter: model.trained to verdict, against the laptop's Kubernetes API and a stand-in for Knative."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract
from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack, ModelTrained
from eventing.errors import Misconfigured, Rejected, RetryLater
from functions import comparison
from functions.model import Model
from functions.package import SUMS_FILE, sha256_of
from functions.promoter import Promoter, Settings
from functions.promotion import Means
from functions.store import Store
from knative import client, rollout
from knative.canary import Canary, Limits
from tests.functions import packages
from tests.functions.knative_stand_in import Knative
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
        rows |= {"carrier": data["carrier"].to_numpy().astype(str), comparison.TARGET: truth}
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


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    knative = Knative()
    with local_api.serving(tmp_path, knative.answer) as api:
        knative.attach(api)
        yield House(api, knative, api.connect(), Store.open((tmp_path / "store").as_uri()), tmp_path)


def eventually(condition: Callable[[], bool]) -> None:
    """Waits, a generous half a minute, for what another thread brings about."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.02)


# A first version


def test_a_first_version_becomes_a_service_with_its_trigger(house: House) -> None:
    reply = house.promoter().handle(house.train(V1))
    said = ModelPromoted.from_event(reply)
    assert (said.version, said.previous, said.revision) == (V1, None, "flights-00001")
    assert said.evidence is not None
    assert said.evidence["parity"]["label_flips"] == 0
    assert (house.serves(), rollout.canary_of(house.service())) == (V1, None)
    trigger = house.cluster.get("Trigger", "flights-predictions")
    assert trigger is not None
    assert trigger["spec"]["subscriber"]["ref"]["name"] == "flights"
    assert '"subject": "flights"' in json.dumps(trigger["spec"])
    serving = house.store.serving("flights")
    assert serving is not None
    assert serving.version == V1


def test_the_reply_names_its_cause_and_comes_from_the_promoter(house: House) -> None:
    reply = house.promoter().handle(house.train(V1))
    assert reply.get_source() == "/headrace/functions/promoter"
    assert reply.get_extension("causationid") == f"trained-{V1}"
    assert reply.get_subject() == "flights"


def test_a_first_version_that_never_gets_ready_is_taken_back_with_knatives_reason(house: House) -> None:
    house.knative.behave(V1).ready = "False"
    said = ModelRolledBack.from_event(house.promoter().handle(house.train(V1)))
    assert said.reason == "its revision failed to start: Stand-in: as the test says"
    assert house.store.serving("flights") is None


def test_after_a_first_version_that_failed_the_next_one_is_the_first(house: House) -> None:
    house.knative.behave(V1).ready = "False"
    house.promoter().handle(house.train(V1))
    said = ModelPromoted.from_event(house.promoter().handle(house.train(V2)))
    assert (said.previous, house.serves()) == (None, V2)


def test_a_name_that_kubernetes_does_not_take_is_a_verdict(house: House) -> None:
    folder = packages.build_package(house.home / "packages", name="My_Flights", version=V1)
    published = house.store.publish(folder)
    said = ModelRejected.from_event(house.promoter().handle(trained(V1, published.sha256, "My_Flights")))
    assert said.reason.startswith("Kubernetes takes no Service of this name")


# The gate


def test_a_challenger_that_is_worse_on_the_same_rows_is_rejected_with_both_scores(house: House) -> None:
    house.serve()
    said = ModelRejected.from_event(house.promoter().handle(house.train(V2, trees=1)))
    assert said.reason.startswith("worse than the champion: roc_auc ")
    assert "`headrace promote flights " + V2 in said.reason
    assert said.evidence is not None
    gate = said.evidence["gate"]
    assert gate["challenger"]["roc_auc"] < gate["champion"]["roc_auc"]
    assert set(gate["champion"]) == {"roc_auc", "log_loss", "accuracy"}
    assert (said.previous, house.serves(), len(house.knative.traffic)) == (V1, V1, 1)


def test_a_worse_challenger_passes_where_that_is_allowed(house: House) -> None:
    house.serve()
    reply = house.promoter(max_regression=0.5).handle(house.train(V2, trees=1))
    assert reply.get_type() == ModelPromoted.TYPE


@pytest.mark.parametrize(
    ("parity", "words"),
    [
        ({"rows": 60, "largest_difference": 0.5, "label_flips": 0, "tolerance": 1e-5}, "largest difference"),
        ({"rows": 60, "largest_difference": 0.0, "label_flips": 1, "tolerance": 1e-5}, "1 of 60 labels differ"),
    ],
)
def test_a_package_that_is_not_proven_equal_is_rejected(house: House, parity: dict[str, Any], words: str) -> None:
    said = ModelRejected.from_event(house.promoter().handle(house.train(V1, parity=parity)))
    assert words in said.reason
    assert house.cluster.get("Service", "flights") is None


def test_a_package_with_another_digest_than_the_event_says_is_rejected(house: House) -> None:
    house.train(V1)
    said = ModelRejected.from_event(house.promoter().handle(trained(V1, "f" * 64)))
    assert f"the event says {'f' * 64}" in said.reason


def test_a_package_that_is_broken_in_the_store_is_rejected(house: House) -> None:
    event = house.train(V1)
    (house.home / "store" / "models" / "flights" / V1 / "model.onnx").write_bytes(b"no model")
    said = ModelRejected.from_event(house.promoter().handle(event))
    assert said.reason.startswith("its package cannot serve")


def test_a_challenger_with_other_columns_is_rejected_naming_each(house: House) -> None:
    house.serve()
    event = house.train(V2)
    # The champion's package, as it would look had it been trained on other columns.
    champion = house.home / "store" / "models" / "flights" / V1
    manifest = json.loads((champion / "model.json").read_text())
    manifest["signature"]["classes"] = [0, 1, 2]
    (champion / "model.json").write_text(json.dumps(manifest))
    _sign_again(house, champion)
    said = ModelRejected.from_event(house.promoter().handle(event))
    assert said.reason.startswith("the champion cannot answer its rows: class 2 was removed")
    assert f"`headrace promote flights {V2}`" in said.reason


def test_a_version_older_than_the_one_that_serves_is_superseded(house: House) -> None:
    house.serve(V2)
    said = ModelRejected.from_event(house.promoter().handle(house.train(V1)))
    assert said.reason.startswith(f"superseded: {V2} was trained later")


def test_a_package_that_is_not_in_the_store_yet_is_tried_again(house: House) -> None:
    with pytest.raises(RetryLater):
        house.promoter().handle(trained(V1, "0" * 64))


def test_a_service_that_serves_no_model_is_left_alone(house: House) -> None:
    container = {"image": "shop:1", "ports": [{"containerPort": 8080}]}
    house.cluster.create(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "flights"},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
    )
    said = ModelRejected.from_event(house.promoter().handle(house.train(V1)))
    assert said.reason == "there is a Service flights which does not serve this model"


def test_traffic_that_ops_have_split_is_left_alone(house: House) -> None:
    house.serve()
    half = [{"revisionName": "flights-00001", "percent": 50}, {"latestRevision": True, "percent": 50}]
    house.cluster.patch("Service", "flights", {"spec": {"traffic": half}})
    said = ModelRejected.from_event(house.promoter().handle(house.train(V2)))
    assert said.reason.startswith("its traffic is split by hand")
    assert house.service()["spec"]["traffic"][0]["percent"] == 50


def test_a_promotion_by_hand_that_is_under_way_is_waited_for(house: House) -> None:
    house.serve()
    house.train(V2)
    house.knative.behave(V2).ready = "Unknown"
    _insist(house, lambda service: rollout.promotion_patch(service, V2))
    event = house.train(V3)
    with ThreadPoolExecutor() as threads:
        with pytest.raises(RetryLater):
            house.promoter(hold_s=0.2).handle(event)
        promotion = threads.submit(house.promoter().handle, event)
        house.knative.behave(V2).ready = "True"
        house.knative.settle()
        assert ModelPromoted.from_event(promotion.result(60)).previous == V2


def test_an_event_that_breaks_the_contract_is_rejected(house: House) -> None:
    event = house.train(V1)
    attributes = dict(event.get_attributes())
    with pytest.raises(Rejected, match="sha256"):
        house.promoter().handle(CloudEvent(attributes, {"model": "flights", "version": V1}))


# The canary


def test_a_good_challenger_gets_a_share_first_and_then_everything(house: House) -> None:
    house.serve()
    said = ModelPromoted.from_event(house.promoter().handle(house.train(V2)))
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]
    assert (said.previous, said.revision, house.serves()) == (V1, "flights-00002", V2)
    assert said.evidence is not None
    watch = said.evidence["watch"]
    assert watch["probes"]["ok"] >= 3
    assert watch["canary"]["requests"] > 0
    assert watch["canary"]["errors"] == 0
    targets = house.service()["spec"]["traffic"]
    assert targets[0] == {"latestRevision": True, "percent": 100}
    assert [t["revisionName"] for t in targets if t.get("tag") == "previous"] == ["flights-00001"]


def test_what_ops_set_outlives_a_promotion(house: House) -> None:
    house.serve()
    theirs = {"autoscaling.knative.dev/target": "7"}
    patch = {"metadata": {"annotations": {"team": "blue"}}, "spec": {"template": {"metadata": {"annotations": theirs}}}}
    house.cluster.patch("Service", "flights", patch)
    house.promoter().handle(house.train(V2))
    service = house.service()
    assert service["metadata"]["annotations"]["team"] == "blue"
    assert theirs.items() <= service["spec"]["template"]["metadata"]["annotations"].items()


def test_a_canary_that_answers_wrongly_is_taken_back_at_once(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).answers = [{"label": 9, "probabilities": [0, 1]}] * 5
    said = ModelRolledBack.from_event(house.promoter(limits=replace(LIMITS, canary_s=3600)).handle(event))
    assert said.reason.startswith("a probe was answered wrongly: sample row 0: label is 9")
    assert (said.previous, house.serves()) == (V1, V1)
    assert house.service()["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert rollout.version_of(house.service()["spec"]["template"]) == V1


def test_a_canary_that_fails_is_taken_back_with_the_figures_of_both(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).status = 500
    limits = replace(LIMITS, canary_s=3600, max_probes_failed=10_000)
    said = ModelRolledBack.from_event(house.promoter(limits=limits).handle(event))
    assert "requests failed (100.0%); the champion's share is 0.0%" in said.reason


def test_a_canary_that_is_slow_is_taken_back_with_the_figures_of_both(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).seconds = 0.5
    said = ModelRolledBack.from_event(house.promoter(limits=replace(LIMITS, canary_s=3600)).handle(event))
    assert "95 % of its answers took up to" in said.reason
    assert said.evidence is not None
    assert said.evidence["watch"]["canary"]["p95_ms"] > said.evidence["watch"]["champion"]["p95_ms"]


def test_a_canary_that_never_gets_ready_gets_no_traffic(house: House) -> None:
    house.serve()
    house.knative.behave(V2).ready = "False"
    said = ModelRolledBack.from_event(house.promoter().handle(house.train(V2)))
    assert said.reason.startswith("its revision failed to start")
    assert house.knative.traffic == [{V1: 100}]


# Deliveries that come twice, late, or into a running canary


def test_a_redelivery_gets_the_same_reply_again(house: House) -> None:
    house.serve()
    event = house.train(V2)
    first, second = house.promoter().handle(event), house.promoter().handle(event)
    assert (first.get_id(), first.get_data(), first.get_time()) == (
        second.get_id(),
        second.get_data(),
        second.get_time(),
    )
    assert len(house.knative.traffic) == 3


def test_a_version_taken_back_is_not_tried_again_by_a_redelivery(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).ready = "False"
    first = house.promoter().handle(event)
    house.knative.behave(V2).ready = "True"
    assert house.promoter().handle(event).get_data() == first.get_data()


def test_a_delivery_is_held_for_its_time_and_the_next_one_goes_on_with_the_same_canary(house: House) -> None:
    house.serve()
    event = house.train(V2)
    long = replace(LIMITS, canary_s=1.0)
    with pytest.raises(RetryLater, match="not decided yet"):
        house.promoter(limits=long, hold_s=0.2).handle(event)
    running = rollout.canary_of(house.service())
    assert running is not None
    assert ModelPromoted.from_event(house.promoter(limits=long).handle(event)).version == V2
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]


def test_a_newer_version_waits_until_the_canary_has_ended(house: House) -> None:
    house.serve()
    second, third = house.train(V2), house.train(V3)
    with ThreadPoolExecutor() as threads:
        promotion = threads.submit(house.promoter(limits=replace(LIMITS, canary_s=1.0)).handle, second)
        eventually(lambda: rollout.canary_of(house.service()) is not None)
        with pytest.raises(RetryLater):
            house.promoter(hold_s=0.1).handle(third)
        follower = threads.submit(house.promoter().handle, third)
        assert promotion.result(60).get_type() == ModelPromoted.TYPE
        assert ModelPromoted.from_event(follower.result(60)).previous == V2
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}, {V2: 80, V3: 20}, {V3: 100}]


def test_a_verdict_is_told_again_though_the_next_canary_runs_already(house: House) -> None:
    first = house.train(V1)
    told = house.promoter().handle(first)
    with pytest.raises(RetryLater):
        house.promoter(limits=replace(LIMITS, canary_s=3600), hold_s=0.2).handle(house.train(V2))
    assert house.promoter(hold_s=0.1).handle(first).get_data() == told.get_data()


def test_the_same_event_delivered_five_times_at_once_is_one_promotion(house: House) -> None:
    house.serve()
    event = house.train(V2)
    with ThreadPoolExecutor(5) as threads:
        replies = [f.result(60) for f in [threads.submit(house.promoter().handle, event) for _ in range(5)]]
    assert len({(reply.get_id(), json.dumps(reply.get_data())) for reply in replies}) == 1
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]


def test_a_canary_whose_watcher_died_for_good_is_brought_to_its_end_by_whoever_comes(house: House) -> None:
    house.serve()
    second, third = house.train(V2), house.train(V3)
    with pytest.raises(RetryLater):
        house.promoter(limits=replace(LIMITS, canary_s=3600), hold_s=0.2).handle(second)
    # Two hours later, nobody having come back for it.
    late = house.promoter(clock=lambda: time.time() + 7200, limits=replace(LIMITS, canary_s=1))
    house.knative.traffic.clear()
    assert late.handle(third).get_type() == ModelPromoted.TYPE
    assert house.serves() == V3
    assert house.store.read_json(f"verdicts/flights/{V2}.json") is not None


def test_a_person_who_changes_the_service_by_hand_has_the_last_word(house: House) -> None:
    house.serve()
    event = house.train(V2)
    with ThreadPoolExecutor() as threads:
        promotion = threads.submit(house.promoter(limits=replace(LIMITS, canary_s=3600)).handle, event)
        eventually(lambda: house.knative.traffic[-1] == {V1: 80, V2: 20})
        _insist(house, lambda service: rollout.promotion_patch(service, V1))
        said = ModelRolledBack.from_event(promotion.result(60))
    assert "by hand" in said.reason
    assert rollout.version_of(house.service()["spec"]["template"]) == V1


@pytest.mark.parametrize("phase", ["starting", "watching", "promoting", "reverting"])
def test_a_promoter_that_died_in_any_phase_is_gone_on_for(house: House, phase: str) -> None:
    """Each phase is entered by one write to the Service; a process that dies after it leaves exactly that behind."""
    house.serve()
    event = house.train(V2)
    if phase == "reverting":
        house.knative.behave(V2).answers = []
    entered = _DiesAfter(house.cluster, phase)
    with pytest.raises(_Killed):
        house.promoter(cluster=entered).handle(event)
    running = rollout.canary_of(house.service())
    assert running is not None
    assert running.phase == phase
    reply = house.promoter().handle(event)
    assert reply.get_type() == (ModelRolledBack if phase == "reverting" else ModelPromoted).TYPE
    assert house.serves() == (V1 if phase == "reverting" else V2)
    assert rollout.canary_of(house.service()) is None


def test_a_promoter_that_died_before_it_replied_is_repaired_by_the_redelivery(house: House) -> None:
    event = house.train(V1)
    house.promoter().handle(event)
    # As if it had died between the Service and what follows from it.
    house.cluster.delete("Trigger", "flights-predictions")
    for path in (f"verdicts/flights/{V1}.json", "models/flights/serving.json"):
        house.store.delete(path)
    said = ModelPromoted.from_event(house.promoter().handle(event))
    assert said.reason == "it serves already"
    assert house.cluster.get("Trigger", "flights-predictions") is not None
    serving = house.store.serving("flights")
    assert serving is not None
    assert serving.version == V1


# The process


def test_settings_that_cannot_work_are_refused_with_their_key() -> None:
    for key, value in (("HEADRACE_CANARY_PERCENT", "100"), ("HEADRACE_MAX_ERROR_SHARE", "2"), ("HEADRACE_HOLD_S", "x")):
        with pytest.raises(Misconfigured, match=key):
            Settings.from_environment({"HEADRACE_STORE": "memory://", key: value})
    with pytest.raises(Misconfigured, match="HEADRACE_STORE"):
        Settings.from_environment({})


def test_settings_have_the_limits_that_the_decisions_default_to() -> None:
    assert Settings.from_environment({"HEADRACE_STORE": "memory://"}).limits == Limits()


def test_the_process_answers_what_it_holds_when_it_is_asked_to_end(house: House) -> None:
    house.serve()
    event = house.train(V2)
    environ = {
        **os.environ,
        "HEADRACE_STORE": house.store.url,
        "KUBECONFIG": str(house.api.kubeconfig),
        "HEADRACE_CANARY_S": "3600",
        "PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "functions.promoter"], env=environ, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        listening = next(line for line in process.stderr if "listening on" in line)
        drained = threading.Thread(target=process.stderr.read)
        drained.start()
        connection = http.client.HTTPConnection("127.0.0.1", int(listening.strip().rpartition(":")[2]), timeout=60)
        message = binding.to_binary(event)
        connection.request("POST", "/", message.body, dict(message.headers))
        eventually(lambda: house.knative.traffic[-1] == {V1: 80, V2: 20})
        process.send_signal(signal.SIGTERM)
        response = connection.getresponse()
        assert response.status == 503
        assert response.getheader("Retry-After") == "1"
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        drained.join()
    # And the next delivery, to the next process, ends it.
    assert house.promoter().handle(event).get_type() == ModelPromoted.TYPE


class _Killed(BaseException):
    """Where a process would have ended; no Exception, so that nothing handles it."""


class _DiesAfter(client.Cluster):
    """A Cluster whose process ends right after the write that enters `phase`."""

    def __init__(self, cluster: client.Cluster, phase: str) -> None:
        super().__init__(cluster._api, cluster.namespace)
        self._phase = phase

    def patch(self, kind: str, name: str, merge_patch: client.Object) -> client.Object:
        after = super().patch(kind, name, merge_patch)
        running: Canary | None = rollout.canary_of(after)
        if running is not None and running.phase == self._phase:
            raise _Killed
        return after


def _insist(house: House, patch: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Patches the Service as a person's command does: read again on Conflict."""
    while True:
        try:
            house.cluster.patch("Service", "flights", patch(house.service()))
            return
        except client.Conflict:
            continue


def _sign_again(house: House, package: Path) -> None:
    """SHA256SUMS and the store's pointer for a package that was changed."""
    from functions.package import write_sums

    digest = write_sums(package)
    house.store.write_json(f"models/flights/{package.name}.json", {"sha256": digest, "at": "2026-01-01T00:00:00+00:00"})
    assert sha256_of(package / SUMS_FILE) == digest


def test_every_verdict_is_a_type_of_the_contract() -> None:
    assert {ModelPromoted.TYPE, ModelRejected.TYPE, ModelRolledBack.TYPE} <= set(contract.TYPES)
