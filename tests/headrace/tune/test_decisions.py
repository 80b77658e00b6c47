"""The compiled twin decides as knative.autoscaler does, to the last bit."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.tune import decisions
from knative import annotations as verdicts
from knative import autoscaler
from knative.autoscaler import Config, Life, Observation, Scrape, Spec
from knative.literals import nanoseconds

TRACES = Path(__file__).parents[3].parent / "shared" / "kpa" / "traces.jsonl.gz"
GROUP = "autoscaling.knative.dev"
ACTIVE = ("Unknown", "True", "False", "False")


class Twins:
    """The original and the compiled one, side by side: each step is compared."""

    def __init__(self, spec: Spec, ready: int, now: float) -> None:
        self.spec, self.state, self.life = spec, autoscaler.start(spec, ready, now), Life(since_ns=nanoseconds(now))
        self.rules, self.memory = decisions.Rules.of(spec), decisions.start(spec, ready, nanoseconds(now))
        self.wish: int | None = None

    @property
    def scalars(self) -> Any:
        return self.memory.scalars[0]

    def record(self, scrape: Scrape) -> None:
        self.state = autoscaler.record(self.state, scrape)
        concurrency = scrape.concurrency - scrape.proxied_concurrency
        requests = scrape.requests - scrape.proxied_requests
        decisions.record(self.rules, self.memory, nanoseconds(scrape.at_s), concurrency, requests)

    def decide(self, ready: int, now: float) -> None:
        self.state, told = autoscaler.decide(self.state, Observation(ready), now)
        valid = decisions.decide(self.rules, self.memory, ready, nanoseconds(now))
        assert valid == told.valid
        assert bool(self.scalars["panicking"]) == told.panicking
        if told.valid:
            self.wish = told.desired
            seen = tuple(self.scalars[["desired", "excess_burst_capacity"]].item())
            assert seen == (told.desired, told.excess_burst_capacity), told.reason
            assert _bits(self.scalars["stable_average"]) == _bits(told.stable)
            assert _bits(self.scalars["panic_average"]) == _bits(told.panic)

    def reconcile(self, ready: int, now: float, proxied_for_s: float) -> None:
        self.life, plan = autoscaler.reconcile(self.spec, self.life, self.wish, ready, now, proxied_for_s)
        pods = decisions.reconcile(
            self.rules, self.memory, self.wish is not None, self.wish or 0, ready, nanoseconds(now),
            nanoseconds(proxied_for_s),
        )  # fmt: skip
        assert (pods, int(self.scalars["want"])) == (-1 if plan.pods is None else plan.pods, plan.want), plan.reason
        assert ACTIVE[self.scalars["active"]] == self.life.active
        assert int(self.scalars["active_since"]) == self.life.since_ns
        assert bool(self.scalars["initialized"]) == self.life.initialized


def _bits(value: float) -> str:
    return float(value).hex() if not math.isnan(value) else "nan"


def recorded() -> list[dict[str, Any]]:
    if not TRACES.exists():
        return []
    with gzip.open(TRACES, "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.skipif(not TRACES.exists(), reason="Knative's recorded decisions lie beside the repository")
def test_it_decides_as_knative_has_been_recorded_to() -> None:
    decided = 0
    for case in recorded():
        config = Config.from_map(case["config_autoscaler"])
        spec = autoscaler.resolve(case["annotations"], config, case["container_concurrency"], case["reachable"])
        twins = Twins(spec, case["derived"]["starts_ready"], 0.0)
        for event in case["events"]:
            if "stat" in event:
                stat = {("at_s" if k == "t" else k): v for k, v in event["stat"].items()}
                twins.record(Scrape(**stat))
                continue
            tick = event["tick"]
            twins.decide(tick["ready"], tick["t"])
            decided += 1
            if tick["valid"]:
                assert twins.scalars["desired"] == tick["desired"], case["name"]
                assert twins.scalars["excess_burst_capacity"] == tick["excess_burst_capacity"], case["name"]
    assert decided > 4000


_DURATIONS = st.sampled_from(["6s", "7s", "10s", "30s", "45s", "1m", "90s"])
_ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        "metric": st.sampled_from(["concurrency", "rps"]),
        "metric-aggregation-algorithm": st.sampled_from(["linear", "weighted-exponential"]),
        "target": st.sampled_from(["0.01", "0.7", "1", "3.3", "10", "200", "NaN", "1e30"]),
        "target-utilization-percentage": st.sampled_from(["1", "33.3", "70", "100"]),
        "target-burst-capacity": st.sampled_from(["-1", "0", "0.5", "7", "211", "1e12", "NaN"]),
        "min-scale": st.integers(0, 5).map(str),
        "max-scale": st.integers(0, 9).map(str),
        "initial-scale": st.integers(0, 6).map(str),
        "activation-scale": st.integers(1, 6).map(str),
        "scale-down-delay": st.sampled_from(["0s", "1s", "2s", "5s", "30s", "1m"]),
        "scale-to-zero-pod-retention-period": st.sampled_from(["0s", "7s", "1m", "1m30.5s"]),
        "window": _DURATIONS,
        "panic-window-percentage": st.sampled_from(["1", "10", "33", "100"]),
        "panic-threshold-percentage": st.sampled_from(["110", "200", "1000"]),
    },
)
_CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "enable-scale-to-zero": st.sampled_from(["true", "false"]),
        "allow-zero-initial-scale": st.just("true"),
        "max-scale-up-rate": st.sampled_from(["1.1", "2.5", "1000", "Inf", "NaN", "1e10"]),
        "max-scale-down-rate": st.sampled_from(["1.1", "2", "3.7", "Inf", "NaN"]),
        "scale-to-zero-grace-period": st.sampled_from(["1s", "6s", "30s"]),
    },
)
_VALUES = st.one_of(st.just(0.0), st.floats(0, 500, allow_nan=False), st.sampled_from([0.1, 1 / 3, 1e-7, 700.0]))
_STEPS = st.lists(
    st.tuples(
        st.one_of(st.floats(0.01, 2.5), st.sampled_from([7.0, 61.0, 100.0])), _VALUES, _VALUES, st.integers(0, 12),
        st.floats(-3, 0), st.sampled_from([0.0, 5.0, 31.0]),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    _ANNOTATIONS, _CONFIG, st.sampled_from([0, 1, 5, 100]), st.booleans(), st.integers(0, 5), _STEPS,
    st.sampled_from(["", "", "6.5s", "9.999s"]),
)  # fmt: skip
def test_it_decides_as_the_original_on_whatever_is_drawn(
    keys: dict[str, str], config: dict[str, str], limit: int, reachable: bool, ready: int, steps: list[Any], broken: str
) -> None:
    annotations = {f"{GROUP}/{key}": value for key, value in keys.items()}
    known = Config.from_map(config)
    assume(not verdicts.faults(annotations, known))
    if broken:  # the webhook refuses a window of broken seconds; what is there already is decided on all the same
        annotations[f"{GROUP}/window"] = broken
    twins, now = Twins(autoscaler.resolve(annotations, known, limit, reachable), ready, 0.0), 0.0
    for gap, concurrency, requests, pods, late, proxied in steps:
        now = round(now + gap, 3)
        twins.record(Scrape(max(0.0, round(now + late, 3)), concurrency, requests))
        twins.decide(pods, now)
        twins.reconcile(pods, now, proxied)


def test_a_spec_has_no_field_that_the_rules_leave_out() -> None:
    """A new field in the original must not be forgotten in the twin."""
    elsewhere = {"metric", "scale_down_delay_ns", "panic_window_ns"}  # rps, delay_slots, the ring's length
    fields = {f.name for f in dataclasses.fields(Spec)}
    assert fields - elsewhere == set(decisions.Rules._fields) - set(decisions.DERIVED)
