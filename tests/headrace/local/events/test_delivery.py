"""What becomes of an attempt to deliver an event."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.local.events import delivery
from headrace.local.events.delivery import Again, DeadLetter, DeliverySpec, Done, Dropped, Outcome, Verdict

NOW = 1_000_000.0
FAILED = Verdict(Outcome.RETRY, 503, b"busy", "answered 503")
EVENT_HEADERS = {"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/s", "ce-type": "t"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT1S", 1),
        ("PT1M30S", 90),
        ("P1DT2H", 93600),
        ("P2W", 1209600),
        ("P0", 0),
        ("PT0S", 0),
        ("PT1,5S", 1.5),
        ("PT0.25S", 0.2),  # Knative's parser cuts to tenths
        ("PT0.05S", 0),
        ("-PT1S", -1),
        ("P1Y", 365.2425 * 86400),
    ],
)
def test_durations_are_read_as_knative_reads_them(text: str, seconds: float) -> None:
    assert delivery.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1s", "P", "PT", "P1DT", "PT1", "1", "PT1.2.3S", "PTS"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no"):
        delivery.parse_duration(text)


@pytest.mark.parametrize(
    ("policy", "waits"),
    [("exponential", [0.2, 0.4, 0.8, 1.6]), ("linear", [0.0, 0.2, 0.4, 0.6])],
)
def test_backoff_counts_retries_from_zero(policy: str, waits: list[float]) -> None:
    spec = DeliverySpec(retry=9, backoff_policy=policy, backoff_delay_s=0.2)
    assert [delivery.backoff(spec, retries) for retries in range(4)] == pytest.approx(waits)


@settings(deadline=None)  # a busy machine is no fault
@given(st.sampled_from(["linear", "exponential"]), st.floats(0, 1e9), st.integers(0, 100_000))
def test_a_wait_grows_and_ends(policy: str, delay: float, retries: int) -> None:
    spec = DeliverySpec(backoff_policy=policy, backoff_delay_s=delay)
    assert 0 <= delivery.backoff(spec, retries) <= delivery.backoff(spec, retries + 1) <= delivery.MAX_DELAY_S


def test_without_any_delivery_spec_knatives_defaults_hold() -> None:
    assert delivery.spec_of(None, None) == DeliverySpec(retry=10, backoff_policy="exponential", backoff_delay_s=0.2)


def test_the_triggers_delivery_replaces_the_brokers_as_a_whole() -> None:
    broker = {"retry": 7, "backoffPolicy": "linear", "backoffDelay": "PT3S", "timeout": "PT9S"}
    assert delivery.spec_of({"retry": 1}, broker) == DeliverySpec(retry=1)


def test_the_dead_letter_sink_falls_back_to_the_brokers() -> None:
    sink, other = {"uri": "http://a"}, {"uri": "http://b"}
    assert delivery.spec_of({"retry": 1}, {"deadLetterSink": sink}).dead_letter_sink == sink
    assert delivery.spec_of({"deadLetterSink": other}, {"deadLetterSink": sink}).dead_letter_sink == other


def test_every_fault_of_a_delivery_spec_is_named() -> None:
    wrong = {"retry": -1, "backoffPolicy": "random", "backoffDelay": "1s", "timeout": "PT0S", "format": "xml"}
    with pytest.raises(delivery.InvalidDelivery) as refused:
        delivery.spec_of({**wrong, "retryAfterMax": "-PT1S"}, None)
    assert [fault.partition(" ")[0].rstrip(":") for fault in refused.value.faults] == [
        "retry",
        "backoffPolicy",
        "format",
        "backoffDelay",
        "timeout",
        "retryAfterMax",
    ]


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome", "code"),
    [
        (200, {}, b"", Outcome.DONE, 200),
        (204, {}, b"", Outcome.DONE, 204),
        (202, {}, b"ok", Outcome.DONE, 202),
        (202, EVENT_HEADERS, b"ok", Outcome.DONE, 202),
        (200, {"content-type": "application/json"}, b'{"ok":true}', Outcome.RETRY, 502),
        (200, {"content-type": "text/plain"}, b"OK", Outcome.RETRY, 502),
        (200, {"content-type": "application/cloudevents+json"}, b"{}", Outcome.RETRY, 502),
        (200, {"content-type": "application/cloudevents+json"}, b"", Outcome.RETRY, 502),
        (200, {"content-type": "application/cloudevents-batch+json"}, b"[]", Outcome.RETRY, 502),
        (200, {"ce-specversion": "1.0", "ce-id": "x"}, b"", Outcome.RETRY, 502),
        (300, {}, b"", Outcome.FINAL, 300),
        (307, {}, b"", Outcome.FINAL, 307),
        (400, {}, b"", Outcome.FINAL, 400),
        (404, {}, b"", Outcome.RETRY, 404),
        (408, {}, b"", Outcome.RETRY, 408),
        (409, {}, b"", Outcome.RETRY, 409),
        (413, {}, b"", Outcome.FINAL, 413),
        (422, {}, b"", Outcome.FINAL, 422),
        (429, {}, b"", Outcome.RETRY, 429),
        (500, {}, b"", Outcome.RETRY, 500),
        (503, {}, b"", Outcome.RETRY, 503),
        (599, {}, b"", Outcome.RETRY, 599),
    ],
)
def test_an_answer_is_judged_as_knative_judges_it(
    status: int, headers: dict[str, str], body: bytes, outcome: Outcome, code: int
) -> None:
    verdict = delivery.judge(status, headers, body)
    assert (verdict.outcome, verdict.code, verdict.reply) == (outcome, code, None)


def test_a_cloudevent_in_a_2xx_is_the_reply() -> None:
    verdict = delivery.judge(200, {**EVENT_HEADERS, "content-type": "application/json"}, b'{"a":1}')
    assert verdict.outcome is Outcome.DONE
    assert verdict.reply is not None
    assert verdict.reply.get_id() == "r"


def test_a_dead_letter_sink_may_say_anything_in_its_2xx() -> None:
    assert delivery.judge(200, {}, b"thank you", wants_reply=False).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("verdict", "attempts", "to_dead_letter", "has_dead_letter", "step"),
    [
        (Verdict(Outcome.DONE, 200), 1, False, True, Done()),
        (FAILED, 1, False, True, Again(NOW + 1)),
        (FAILED, 2, False, True, Again(NOW + 2)),
        (FAILED, 3, False, True, DeadLetter()),
        (FAILED, 3, False, False, Dropped("the subscriber answered 503 at attempt 3, and no dead letter sink is set")),
        (Verdict(Outcome.FINAL, 422, reason="answered 422"), 1, False, True, DeadLetter()),
        (Verdict(Outcome.DONE, 200), 1, True, True, Done()),
        (FAILED, 1, True, True, Again(NOW + 1)),
        (FAILED, 3, True, True, Dropped("the dead letter sink answered 503 at attempt 3")),
    ],
)
def test_what_follows_from_an_attempt(
    verdict: Verdict, attempts: int, to_dead_letter: bool, has_dead_letter: bool, step: delivery.Step
) -> None:
    spec = DeliverySpec(retry=2, backoff_policy="exponential", backoff_delay_s=1)
    decided = delivery.decide(
        spec, verdict, attempts=attempts, to_dead_letter=to_dead_letter, has_dead_letter=has_dead_letter, now=NOW
    )
    assert decided == step


@settings(deadline=None)  # a busy machine is no fault
@given(st.integers(0, 20), st.booleans())
def test_a_subscriber_that_never_answers_gets_one_attempt_and_the_retries(retry: int, has_dead_letter: bool) -> None:
    spec, attempts = DeliverySpec(retry=retry), 0
    step: delivery.Step = Again(0)
    while isinstance(step, Again):
        attempts += 1
        step = delivery.decide(
            spec,
            delivery.no_answer("refused"),
            attempts=attempts,
            to_dead_letter=False,
            has_dead_letter=has_dead_letter,
            now=NOW,
        )
    assert attempts == retry + 1
    assert isinstance(step, DeadLetter) is has_dead_letter


@pytest.mark.parametrize(
    ("status", "header", "maximum", "wait"),
    [
        (503, "7", None, 1),  # alpha in Knative: only with retryAfterMax
        (503, "7", 60.0, 7),
        (429, "7", 5.0, 5),
        (503, "7", 0.0, 1),
        (500, "7", 60.0, 1),
        (503, "Thu, 01 Jan 1970 00:16:49 GMT", 60.0, 9),
        (503, "soon", 60.0, 1),
        (503, "0", 60.0, 1),
    ],
)
def test_retry_after_is_honoured_where_knative_would(
    status: int, header: str, maximum: float | None, wait: float
) -> None:
    spec = DeliverySpec(retry=3, backoff_delay_s=1, retry_after_max_s=maximum)
    verdict = delivery.judge(status, {"retry-after": header}, b"")
    step = delivery.decide(spec, verdict, attempts=1, to_dead_letter=False, has_dead_letter=False, now=1000.0)
    assert step == Again(1000.0 + wait)


@settings(deadline=None)  # a busy machine is no fault
@given(st.binary(max_size=5000))
def test_the_dead_letters_error_data_is_base64_of_the_answers_beginning(body: bytes) -> None:
    extensions: dict[str, Any] = delivery.error_extensions("http://a", 500, body)
    assert len(extensions["knativeerrordata"]) <= 1024
    assert body.startswith(base64.b64decode(extensions["knativeerrordata"], validate=True))
