"""The overlay `trainjob` with Kubeflow Trainer and JobSet, their controllers and webhooks, as they publish them.

One namespace, whose level of pod security is `restricted`, and one walk: each test goes on where the last one left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eventing.contract import (
    DatasetArrived,
    DatasetRejected,
    ModelPromoted,
    ModelTrained,
    TrainingFailed,
    TrainingProgressed,
)
from headrace.status import condition
from knative.pods import JOB_SET_LABEL
from tests.e2e.kit import Kit
from tests.e2e.operators import kubeflow, programs, train_jobs
from tests.e2e.operators.kubeflow import Kubeflow
from tests.e2e.operators.train_jobs import TrainJobs
from tests.e2e.place import until
from tests.e2e.store import S3
from tests.running import flights_csv

# Whichever is the first of this machine builds the programs.
pytestmark = [pytest.mark.operator, pytest.mark.timeout(programs.BUILD_S + 600)]

Object = dict[str, Any]

ROW = {"distance": 700, "hour": 21, "carrier": "B6"}
Figure = Callable[[str], None]


@pytest.fixture(scope="module")
def trainer(kit: Kit, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubeflow]:
    with kubeflow.installed(kit, kubeconfig, tmp_path_factory.mktemp("kubeflow")) as its:
        yield its


@pytest.fixture(scope="module")
def place(
    trainer: Kubeflow, kubeconfig: Path, gateway: str, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrainJobs]:
    with train_jobs.applied(kubeconfig, gateway, s3, tmp_path_factory.mktemp("trainjob")) as its:
        yield its


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
    assert trained["causationid"] == train_jobs.event(train_job)["id"]
    assert promoted["data"]["version"] == trained["data"]["version"]
    answer = place.v1("flights", [ROW])
    assert answer.status == 200, answer.body
    assert answer.json()["predictions"][0]["label"] in (0, 1)


def test_both_webhooks_have_their_say(place: TrainJobs) -> None:
    (job_set,) = place.items("jobsets")
    assert job_set["spec"]["successPolicy"] == {"operator": "All"}, "JobSet's default"
    (train_job,) = place.train_jobs().values()
    stray = {key: train_job[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": "stray"}}
    stray["spec"] = {"runtimeRef": {"kind": "TrainingRuntime", "name": "nobody"}}
    refused = place.try_kubectl("create", "-f", "-", given=json.dumps(stray)).stderr
    assert 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied' in refused


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
    assert condition(job, "Failed")["reason"] == "PodFailurePolicy"
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
    assert "disruption budget" in _evict(place, name)
    (pod,) = place.pods(name)
    assert kit.kill_processes("trainers.job", pod["metadata"]["uid"]) == 1
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
    assert condition(place.get("trainjob", name), "Failed") == ended
    assert len(place.items("jobsets")) == len(kept)


def test_a_training_that_gives_up_is_told_of(place: TrainJobs, kit: Kit, tmp_path: Path) -> None:
    file = flights_csv(tmp_path / "given-up.csv", rows=20000)
    id = place.drop(file, "--dataset", "given-up", "--trainer", "neural_net")
    name = _named(place, id)
    (pod,) = until("its pod", lambda: place.pods(name))
    until("its trainer", lambda: kit.kill_processes("trainers.job", pod["metadata"]["uid"]))
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
    place.kubectl("delete", "--wait=false", "-f", "-", given=train_jobs.listed(place.applied))
    kinds = "trainjobs,trainingruntimes,jobsets,jobs"
    until("the end of all trainings", lambda: not place.try_kubectl("get", kinds, "-o", "name").stdout)
    phase = place.try_kubectl("get", "namespace", place.namespace, "-o", "jsonpath={.status.phase}").stdout
    assert phase in ("Terminating", "")


def _evict(place: TrainJobs, name: str) -> str:
    """What is answered to who drains the node of a training."""
    (pod,) = place.pods(name)
    meta = {"name": pod["metadata"]["name"], "namespace": place.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    path = f"/api/v1/namespaces/{place.namespace}/pods/{meta['name']}/eviction"
    return place.try_kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction)).stderr


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


def _owner(o: Object) -> str:
    (owner,) = o["metadata"]["ownerReferences"]
    return str(owner["name"])
