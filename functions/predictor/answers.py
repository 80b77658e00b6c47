"""What a protocol says: answers and refusals. No protocol knows Flask, so that none of them pays for it.

Source: statuses and the key `error` are what tritonclient, kserve and TensorFlow Serving's clients expect
(Open Inference Protocol V2, "Inference errors"; TensorFlow Serving's REST API, "Error").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from eventing.errors import HeadraceError, Rejected, RetryLater
from monitoring import predictions

if TYPE_CHECKING:
    from functions.package import Signature

BAD_REQUEST, NOT_FOUND, TOO_LARGE, UNSUPPORTED_MEDIA, FAILED, UNSUPPORTED, UNAVAILABLE = (
    400,
    404,
    413,
    415,
    500,
    501,
    503,
)
JSON_CONTENT_TYPE = "application/json"
MAX_FAULTS = 20  # enough to mend a request by; the rest is counted
MAX_NAMES, MAX_RANGES = 40, 8  # of inputs, of rows in one fault

PROBE: Final = "HTTP_" + predictions.PROBE_HEADER.upper().replace("-", "_")
"""The key of a request by which somebody asks only to see how the model answers: the drift watch must not learn of it.
"""

Environ = Mapping[str, Any]
"""The WSGI environment of a request."""


@dataclass(slots=True)  # a value, and not frozen: making a frozen one costs a request a microsecond more
class Answer:
    """A response: `body` is bytes of `content_type`."""

    status: int
    body: bytes
    content_type: str = JSON_CONTENT_TYPE
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(HeadraceError):
    """A request that gets an error, with the HTTP status that the protocol's clients expect.

    faults: every fault found, each a sentence: which input, what was seen, what the signature says.
    """

    def __init__(
        self, status: int, reason: str, faults: Sequence[str] = (), retry_after_s: float | None = None
    ) -> None:
        named = list(faults[:MAX_FAULTS])
        if len(faults) > MAX_FAULTS:
            named.append(f"and {len(faults) - MAX_FAULTS} more")
        super().__init__(f"{reason}: " + "; ".join(named) if named else reason)
        self.status = status
        self.retry_after_s = retry_after_s

    def answer(self) -> Answer:
        headers = () if self.retry_after_s is None else (("Retry-After", str(max(1, round(self.retry_after_s)))),)
        return Answer(self.status, orjson.dumps({"error": str(self)}), headers=headers)


def misfit(signature: Signature, faults: Sequence[str]) -> Refusal:
    """The refusal of a request whose tensors do not fit: every fault, and which inputs would."""
    names = [spec.name for spec in signature.inputs]
    inputs = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
    return Refusal(BAD_REQUEST, f"the request does not fit the model, whose inputs are {inputs}", faults)


def ranges(rows: Sequence[int]) -> str:
    """Ascending row numbers in words: `row 3`, `rows 0-2, 5 and 7-1000`, cut where they are many."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    words = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:MAX_RANGES]]
    if rest := sum(last - first + 1 for first, last in runs[MAX_RANGES:]):
        words.append(f"{rest} more")
    told = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
    return f"row{'s' if len(rows) > 1 else ''} {told}"


def json_answer(value: Any, status: int = 200) -> Answer:
    """`value` as JSON; arrays of numbers too, NaN and infinities as null."""
    return Answer(status, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; NaN and Infinity may stand bare, as TensorFlow Serving's clients write them.

    Raises Refusal (400) for anything else.
    """
    try:
        value = orjson.loads(body)
    except ValueError:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as e:
            raise Refusal(BAD_REQUEST, f"the body is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise Refusal(BAD_REQUEST, f"the body is a JSON {type(value).__name__}; expected an object")
    return value


def refused(error: Refusal | Rejected | RetryLater) -> Answer:
    """The answer that a verdict becomes over HTTP."""
    if isinstance(error, Refusal):
        return error.answer()
    if isinstance(error, RetryLater):
        return Refusal(UNAVAILABLE, str(error), retry_after_s=error.after_s).answer()
    return Refusal(BAD_REQUEST, str(error)).answer()
