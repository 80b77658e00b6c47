"""The NetworkPolicies let through the arrows of the loop, as the code and Knative draw them, and nothing else."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.deploy import network_policies
from tests.manifests import published
from tests.manifests.reachability import End, lets_through
from tests.processes import asked, known_settings

Object = dict[str, Any]

HOUSE = Path(__file__).parents[2]
FILES = sorted(HOUSE.glob("*/manifests/*.yaml"))
PORTS = (80, 443, 8008, 8012, 8013, 8022, 8080, 8112, 9090, 9091)
SERVICE = "serving.knative.dev/service"
SERVING = "knative.dev/serving@v0.42.2"
EVENTING = "knative.dev/eventing@v0.50.0"

API = End(address="172.20.0.1")
INTERNET = End(address="93.184.215.14")
METADATA = End(address="169.254.169.254")
STRANGER = End("elsewhere", {"app.kubernetes.io/part-of": "headrace"})
GATEWAYS = (
    End("kourier-system", {"app": "3scale-kourier-gateway"}),
    End("istio-system", {"istio": "ingressgateway"}),
    End("contour-internal", {"app": "envoy"}),
    End("gateways-of-ours", {}, namespace_labels={"headrace.dev/gateway": "true"}),
)


@functools.cache
def documents() -> list[Object]:
    return [o for f in FILES for o in yaml.safe_load_all(f.read_text(encoding="utf-8")) if o]


POLICIES = tuple(o for o in documents() if o["kind"] == "NetworkPolicy")


@functools.cache
def templates() -> dict[str, Object]:
    """Every pod template of ours, by the module that it runs."""
    found = {}
    for o in documents():
        if o["kind"] in ("Service", "JobSink", "ContainerSource"):
            job = o["spec"].get("job", {}).get("spec", o["spec"])
            found[f"{o['kind']} {o['metadata']['name']}"] = job["template"]
    return found


def ours(name: str) -> End:
    labels = dict(templates()[name]["metadata"]["labels"])
    if name.startswith("Service"):
        labels[SERVICE] = name.partition(" ")[2]
    return End("headrace", labels)


@functools.cache
def of_knative(module: str, file: str) -> End:
    """A pod of Knative's own, with the labels that its manifest gives it."""
    text = (published.module(module) / file).read_text(encoding="utf-8")
    deployment = next(o for o in yaml.safe_load_all(text) if o and o["kind"] == "Deployment")
    return End(deployment["metadata"]["namespace"], deployment["spec"]["template"]["metadata"]["labels"])


@functools.cache
def variables(name: str) -> set[str]:
    """What the process in that template reads from its environment."""
    words = templates()[name]["spec"]["containers"][0]["command"][2].split(".")
    # Of the packages around it, too, but for the room: the gRPC predictor has settings of its own besides.
    around = [".".join(words[:n]) + "." for n in range(2, len(words) + 1)]
    of_it = [kind for key, kind in known_settings().items() if key.startswith(tuple(around))]
    assert of_it, words
    return set().union(*map(asked, of_it))


def reached(source: str, target: End, *ports: int, protocol: str = "TCP") -> bool:
    return any(lets_through(POLICIES, ours(source), target, port, protocol) for port in ports)


@pytest.mark.parametrize("name", templates())
def test_every_pod_of_ours_is_one_that_the_policies_know(name: str) -> None:
    labels = templates()[name]["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "headrace"
    known = {
        value
        for policy in POLICIES
        for wanted in policy["spec"]["podSelector"].get("matchExpressions", ())
        for value in wanted.get("values", ())
    }
    assert labels["app.kubernetes.io/component"] in known


@pytest.mark.parametrize("name", templates())
def test_who_reads_the_stores_url_reaches_the_store(name: str) -> None:
    assert "HEADRACE_STORE" in variables(name)
    assert reached(name, INTERNET, 443)
    assert not reached(name, METADATA, *PORTS)


@pytest.mark.parametrize("name", templates())
def test_who_reads_the_brokers_url_reaches_a_broker_of_each_class_and_nobody_else_does(name: str) -> None:
    brokers = [
        of_knative(EVENTING, "config/brokers/mt-channel-broker/deployments/broker-ingress.yaml"),
        End("knative-eventing", {"app": "kafka-broker-receiver"}),
        End("headrace", {"eventing.knative.dev/brokerRole": "ingress", "eventing.knative.dev/broker": "default"}),
    ]
    assert {reached(name, broker, 8080) for broker in brokers} == {"K_SINK" in variables(name)}
    others = of_knative(EVENTING, "config/brokers/mt-channel-broker/deployments/broker-filter.yaml")
    assert not reached(name, others, *PORTS[2:])


@pytest.mark.parametrize("name", templates())
def test_who_talks_to_kubernetes_reaches_it_and_who_watches_canaries_the_gateways(name: str) -> None:
    assert reached(name, API, 6443) == ("KUBECONFIG" in variables(name))
    watches = "HEADRACE_CANARY_S" in variables(name)
    assert {reached(name, gateway, 8080) for gateway in GATEWAYS} == {watches}


@pytest.mark.parametrize("name", templates())
def test_names_are_looked_up_by_all(name: str) -> None:
    dns = End("kube-system", {"k8s-app": "kube-dns"})
    assert reached(name, dns, 53, protocol="UDP") and reached(name, dns, 53)
    assert reached(name, End(address="169.254.20.10"), 53, protocol="UDP")
    assert not reached(name, INTERNET, 53, protocol="UDP")


@pytest.mark.parametrize("name", templates())
def test_knative_reaches_queue_proxy_of_services_and_nothing_of_anybody_else(name: str) -> None:
    activator = of_knative(SERVING, "config/core/deployments/activator.yaml")
    autoscaler = of_knative(SERVING, "config/core/deployments/autoscaler.yaml")
    served = name.startswith("Service")
    for port in PORTS:
        let_in = served and port in (8012, 8013, 8112)
        for source in (activator, *GATEWAYS):
            assert lets_through(POLICIES, source, ours(name), port) == let_in, (source, port)
        assert lets_through(POLICIES, autoscaler, ours(name), port) == (served and port == 9090), port
        assert not lets_through(POLICIES, STRANGER, ours(name), port)
        assert not lets_through(POLICIES, INTERNET, ours(name), port)


def test_no_pod_of_ours_reaches_another() -> None:
    for source, target in itertools.permutations(templates(), 2):
        assert not any(lets_through(POLICIES, ours(source), ours(target), port) for port in PORTS), (source, target)


@pytest.mark.parametrize("name", templates())
def test_nothing_but_tls_leaves_the_cluster(name: str) -> None:
    # No rule is about ports that it does not name.
    named = {p["port"] for policy in POLICIES for r in policy["spec"].get("egress", ()) for p in r["ports"]}
    opens = {port for port in {*named, *PORTS, 22, 25} if lets_through(POLICIES, ours(name), INTERNET, port)}
    assert opens == ({443, 6443} if "KUBECONFIG" in variables(name) else {443})


def test_pods_of_others_in_the_namespace_are_as_free_as_before() -> None:
    neighbour = End("headrace", {"app": "theirs"})
    assert all(lets_through(POLICIES, neighbour, INTERNET, port) for port in PORTS)
    assert all(lets_through(POLICIES, STRANGER, neighbour, port) for port in PORTS)


def test_the_rules_are_those_that_deploy_makes_where_nobody_says_anything() -> None:
    (store,) = [p for p in POLICIES if p["metadata"]["name"] == "store"]
    assert store["spec"]["egress"] == network_policies.to_store("s3://headrace", {})
