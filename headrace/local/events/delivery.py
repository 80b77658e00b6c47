"""What becomes of one attempt to deliver an event: done, again later, to the dead letter sink, or dropped.

Pure: `headrace.local.events.dispatch` posts, then asks `judge` what the answer means and `decide` what follows from it,
and writes that into the journal. The rules are those of Knative's dispatcher, odd ones included, so that a delivery
spec that is right on a laptop is right in a cluster.
Source: knative/eventing pkg/kncloudevents/{retries,event_dispatcher}.go, pkg/broker/filter/filter_handler.go,
pkg/apis/duck/v1/delivery_types.go; hashicorp/go-retryablehttp client.go, which counts retries from 0.
"""

from __future__ import annotations

import base64
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from eventing import binding
from eventing.errors import Rejected

# config-br-defaults of a Knative release: what a Broker without spec.delivery gets from the webhook.
DEFAULT_DELIVERY: Mapping[str, Any] = {"retry": 10, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S"}
# Knative waits for ever without a timeout. A connection that died in silence would keep its place for ever, so there
# is an end here, beyond what a Service may take (Knative's max-revision-timeout-seconds is 600).
DEFAULT_TIMEOUT_S = 660.0
MAX_DELAY_S = 86_400.0  # 0.2 s doubled thirty times is seven years; nobody who writes retry: 30 means that
ERROR_DATA_CHARACTERS = 1024  # KnativeErrorDataExtensionMaxLength: of the base64 text, so 768 bytes of the answer

NO_ANSWER = 500  # what Knative notes in knativeerrorcode when nobody answered
BAD_REPLY = 502  # what its filter answers for a body that is neither empty nor a CloudEvent
ACCEPTED = 202
RETRIED = frozenset({404, 408, 409, 429})
HONOUR_RETRY_AFTER = frozenset({429, 503})

_PERIOD = re.compile(
    r"(?P<sign>[-+])?P(?:(?P<Y>[\d.,]+)Y)?(?:(?P<MO>[\d.,]+)M)?(?:(?P<W>[\d.,]+)W)?(?:(?P<D>[\d.,]+)D)?"
    r"(?P<time>T(?:(?P<H>[\d.,]+)H)?(?:(?P<MI>[\d.,]+)M)?(?:(?P<S>[\d.,]+)S)?)?"
)
_SECONDS = {"Y": 365.2425 * 86400, "MO": 30.436875 * 86400, "W": 604800, "D": 86400, "H": 3600, "MI": 60, "S": 1}


class InvalidDelivery(ValueError):
    """A delivery spec cannot be followed; `faults` names every one, with its key."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class DeliverySpec:
    """How one Trigger's events are delivered."""

    retry: int = 0
    """Attempts after the first; Knative's default for a Trigger whose delivery does not say."""
    backoff_policy: str = "exponential"
    backoff_delay_s: float = 0.0
    """0: the next attempt follows at once."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """For one attempt, from connecting to the answer's last byte."""
    retry_after_max_s: float | None = None
    """Retry-After of 429 and 503 is honoured up to this; None: not at all, as while Knative's feature is alpha."""
    structured: bool = False
    """`format: json`: the event goes out as one JSON object; else in binary mode."""
    dead_letter_sink: Mapping[str, Any] | None = None
    """The Trigger's own, else the Broker's; None: what cannot be delivered is dropped."""


class Outcome(enum.Enum):
    """What an answer means for the delivery."""

    DONE = "done"
    RETRY = "retry"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, judged.

    code, body: as they go into the dead letter's extensions. reply: the event to put into the Broker.
    """

    outcome: Outcome
    code: int
    body: bytes = b""
    reason: str = ""
    reply: CloudEvent | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The event has arrived; a reply, if any, is the caller's to take from the verdict."""


@dataclass(frozen=True, slots=True)
class Again:
    """The same attempt is made again at `due`, in seconds since the epoch."""

    due: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The subscriber has had its attempts; the dead letter sink is next."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nobody took the event, and nothing more is tried."""

    reason: str


Step = Done | Again | DeadLetter | Dropped


def spec_of(trigger: Mapping[str, Any] | None, broker: Mapping[str, Any] | None) -> DeliverySpec:
    """The spec that holds for a Trigger with this `spec.delivery`, at a Broker with that one.

    The Trigger's replaces the Broker's as a whole, except for the dead letter sink, which falls back to the Broker's.
    Raises InvalidDelivery naming every fault. Source: knative/eventing pkg/reconciler/broker/trigger/trigger.go.
    """
    given = trigger if trigger is not None else broker if broker is not None else DEFAULT_DELIVERY
    faults: list[str] = []
    retry = given.get("retry", 0)
    if not isinstance(retry, int) or isinstance(retry, bool) or retry < 0:
        faults.append(f"retry is {retry!r}; expected a whole number, 0 or more")
    policy = given.get("backoffPolicy")
    if policy not in (None, "linear", "exponential"):
        faults.append(f"backoffPolicy is {policy!r}; expected linear or exponential")
    form = given.get("format")
    if form not in (None, "json", "binary"):
        faults.append(f"format is {form!r}; expected json or binary")
    delay = _period(given, "backoffDelay", faults)
    timeout = _period(given, "timeout", faults)
    if timeout == 0:
        faults.append(f"timeout is {given['timeout']!r}; expected more than 0")
    retry_after_max = _period(given, "retryAfterMax", faults)
    if faults:
        raise InvalidDelivery(faults)
    return DeliverySpec(
        retry=retry,
        backoff_policy=policy or "exponential",
        # Knative makes no pause unless both are given.
        backoff_delay_s=(delay or 0.0) if policy else 0.0,
        timeout_s=timeout or DEFAULT_TIMEOUT_S,
        retry_after_max_s=retry_after_max,
        structured=form == "json",
        dead_letter_sink=(trigger or {}).get("deadLetterSink") or (broker or {}).get("deadLetterSink"),
    )


def parse_duration(text: str) -> float:
    """Seconds of an ISO 8601 duration, cut to tenths of each unit as Knative's parser does: PT0.25S is 0.2.

    Raises ValueError. Source: rickb777/date period/parse.go, as vendored by knative/eventing.
    """
    if text == "P0":
        return 0.0
    match = _PERIOD.fullmatch(text)
    fields = {unit: match[unit] for unit in _SECONDS if match[unit]} if match else {}
    if match is None or not fields or match["time"] == "T":
        raise ValueError(f"{text!r} is no ISO 8601 duration such as PT0.2S or PT1M")
    seconds = sum(_tenths(number) * _SECONDS[unit] for unit, number in fields.items())
    return -seconds if match["sign"] == "-" else seconds


def backoff(spec: DeliverySpec, retries: int) -> float:
    """Seconds to wait before the next retry, `retries` of them having been made already.

    Counted from 0, so exponential waits 1, 2, 4 … times the delay, and linear 0, 1, 2 … times: its first retry is made
    at once.
    """
    factor = float(retries) if spec.backoff_policy == "linear" else 2.0 ** min(retries, 64)
    return min(spec.backoff_delay_s * factor, MAX_DELAY_S)


def judge(status: int, headers: Mapping[str, str], body: bytes, *, wants_reply: bool = True) -> Verdict:
    """What an answer means.

    headers: looked up by lower-case name. wants_reply: False for a dead letter sink, which has nobody to reply to:
    Knative's dispatcher passes over whatever its 2xx carries.
    """
    if not 200 <= status < 300:
        retried = status >= 500 or status in RETRIED
        outcome = Outcome.RETRY if retried else Outcome.FINAL
        return Verdict(outcome, status, body, f"answered {status}", retry_after=headers.get("retry-after"))
    if not wants_reply or status == ACCEPTED or (not body and not _is_event(headers)):
        return Verdict(Outcome.DONE, status)
    if not _is_event(headers):
        return Verdict(Outcome.RETRY, BAD_REPLY, body, f"answered {status} with a body that is no CloudEvent")
    try:
        events = binding.receive(headers, body, parse_data=False)
    except Rejected as e:
        return Verdict(Outcome.RETRY, BAD_REPLY, body, f"answered {status} with a broken CloudEvent: {e}")
    if len(events) != 1:
        return Verdict(
            Outcome.RETRY, BAD_REPLY, body, f"answered {status} with {len(events)} CloudEvents; expected one"
        )
    return Verdict(Outcome.DONE, status, reply=events[0])


def no_answer(reason: str) -> Verdict:
    """The verdict when nothing came back: refused, timed out, cut off."""
    return Verdict(Outcome.RETRY, NO_ANSWER, f"dispatch error: {reason}".encode(), reason)


def decide(
    spec: DeliverySpec, verdict: Verdict, *, attempts: int, to_dead_letter: bool, has_dead_letter: bool, now: float
) -> Step:
    """What follows from the latest attempt.

    attempts: those made at this destination, the judged one included. to_dead_letter: that was the dead letter sink;
    its attempts follow the same spec. now: seconds since the epoch.
    """
    if verdict.outcome is Outcome.DONE:
        return Done()
    if verdict.outcome is Outcome.RETRY and attempts <= spec.retry:
        return Again(now + max(backoff(spec, attempts - 1), _retry_after(spec, verdict, now)))
    tried = f"{verdict.reason} at attempt {attempts}"
    if to_dead_letter:
        return Dropped(f"the dead letter sink {tried}")
    return DeadLetter() if has_dead_letter else Dropped(f"the subscriber {tried}, and no dead letter sink is set")


def error_extensions(destination: str, code: int, body: bytes) -> dict[str, str]:
    """What a dead letter tells of the failure. Source: knative/eventing pkg/kncloudevents/attributes."""
    return {
        "knativeerrordest": destination,
        "knativeerrorcode": str(code),
        "knativeerrordata": base64.b64encode(body).decode()[:ERROR_DATA_CHARACTERS],
    }


def _period(given: Mapping[str, Any], key: str, faults: list[str]) -> float | None:
    text = given.get(key)
    if text is None:
        return None
    try:
        seconds = parse_duration(text) if isinstance(text, str) else -1.0
    except ValueError as e:
        faults.append(f"{key}: {e}")
        return None
    if seconds < 0:
        faults.append(f"{key} is {text!r}; expected a duration such as PT0.2S, not negative")
    return seconds


def _tenths(number: str) -> float:
    whole, _, fraction = number.replace(",", ".").partition(".")
    if "." in fraction:
        raise ValueError(f"{number!r} is no number")
    return int((whole or "0") + (fraction or "0")[0]) / 10


def _is_event(headers: Mapping[str, str]) -> bool:
    return "ce-specversion" in headers or headers.get("content-type", "").lower().startswith("application/cloudevents")


def _retry_after(spec: DeliverySpec, verdict: Verdict, now: float) -> float:
    if spec.retry_after_max_s is None or verdict.code not in HONOUR_RETRY_AFTER or not verdict.retry_after:
        return 0.0
    text = verdict.retry_after.strip()
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return 0.0  # Knative ignores what it cannot read, too
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    return min(max(seconds, 0.0), spec.retry_after_max_s)
