"""One API server for all tests of this folder, with Knative's, KEDA's and Kubeflow Trainer's definitions in it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver import control_plane
from tests.apiserver.control_plane import ControlPlane
from tests.manifests import published

Object = dict[str, Any]

# What the manifests and the code speak of; whole, the modules bring three times as many, and ten seconds with them.
KINDS = {
    "serving.knative.dev": {"Service", "Configuration", "Revision", "Route", "PodAutoscaler"},
    "eventing.knative.dev": {"Broker", "Trigger", "JobSink", "ContainerSource"},
    "keda.sh": {"ScaledObject"},
    "trainer.kubeflow.org": {"TrainJob", "TrainingRuntime"},
}


def definitions(group: str, *without: str) -> list[Object]:
    """The CustomResourceDefinitions that a group's module brings, as far as they are needed here."""
    return [d for d in published.definitions(group) if d["spec"]["names"]["kind"] in KINDS[group] - set(without)]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane that knows what a cluster with everything installed does."""
    if why := control_plane.absent():
        pytest.skip(why)
    with control_plane.running(tmp_path_factory.mktemp("apiserver")) as plane:
        plane.install([d for group in KINDS for d in definitions(group)])
        yield plane


@pytest.fixture
def namespace(api: ControlPlane, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    name = f"t{zlib.crc32(request.node.nodeid.encode())}"
    api.kubectl("create", "namespace", name)
    return name
