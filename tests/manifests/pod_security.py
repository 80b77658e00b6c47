"""Kubernetes' Pod Security Standards, level `restricted`: which of its controls a pod breaks.

An API server judges pods; the templates of Knative's kinds, of which ours are made, it passes unseen: hence this.
Source: kubernetes.io/docs/concepts/security/pod-security-standards, version 1.37, and what the API server asks,
k8s.io/pod-security-admission/policy, whose words the controls have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]

CAPABILITIES = frozenset({"NET_BIND_SERVICE"})  # of these alone may be added
VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
SECCOMP = frozenset({"RuntimeDefault", "Localhost"})
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
        "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat",
    }
)  # fmt: skip
SELINUX_TYPES = frozenset({None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})


def faults(spec: Object) -> list[str]:
    """Every control that a pod of this spec breaks, with the container; empty where a cluster would take it."""
    found = [*_of_pod(spec)]
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        found += [f"{container['name']}: {fault}" for fault in _of_container(container, spec)]
    return found


def _of_pod(spec: Object) -> Iterator[str]:
    yield from (f"host namespaces ({name})" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes") or ():
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"restricted volume types ({', '.join(kinds)})"
    context = spec.get("securityContext") or {}
    for sysctl in context.get("sysctls") or ():
        if sysctl["name"] not in SYSCTLS:
            yield f"forbidden sysctls ({sysctl['name']})"
    yield from _of_both(context)


def _of_container(container: Object, spec: Object) -> Iterator[str]:
    own, pod = container.get("securityContext") or {}, spec.get("securityContext") or {}
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation != false"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()) or not set(capabilities.get("add") or ()) <= CAPABILITIES:
        yield "unrestricted capabilities"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    # What the container does not say the pod says for it.
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot != true"
    if (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in SECCOMP:
        yield "seccompProfile"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield "hostPort"
    yield from _of_both(own)
    lifecycle = container.get("lifecycle") or {}
    asked = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
    for handler in (*asked, lifecycle.get("postStart"), lifecycle.get("preStop")):
        if any((handler or {}).get(way, {}).get("host") for way in ("httpGet", "tcpSocket")):
            yield "probe or lifecycle host"


def _of_both(context: Object) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield "runAsUser=0"
    if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
        yield "seccompProfile"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield "forbidden AppArmor profile"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"
