"""The rooms' manifests are plain Kubernetes and Knative: one truth for a cluster and a laptop, and it fits the code."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventing import contract
from headrace.local import platform
from headrace.local.api import schema
from knative import annotations as knative_annotations
from knative.literals import SECOND, parse_duration
from tests.manifests import published
from tests.processes import known_settings, required

HOUSE = Path(__file__).parent.parent
FILES = sorted(HOUSE.glob("*/manifests/*.yaml"))
Object = dict[str, Any]
Step = str | int

# In these the keys are names that somebody chose, not fields.
NAMED_FREELY = {"labels", "matchLabels", "annotations", "data", "limits", "requests", "exact", "attributes"}


def documents() -> list[Object]:
    return [o for f in FILES for o in yaml.safe_load_all(f.read_text(encoding="utf-8")) if o]


def of_kind(*kinds: str) -> list[Object]:
    return [o for o in documents() if o["kind"] in kinds]


def label(o: Object) -> str:
    return f"{o['kind']}-{o['metadata']['name']}"


def nodes(value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Object]]:
    """Every object within `value`, with the path to it."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from nodes(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nodes(item, (*path, index))


def misspelt(o: Object, *path: Step) -> Object:
    """The object with the last key of `path` misspelt."""
    wrong = copy.deepcopy(o)
    at: Any = wrong
    for step in path[:-1]:
        at = at[step]
    at[f"{path[-1]}x"] = at.pop(path[-1])
    return wrong


def pod_specs() -> Iterator[tuple[Object, Object]]:
    for o in documents():
        for path, node in nodes(o):
            if path and path[-1] == "spec" and "containers" in node:
                yield o, node


def containers() -> Iterator[tuple[Object, Object]]:
    return ((o, container) for o, spec in pod_specs() for container in spec["containers"])


# ---------------------------------------------------------------- valid


@pytest.mark.parametrize("o", documents(), ids=label)
def test_a_manifest_is_what_kubernetes_and_knative_publish(o: Object) -> None:
    assert published.faults(o) == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Service", ("spec", "template", "spec", "containers", 0, "readinessProbe", "httpGet", "path")),
        ("Service", ("spec", "template", "spec", "timeoutSeconds")),
        ("Service", ("metadata", "labels")),
        ("Broker", ("spec", "delivery", "deadLetterSink", "ref", "name")),
        ("Trigger", ("spec", "subscriber", "ref", "name")),
        ("Trigger", ("spec", "filters", 0, "any")),
        ("JobSink", ("spec", "job", "spec", "backoffLimit")),
        ("JobSink", ("spec", "job", "spec", "template", "spec", "containers", 0, "envFrom")),
        ("ContainerSource", ("spec", "template", "spec", "containers", 0, "command")),
        ("ConfigMap", ("data",)),
        ("Role", ("rules", 0, "verbs")),
        ("NetworkPolicy", ("spec", "egress", 0, "ports", 0, "port")),
        ("NetworkPolicy", ("spec", "podSelector", "matchExpressions", 0, "operator")),
        ("PodDisruptionBudget", ("spec", "selector", "matchLabels")),
    ],
)
def test_a_misspelt_field_is_no_valid_manifest(kind: str, path: tuple[Step, ...]) -> None:
    fitting = [o for o in of_kind(kind) if _has(o, path)]
    assert fitting
    for o in fitting:
        assert published.faults(misspelt(o, *path)), label(o)


def _has(o: Any, path: tuple[Step, ...]) -> bool:
    try:
        for step in path:
            o = o[step]
    except (KeyError, IndexError):
        return False
    return True


@pytest.mark.parametrize("o", documents(), ids=label)
def test_the_laptop_takes_each_manifest_and_refuses_each_misspelt_field_of_it(o: Object) -> None:
    assert schema.check(o) == []
    for path, node in nodes(o):
        if path and path[-1] in NAMED_FREELY:
            continue
        for key in node.keys() - (set() if path else {"apiVersion", "kind"}):
            faults = schema.check(misspelt(o, *path, key))
            assert any(f.unknown and f.path.endswith(f"{key}x") for f in faults), (*path, key)


def test_the_laptop_knows_every_field_that_knative_allows_where_the_manifests_say_something() -> None:
    compared = 0
    for o in documents():
        if published.group(o) not in published.MODULES:
            continue
        for path, _ in list(nodes(o))[1:]:  # the whole object's own fields are every kind's
            allowed, here = published.properties_at(o, path), _fields(o, path)
            if allowed is None or here is None:
                continue
            assert allowed <= here, (label(o), path)
            compared += 1
    assert compared > 100


def _fields(o: Object, path: tuple[Step, ...]) -> set[str] | None:
    """The fields that the laptop's schema knows where `path` leads; None where anything may stand."""
    at: schema.Type | None = schema.merge_type(o["kind"])
    for step in path:
        at = at.of if at and isinstance(step, int) else schema.child(at, str(step))
    if at is None or at.name in ("any", "map", "list"):
        return None
    return set(schema.definitions()[at.name].fields)


@pytest.mark.parametrize("o", of_kind("Service"), ids=label)
def test_knatives_webhook_would_take_the_annotations(o: Object) -> None:
    assert knative_annotations.admit(o) == []


def test_kustomize_builds_all_manifests_together(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kustomize is part of kubectl, and there is no `kubectl` here")
    names = [f"{file.parent.parent.name}-{file.name}" for file in FILES]
    for file, name in zip(FILES, names, strict=True):
        shutil.copy(file, tmp_path / name)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": names}))
    done = subprocess.run([kubectl, "kustomize", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert sorted(map(label, built)) == sorted(map(label, documents()))


# ---------------------------------------------------------------- one truth for both places


@pytest.mark.parametrize("word", ["127.0.0.1", "localhost", "file://", "HEADRACE_HOME", ".venv", "hostPath"])
def test_nothing_in_a_manifest_is_of_a_laptop(word: str) -> None:
    assert [f.name for f in FILES if word in f.read_text(encoding="utf-8")] == []


def test_only_the_config_map_headrace_differs_on_a_laptop() -> None:
    mine = {"HEADRACE_STORE": "file:///home/store", "K_SINK": "http://127.0.0.1:1/broker/headrace/default"}
    applied = {label(o): o for o in platform.manifests(mine)}
    files = {label(o): o for o in documents() if label(o) in applied}
    different = {name for name, o in applied.items() if o != files[name]}
    assert different == {"ConfigMap-headrace"}
    # Besides, only what the promoter makes anew for each model, and what the laptop's Broker does itself.
    assert {label(o) for o in documents()} - set(applied) == {
        "Service-predictor", "Service-predictor-grpc", "Trigger-predictor-predictions",
        "Service-journal", "Trigger-journal",
    }  # fmt: skip


def test_every_container_takes_its_environment_from_that_config_map_and_its_keys_from_a_secret() -> None:
    found = list(containers())
    assert len(found) == 10
    for o, container in found:
        keys = {"secretRef": {"name": "headrace-store", "optional": True}}
        assert container["envFrom"] == [{"configMapRef": {"name": "headrace"}}, keys], label(o)


def test_a_variable_that_is_set_is_one_that_the_code_cannot_do_without() -> None:
    """So there is no second copy of a default, and no variable that nobody reads."""
    needed = set().union(*(required(each) for each in known_settings().values()))
    needed.add("HEADRACE_JOURNAL")  # for `headrace events`, which finds everything in the place's own objects
    (config_map,) = of_kind("ConfigMap")
    set_by_hand = {v["name"] for _, container in containers() for v in container.get("env", ())}
    assert set(config_map["data"]) | set_by_hand <= needed
    # And what a process needs is either there, or Kubernetes and Knative bring it.
    brought = {"K_EVENT_PATH"}
    assert needed - brought <= set(config_map["data"]) | set_by_hand


def test_every_command_is_a_module_that_can_be_run() -> None:
    for o, container in containers():
        python, dash_m, module = container["command"]
        assert (python, dash_m) == ("python", "-m"), label(o)
        found = importlib.util.find_spec(module)
        assert found is not None, module
        if found.submodule_search_locations is not None:
            found = importlib.util.find_spec(f"{module}.__main__")
        assert found is not None and found.origin is not None, module
        assert '__name__ == "__main__"' in Path(found.origin).read_text(encoding="utf-8"), module


def test_every_image_carries_the_version_of_this_package() -> None:
    project = (HOUSE / "pyproject.toml").read_text(encoding="utf-8")
    for o, container in containers():
        module = container["command"][2]
        room = next((r for r in ("trainers", "predictor") if f"{r}." in f"{module}."), "functions")
        image, _, version = container["image"].rpartition(":")
        assert image == f"ghcr.io/headrace/{room}", label(o)
        assert f'version = "{version}"' in project, label(o)


# ---------------------------------------------------------------- what refers to what


def test_every_reference_names_an_object_that_exists() -> None:
    there = {(o["kind"], o["metadata"]["name"]) for o in documents()}
    for o in documents():
        for path, node in nodes(o):
            if path and path[-1] in ("ref", "roleRef"):
                assert (node["kind"], node["name"]) in there, (label(o), path)
            if path and path[-1] == "configMapRef":
                assert ("ConfigMap", node["name"]) in there, label(o)
            if claim := node.get("claimName"):
                assert ("PersistentVolumeClaim", claim) in there, label(o)
            if account := node.get("serviceAccountName"):
                assert ("ServiceAccount", account) in there, label(o)
        for subject in o.get("subjects", ()):
            assert (subject["kind"], subject["name"]) in there, label(o)


def test_every_trigger_filters_on_a_type_of_the_contract_and_asks_a_broker_that_exists() -> None:
    unfiltered = [label(o) for o in of_kind("Trigger") if not {"filter", "filters"} & set(o["spec"])]
    assert unfiltered == ["Trigger-journal"]
    for o in (o for o in of_kind("Trigger") if label(o) not in unfiltered):
        types = {
            n["type"] for path, n in nodes(o["spec"]) if path and path[-1] in ("exact", "attributes") if "type" in n
        }
        assert types and types <= set(contract.TYPES), label(o)
        assert ("Broker", o["spec"]["broker"]) in {(b["kind"], b["metadata"]["name"]) for b in of_kind("Broker")}


def test_every_delivery_ends_in_the_dead_letters() -> None:
    deliveries = [(o, o["spec"]["delivery"]) for o in of_kind("Broker", "Trigger") if "delivery" in o["spec"]]
    assert len(deliveries) == 4
    for o, delivery in deliveries:
        assert delivery["deadLetterSink"]["ref"]["name"] == "dead-letters", label(o)
        assert delivery["retry"] > 0, label(o)


@pytest.mark.parametrize("sink", of_kind("JobSink"), ids=label)
def test_a_training_is_tried_again_unless_the_file_is_to_blame_and_is_tidied_away(sink: Object) -> None:
    job = sink["spec"]["job"]["spec"]
    assert 1 <= job["backoffLimit"] <= 6
    assert job["activeDeadlineSeconds"] > 0
    # A day: long enough to read the log, and for the Broker's last redelivery to meet the same Job.
    assert job["ttlSecondsAfterFinished"] >= 3600
    first, *others = job["podFailurePolicy"]["rules"]
    assert first["action"] == "FailJob"
    assert first["onExitCodes"]["values"] == [os.EX_DATAERR]
    assert first["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert [rule["action"] for rule in others] == ["Ignore"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # Kubernetes asks for it beside a podFailurePolicy


def test_the_job_watch_stays_for_as_long_as_any_training_may_take() -> None:
    """It looks without being asked, and nothing wakes it when a Job is stopped at its deadline."""
    (watch,) = (o for o in of_kind("Service") if o["metadata"]["name"] == "job-watch")
    said = watch["spec"]["template"]["metadata"]["annotations"]
    stays_s = parse_duration(said["autoscaling.knative.dev/scale-to-zero-pod-retention-period"]) / SECOND
    deadlines = [sink["spec"]["job"]["spec"]["activeDeadlineSeconds"] for sink in of_kind("JobSink")]
    assert stays_s > max(deadlines) + 60  # for the event to become a Job
