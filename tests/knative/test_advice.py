"""Each foolish setting is told with its numbers, and sensible ones are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from knative import advice, annotations
from knative.advice import Template
from knative.settings import Config

GROUP = "autoscaling.knative.dev"
HPA = "hpa.autoscaling.knative.dev"


def advised(keys: dict[str, str], config: dict[str, str] | None = None, **template: Any) -> dict[str, str]:
    """What is said, by the annotation's name; the settings must be ones that the webhook takes."""
    written = {f"{GROUP}/{key}": value for key, value in keys.items()}
    cluster = Config.from_map(config or {})
    assert annotations.faults(written, cluster) == ()
    found = advice.advise(Template(written, **template), cluster)
    return {each.key.removeprefix(f"{GROUP}/"): each.said for each in found}


@pytest.mark.parametrize(
    ("keys", "others", "key", "said"),
    [
        ({"target": "200"}, {"container_concurrency": 10}, "target", "aims at 7 (70 % of 10) per pod instead"),
        ({"target": "1"}, {"container_concurrency": 1}, "target", "0.7 requests per pod, utilisation included: 10 at"
         " once are 15 pods"),
        ({"metric": "rps"}, {"container_concurrency": 5}, "metric", "once 5 slow requests fill a pod"),
        ({"target-utilization-percentage": "100"}, {"container_concurrency": 10}, "target-utilization-percentage",
         "only when all are full (10 of containerConcurrency 10)"),
        ({"target": "0.01", "target-utilization-percentage": "5"}, {}, "target-utilization-percentage", "below 0.01"),
        ({"window": "6s"}, {}, "window", "the panic window is 1s of 6s, one scrape"),
        ({"window": "6s"}, {}, "window", "panic-window-percentage 25 or more holds two"),
        ({"window": "60s", "panic-window-percentage": "1"}, {}, "panic-window-percentage", "is 1s of 1m0s, one scrape"),
        ({"panic-window-percentage": "100"}, {}, "panic-window-percentage", "the whole window of 1m0s"),
        ({"window": "20s"}, {"cold_start_s": 25.0}, "window", "after 25 s, and the window is 20s"),
        ({"scale-down-delay": "2s"}, {}, "scale-down-delay", "2s is within one decision, and those come every 2 s"),
        ({"min-scale": "3", "max-scale": "3", "scale-down-delay": "1m"}, {}, "scale-down-delay",
         "min-scale is 3, max-scale 3, so there are always 3 pods"),
        ({"min-scale": "1", "max-scale": "1", "target": "5"}, {}, "target", "always 1 pod"),
        ({"scale-down-delay": "1m"}, {"reachable": False}, "scale-down-delay", "no traffic target leads to"),
        ({"min-scale": "2"}, {"reachable": False}, "min-scale", "no traffic target leads to"),
        ({"scale-to-zero-pod-retention-period": "30s"}, {}, "scale-to-zero-pod-retention-period",
         "30s is no longer than the grace period of 30s"),
        ({"scale-to-zero-pod-retention-period": "5m", "min-scale": "1"}, {}, "scale-to-zero-pod-retention-period",
         "min-scale 1, so the last pod never goes"),
        ({"initial-scale": "5", "max-scale": "3"}, {}, "initial-scale", "5 is above max-scale 3"),
        ({"initial-scale": "2", "min-scale": "3"}, {}, "initial-scale", "min-scale 3 asks for as many or more"),
        ({"activation-scale": "3", "min-scale": "3"}, {}, "activation-scale", "min-scale 3 asks for as many or more"),
        ({"target-burst-capacity": "0"}, {"container_concurrency": 8}, "target-burst-capacity",
         "takes 8 and queues the rest"),
        ({"target-burst-capacity": "211", "max-scale": "10", "target": "10"}, {}, "target-burst-capacity",
         "(10 x 10 = 100): the activator stays in the path, as with -1"),
        ({"min-scale": "1", "minScale": "2"}, {}, "minScale", "passed over: min-scale is set as well, to '1'"),
        ({"class": HPA, "metric": "cpu", "panic-window-percentage": "10"}, {}, "panic-window-percentage",
         "class hpa does not read it"),
        ({"class": HPA, "metric": "cpu", "scale-down-delay": "1m"}, {}, "scale-down-delay", "does not read it"),
        ({"class": HPA, "metric": "cpu", "min-scale": "0"}, {}, "min-scale", "never goes to zero"),
        ({"class": HPA, "metric": "cpu", "target": "70.5"}, {}, "target", "70.5 is taken as 71"),
        ({"class": HPA, "metric": "mine", "target": "70.5"}, {}, "target", "70.5 is taken as 70"),
    ],
)  # fmt: skip
def test_what_is_foolish_is_told_with_its_numbers(
    keys: dict[str, str], others: dict[str, Any], key: str, said: str
) -> None:
    assert said in advised(keys, **others)[key]


@pytest.mark.parametrize(
    ("keys", "config", "key", "said"),
    [
        ({"min-scale": "5"}, {"max-scale": "3"}, "min-scale", "5 pods while fewer are wanted, 3 while more are"),
        ({"activation-scale": "5"}, {"max-scale": "3"}, "activation-scale", "above max-scale 3, which wins"),
        ({"scale-to-zero-pod-retention-period": "2m"}, {"enable-scale-to-zero": "false"},
         "scale-to-zero-pod-retention-period", "enable-scale-to-zero is off"),
        ({"window": "14s"}, {"panic-window-percentage": "5"}, "window", "one scrape"),
    ],
)  # fmt: skip
def test_the_clusters_settings_count(keys: dict[str, str], config: dict[str, str], key: str, said: str) -> None:
    assert said in advised(keys, config)[key]


@pytest.mark.parametrize(
    ("keys", "others"),
    [
        ({}, {}),
        ({"target": "10", "min-scale": "0", "max-scale": "10", "window": "30s"}, {"container_concurrency": 20}),
        ({"min-scale": "1", "max-scale": "1"}, {}),
        ({"scale-down-delay": "15m", "min-scale": "2"}, {}),
        ({"metric": "rps", "target": "150"}, {}),
        ({"scale-to-zero-pod-retention-period": "1m"}, {}),
        ({"target-burst-capacity": "-1"}, {"container_concurrency": 5}),
        ({"target-burst-capacity": "0", "min-scale": "2"}, {}),
        ({"window": "6s", "panic-window-percentage": "34"}, {}),
        ({"class": HPA, "metric": "cpu", "target": "70", "min-scale": "1", "window": "30s"}, {}),
        ({"class": "other.example.com", "scale-down-delay": "1s"}, {}),  # another autoscaler's business
    ],
)
def test_what_is_sensible_is_not_told(keys: dict[str, str], others: dict[str, Any]) -> None:
    assert advised(keys, **others) == {}


texts = st.sampled_from(
    ["0", "1", "2", "5", "0.5", "70", "100", "211", "-1", "6s", "10s", "1m", "1h", "NaN", "Inf", ""]
)
keys_ = st.sampled_from(
    [
        "target", "metric", "class", "min-scale", "max-scale", "initial-scale", "activation-scale", "scale-down-delay",
        "window", "panic-window-percentage", "panic-threshold-percentage", "target-utilization-percentage",
        "target-burst-capacity", "minScale", "scale-to-zero-pod-retention-period",
    ]
)  # fmt: skip


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.dictionaries(keys_, texts, max_size=3), st.integers(0, 1000), st.booleans())
def test_advice_is_about_annotations_that_are_set(keys: dict[str, str], limit: int, reachable: bool) -> None:
    written = {f"{GROUP}/{key}": value for key, value in keys.items()}
    found = advice.advise(Template(written, limit, reachable))
    assert {each.key for each in found} <= set(written)
    assert len({each.key for each in found}) == len(found)
    assert all(each.said for each in found)
