"""Who is let through to whom by NetworkPolicies, as Kubernetes says that they work.

A pod that no policy selects for a direction is free in it; one that some do is let through what any of them allows. A
connection needs both: that its source may leave for there, and that its target lets it in.
Source: kubernetes.io/docs/concepts/services-networking/network-policies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or an address outside of all pods."""

    namespace: str | None = None
    """None: no pod."""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.244.0.99"
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    """Those besides the one that each namespace has."""


def lets_through(policies: Sequence[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    leaves = _allowed(policies, "Egress", source, target, port, protocol)
    return leaves and _allowed(policies, "Ingress", target, source, port, protocol)


def _allowed(policies: Sequence[Object], direction: str, own: End, other: End, port: int, protocol: str) -> bool:
    rules, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    about = [p for p in policies if direction in p["spec"]["policyTypes"] and _selected(p, own)]
    return not about or any(
        _at_port(rule, port, protocol) and _of_peer(rule.get(peers), policy["metadata"]["namespace"], other)
        for policy in about
        for rule in policy["spec"].get(rules) or ()
    )


def _selected(policy: Object, end: End) -> bool:
    return end.namespace == policy["metadata"]["namespace"] and _fits(policy["spec"]["podSelector"], end.labels)


def _at_port(rule: Object, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(p.get("port") in (None, port) and p.get("protocol", "TCP") == protocol for p in ports)


def _of_peer(peers: Sequence[Object] | None, namespace: str, other: End) -> bool:
    return not peers or any(_is_peer(peer, namespace, other) for peer in peers)


def _is_peer(peer: Object, namespace: str, other: End) -> bool:
    if block := peer.get("ipBlock"):
        # Of a pod's address most network plugins say the same as of any other; to judge by what is let through at most.
        within = [ipaddress.ip_address(other.address) in ipaddress.ip_network(c) for c in _networks(block)]
        return within[0] and not any(within[1:])
    if other.namespace is None:
        return False
    if "namespaceSelector" in peer:
        labels = {**other.namespace_labels, "kubernetes.io/metadata.name": other.namespace}
        if not _fits(peer["namespaceSelector"], labels):
            return False
    elif other.namespace != namespace:
        return False
    return _fits(peer.get("podSelector") or {}, other.labels)


def _networks(block: Object) -> list[str]:
    return [block["cidr"], *(block.get("except") or ())]


def _fits(selector: Object, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for wanted in selector.get("matchExpressions") or ():
        there, among = wanted["key"] in labels, labels.get(wanted["key"]) in (wanted.get("values") or ())
        if not {"In": among, "NotIn": not among, "Exists": there, "DoesNotExist": not there}[wanted["operator"]]:
            return False
    return True
