"""The house as kubectl sees it, with the kubectl of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from eventing.contract import ModelTrained
from headrace import manifests
from tests.end_to_end import tables
from tests.end_to_end.conftest import MODEL
from tests.end_to_end.house import House, until

HELLO = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec:
  template:
    spec:
      containers: [{name: hello, image: hello, command: [python, -c, "import http.server as h, os; h.test(h.SimpleHTTPRequestHandler, port=int(os.environ['PORT']))"]}]
"""  # noqa: E501


def test_get_shows_everything_of_the_house(house: House) -> None:
    shown = house.kubectl("get", "ksvc,revisions,brokers,triggers,jobsinks,jobs")
    for name in (
        f"service.serving.knative.dev/{MODEL} ",
        f"revision.serving.knative.dev/{MODEL}-00001 ",
        "broker.eventing.knative.dev/default ",
        "trigger.eventing.knative.dev/promoter ",
        f"trigger.eventing.knative.dev/{MODEL}-predictions ",
        "jobsink.sinks.knative.dev/random-forest ",
        "job.batch/random-forest-",
    ):
        assert name in shown


def test_our_manifests_are_unchanged_at_the_second_apply(house: House, tmp_path: Path) -> None:
    """Neither apply changes what runs: the manifests are those that `headrace up` applied, by the server's side."""
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(_manifests(house)))
    before = _generations(house)
    house.kubectl("apply", "-f", str(file))
    again = house.kubectl("apply", "-f", str(file)).splitlines()
    assert [line for line in again if not line.endswith(" unchanged")] == []
    assert len(again) == len(list(_manifests(house)))
    assert _generations(house) == before
    assert house.run_kubectl("diff", "-f", str(file)).returncode == 0


def test_a_server_side_apply_of_our_manifests_changes_nothing(house: House) -> None:
    before = _generations(house)
    text = yaml.safe_dump_all(_manifests(house))
    house.kubectl("apply", "--server-side", "--field-manager=headrace", "-f", "-", given=text)
    assert _generations(house) == before


def test_the_log_of_a_job_is_that_of_its_training(house: House) -> None:
    trained = house.entries(type=ModelTrained.TYPE, subject=MODEL)[0]
    logged = house.kubectl("logs", f"job/{trained.data['job']}")
    assert trained.data["version"] in logged
    assert "exit status 0" in logged


def test_a_watch_shows_a_service_become_ready(house: House) -> None:
    with house.start_kubectl("get", "ksvc", "-w") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("NAME")
        house.kubectl("apply", "-f", "-", given=HELLO)
        shown: list[str] = []
        while not shown or shown[-1].split()[:1] != ["hello"] or "True" not in shown[-1].split():
            shown.append(watch.stdout.readline())
            assert shown[-1], "the watch ended"
        watch.terminate()
    house.kubectl("delete", "ksvc", "hello")


def test_a_deleted_service_takes_all_of_its_own_along(house: House) -> None:
    house.kubectl("apply", "-f", "-", given=HELLO)
    house.kubectl("wait", "--for=condition=Ready", "ksvc/hello", "--timeout=60s")
    assert house.items("revisions", "serving.knative.dev/service=hello")
    house.kubectl("delete", "ksvc", "hello")
    house.kubectl("wait", "--for=delete", "ksvc/hello", "--timeout=60s")
    until("the end of its pods", lambda: not house.items("pods", "serving.knative.dev/service=hello"))
    assert not house.items("revisions", "serving.knative.dev/service=hello")


def test_wait_and_describe_tell_of_a_model(house: House) -> None:
    assert "condition met" in house.kubectl("wait", "--for=condition=Ready", f"ksvc/{MODEL}", "--timeout=60s")
    described = house.kubectl("describe", "ksvc", MODEL)
    assert re.search(r"Container Concurrency:\s+20\b", described)  # the column is as wide as its longest name
    job = house.items("jobs")[0]["metadata"]["name"]
    assert "Pods Statuses:" in house.kubectl("describe", "job", job)


def test_a_misspelt_field_is_named(house: House) -> None:
    wrong = HELLO.replace("containers:", "containerConcurency: 3\n      containers:")
    refused = house.run_kubectl("apply", "-f", "-", given=wrong)
    assert refused.returncode == 1
    assert 'unknown field "spec.template.spec.containerConcurency"' in refused.stderr
    assert house.run_kubectl("get", "ksvc", "hello").returncode == 1


def test_explain_tells_what_a_field_means(house: House) -> None:
    explained = house.kubectl("explain", "ksvc.spec.template.spec.containerConcurrency")
    assert "FIELD: containerConcurrency <integer>" in explained
    for field in ("job.spec.backoffLimit", "trigger.spec.filters", "jobsink.spec", "broker.spec.delivery"):
        house.kubectl("explain", field)


def test_a_model_is_served_all_the_while(house: House) -> None:
    assert len(house.predictions(MODEL, tables.questions(3, seed=61))) == 3


def _manifests(house: House) -> Iterator[dict[str, Any]]:
    """What `headrace up` applies; the ConfigMap, which differs from place to place, with this place's values."""
    for manifest in manifests.read(laptop=True):
        if manifest["kind"] == "ConfigMap":
            manifest["data"] = house.get("configmap", manifest["metadata"]["name"])["data"]
        yield manifest


def _generations(house: House) -> dict[str, int]:
    """What was asked for, by object: a new one is a new spec, which for a Service means a new Revision."""
    kinds = "ksvc,revisions,brokers,triggers,jobsinks,containersources,configmaps"
    found = json.loads(house.kubectl("get", kinds, "-o", "json"))["items"]
    return {f"{o['kind']} {o['metadata']['name']}": o["metadata"].get("generation", 0) for o in found}
