"""A campaign: families of cases, each in batches that a seed repeats, against one predictor; counts, faults, memory."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tests.fuzz import bodies, documents, events, judge, messages, paths
from tests.fuzz.target import Target
from tests.fuzz.wire import Request

BATCH = 1000  # cases of one run of hypothesis, which remembers each of them
WARM = 300  # cases of each family before memory is first looked at: what is imported and cached once is there
CHECK_EVERY = 100  # cases; then the one question must be answered as ever
# What a heap may wander by, threads and fragments included; a leak of 100 bytes a case is 10 MiB in 100,000.
GROWTH_MIB = 12.0

Ask = Callable[[Any], object]
"""Sends one case, gives what it is counted as. Raises AssertionError where the answer is none that it may be."""


@dataclass(frozen=True)
class Family:
    """Cases of one kind. share: of a campaign's cases, in parts of the sum. over: who is asked."""

    name: str
    share: int
    over: str = "http"


FAMILIES = (
    Family("v1", 14),
    Family("v2-json", 14),
    Family("v2-binary", 26),
    Family("encodings", 10),
    Family("junk", 4),
    Family("events-binary", 16),
    Family("events-structured", 10),
    Family("events-batched", 6),
    Family("paths", 8),
    Family("openapi", 4),
    Family("grpc", 12, "grpc"),
)
_REQUESTS: dict[str, Callable[[], st.SearchStrategy[Request]]] = {
    "v1": bodies.v1,
    "v2-json": bodies.v2_json,
    "v2-binary": bodies.v2_binary,
    "encodings": bodies.encoded,
    "junk": bodies.junk,
    "events-binary": events.by_headers,
    "events-structured": events.in_json,
    "events-batched": events.in_batches,
    "paths": lambda: paths.anywhere() | paths.described(),
}


@dataclass
class Result:
    """What came of one family."""

    family: str
    cases: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    """Each with the command that repeats it."""


class Cases:
    """One family's cases against one target, from `with` to its end."""

    def __init__(self, family: Family, target: Target) -> None:
        self.result = Result(family.name)
        self._family = family
        self._target = target
        self._closing = ExitStack()

    def __enter__(self) -> Cases:
        self._strategy, self._ask = self._made()
        return self

    def __exit__(self, *raised: object) -> None:
        self._closing.close()

    def batch(self, seed: int, number: int, cases: int) -> None:
        """Draw and send up to `cases` of them; a fault is made as small as it gets, and told in the result."""
        result, left = self.result, cases

        @hypothesis.seed(f"{seed}/{self._family.name}/{number}")
        @hypothesis.settings(
            max_examples=cases,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @hypothesis.given(self._strategy)
        def send(case: Any) -> None:
            result.cases += 1
            began = time.perf_counter()
            try:
                told = self._ask(case)
            except AssertionError as e:
                raise AssertionError(f"{e}\n  {repr(case)[:3000]}") from e
            result.counts[str(told)] += 1
            result.slowest_s = max(result.slowest_s, time.perf_counter() - began)
            if self._family.over == "http" and result.cases % CHECK_EVERY == 0:
                self._target.check()

        began = time.perf_counter()
        try:
            send()
        except (AssertionError, Flaky) as e:
            command = f"python -m tests.fuzz --family {self._family.name} --seed {seed} --batch {number} --cases {left}"
            result.faults.append(f"{e}\n  again: {command}")
        result.seconds += time.perf_counter() - began

    def _made(self) -> tuple[st.SearchStrategy[Any], Ask]:
        if self._family.name == "openapi":
            documented = documents.Documented(self._target.url)
            self._closing.callback(documented.close)
            return st.one_of(documented.strategies()), documented.ask
        if self._family.over == "grpc":
            caller = messages.Caller(self._target.port)
            self._closing.callback(caller.close)
            return messages.calls(), lambda case: caller.ask(*case)
        connection = self._target.connection()
        self._closing.callback(connection.close)

        def ask(request: Request) -> str:
            answer = connection.ask(request)
            fault = judge.fault(request, answer)
            assert fault is None, f"{fault}: {answer.body[:300]!r}"
            return str(answer.status)

        return _REQUESTS[self._family.name](), ask


def shares(families: tuple[Family, ...], cases: int) -> Iterator[tuple[Family, int]]:
    """How many of all cases each family has."""
    parts = sum(family.share for family in families)
    for family in families:
        yield family, max(1, round(cases * family.share / parts))
