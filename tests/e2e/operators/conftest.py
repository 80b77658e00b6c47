"""What is one for all of a cluster: who scales, and who is asked for numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Kit
from tests.e2e.operators import prometheus
from tests.e2e.operators.keda import installation
from tests.e2e.operators.prometheus import Prometheus
from tests.e2e.place import Deployed

MONITORING = time.strftime("headrace-e2e-prometheus-%H%M%S")


@pytest.fixture(scope="session")
def programs(kit: Kit) -> Path:
    """The folder with KEDA's, the metrics server's and Prometheus'; built the first time."""
    return installation.programs()


@pytest.fixture(scope="session")
def watching(kubeconfig: Path, kit: Kit, programs: Path) -> Iterator[Prometheus]:
    with prometheus.running(Deployed(kubeconfig, MONITORING, ""), kit, programs / "prometheus") as found:
        yield found


@pytest.fixture(scope="session")
def keda(kubeconfig: Path, kit: Kit, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """KEDA, and the metrics server with it."""
    with installation.running(kubeconfig, kit, programs, tmp_path_factory.mktemp("keda")):
        yield
