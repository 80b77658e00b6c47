"""The same kubectl commands say the same."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import yaml

from tests.conformance import manifests
from tests.conformance.api import Object
from tests.conformance.differences import differs
from tests.conformance.place import Place
from tests.conformance.test_kubernetes_api import DEFAULTS

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def done(place: Place, *words: str, given: Any = None) -> str:
    """What kubectl prints; it must succeed."""
    ended = place.kubectl(*words, given="" if given is None else yaml.safe_dump_all(given))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def maps(name: str, **data: str) -> list[Object]:
    return [manifests.config_map(name, data)]


def test_apply_creates_configures_and_leaves_unchanged(place: Place) -> None:
    said = [done(place, "apply", "-f", "-", given=maps("kubectl-a", a=value)).strip() for value in ("1", "1", "2")]
    assert said == ["configmap/kubectl-a created", "configmap/kubectl-a unchanged", "configmap/kubectl-a configured"]


def test_apply_takes_knatives_kinds_again_unchanged(place: Place) -> None:
    given = [
        manifests.broker("kubectl-b"),
        manifests.trigger(
            "kubectl-b", {"uri": "http://example.test/"}, "kubectl-b", filters=[{"exact": {"type": "a"}}]
        ),
    ]
    assert done(place, "apply", "-f", "-", given=given).count("created") == 2
    assert done(place, "apply", "-f", "-", given=given).count("unchanged") == 2


def test_apply_of_a_container_again(place: Place) -> None:
    """What a webhook fills in within a list, kubectl would take away again, and says so each time."""
    given = [manifests.job_sink(place.image, "kubectl-js")]
    done(place, "apply", "-f", "-", given=given)
    expected = "unchanged" if differs(place, DEFAULTS) else "configured"
    assert done(place, "apply", "-f", "-", given=given).strip() == f"jobsink.sinks.knative.dev/kubectl-js {expected}"


def test_server_side_apply_tells_of_conflicts_until_forced(place: Place) -> None:
    done(place, "apply", "--server-side", "-f", "-", given=maps("kubectl-c", a="1"))
    words = ("apply", "--server-side", "--field-manager", "other", "-f", "-")
    refused = place.kubectl(*words, given=yaml.safe_dump_all(maps("kubectl-c", a="2")))
    assert refused.returncode == 1
    assert 'conflict with "kubectl": .data.a' in refused.stderr
    assert "serverside-applied" in done(place, *words, "--force-conflicts", given=maps("kubectl-c", a="2"))


def test_diff_shows_what_an_apply_would_change(place: Place) -> None:
    done(place, "apply", "-f", "-", given=maps("kubectl-d", a="before"))
    changed = place.kubectl("diff", "-f", "-", given=yaml.safe_dump_all(maps("kubectl-d", a="after")))
    assert changed.returncode == 1
    assert "-  a: before" in changed.stdout and "+  a: after" in changed.stdout
    assert place.kubectl("diff", "-f", "-", given=yaml.safe_dump_all(maps("kubectl-d", a="before"))).returncode == 0


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("ksvc", "NAME URL LATESTCREATED LATESTREADY READY REASON"),
        ("configurations", "NAME LATESTCREATED LATESTREADY READY REASON"),
        ("revisions", "NAME CONFIG NAME GENERATION READY REASON ACTUAL REPLICAS DESIRED REPLICAS"),
        ("routes", "NAME URL READY REASON"),
        ("brokers", "NAME URL AGE READY REASON"),
        ("triggers", "NAME BROKER SUBSCRIBER_URI AGE READY REASON"),
        ("jobsinks", "NAME URL AGE READY REASON"),
        ("jobs", "NAME STATUS COMPLETIONS DURATION AGE"),
        ("pods", "NAME READY STATUS RESTARTS AGE"),
        ("configmaps", "NAME DATA AGE"),
    ],
)
def test_get_has_the_same_columns(place: Place, kind: str, head: str) -> None:
    place.service("echo")
    place.broker()
    place.job_sink()
    place.api.apply(manifests.trigger("kubectl-t", {"uri": "http://example.test/"}, manifests.SILENT))
    place.api.apply(manifests.job(place.image, "kubectl-columns", suspend=True))
    assert " ".join(done(place, "get", kind).splitlines()[0].split()) == head


def test_get_gives_yaml_json_names_and_paths(place: Place) -> None:
    done(place, "apply", "-f", "-", given=maps("kubectl-e", a="1"))
    assert yaml.safe_load(done(place, "get", "cm", "kubectl-e", "-o", "yaml"))["data"] == {"a": "1"}
    assert json.loads(done(place, "get", "cm/kubectl-e", "-o", "json"))["data"] == {"a": "1"}
    assert done(place, "get", "cm", "kubectl-e", "-o", "name").strip() == "configmap/kubectl-e"
    assert done(place, "get", "cm", "kubectl-e", "-o", "jsonpath={.data.a}") == "1"


def test_get_wide_has_more_columns(place: Place) -> None:
    place.api.apply(manifests.job(place.image, "kubectl-wide", suspend=True))
    head = done(place, "get", "job", "kubectl-wide", "-o", "wide").splitlines()[0].split()
    assert head == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]


def test_get_of_what_is_not_there_fails(place: Place) -> None:
    ended = place.kubectl("get", "ksvc", "absent")
    assert ended.returncode == 1
    assert 'services.serving.knative.dev "absent" not found' in ended.stderr


def test_wait_waits_for_a_condition(place: Place) -> None:
    place.api.apply(manifests.broker("kubectl-w"))
    said = done(place, "wait", "broker/kubectl-w", "--for", "condition=Ready", "--timeout", "90s")
    assert said.strip() == "broker.eventing.knative.dev/kubectl-w condition met"


def test_logs_are_those_of_a_jobs_pod(place: Place) -> None:
    made = manifests.job(place.image, "kubectl-logs")
    made["spec"]["template"]["spec"]["containers"][0]["command"] = ["python", "-c", "print('hello from the job')"]
    del made["spec"]["template"]["spec"]["containers"][0]["args"]
    place.api.apply(made)
    done(place, "wait", "job/kubectl-logs", "--for", "condition=Complete", "--timeout", "90s")
    assert done(place, "logs", "job/kubectl-logs").splitlines() == ["hello from the job"]


def test_describe_tells_of_an_object_and_its_events(place: Place) -> None:
    place.service("echo")
    said = done(place, "describe", "ksvc", "echo")
    assert "Name:         echo" in said
    assert "Latest Ready Revision Name:    echo-00001" in said
    assert "Events:" in said


@pytest.mark.parametrize(
    ("path", "type"),
    [
        ("ksvc.spec.template.spec.containerConcurrency", "<integer>"),
        ("trigger.spec.filters", "<[]Object>"),
        ("jobsink.spec.job", "<Object>"),
        ("job.spec.backoffLimit", "<integer>"),
        ("configmap.data", "<map[string]string>"),
    ],
)
def test_explain_knows_the_fields(place: Place, path: str, type: str) -> None:
    said = done(place, "explain", path)
    assert f"FIELD: {path.rpartition('.')[2]} {type}" in said


def test_api_resources_lists_the_kinds_with_their_short_names(place: Place) -> None:
    rows = [line.split() for line in done(place, "api-resources", "--no-headers").splitlines()]
    listed = {tuple(row[-4:]): row[0] for row in rows}
    for name, version, namespaced, kind in [
        ("services", "serving.knative.dev/v1", "true", "Service"),
        ("revisions", "serving.knative.dev/v1", "true", "Revision"),
        ("brokers", "eventing.knative.dev/v1", "true", "Broker"),
        ("triggers", "eventing.knative.dev/v1", "true", "Trigger"),
        ("jobsinks", "sinks.knative.dev/v1alpha1", "true", "JobSink"),
        ("jobs", "batch/v1", "true", "Job"),
        ("configmaps", "v1", "true", "ConfigMap"),
    ]:
        assert any(row[0] == name and row[-3:] == [version, namespaced, kind] for row in rows), (name, listed)


def test_a_label_and_an_annotation_are_set_and_taken_away(place: Place) -> None:
    done(place, "apply", "-f", "-", given=maps("kubectl-l"))
    done(place, "label", "cm/kubectl-l", "team=blue")
    done(place, "annotate", "cm/kubectl-l", "note=mine")
    assert done(place, "get", "cm", "-l", "team=blue", "-o", "name").strip() == "configmap/kubectl-l"
    done(place, "label", "cm/kubectl-l", "team-")
    assert done(place, "get", "cm", "-l", "team=blue", "-o", "name").strip() == ""


def test_patch_merges_and_delete_removes(place: Place) -> None:
    place.api.apply(manifests.trigger("kubectl-p", {"uri": "http://example.test/"}, manifests.SILENT))
    said = done(place, "patch", "trigger", "kubectl-p", "--type", "merge", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    assert said.strip() == "trigger.eventing.knative.dev/kubectl-p patched"
    assert done(place, "delete", "trigger", "kubectl-p").startswith('trigger.eventing.knative.dev "kubectl-p" deleted')
    assert place.api.get("Trigger", "kubectl-p") is None
