"""The search and its advice: what is obviously better is found, what is refused never appears, each reason holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from eventing.errors import Misconfigured
from headrace.tune import advice, aims, search, shapes, space, tuning
from headrace.tune.aims import Aim
from headrace.tune.present import Present, given, of_manifest
from headrace.tune.search import Simulator
from headrace.tune.simulation import simulate
from headrace.tune.traffic import BadTraffic, Traffic
from headrace.tune.tuning import Tuned, Wish
from headrace.tune.world import Setting, World
from knative import annotations as verdicts
from knative.autoscaler import Config

GROUP = "autoscaling.knative.dev"


def setting(limit: int = 0, **keys: str) -> Setting:
    return Setting.of({f"{GROUP}/{key.replace('_', '-')}": value for key, value in keys.items()}, limit)


def visits(every_s: float, count: int, requests: int = 5) -> Traffic:
    """A few requests at once, again and again, with silence between."""
    starts = np.concatenate([n * every_s + np.linspace(0, 1, requests) for n in range(count)])
    return Traffic(starts, np.full(starts.size, 0.05), None, "visits", np.empty(0), ())


def tuned(traffic: Traffic, present: Setting, aim: Aim, **wish: Any) -> Tuned:
    return tuning.tune(traffic, Wish(Present(present, name="asked", namespace="ns"), aim=aim, **wish))


# ---------------------------------------------------------------- what is found


def test_rare_visits_that_must_be_quick_keep_a_pod() -> None:
    """Every 10 minutes five requests meet a cold start of 3 s: only a pod that stays helps."""
    traffic = visits(600, 30)
    found = tuned(traffic, setting(5), Aim(p95_s=0.2), cold_starts_s=(3.0,))
    assert found.present.outcome.p95_s > 2
    assert found.advice.holds
    assert found.advice.recommended.outcome.p95_s < 0.2
    kept = dict(found.advice.recommended.setting.annotations)
    assert kept.keys() & {f"{GROUP}/min-scale", f"{GROUP}/scale-to-zero-pod-retention-period"}


def test_a_pod_that_nobody_needs_is_given_back() -> None:
    """Two pods at all times for a visit every ten minutes: with cold starts allowed, they go."""
    found = tuned(visits(600, 30), setting(5, min_scale="2"), Aim(p95_s=10.0), cold_starts_s=(1.0,))
    assert found.advice.holds
    assert found.advice.recommended.outcome.pod_seconds < 0.3 * found.present.outcome.pod_seconds


def test_a_budget_is_kept_and_spent_on_latency() -> None:
    traffic = shapes.shape("burst", 1800, 40, 0.1)
    budget = 1800 * 3.0
    found = tuned(traffic, setting(2), Aim(pod_seconds=budget), cold_starts_s=(2.0,))
    fast = tuned(traffic, setting(2), Aim(p95_s=0.001), cold_starts_s=(2.0,), settings=60)
    assert found.advice.recommended.outcome.pod_seconds <= budget
    assert found.advice.holds
    assert not fast.advice.holds, "nothing is quicker than the service itself"


def test_an_aim_that_the_present_setting_meets_best_changes_nothing() -> None:
    """Steady traffic on one pod that bears it: there is nothing cheaper than one pod."""
    traffic = shapes.shape("steady", 900, 5, 0.05)
    found = tuned(traffic, setting(50), Aim(p95_s=1.0), cold_starts_s=(1.0,))
    assert found.advice.holds
    assert found.advice.recommended.outcome.pod_seconds <= found.present.outcome.pod_seconds
    assert not found.advice.changed


def test_the_same_seed_finds_the_same_on_any_number_of_cores() -> None:
    traffic = shapes.shape("sparse", 1800, 10, 0.1)
    once, again = (
        tuned(traffic, setting(2), Aim(), cold_starts_s=(1.0, 2.0), seed=7, cores=cores, settings=60)
        for cores in (1, 3)
    )
    assert [c.setting for c in once.found.candidates] == [c.setting for c in again.found.candidates]
    assert once.advice.recommended.setting == again.advice.recommended.setting


def test_what_a_screen_of_a_long_traffic_leaves_is_ranked_on_all_of_it() -> None:
    traffic = shapes.shape("diurnal", 4 * 3600, 60, 0.1)
    assert traffic.count > search.SCREEN_ABOVE
    world = World(pod_capacity=4)
    simulator = Simulator(traffic, world)
    assert simulator.part.count < traffic.count / 8
    tried = space.around(setting(4), world, traffic, (), ())
    found = search.search(simulator, tried, Aim(), settings=30)
    simulator.close()
    assert found.screened > 0
    for candidate in found.candidates:
        assert candidate.outcome.requests == traffic.count
    for candidate in found.front:
        again = simulate(traffic, candidate.setting, world)
        assert (again.p95_s, again.pod_seconds) == (candidate.outcome.p95_s, candidate.outcome.pod_seconds)


def test_a_screen_is_a_twelfth_with_its_busiest_part() -> None:
    traffic = shapes.shape("diurnal", 86_400, 10, 0.1)
    part = search.screen_of(traffic)
    assert part.span_s == pytest.approx(traffic.span_s / 12, rel=0.01)
    busiest = np.histogram(traffic.starts_s, 72)[0].max()
    assert np.histogram(part.starts_s, 6)[0].max() == pytest.approx(busiest, rel=0.05)


# ---------------------------------------------------------------- what may not be


def test_no_candidate_is_one_that_the_webhook_refuses() -> None:
    config = Config.from_map({"max-scale-limit": "4", "max-scale": "4"})
    found = tuned(
        shapes.shape("burst", 900, 60, 0.1), setting(1), Aim(), config=config, cold_starts_s=(1.0,), settings=80
    )
    for candidate in found.found.candidates:
        assert verdicts.faults(dict(candidate.setting.annotations), config) == ()
        assert candidate.outcome.most_pods <= 4


def test_what_is_fixed_stays_and_what_is_not_freed_too() -> None:
    found = tuned(
        visits(600, 10), setting(5, window="30s", min_scale="1"), Aim(), fixed=("window", "min-scale"), settings=60
    )
    for candidate in found.found.candidates:
        annotations = dict(candidate.setting.annotations)
        assert (annotations[f"{GROUP}/window"], annotations[f"{GROUP}/min-scale"]) == ("30s", "1")
        assert candidate.setting.container_concurrency == 5


def test_container_concurrency_changes_where_it_may() -> None:
    traffic = shapes.shape("burst", 900, 60, 0.1)
    found = tuned(traffic, setting(8), Aim(), free=("container-concurrency",), settings=60, pod_capacity=8)
    assert {c.setting.container_concurrency for c in found.found.candidates} > {8}


def test_a_name_that_is_no_setting_is_refused() -> None:
    with pytest.raises(Misconfigured, match="min-scale"):
        tuned(visits(60, 5), setting(), Aim(), fixed=("minimum",))


def test_traffic_without_a_request_is_refused() -> None:
    empty = Traffic(np.empty(0), np.empty(0), None, "an empty file", np.empty(0), ())
    with pytest.raises(BadTraffic, match="no request"):
        tuned(empty, setting(), Aim())


# ---------------------------------------------------------------- aims


@pytest.mark.parametrize(
    "wrong",
    [
        {"p95_s": 0.0},
        {"p99_s": float("nan")},
        {"pod_seconds": -1.0},
        {"max_failed": 1.0},
        {"p95_s": 1.0, "pod_seconds": 1},
    ],
)
def test_an_aim_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        Aim(**wrong)


def test_nothing_on_the_front_is_beaten_and_all_else_is() -> None:
    found = tuned(shapes.shape("burst", 900, 60, 0.1), setting(2), Aim(), settings=100).found
    on_front = {id(c) for c in found.front}
    for one in found.candidates:
        beaten = any(
            other.outcome.pod_seconds <= one.outcome.pod_seconds
            and other.outcome.p95_s <= one.outcome.p95_s
            and (other.outcome.pod_seconds, other.outcome.p95_s) != (one.outcome.pod_seconds, one.outcome.p95_s)
            and other.outcome.failed_share <= aims.MAX_FAILED_SHARE
            for other in found.candidates
        )
        assert not (beaten and id(one) in on_front)


# ---------------------------------------------------------------- the advice


@pytest.fixture(scope="module")
def advised() -> Tuned:
    return tuned(visits(600, 30), setting(5, window="30s", max_scale="7"), Aim(p95_s=0.2), cold_starts_s=(3.0,))


def test_each_reason_is_what_happens_without(advised: Tuned) -> None:
    recommended = advised.advice.recommended.setting
    assert advised.advice.reasons
    for reason in advised.advice.reasons:
        annotations = dict(recommended.annotations)
        annotations.pop(f"{GROUP}/{reason.name}", None)
        if reason.instead is not None:
            annotations[f"{GROUP}/{reason.name}"] = reason.instead
        without = simulate(advised.traffic, Setting.of(annotations, 5), advised.world)
        assert (without.p95_s, without.pod_seconds) == (reason.without.p95_s, reason.without.pod_seconds)
        assert "Without it" in reason.otherwise or "as now" in reason.otherwise


def test_no_change_is_recommended_that_does_nothing(advised: Tuned) -> None:
    present = dict(advised.wish.present.setting.annotations)
    for reason in advised.advice.reasons:
        if present.get(f"{GROUP}/{reason.name}") != reason.value:
            assert "nothing here would change" not in reason.otherwise, reason.name


def test_the_patch_makes_the_recommended_of_the_present_setting(advised: Tuned) -> None:
    before: dict[str, Any] = {
        "spec": {
            "template": {
                "metadata": {"name": "asked-1", "annotations": dict(advised.wish.present.setting.annotations)},
                "spec": {"containerConcurrency": 5, "containers": [{"image": "i"}]},
            }
        }
    }
    after = _merged(before, advice.patch(advised.advice.recommended.setting, advised.wish.present))
    assert after["spec"]["template"]["metadata"]["annotations"] == dict(advised.advice.recommended.setting.annotations)
    assert after["spec"]["template"]["spec"] == before["spec"]["template"]["spec"]


def test_a_patch_takes_away_what_is_to_go_and_names_no_revision_twice() -> None:
    present = Present(setting(5, window="30s"), revision_name="asked-1")
    patch = advice.patch(setting(7, target="3"), present)
    template = patch["spec"]["template"]
    assert template["metadata"]["annotations"] == {f"{GROUP}/target": "3", f"{GROUP}/window": None}
    assert template["metadata"]["name"] is None
    assert template["spec"] == {"containerConcurrency": 7}


def test_the_command_is_one_that_a_shell_hands_on_whole(advised: Tuned) -> None:
    command = advice.command(advised.advice.recommended.setting, advised.wish.present)
    script = command.replace("kubectl", "printf '%s\\n'", 1)
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[:7] == ["patch", "ksvc", "asked", "-n", "ns", "--type", "merge"]
    assert json.loads(words[8]) == advice.patch(advised.advice.recommended.setting, advised.wish.present)


def test_what_is_to_be_pasted_is_yaml_that_the_webhook_takes(advised: Tuned) -> None:
    pasted = yaml.safe_load(advice.paste(advised.advice.recommended.setting, advised.wish.present))
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "asked"}, **pasted}
    assert verdicts.admit(service) == []
    annotations = pasted["spec"]["template"]["metadata"]["annotations"]
    assert annotations == dict(advised.advice.recommended.setting.annotations)


def _merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch applied. Source: RFC 7386."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


# ---------------------------------------------------------------- the present setting

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: one, namespace: ns}
spec:
  template:
    metadata: {annotations: {autoscaling.knative.dev/minScale: "2", team: blue}}
    spec: {containerConcurrency: 4, timeoutSeconds: 20, containers: [{image: i}]}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: two}
spec: {template: {spec: {containers: [{image: i}]}}}
"""


def test_a_manifest_tells_what_is_set(tmp_path: Path) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(MANIFEST)
    present = of_manifest(file, "one", Config())
    assert present == Present(Setting.of({f"{GROUP}/minScale": "2"}, 4), 20.0, "one", "ns", None)
    over = given(present, {"min-scale": "3", "target": "2"}, 5, Config())
    assert over.setting == setting(5, min_scale="3", target="2")
    assert given(present, {"min-scale": ""}, None, Config()).setting == setting(4)


@pytest.mark.parametrize(
    ("text", "service", "named"),
    [
        (MANIFEST, None, "one, two"),
        (MANIFEST, "three", "one, two"),
        ("kind: [", "one", "readable YAML"),
        ("kind: ConfigMap", None, "none"),
        (MANIFEST.replace('"2"', '"two"'), "one", "minScale"),
    ],
)
def test_a_manifest_that_does_not_tell_is_refused(tmp_path: Path, text: str, service: str | None, named: str) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=named):
        of_manifest(file, service, Config())


@pytest.mark.parametrize(
    ("annotations", "concurrency"),
    [
        ({"minimum": "1"}, None),
        ({"target": "none"}, None),
        ({}, 1001),
        ({"class": "hpa.autoscaling.knative.dev"}, None),
    ],
)
def test_given_annotations_that_cannot_be_are_refused(annotations: dict[str, str], concurrency: int | None) -> None:
    with pytest.raises(Misconfigured):
        given(Present(setting()), annotations, concurrency, Config())
