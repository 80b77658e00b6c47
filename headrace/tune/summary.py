"""What `headrace tune` prints: rows for tables, sentences, and the same as plain values for programs. Pure."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from headrace.tune import advice, words
from headrace.tune.aims import Candidate
from headrace.tune.simulation import Outcome
from headrace.tune.tuning import Tuned
from headrace.tune.world import Setting
from knative.settings import GROUP

COLUMNS = ("SETTING", "P50", "P95", "P99", "COLD", "5XX", "POD TIME", "PODS AT MOST")


def columns(price: float | None) -> list[str]:
    """The table's heads; a price per pod-hour adds a column."""
    return [*COLUMNS, *(["COST"] if price is not None else [])]


def row(name: str, outcome: Outcome, price: float | None) -> list[str]:
    """One setting's figures."""
    return [
        name,
        words.milliseconds(outcome.p50_s),
        words.milliseconds(outcome.p95_s),
        words.milliseconds(outcome.p99_s),
        words.share(outcome.cold_share),
        words.share(outcome.failed_share),
        words.pod_time(outcome.pod_seconds),
        str(outcome.most_pods),
        *([money(outcome, price)] if price is not None else []),
    ]


def money(outcome: Outcome, price: float) -> str:
    """What the pods cost, in the price's own currency."""
    return f"{cost(outcome, price):,.2f}"


def cost(outcome: Outcome, price: float) -> float:
    """The same as a number."""
    return outcome.pod_seconds / 3600 * price


def compared(tuned: Tuned, price: float | None) -> list[list[str]]:
    """The present and the recommended setting, and the ends of the front."""
    front = tuned.found.front
    rows = [row("present", tuned.present.outcome, price)]
    rows.append(row("recommended", tuned.advice.recommended.outcome, price))
    if len(front) > 1:
        rows.append(row("cheapest of the front", front[0].outcome, price))
        rows.append(row("fastest of the front", front[-1].outcome, price))
    return rows


def front_rows(tuned: Tuned, price: float | None) -> list[list[str]]:
    """Some of the front, cheapest first."""
    return [row(short(c.setting, tuned), c.outcome, price) for c in tuned.advice.front]


def short(setting: Setting, tuned: Tuned) -> str:
    """What a setting has other than the present one: `target 5, window 2m`."""
    before, after = dict(tuned.wish.present.setting.annotations), dict(setting.annotations)
    parts = [f"{name_of(key)} {value}" for key, value in after.items() if before.get(key) != value]
    parts += [f"no {name_of(key)}" for key in before if key not in after]
    if setting.container_concurrency != tuned.wish.present.setting.container_concurrency:
        parts.append(f"containerConcurrency {setting.container_concurrency}")
    return ", ".join(parts) or "as now"


def name_of(key: str) -> str:
    """An annotation's name without its group."""
    return key.removeprefix(f"{GROUP}/")


def details(tuned: Tuned, price: float | None) -> list[tuple[str, list[str]]]:
    """What explains the result: reasons, the front, what was assumed; a heading and its lines each."""
    reasons = [f"{r.name} {r.value or '(not set)'}: {r.does} {r.otherwise}" for r in tuned.advice.reasons]
    front = [
        f"{r[6]:>10}  p95 {r[2]:>8}  {r[0]}" for r in front_rows(tuned, price)
    ]  # fmt: skip
    assumed = [f"{a.says} {a.error}" for a in tuned.assumptions]
    parts = [("Why:", reasons), ("The front, from the cheapest on:", front), ("Assumed:", assumed)]
    return [(heading, lines) for heading, lines in parts if lines]


def traffic_lines(tuned: Tuned) -> list[str]:
    """What was simulated, in sentences."""
    traffic, world = tuned.traffic, tuned.world
    span = max(traffic.span_s, 1e-9)
    return [
        f"traffic: {traffic.source}",
        f"         {traffic.count:,} requests in {length(traffic.span_s)}, {traffic.count / span:.3g} a second on "
        f"average, {traffic.service_s.sum() / span:.3g} in service at once",
        f"search:  {tuned.found.tried} settings tried"
        + (f", {len(tuned.found.candidates)} of them on all of it" if tuned.found.screened else "")
        + f", in {tuned.seconds:.1f} s; pods serve {world.pod_capacity} at once",
    ]


def length(seconds: float) -> str:
    """`42 s`, `1.5 h`."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def verdict(tuned: Tuned) -> str:
    """Whether the aim is met, in one sentence."""
    aim, outcome = tuned.wish.aim, tuned.advice.recommended.outcome
    draws = (outcome, *tuned.advice.draws)
    worst = max((o.p95_s for o in draws if not math.isnan(o.p95_s)), default=math.nan)
    cost = words.pod_time(outcome.pod_seconds)
    spread = f"p95 {words.milliseconds(outcome.p95_s)} for {cost} of pods"
    if worst > outcome.p95_s * 1.005:
        spread += f"; drawn {len(draws)} times, p95 was {words.milliseconds(worst)} at most"
    wanted = [
        *([f"p95 below {words.milliseconds(aim.p95_s)}"] if aim.p95_s else []),
        *([f"p99 below {words.milliseconds(aim.p99_s)}"] if aim.p99_s else []),
        *([f"at most {words.pod_time(aim.pod_seconds)} of pods"] if aim.pod_seconds else []),
    ]
    if aim.is_knee:
        head = "The knee of the front: from here on, a percent of latency costs more than a percent of pods."
    elif tuned.advice.holds:
        head = f"Meets {' and '.join(wanted)}."
    else:
        head = f"No setting that was tried meets {' and '.join(wanted)} surely; this one comes closest."
    tail = ""
    if outcome.failed_share > aim.max_failed:
        tail = f" {words.share(outcome.failed_share)} of the requests still end with 5xx."
    if outcome.clipped:
        tail += " It wanted more pods than are simulated."
    return f"{head} It has {spread}.{tail}"


def to_json(tuned: Tuned, price: float | None) -> dict[str, Any]:
    """Everything, for programs: seconds, shares between 0 and 1."""
    present, recommended = tuned.wish.present, tuned.advice.recommended
    return {
        "traffic": {
            "source": tuned.traffic.source,
            "requests": tuned.traffic.count,
            "span_s": tuned.traffic.span_s,
            "repairs": list(tuned.traffic.repairs),
        },
        "present": _candidate(tuned.present, price, series=True),
        "recommended": {
            **_candidate(recommended, price, series=True),
            "holds": tuned.advice.holds,
            "changed": tuned.advice.changed,
            "draws": [_outcome(o, price) for o in tuned.advice.draws],
            "yaml": advice.paste(recommended.setting, present),
            "patch": advice.patch(recommended.setting, present),
            "command": advice.command(recommended.setting, present),
            "reasons": [
                {
                    "annotation": r.name,
                    "value": r.value,
                    "instead": r.instead,
                    "does": r.does,
                    "otherwise": r.otherwise,
                    "without": _outcome(r.without, price),
                }
                for r in tuned.advice.reasons
            ],
        },
        "front": [_candidate(c, price) for c in tuned.found.front],
        "candidates": [_candidate(c, price) for c in tuned.found.candidates],
        "screened": tuned.found.screened,
        "assumptions": [dataclasses.asdict(a) for a in tuned.assumptions],
        "seconds": tuned.seconds,
    }


def _candidate(candidate: Candidate, price: float | None, *, series: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {
        "annotations": dict(candidate.setting.annotations),
        "container_concurrency": candidate.setting.container_concurrency,
        **_outcome(candidate.outcome, price),
    }
    over_time = candidate.outcome.series
    if series and over_time is not None:
        arrays = {f.name: getattr(over_time, f.name) for f in dataclasses.fields(over_time) if f.name != "bin_s"}
        found["over_time"] = {
            "bin_s": over_time.bin_s,
            **{
                name: [None if math.isnan(v) else round(v, 6) for v in values.tolist()]
                for name, values in arrays.items()
            },
        }
    return found


def _outcome(outcome: Outcome, price: float | None) -> dict[str, Any]:
    named = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome) if f.name != "series"}
    plain = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in named.items()}
    plain |= {"failed_share": outcome.failed_share, "cold_share": outcome.cold_share}
    return plain | ({"cost": cost(outcome, price)} if price is not None else {})
