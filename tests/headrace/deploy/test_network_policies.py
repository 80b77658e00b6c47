"""What NetworkPolicies say of one place: what a URL tells of it, and no more than that."""

from __future__ import annotations

from typing import Any

import pytest

from eventing.errors import HeadraceError, Misconfigured
from headrace import manifests
from headrace.deploy import network_policies, plan

Rule = dict[str, Any]
STORE_NETWORKS = network_policies.STORE_NETWORKS
NETWORKS = (STORE_NETWORKS, network_policies.GATEWAY_NETWORKS)


def of_namespace(name: str) -> list[Rule]:
    return [{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]}]


def to(*cidrs: str, port: int) -> list[Rule]:
    return [{"to": [{"ipBlock": {"cidr": c}} for c in cidrs], "ports": [{"port": port, "protocol": "TCP"}]}]


def anywhere(port: int | None) -> list[Rule]:
    rule: Rule = {"to": list(network_policies.ANYWHERE)}
    return [rule if port is None else rule | {"ports": [{"port": port, "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("url", "values", "rules"),
    [
        ("s3://models", {}, anywhere(443)),
        ("gs://models", {}, anywhere(443)),
        ("abfs://models@account.dfs.core.windows.net/m", {}, anywhere(443)),
        ("file:///var/headrace/store", {}, []),
        # An endpoint in the cluster, by each form of its name, and whatever port its Service has.
        ("s3://m", {"AWS_ENDPOINT_URL": "http://minio.minio.svc.cluster.local:9000"}, of_namespace("minio")),
        ("s3://m", {"AWS_ENDPOINT_URL": "https://minio.stores.svc"}, of_namespace("stores")),
        ("s3://m", {"AWS_ENDPOINT_URL": "http://minio.stores.svc.example.test.:80"}, of_namespace("stores")),
        # One at an address, and one whose name tells nothing but the port.
        ("s3://m", {"AWS_ENDPOINT_URL": "http://10.1.2.3:9000"}, to("10.1.2.3/32", port=9000)),
        ("s3://m", {"AWS_ENDPOINT_URL": "http://[fd00::7]:9000"}, to("fd00::7/128", port=9000)),
        ("s3://m", {"AWS_ENDPOINT_URL": "https://s3.example.com"}, anywhere(443)),
        ("s3://m", {"AWS_ENDPOINT_URL": "http://svc.example.com:9000"}, anywhere(9000)),
        ("s3://m", {"AWS_ENDPOINT_URL_S3": "http://10.0.0.1", "AWS_ENDPOINT_URL": "http://10.0.0.2"},
         to("10.0.0.1/32", port=80)),
        # A Service by a short name, whose pods may listen at any port, and which another network plugin than most finds
        # by labels alone; the same name may be one of the world's.
        ("s3://m", {"AWS_ENDPOINT_URL": "http://minio:9000"}, [{"to": [{"podSelector": {}}]}, *anywhere(9000)]),
        ("s3://m", {"AWS_ENDPOINT_URL": "http://minio.stores"}, [*of_namespace("stores"), *anywhere(80)]),
        # An endpoint of Amazon's programs is nothing to another store.
        ("gs://m", {"AWS_ENDPOINT_URL": "http://10.1.2.3:9000"}, anywhere(443)),
        # What ops know of the networks goes before what the URL tells; the port is the URL's.
        ("s3://m", {STORE_NETWORKS: "10.1.2.0/24, 10.1.3.7"}, to("10.1.2.0/24", "10.1.3.7/32", port=443)),
        ("s3://m", {STORE_NETWORKS: "10.1.2.0/24", "AWS_ENDPOINT_URL": "http://s3.example.com:9000"},
         to("10.1.2.0/24", port=9000)),
        ("sftp://me@files.example.com/models", {}, anywhere(22)),
        ("sftp://10.1.2.3:2222/models", {}, to("10.1.2.3/32", port=2222)),
        ("unheard-of://files.example.com/models", {}, anywhere(None)),
    ],
)  # fmt: skip
def test_the_store_is_reached_where_it_is_and_nowhere_else(url: str, values: dict[str, str], rules: list[Rule]) -> None:
    assert network_policies.to_store(url, values) == rules
    planned = {o["metadata"]["name"]: o for o in plan.objects(manifests.read(), plan.Wishes(store=url, values=values))}
    assert planned["store"]["spec"]["egress"] == rules


def test_what_a_node_tells_its_pods_is_never_reached() -> None:
    blocks = [peer["ipBlock"] for peer in network_policies.ANYWHERE]
    assert any("169.254.0.0/16" in block["except"] for block in blocks)
    assert any("fd00:ec2::254/128" in block["except"] for block in blocks)


@pytest.mark.parametrize("key", NETWORKS)
@pytest.mark.parametrize("networks", ["10.1.2.0/33", "stores", "10.1.2.3/24", "10.1.2.0/24;10.1.3.0/24"])
def test_networks_that_are_none_are_refused_by_name(key: str, networks: str) -> None:
    with pytest.raises(Misconfigured, match=key):
        plan.Wishes(values={key: networks})


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(HeadraceError) as refused:
        plan.Wishes(values={"K_SINK": "http://a:x", **dict.fromkeys(NETWORKS, "none")})
    assert all(key in str(refused.value) for key in ("K_SINK", *NETWORKS))


def test_a_gateway_on_the_nodes_own_network_is_let_in_and_may_be_asked() -> None:
    wishes = plan.Wishes(values={network_policies.GATEWAY_NETWORKS: "10.200.0.0/24"})
    before = {o["metadata"]["name"]: o["spec"] for o in manifests.read() if o["kind"] == "NetworkPolicy"}
    planned = plan.objects(manifests.read(), wishes)
    after = {o["metadata"]["name"]: o["spec"] for o in planned if o["kind"] == "NetworkPolicy"}
    assert {name for name in before if before[name] != after[name]} == {"services", "canaries"}
    node = {"ipBlock": {"cidr": "10.200.0.0/24"}}
    assert after["services"]["ingress"][0]["from"] == [*before["services"]["ingress"][0]["from"], node]
    assert after["canaries"]["egress"][0]["to"] == [*before["canaries"]["egress"][0]["to"], node]


@pytest.mark.parametrize("key", ["AWS_ENDPOINT_URL", "K_SINK"])
@pytest.mark.parametrize("url", ["http://minio:90000", "http://[fd00::7"])
def test_an_address_that_is_none_is_refused_by_name(key: str, url: str) -> None:
    with pytest.raises(Misconfigured, match=key):
        plan.Wishes(store="s3://models", values={key: url})


def test_events_go_to_the_broker_of_a_known_class_or_to_where_k_sink_says() -> None:
    (as_it_is,) = [o for o in manifests.read() if o["metadata"]["name"] == "events"]
    for broker_class in (None, *plan.BROKER_CLASSES):
        planned = plan.objects(manifests.read(), plan.Wishes(broker_class=broker_class))
        assert as_it_is in planned
    wishes = plan.Wishes(values={"K_SINK": "http://ingress.nats.svc/headrace/default"})
    (elsewhere,) = [o for o in plan.objects(manifests.read(), wishes) if o["metadata"]["name"] == "events"]
    assert elsewhere["spec"]["egress"] == of_namespace("nats")
