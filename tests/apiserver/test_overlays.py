"""Every manifest and overlay, judged by a real API server: dry-run, strict, and no kind that it does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.control_plane import ControlPlane
from tests.manifests.kustomized import OVERLAYS, rendered
from tests.test_manifests import FILES, HOUSE

Object = dict[str, Any]

STRICTLY = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")


@pytest.fixture(scope="module")
def judge(api: ControlPlane) -> ControlPlane:
    """The server, with the namespace that the manifests name."""
    api.kubectl("apply", "--server-side", "-f", str(HOUSE / "knative" / "manifests" / "namespace.yaml"))
    return api


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(HOUSE)))
def test_the_server_takes_each_manifest(judge: ControlPlane, file: Path) -> None:
    taken(judge, file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_what_kustomize_renders(judge: ControlPlane, overlay: str) -> None:
    taken(judge, rendered(overlay))


def taken(judge: ControlPlane, text: str) -> None:
    """Asserts that every object would be applied, and what a definition leaves open besides."""
    found = [o for o in yaml.safe_load_all(text) if o]
    assert found
    inner = [each for o in found for each in embedded(o)]
    shown = judge.kubectl(*STRICTLY, input=yaml.safe_dump_all([*found, *inner]))
    assert shown.count("serverside-applied (server dry run)") == len(found) + len(inner)


def embedded(o: Object) -> list[Object]:
    """The Jobs and Pods that custom resources hold, which their definitions do not look into."""
    metadata = {"name": o["metadata"]["name"], "namespace": o["metadata"].get("namespace")}
    spec = o.get("spec") or {}
    if o["kind"] == "JobSink":
        return [{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec["job"]["spec"]}]
    if o["kind"] == "ContainerSource":
        return [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec["template"]["spec"]}]
    if o["kind"] == "TrainingRuntime":
        jobs = [job["template"] for job in spec["template"]["spec"]["replicatedJobs"]]
        return [{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job["spec"]} for job in jobs]
    return []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "Brokr"}, 'no matches for kind "Brokr"'),
        ({"spec": {"delivary": {}}}, ".spec.delivary: field not declared in schema"),
        ({"spec": {"delivery": {"retry": "ten"}}}, "spec.delivery.retry"),
    ],
)
def test_the_server_takes_no_misspelt_kind_or_field_and_no_wrong_value(
    judge: ControlPlane, change: Object, said: str
) -> None:
    broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "x"}, **change}
    refused = judge.call_kubectl(*STRICTLY, input=json.dumps(broker))
    assert refused.returncode == 1
    assert said in refused.stderr
