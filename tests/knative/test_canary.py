"""knative.canary: the state of a rollout, and each decision about it, with the time as a column."""

from __future__ import annotations

from dataclasses import replace

import pytest

from knative import canary
from knative.canary import Canary, Limits, Observation, Readiness, Tally

STARTED = Canary("v2", "v1", "flights-00001", since=1000.0, phase="starting", phase_since=1000.0, event="e-1")
WATCHED = replace(STARTED, phase="watching", phase_since=1010.0)
REVERTING = replace(STARTED, phase="reverting", phase_since=1020.0, reason="too slow")
LIMITS = Limits(ready_s=180, failure_grace_s=20, canary_s=60, canary_percent=20, min_requests=20, abandoned_s=60)
READY, FAILED, UNKNOWN = Readiness("True"), Readiness("False", "ExitCode1: boom"), Readiness("Unknown", "Deploying")
GOOD = Observation(READY, canary=Tally(100, 0, 5, 20), champion=Tally(400, 0, 5, 18), probes_ok=30)


@pytest.mark.parametrize(
    ("revision", "now", "action"),
    [
        (UNKNOWN, 1005, "wait"),
        (UNKNOWN, 1179, "wait"),
        (UNKNOWN, 1180, "roll_back"),  # ready_s
        (FAILED, 1019, "wait"),  # a container may come up at its second start
        (FAILED, 1020, "roll_back"),  # failure_grace_s
        (READY, 1005, "shift"),
        (READY, 1500, "shift"),
    ],
)
def test_a_revision_gets_traffic_once_it_is_ready_and_is_given_up_after_its_time(
    revision: Readiness, now: float, action: str
) -> None:
    assert canary.decide(STARTED, Observation(revision), now, LIMITS)[1].action == action


@pytest.mark.parametrize(
    ("seen", "now", "action"),
    [
        (GOOD, 1069, "wait"),
        (GOOD, 1070, "promote"),  # canary_s
        (replace(GOOD, canary=Tally(0, 0)), 1070, "promote"),  # nobody asked: the probes speak
        (replace(GOOD, probes_ok=2), 1070, "wait"),  # a watcher that came late has seen too little
        (replace(GOOD, probes_ok=2), 1309, "wait"),
        (replace(GOOD, probes_ok=2), 1310, "roll_back"),  # canary_s + ready_s + abandoned_s
        (replace(GOOD, mismatch="row 0: label is 1; expected 0"), 1011, "roll_back"),
        (replace(GOOD, probes_failed=3), 1011, "wait"),  # a route takes a moment
        (replace(GOOD, probes_failed=4), 1011, "roll_back"),
        (replace(GOOD, probes_failed=4, probes_ok=50), 1065, "wait"),  # 4 of 54 is below a tenth
        (replace(GOOD, canary=Tally(19, 19)), 1011, "wait"),  # min_requests
        (replace(GOOD, canary=Tally(20, 20)), 1011, "roll_back"),
        (replace(GOOD, canary=Tally(100, 1, 5, 20)), 1011, "wait"),  # 1 % more is allowed
        (replace(GOOD, canary=Tally(100, 2, 5, 20)), 1011, "roll_back"),
        (replace(GOOD, canary=Tally(100, 2, 5, 20), champion=Tally(100, 2, 5, 18)), 1011, "wait"),  # both fail alike
        (replace(GOOD, canary=Tally(100, 0, 5, 50)), 1011, "wait"),  # at the floor
        (replace(GOOD, canary=Tally(100, 0, 5, 51)), 1011, "roll_back"),  # 2.8 times the champion's, over the floor
        (replace(GOOD, canary=Tally(100, 0, 5, 51), champion=Tally(100, 0, 5, 26)), 1011, "wait"),  # twice: 52
        (replace(GOOD, canary=Tally(100, 0, 5, 900), champion=Tally(19, 0, 5, 10)), 1011, "wait"),  # too few to compare
        # Nobody else asked: the probes tell how fast both are.
        (replace(GOOD, canary=Tally(0, 0, 5, 900, 20), champion=Tally(0, 0, 5, 10, 20)), 1011, "roll_back"),
        (replace(GOOD, canary=Tally(0, 0, 5, 900, 19), champion=Tally(0, 0, 5, 10, 20)), 1011, "wait"),
    ],
)
def test_a_canary_is_promoted_when_its_time_is_over_and_taken_back_when_it_does_harm(
    seen: Observation, now: float, action: str
) -> None:
    assert canary.decide(WATCHED, seen, now, LIMITS)[1].action == action


def test_a_first_version_is_promoted_as_soon_as_it_is_ready_for_there_is_nothing_to_compare_with() -> None:
    first = replace(STARTED, champion=None, champion_revision=None)
    state, decision = canary.decide(first, Observation(READY), 1001, LIMITS)
    assert (decision.action, state.phase) == ("promote", "promoting")


@pytest.mark.parametrize(
    ("state", "revision", "now", "action"),
    [
        (REVERTING, UNKNOWN, 1021, "wait"),
        (REVERTING, READY, 1021, "finish"),
        (REVERTING, UNKNOWN, 1200, "finish"),  # the champion answers by name all the while
        (replace(REVERTING, champion=None), FAILED, 1021, "finish"),  # nothing to go back to
        (replace(REVERTING, phase="promoting"), UNKNOWN, 1021, "wait"),
        (replace(REVERTING, phase="promoting"), READY, 1021, "finish"),
    ],
)
def test_a_rollout_ends_when_its_traffic_has_settled(
    state: Canary, revision: Readiness, now: float, action: str
) -> None:
    after, decision = canary.decide(state, Observation(revision), now, LIMITS)
    assert (decision.action, after) == (action, state)


def test_what_was_decided_keeps_its_reason_and_evidence_for_whoever_finishes_it() -> None:
    state, decision = canary.decide(replace(WATCHED, evidence={"gate": {"rows": 9}}), GOOD, 1070, LIMITS)
    assert (state.phase, state.phase_since, state.reason) == ("promoting", 1070, decision.reason)
    assert state.evidence["gate"] == {"rows": 9}
    assert state.evidence["watch"]["canary"]["requests"] == 100


def test_the_reason_of_a_rollback_names_both_figures() -> None:
    _, decision = canary.decide(WATCHED, replace(GOOD, canary=Tally(100, 7, 5, 20)), 1011, LIMITS)
    assert decision.reason.startswith("7 of 100 requests failed (7.0%); the champion's share is 0.0%")


def test_a_state_survives_the_annotation_it_is_kept_in() -> None:
    assert Canary.from_annotation(WATCHED.to_annotation()) == WATCHED


@pytest.mark.parametrize("text", ["", "yes", "[]", '{"version": "v2"}', "null"])
def test_an_annotation_that_spells_no_state_counts_as_no_rollout(text: str) -> None:
    assert Canary.from_annotation(text) is None


@pytest.mark.parametrize(("now", "abandoned"), [(1000, False), (1480, False), (1481, True)])
def test_a_rollout_past_all_its_deadlines_has_lost_its_watcher(now: float, abandoned: bool) -> None:
    assert canary.is_abandoned(WATCHED, now, LIMITS) is abandoned  # 2 × 180 + 60 + 60 s
