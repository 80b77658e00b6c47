"""Events go out; the sink's answers become verdicts."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing import contract, sender
from eventing.errors import Misconfigured, Rejected, RetryLater
from monitoring import metrics
from tests.eventing.sinks import Answer, sink

ASKED = contract.PredictionRequested(model="flights", inputs=[1])


def event(id: str = "1") -> CloudEvent:
    return sender.stamp(ASKED, "/headrace/tests/sender", id=id)


def test_the_sink_gets_the_event_as_it_is() -> None:
    with sink() as its:
        assert sender.Sender(its.url).send(event()) is None
        (seen,) = its.events
    assert (seen.get_id(), seen.get_subject(), seen.get_data()) == ("1", "flights", ASKED.to_data())
    assert its.requests[0][0]["prefer"] == "reply"


def test_a_stamped_event_has_an_id_of_its_own_and_its_cause() -> None:
    one, other = sender.stamp(ASKED, "/s"), sender.stamp(ASKED, "/s", cause=event("cause"))
    assert one.get_id() != other.get_id()
    assert other.get_extension("causationid") == "cause"
    assert other.get_time() is not None


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 599])
def test_what_knative_retries_is_retry_later(status: int) -> None:
    with sink([Answer(status, body=b"busy")]) as its, pytest.raises(RetryLater, match=f"{status}: busy"):
        sender.Sender(its.url).send(event())


@pytest.mark.parametrize("status", [300, 307, 400, 401, 403, 410, 413, 415, 422])
def test_every_other_refusal_is_final(status: int) -> None:
    with sink([Answer(status, body=b"no")]) as its, pytest.raises(Rejected, match=f"{status}: no"):
        sender.Sender(its.url).send(event(), attempts=3)
    assert len(its.requests) == 1


def test_no_answer_is_retry_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unheard:
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/"
        with pytest.raises(RetryLater, match="no answer"):
            sender.Sender(url, timeout_s=0.05).send(event())
    with pytest.raises(RetryLater, match="no answer"):
        sender.Sender(url).send(event())


def test_an_answer_may_be_waited_for_longer_than_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unheard:
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/"
        began_s = time.monotonic()
        with pytest.raises(RetryLater, match="no answer"):
            sender.Sender(url, timeout_s=0.05, answer_s=0.5).send(event())
        assert time.monotonic() - began_s >= 0.5


def test_attempts_are_spaced_and_bounded() -> None:
    waits: list[float] = []
    with sink([Answer(503), Answer(500), Answer(202)]) as its:
        sender.Sender(its.url, sleep=waits.append).send(event(), attempts=5)
    assert len(its.requests) == 3
    assert [sender.FIRST_BACKOFF_S / 2 <= waits[0] <= sender.FIRST_BACKOFF_S, waits[1] >= waits[0] / 2, len(waits)] == [
        True,
        True,
        2,
    ]
    with sink([Answer(503)]) as its, pytest.raises(RetryLater):
        sender.Sender(its.url, sleep=waits.append).send(event(), attempts=4)
    assert len(its.requests) == 4


def test_the_sinks_retry_after_is_honoured() -> None:
    waits: list[float] = []
    with sink([Answer(503, {"Retry-After": "7"}), Answer(202)]) as its:
        sender.Sender(its.url, sleep=waits.append).send(event(), attempts=2)
    assert waits == [7.0]


@pytest.mark.parametrize(
    ("attempt", "chance", "asked_s", "wait_s"),
    [(1, 1.0, 0, 0.2), (1, 0.0, 0, 0.1), (4, 1.0, 0, 1.6), (20, 1.0, 0, 30), (1, 0.0, 5, 5), (1, 0.0, 900, 30)],
)
def test_the_backoff_doubles_up_to_its_bound(attempt: int, chance: float, asked_s: float, wait_s: float) -> None:
    assert sender.backoff_s(attempt, chance, asked_s) == pytest.approx(wait_s)


def test_a_connection_is_used_again_and_replaced_when_the_sink_closed_it() -> None:
    with sink() as its:
        out = sender.Sender(its.url)
        for i in range(3):
            out.send(event(str(i)))
        assert its.connections == 1
        its.answers[:] = [Answer(hang_up=True), Answer(202)]
        out.send(event("3"))
        assert its.connections == 2
    assert [e.get_id() for e in its.events] == ["0", "1", "2", "3", "3"]


def test_many_threads_share_one_sender() -> None:
    with sink() as its:
        out = sender.Sender(its.url)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: out.send(event(str(i))), range(100)))
        out.close()
    assert {e.get_id() for e in its.events} == set(map(str, range(100)))
    assert threading.active_count() < 50


def test_the_reply_is_an_event_or_nothing() -> None:
    told = {"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/s", "ce-type": "t"}
    answers = [Answer(200, told), Answer(200, body=b"ok"), Answer(202, told), Answer(200, {"ce-specversion": "1.0"})]
    with sink(answers) as its:
        out = sender.Sender(its.url)
        reply = out.send(event())
        assert reply is not None and reply.get_id() == "r"
        assert out.send(event()) is None
        assert out.send(event()) is None
        with pytest.raises(RetryLater, match="reply is broken"):
            out.send(event())


@pytest.mark.parametrize("url", ["", "broker", "ftp://x/", "http://"])
def test_a_sink_that_is_no_url_is_refused_at_start(url: str) -> None:
    with pytest.raises(Misconfigured, match="K_SINK"):
        sender.Sender(url)


def test_what_was_sent_is_counted_by_type_and_outcome() -> None:
    counter = metrics.EVENTS_SENT.labels(ASKED.TYPE, metrics.REJECTED)
    before = counter._value.get()
    with sink([Answer(400)]) as its, pytest.raises(Rejected):
        sender.Sender(its.url).send(event())
    assert counter._value.get() == before + 1
