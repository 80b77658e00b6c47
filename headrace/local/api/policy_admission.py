"""What the API server refuses in a well-formed NetworkPolicy or PodDisruptionBudget, in its words. All pure.

On a laptop both are kept and shown, and nothing acts on them: it is here that a policy which a cluster would refuse, or
one that means nothing, is told of. Used by `headrace.local.api.admission`.

Source: kubernetes pkg/apis/networking/validation, pkg/apis/policy/validation, pkg/apis/apps/validation (numbers and
percentages) and apimachinery pkg/apis/meta/v1/validation (selectors), of version 1.37.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.local.api.schema import Fault

Object = Mapping[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
QUALIFIED_NAME = re.compile(r"([a-z0-9.-]+/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
PORT_NAME = re.compile(r"(?=.{1,15}$)(?!.*--)(?=.*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?")
PERCENT = re.compile(r"[0-9]+%")


def network_policy_faults(spec: Object) -> Iterator[Fault]:
    yield from _selector(spec.get("podSelector"), "spec.podSelector")
    for rules, peers in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(rules) or ()):
            here = f"spec.{rules}[{number}]"
            for index, port in enumerate(rule.get("ports") or ()):
                yield from _port(port, f"{here}.ports[{index}]")
            for index, peer in enumerate(rule.get(peers) or ()):
                yield from _peer(peer, f"{here}.{peers}[{index}]")
    if len(spec.get("policyTypes") or ()) > 2:
        yield Fault("spec.policyTypes", "Invalid value: may not specify more than two policyTypes")


def disruption_budget_faults(spec: Object) -> Iterator[Fault]:
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield Fault("spec", "Invalid value: minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        value, here = spec.get(field), f"spec.{field}"
        if isinstance(value, int) and value < 0:
            yield Fault(here, f"Invalid value: {value}: must be greater than or equal to 0")
        elif isinstance(value, str) and not PERCENT.fullmatch(value):
            yield Fault(here, f'Invalid value: "{value}": a valid percent string must be a number followed by %')
        elif isinstance(value, str) and int(value[:-1]) > 100:
            yield Fault(here, f'Invalid value: "{value}": must not be greater than 100%')
    yield from _selector(spec.get("selector"), "spec.selector")


def _port(port: Object, path: str) -> Iterator[Fault]:
    number, end = port.get("port"), port.get("endPort")
    if number is None:
        if end is not None:
            yield Fault(f"{path}.endPort", f"Invalid value: {end}: may not be specified when `port` is not specified")
    elif isinstance(number, int):
        if not 1 <= number <= 65535:
            yield Fault(f"{path}.port", f"Invalid value: {number}: must be between 1 and 65535, inclusive")
        if end is not None and end < number:
            yield Fault(f"{path}.endPort", f"Invalid value: {end}: must be greater than or equal to `port`")
    else:
        if end is not None:
            yield Fault(f"{path}.endPort", f"Invalid value: {end}: may not be specified when `port` is non-numeric")
        if not PORT_NAME.fullmatch(number):
            rule = "a port's name has 1 to 15 lower case letters, digits and single '-', one letter at least"
            yield Fault(f"{path}.port", f'Invalid value: "{number}": {rule}')


def _peer(peer: Object, path: str) -> Iterator[Fault]:
    given = [name for name in ("podSelector", "namespaceSelector", "ipBlock") if name in peer]
    for name in ("podSelector", "namespaceSelector"):
        yield from _selector(peer.get(name), f"{path}.{name}")
    if "ipBlock" in peer:
        yield from _ip_block(peer["ipBlock"], f"{path}.ipBlock")
    if not given:
        yield Fault(path, "Required value: must specify a peer", "FieldValueRequired")
    elif "ipBlock" in given and len(given) > 1:
        yield Fault(path, "Forbidden: may not specify both ipBlock and another peer", "FieldValueForbidden")


def _ip_block(block: Object, path: str) -> Iterator[Fault]:
    whole = _network(block["cidr"])
    if whole is None:
        yield _no_network(f"{path}.cidr", block["cidr"])
    for index, text in enumerate(block.get("except") or ()):
        here, part = f"{path}.except[{index}]", _network(text)
        if part is None:
            yield _no_network(here, text)
        elif whole is not None and not (_within(part, whole) and part.prefixlen > whole.prefixlen):
            yield Fault(here, f'Invalid value: "{text}": must be a strict subset of `cidr`')


def _network(text: str) -> Network | None:
    try:
        # Bits behind the mask pass, as in Kubernetes; an address without a mask does not.
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _within(part: Network, whole: Network) -> bool:
    return part.version == whole.version and part.network_address in whole


def _no_network(path: str, text: str) -> Fault:
    return Fault(path, f'Invalid value: "{text}": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)')


def _selector(selector: Object | None, path: str) -> Iterator[Fault]:
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        yield from _label(key, (value,), f"{path}.matchLabels", f"{path}.matchLabels")
    for index, wanted in enumerate(selector.get("matchExpressions") or ()):
        here, values = f"{path}.matchExpressions[{index}]", wanted.get("values") or ()
        if wanted["operator"] in ("In", "NotIn") and not values:
            said = "Required value: must be specified when `operator` is 'In' or 'NotIn'"
            yield Fault(f"{here}.values", said, "FieldValueRequired")
        if wanted["operator"] in ("Exists", "DoesNotExist") and values:
            said = "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield Fault(f"{here}.values", said, "FieldValueForbidden")
        yield from _label(wanted["key"], values, f"{here}.key", f"{here}.values")


def _label(key: str, values: tuple[str, ...], key_path: str, value_path: str) -> Iterator[Fault]:
    if not QUALIFIED_NAME.fullmatch(key):
        yield Fault(key_path, f'Invalid value: "{key}": a qualified name must be [prefix/]name')
    for value in values:
        if len(value) > 63 or not LABEL_VALUE.fullmatch(value):
            rule = "letters, digits, '-', '_' or '.', the first and the last a letter or digit, 63 at most"
            yield Fault(value_path, f'Invalid value: "{value}": a valid label must be empty or consist of {rule}')
