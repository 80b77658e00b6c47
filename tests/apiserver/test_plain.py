"""Without Knative, against a real API server: trainings and promotions, with the rights that the overlay gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing import binding
from eventing.contract import DriftDetected, ModelPromoted, ModelRejected, ModelRolledBack, PredictionMade
from eventing.errors import Misconfigured, Rejected, RetryLater
from eventing.sender import Sender
from functions.promoter import verdicts
from functions.promoter.plain import PlainPromoter
from functions.promoter.plain import Settings as PlainSettings
from functions.store import Serving, Store
from functions.trainings.function import Settings as TrainingsSettings
from functions.trainings.function import Trainings
from knative import client, rolling
from tests.apiserver.control_plane import ControlPlane
from tests.functions.promoter.knative_stand_in import Knative
from tests.functions.promoter.promoter_house import V1, V2, V3, House, eventually
from tests.functions.trainings.test_training import arrived
from tests.manifests.kustomized import objects

Object = dict[str, Any]


def applied(api: ControlPlane, namespace: str, overlay: str, *names: str) -> None:
    """Some objects of an overlay, in a namespace of the test's own."""
    found = objects(overlay)
    for name in names:
        text = json.dumps(found[name]).replace('"namespace": "headrace"', f'"namespace": "{namespace}"')
        api.kubectl("apply", "--server-side", "-f", "-", input=text)


@dataclass(frozen=True)
class Account:
    """A service account: a client, and a kubeconfig for processes."""

    cluster: client.Cluster
    kubeconfig: Path


def account(api: ControlPlane, namespace: str, overlay: str, name: str) -> Account:
    """The service account `name`, with the rights of the overlay's Role."""
    applied(api, namespace, overlay, f"ServiceAccount {name}", f"Role {name}", f"RoleBinding {name}")
    token = api.kubectl("create", "token", name, "-n", namespace).strip()
    kubeconfig = api.kubeconfig(namespace, f"{name}-{overlay.rpartition('/')[2]}", token)
    return Account(client.Cluster.connect(str(kubeconfig)), kubeconfig)


# ---------------------------------------------------------------- trainings


def test_a_dropped_file_becomes_one_job_however_often_it_is_told(api: ControlPlane, namespace: str) -> None:
    applied(api, namespace, "overlays/plain", "CronJob random-forest", "CronJob neural-net")
    trainings = Trainings(account(api, namespace, "overlays/plain", "trainings").cluster, "Job")
    for event in (arrived("a"), arrived("a"), arrived("b", trainer="neural_net")):
        trainings.handle(event)
    jobs = api.connect(namespace).list("Job")
    assert sorted(job["metadata"]["name"].rpartition("-")[0] for job in jobs) == ["neural-net", "random-forest"]
    template = objects("overlays/plain")["CronJob random-forest"]["spec"]["jobTemplate"]["spec"]
    (job,) = (job for job in jobs if job["metadata"]["name"].startswith("random-forest"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"] == template["template"]["spec"]["containers"][0]["securityContext"]
    assert job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [65]
    assert binding.from_json(json.loads(container["env"][-1]["value"])).get_id() == "a"


def test_a_training_is_a_train_job_where_kubeflow_trains(api: ControlPlane, namespace: str) -> None:
    applied(api, namespace, "overlays/trainjob", "TrainingRuntime random-forest")
    trainings = Trainings(account(api, namespace, "overlays/trainjob", "trainings").cluster, "TrainJob")
    for _ in range(2):
        trainings.handle(arrived("a"))
    (made,) = api.connect(namespace).list("TrainJob")
    runtime = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": "random-forest"}
    assert made["spec"]["runtimeRef"] == runtime
    assert json.loads(made["spec"]["trainer"]["env"][0]["value"])["id"] == "a"


def test_a_trainer_that_is_not_here_is_no_reason_to_send_again_and_a_missing_right_is(
    api: ControlPlane, namespace: str
) -> None:
    cluster = account(api, namespace, "overlays/plain", "trainings").cluster
    with pytest.raises(Rejected, match="there is no CronJob random-forest here"):
        Trainings(cluster, "Job").handle(arrived())
    applied(api, namespace, "overlays/plain", "CronJob random-forest")
    api.kubectl("delete", "rolebinding", "trainings", "-n", namespace)
    api.kubectl("create", "role", "reader", "--verb=get", "--resource=cronjobs", "-n", namespace)
    api.kubectl(
        "create", "rolebinding", "r", "--role=reader", f"--serviceaccount={namespace}:trainings", "-n", namespace
    )
    with pytest.raises(RetryLater, match="cannot create resource"):
        Trainings(cluster, "Job").handle(arrived())


@pytest.mark.parametrize(
    ("overlay", "rights"),
    [
        ("overlays/plain", {"cronjobs.batch": {"get"}, "jobs.batch": {"create"}}),
        (
            "overlays/trainjob",
            {"trainingruntimes.trainer.kubeflow.org": {"get"}, "trainjobs.trainer.kubeflow.org": {"create"}},
        ),
    ],
)
def test_trainings_has_the_rights_it_needs_and_no_others(
    api: ControlPlane, namespace: str, overlay: str, rights: dict[str, set[str]]
) -> None:
    account(api, namespace, overlay, "trainings")
    assert api.rights(namespace, "trainings") == rights


def test_a_drift_that_the_watch_tells_in_its_reply_becomes_a_training(api: ControlPlane, namespace: str) -> None:
    applied(api, namespace, "overlays/plain", "CronJob random-forest")
    drift = DriftDetected(model="flights", feature="hour", statistic="psi", value=1.0, threshold=0.25, window=9)
    reply = drift.to_event(source="/headrace/functions/drift-watch", id="drift-1", time=datetime.now(UTC))
    with replying(reply) as url:
        trainings = Trainings(account(api, namespace, "overlays/plain", "trainings").cluster, "Job", Sender(url))
        trainings.handle(made("p1"))
        trainings.handle(made("p2"))
    (job,) = api.connect(namespace).list("Job")
    assert json.loads(job["spec"]["template"]["spec"]["containers"][0]["env"][-1]["value"])["id"] == "drift-1"


def made(id: str) -> CloudEvent:
    data = PredictionMade(model="flights", version=V1, outputs=[], latency_ms=1.0)
    return data.to_event(source="/headrace/functions/predictor/flights", id=id, time=datetime.now(UTC))


class replying:
    """A sink that replies to everything with one event."""

    def __init__(self, reply: CloudEvent) -> None:
        message = binding.to_binary(reply)

        class Sink(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                for name, value in {**message.headers, "content-length": str(len(message.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(message.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_process_takes_an_event_over_http_and_makes_its_job(api: ControlPlane, namespace: str) -> None:
    applied(api, namespace, "overlays/plain", "CronJob random-forest")
    kubeconfig = account(api, namespace, "overlays/plain", "trainings").kubeconfig
    with process("functions.trainings", KUBECONFIG=str(kubeconfig), PORT="0") as started:
        assert started.stderr is not None
        line = next(line for line in started.stderr if "listening on" in line)
        threading.Thread(target=started.stderr.read, daemon=True).start()
        url = f"http://127.0.0.1:{line.strip().rpartition(':')[2]}"
        Sender(url).send(arrived("a"))
        with pytest.raises(Rejected, match="there is no CronJob no-such-trainer here"):
            Sender(url).send(arrived("b", trainer="no_such_trainer"))
    assert len(api.connect(namespace).list("Job")) == 1


@contextmanager
def process(module: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, which ends well when it is asked to."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "K_", "KUBE"))}
    started = subprocess.Popen([sys.executable, "-m", module], env=clean | environ, stderr=subprocess.PIPE, text=True)
    try:
        yield started
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 0
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize(
    ("settings", "environ", "key"),
    [
        (TrainingsSettings, {"HEADRACE_TRAINING_KIND": "job"}, "HEADRACE_TRAINING_KIND"),
        (PlainSettings, {}, "HEADRACE_STORE"),
        (PlainSettings, {"HEADRACE_STORE": "memory://", "HEADRACE_PROMOTER_POLL_S": "0"}, "HEADRACE_PROMOTER_POLL_S"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_key(settings: Any, environ: dict[str, str], key: str) -> None:
    with pytest.raises(Misconfigured, match=key):
        settings.from_environment(environ)


# ---------------------------------------------------------------- promotions


class Plain(House):
    """A house whose Knative is none: only its notes of how versions answer are used."""

    def __init__(self, api: ControlPlane, namespace: str, home: Path) -> None:
        self.admin = api.connect(namespace)
        parts: Any = {"api": api, "knative": Knative()}
        self.account = account(api, namespace, "overlays/plain", "promoter")
        super().__init__(cluster=self.account.cluster, store=Store.open((home / "store").as_uri()), home=home, **parts)
        self.plain = PlainPromoter(self.cluster, self.store)
        self.namespace = namespace

    def deployment(self) -> Object:
        found = self.admin.get("Deployment", "flights")
        assert found is not None
        return found

    def pinned(self) -> str | None:
        return rolling.version_of(self.deployment())

    def roll(self, **status: Any) -> None:
        """What Kubernetes' controller says of the newest template; without words that it is rolled out."""
        done = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1, "conditions": []}
        told = {"observedGeneration": self.deployment()["metadata"]["generation"], **done, **status}
        words = ("--subresource", "status", "--type", "merge", "-p", json.dumps({"status": told}))
        api: Any = self.api
        api.kubectl("patch", "deployment", "flights", "-n", self.namespace, *words)

    def said(self, version: str) -> Any:
        found = verdicts.recorded(self.store, "flights", version)
        return None if found is None else found[0]


@pytest.fixture
def plain(api: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Plain]:
    applied(api, namespace, "overlays/plain", "Deployment flights", "ConfigMap headrace")
    yield Plain(api, namespace, tmp_path)


LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}


def test_a_trained_version_is_rolled_out_and_serves_when_its_pods_do(plain: Plain) -> None:
    plain.plain.look()
    assert plain.pinned() is None
    plain.train(V1)
    plain.plain.look()
    assert plain.pinned() == V1
    plain.roll(availableReplicas=0)
    plain.plain.look()
    assert plain.store.serving("flights") is None
    plain.roll()
    plain.plain.look()
    serving = plain.store.serving("flights")
    assert serving is not None and (serving.version, serving.previous) == (V1, None)
    assert isinstance(plain.said(V1), ModelPromoted)
    before = plain.deployment()["metadata"]["generation"]
    plain.plain.look()
    assert plain.deployment()["metadata"]["generation"] == before


def test_a_worse_version_is_rejected_and_never_rolled_out(plain: Plain) -> None:
    promote(plain, V1)
    plain.train(V2, trees=1)
    plain.plain.look()
    assert plain.pinned() == V1
    assert isinstance(plain.said(V2), ModelRejected)


def test_a_version_whose_pods_do_not_come_is_rolled_back_and_not_tried_again(plain: Plain) -> None:
    promote(plain, V1)
    plain.train(V2)
    plain.plain.look()
    assert plain.pinned() == V2
    plain.roll(updatedReplicas=0, conditions=[{**LATE, "lastUpdateTime": None}])
    plain.plain.look()
    assert plain.pinned() == V1
    said = plain.said(V2)
    assert isinstance(said, ModelRolledBack) and said.reason == "too late"
    plain.roll()
    plain.plain.look()
    serving = plain.store.serving("flights")
    assert plain.pinned() == V1 and serving is not None and serving.version == V1


def test_a_promoter_that_died_goes_on_where_it_was(plain: Plain) -> None:
    promote(plain, V1)
    plain.train(V2)
    plain.plain.look()
    again = PlainPromoter(plain.cluster, plain.store)
    plain.roll()
    again.look()
    serving = plain.store.serving("flights")
    assert serving is not None and (serving.version, serving.previous) == (V2, V1)


def test_what_a_person_has_rolled_back_stays_back_until_a_newer_version_comes(plain: Plain) -> None:
    promote(plain, V1)
    promote(plain, V2)
    plain.admin.patch("Deployment", "flights", rolling.pin_patch(plain.deployment(), V1))
    plain.roll()
    for _ in range(2):
        plain.plain.look()
    serving = plain.store.serving("flights")
    assert plain.pinned() == V1 and serving is not None and serving.version == V1
    promote(plain, V3)


def test_a_rollout_that_a_person_takes_back_before_its_end_stays_back(plain: Plain) -> None:
    promote(plain, V1)
    plain.train(V2)
    plain.plain.look()
    assert plain.pinned() == V2
    plain.admin.patch("Deployment", "flights", rolling.pin_patch(plain.deployment(), V1))
    plain.roll()
    for _ in range(2):
        plain.plain.look()
    said = plain.said(V2)
    assert plain.pinned() == V1 and isinstance(said, ModelRolledBack) and "by hand" in said.reason


def test_a_package_whose_manifest_cannot_be_read_is_rejected_and_the_one_before_has_its_turn(plain: Plain) -> None:
    plain.train(V1)
    plain.train(V2)
    manifest = plain.home / "store" / "models" / "flights" / V2 / "model.json"
    manifest.write_text("{broken")
    for _ in range(2):
        plain.plain.look()
    assert isinstance(plain.said(V2), ModelRejected)
    assert plain.pinned() == V1


def test_a_model_whose_deployment_may_not_be_changed_keeps_no_other_from_its_turn(
    api: ControlPlane, namespace: str, plain: Plain
) -> None:
    """A webhook's no, or a right that is missing for this one."""
    other = plain.deployment()
    for labels in (other["metadata"]["labels"], other["spec"]["selector"]["matchLabels"]):
        labels["headrace.dev/model"] = "another"
    other["spec"]["template"]["metadata"]["labels"]["headrace.dev/model"] = "another"
    metadata = {"name": "another", "labels": other["metadata"]["labels"]}
    plain.admin.create({**other, "metadata": metadata})
    plain.store.set_serving("another", Serving(V1, None, "2026-01-01T00:00:00+00:00", "elsewhere"))
    plain.train(V1)
    all_but_one = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"], "resourceNames": ["flights"]},
    ]
    plain.admin.patch("Role", "promoter", {"rules": all_but_one})
    plain.plain.look()
    assert plain.pinned() == V1


def test_the_process_looks_by_itself_and_ends_when_it_is_asked_to(plain: Plain) -> None:
    plain.train(V1)
    environ = {"HEADRACE_STORE": plain.store.url, "HEADRACE_PROMOTER_POLL_S": "0.1"}
    with process("functions.promoter.plain", KUBECONFIG=str(plain.account.kubeconfig), **environ):
        eventually(lambda: plain.pinned() == V1)
        plain.roll()
        eventually(lambda: plain.store.serving("flights") is not None)


def test_a_manifest_that_is_applied_again_leaves_version_and_replicas_as_they_are(
    api: ControlPlane, namespace: str, plain: Plain
) -> None:
    promote(plain, V1)
    api.kubectl("scale", "deployment", "flights", "--replicas=4", "-n", namespace)
    applied(api, namespace, "overlays/plain", "Deployment flights")
    assert plain.pinned() == V1
    assert plain.deployment()["spec"]["replicas"] == 4


def test_a_store_that_was_there_before_the_cluster_is_served_from(plain: Plain) -> None:
    plain.train(V1)
    plain.store.set_serving("flights", Serving(V1, None, "2026-01-01T00:00:00+00:00", "elsewhere"))
    plain.plain.look()
    assert plain.pinned() == V1


def test_the_plain_promoter_has_the_rights_it_needs_and_no_others(
    api: ControlPlane, namespace: str, plain: Plain
) -> None:
    assert api.rights(namespace, "promoter") == {"deployments.apps": {"list", "patch"}}


def promote(plain: Plain, version: str) -> None:
    plain.train(version)
    plain.plain.look()
    assert plain.pinned() == version, plain.said(version)
    plain.roll()
    plain.plain.look()
    assert isinstance(plain.said(version), ModelPromoted)
