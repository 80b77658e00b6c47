"""From what a search has found to advice: one setting, what each of its annotations does here, and how to apply it.

An annotation that changes nothing measurable is left out, so that what is recommended is as small as it can be; each
that stays is taken away once more, and the difference is its reason. Called by `headrace.commands.tune`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.tune import words
from headrace.tune.aims import Aim, Candidate
from headrace.tune.present import Present
from headrace.tune.search import Found, Simulator
from headrace.tune.simulation import Outcome, simulate
from headrace.tune.space import CONTAINER_CONCURRENCY, Knob, Space
from headrace.tune.world import Setting

DRAWS = 3  # other seeds that the recommended setting is tried with
TRIED = 5  # settings that may fail there, before the best of them is recommended with a warning
TOLERANCE = 1.01  # below one in a hundred, a difference is a draw's
NEARLY = 1.001
FRONT_SHOWN = 7
CLASS = "class"


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """What one annotation is good for here. value, instead: None for not set. without: the outcome with `instead`.
    does, otherwise: in words what it does, and what would happen with `instead`.
    """

    name: str
    value: str | None
    instead: str | None
    without: Outcome
    does: str
    otherwise: str


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """What to set. holds: whether it meets the aim, under other draws too. draws: its outcomes there. front: some of
    the front, without changes that do nothing. changed: whether it differs from the present setting.
    """

    recommended: Candidate
    holds: bool
    draws: tuple[Outcome, ...]
    reasons: tuple[Reason, ...]
    front: tuple[Candidate, ...]
    changed: bool


def advise(simulator: Simulator, space: Space, aim: Aim, found: Found) -> Advice:
    """The smallest setting that does what the best one does, with a reason for each of its annotations."""
    chosen, holds = _steady(simulator, aim, found)
    pruned = _pruned(simulator, space, aim, chosen)
    draws = tuple(simulator.again(pruned.setting, DRAWS))
    detailed = simulate(simulator.traffic, pruned.setting, space.world, seed=simulator.seed, series=True)
    recommended = Candidate(pruned.setting, detailed)
    if not aim.is_knee:
        holds = all(aim.holds(outcome) for outcome in (detailed, *draws))
    reasons = tuple(_reasons(simulator, space, recommended))
    front = tuple(_tidied(simulator, space, aim, candidate) for candidate in _thinned(found.front))
    return Advice(recommended, holds, draws, reasons, front, pruned.setting != space.present)


def _thinned(front: Sequence[Candidate]) -> list[Candidate]:
    """As many as are shown, ends included."""
    if len(front) <= FRONT_SHOWN:
        return list(front)
    return [front[round(i * (len(front) - 1) / (FRONT_SHOWN - 1))] for i in range(FRONT_SHOWN)]


def _tidied(simulator: Simulator, space: Space, aim: Aim, candidate: Candidate) -> Candidate:
    """Without the changes that do nothing one by one, if together they do nothing either."""
    turned = [k for k in space.knobs if k.read(candidate.setting) != k.read(space.present)]
    settings = [k.turned(candidate.setting, k.read(space.present)) for k in turned]
    # On a part of long traffic: whether they do nothing together is seen on all of it.
    before, *outcomes = simulator.screen([candidate.setting, *settings])
    tidy = candidate.setting
    for knob, outcome in zip(turned, outcomes, strict=True):
        if _same(outcome, before, aim):
            tidy = knob.turned(tidy, knob.read(space.present))
    if tidy == candidate.setting or not space.admits(tidy):
        return candidate
    (outcome,) = simulator.run([tidy])
    return Candidate(tidy, outcome) if _same(outcome, candidate.outcome, aim) else candidate


def _same(outcome: Outcome, other: Outcome, aim: Aim) -> bool:
    return (
        outcome.failed_share <= max(other.failed_share, aim.max_failed)
        and outcome.pod_seconds <= other.pod_seconds * NEARLY
        and aim.latency_s(outcome) <= aim.latency_s(other) * NEARLY
    )


def _steady(simulator: Simulator, aim: Aim, found: Found) -> tuple[Candidate, bool]:
    """The best that meets the aim whatever is drawn, not only in the draw that it was found with."""
    if aim.is_knee or not aim.holds(found.best.outcome):
        return found.best, aim.is_knee
    ordered = sorted(found.candidates, key=lambda c: (aim.key(c.outcome), len(c.setting.annotations)))
    for candidate in ordered[:TRIED]:
        if all(aim.holds(outcome) for outcome in simulator.again(candidate.setting, DRAWS)):
            return candidate, True
    return found.best, False


def _pruned(simulator: Simulator, space: Space, aim: Aim, chosen: Candidate) -> Candidate:
    """Without the changes that do nothing: one after the other goes back to what is set now, while nothing gets
    worse.
    """
    current = chosen
    while True:
        turned = [k for k in space.knobs if k.read(current.setting) != k.read(space.present)]
        settings = [k.turned(current.setting, k.read(space.present)) for k in turned]
        settings = [s for s in settings if space.admits(s)]
        tried = list(map(Candidate, settings, simulator.run(settings)))
        harmless = [c for c in tried if _as_good(c.outcome, chosen.outcome, aim)]
        if not harmless:
            return current
        current = min(harmless, key=lambda c: aim.key(c.outcome))


def _as_good(outcome: Outcome, best: Outcome, aim: Aim) -> bool:
    slack = TOLERANCE
    return (
        aim.excess(outcome) <= max(aim.excess(best), 0.0)
        and outcome.failed_share <= max(best.failed_share, aim.max_failed)
        and outcome.pod_seconds <= best.pod_seconds * slack
        and (aim.p95_s is not None or aim.p99_s is not None
             or aim.latency_s(outcome) <= aim.latency_s(best) * slack)
    )  # fmt: skip


def _reasons(simulator: Simulator, space: Space, recommended: Candidate) -> Iterator[Reason]:
    """For each annotation: what happens with the present value instead, or without it where it is the present one."""
    setting, with_it = recommended.setting, recommended.outcome
    cases: list[tuple[str, str | None, str | None, Setting]] = []
    knobs = {k.name: k for k in space.knobs}
    for name, keys in ((n, k) for n, k in words.KEYS.items() if n != CLASS):
        knob = knobs.get(name) or Knob(name, keys, ())
        value, present = knob.read(setting), knob.read(space.present)
        instead = present if value != present else None
        if value is None and present is None:
            continue
        other = knob.turned(setting, instead)
        if space.admits(other):
            cases.append((name, value, instead, other))
    limit = Knob(CONTAINER_CONCURRENCY, None, ())
    if limit.read(setting) != limit.read(space.present):
        other = limit.turned(setting, limit.read(space.present))
        cases.append((CONTAINER_CONCURRENCY, limit.read(setting), limit.read(space.present), other))
    outcomes = simulator.run([other for *_, other in cases])
    for (name, value, instead, _), without in zip(cases, outcomes, strict=True):
        does = words.does(name, value, setting, space.world.config, with_it.most_pods)
        otherwise = words.otherwise(name, value, instead, with_it, without, setting, space.world.config)
        yield Reason(name, value, instead, without, does, otherwise)


def paste(setting: Setting, present: Present) -> str:
    """The setting as YAML, to be pasted over a Service's template."""
    lines = ["spec:", "  template:"]
    if setting.annotations:
        lines += ["    metadata:", "      annotations:"]
        lines += [f"        {key}: {json.dumps(value)}" for key, value in setting.annotations]
    if setting.container_concurrency != present.setting.container_concurrency or not setting.annotations:
        lines += ["    spec:", f"      containerConcurrency: {setting.container_concurrency}"]
    return "\n".join(lines)


def patch(setting: Setting, present: Present) -> dict[str, Any]:
    """The JSON merge patch from the present setting to this one; what is to go is null."""
    after, before = dict(setting.annotations), dict(present.setting.annotations)
    changed: dict[str, str | None] = {key: value for key, value in after.items() if before.get(key) != value}
    changed |= {key: None for key in before if key not in after}
    template: dict[str, Any] = {}
    if changed:
        template["metadata"] = {"annotations": changed}
    if present.revision_name is not None and (changed or setting != present.setting):
        # A template that names its revision must name a new one; null lets Knative choose.
        template.setdefault("metadata", {})["name"] = None
    if setting.container_concurrency != present.setting.container_concurrency:
        template["spec"] = {"containerConcurrency": setting.container_concurrency}
    return {"spec": {"template": template}}


def command(setting: Setting, present: Present) -> str:
    """`kubectl patch …` for a shell."""
    where = f" -n {present.namespace}" if present.namespace else ""
    body = json.dumps(patch(setting, present), separators=(",", ":"))
    return f"kubectl patch ksvc {present.name or 'NAME'}{where} --type merge -p '{body}'"
