"""NetworkPolicies and PodDisruptionBudgets: a laptop keeps what a cluster keeps, and refuses what one refuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.local.api import admission, schema
from headrace.local.objects import defaults

Object = dict[str, Any]

MANIFESTS = Path(__file__).parents[4] / "knative" / "manifests"
PEER = {"podSelector": {"matchLabels": {"app": "a"}}}


def policy(**spec: Any) -> Object:
    meta = {"name": "p", "namespace": "headrace", "uid": "u"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def budget(**spec: Any) -> Object:
    meta = {"name": "b", "namespace": "headrace", "uid": "u"}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec}


def egress(**rule: Any) -> Object:
    return policy(egress=[{"to": [PEER], **rule}])


def faults(obj: Object) -> list[tuple[str, str]]:
    assert schema.check(obj) == []
    return [(f.path, f.message) for f in admission.kubernetes_faults(obj, None)]


@pytest.mark.parametrize(
    ("obj", "path", "said"),
    [
        (egress(ports=[{"port": 0}]), "spec.egress[0].ports[0].port", "must be between 1 and 65535"),
        (egress(ports=[{"port": 65536}]), "spec.egress[0].ports[0].port", "must be between 1 and 65535"),
        (egress(ports=[{"port": "HTTP"}]), "spec.egress[0].ports[0].port", "a port's name"),
        (egress(ports=[{"port": "1234"}]), "spec.egress[0].ports[0].port", "a port's name"),
        (egress(ports=[{"endPort": 5}]), "spec.egress[0].ports[0].endPort", "when `port` is not specified"),
        (egress(ports=[{"port": "web", "endPort": 5}]), "spec.egress[0].ports[0].endPort", "`port` is non-numeric"),
        (egress(ports=[{"port": 6, "endPort": 5}]), "spec.egress[0].ports[0].endPort", "greater than or equal to"),
        (policy(egress=[{"to": [{}]}]), "spec.egress[0].to[0]", "must specify a peer"),
        (policy(ingress=[{"from": [{**PEER, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]), "spec.ingress[0].from[0]",
         "may not specify both ipBlock and another peer"),
        (policy(egress=[{"to": [{"ipBlock": {"cidr": "10.1.2.3"}}]}]), "spec.egress[0].to[0].ipBlock.cidr",
         "must be a valid CIDR value"),
        (policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]}]),
         "spec.egress[0].to[0].ipBlock.except[0]", "must be a strict subset of `cidr`"),
        (policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]),
         "spec.egress[0].to[0].ipBlock.except[0]", "must be a strict subset of `cidr`"),
        (policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fe80::/10"]}}]}]),
         "spec.egress[0].to[0].ipBlock.except[0]", "must be a strict subset of `cidr`"),
        (policy(podSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
         "spec.podSelector.matchExpressions[0].values", "must be specified when `operator` is 'In'"),
        (policy(podSelector={"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
         "spec.podSelector.matchExpressions[0].values", "may not be specified"),
        (policy(podSelector={"matchLabels": {"a/b/c": "d"}}), "spec.podSelector.matchLabels", "qualified name"),
        (policy(podSelector={"matchLabels": {"a": "-"}}), "spec.podSelector.matchLabels", "a valid label"),
        (policy(policyTypes=["Ingress", "Egress", "Ingress"]), "spec.policyTypes", "more than two policyTypes"),
        (budget(minAvailable=1, maxUnavailable=1), "spec", "cannot be both set"),
        (budget(maxUnavailable=-1), "spec.maxUnavailable", "greater than or equal to 0"),
        (budget(minAvailable="half"), "spec.minAvailable", "a valid percent string"),
        (budget(minAvailable="101%"), "spec.minAvailable", "must not be greater than 100%"),
        (budget(selector={"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}),
         "spec.selector.matchExpressions[0].values", "must be specified"),
    ],
)  # fmt: skip
def test_what_a_cluster_refuses_is_refused_with_its_path(obj: Object, path: str, said: str) -> None:
    ((seen, message),) = faults(obj)
    assert seen == path
    assert said in message


@pytest.mark.parametrize(
    "obj",
    [
        policy(),
        policy(podSelector={}, policyTypes=["Ingress"], ingress=[{}]),
        egress(ports=[{"port": 1, "endPort": 65535, "protocol": "SCTP"}, {"port": "http-metrics"}, {}]),
        policy(egress=[{"to": [{"namespaceSelector": {}, "podSelector": {}}]}]),
        policy(egress=[{"to": [{"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}}]}]),
        policy(podSelector={"matchExpressions": [{"key": "x.io/a", "operator": "NotIn", "values": ["", "b"]}]}),
        budget(),
        budget(minAvailable="100%", selector={}),
        budget(maxUnavailable=0, unhealthyPodEvictionPolicy="IfHealthyBudget"),
    ],
)
def test_what_a_cluster_takes_is_taken(obj: Object) -> None:
    assert faults(obj) == []


@pytest.mark.parametrize(
    ("spec", "types"),
    [({}, ["Ingress"]), ({"egress": []}, ["Ingress"]), ({"egress": [{}]}, ["Ingress", "Egress"])],
)
def test_a_policy_that_does_not_say_its_directions_means_what_it_means_in_a_cluster(
    spec: Object, types: list[str]
) -> None:
    obj = policy(**copy.deepcopy(spec))
    defaults.apply(obj)
    assert obj["spec"]["policyTypes"] == types
    assert obj["spec"]["podSelector"] == {}


def test_every_fault_is_told_at_once() -> None:
    ports = [{"port": 0}, {"endPort": 5}]
    assert [path for path, _ in faults(policy(egress=[{"to": [{}], "ports": ports}]))] == [
        "spec.egress[0].ports[0].port", "spec.egress[0].ports[1].endPort", "spec.egress[0].to[0]",
    ]  # fmt: skip


@pytest.mark.parametrize("file", ["network-policies.yaml", "disruption-budgets.yaml"])
def test_our_own_are_taken(file: str) -> None:
    for obj in yaml.safe_load_all((MANIFESTS / file).read_text(encoding="utf-8")):
        assert faults(obj) == []
