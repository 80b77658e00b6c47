"""What may not stand in a Revision's pod: each verdict is one that Knative's own webhook gave."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.local.api import revision_admission

CACHE: dict[str, Any] = {"name": "cache", "emptyDir": {}}
MOUNT: dict[str, Any] = {"name": "cache", "mountPath": "/tmp"}


def faults(container: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    containers = spec.pop("containers", [{"image": "example.com/team/model:1.0", **(container or {})}])
    return list(revision_admission.faults({"containers": containers, "timeoutSeconds": 300, **spec}, "spec"))


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"image": ""}, "missing field(s): spec.containers[0].image"),
        ({"image": "Model"}, "Failed to parse image reference"),
        ({"image": "/tmp"}, None),
        ({"image": "example.com:5000/a"}, None),
        ({"image": "a/b@sha256:12"}, "Failed to parse image reference"),
        ({"image": f"a/b:1@sha256:{'0' * 64}"}, None),
        ({"name": "queue-proxy"}, "reserved container name"),
        ({"envFrom": [{}]}, "expected exactly one, got neither: spec.containers[0].envFrom[0].configMapRef"),
        ({"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "a"}}]}, "expected exactly one, got both"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}, "kubernetes.podspec-fieldref"),
        ({"env": [{"name": "PORT", "value": "1"}]}, "reserved environment variable: spec.containers[0].env[0].name"),
        ({"ports": [{"containerPort": 8012}]}, "8012 is a reserved port: spec.containers[0].ports[0].containerPort"),
        ({"ports": [{"containerPort": 8080, "protocol": "UDP"}]}, "expected TCP"),
        ({"ports": [{"containerPort": 8080, "name": "h2c"}]}, None),
        ({"resources": {"claims": []}}, "must not set the field(s): spec.containers[0].resources.claims"),
        ({"securityContext": {"capabilities": {"drop": ["ALL"]}, "privileged": False}}, None),
        ({"securityContext": {"capabilities": {"add": ["X"]}}}, "kubernetes.containerspec-addcapabilities"),
        ({"securityContext": {"privileged": True}}, "but to false: spec.containers[0].securityContext.privileged"),
        ({"securityContext": {"seLinuxOptions": {}}}, "securityContext.seLinuxOptions"),
        ({"securityContext": {"runAsUser": -1}}, "expected 0 <= -1 <= 2147483647"),
        ({"terminationMessagePolicy": "Never"}, "invalid value: Never"),
        ({"readinessProbe": {}}, None),  # the default: is the port open?
        ({"livenessProbe": {}}, "expected exactly one, got neither"),
        ({"readinessProbe": {"httpGet": {}, "exec": {}}}, "expected exactly one, got both"),
        ({"readinessProbe": {"httpGet": {"port": "web"}}}, "a probe's port must match the container's (http)"),
        ({"readinessProbe": {"httpGet": {"port": 9000}}}, None),
        ({"readinessProbe": {"timeoutSeconds": 1}}, "timeoutSeconds is disallowed when periodSeconds is zero"),
        ({"readinessProbe": {"timeoutSeconds": 1, "periodSeconds": 5}}, None),
        ({"livenessProbe": {"exec": {}, "timeoutSeconds": 1}}, None),
        ({"volumeMounts": [MOUNT]}, "volumeMount has no matching volume: spec.containers[0].volumeMounts[0].name"),
    ],
)
def test_a_container_is_judged(container: dict[str, Any], said: str | None) -> None:
    found = faults(container)
    if said is None:
        assert found == []
    else:
        assert any(said in fault for fault in found), found


@pytest.mark.parametrize(
    ("mount", "volume", "said"),
    [
        (MOUNT, CACHE, None),
        (MOUNT | {"mountPath": "/dev/"}, CACHE, '"/dev" is a reserved path'),
        (MOUNT | {"mountPath": "tmp"}, CACHE, "invalid value: tmp"),
        (MOUNT | {"mountPath": ""}, CACHE, "missing field(s): spec.containers[0].volumeMounts[0].mountPath"),
        (MOUNT | {"mountPropagation": "None"}, CACHE, "kubernetes.podspec-volumes-mount-propagation"),
        (MOUNT, {"name": "cache", "secret": {}}, None),  # read-only by default
        (MOUNT, {"name": "cache", "configMap": {"name": "a"}}, None),
        (MOUNT | {"readOnly": True}, {"name": "cache", "secret": {}}, None),
        (MOUNT, {"name": "cache"}, "expected exactly one, got neither"),
        (MOUNT, CACHE | {"secret": {}}, "expected exactly one, got both"),
        (MOUNT, {"name": "cache", "emptyDir": {"medium": "Disk"}}, "invalid value: Disk"),
        (MOUNT, {"name": "cache", "emptyDir": {"sizeLimit": "-1"}}, "invalid value: -1"),
        (MOUNT, {"name": "cache", "persistentVolumeClaim": {"claimName": "a"}}, "podspec-persistent-volume-claim"),
        (MOUNT, {"name": "cache", "hostPath": {"path": "/"}}, "kubernetes.podspec-volumes-hostpath"),
        (MOUNT | {"readOnly": True}, {"name": "cache", "projected": {"sources": [{}]}}, "projected.sources[0].secret"),
    ],
)
def test_a_volume_and_its_mount_are_judged(mount: dict[str, Any], volume: dict[str, Any], said: str | None) -> None:
    found = faults({"volumeMounts": [mount]}, volumes=[volume])
    if said is None:
        assert found == []
    else:
        assert any(said in fault for fault in found), found


def test_volumes_are_mounted_and_named_once() -> None:
    assert faults(volumes=[CACHE]) == ['volume with name "cache" not mounted: spec.volumes[0].name']
    assert faults({"volumeMounts": [MOUNT]}, volumes=[CACHE, CACHE]) == ['duplicate volume name "cache": spec.volumes']
    twice = faults({"volumeMounts": [MOUNT, MOUNT | {"mountPath": "/tmp/"}]}, volumes=[CACHE])
    assert twice == ['invalid value: "/tmp/" must be unique: spec.containers[0].volumeMounts[1].mountPath']


@pytest.mark.parametrize(
    ("field", "value", "refused"),
    [
        ("nodeSelector", {"a": "b"}, True), ("affinity", {}, True), ("tolerations", [], True),
        ("dnsPolicy", "", False), ("dnsPolicy", "None", True), ("initContainers", [], True),
        ("automountServiceAccountToken", True, True), ("automountServiceAccountToken", False, False),
        ("securityContext", {"runAsNonRoot": True}, True), ("serviceAccountName", "Promoter", True),
        ("serviceAccountName", "promoter", False), ("enableServiceLinks", True, False),
        ("imagePullSecrets", [{"name": "a"}], False),
    ],
)  # fmt: skip
def test_what_a_pod_may_not_set(field: str, value: Any, refused: bool) -> None:
    found = faults(**{field: value})
    assert len(found) == refused
    assert all(fault.endswith(f"spec.{field}") for fault in found)


def test_of_several_containers_one_serves_and_the_others_are_not_asked() -> None:
    serving: dict[str, Any] = {"name": "a", "image": "a/b", "ports": [{"containerPort": 8080}]}
    beside: dict[str, Any] = {"name": "b", "image": "a/b", "env": [{"name": "PORT", "value": "1"}]}
    assert faults(containers=[serving, beside]) == []
    probed = faults(containers=[serving, beside | {"livenessProbe": {"exec": {}}}])
    assert len(probed) == 1 and "multi-container-probing" in probed[0]
    assert 'duplicate container name "a"' in faults(containers=[serving, beside | {"name": "a"}])[0]
    assert "one container of several must have the port, 0 do" in faults(containers=[beside, beside | {"name": "c"}])[0]
