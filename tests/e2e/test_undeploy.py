"""What `undeploy` takes away from a place in which everything has run, and what it leaves."""

from __future__ import annotations

import json

import pytest

from tests.e2e.place import Deployed, until

pytestmark = pytest.mark.cluster

KINDS = (
    "ksvc", "brokers", "triggers", "jobsinks", "containersources", "networkpolicies", "poddisruptionbudgets", "roles",
    "rolebindings", "jobs",
)  # fmt: skip


def test_undeploy_removes_what_was_made_and_no_data(deployed: Deployed) -> None:
    deployed.headrace("deploy", *deployed.deployment)  # it may have been asked before
    packages = learned(deployed)
    deployed.headrace("undeploy")

    def gone() -> bool:
        return not any(deployed.kubectl("get", kind, "-o", "name") for kind in KINDS)

    until("the end of all that was made", gone)
    # What ops brought, and what was learned.
    assert deployed.get("secret", "headrace-store")["data"]
    assert deployed.get("namespace", deployed.namespace)["status"]["phase"] == "Active"
    deployed.headrace("deploy", *deployed.deployment)
    # A version that was on its way when all this began may have been promoted meanwhile.
    assert packages and learned(deployed) >= packages
    deployed.headrace("undeploy")


def learned(deployed: Deployed) -> set[tuple[str, ...]]:
    """Every version that lies in the store, with what is told of it but for whether it serves."""
    rows = json.loads(deployed.headrace("models", "-o", "json"))
    return {tuple(f"{key}: {value}" for key, value in row.items() if key != "serves") for row in rows}
