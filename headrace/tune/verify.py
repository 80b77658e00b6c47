"""Recorded decisions of Knative's autoscaler, made again by ours: where do they differ?

A recorded case holds what an operator set, and what the autoscaler saw: scrapes, and the ready pods at each decision.
From these everything is derived anew; what Knative derived (`derived`) and decided (a tick's results) is compared and
never read otherwise. Called by `headrace tune --verify`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventing.errors import Misconfigured
from headrace.recorded import Line, lines
from knative import autoscaler, settings
from knative.autoscaler import Config, Decision, Observation, Scrape, Spec
from knative.literals import seconds

LONGEST_WINDOW_NS = 24 * settings.WINDOW_MAX_NS  # a bucket per second is kept: beyond, it is a slip, not a window
LARGEST_TIME_S = 1e9


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment of decision. ready: pods ready then; recorded: Knative's results, by their names in the recording."""

    at_s: float
    ready: int
    recorded: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded revision. derived: what Knative made of its settings, empty where that was not recorded."""

    name: str
    spec: Spec
    derived: Mapping[str, Any]
    events: tuple[Scrape | Tick, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that Knative made otherwise: the case, its number from 1, when, and both sides by field."""

    case: str
    number: int
    at_s: float
    ready: int
    recorded: Mapping[str, Any]
    ours: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Derived:
    """A case of whose settings Knative made something else; both sides, of the fields that differ alone."""

    case: str
    recorded: Mapping[str, Any]
    ours: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What a file of recordings says. differ: decisions; first: the first of them in each case."""

    cases: int
    decisions: int
    differ: int
    first: tuple[Difference, ...]
    derived: tuple[Derived, ...]

    @property
    def agrees(self) -> bool:
        return not self.differ and not self.derived


def verify(path: Path) -> Report:
    """Every decision of the file made again. Raises Misconfigured, with file and line, where it is no recording."""
    cases = decisions = differ = 0
    first: list[Difference] = []
    derived: list[Derived] = []
    for line in lines(path):
        case = read(line)
        cases += 1
        derived += [understood] if (understood := compare_derived(case)) else []
        differing = 0
        for number, (tick, ours) in enumerate(decide(case), 1):
            decisions += 1
            if (found := compare(case.name, number, tick, ours)) is not None:
                first += [found] if not differing else []
                differing += 1
        differ += differing
    return Report(cases, decisions, differ, tuple(first), tuple(derived))


# ---------------------------------------------------------------- a case


def read(line: Line) -> Case:
    """The case that a line of the recording holds."""
    try:
        config = Config.from_map(line.texts("config_autoscaler", {}))
    except Misconfigured as e:
        raise Misconfigured(f"{line.where}: config_autoscaler", str(e), "settings that Knative takes") from e
    spec = autoscaler.resolve(
        line.texts("annotations"), config, line.whole("container_concurrency", 0, 0), line.flag("reachable", True)
    )
    if not 0 < spec.stable_window_ns <= LONGEST_WINDOW_NS or spec.panic_window_ns > LONGEST_WINDOW_NS:
        windows = f"{seconds(spec.stable_window_ns):g}s and {seconds(spec.panic_window_ns):g}s"
        line.refuse("annotations", windows, "stable and panic windows above 0s, of a day at most")
    derived = line.get("derived")
    return Case(
        name=line.text("name", line.where.rpartition(", ")[2]),
        spec=spec,
        derived={} if derived is None else _mapping(line, "derived", derived),
        events=tuple(_event(line, f"events[{index}]", event) for index, event in enumerate(line.items("events"))),
    )


def _mapping(line: Line, field: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        line.refuse(field, value, "an object")
    return value


def _event(line: Line, place: str, event: Any) -> Scrape | Tick:
    of = line.within(place, event)
    if of.has("stat") == of.has("tick"):
        line.refuse(place, sorted(event), "either stat or tick")
    if of.has("stat"):
        stat = of.within("stat", of.get("stat"))
        return Scrape(
            _moment(stat),
            stat.number("concurrency", 0.0),
            stat.number("requests", 0.0),
            stat.number("proxied_concurrency", 0.0),
            stat.number("proxied_requests", 0.0),
        )
    tick = of.within("tick", of.get("tick"))
    recorded: dict[str, Any] = {"valid": tick.flag("valid")}
    if recorded["valid"]:
        recorded |= {name: tick.number(name) for name in ("stable", "panic")}
        recorded |= {name: tick.whole(name) for name in ("desired", "excess_burst_capacity")}
    return Tick(_moment(tick), tick.whole("ready", least=0), recorded)


def _moment(of: Line) -> float:
    at_s = of.number("t")
    if not abs(at_s) <= LARGEST_TIME_S:
        of.refuse("t", at_s, "seconds since the case began")
    return at_s


# ---------------------------------------------------------------- both sides


def decide(case: Case) -> Iterator[tuple[Tick, Decision]]:
    """Our decision at each tick of the case."""
    # It starts with the pods that its first decision sees: nothing has been decided that could have changed them.
    ready = next((event.ready for event in case.events if isinstance(event, Tick)), 0)
    state = autoscaler.start(case.spec, ready, 0.0)
    scrapes: list[Scrape] = []
    for event in case.events:
        if isinstance(event, Scrape):
            scrapes.append(event)
            continue
        state, decision = autoscaler.decide(state, Observation(event.ready, tuple(scrapes)), event.at_s)
        scrapes.clear()
        yield event, decision


def compare(case: str, number: int, tick: Tick, decision: Decision) -> Difference | None:
    """None where they agree to the last bit. Where both say that there is no data, there is nothing else to compare."""
    ours: dict[str, Any] = {"valid": decision.valid}
    if decision.valid:
        ours |= {
            "stable": decision.stable,
            "panic": decision.panic,
            "desired": decision.desired,
            "excess_burst_capacity": decision.excess_burst_capacity,
        }
    if ours == tick.recorded:
        return None
    return Difference(case, number, tick.at_s, tick.ready, tick.recorded, ours, decision.reason)


def compare_derived(case: Case) -> Derived | None:
    """What of the settings Knative understood otherwise; recorded fields that we do not know are passed over."""
    ours = derived(case)
    both = {name: value for name, value in case.derived.items() if name in ours}
    wrong = [name for name, value in both.items() if not _same(value, ours[name])]
    if not wrong:
        return None
    return Derived(case.name, {name: both[name] for name in wrong}, {name: ours[name] for name in wrong})


def derived(case: Case) -> dict[str, Any]:
    """What we make of the case's settings, under the names of a recording's `derived`."""
    spec = case.spec
    names = (
        "metric", "weighted", "target_value", "total_value", "target_burst_capacity", "panic_threshold",
        "max_scale_up_rate", "max_scale_down_rate", "min_scale", "max_scale", "initial_scale", "activation_scale",
    )  # fmt: skip
    first = next((event.ready for event in case.events if isinstance(event, Tick)), None)
    return {
        **{name: getattr(spec, name) for name in names},
        "stable_window_s": seconds(spec.stable_window_ns),
        "panic_window_s": seconds(spec.panic_window_ns),
        "scale_down_delay_s": seconds(spec.scale_down_delay_ns),
        "scale_to_zero_pod_retention_s": seconds(spec.pod_retention_ns),
        **({} if first is None else {"starts_ready": first}),
    }


def _same(recorded: Any, ours: Any) -> bool:
    if isinstance(ours, float) and isinstance(recorded, int) and not isinstance(recorded, bool):
        recorded = float(recorded)  # JSON writes 2.0 as 2, and a large one shortened
    return bool(recorded == ours)
