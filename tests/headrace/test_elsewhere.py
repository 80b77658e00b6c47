"""The same commands against a cluster, with nothing but a kubeconfig: `cluster_front` lets nothing else through.

And against the laptop's platform by its kubeconfig, in another namespace than its own: there, as in a cluster, the
function `journal` keeps the events.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import running as a_platform
from tests.headrace.cluster_front import Front, front
from tests.running import Platform, flights_csv

NAMESPACE = "shop"
ROWS = '[{"distance": 1400, "hour": 17, "carrier": "B6"}]'


@dataclass(frozen=True)
class Elsewhere:
    """A namespace in which all is deployed, behind an API server; and whom to ask as."""

    running: Platform
    front: Front
    january: Path

    def call(
        self, *words: str, input: str | None = None, place: tuple[str, ...] | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """`headrace WORDS` as a process, in a home in which nothing runs."""
        where = ("--kubeconfig", str(self.front.kubeconfig), "--context", "shop") if place is None else place
        nowhere = {"HEADRACE_HOME": str(self.front.kubeconfig.parent / "no-home"), **environ}
        return subprocess.run(
            [sys.executable, "-m", "headrace.cli", *words, *where],
            env={**self.running.environ, **nowhere}, input=input, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip

    def run(self, *words: str, input: str | None = None, **environ: str) -> str:
        done = self.call(*words, input=input, **environ)
        assert done.returncode == 0, f"headrace {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("elsewhere")
    for running in a_platform.platform():
        kubeconfig = str(running.home / "kubeconfig")
        broker = running.run("url", "broker").strip().replace("/headrace/", f"/{NAMESPACE}/")
        values = ("--set", f"K_SINK={broker}", "--set", f"HEADRACE_DROP={folder}/drop")
        more = ("--set", "HEADRACE_CANARY_S=1", "--store", (folder / "store").as_uri())
        done = running.call("deploy", "--kubeconfig", kubeconfig, "-n", NAMESPACE, *values, *more)
        assert done.returncode == 0, done.stderr
        with front(running.home, folder, NAMESPACE) as made:
            it = Elsewhere(running, made, flights_csv(folder / "january.csv", rows=400))
            words = ("--dataset", "flights", "--target", "late", "--parameter", "n_estimators=10", "--wait")
            it.run("drop", str(it.january), *words)
            yield it


def test_a_dropped_file_serves_and_its_events_are_read_through_the_api_server(elsewhere: Elsewhere) -> None:
    """The fixture has dropped it and waited: store, Broker and journal."""
    entries = [json.loads(line) for line in elsewhere.run("events", "-o", "json").splitlines()]
    types = [e["event"]["type"].removeprefix("dev.headrace.") for e in entries]
    assert types[0] == "dataset.arrived.v1"
    assert {"training.progressed.v1", "model.trained.v1", "model.promoted.v1"} <= set(types)
    assert [e["seq"] for e in entries] == sorted(e["seq"] for e in entries)
    assert all(e["deliveries"] == [] for e in entries)
    said = elsewhere.run("why", "flights-00001")
    assert "january.csv arrived for flights" in said
    paths = {path.partition("?")[0] for path, _ in elsewhere.front.seen}
    assert {f"/{NAMESPACE}/default", "/journal"} <= paths
    assert all("authorization" not in headers or "of-somebody" in headers["authorization"]
               for _, headers in elsewhere.front.seen)  # fmt: skip


def test_a_model_is_asked_through_the_activator_for_one_of_its_revisions(elsewhere: Elsewhere) -> None:
    answers = json.loads(elsewhere.run("predict", "flights", "-o", "json", input=ROWS))
    assert set(answers[0]) == {"label", "probabilities"}
    path, headers = elsewhere.front.seen[-1]
    assert path == "/v1/models/flights:predict"
    assert headers["knative-serving-revision"] == "flights-00001"
    assert headers["knative-serving-namespace"] == NAMESPACE


def test_a_gateway_is_asked_by_host_and_needs_no_right_of_the_proxys(elsewhere: Elsewhere) -> None:
    before = len(elsewhere.front.seen)
    gateway = elsewhere.front.platform
    answers = json.loads(elsewhere.run("predict", "flights", "-o", "json", input=ROWS, HEADRACE_GATEWAY=gateway))
    assert len(answers) == 1
    assert len(elsewhere.front.seen) == before


def test_an_event_that_is_sent_is_in_the_journal_once_however_often(elsewhere: Elsewhere) -> None:
    event = {"specversion": "1.0", "id": "by-hand", "source": "/t", "type": "dev.example.greeted.v1"}
    for _ in range(2):
        assert elsewhere.run("send", "-", input=json.dumps(event)) == "by-hand\n"
    ends = time.monotonic() + 60
    found: list[str] = []
    while not found and time.monotonic() < ends:
        lines = elsewhere.run("events", "-o", "json").splitlines()
        found = [id for line in lines if (id := json.loads(line)["event"]["id"]) == "by-hand"]
    assert found == ["by-hand"]


def test_who_follows_hears_what_comes(elsewhere: Elsewhere) -> None:
    words = ["events", "--follow", "-o", "json", "--kubeconfig", str(elsewhere.front.kubeconfig), "-n", NAMESPACE]
    command = [sys.executable, "-m", "headrace.cli", *words]
    with subprocess.Popen(command, env=elsewhere.running.environ, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["event"]["type"] == "dev.headrace.dataset.arrived.v1"
        event = {"specversion": "1.0", "id": "followed", "source": "/t", "type": "dev.example.greeted.v1"}
        elsewhere.run("send", "-", input=json.dumps(event))
        for line in following.stdout:
            if json.loads(line)["event"]["id"] == "followed":
                break
        following.kill()


def test_the_parts_are_told_and_those_that_may_not_be_seen_are_named(elsewhere: Elsewhere) -> None:
    report = json.loads(elsewhere.run("status", "-o", "json"))
    assert report["healthy"] is True
    kinds = {part["kind"] for part in report["parts"]}
    assert kinds == {"Service", "Broker", "Trigger", "JobSink", "ContainerSource"}
    assert {"journal", "flights"} <= {part["name"] for part in report["parts"]}
    assert [job["state"] for job in report["jobs"]] == ["Complete"]
    nothing = elsewhere.call("status", place=("--kubeconfig", str(elsewhere.front.kubeconfig)))
    assert nothing.returncode == 1
    assert "nothing of Headrace's is in namespace nowhere" in nothing.stderr


def test_logs_are_of_a_job_a_service_or_a_model(elsewhere: Elsewhere) -> None:
    job = json.loads(elsewhere.run("status", "-o", "json"))["jobs"][0]["name"]
    assert "exit status 0" in elsewhere.run("logs", job)
    elsewhere.run("predict", "flights", input=ROWS)
    assert "is ready" in elsewhere.run("logs", "flights")
    assert "watching" in elsewhere.run("logs", "folder")
    absent = elsewhere.call("logs", "absent")
    assert absent.returncode == 1
    assert job in absent.stderr and "flights" in absent.stderr


def test_a_version_is_promoted_and_taken_back_by_hand(elsewhere: Elsewhere) -> None:
    (row,) = json.loads(elsewhere.run("models", "-o", "json"))
    assert row["serves"] == "yes"
    assert "serves already" in elsewhere.run("promote", "flights", row["version"])
    refused = elsewhere.call("rollback", "flights")
    assert "has served no version before" in refused.stderr


def test_dead_letters_are_replayed_through_the_api_server(elsewhere: Elsewhere) -> None:
    store = elsewhere.january.parent / "store"
    letter = {"specversion": "1.0", "id": "dead", "source": "/t", "type": "dev.example.died.v1"}
    letter["knativeerrorcode"] = "500"
    (store / "dead-letters").mkdir(exist_ok=True)
    (store / "dead-letters" / "x.json").write_text(json.dumps(letter))
    assert "dead" in elsewhere.run("dead-letters", "list")
    assert elsewhere.run("dead-letters", "replay", "dead") == "dead\n"
    assert "dead" not in elsewhere.run("dead-letters", "list")


def test_a_dead_letter_that_can_be_sent_by_no_means_keeps_no_other_back(elsewhere: Elsewhere) -> None:
    """Events that break the contract are what often lies there."""
    folder = elsewhere.january.parent / "store" / "dead-letters"
    folder.mkdir(exist_ok=True)
    for name, id, type in (("x", "broken", "dev.headrace.dataset.arrived.v1"), ("y", "whole", "dev.example.died.v1")):
        letter = {"specversion": "1.0", "id": id, "source": "/t", "type": type, "knativeerrorcode": "422"}
        (folder / f"{name}.json").write_text(json.dumps(letter))
    done = elsewhere.call("dead-letters", "replay")
    assert (done.returncode, done.stdout) == (1, "whole\n")
    assert "broken stays: " in done.stderr
    (left,) = json.loads(elsewhere.run("dead-letters", "list", "-o", "json"))
    assert left["id"] == "broken"
    (folder / "x.json").unlink()


@pytest.mark.parametrize(
    ("forbidden", "words", "right"),
    [
        ("http:broker-ingress:80", ["send", "-"], "create services/proxy, name http:broker-ingress:80"),
        ("http:activator-service:80", ["events"], "get services/proxy, name http:activator-service:80"),
        ("http:activator-service:80", ["predict", "flights"], "namespace knative-serving"),
    ],
)
def test_a_right_that_is_missing_is_named(elsewhere: Elsewhere, forbidden: str, words: list[str], right: str) -> None:
    event = '{"specversion": "1.0", "id": "x", "source": "/t", "type": "t"}'
    elsewhere.front.forbidden.add(forbidden)
    try:
        done = elsewhere.call(*words, input=event if words[0] == "send" else ROWS)
    finally:
        elsewhere.front.forbidden.clear()
    assert (done.returncode, done.stdout) == (1, "")
    assert right in done.stderr


@pytest.mark.parametrize(
    ("what", "needed"),
    [
        ("broker", "/services/http:broker-ingress:80/proxy/shop/default"),
        ("flights", "Host: flights.shop.example.invalid"),
        ("journal", "HEADRACE_GATEWAY"),
        ("jobsink/random-forest", "/services/http:job-sink:80/proxy/shop/random-forest"),
    ],
)
def test_a_url_that_does_not_answer_here_is_not_printed_but_what_is_needed(
    elsewhere: Elsewhere, what: str, needed: str
) -> None:
    done = elsewhere.call("url", what)
    assert (done.returncode, done.stdout) == (1, "")
    assert needed in done.stderr
    told = json.loads(elsewhere.run("url", what, "-o", "json"))
    assert told["url"].startswith("http://")
    assert needed in told["needed"]


def test_with_a_gateway_the_url_and_the_header_are_told(elsewhere: Elsewhere) -> None:
    told = json.loads(elsewhere.run("url", "flights", "-o", "json", HEADRACE_GATEWAY="http://192.0.2.9:8000"))
    assert told["needed"] == "ask http://192.0.2.9:8000/ with the header Host: flights.shop.example.invalid"


# ---------------------------------------------------------------- which place is meant


def test_a_context_alone_is_of_kubectls_own_kubeconfig(elsewhere: Elsewhere) -> None:
    own = {"KUBECONFIG": str(elsewhere.front.kubeconfig)}
    done = elsewhere.call("url", "api", place=("--context", "shop"), **own)
    assert done.returncode == 0, done.stderr
    assert elsewhere.call("models", place=("--context", "shop"), **own).stdout.count("flights") == 1
    # Unasked, the laptop's platform is meant, whatever kubectl's context is.
    unasked = elsewhere.call("models", place=(), **own)
    assert unasked.returncode == 1
    assert "no platform runs in" in unasked.stderr and own["KUBECONFIG"] in unasked.stderr
    absent = elsewhere.call("models", place=("--context", "absent"), **own)
    assert absent.returncode == 2
    assert "elsewhere, shop" in absent.stderr


def test_the_variables_say_the_same_as_the_options(elsewhere: Elsewhere) -> None:
    where = {
        "HEADRACE_KUBECONFIG": str(elsewhere.front.kubeconfig),
        "HEADRACE_CONTEXT": "elsewhere",
        "HEADRACE_NAMESPACE": NAMESPACE,
    }
    assert "flights" in elsewhere.call("models", place=(), **where).stdout


def test_deploy_takes_the_same_options_and_the_contexts_namespace(elsewhere: Elsewhere) -> None:
    place = ("--kubeconfig", str(elsewhere.front.kubeconfig), "--context", "shop")
    assert (
        json.loads(elsewhere.call("undeploy", "--dry-run", "-o", "json", place=place).stdout)["namespace"] == NAMESPACE
    )


def test_the_laptops_platform_is_asked_in_another_namespace(elsewhere: Elsewhere) -> None:
    running = elsewhere.running
    assert running.run("models") != running.run("models", "-n", NAMESPACE)
    assert "/svc/shop/flights" in running.run("-n", NAMESPACE, "url", "flights")
    assert "january.csv arrived" in running.run("events", "-n", NAMESPACE)
    assert "january.csv" not in running.run("events")


def test_a_folder_of_the_clusters_pods_is_no_store_of_this_machine(elsewhere: Elsewhere) -> None:
    """The same ConfigMap with a Broker elsewhere: then the folder is, too."""
    config_map = {"data": {"K_SINK": "http://broker-ingress.knative-eventing.svc.cluster.local/shop/default"}}
    before = _patch(elsewhere, config_map)
    try:
        done = elsewhere.call("models")
    finally:
        _patch(elsewhere, {"data": {"K_SINK": before}})
    assert done.returncode == 1
    assert "is a folder of the cluster's pods" in done.stderr


def _patch(elsewhere: Elsewhere, patch: dict[str, dict[str, str]]) -> str:
    from knative.client import Cluster

    cluster = Cluster.connect(str(elsewhere.front.kubeconfig), NAMESPACE)
    before = cluster.get("ConfigMap", "headrace")
    assert before is not None
    cluster.patch("ConfigMap", "headrace", patch)
    return str(before["data"]["K_SINK"])
