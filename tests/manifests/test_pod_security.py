"""Every pod of ours keeps within Kubernetes' level `restricted`, asks for what it needs, and ends in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests import pod_security, published

Object = dict[str, Any]

HOUSE = Path(__file__).parents[2]
STANDARD = ("k8s.io/pod-security-admission@v0.37.2", "test/testdata/restricted/v1.37")
DRAIN_S = 30  # queue-proxy goes on for so long while routes change. Source: knative/serving pkg/queue/drain


def templates() -> dict[str, Object]:
    """Every pod template of ours, by the object that holds it."""
    found = {}
    for file in sorted(HOUSE.glob("*/manifests/*.yaml")):
        for o in filter(None, yaml.safe_load_all(file.read_text(encoding="utf-8"))):
            spec = o.get("spec", {}).get("job", o).get("spec", {})
            if "template" in spec:
                found[f"{o['kind']} {o['metadata']['name']}"] = spec["template"]["spec"]
    return found


TEMPLATES = templates()
each = pytest.mark.parametrize("name", TEMPLATES)


def test_all_templates_are_found() -> None:
    assert len(TEMPLATES) == 10


@each
def test_a_pod_is_within_restricted(name: str) -> None:
    assert pod_security.faults(TEMPLATES[name]) == []


@pytest.mark.parametrize("kind", ["pass", "fail"])
def test_what_is_within_restricted_is_judged_as_in_the_standards_own_examples(kind: str) -> None:
    module, folder = STANDARD
    judged = 0
    for file in sorted((published.module(module) / folder / kind).glob("*.yaml")):
        pod = yaml.safe_load(file.read_text(encoding="utf-8"))
        # Of the annotations that came before fields, and of Windows, ours know nothing.
        if pod["spec"].get("os", {}).get("name") == "windows" or pod["metadata"].get("annotations"):
            continue
        assert bool(pod_security.faults(pod["spec"])) == (kind == "fail"), file.name
        judged += 1
    assert judged > 20


@each
def test_nothing_is_written_but_where_an_empty_folder_is_mounted(name: str) -> None:
    spec = TEMPLATES[name]
    folders = {v["name"] for v in spec["volumes"] if "emptyDir" in v}
    for container in spec["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
        assert mounts["/tmp"]["name"] in folders
        assert all(m.get("readOnly") for path, m in mounts.items() if path != "/tmp")


@each
def test_a_container_asks_for_what_it_needs_and_has_an_end_of_memory(name: str) -> None:
    for container in TEMPLATES[name]["containers"]:
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert "memory" in resources["limits"]


@each
def test_only_who_asks_the_kubernetes_api_has_an_account_and_a_token(name: str) -> None:
    spec = TEMPLATES[name]
    if name in ("Service promoter", "Service job-watch"):
        assert spec["serviceAccountName"] == name.partition(" ")[2] and "automountServiceAccountToken" not in spec
    else:
        assert "serviceAccountName" not in spec and spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name.startswith("Service")])
def test_a_service_says_when_it_is_ready_when_it_hangs_and_has_time_to_end(name: str) -> None:
    spec = TEMPLATES[name]
    (container,) = spec["containers"]
    # Without a period Knative asks every 25 ms until a pod is ready: nobody waits for longer than a start takes.
    assert "periodSeconds" not in container["readinessProbe"]
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    assert {k: v for k, v in liveness.items() if k in ("httpGet", "grpc")} != {
        k: v for k, v in container["readinessProbe"].items() if k in ("httpGet", "grpc")
    }
    assert "startupProbe" not in container  # Knative 1.15 refuses a Service that has one
    # Knative gives a pod as long to end as a request may take.
    assert spec["timeoutSeconds"] > DRAIN_S


def test_the_namespace_refuses_pods_that_ask_for_more() -> None:
    (namespace,) = yaml.safe_load_all((HOUSE / "knative/manifests/namespace.yaml").read_text(encoding="utf-8"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


# ---------------------------------------------------------------- rights, budgets


def of_knative(kind: str) -> list[Object]:
    files = (HOUSE / "knative" / "manifests").glob("*.yaml")
    return [o for f in files for o in yaml.safe_load_all(f.read_text(encoding="utf-8")) if o and o["kind"] == kind]


def test_one_kind_may_be_patched_by_one_account_and_one_deleted_by_another() -> None:
    may = set()
    for role in of_knative("Role"):
        for rule in role["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            may |= {(role["metadata"]["name"], verb, kind) for verb in rule["verbs"] for kind in rule["resources"]}
    changing = {each for each in may if each[1] not in ("get", "list", "watch")}
    assert changing == {
        ("promoter", "create", "services"), ("promoter", "patch", "services"), ("promoter", "create", "triggers"),
        ("job-watch", "delete", "jobs"),
    }  # fmt: skip
    assert not any(kind in ("secrets", "pods/exec") for _, _, kind in may)
    for binding in of_knative("RoleBinding"):
        (subject,) = binding["subjects"]
        assert (subject["kind"], subject["name"]) == ("ServiceAccount", binding["roleRef"]["name"])


def test_no_budget_keeps_a_node_from_being_drained_for_ever() -> None:
    label = "app.kubernetes.io/component"
    budgets = {o["spec"]["selector"]["matchLabels"][label]: o for o in of_knative("PodDisruptionBudget")}
    # What scales to zero, or has one pod, may always leave.
    assert set(budgets) == {"predictor", "trainer"}
    assert budgets["predictor"]["spec"]["maxUnavailable"] == 1 and "minAvailable" not in budgets["predictor"]["spec"]
    # A training stays, and ends by itself. Kubernetes takes a whole number alone of what a Job runs.
    assert isinstance(budgets["trainer"]["spec"]["minAvailable"], int)
    for name in ("random-forest", "neural-net"):
        sink = yaml.safe_load((HOUSE / "trainers" / "manifests" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert sink["spec"]["job"]["spec"]["activeDeadlineSeconds"] <= 3600
    assert all(o["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for o in budgets.values())
