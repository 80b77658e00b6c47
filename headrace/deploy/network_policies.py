"""What NetworkPolicies say of one place: where its store, its Broker and its gateway are. Pure.

Called by `.plan`. A NetworkPolicy knows addresses and labels, no names, and it is enforced behind a Service, at the
pod's own port: of a name within the cluster that leaves its namespace, of an address the address, and of any other name
the port alone, to be narrowed by HEADRACE_STORE_NETWORKS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from eventing.errors import Misconfigured
from headrace.place_store import ENDPOINTS

Object = dict[str, Any]

STORE_NETWORKS = "HEADRACE_STORE_NETWORKS"
GATEWAY_NETWORKS = "HEADRACE_GATEWAY_NETWORKS"
SINK = "K_SINK"
LOCAL = frozenset({"file", "local"})  # mounted, so that nothing is sent anywhere
# Schemes whose URL names a bucket, not a host; all of them answer by TLS unless an endpoint says otherwise.
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"})
PORTS = {"http": 80, "https": 443, "ftp": 21, "sftp": 22, "ssh": 22, "smb": 445, "hdfs": 8020, "webhdfs": 9870}
TLS = 443
# All addresses but those at which a node tells its pods things, such as the keys of its own account.
ANYWHERE: tuple[Object, ...] = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128"]}},
)


def place(policy: Object, store: str, values: Mapping[str, str]) -> None:
    """Put into `policy`, one of knative/manifests/network-policies.yaml, what the place says of itself.

    store: its fsspec URL. values: of the ConfigMap, those that are set besides. Raises Misconfigured naming the key.
    """
    name, spec = policy["metadata"]["name"], policy["spec"]
    gateways = _networks(values, GATEWAY_NETWORKS)
    if name == "store":
        spec["egress"] = to_store(store, values)
    elif name == "events" and SINK in values:
        spec["egress"] = to_sink(values)
    elif name == "services":
        spec["ingress"][0]["from"] += gateways
    elif name == "canaries":
        spec["egress"][0]["to"] += gateways


def faults(store: str, values: Mapping[str, str]) -> Iterator[Misconfigured]:
    """What of it cannot work, every key named."""
    judges: tuple[Callable[[], object], ...] = (
        lambda: to_store(store, values),
        lambda: to_sink(values),
        lambda: _networks(values, GATEWAY_NETWORKS),
    )
    for judge in judges:
        try:
            judge()
        except Misconfigured as e:
            yield e


def is_no_bucket(url: str) -> bool:
    """Whether it is the URL of a bucket, but for the bucket: s3:// of an unset variable, or s3:/name."""
    parts = urlsplit(url)
    return parts.scheme in BUCKETS and not parts.netloc


def to_store(url: str, values: Mapping[str, str]) -> list[Object]:
    """The egress rules for the store at the fsspec URL `url`; empty for one that is mounted."""
    scheme = urlsplit(url).scheme
    if scheme in LOCAL:
        return []
    networks = _networks(values, STORE_NETWORKS)
    key = next((key for key in ENDPOINTS if values.get(key)), None) if scheme in ("s3", "s3a") else None
    if scheme in BUCKETS and key is None:
        return [_rule(networks or list(ANYWHERE), TLS)]
    return to_url(key or "--store", values[key] if key else url, networks)


def to_sink(values: Mapping[str, str]) -> list[Object]:
    """The egress rules for the Broker at K_SINK, where somebody says it. Raises Misconfigured."""
    url = values.get(SINK)
    if url is None:
        return []
    rules = to_url(SINK, url)
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise Misconfigured(SINK, url, "the URL at which the Broker takes events")
    return rules


def to_url(key: str, url: str, networks: list[Object] | None = None) -> list[Object]:
    """The egress rules for what answers at `url`, the value of `key`.

    networks: where it is, if that is known better than the URL tells.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme)
    except ValueError as e:
        raise Misconfigured(key, url, f"a URL ({e})") from e
    if networks:
        return [_rule(networks, port)]
    # Without a port where it is a Service: which one the pods behind it listen at, its name does not tell.
    if namespace := namespace_of(host):
        return [_rule([_all_of(namespace)], None)]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # What pods may call by less than its whole name: a Service of their own namespace, or SERVICE.NAMESPACE, which
        # may be a name of the world's as well.
        first, *rest = host.rstrip(".").split(".")
        short = [{"podSelector": {}}] if first and not rest else [_all_of(rest[0])] if len(rest) == 1 else []
        return [*([_rule(short, None)] if short else []), _rule(list(ANYWHERE), port)]
    return [_rule([{"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}], port)]


def namespace_of(host: str) -> str | None:
    """The namespace of the Service that `host` names, SERVICE.NAMESPACE.svc and what may follow; None: no Service."""
    labels = host.rstrip(".").split(".")
    return labels[1] if len(labels) >= 3 and labels[2] == "svc" else None


def _all_of(namespace: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def _networks(values: Mapping[str, str], key: str) -> list[Object]:
    text = values.get(key, "")
    found = []
    for word in filter(None, map(str.strip, text.split(","))):
        try:
            found.append({"ipBlock": {"cidr": str(ipaddress.ip_network(word))}})
        except ValueError as e:
            raise Misconfigured(key, text, f"networks by commas, e.g. 10.1.2.0/24,10.1.3.7 ({e})") from e
    return found


def _rule(to: list[Object], port: int | None) -> Object:
    return {"to": to} if port is None else {"to": to, "ports": [{"port": port, "protocol": "TCP"}]}
