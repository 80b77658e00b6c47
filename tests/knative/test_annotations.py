"""The webhook's verdicts, recorded ones and our own table of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative import annotations, literals
from knative.settings import Config

GROUP = "autoscaling.knative.dev"


@pytest.mark.parametrize(
    ("keys", "config", "expected"),
    [
        ({"min-scale": "1"}, {}, []),
        ({"min-scale": "-1"}, {}, ["expected 0 <= -1 <= 2147483647: {g}/min-scale"]),
        ({"minScale": "x"}, {}, ["invalid value: x: {g}/minScale"]),
        ({"max-scale": "2147483648"}, {}, ["expected 0 <= 2147483648 <= 2147483647: {g}/max-scale"]),
        ({"min-scale": "3", "max-scale": "2"}, {},
         ["max-scale=2 is less than min-scale=3: {g}/max-scale, {g}/min-scale"]),
        ({"max-scale": "0"}, {"max-scale-limit": "9", "max-scale": "9"},
         ["max-scale=0 (unlimited), must be less than 9: {g}/max-scale"]),
        ({"max-scale": "10"}, {"max-scale-limit": "9", "max-scale": "9"}, ["expected 1 <= 10 <= 9: {g}/max-scale"]),
        ({"window": "5s"}, {}, ["expected 6s <= 5s <= 1h0m0s: {g}/window"]),
        ({"window": "6.5s"}, {}, ["must be specified with at most second precision: {g}/window"]),
        ({"window": "60"}, {}, ["invalid value: 60: {g}/window"]),
        ({"scale-down-delay": "2h"}, {}, ["expected 0s <= 2h <= 1h0m0s: {g}/scale-down-delay"]),
        ({"scale-to-zero-pod-retention-period": "1m1.5s"}, {}, []),
        ({"target": "0.001"}, {}, ["target 0.001 should be at least 0.01: {g}/target"]),
        ({"target": "NaN"}, {}, []),
        ({"target": "1e999"}, {}, ["invalid value: 1e999: {g}/target"]),
        ({"target": "1_0"}, {}, []),  # ten, to strconv.ParseFloat
        ({"target": "1_"}, {}, ["invalid value: 1_: {g}/target"]),
        ({"target-burst-capacity": "-2"}, {}, ["invalid value: -2: {g}/target-burst-capacity"]),
        ({"target-burst-capacity": "-1"}, {}, []),
        ({"panic-window-percentage": "0.5"}, {}, ["expected 1 <= 0.5 <= 100: {g}/panic-window-percentage"]),
        ({"initial-scale": "0"}, {}, ["invalid value: 0, 0 is not allowed by the cluster: {g}/initial-scale"]),
        ({"initial-scale": "0"}, {"allow-zero-initial-scale": "true"}, []),
        ({"activation-scale": "1"}, {}, ["activation-scale=1 must be greater than 1: {g}/activation-scale"]),
        ({"metric": "cpu"}, {}, ["invalid value: cpu: {g}/metric"]),
        ({"metric": "cpu", "class": "hpa.autoscaling.knative.dev"}, {}, []),
        ({"class": "x.knative.dev"}, {}, ["invalid value: x.knative.dev: {g}/class"]),
        ({"class": "other.example.com"}, {}, []),
        ({"metric-aggregation-algorithm": "x"}, {}, []),  # judged with the class spelled out alone
        ({"metric-aggregation-algorithm": "x", "class": "kpa.autoscaling.knative.dev"}, {},
         ["invalid value: x: {g}/metric-aggregation-algorithm"]),
        ({"bogus": "x"}, {}, []),
    ],
)  # fmt: skip
def test_verdicts(keys: dict[str, str], config: dict[str, str], expected: list[str]) -> None:
    found = annotations.faults({f"{GROUP}/{key}": value for key, value in keys.items()}, Config.from_map(config))
    assert [str(fault) for fault in found] == [text.format(g=GROUP) for text in expected]


def service(keys: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"kind": "Service", "spec": {"template": {"metadata": {"annotations": keys}, "spec": spec}}}


def test_a_manifest_is_judged_with_the_paths_of_its_fields() -> None:
    place = "spec.template.metadata.annotations"
    found = annotations.admit(service({f"{GROUP}/window": "1s", f"{GROUP}/min-scale": 2}, containerConcurrency=-1))
    assert found == [
        f"invalid value: 2, annotations are strings: write '2' in quotes: {place}.{GROUP}/min-scale",
        f"expected 6s <= 1s <= 1h0m0s: {place}.{GROUP}/window",
        "expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency",
    ]


def test_other_kinds_and_sound_manifests_are_admitted() -> None:
    assert annotations.admit(service({f"{GROUP}/min-scale": "2"}, containerConcurrency=5)) == []
    assert annotations.admit({"kind": "Job", "metadata": {"annotations": {f"{GROUP}/window": "1s"}}}) == []
    assert annotations.admit({"kind": "Revision", "metadata": {"annotations": {f"{GROUP}/window": "1s"}}}) != []


@pytest.mark.parametrize(
    ("place", "keys", "refused"),
    [
        ("service", {f"{GROUP}/min-scale": "2"}, "autoscaling annotations must be put under"),
        ("service", {f"{GROUP}-x/anything": ""}, "autoscaling annotations must be put under"),
        ("service", {"serving.knative.dev/rollout-duration": "90s"}, None),
        ("service", {"serving.knative.dev/rollout-duration": "1.5s"}, "is not at second precision"),
        ("service", {"serving.knative.dev/rolloutDuration": "-1s"}, "must be positive"),
        ("service", {"serving.knative.dev/rollout-duration": "soon"}, "invalid value: soon"),
        ("template", {"serving.knative.dev/rollout-duration": "soon"}, None),
        ("template", {"serving.knative.dev/progress-deadline": ""}, None),
        ("template", {"serving.knative.dev/progress-deadline": "10m"}, None),
        ("template", {"serving.knative.dev/progress-deadline": "10"}, "invalid value: 10"),
    ],
)
def test_an_annotation_is_judged_where_knative_reads_it(place: str, keys: dict[str, str], refused: str | None) -> None:
    manifest = service(keys) if place == "template" else {**service({}), "metadata": {"annotations": keys}}
    found = annotations.admit(manifest)
    assert len(found) == (refused is not None)
    if refused:
        where = "spec.template.metadata.annotations" if place == "template" else "metadata.annotations"
        assert refused in found[0]
        assert found[0].endswith(f"{where}.{next(iter(keys))}")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1h", 3600),
        ("1m30s", 90),
        ("1.5s", 1.5),
        ("-2s", -2),
        ("+1s", 1),
        ("0", 0),
        ("500ms", 0.5),
        (".5s", 0.5),
        ("1.s", 1),
    ],
)
def test_durations_as_go_reads_them(text: str, nanoseconds: float) -> None:
    assert literals.parse_duration(text) == nanoseconds * literals.SECOND


@pytest.mark.parametrize("text", ["", "-", "1", "s", "1 s", "1d", ".s", "1m 30s", "99999999h", "١s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        literals.parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (90 * 10**9, "1m30s"),
        (3600 * 10**9, "1h0m0s"),
        (1_500_000_000, "1.5s"),
        (1500, "1.5µs"),
        (-(10**9), "-1s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert literals.format_duration(nanoseconds) == text


@given(st.integers(0, 10**15))
def test_a_printed_duration_reads_as_itself(nanoseconds: int) -> None:
    assert literals.parse_duration(literals.format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("text", ["", " 1", "1 ", "0x10", "1__0", "nan(1)", "+nan", "1e999", "infinit", "0x1", "１"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):
        literals.parse_float(text)


def test_numbers_as_go_reads_them() -> None:
    assert literals.parse_float("+Inf") == float("inf")
    assert literals.parse_float("0x1p-2") == 0.25
    assert literals.parse_float("1.e2") == 100.0
    assert literals.parse_float(".5") == 0.5
