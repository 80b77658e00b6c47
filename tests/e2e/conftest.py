"""One deployment for all that is shown of a cluster, made by `headrace deploy`, with a store that its pods share."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knative.client import Cluster
from tests.e2e import policy_agent, store
from tests.e2e.images import reference
from tests.e2e.kit import Kit
from tests.e2e.kustomization import ROOMS
from tests.e2e.place import Deployed
from tests.e2e.store import S3

NAMESPACE = time.strftime("headrace-e2e-%H%M%S")  # new each time: a namespace takes minutes to go
# A canary that a person would watch takes minutes; what decides it is the same.
QUICK = {"HEADRACE_CANARY_S": "20", "HEADRACE_CANARY_POLL_S": "1", "HEADRACE_LATENCY_FLOOR_MS": "60000"}
# Of a node with two cores a training asks for one. With what the manifests say of predictors, a champion, a challenger
# and what else runs here meanwhile ask for more than the other, and then a training waits until somebody ends.
REQUESTS = "/spec/template/spec/containers/0/resources/requests/cpu"
SMALL = {"HEADRACE_PREDICTOR_PATCH": json.dumps([{"op": "replace", "path": REQUESTS, "value": "50m"}])}

FIGURES: list[str] = []


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    named = os.environ.get("KUBECONFIG", "")
    assert named, "KUBECONFIG names the cluster; `make e2e` sets it"
    return Path(named)


@pytest.fixture(scope="session")
def kit() -> Kit:
    """What has made the cluster; for tests that kill parts of it, or install what is one for all of a cluster."""
    folder = os.environ.get("E2E_KIT")
    if not folder:
        pytest.skip("this is done to a cluster of this machine's own alone")
    return Kit.of(Path(folder), os.environ)


@pytest.fixture(scope="session")
def gateway(kubeconfig: Path) -> str:
    """`host:port` of the Knative gateway: told, or the ClusterIP of the kit's, which its own machine reaches."""
    if told := os.environ.get("E2E_GATEWAY"):
        return told
    words = ["kubectl", "--kubeconfig", str(kubeconfig), "-n", "knative-gateway", "get", "service", "gateway"]
    found = subprocess.run([*words, "-o", "jsonpath={.spec.clusterIP}"], capture_output=True, text=True).stdout
    assert found, "no Service `gateway` in namespace `knative-gateway`; name the cluster's with GATEWAY=HOST:PORT"
    return f"{found}:80"


@pytest.fixture(scope="session")
def s3(kubeconfig: Path) -> Iterator[S3]:
    """The store, which all that is deployed here shares."""
    with store.running(kubeconfig) as found:
        yield found


@pytest.fixture(scope="session")
def deployed(kubeconfig: Path, gateway: str, s3: S3) -> Iterator[Deployed]:
    """A namespace in which everything is Ready."""
    words = ["--store", f"s3://{s3.bucket}"]
    words += [f"--image={room}={reference(room)}" for room in ROOMS]
    words += [f"--set={key}={value}" for key, value in {**QUICK, **SMALL, "AWS_ENDPOINT_URL": s3.inside}.items()]
    words += [f"--set=HEADRACE_GATEWAY_NETWORKS={policy_agent.gateway_networks(kubeconfig)}"]
    environ = {**s3.outside, "HEADRACE_GATEWAY": f"http://{gateway}"}
    here = Deployed(kubeconfig, NAMESPACE, gateway, environ, words)
    # What ops bring: the namespace, and the store's keys as a Secret that the manifests know by name.
    here.kubectl("create", "namespace", NAMESPACE)
    try:
        here.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        here.bring_keys(s3.keys)
        here.headrace("deploy", *words)
        yield here
    finally:
        # Its pods end within their grace; nobody waits for it.
        here.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def cluster(deployed: Deployed) -> Cluster:
    """The deployed namespace, by the client that the promoter and the commands use."""
    return Cluster.connect(str(deployed.kubeconfig), deployed.namespace)


@pytest.fixture(scope="session")
def headrace(deployed: Deployed) -> Callable[..., str]:
    return deployed.headrace


@pytest.fixture(scope="session")
def kubectl(deployed: Deployed) -> Callable[..., str]:
    return deployed.kubectl


@pytest.fixture(scope="session")
def figure() -> Callable[[str], None]:
    """Takes a sentence with a measured figure; all of them are printed at the end."""
    return FIGURES.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("measured")
        for line in FIGURES:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The loop meets a place in which nothing has happened yet, and what removes the place comes when all is shown."""
    order = {"test_loop.py": 0, "test_undeploy.py": 2}
    ours = [item for item in items if item.path.parent.name == "e2e"]
    others = [item for item in items if item.path.parent.name != "e2e"]
    items[:] = [*sorted(ours, key=lambda item: order.get(item.path.name, 1)), *others]
