"""How one version of a model replaces another: the state of a running canary, each decision about it, all of it pure.

Used by the promoter. The state is kept as an annotation on the model's Knative Service (`knative.rollout`), so whoever
reads the Service can go on from there.

    starting ──ready──► watching ──good──► promoting ──settled──► (over: promoted)
        └───────failed──────┴─────bad────► reverting ──settled──► (over: rolled back)

Source: the thresholds are ours; comparing a canary with its champion in the same minutes, and not with the past, is
from the Site Reliability Workbook, chapter "Canarying Releases".
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Phase = Literal["starting", "watching", "promoting", "reverting"]
Action = Literal["wait", "shift", "promote", "roll_back", "finish"]


@dataclass(frozen=True, slots=True)
class Canary:
    """One running rollout: what the annotation holds."""

    version: str
    champion: str | None
    """The version that served when it began; None: none did, so there is nothing to compare with or to go back to."""
    champion_revision: str | None
    since: float
    """When it began, seconds since 1970."""
    phase: Phase
    phase_since: float
    event: str
    """Id of the event that began it."""
    revision: str | None = None
    """The challenger's, once it is known to be ready."""
    reason: str = ""
    """Why it is promoting or reverting."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """What the gate, and then the watch, measured."""

    def to_annotation(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_annotation(cls, text: str) -> Canary | None:
        """The rollout that `text` spells; None for what no Headrace wrote, which then counts as no rollout."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Readiness:
    """A `Ready` condition that speaks of the newest spec."""

    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    """Knative's reason and message."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What one revision has answered since the watch began."""

    requests: int = 0
    """Asked by others than the watch itself."""
    errors: int = 0
    """Answers that were the server's fault."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    probes: int = 0
    """Asked by the watch; both percentiles are over these too."""

    @property
    def error_share(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    @property
    def timed(self) -> int:
        """How many answers the percentiles are over."""
        return self.requests + self.probes


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a rollout at one moment."""

    revision: Readiness
    """Of the revision that is to serve in the end: the challenger's, or, while reverting, the champion's new one."""
    canary: Tally = Tally()
    champion: Tally = Tally()
    probes_ok: int = 0
    probes_failed: int = 0
    """Probes that got no answer, or one that says the server failed."""
    mismatch: str = ""
    """The first answer to a probe that was not the expected one, in words; empty while there is none."""

    def evidence(self) -> dict[str, Any]:
        """The figures, for an event and for a person."""
        probes: dict[str, Any] = {"ok": self.probes_ok, "failed": self.probes_failed}
        if self.mismatch:
            probes["mismatch"] = self.mismatch
        return {"canary": asdict(self.canary), "champion": asdict(self.champion), "probes": probes}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a canary may do before it is taken back."""

    ready_s: float = 180.0
    """A revision that is not ready by then is taken back."""
    failure_grace_s: float = 20.0
    """How long a revision may say Ready=False: a container that crashed once may come up at its second start."""
    canary_s: float = 60.0
    """How long the canary is watched."""
    canary_percent: int = 20
    """Share of the traffic that the canary answers meanwhile."""
    min_requests: int = 20
    """Below this many requests, errors and latency are chance and say nothing."""
    max_error_share: float = 0.01
    """How much larger than the champion's the canary's share of errors may be."""
    max_latency_factor: float = 2.0
    """How many times the champion's 95th percentile the canary's may be…"""
    latency_floor_ms: float = 50.0
    """…once it is above this: twice nothing is still nothing."""
    min_probes: int = 3
    """No promotion before this many probes were answered as expected."""
    max_probes_failed: int = 3
    """More probes without an answer than this, and more than a tenth of all, take the canary back."""
    abandoned_s: float = 60.0
    """A rollout this long past all its deadlines has lost its watcher: whoever comes next drives it to its end."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and why in words."""

    action: Action
    reason: str


def decide(state: Canary, seen: Observation, now: float, limits: Limits) -> tuple[Canary, Decision]:
    """The rollout's next state and what brings it there.

    `wait` leaves everything as it is; `shift` gives the canary its share; `promote` and `roll_back` move all traffic,
    and `finish` ends a rollout whose traffic has settled.
    """
    in_phase_s = now - state.phase_since
    if state.phase == "starting":
        decision = _decide_starting(state, seen.revision, in_phase_s, limits)
    elif state.phase == "watching":
        decision = _decide_watching(state, seen, in_phase_s, limits)
    else:
        decision = _decide_settling(state, seen.revision, in_phase_s, limits)
    phases: dict[Action, Phase] = {"shift": "watching", "promote": "promoting", "roll_back": "reverting"}
    if decision.action not in phases:
        return state, decision
    reason = "" if decision.action == "shift" else decision.reason
    evidence = state.evidence | ({"watch": seen.evidence()} if state.phase == "watching" else {})
    phase = phases[decision.action]
    return replace(state, phase=phase, phase_since=now, reason=reason, evidence=evidence), decision


def _decide_starting(state: Canary, ready: Readiness, in_phase_s: float, limits: Limits) -> Decision:
    if ready.status == "True":
        if state.champion is None:
            return Decision("promote", "nothing served before, and its revision is ready")
        return Decision("shift", f"the revision is ready; {limits.canary_percent} % of the traffic goes to it")
    if ready.status == "False" and in_phase_s >= limits.failure_grace_s:
        return Decision("roll_back", f"its revision failed to start: {ready.reason}")
    if in_phase_s >= limits.ready_s:
        return Decision("roll_back", f"its revision was not ready after {limits.ready_s:g} s: {ready.reason}")
    return Decision("wait", f"waiting for the revision: {ready.reason}")


def _decide_watching(state: Canary, seen: Observation, in_phase_s: float, limits: Limits) -> Decision:
    canary, champion = seen.canary, seen.champion
    if seen.mismatch:
        return Decision("roll_back", f"a probe was answered wrongly: {seen.mismatch}")
    probes = seen.probes_ok + seen.probes_failed
    if seen.probes_failed > limits.max_probes_failed and seen.probes_failed > probes / 10:
        return Decision("roll_back", f"{seen.probes_failed} of {probes} probes got no answer")
    if canary.requests >= limits.min_requests and canary.error_share > champion.error_share + limits.max_error_share:
        return Decision(
            "roll_back",
            f"{canary.errors} of {canary.requests} requests failed ({canary.error_share:.1%}); "
            f"the champion's share is {champion.error_share:.1%}, {limits.max_error_share:.1%} more is allowed",
        )
    # Both sides need enough answers: a champion that answered twice has no 95th percentile.
    timed = min(canary.timed, champion.timed)
    if timed >= limits.min_requests and canary.p95_ms is not None and champion.p95_ms is not None:
        allowed_ms = max(limits.latency_floor_ms, champion.p95_ms * limits.max_latency_factor)
        if canary.p95_ms > allowed_ms:
            return Decision(
                "roll_back",
                f"95 % of its answers took up to {canary.p95_ms:.0f} ms; the champion's {champion.p95_ms:.0f} ms "
                f"allow {allowed_ms:.0f} ms",
            )
    if in_phase_s < limits.canary_s:
        return Decision("wait", f"watching: {in_phase_s:.0f} of {limits.canary_s:g} s")
    if seen.probes_ok >= limits.min_probes:
        return Decision(
            "promote",
            f"{canary.requests} requests, {canary.errors} errors and {seen.probes_ok} probes answered as expected "
            f"in {in_phase_s:.0f} s at {limits.canary_percent} % of the traffic",
        )
    # A watcher that came late, after another died, has seen nothing yet.
    if in_phase_s >= limits.canary_s + limits.ready_s + limits.abandoned_s:
        return Decision("roll_back", f"only {seen.probes_ok} probes were answered in {in_phase_s:.0f} s")
    return Decision("wait", f"{seen.probes_ok} of {limits.min_probes} probes answered")


def _decide_settling(state: Canary, ready: Readiness, in_phase_s: float, limits: Limits) -> Decision:
    if ready.status == "True":
        return Decision("finish", "the traffic has settled")
    if state.phase == "reverting" and state.champion is None:
        return Decision("finish", "nothing served before, so there is nothing to go back to")
    # The champion's revision answers by name all the while: a template that never gets ready harms nobody.
    if in_phase_s >= limits.ready_s:
        return Decision("finish", f"not settled after {limits.ready_s:g} s: {ready.reason}")
    return Decision("wait", f"waiting for the traffic to settle: {ready.reason}")


def is_abandoned(state: Canary, now: float, limits: Limits) -> bool:
    """Whether nobody can be watching any more: a living watcher would have ended it long before."""
    return now - state.since > 2 * limits.ready_s + limits.canary_s + limits.abandoned_s
