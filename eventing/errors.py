"""The verdicts: what all of Headrace says when it cannot say yes.

    HeadraceError
    ├── Misconfigured        a setting cannot work; refused at start, with its key
    └── Verdict
        ├── Rejected         this event can never succeed; delivering it again changes nothing
        └── RetryLater       the same event may yet succeed

Everything else that escapes is a fault nobody foresaw: the receiver answers 500 and the event is delivered again,
because guessing Rejected for an unknown fault loses an event. `eventing.receiver` turns verdicts into HTTP statuses,
`trainers.job` into exit statuses. This module imports nothing of ours, so nothing loops.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


class HeadraceError(Exception):
    """The root of every error that Headrace raises on purpose."""


class Misconfigured(HeadraceError):
    """A setting was refused at start: its key, what was seen, what was expected."""

    def __init__(self, key: str, seen: object, expected: str) -> None:
        super().__init__(f"{key} is {seen!r}; expected {expected}")
        self.key = key
        self.seen = seen
        self.expected = expected


class Verdict(HeadraceError):
    """A judgement on one event, for whoever delivered it."""

    exit_status: int


class Rejected(Verdict):
    """This event can never succeed: HTTP 422, exit status EX_DATAERR (65).

    faults: every fault found, each a sentence that names what was seen and what was expected.
    """

    exit_status = os.EX_DATAERR

    def __init__(self, reason: str, faults: Sequence[str] = ()) -> None:
        super().__init__(reason if not faults else f"{reason}: " + "; ".join(faults))
        self.reason = reason
        self.faults = tuple(faults)


class RetryLater(Verdict):
    """The same event may yet succeed: HTTP 503 with Retry-After, exit status EX_TEMPFAIL (75).

    after_s: seconds after which another try makes sense, more than 0.
    """

    exit_status = os.EX_TEMPFAIL

    def __init__(self, reason: str, after_s: float = 5.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s
