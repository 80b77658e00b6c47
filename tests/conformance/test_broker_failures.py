"""What becomes of an event that its subscriber does not take."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest

from tests.conformance import manifests
from tests.conformance.api import until
from tests.conformance.differences import differs
from tests.conformance.place import Place
from tests.conformance.wire import Seen, binary

DELAY_S = 0.4
BROKER = "failures"


def dead(place: Place, name: str, path: str, **delivery: object) -> tuple[list[Seen], Seen]:
    """What a subscriber that takes nothing was sent, and the dead letter."""
    place.trigger(
        name, path, BROKER, delivery={"deadLetterSink": manifests.to_service(f"/box/{name}-dead"), **delivery}
    )
    place.send(binary(f"{name}-1", type=f"test.{name}"), broker=BROKER)
    (letter,) = place.until_box(f"{name}-dead")
    return place.box(name), letter


def again(retry: int, policy: str = "linear", delay: str = "PT0.1S") -> dict[str, object]:
    return {"retry": retry, "backoffPolicy": policy, "backoffDelay": delay}


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_tried_again(place: Place, status: int) -> None:
    name = f"again{status}"
    place.trigger(name, f"/box/{name}?answers={status},200", BROKER, delivery=again(3))
    place.send(binary(f"{name}-1", type=f"test.{name}"), broker=BROKER)
    assert [seen.headers["ce-id"] for seen in place.until_box(name, 2)] == [f"{name}-1"] * 2


@pytest.mark.parametrize("status", [302, 400, 401, 403, 410, 422])
def test_a_final_refusal_is_not_tried_again(place: Place, status: int) -> None:
    name = f"final{status}"
    tried, letter = dead(place, name, f"/box/{name}?answers={status}", **again(3))
    assert len(tried) == 1
    assert letter.headers["ce-knativeerrorcode"] == str(status)


def test_as_often_as_retry_says_and_the_first_time(place: Place) -> None:
    tried, letter = dead(place, "counting", "/box/counting?answers=503", **again(3))
    assert len(tried) == 4
    assert letter.headers["ce-knativeerrorcode"] == "503"


def test_without_retries_there_is_one_attempt(place: Place) -> None:
    tried, _ = dead(place, "once", "/box/once?answers=503", retry=0)
    assert len(tried) == 1


def test_exponential_backoff_doubles(place: Place) -> None:
    tried, _ = dead(place, "doubling", "/box/doubling?answers=503", **again(3, "exponential", f"PT{DELAY_S}S"))
    waits = [later.at - earlier.at for earlier, later in pairwise(tried)]
    assert len(waits) == 3
    for wait, least in zip(waits, (DELAY_S, 2 * DELAY_S, 4 * DELAY_S), strict=True):
        assert wait >= 0.95 * least, waits


def test_linear_backoff_grows_by_its_delay_from_none(place: Place) -> None:
    tried, _ = dead(place, "growing", "/box/growing?answers=503", **again(3, "linear", "PT2S"))
    waits = [later.at - earlier.at for earlier, later in pairwise(tried)]
    assert waits[0] < 2, waits
    for wait, least in zip(waits[1:], (2, 4), strict=True):
        assert wait >= 0.95 * least, waits


def test_a_connection_that_breaks_is_tried_again(place: Place) -> None:
    place.trigger("broken", "/box/broken?answers=hang,200", BROKER, delivery=again(3))
    place.send(binary("broken-1", type="test.broken"), broker=BROKER)
    assert [seen.headers["ce-id"] for seen in place.until_box("broken", 2)][:2] == ["broken-1"] * 2


def test_an_attempt_that_takes_longer_than_the_timeout_is_tried_again(place: Place) -> None:
    place.trigger("late", "/box/late?answers=sleep,200&seconds=30", BROKER, delivery={"timeout": "PT1S", **again(2)})
    place.send(binary("late-1", type="test.late"), broker=BROKER)
    first, second = place.until_box("late", 2)
    assert 0.9 <= second.at - first.at < 30


def test_a_plain_body_is_a_failure_that_is_tried_again(place: Place) -> None:
    tried, letter = dead(place, "plain", "/box/plain?text=OK", **again(1))
    assert len(tried) == 2
    told = "502" if differs(place, "a dead letter after a plain body or a timeout") else None
    assert letter.headers.get("ce-knativeerrorcode") == told


def test_a_dead_letter_is_the_event_with_what_went_wrong(place: Place) -> None:
    (tried,), letter = dead(place, "telling", "/box/telling?answers=422&text=no-such-model", retry=0)
    assert letter.body == tried.body
    assert (letter.headers["ce-id"], letter.headers["ce-type"]) == ("telling-1", "test.telling")
    trigger = place.api.get("Trigger", "telling")
    assert trigger is not None
    assert letter.headers["ce-knativeerrorcode"] == "422"
    assert letter.headers["ce-knativeerrordest"] == trigger["status"]["subscriberUri"]
    assert base64.b64decode(letter.headers["ce-knativeerrordata"]) == b"no-such-model"


def test_a_dead_letter_keeps_its_count_of_rounds(place: Place) -> None:
    _, letter = dead(place, "rounds", "/box/rounds?answers=422", retry=0)
    assert letter.headers["ce-knativebrokerttl"].isdecimal()


def test_a_subscriber_that_cannot_be_reached_is_500_in_the_dead_letter(place: Place) -> None:
    wanted = [{"exact": {"type": "test.nobody"}}]
    delivery = {"retry": 0, "deadLetterSink": manifests.to_service("/box/nobody")}
    place.service("sink", scale=(1, 1))
    place.broker()
    place.api.apply(manifests.trigger("nobody", {"uri": "http://nobody.invalid/"}, filters=wanted, delivery=delivery))
    place.api.until_condition("Trigger", "nobody")

    def told() -> list[Seen]:
        # Sent again and again: a Trigger that is Ready may lose events for a while yet.
        place.send(binary("nobody-1", type="test.nobody"))
        return place.box("nobody")

    letter = until("the dead letter", told)[0]
    assert letter.headers["ce-knativeerrorcode"] == "500"
    assert letter.headers["ce-knativeerrordest"] == "http://nobody.invalid/"


def test_a_dead_letter_sink_is_tried_as_often_as_the_subscriber(place: Place) -> None:
    delivery = {**again(2), "deadLetterSink": manifests.to_service("/box/patient-dead?answers=503,503,200")}
    place.trigger("patient", "/box/patient?answers=422", BROKER, delivery=delivery)
    place.send(binary("patient-1", type="test.patient"), broker=BROKER)
    assert len(place.until_box("patient-dead", 3)) == 3


def test_the_brokers_delivery_serves_triggers_without_their_own(place: Place) -> None:
    place.service("sink", scale=(1, 1))
    delivery = {**again(1), "deadLetterSink": manifests.to_service("/box/inherited-dead")}
    place.broker("inheriting", delivery=delivery)
    place.trigger("inherited", "/box/inherited?answers=503", broker="inheriting")
    place.send(binary("inherited-1", type="test.inherited"), broker="inheriting")
    place.until_box("inherited-dead")
    assert len(place.box("inherited")) == 2


def test_a_triggers_delivery_replaces_the_brokers_but_for_the_dead_letter_sink(place: Place) -> None:
    place.service("sink", scale=(1, 1))
    delivery = {**again(5), "deadLetterSink": manifests.to_service("/box/replaced-dead")}
    place.broker("replacing", delivery=delivery)
    place.trigger("replaced", "/box/replaced?answers=503", broker="replacing", delivery={"retry": 0})
    place.send(binary("replaced-1", type="test.replaced"), broker="replacing")
    place.until_box("replaced-dead")
    assert len(place.box("replaced")) == 1


def test_a_dead_letter_sink_that_is_not_there_leaves_the_trigger_not_ready(place: Place) -> None:
    place.broker(manifests.SILENT)
    delivery = {"retry": 0, "deadLetterSink": manifests.to_service(name="absent")}
    place.api.apply(manifests.trigger("deadless", {"uri": "http://example.test/"}, manifests.SILENT, delivery=delivery))
    place.api.until_condition("Trigger", "deadless", "DeadLetterSinkResolved", "False")
    assert place.api.condition("Trigger", "deadless")["status"] == "False"
