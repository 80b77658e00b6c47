"""What `undeploy` takes away from a place in which everything has run, and what it leaves."""

from __future__ import annotations

import pytest

from tests.e2e.place import Deployed, until

pytestmark = pytest.mark.cluster

KINDS = (
    "ksvc", "brokers", "triggers", "jobsinks", "containersources", "networkpolicies", "poddisruptionbudgets", "roles",
    "rolebindings", "jobs",
)  # fmt: skip


def test_undeploy_removes_what_was_made_and_no_data(deployed: Deployed) -> None:
    packages = deployed.headrace("models", "-o", "json")
    deployed.headrace("undeploy")

    def gone() -> bool:
        return not any(deployed.kubectl("get", kind, "-o", "name") for kind in KINDS)

    until("the end of all that was made", gone)
    # What ops brought, and what was learned.
    assert deployed.get("secret", "headrace-store")["data"]
    assert deployed.get("namespace", deployed.namespace)["status"]["phase"] == "Active"
    deployed.headrace("deploy", *deployed.deployment)
    assert deployed.headrace("models", "-o", "json") == packages
    deployed.headrace("undeploy")
