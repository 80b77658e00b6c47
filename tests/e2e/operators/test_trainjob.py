"""The overlay `trainjob` with Kubeflow Trainer and JobSet, their controllers and webhooks, as they publish them.

One namespace, whose level of pod security is `restricted`, and one walk: each test goes on where the last one left.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventing.contract import (
    DatasetArrived,
    DatasetRejected,
    ModelPromoted,
    ModelTrained,
    TrainingFailed,
    TrainingProgressed,
)
from knative.pods import JOB_SET_LABEL
from tests.e2e import policy_agent, store
from tests.e2e.images import reference
from tests.e2e.kit import Kit
from tests.e2e.operators import kubeflow
from tests.e2e.operators.kubeflow import Kubeflow
from tests.e2e.place import Deployed, until
from tests.manifests.kustomized import FOLDER, build
from tests.running import flights_csv

# Whichever is the first of this machine builds the programs.
pytestmark = [pytest.mark.operator, pytest.mark.timeout(kubeflow.BUILD_S + 600)]

Object = dict[str, Any]

NAMESPACE = time.strftime("headrace-trainjob-%H%M%S")  # new each time: a namespace takes minutes to go
ROOMS = ("predictor", "functions", "trainers")
QUICK = {"HEADRACE_CANARY_S": "10", "HEADRACE_CANARY_POLL_S": "1", "HEADRACE_LATENCY_FLOOR_MS": "60000"}
ROW = {"distance": 700, "hour": 21, "carrier": "B6"}
SHORT_S = 15  # what of the trainer `neural_net` stays after its end, in place of a day
RUNTIME = "/spec/template/spec"
JOB = f"{RUNTIME}/replicatedJobs/0/template/spec"
CPU = f"{JOB}/template/spec/containers/0/resources/requests/cpu"
Figure = Callable[[str], None]


@dataclass(frozen=True)
class TrainJobs(Deployed):
    """A namespace with the overlay in it."""

    applied: tuple[Object, ...] = ()
    """The overlay's objects."""

    def train_jobs(self) -> dict[str, Object]:
        """By name, each with what its trainer was told."""
        return {o["metadata"]["name"]: o for o in self.items("trainjobs")}

    def of_event(self, id: str) -> Object | None:
        """The TrainJob that an event has become."""
        return next((o for o in self.train_jobs().values() if _event(o)["id"] == id), None)

    def end(self, name: str) -> Object:
        """The condition with which a TrainJob is over."""

        def over() -> Object | None:
            conditions = self.get("trainjob", name).get("status", {}).get("conditions", ())
            return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)

        return until(f"the end of TrainJob {name}", over)

    def pods(self, name: str) -> list[Object]:
        """Of a TrainJob, oldest first."""
        found = self.items("pods", f"{JOB_SET_LABEL}={name}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def drop(self, file: Path, *words: str) -> str:
        """The id of the event that says so."""
        told = self.headrace("drop", str(file), "--target", "late", *words, "-o", "json")
        return str(json.loads(told)["event"])


@pytest.fixture(scope="module")
def kit() -> Kit:
    folder = os.environ.get("E2E_KIT")
    if not folder:
        pytest.skip("Kubeflow Trainer is installed into, and taken away from, a cluster of this machine's own alone")
    return Kit.of(Path(folder), os.environ)


@pytest.fixture(scope="module")
def trainer(kit: Kit, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubeflow]:
    with kubeflow.installed(kit, kubeconfig, tmp_path_factory.mktemp("kubeflow")) as its:
        yield its


@pytest.fixture(scope="module")
def place(
    trainer: Kubeflow, kubeconfig: Path, gateway: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrainJobs]:
    """The overlay with this run's images and store."""
    with store.running(kubeconfig) as s3:
        objects = _overlay(tmp_path_factory.mktemp("trainjob"), s3, policy_agent.gateway_networks(kubeconfig))
        environ = {**s3.outside, "HEADRACE_GATEWAY": f"http://{gateway}"}
        here = TrainJobs(kubeconfig, NAMESPACE, gateway, environ, applied=tuple(objects))
        try:
            (namespace,) = [o for o in objects if o["kind"] == "Namespace"]
            here.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(namespace))
            here.kubectl(
                "create", "secret", "generic", "headrace-store", *(f"--from-literal={k}={v}" for k, v in s3.keys)
            )
            here.kubectl("apply", "--server-side", "-f", "-", given=_list(objects))
            until("everything Ready", lambda: here.run("status").returncode == 0)
            yield here
        finally:
            # A runtime stays for as long as there are TrainJobs of it, and Trainer to see that there are none.
            here.try_kubectl("delete", "trainjobs", "--all")
            here.try_kubectl("delete", "trainingruntimes", "--all")
            here.try_kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _overlay(folder: Path, s3: store.S3, networks: str) -> list[Object]:
    """What kustomize makes of an overlay upon ours: images, bucket and address, and this place's gateway."""
    image = reference("predictor")
    predictor = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
    sink = f"http://broker-ingress.knative-eventing.svc.cluster.local/{NAMESPACE}/default"
    values = {
        "HEADRACE_STORE": f"s3://{s3.bucket}",
        "AWS_ENDPOINT_URL": s3.inside,
        "HEADRACE_JOURNAL": f"http://journal.{NAMESPACE}.svc.cluster.local/journal",
        "HEADRACE_PREDICTOR_PATCH": json.dumps(predictor),
        "K_SINK": sink,
        **QUICK,
    }
    gateways = [{"ipBlock": {"cidr": network}} for network in networks.split(",") if network]
    kustomization = {
        "resources": [os.path.relpath(FOLDER / "overlays" / "trainjob", folder.resolve())],
        "images": [_image(room) for room in ROOMS],
        "patches": [
            *(_patch("ConfigMap", "headrace", f"/data/{key}", value) for key, value in values.items()),
            _patch("NetworkPolicy", "store", "/spec/egress/0/ports/-", {"port": 8333, "protocol": "TCP"}),
            *(_patch("NetworkPolicy", "services", "/spec/ingress/0/from/-", each) for each in gateways),
            *(_patch("NetworkPolicy", "canaries", "/spec/egress/0/to/-", each) for each in gateways),
            # Small files, on a node that has other things to do.
            _patch("TrainingRuntime", ".*", CPU, "100m"),
            # Of one of the two, what else takes a day, and a minute.
            _patch("TrainingRuntime", "neural-net", f"{RUNTIME}/ttlSecondsAfterFinished", SHORT_S),
            _patch("TrainingRuntime", "neural-net", f"{JOB}/backoffLimit", 0),
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = [o for o in yaml.safe_load_all(build(folder)) if o]
    for o in objects:
        _move(o)
        if o["kind"] == "Namespace":
            o["metadata"]["name"] = NAMESPACE
    return objects


def _move(node: Any) -> None:
    """Into this namespace, references too: the overlay is for `headrace`, which somebody else may have."""
    if isinstance(node, dict):
        if node.get("namespace") == "headrace":
            node["namespace"] = NAMESPACE
        for each in node.values():
            _move(each)
    elif isinstance(node, list):
        for each in node:
            _move(each)


def _image(room: str) -> dict[str, str]:
    name, _, tag = reference(room).rpartition(":")
    return {"name": f"ghcr.io/headrace/{room}", "newName": name, "newTag": tag}


def _patch(kind: str, name: str, path: str, value: Any) -> Object:
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps([{"op": "add", "path": path, "value": value}])}


def _list(objects: Sequence[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _event(train_job: Object) -> Object:
    (variable,) = train_job["spec"]["trainer"]["env"]
    return dict(json.loads(variable["value"].replace("$$", "$")))


def test_a_dropped_file_becomes_one_train_job_and_a_promoted_model_that_answers(
    place: TrainJobs, tmp_path: Path, figure: Figure
) -> None:
    began = time.monotonic()
    file = flights_csv(tmp_path / "january.csv", rows=400)
    words = ("--dataset", "flights", "--target", "late", "--parameter", "n_estimators=10", "--wait")
    told = place.headrace("drop", str(file), *words)
    figure(f"as a TrainJob, from a dropped file to a promoted model: {time.monotonic() - began:.0f} s")
    assert "serves" in told
    ((name, train_job),) = place.train_jobs().items()
    assert place.end(name)["type"] == "Complete"
    (job_set,), (job,), (pod,) = place.items("jobsets"), place.items("jobs"), place.pods(name)
    assert [_owner(job_set), _owner(job), _owner(pod)] == [name, job_set["metadata"]["name"], job["metadata"]["name"]]
    (trained,), (promoted,) = place.events(ModelTrained.TYPE), place.events(ModelPromoted.TYPE)
    assert trained["causationid"] == _event(train_job)["id"]
    assert promoted["data"]["version"] == trained["data"]["version"]
    answer = place.v1("flights", [ROW])
    assert answer.status == 200, answer.body
    assert answer.json()["predictions"][0]["label"] in (0, 1)


def test_the_same_event_once_more_is_no_second_train_job(place: TrainJobs) -> None:
    (arrived,) = place.events(DatasetArrived.TYPE)
    place.headrace("send", "-", given=json.dumps(arrived))
    # At zero it has no log.
    until("the receiver's word", lambda: "was taken before" in place.run("logs", "trainings").stdout)
    assert len(place.train_jobs()) == len(place.items("jobs")) == 1


def test_what_is_told_of_a_training_names_a_job_whose_log_is_there(place: TrainJobs) -> None:
    (trained,) = place.events(ModelTrained.TYPE)
    (name,) = place.train_jobs()
    said = place.headrace("logs", trained["data"]["job"])
    assert "exit status 0" in said
    assert place.headrace("logs", name) == said
    assert trained["data"]["job"] in place.headrace("why", trained["id"])


def test_status_65_ends_a_training_at_once_and_why_is_told_and_logged(place: TrainJobs, tmp_path: Path) -> None:
    id = place.drop(_broken(tmp_path / "broken.csv"), "--dataset", "broken")
    name = _named(place, id)
    assert place.end(name)["type"] == "Failed"
    (job,) = place.items("jobs", f"{JOB_SET_LABEL}={name}")
    assert _condition(job, "Failed")["reason"] == "PodFailurePolicy"
    assert len(place.pods(name)) == 1
    rejected = place.event("the verdict", lambda e: e.get("causationid") == id, DatasetRejected.TYPE)
    assert rejected["data"]["reasons"]
    assert "exit status 65" in place.headrace("logs", name)
    (shown,) = [j for j in _status(place)["jobs"] if j["name"].startswith(name)]
    assert shown["state"] == "Failed" and "exit code 65" in shown["reason"]


def test_a_trainer_that_is_killed_is_followed_by_another_which_trains_once(
    place: TrainJobs, kit: Kit, tmp_path: Path
) -> None:
    file = flights_csv(tmp_path / "many.csv", rows=20000)
    id = place.drop(file, "--dataset", "killed", "--parameter", "n_estimators=100")
    name = _named(place, id)
    progressed = place.event("its first words", lambda e: e.get("causationid") == id, TrainingProgressed.TYPE)
    assert kit.kill_processes("trainers.job") == 1
    assert place.end(name)["type"] == "Complete"
    assert len(place.pods(name)) == 2
    # It knows the one before for one of its own Job, which is over.
    assert "waiting for it" not in place.headrace("logs", name)
    (trained,) = [e for e in place.events(ModelTrained.TYPE) if e["subject"] == "killed"]
    assert trained["data"]["job"] == progressed["data"]["job"]


def test_a_days_time_after_its_end_all_but_the_train_job_goes(place: TrainJobs, tmp_path: Path) -> None:
    kept = place.items("jobsets")
    assert {each["spec"]["ttlSecondsAfterFinished"] for each in kept} == {86400}
    words = ("--dataset", "brief", "--trainer", "neural_net")
    name = _named(place, place.drop(_broken(tmp_path / "brief.csv"), *words))
    ended = place.end(name)
    until("its end", lambda: not any(place.items(kind, f"{JOB_SET_LABEL}={name}") for kind in ("jobs", "pods")))
    assert not place.try_kubectl("get", "jobset", name).stdout
    # What has become of it still stands there, and nothing is made anew of it.
    assert _condition(place.get("trainjob", name), "Failed") == ended
    assert len(place.items("jobsets")) == len(kept)


def test_a_training_that_gives_up_is_told_of(place: TrainJobs, kit: Kit, tmp_path: Path) -> None:
    file = flights_csv(tmp_path / "given-up.csv", rows=20000)
    id = place.drop(file, "--dataset", "given-up", "--trainer", "neural_net")
    name = _named(place, id)
    until("its trainer", lambda: kit.kill_processes("trainers.job"))
    assert place.end(name)["type"] == "Failed"
    failed = place.event("its last word", lambda e: e.get("causationid") == id, TrainingFailed.TYPE)
    assert (failed["data"]["job"], failed["data"]["retryable"]) == (f"{name}-node-0", False)
    assert "BackoffLimitExceeded" in failed["data"]["reason"]


def test_a_train_job_that_may_not_be_made_yet_is_made_once_it_may(place: TrainJobs, tmp_path: Path) -> None:
    count = len(place.train_jobs())
    spec = {"hard": {"count/trainjobs.trainer.kubeflow.org": str(count)}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-more"}, "spec": spec}
    place.kubectl("apply", "-f", "-", given=json.dumps(quota))
    until("the quota", lambda: place.get("resourcequota", "no-more").get("status", {}).get("used"))
    file = flights_csv(tmp_path / "later.csv", rows=300)
    with ThreadPoolExecutor(1) as beside:
        # Whoever sends an event waits for as long as an in-memory channel delivers it again.
        dropped = beside.submit(place.drop, file, "--dataset", "later")
        try:
            until("the receiver's word", lambda: "exceeded quota" in place.run("logs", "trainings").stdout)
            assert len(place.train_jobs()) == count
        finally:
            place.kubectl("delete", "resourcequota", "no-more")
        assert place.end(_named(place, dropped.result()))["type"] == "Complete"


def test_the_status_says_why_a_train_job_has_no_job(place: TrainJobs, tmp_path: Path) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-job-sets"}}
    quota["spec"] = {"hard": {"count/jobsets.jobset.x-k8s.io": str(len(place.items("jobsets")))}}
    place.kubectl("apply", "-f", "-", given=json.dumps(quota))
    until("the quota", lambda: place.get("resourcequota", "no-job-sets").get("status", {}).get("used"))
    name = _named(place, place.drop(flights_csv(tmp_path / "jobless.csv", rows=300), "--dataset", "jobless"))

    def told() -> str:
        return next((j["reason"] for j in _status(place)["jobs"] if j["name"] == name), "")

    until("the reason", lambda: "exceeded quota" in told())
    place.kubectl("delete", "resourcequota", "no-job-sets")
    assert place.end(name)["type"] == "Complete"


def test_undeploy_leaves_alone_what_kubectl_has_applied_and_kubectl_takes_it_away(place: TrainJobs) -> None:
    before = place.train_jobs()
    place.headrace("undeploy")
    assert before and place.train_jobs() == before
    # As docs/ops.md says. The namespace, and with it what the promoter made for models, goes when its pods have ended.
    place.kubectl("delete", "trainjobs", "-l", "app.kubernetes.io/part-of=headrace")
    place.kubectl("delete", "--wait=false", "-f", "-", given=_list(place.applied))
    kinds = "trainjobs,trainingruntimes,jobsets,jobs"
    until("the end of all trainings", lambda: not place.try_kubectl("get", kinds, "-o", "name").stdout)
    phase = place.try_kubectl("get", "namespace", place.namespace, "-o", "jsonpath={.status.phase}").stdout
    assert phase in ("Terminating", "")


def _named(place: TrainJobs, id: str) -> str:
    """The TrainJob's name that an event has become."""
    return str(until(f"a TrainJob of {id}", lambda: place.of_event(id))["metadata"]["name"])


def _broken(file: Path) -> Path:
    """Rows of which one cannot be learned from."""
    head, first, *more = flights_csv(file, rows=300).read_text().splitlines()
    file.write_text("\n".join([head, f"{first},one cell too many", *more]) + "\n")
    return file


def _status(place: TrainJobs) -> Object:
    return dict(json.loads(place.run("status", "-o", "json").stdout))


def _condition(o: Object, type: str) -> Object:
    return next((c for c in o.get("status", {}).get("conditions", ()) if c["type"] == type), {})


def _owner(o: Object) -> str:
    (owner,) = o["metadata"]["ownerReferences"]
    return str(owner["name"])
