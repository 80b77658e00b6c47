"""An event in, a Job out: what a JobSink takes, what its Jobs see, and how one asks after them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance import manifests
from tests.conformance.api import Object, until
from tests.conformance.differences import differs
from tests.conformance.place import Place
from tests.conformance.wire import Answer, binary


def post(place: Place, id: str, data: Any = None, job_sink: str = "train", **attributes: str) -> Answer:
    """The JobSink's answer to an event of type `test.job` whose data is JSON."""
    headers = binary(id, type="test.job", **attributes)
    return place.ask(place.job_sink(job_sink), "", "POST", headers, json.dumps(data or {}).encode())


def job_of(place: Place, id: str, job_sink: str = "train", source: str = "/conformance") -> Object:
    """The Job of an event, once it has told of the event."""

    def found() -> Object | None:
        for job in place.api.list("Job", labelSelector=f"sinks.knative.dev/job-sink-name={job_sink}"):
            for told in place.told(job["metadata"]["name"]):
                if (told["event"]["id"], told["event"]["source"]) == (id, source):
                    return {"job": job, "told": told}
        return None

    return until(f"the Job of {id}", found)


def test_a_job_sink_tells_its_address_and_how_to_find_its_jobs(place: Place) -> None:
    place.job_sink()
    made = place.api.get("JobSink", "train")
    assert made is not None
    told = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert told["Ready"] == told["Addressable"] == "True"
    assert made["status"]["address"]["url"].endswith(f"/{place.api.namespace}/train")
    assert made["status"]["job"]["selector"] == "sinks.knative.dev/job-sink-name=train"


def test_an_event_is_taken_with_202_and_the_location_of_its_job(place: Place) -> None:
    answer = post(place, "a/b c", source="https://x.example/y?z")
    assert answer.status == 202
    where = f"/namespaces/{place.api.namespace}/name/train/sources/https:%2F%2Fx.example%2Fy%3Fz/ids/a%2Fb%20c"
    assert answer.headers["location"] == where


def test_the_job_finds_the_event_in_a_file(place: Place) -> None:
    post(place, "file-1", {"rows": [1, None, "ü"]}, subject="flights", region="eu", time="2026-01-02T03:04:05Z")
    told = job_of(place, "file-1")["told"]
    assert told["files"] == ["event"]
    event = told["event"]
    assert event.pop("data") == {"rows": [1, None, "ü"]}
    assert event == {
        "specversion": "1.0",
        "id": "file-1",
        "source": "/conformance",
        "type": "test.job",
        "subject": "flights",
        "region": "eu",
        "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json",
    }


def test_a_structured_event_is_the_same_in_the_file(place: Place) -> None:
    event = {"specversion": "1.0", "id": "file-2", "source": "/conformance", "type": "test.job", "data": {"n": 1}}
    headers = {"content-type": "application/cloudevents+json"}
    assert place.ask(place.job_sink(), "", "POST", headers, json.dumps(event).encode()).status == 202
    told = job_of(place, "file-2")["told"]["event"]
    assert told.pop("datacontenttype", "application/json") == "application/json"
    assert told == event


def test_data_in_base64_stays_so_in_the_file(place: Place) -> None:
    event = {"specversion": "1.0", "id": "file-3", "source": "/conformance", "type": "test.job"}
    event |= {"datacontenttype": "application/octet-stream", "data_base64": "AAH/"}
    headers = {"content-type": "application/cloudevents+json"}
    assert place.ask(place.job_sink(), "", "POST", headers, json.dumps(event).encode()).status == 202
    assert job_of(place, "file-3")["told"]["event"] == event


def test_data_in_base64_that_stands_before_its_type(place: Place) -> None:
    """With a blank after the colon: Knative's library reads that into the data."""
    event = {"specversion": "1.0", "id": "file-6", "source": "/conformance", "type": "test.job"}
    event |= {"data_base64": "AAH/", "datacontenttype": "application/octet-stream"}
    headers = {"content-type": "application/cloudevents+json"}
    answer = place.ask(place.job_sink(), "", "POST", headers, json.dumps(event).encode())
    assert answer.status == (202 if differs(place, "`data_base64` before `datacontenttype`") else 400)


def test_bytes_in_binary_mode_in_the_file(place: Place) -> None:
    """A cluster's JobSink writes them as a text, and what is no UTF-8 is lost."""
    headers = {**binary("file-4", type="test.job"), "content-type": "application/octet-stream"}
    assert place.ask(place.job_sink(), "", "POST", headers, b"\x00\x01\xff").status == 202
    told = job_of(place, "file-4")["told"]["event"]
    lossless = differs(place, "bytes in an event to a JobSink")
    assert (told.get("data_base64"), told.get("data")) == (("AAH/", None) if lossless else (None, "\0\1\ufffd"))


def test_text_is_a_text_in_the_file(place: Place) -> None:
    headers = {**binary("file-5", type="test.job"), "content-type": "text/plain"}
    assert place.ask(place.job_sink(), "", "POST", headers, "grüß Gott".encode()).status == 202
    assert job_of(place, "file-5")["told"]["event"]["data"] == "grüß Gott"


def test_the_job_is_told_that_it_is_a_batch(place: Place) -> None:
    post(place, "mode-1")
    assert job_of(place, "mode-1")["told"]["mode"] == "batch"


def test_a_jobs_own_environment_is_kept(place: Place) -> None:
    place.job_sink("greeting", environment={"GREETING": "hello"})
    post(place, "env-1", job_sink="greeting")
    assert job_of(place, "env-1", "greeting")["told"]["greeting"] == "hello"


def test_the_job_is_the_templates_with_knatives_labels(place: Place) -> None:
    post(place, "labels-1")
    job = job_of(place, "labels-1")["job"]
    labels = job["metadata"]["labels"]
    assert labels["sinks.knative.dev/job-sink-name"] == "train"
    assert labels["sinks.knative.dev/job-sink-id"] == job["metadata"]["name"]
    (owner,) = job["metadata"]["ownerReferences"]
    sink = place.api.get("JobSink", "train")
    assert sink is not None
    assert (owner["name"], owner["uid"]) == ("train", sink["metadata"]["uid"])
    assert job["spec"]["backoffLimit"] == 0


def test_a_job_is_named_after_the_event(place: Place) -> None:
    post(place, "7", source="/s")
    job = job_of(place, "7", source="/s")["job"]
    assert job["metadata"]["name"] == "train-8d51e11a912262b293f4b2db72956ae8"  # md5 of "/s7"


def test_the_same_event_again_makes_no_second_job_while_the_first_lives(place: Place) -> None:
    first = post(place, "same-1")
    uid = job_of(place, "same-1")["job"]["metadata"]["uid"]
    again = post(place, "same-1", {"other": "data"})
    assert (again.status, again.headers["location"]) == (202, first.headers["location"])
    assert job_of(place, "same-1")["job"]["metadata"]["uid"] == uid
    assert post(place, "same-1", source="/other").headers["location"] != first.headers["location"]


def test_after_its_job_is_deleted_an_event_makes_a_new_one(place: Place) -> None:
    post(place, "new-1")
    job = job_of(place, "new-1")["job"]["metadata"]
    place.api.delete("Job", job["name"])
    until("the end of the Job", lambda: place.api.get("Job", job["name"]) is None)
    assert post(place, "new-1").status == 202
    again = until("a new Job", lambda: place.api.get("Job", job["name"]))
    assert again["metadata"]["uid"] != job["uid"]


def test_a_location_answers_202_while_the_job_runs_and_200_when_it_is_complete(place: Place) -> None:
    answer = post(place, "running-1", {"sleep": 3})
    where = answer.headers["location"]
    running = place.follow(place.job_sink(), where)
    assert (running.status, running.headers["location"]) == (202, where)
    done = until(
        "the end of the Job", lambda: a if (a := place.follow(place.job_sink(), where)).status != 202 else None
    )
    assert (done.status, done.headers["reason"]) == (200, "Complete")


def test_a_location_answers_400_when_the_job_has_failed(place: Place) -> None:
    where = post(place, "failing-1", {"exit": 65}).headers["location"]
    done = until(
        "the end of the Job", lambda: a if (a := place.follow(place.job_sink(), where)).status != 202 else None
    )
    assert (done.status, done.headers["reason"]) == (400, "Failed")


def test_a_location_of_no_job_answers_500(place: Place) -> None:
    where = f"/namespaces/{place.api.namespace}/name/train/sources/x/ids/y"
    assert place.follow(place.job_sink(), where).status == 500


def test_a_location_of_no_job_sink_is_refused(place: Place) -> None:
    where = f"/namespaces/{place.api.namespace}/name/absent/sources/x/ids/y"
    assert place.follow(place.job_sink(), where).status == 400


def test_a_location_of_another_form_is_refused(place: Place) -> None:
    assert place.follow(place.job_sink(), f"/namespaces/{place.api.namespace}/name/train").status == 400


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
        (binary("bad", source=""), b"{}"),
        ({k: v for k, v in binary("bad").items() if k != "ce-type"}, b"{}"),
    ],
    ids=["plain-json", "broken-json", "batch", "empty-source", "no-type"],
)
def test_what_is_no_event_is_refused_and_makes_no_job(place: Place, headers: dict[str, str], body: bytes) -> None:
    assert place.ask(place.job_sink("strict"), "", "POST", headers, body).status == 400
    assert place.api.list("Job", labelSelector="sinks.knative.dev/job-sink-name=strict") == []


def test_a_job_sink_that_is_not_there_refuses(place: Place) -> None:
    url = place.job_sink().replace("/train", "/absent")
    assert place.ask(url, "", "POST", binary("lost"), b"{}").status == 400


def test_a_path_that_names_no_job_sink_is_refused(place: Place) -> None:
    assert place.ask(place.job_sink(), "/more", "POST", binary("lost"), b"{}").status == 400


def test_a_job_sink_knows_no_other_method(place: Place) -> None:
    assert place.ask(place.job_sink(), "", "PUT", binary("lost"), b"{}").status == 400


def test_an_event_that_no_secret_can_hold(place: Place) -> None:
    """A cluster's JobSink makes the Job, then fails to make the Secret, and answers 500; a laptop's makes neither."""
    headers = {**binary("huge", type="test.job"), "content-type": "application/octet-stream"}
    answer = place.ask(place.job_sink("huge"), "", "POST", headers, b"x" * (1024 * 1024 + 1))
    jobs = place.api.list("Job", labelSelector="sinks.knative.dev/job-sink-name=huge")
    if differs(place, "an event over 1 MiB"):
        assert (answer.status, jobs) == (413, [])
    else:
        assert (answer.status, len(jobs)) == (500, 1)


def test_a_jobs_pod_and_event_go_with_it(place: Place) -> None:
    post(place, "gone-1")
    job = job_of(place, "gone-1")["job"]["metadata"]["name"]
    selector = f"batch.kubernetes.io/job-name={job}"
    place.api.delete("Job", job)
    until("the end of its pods", lambda: place.api.list("Pod", labelSelector=selector) == [])


def test_a_job_sink_without_a_job_is_refused(place: Place) -> None:
    made = {**manifests.job_sink(place.image, "jobless"), "spec": {}}
    reply = place.api("POST", place.api.path("JobSink"), {"fieldValidation": "Strict"}, body=made)
    assert reply.status == 400, reply


def test_the_jobs_of_a_job_sink_that_is_deleted(place: Place) -> None:
    """A cluster leaves them: it knows no kind of their owner's name, `jobsinks`."""
    post(place, "owned-1", job_sink="short-lived")
    job = job_of(place, "owned-1", "short-lived")["job"]["metadata"]["name"]
    place.api.delete("JobSink", "short-lived")
    if differs(place, "Jobs of a JobSink that is deleted"):
        until("the end of its Job", lambda: place.api.get("Job", job) is None)
    else:
        until("the end of the JobSink", lambda: place.api.get("JobSink", "short-lived") is None)
        assert place.api.get("Job", job) is not None
