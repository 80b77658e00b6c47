"""What the laptop's Broker promises: taken means kept, kept means delivered, by Knative's rules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from eventing import contract
from headrace.local.events.journal import Limits
from tests.headrace.local.events import eventing_bench
from tests.headrace.local.events.eventing_bench import Bench, bench, binary_headers, reply, send, subscriber, until

Work = Callable[[Bench], Awaitable[None]]
SOON = {"retry": 3, "backoffPolicy": "linear", "backoffDelay": "PT0S"}


def on_bench(home: Path, work: Work, **options: Any) -> None:
    """Run `work` on a platform with one Broker, `default`."""

    async def go() -> None:
        async with bench(home, **options) as made:
            if made.objects.get("Broker", "headrace", "default") is None:
                made.make_broker(SOON)
            await made.settled()
            await work(made)

    asyncio.run(go())


def test_an_event_reaches_every_trigger_that_wants_it_byte_for_byte(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber() as one, subscriber() as two:
            await made.make_trigger("one", one.url, filters=[{"exact": {"subject": "a"}}])
            await made.make_trigger("two", two.url, filter={"attributes": {"subject": "b"}})
            body = b'{"n" :  1.0}'
            url = made.url + "/broker/headrace/default"
            assert (await send(url, binary_headers("1", subject="a", partition="7"), body))[0] == 202
            await made.delivery("1", "one")
            ((headers, seen),) = one.requests
            assert seen == body
            assert headers["ce-id"] == "1"
            assert headers["ce-partition"] == "7"
            assert headers["content-type"] == "application/json"
            assert headers["prefer"] == "reply"
            assert headers["kn-namespace"] == "headrace"
            assert "ce-knativebrokerttl" not in headers
            assert not two.requests

    on_bench(tmp_path, work)


def test_a_structured_event_is_taken_and_delivered_in_binary_mode(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber() as one:
            await made.make_trigger("one", one.url)
            event = {"specversion": "1.0", "id": "s", "source": "/t", "type": "t", "data": {"a": [1, None]}}
            headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
            status, _, _ = await send(made.url + "/broker/headrace/default", headers, json.dumps(event).encode())
            assert status == 202
            await made.delivery("s", "one")
            assert json.loads(one.requests[0][1]) == {"a": [1, None]}
            assert one.requests[0][0]["content-type"] == "application/json"

    on_bench(tmp_path, work)


def test_a_trigger_may_ask_for_structured_events(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber() as one:
            await made.make_trigger("one", one.url, delivery={"format": "json"})
            await made.post("1")
            await until(lambda: one.requests)
            assert json.loads(one.requests[0][1])["data"] == {"n": 1}

    on_bench(tmp_path, work)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "says"),
    [
        ("POST", "default", {"content-type": "application/json"}, b"{}", 400, "no CloudEvent"),
        ("POST", "default", {"ce-specversion": "1.0", "ce-id": "1"}, b"", 400, "source is missing"),
        ("POST", "default", {"ce-specversion": "1.0", "ce-id": "1"}, b"", 400, "type is missing"),
        ("POST", "default", {"content-type": "application/cloudevents+json"}, b"{", 400, "not JSON"),
        ("POST", "default", {"content-type": "application/cloudevents-batch+json"}, b"[]", 400, "one by one"),
        ("POST", "default", {**binary_headers("1"), "ce-subject": "\udcff"}, b"", 400, ""),
        ("POST", "default", binary_headers("1", knativebrokerttl=1), b"", 400, "went round"),
        ("POST", "absent", binary_headers("1"), b"", 404, 'no Broker "absent"'),
        ("POST", "", binary_headers("1"), b"", 400, "expected /broker/NAMESPACE/NAME"),
        ("POST", "default", binary_headers("1"), b"x" * 1_048_577, 413, "over 1048576 bytes"),
        ("GET", "default", {}, b"", 405, "post an event"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], body: bytes, status: int, says: str
) -> None:
    async def work(made: Bench) -> None:
        seen, _, text = await send(f"{made.url}/broker/headrace/{path}", headers, body, method)
        assert seen == status
        assert says in json.loads(text)["error"]
        assert await made.journal() == []

    on_bench(tmp_path, work)


def test_the_path_of_a_clusters_ingress_is_known_by_its_host(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        headers = {**binary_headers("1"), "Host": "broker-ingress.knative-eventing.svc.cluster.local"}
        assert (await send(made.url + "/headrace/default", headers))[0] == 202

    on_bench(tmp_path, work)


def test_an_event_of_one_mebibyte_is_taken(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        url = made.url + "/broker/headrace/default"
        assert (await send(url, binary_headers("1"), b"x" * 1_048_576))[0] == 202

    on_bench(tmp_path, work)


def test_the_webhook_handshake_is_answered(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        status, headers, _ = await send(made.url + "/broker/headrace/default", {}, method="OPTIONS")
        assert (status, headers["WebHook-Allowed-Origin"]) == (200, "*")

    on_bench(tmp_path, work)


def test_an_event_that_the_disk_does_not_take_is_not_acknowledged(tmp_path: Path) -> None:
    async def nothing(made: Bench) -> None:
        assert await made.journal() == []

    async def go() -> None:
        process, url = await eventing_bench.start_process(tmp_path, "3000000")
        try:
            url += "/broker/headrace/default"
            statuses = [(await send(url, binary_headers(str(i)), b"x" * 500_000))[0] for i in range(10)]
            assert (statuses[0], statuses[-1]) == (202, 503)
            kept.extend(str(i) for i, status in enumerate(statuses) if status == 202)
        finally:
            process.kill()
            await process.wait()

    async def check(made: Bench) -> None:
        assert [entry["event"]["id"] for entry in await made.journal()] == kept

    kept: list[str] = []
    on_bench(tmp_path, nothing)
    asyncio.run(go())
    on_bench(tmp_path, check)


def test_when_undelivered_events_fill_the_journal_no_more_are_acknowledged(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.make_trigger("away", "http://127.0.0.1:9/", delivery={"retry": 9, **_SLOW})
        url = made.url + "/broker/headrace/default"
        statuses = [(await send(url, binary_headers(str(i)), b"x" * 500_000))[0] for i in range(5)]
        assert statuses[0] == 202
        assert statuses[-1] == 503
        assert len(await made.journal()) == statuses.count(202)

    on_bench(tmp_path, work, limits=Limits(bytes=100_000, pending_bytes=1_000_000))


def test_a_reply_goes_back_into_the_broker(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber(lambda *_: reply("r1", causationid="1")) as one, subscriber() as two:
            await made.make_trigger("one", one.url, filter={"attributes": {"type": "test.happened"}})
            await made.make_trigger("two", two.url, filter={"attributes": {"type": "test.answered"}})
            await made.post("1")
            await made.delivery("r1", "two")
            assert two.ids == ["r1"]
            assert json.loads(two.requests[0][1]) == {"answer": 42}
            assert [e["event"]["id"] for e in await made.journal(causationid="1")] == ["r1"]

    on_bench(tmp_path, work)


def test_a_reply_that_replies_to_itself_ends(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber(lambda request, _: reply(request.headers["ce-id"] + "x")) as one:
            await made.make_trigger("one", one.url)
            headers = binary_headers("1", knativebrokerttl=4)
            assert (await send(made.url + "/broker/headrace/default", headers))[0] == 202
            last = await made.delivery("1xx", "one")
            assert last["state"] == "dropped"
            assert "gone round too often" in last["reason"]
            assert one.ids == ["1", "1x", "1xx"]

    on_bench(tmp_path, work)


def test_a_failing_subscriber_is_tried_again_as_often_as_the_spec_says(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber(lambda *_: web.Response(status=503)) as one:
            await made.make_trigger("one", one.url)
            await made.post("1")
            ended = await made.delivery("1", "one")
            assert (ended["state"], ended["attempts"], ended["code"], len(one.ids)) == ("dropped", 4, 503, 4)

    on_bench(tmp_path, work)


def test_a_plain_body_is_a_failure_that_is_retried(tmp_path: Path) -> None:
    answers = iter([web.Response(text="OK"), web.Response(status=200)])

    async def work(made: Bench) -> None:
        async with subscriber(lambda *_: next(answers)) as one:
            await made.make_trigger("one", one.url)
            await made.post("1")
            ended = await made.delivery("1", "one")
            assert (ended["state"], ended["attempts"]) == ("delivered", 2)

    on_bench(tmp_path, work)


def test_a_final_refusal_is_not_tried_again(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber(lambda *_: web.Response(status=422, text="no such model")) as one:
            await made.make_trigger("one", one.url)
            await made.post("1")
            assert (await made.delivery("1", "one"))["code"] == 422
            assert len(one.ids) == 1

    on_bench(tmp_path, work)


def test_what_nobody_takes_goes_to_the_dead_letter_sink_with_the_failure(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        answers = iter([web.Response(status=500), web.Response(text="any body will do")])
        async with (
            subscriber(lambda *_: web.Response(status=422, text="no such model")) as one,
            subscriber(lambda *_: next(answers)) as dead,
        ):
            await made.make_trigger("one", one.url, delivery={**SOON, "deadLetterSink": {"uri": dead.url}})
            await made.post("1")
            ended = await made.delivery("1", "one")
            assert (ended["state"], ended["code"], ended["attempts"]) == ("dead-lettered", 422, 2)
            headers, body = dead.requests[-1]
            assert (headers["ce-id"], body) == ("1", b'{"n":1}')
            assert headers["ce-knativeerrordest"] == one.url
            assert headers["ce-knativebrokerttl"] == "255"
            assert headers["ce-knativeerrorcode"] == "422"
            assert base64.b64decode(headers["ce-knativeerrordata"]) == b"no such model"

    on_bench(tmp_path, work)


def test_the_brokers_dead_letter_sink_serves_triggers_without_one(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber() as dead:
            broker = made.objects.get("Broker", "headrace", "default")
            assert broker is not None
            broker["spec"]["delivery"] = {"retry": 0, "deadLetterSink": {"uri": dead.url}}
            made.objects.update(broker)
            await made.make_trigger("one", "http://127.0.0.1:9/")
            await made.post("1")
            assert (await made.delivery("1", "one"))["state"] == "dead-lettered"
            assert dead.requests[0][0]["ce-knativeerrorcode"] == "500"

    on_bench(tmp_path, work)


def test_an_attempt_that_takes_longer_than_the_timeout_is_over(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        asleep = asyncio.Event()

        async def handle(request: web.BaseRequest) -> web.Response:
            await asleep.wait()
            return web.Response()

        async with eventing_bench.served(handle) as url:
            await made.make_trigger("one", url, delivery={"timeout": "PT0.1S"})
            await made.post("1")
            ended = await made.delivery("1", "one")
            assert (ended["state"], ended["code"]) == ("dropped", 500)
            assert "no answer within 0.1 s" in ended["reason"]
            asleep.set()

    on_bench(tmp_path, work)


def test_a_slow_subscriber_holds_up_nobody_else(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        free = asyncio.Event()

        async def handle(request: web.BaseRequest) -> web.Response:
            await free.wait()
            return web.Response()

        async with eventing_bench.served(handle) as slow, subscriber() as fast:
            await made.make_trigger("slow", slow)
            await made.make_trigger("fast", fast.url)
            await asyncio.gather(*(made.post(str(i)) for i in range(30)))
            await until(lambda: len(fast.ids) == 30)
            free.set()

    on_bench(tmp_path, work)


def test_a_trigger_made_later_gets_nothing_of_the_past(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        async with subscriber() as one:
            await made.post("before")
            await made.make_trigger("one", one.url)
            await made.post("after")
            await made.delivery("after", "one")
            assert one.ids == ["after"]

    on_bench(tmp_path, work)


def test_deleting_a_trigger_drops_what_it_still_waits_for(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.make_trigger("one", "http://127.0.0.1:9/", delivery={"retry": 9, **_SLOW})
        await made.post("1")
        made.objects.delete("Trigger", "headrace", "one")
        ended = await made.delivery("1", "one")
        assert (ended["state"], ended["reason"]) == ("dropped", "the Trigger was deleted")

    on_bench(tmp_path, work)


def test_deleting_a_broker_drops_what_its_triggers_wait_for(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.make_trigger("one", "http://127.0.0.1:9/", delivery={"retry": 9, **_SLOW})
        await made.post("1")
        made.objects.delete("Broker", "headrace", "default")
        await made.settled()
        assert made.condition("Trigger", "one", "BrokerReady")["reason"] == "BrokerDoesNotExist"
        assert (await made.post("2"))[0] == 404
        made.make_broker(SOON)
        await made.settled()
        assert (await made.delivery("1", "one"))["reason"] == "the Broker was deleted"

    on_bench(tmp_path, work)


def test_a_subscriber_that_comes_later_gets_what_waits_for_it(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        ref = {"kind": "JobSink", "apiVersion": "sinks.knative.dev/v1alpha1", "name": "late"}
        delivery = {"retry": 50, "backoffPolicy": "exponential", "backoffDelay": "PT0.1S"}
        await made.make_trigger("one", {"ref": ref}, delivery=delivery)
        assert made.condition("Trigger", "one", "SubscriberResolved")["message"] == 'JobSink "late" does not exist'
        await made.post("1")
        made.objects.create(_job_sink("late"))
        await made.settled()
        assert made.condition("Trigger", "one", "Ready")["status"] == "True"
        assert (await made.delivery("1", "one"))["state"] == "delivered"
        assert len(made.objects.list("Job")) == 1

    on_bench(tmp_path, work)


def test_the_status_tells_where_broker_and_trigger_stand(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.make_trigger("one", "http://127.0.0.1:9/x", delivery={"deadLetterSink": {"uri": "http://dead/"}})
        trigger, broker = (
            made.objects.get(*k) for k in (("Trigger", "headrace", "one"), ("Broker", "headrace", "default"))
        )
        assert trigger is not None
        assert broker is not None
        assert trigger["status"]["subscriberUri"] == "http://127.0.0.1:9/x"
        assert trigger["status"]["deadLetterSinkUri"] == "http://dead/"
        assert {c["type"]: c["status"] for c in trigger["status"]["conditions"]} == dict.fromkeys(
            (
                *("BrokerReady", "DeadLetterSinkResolved", "DependencyReady", "Ready", "SubscriberResolved"),
                "SubscriptionReady",
            ),
            "True",
        )
        assert broker["status"]["address"] == {"name": "http", "url": made.url + "/broker/headrace/default"}
        assert broker["metadata"]["annotations"] == {"eventing.knative.dev/broker.class": "MTChannelBasedBroker"}
        assert made.condition("Broker", "default", "Ready")["status"] == "True"

    on_bench(tmp_path, work)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"filters": [{"cesql": "type ="}]}, "InvalidFilter"),
        ({"delivery": {"backoffDelay": "1s"}}, "InvalidDelivery"),
    ],
)
def test_a_trigger_that_cannot_be_followed_is_not_ready_and_gets_nothing(
    tmp_path: Path, spec: dict[str, Any], reason: str
) -> None:
    async def work(made: Bench) -> None:
        async with subscriber() as one:
            await made.make_trigger("one", one.url, **spec)
            ready = made.condition("Trigger", "one", "Ready")
            assert (ready["status"], ready["reason"]) == ("False", reason)
            await made.post("1")
            (entry,) = await made.journal()
            assert entry["deliveries"] == []

    on_bench(tmp_path, work)


def test_the_journal_is_followed_as_events_come(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.post("1")
        url = f"{made.url}/journal/headrace/default?follow=true&limit=3&type=test.happened"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert json.loads(await answer.content.readline())["event"]["id"] == "1"
            await made.post("2")
            assert json.loads(await answer.content.readline())["event"]["id"] == "2"
            await made.post("other", type="another")
            await made.post("3")
            assert json.loads(await answer.content.readline())["event"]["id"] == "3"
            assert await answer.content.readline() == b""

    on_bench(tmp_path, work)


def test_the_loops_own_are_told_and_followed_among_others(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        drift = contract.DriftDetected.TYPE
        for id, type in (("1", "another"), ("2", drift), ("3", contract.PredictionMade.TYPE)):
            await made.post(id, type=type)
        assert [e["event"]["id"] for e in await made.journal(loop="true")] == ["2"]
        assert [e["event"]["id"] for e in await made.journal(loop="false")] == ["1", "3"]
        url = f"{made.url}/journal/headrace/default"
        _, _, text = await send(f"{url}?id=3&id=1&id=nobody", {}, method="GET")
        assert [json.loads(line)["event"]["id"] for line in text.splitlines()] == ["1", "3"]
        async with aiohttp.ClientSession() as session, session.get(f"{url}?follow=true&loop=true&limit=3") as answer:
            assert json.loads(await answer.content.readline())["event"]["id"] == "2"
            await made.post("4", type="another")
            await made.post("5", type=drift)
            assert json.loads(await answer.content.readline())["event"]["id"] == "5"
            await made.post("6", type="another")
            await made.post("7", type=drift)
            assert json.loads(await answer.content.readline())["event"]["id"] == "7"

    on_bench(tmp_path, work)


def test_a_follower_may_begin_at_the_end(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.post("1")
        url = f"{made.url}/journal/headrace/default?follow=true&tail=0"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            await made.post("2")
            assert json.loads(await answer.content.readline())["event"]["id"] == "2"

    on_bench(tmp_path, work)


def test_stopping_ends_those_who_follow(tmp_path: Path) -> None:
    async def go() -> None:
        async with contextlib.AsyncExitStack() as stack:
            made = await stack.enter_async_context(bench(tmp_path))
            made.make_broker()
            session = await stack.enter_async_context(aiohttp.ClientSession())
            answer = await session.get(f"{made.url}/journal/headrace/default?follow=true")
            await made.broker.stop()
            assert await answer.content.read() == b""
            assert (await made.post("1"))[0] == 503
            made.broker.stop = made.broker.start = _nothing  # type: ignore[method-assign]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("query", "says"), [("after=x", "whole number"), ("colour=red", "colour"), ("follow=1", "true"), ("loop=1", "true")]
)
def test_a_wrong_journal_query_is_told_what_is_allowed(tmp_path: Path, query: str, says: str) -> None:
    async def work(made: Bench) -> None:
        status, _, text = await send(f"{made.url}/journal/headrace/default?{query}", {}, method="GET")
        assert status == 400
        assert says in text

    on_bench(tmp_path, work)


def test_a_restart_goes_on_with_attempts_and_waits_where_they_were(tmp_path: Path) -> None:
    async def first(made: Bench) -> None:
        await made.make_trigger("one", "http://127.0.0.1:9/", delivery={"retry": 2, **_SLOW})
        await made.post("1")

        async def tried() -> bool:
            return bool((await made.journal())[0]["deliveries"][0]["attempts"] == 1)

        await eventing_bench.until_async(tried)

    async def second(made: Bench) -> None:
        (entry,) = await made.journal()
        assert entry["deliveries"][0]["attempts"] == 1
        assert made.condition("Trigger", "one", "Ready")["status"] == "True"

    on_bench(tmp_path, first)
    with contextlib.closing(sqlite3.connect(tmp_path / "events.db")) as db:
        (due,) = db.execute("SELECT due FROM deliveries").fetchone()
    on_bench(tmp_path, second)
    with contextlib.closing(sqlite3.connect(tmp_path / "events.db")) as db:
        assert db.execute("SELECT due, state FROM deliveries").fetchone() == (due, "pending")


def test_no_acknowledged_event_is_lost_by_kill_9(tmp_path: Path) -> None:
    """Five times, at a random moment of a burst; each event and the reply to it arrive at least once."""
    chance = random.Random(7)

    async def go() -> None:
        acknowledged: set[str] = set()
        answers = subscriber(lambda request, _: reply("reply-" + request.headers["ce-id"]))
        async with answers as one, subscriber() as two:
            async with bench(tmp_path) as made:
                made.make_broker({"retry": 20, "backoffPolicy": "linear", "backoffDelay": "PT0.1S"})
                await made.make_trigger("one", one.url, filter={"attributes": {"type": "test.happened"}})
                await made.make_trigger("two", two.url, filter={"attributes": {"type": "test.answered"}})
            for round in range(5):
                process, url = await eventing_bench.start_process(tmp_path)
                burst = asyncio.create_task(
                    eventing_bench.burst(url + "/broker/headrace/default", f"{round}-", acknowledged)
                )
                await asyncio.sleep(chance.uniform(0.05, 0.5))
                process.kill()
                await process.wait()
                await burst
            assert acknowledged
            process, _ = await eventing_bench.start_process(tmp_path)
            try:
                await until(lambda: acknowledged <= set(one.ids))
                await until(lambda: {"reply-" + id for id in acknowledged} <= set(two.ids))
            finally:
                process.kill()
                await process.wait()

    asyncio.run(go())


_SLOW = {"backoffPolicy": "exponential", "backoffDelay": "PT1H"}


async def _nothing() -> None:
    return None


def _job_sink(name: str) -> dict[str, Any]:
    container = {"name": "job", "image": "i", "command": ["true"]}
    job = {"spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}}}
    return eventing_bench.manifest("sinks.knative.dev/v1alpha1", "JobSink", name, {"job": job})
