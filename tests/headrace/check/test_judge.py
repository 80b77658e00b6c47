"""Manifests judged without a cluster: path, value, what is allowed, what was meant."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.check import documents, judge
from headrace.check.findings import Finding, Level

HOUSE = Path(__file__).parents[3]
GROUP = "autoscaling.knative.dev"
TEMPLATE = "spec.template.metadata.annotations"


def found(*objects: Any) -> list[Finding]:
    """What is found in these objects, written as one YAML file."""
    text = yaml.safe_dump_all(objects, sort_keys=False)
    return judge.judge(documents.parse("file.yaml", text.encode()))


def one(obj: Any, path: str) -> Finding:
    """The only finding at this path."""
    (finding,) = (finding for finding in found(obj) if finding.path == path)
    return finding


def service(keys: dict[str, Any] | None = None, own: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "flights", **({"annotations": own} if own else {})},
        "spec": {
            "template": {
                "metadata": {"annotations": keys or {}},
                "spec": {"containers": [{"image": "x"}], **spec},
            }
        },
    }


def test_our_own_manifests_are_clean() -> None:
    folders = [str(HOUSE / room / "manifests") for room in ("eventing", "functions", "knative", "trainers")]
    read = list(documents.read(folders, io.BytesIO()))
    assert len(read) > 15
    assert judge.judge(read) == []


def test_a_refused_annotation_is_told_with_path_value_line_and_what_is_allowed() -> None:
    finding = one(service({f"{GROUP}/window": "5s"}), f"{TEMPLATE}[{GROUP}/window]")
    assert finding.level is Level.fault
    assert (finding.object, finding.line, finding.seen) == ("Service flights", 9, "5s")
    assert finding.problem == "expected 6s <= 5s <= 1h0m0s"
    assert finding.allowed == "6s to 1h, in whole seconds such as 30s or 1m30s"


@pytest.mark.parametrize(
    ("key", "meant", "problem"),
    [
        (f"{GROUP}/minScale", f"{GROUP}/min-scale", "an older spelling, which Knative still takes"),
        (f"{GROUP}/min_scale", f"{GROUP}/min-scale", "passed over: Knative reads no such annotation"),
        (f"{GROUP}/max-replicas", f"{GROUP}/max-scale", "passed over: Knative reads no such annotation"),
        (
            f"{GROUP}/scale-to-zero-grace-period",
            "key scale-to-zero-grace-period of the ConfigMap config-autoscaler, for the whole cluster",
            "passed over: Knative reads no such annotation",
        ),
        (f"{GROUP}/bogus", "", "passed over: Knative reads no such annotation"),
    ],
)
def test_an_annotation_that_nobody_reads_is_a_warning_with_what_was_meant(key: str, meant: str, problem: str) -> None:
    finding = one(service({key: "1"}), f"{TEMPLATE}[{key}]")
    assert (finding.level, finding.meant, finding.problem) == (Level.warning, meant, problem)


def test_an_annotation_in_the_wrong_place_is_refused_there() -> None:
    finding = one(service(own={f"{GROUP}/min-scale": "1"}), f"metadata.annotations[{GROUP}/min-scale]")
    assert finding.level is Level.fault
    assert "spec.template.metadata.annotations" in finding.problem


def test_a_foolish_setting_is_a_warning_and_a_refused_one_silences_it() -> None:
    foolish = {f"{GROUP}/target": "200"}
    path = f"{TEMPLATE}[{GROUP}/target]"
    assert one(service(foolish, containerConcurrency=10), path).level is Level.warning
    refused = found(service({**foolish, f"{GROUP}/window": "1s"}, containerConcurrency=10))
    assert [finding.level for finding in refused] == [Level.fault]


def test_a_new_revision_without_traffic_is_noticed() -> None:
    manifest = service({f"{GROUP}/min-scale": "1"})
    manifest["spec"]["traffic"] = [{"revisionName": "flights-00001", "percent": 100}]
    assert "no traffic target" in one(manifest, f"{TEMPLATE}[{GROUP}/min-scale]").problem
    manifest["spec"]["traffic"][0] = {"latestRevision": True, "percent": 100}
    assert found(manifest) == []


def changed(**changes: Any) -> dict[str, Any]:
    return {**service(), **changes}


@pytest.mark.parametrize(
    ("obj", "path", "problem", "meant"),
    [
        (service(containerConcurency=1), "spec.template.spec.containerConcurency", "unknown field",
         "containerConcurrency"),
        (service(containers=[{"imagee": "x"}]), "spec.template.spec.containers[0].imagee", "unknown field", "image"),
        (service(containers=[]), "spec.template.spec.containers", "missing field(s)", ""),
        (service(containerConcurrency=1001), "spec.template.spec.containerConcurrency", "expected 0 <= 1001 <= 1000",
         ""),
        (service(containerConcurrency="5"), "spec.template.spec.containerConcurrency", "expected a whole number", ""),
        (service(timeoutSeconds=900), "spec.template.spec.timeoutSeconds", "expected 0 <= 900 <= 600", ""),
        (changed(kind="Sevice"), "kind", "no matches for kind", "Service"),
        (changed(apiVersion="serving.knative.dev/v2"), "apiVersion", "no matches for kind", ""),
        (changed(apiVersion="serving.knatve.dev/v1"), "apiVersion", "no matches for kind", "serving.knative.dev/v1"),
        ({"kind": "Job"}, "apiVersion", "Required value", ""),
        (changed(metadata={}), "metadata.name", "name or generateName is required", ""),
        (changed(metadata={"name": "F"}), "metadata.name", "lower case", ""),
        (changed(metadata={"name": "f", "labels": {"a": 1}}), "metadata.labels[a]", "must be of type string", ""),
        ("text", "", "no object", ""),
        ({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"},
          "spec": {"podSelektor": {}}}, "spec.podSelektor", "unknown field", "podSelector"),
        ({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "a"}},
         "roleRef", "Required value", ""),
        ({"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": "a"},
          "spec": {"subscriber": {"uri": "http://a"}, "delivery": {"backoffDelay": "2s"}}},
         "spec.delivery.backoffDelay", "ISO 8601", ""),
    ],
)  # fmt: skip
def test_what_a_strict_server_refuses_is_a_fault(obj: Any, path: str, problem: str, meant: str) -> None:
    finding = one(obj, path)
    assert finding.level is Level.fault
    assert problem in finding.problem
    assert finding.meant == meant


def test_one_malformed_field_hides_no_other_fault() -> None:
    paths = {finding.path for finding in found(service({f"{GROUP}/target": 5}, timeoutSeconds=900, what=1))}
    assert paths == {f"{TEMPLATE}[{GROUP}/target]", "spec.template.spec.timeoutSeconds", "spec.template.spec.what"}


def test_defaults_are_no_faults_of_those_who_leave_them_out() -> None:
    assert found(service(responseStartTimeoutSeconds=60)) == []  # below timeoutSeconds, which is 300 unless set


@pytest.mark.parametrize(
    "obj",
    [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}},
    ],
)
def test_a_kind_of_others_is_not_judged_and_told_so(obj: dict[str, Any]) -> None:
    finding = one(obj, "kind")
    assert finding.level is Level.warning
    assert finding.problem.startswith("not judged")


# ---------------------------------------------------------------- config-autoscaler


def config_map(namespace: str = "knative-serving", **data: str) -> dict[str, Any]:
    keys = {key.replace("_", "-"): value for key, value in data.items()}
    meta = {"name": "config-autoscaler", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": keys}


def test_every_value_of_the_autoscalers_config_map_that_cannot_work_is_told() -> None:
    paths = {f.path: f for f in found(config_map(stable_window="60", initial_scale="x", target_burst_capacity="5"))}
    assert set(paths) == {"data[stable-window]", "data[initial-scale]"}
    assert paths["data[initial-scale]"].allowed == "a whole number"
    both = found(config_map(max_scale_up_rate="1", min_scale="-1"))
    assert {finding.path for finding in both} == {"data[max-scale-up-rate]", "data[min-scale]"}


def test_a_key_or_namespace_where_nobody_reads_it_is_a_warning() -> None:
    misspelt, elsewhere = found(config_map(stable_windw="60s")), found(config_map("default"))
    assert [(f.level, f.path, f.meant) for f in misspelt] == [(Level.warning, "data[stable-windw]", "stable-window")]
    assert [(f.level, f.path, f.meant) for f in elsewhere] == [(Level.warning, "metadata.namespace", "knative-serving")]
    example = config_map()
    example["data"]["_example"] = "stable-window: 60s"
    assert found(example) == []


def test_the_config_map_beside_them_holds_for_the_other_manifests() -> None:
    manifest = service({f"{GROUP}/initial-scale": "0"})
    assert "not allowed by the cluster" in one(manifest, f"{TEMPLATE}[{GROUP}/initial-scale]").problem
    assert found(manifest, config_map(allow_zero_initial_scale="true")) == []


def test_the_features_beside_them_hold_for_their_fields() -> None:
    manifest = service(nodeSelector={"a": "b"})
    assert "kubernetes.podspec-nodeselector" in one(manifest, "spec.template.spec.nodeSelector").problem
    meta = {"name": "config-features", "namespace": "knative-serving"}
    data = {"kubernetes.podspec-nodeselector": "enabled"}
    assert found(manifest, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}) == []


# ---------------------------------------------------------------- whatever is written

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["1", "5s", "Service", "x.y/z", "P1D"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def ours() -> list[dict[str, Any]]:
    files = sorted(HOUSE.glob("*/manifests/*.yaml"))
    return [o for file in files for o in yaml.safe_load_all(file.read_text(encoding="utf-8")) if o]


OURS = [*ours(), service({f"{GROUP}/target": "5"}), config_map(stable_window="60s")]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_change_of_a_manifest_is_judged_and_nothing_raises(data: st.DataObject) -> None:
    changed = copy.deepcopy(data.draw(st.sampled_from(OURS)))
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = changed
        for _ in range(data.draw(st.integers(0, 8))):
            keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
            key = data.draw(st.sampled_from(keys)) if keys else None
            if key is None or not isinstance(at[key], dict | list):
                break
            at = at[key]
        if isinstance(at, dict):
            key = data.draw(st.sampled_from(list(at)) | st.text(max_size=8)) if at else data.draw(st.text(max_size=8))
            at[key] = data.draw(anything)
        elif isinstance(at, list):
            at.append(data.draw(anything))
    for finding in judge.judge(documents.parse("file.json", json.dumps(changed).encode())):
        assert finding.problem


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="{}[]:-,&*!|>'\"%@ \n\ta1", max_size=60))
def test_any_text_is_read_or_called_broken(text: str) -> None:
    judge.judge(documents.parse("file.yaml", text.encode("utf-8", "surrogatepass")))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_called_broken(body: bytes) -> None:
    judge.judge(documents.parse("file.yaml", body))
