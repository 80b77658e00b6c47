"""In a cluster what is an arrow of the loop works and what is none is refused; rights end where they should; and no pod
is made that asks for more than Kubernetes' level `restricted` allows.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.e2e import probes as of_probes
from tests.e2e.place import Deployed
from tests.e2e.probes import COMPONENTS, LISTENING, OTHERS, Probes

pytestmark = pytest.mark.cluster

OF_ALL = {"broker", "store", "api", "gateway", "outside"}  # what pods reach that no policy speaks of
ARROWS = {
    "predictor": {"broker", "store"},
    "trainer": {"broker", "store"},
    "source": {"broker", "store"},
    "promoter": {"store", "api", "gateway"},
    "drift-watch": {"store"},
    "dead-letters": {"store"},
    "neighbour": OF_ALL,
    "stranger": OF_ALL,
}
OF_PODS = {f"{who} at {port}" for who in ("predictor", "trainer") for port in LISTENING}
TARGETS = OF_ALL | OF_PODS
# Nobody is kept from himself; of predictors there are two, of which one is asked about the other.
CASES = [(w, t) for w in (*COMPONENTS, *OTHERS) for t in sorted(TARGETS) if not (w == "trainer" and t.startswith(w))]


@pytest.fixture(scope="module")
def probes(deployed: Deployed) -> Iterator[Probes]:
    image = deployed.get("ksvc", "drift-watch")["spec"]["template"]["spec"]["containers"][0]["image"]
    with of_probes.running(deployed.kubectl, f"{deployed.namespace}-other", image) as found:
        yield found


@pytest.fixture(scope="module")
def targets(deployed: Deployed, probes: Probes) -> Iterator[dict[str, tuple[str, int]]]:
    """Where each target answers, as a pod sees it; `outside` only where the node is this machine."""
    data = deployed.get("configmap", "headrace")["data"]
    served = deployed.get("ksvc", "drift-watch")["status"]["address"]["url"]
    found = {"broker": _at(data["K_SINK"]), "store": _at(data["AWS_ENDPOINT_URL"]), "gateway": _at(served)}
    found["api"] = ("kubernetes.default.svc", 443)
    for who in ("predictor", "trainer"):
        # The last of two predictors: what one reaches is asked of the first.
        address = probes.pods(who)[-1]["status"]["podIP"]
        found |= {f"{who} at {port}": (address, port) for port in LISTENING}
    node = json.loads(deployed.kubectl("get", "nodes", "-o", "json"))["items"][0]
    (address,) = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"][:1]
    with _listener(address) as port:
        yield found | ({"outside": (address, port)} if port else {})


@pytest.fixture(scope="module")
def reached(probes: Probes, targets: dict[str, tuple[str, int]]) -> dict[tuple[str, str], bool | str]:
    """Who takes a connection from whom, each waited for until it is as it should be."""

    def of(who: str) -> dict[tuple[str, str], bool | str]:
        wanted = {t: (*at, t in ARROWS[who]) for t, at in targets.items() if (who, t) in CASES}
        return {(who, target): opens for target, opens in probes.reach(who, wanted).items()}

    with ThreadPoolExecutor(len(ARROWS)) as pool:
        return {case: opens for found in pool.map(of, ARROWS) for case, opens in found.items()}


@pytest.mark.parametrize(("who", "target"), [case for case in CASES if case[1] in ARROWS[case[0]]])
def test_an_arrow_works(reached: dict[tuple[str, str], bool | str], who: str, target: str) -> None:
    if target == "outside" and (who, target) not in reached:
        pytest.skip("the node is another machine, where nothing can be set up to listen")
    assert reached[who, target] is True


@pytest.mark.parametrize(("who", "target"), [case for case in CASES if case[1] not in ARROWS[case[0]]])
def test_what_is_no_arrow_is_refused(reached: dict[tuple[str, str], bool | str], who: str, target: str) -> None:
    if target == "outside" and (who, target) not in reached:
        pytest.skip("the node is another machine, where nothing can be set up to listen")
    # That the target answers at all is shown by those that reach it: neighbour and stranger, and below the node.
    assert reached[who, target] is False


def test_the_pods_that_nobody_reaches_do_listen(targets: dict[str, tuple[str, int]]) -> None:
    if "outside" not in targets:
        pytest.skip("the node, which reaches its pods whatever policies say, is another machine")
    for target in OF_PODS:
        socket.create_connection(targets[target], 5).close()


def test_knative_brings_a_request_to_a_service_that_sleeps(deployed: Deployed, probes: Probes) -> None:
    url = deployed.get("ksvc", "drift-watch")["status"]["address"]["url"]
    ask = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=120).status)"
    assert probes.run("stranger", ask, f"{url}/health/readiness").strip() == "200"


# ---------------------------------------------------------------- rights


RIGHTS = [
    ("get", "services.serving.knative.dev", True),
    ("create", "services.serving.knative.dev", True),
    ("patch", "services.serving.knative.dev", True),
    ("list", "revisions.serving.knative.dev", True),
    ("create", "triggers.eventing.knative.dev", True),
    ("delete", "services.serving.knative.dev", False),
    ("update", "services.serving.knative.dev", False),
    ("patch", "revisions.serving.knative.dev", False),
    ("patch", "triggers.eventing.knative.dev", False),
    ("patch", "deployments.apps", False),
    ("patch", "configmaps", False),
    ("get", "configmaps", False),
    ("get", "secrets", False),
    ("list", "secrets", False),
    ("create", "pods", False),
    ("create", "pods/exec", False),
    ("create", "jobs.batch", False),
    ("create", "rolebindings.rbac.authorization.k8s.io", False),
    ("create", "serviceaccounts/token", False),
    ("delete", "networkpolicies.networking.k8s.io", False),
]


@pytest.mark.parametrize(("verb", "resource", "allowed"), RIGHTS)
def test_the_promoter_may_what_it_does_and_no_more(deployed: Deployed, verb: str, resource: str, allowed: bool) -> None:
    account = f"system:serviceaccount:{deployed.namespace}:promoter"
    said = deployed.try_kubectl("auth", "can-i", verb, resource, "--as", account).stdout.strip()
    assert said == ("yes" if allowed else "no")


@pytest.mark.parametrize(("name", "namespace"), [("promoter", "default"), ("default", ""), ("default", "default")])
def test_the_promoter_elsewhere_and_all_others_anywhere_may_what_everybody_may(
    deployed: Deployed, name: str, namespace: str
) -> None:
    where = ("-n", namespace) if namespace else ()

    def may(account: str) -> list[str]:
        return sorted(deployed.kubectl(*where, "auth", "can-i", "--list", "--no-headers", "--as", account).splitlines())

    nobody = may("system:serviceaccount:default:nobody-in-particular")
    assert nobody and may(f"system:serviceaccount:{deployed.namespace}:{name}") == nobody


def test_calls_with_the_promoters_token_are_let_through_and_refused_alike(deployed: Deployed, tmp_path: Path) -> None:
    config = yaml.safe_load(deployed.kubectl("config", "view", "--raw", "--minify"))
    token = deployed.kubectl("create", "token", "promoter", "--duration", "10m").strip()
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "promoter.conf").write_text(yaml.safe_dump(config))
    mine = {"metadata": {"annotations": {"e2e.test/probed": "1"}}}
    patch = ("--type", "merge", "-p", json.dumps(mine), "--dry-run=server")

    def call(*words: str) -> str:
        done = deployed.try_kubectl("--kubeconfig", str(tmp_path / "promoter.conf"), *words)
        return "done" if done.returncode == 0 else done.stderr

    user = f'User "system:serviceaccount:{deployed.namespace}:promoter" cannot'
    assert call("patch", "ksvc", "drift-watch", *patch) == "done"
    for words in (
        ("get", "secrets"),
        ("patch", "configmap", "headrace", *patch),
        ("patch", "broker", "default", *patch),
        ("delete", "ksvc", "drift-watch", "--dry-run=server"),
        ("get", "ksvc", "-n", "default"),
        ("get", "nodes"),
    ):
        assert user in call(*words), words


def test_only_who_asks_the_kubernetes_api_has_a_token(deployed: Deployed) -> None:
    specs = [(d["metadata"]["name"], d["spec"]["template"]["spec"]) for d in deployed.items("deployments")]
    specs += [(j["metadata"]["name"], j["spec"]["template"]["spec"]) for j in deployed.items("jobs")]
    assert len(specs) >= 4  # three Services and the source at least
    for name, spec in specs:
        if (account := spec.get("serviceAccountName")) in ("promoter", "job-watch"):
            assert name.startswith(account)
        else:
            assert spec.get("automountServiceAccountToken") is False, name


# ---------------------------------------------------------------- Pod Security, budgets


def test_no_pod_of_ours_was_refused_and_one_with_more_rights_is(deployed: Deployed) -> None:
    labels = json.loads(deployed.kubectl("get", "namespace", deployed.namespace, "-o", "json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    events = json.loads(deployed.kubectl("get", "events", "--field-selector", "reason=FailedCreate", "-o", "json"))
    assert [e["message"] for e in events["items"] if "PodSecurity" in e["message"]] == []
    # One that says nothing, and so may do what the image's user may; and one that looks at the node.
    for more in ({}, {"hostNetwork": True}):
        spec = {"containers": [{"name": "greedy", "image": "greedy"}], **more}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "greedy"}, "spec": spec}
        refused = deployed.try_kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod))
        assert 'violates PodSecurity "restricted' in refused.stderr


def test_a_training_is_not_evicted_and_predictors_leave_one_by_one(deployed: Deployed, probes: Probes) -> None:
    def evict(who: str) -> str:
        name = probes.pods(who)[0]["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{deployed.namespace}/pods/{name}/eviction?dryRun=All"
        return deployed.try_kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction)).stderr

    assert "would violate the pod's disruption budget" in evict("trainer")
    assert evict("predictor") == ""
    assert deployed.get("poddisruptionbudget", "predictors")["status"]["disruptionsAllowed"] == 1


def _at(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


@contextmanager
def _listener(address: str) -> Iterator[int | None]:
    """The port of something that listens there, outside of all pods; None where that is another machine."""
    try:
        listener = socket.create_server((address, 0))
    except OSError:
        yield None
        return

    def serve() -> None:
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return  # closed: the tests are over

    with listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
