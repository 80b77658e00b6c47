"""What Knative's webhook refuses in a Revision's pod: fields that it takes from nobody, and what must fit together.

The object is well formed already (`headrace.local.api.schema`). Fields behind a feature of ConfigMap `config-features`
that is off are refused, as a cluster does. All pure; used by
`headrace.local.api.admission`.

Source: knative/serving pkg/apis/serving/k8s_validation.go, fieldmask.go and pkg/apis/config/features.go.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

MAX_TIMEOUT_S = 600  # config-defaults: max-revision-timeout-seconds
RESERVED_ENV = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
RESERVED_PORTS = frozenset({8008, 8012, 8013, 8022, 9090, 9091})  # queue-proxy's own
RESERVED_PATHS = frozenset({"/", "/dev", "/dev/log"})
DNS_1123_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_1123_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# A registry has a dot or a port in it; without one, all is the repository. Of this Knative wants two letters or more;
# one is let through here, for on a laptop an image is but a name.
IMAGE = re.compile(
    r"([^/@\s]*[.:][^/@\s]*/)?[a-z0-9_./-]{1,255}(:[A-Za-z0-9_.-]{0,128})?(@sha256:[0-9a-f]{64})?", re.ASCII
)

# The feature that a field is behind; "" for one that is never taken.
_OF_PODS = {
    "affinity": "kubernetes.podspec-affinity",
    "topologySpreadConstraints": "kubernetes.podspec-topologyspreadconstraints",
    "hostAliases": "kubernetes.podspec-hostaliases", "nodeSelector": "kubernetes.podspec-nodeselector",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname", "tolerations": "kubernetes.podspec-tolerations",
    "securityContext": "kubernetes.podspec-securitycontext",
    "shareProcessNamespace": "kubernetes.podspec-shareprocessnamespace",
    "priorityClassName": "kubernetes.podspec-priorityclassname", "schedulerName": "kubernetes.podspec-schedulername",
    "initContainers": "kubernetes.podspec-init-containers", "dnsPolicy": "kubernetes.podspec-dnspolicy",
    "dnsConfig": "kubernetes.podspec-dnsconfig",
}  # fmt: skip
_OF_VOLUMES = {
    "persistentVolumeClaim": "kubernetes.podspec-persistent-volume-claim",
    "hostPath": "kubernetes.podspec-volumes-hostpath", "csi": "kubernetes.podspec-volumes-csi",
    "ephemeral": "kubernetes.podspec-volumes-ephemeral", "downwardAPI": "",
}  # fmt: skip
_OF_MOUNTS = {
    "mountPropagation": "kubernetes.podspec-volumes-mount-propagation",
    "subPathExpr": "",
    "recursiveReadOnly": "",
}
_OF_SECURITY = {"procMount": "", "seLinuxOptions": "", "windowsOptions": "", "appArmorProfile": ""}
_OF_CAPABILITIES = {"add": "kubernetes.containerspec-addcapabilities"}
_OF_ENV = {"fieldRef": "kubernetes.podspec-fieldref", "resourceFieldRef": "kubernetes.podspec-fieldref"}
_BEHIND = re.compile(r"while feature (\S+) of ConfigMap config-features is off")
_TEXTS = frozenset({"priorityClassName", "schedulerName", "dnsPolicy", "subPathExpr"})  # empty, these are not set
_VOLUME_KINDS = ("secret", "configMap", "projected", "emptyDir", *_OF_VOLUMES)
_PROJECTIONS = ("secret", "configMap", "serviceAccountToken", "downwardAPI")
_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def faults(spec: Object, path: str, features: Collection[str] = ()) -> Iterator[str]:
    """Every fault of a RevisionSpec at `path`, as sentences that end with the field's path.

    features: those that are on, of the ones that are off by default.
    """
    for fault in _faults(spec, path):
        behind = _BEHIND.search(fault)
        if behind is None or behind[1] not in features:
            yield fault


def _faults(spec: Object, path: str) -> Iterator[str]:
    containers: Sequence[Object] = spec.get("containers") or []
    if not containers:
        yield f"missing field(s): {path}.containers"
    yield from _off(spec, path, _OF_PODS)
    if spec.get("automountServiceAccountToken"):
        yield f"must not set the field(s), but to false: {path}.automountServiceAccountToken"
    account = spec.get("serviceAccountName")
    if account and not DNS_1123_SUBDOMAIN.fullmatch(account):
        yield f"invalid value: {account}: {path}.serviceAccountName"
    volumes = {volume["name"]: volume for volume in spec.get("volumes") or ()}
    mounted = {m["name"] for c in containers for m in c.get("volumeMounts") or ()}
    yield from _volumes(spec.get("volumes") or (), mounted, f"{path}.volumes")
    yield from _ports_together(containers, path)
    for index, container in enumerate(containers):
        serving = len(containers) == 1 or bool(container.get("ports"))
        yield from _container(container, f"{path}.containers[{index}]", volumes, serving)
    for name, times in Counter(c.get("name") for c in containers if c.get("name")).items():
        if times > 1:
            yield f'duplicate container name "{name}": {path}.containers'
    yield from _timeouts(spec, path)


def _off(value: Object, path: str, fields: Mapping[str, str]) -> Iterator[str]:
    """The fields among these that are set."""
    for field, feature in fields.items():
        if field in value and not (value[field] == "" and field in _TEXTS):
            why = (
                f" while feature {feature} of ConfigMap config-features is off, as it is by default" if feature else ""
            )
            yield f"must not set the field(s){why}: {path}.{field}"


def _one_of(value: Object, path: str, fields: Sequence[str]) -> Iterator[str]:
    present = [field for field in fields if field in value]
    if len(present) > 1:
        yield f"expected exactly one, got both: {', '.join(f'{path}.{field}' for field in present)}"
    elif not present:
        yield f"expected exactly one, got neither: {', '.join(f'{path}.{field}' for field in fields)}"


def _timeouts(spec: Object, path: str) -> Iterator[str]:
    timeout = spec.get("timeoutSeconds", 0)
    if timeout > MAX_TIMEOUT_S:
        yield f"expected 0 <= {timeout} <= {MAX_TIMEOUT_S}: {path}.timeoutSeconds"


def _ports_together(containers: Sequence[Object], path: str) -> Iterator[str]:
    with_ports = [container for container in containers if container.get("ports")]
    if len(containers) > 1 and len(with_ports) != 1:
        yield f"one container of several must have the port, {len(with_ports)} do: {path}.containers[*].ports"


# ---------------------------------------------------------------- one container


def _container(container: Object, path: str, volumes: Mapping[str, Object], serving: bool) -> Iterator[str]:
    if container.get("name") == "queue-proxy":
        yield f'"queue-proxy" is a reserved container name: {path}.name'
    image = container.get("image")
    if not image:
        yield f"missing field(s): {path}.image"
    elif not IMAGE.fullmatch(image):
        yield f'Failed to parse image reference "{image}": {path}.image'
    yield from _ports(container.get("ports") or (), f"{path}.ports")
    yield from _environment(container, path, serving)
    yield from _off(container.get("resources") or {}, f"{path}.resources", {"claims": ""})
    security = container.get("securityContext") or {}
    yield from _security(security, f"{path}.securityContext")
    if container.get("terminationMessagePolicy", "") not in ("", "File", "FallbackToLogsOnError"):
        yield f"invalid value: {container['terminationMessagePolicy']}: {path}.terminationMessagePolicy"
    yield from _mounts(container.get("volumeMounts") or (), volumes, f"{path}.volumeMounts")
    ports: Sequence[Object] = container.get("ports") or ()
    port = (ports[0].get("name") if ports else "") or "http"
    for name in _PROBES:
        if name in container and not serving:
            why = "while feature multi-container-probing of ConfigMap config-features is off, as it is by default"
            yield f"must not set the field(s) {why}: {path}.{name}"
        elif name in container:
            yield from _probe(container[name], name == "readinessProbe", port, f"{path}.{name}")


def _ports(ports: Sequence[Object], path: str) -> Iterator[str]:
    if len(ports) > 1:
        yield f"more than one container port is set, only one is allowed: {path}"
    for index, port in enumerate(ports):
        here, name, number = f"{path}[{index}]", port.get("name", ""), port.get("containerPort")
        if name not in ("", "http1", "h2c"):
            yield f"invalid value: Port name {name} is not allowed, expected h2c or http1: {here}.name"
        if number in RESERVED_PORTS:
            yield f"invalid value: {number} is a reserved port: {here}.containerPort"
        if port.get("protocol", "") not in ("", "TCP"):
            yield f"invalid value: {port['protocol']}, expected TCP: {here}.protocol"


def _environment(container: Object, path: str, serving: bool) -> Iterator[str]:
    reserved = RESERVED_ENV if serving else RESERVED_ENV - {"PORT"}
    for index, variable in enumerate(container.get("env") or ()):
        here = f"{path}.env[{index}]"
        if not variable["name"]:
            yield f"missing field(s): {here}.name"
        elif variable["name"] in reserved:
            yield f'invalid value: "{variable["name"]}" is a reserved environment variable: {here}.name'
        yield from _off(variable.get("valueFrom") or {}, f"{here}.valueFrom", _OF_ENV)
    for index, source in enumerate(container.get("envFrom") or ()):
        yield from _one_of(source, f"{path}.envFrom[{index}]", ("configMapRef", "secretRef"))


def _security(security: Object, path: str) -> Iterator[str]:
    yield from _off(security, path, _OF_SECURITY)
    yield from _off(security.get("capabilities") or {}, f"{path}.capabilities", _OF_CAPABILITIES)
    if security.get("privileged"):
        yield f"must not set the field(s), but to false: {path}.privileged"
    for field in ("runAsUser", "runAsGroup"):
        if not 0 <= security.get(field, 0) < 2**31:
            yield f"expected 0 <= {security[field]} <= {2**31 - 1}: {path}.{field}"


def _probe(probe: Object, readiness: bool, port: str, path: str) -> Iterator[str]:
    # A readiness probe that says nothing of how is the default: is the port open?
    if any(handler in probe for handler in _HANDLERS) or not readiness:
        yield from _one_of(probe, path, _HANDLERS)
    for handler in ("httpGet", "tcpSocket"):
        named = (probe.get(handler) or {}).get("port")
        if isinstance(named, str) and named not in ("", port):
            yield f"invalid value: {named}, a probe's port must match the container's ({port}): {path}.{handler}.port"
    if readiness and not probe.get("periodSeconds"):
        for field in ("failureThreshold", "timeoutSeconds"):
            if probe.get(field):
                yield f"{field} is disallowed when periodSeconds is zero: {path}.{field}"


# ---------------------------------------------------------------- volumes


def _mounts(mounts: Sequence[Object], volumes: Mapping[str, Object], path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        here, name, at = f"{path}[{index}]", mount["name"], mount.get("mountPath", "")
        volume = volumes.get(name)
        yield from _off(mount, here, _OF_MOUNTS)
        if volume is None:
            yield f"volumeMount has no matching volume: {here}.name"
        clean = posixpath.normpath(at) if at else ""
        if not at:
            yield f"missing field(s): {here}.mountPath"
        elif clean in RESERVED_PATHS:
            yield f'mountPath "{clean}" is a reserved path: {here}.mountPath'
        elif not at.startswith("/"):
            yield f"invalid value: {at}: {here}.mountPath"
        elif clean in seen:
            yield f'invalid value: "{at}" must be unique: {here}.mountPath'
        seen.add(clean)


def _volumes(volumes: Sequence[Object], mounted: set[str], path: str) -> Iterator[str]:
    for index, volume in enumerate(volumes):
        here, name = f"{path}[{index}]", volume["name"]
        if not DNS_1123_LABEL.fullmatch(name) or len(name) > 63:
            yield f"invalid value: {name}: {here}.name"
        if name not in mounted:
            yield f'volume with name "{name}" not mounted: {here}.name'
        yield from _off(volume, here, _OF_VOLUMES)
        yield from _one_of(volume, here, _VOLUME_KINDS)
        empty_dir = volume.get("emptyDir") or {}
        medium = empty_dir.get("medium", "")
        if medium not in ("", "Memory"):
            yield f"invalid value: {medium}: {here}.emptyDir.medium"
        if str(empty_dir.get("sizeLimit", "")).startswith("-"):
            yield f"invalid value: {empty_dir['sizeLimit']}: {here}.emptyDir.sizeLimit"
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if isinstance(source, dict):
                yield from _one_of(source, f"{here}.projected.sources[{number}]", _PROJECTIONS)
    for name, times in Counter(volume["name"] for volume in volumes).items():
        if times > 1:
            yield f'duplicate volume name "{name}": {path}'
