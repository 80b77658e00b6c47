"""The Broker's deliveries: events out of the journal to their subscribers, until each is done, dead or dropped.

One lane per Trigger, so that a slow subscriber holds up nobody else's events. What follows from an answer is decided in
`headrace.local.events.delivery`; here it is posted, written into the journal, and only then acted on, so that a kill -9
at any line costs at most a second delivery of the same event. Nothing polls: one timer stands at the next attempt that
is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypedDict

import aiohttp

from headrace.local.events import delivery, journal_tables
from headrace.local.events.delivery import Again, DeadLetter, Done, Dropped, Outcome, Verdict
from headrace.local.events.ingress import MAX_EVENT_BYTES
from headrace.local.events.journal import Attempt, Journal, Pending, Taken
from headrace.local.events.stored_event import StoredEvent
from headrace.local.events.subscription import Address, Subscription

log = logging.getLogger(__name__)

# Enough for a subscriber to scale on, few enough that a burst of thousands does not open thousands of connections.
CONCURRENCY_PER_TRIGGER = 10
IN_MEMORY = 100  # events per lane that wait with their content, 100 MiB at worst; the others are read when due
RECORD_AGAIN_S = 1.0  # between tries to write an attempt's end down while the disk is full
UNFORESEEN_S = 60.0  # before a delivery that failed by a fault of ours is tried again
DRAIN_S = 5.0  # for deliveries under way when the platform stops; those cut off come again at the next start
NOT_FOUND = 404
TTL_ATTRIBUTE = "knativebrokerttl"  # how often a reply may still follow on a reply
HOPS_SPENT = 400  # what Knative's ingress answers to a reply whose knativebrokerttl is spent

Route = Callable[[str, str, Mapping[str, Any]], tuple[tuple[str, str], ...]]
"""Namespace, broker and attributes to the uid and name of each Trigger that wants the event."""


@dataclass(slots=True)
class _Lane:
    """One Trigger's deliveries: those that may start now, and how many are under way."""

    ready: deque[Pending] = field(default_factory=deque)
    running: int = 0


class _DeadLetter(TypedDict):
    """What changes when a delivery turns to the dead letter sink, in the journal as in memory."""

    to_dead_letter: bool
    attempts: int
    destination: str
    body: bytes


def aftermath(
    pending: Pending, verdict: Verdict, step: delivery.Step, destination: str, now: float
) -> tuple[Attempt, Pending | None]:
    """What the journal notes of an attempt, and the delivery that is left to make. Pure.

    verdict, destination: of this attempt. What a dead letter tells stays the subscriber's failure, however the dead
    letter sink answers.
    """
    attempt = Attempt(journal_tables.PENDING, pending.attempts + 1, now, verdict.code, verdict.reason)
    if pending.to_dead_letter:
        attempt = replace(
            attempt,
            code=pending.code,
            reason=verdict.reason or f"the subscriber answered {pending.code}",
            to_dead_letter=True,
            destination=pending.destination,
            body=pending.body,
        )
    match step:
        case Done():
            state = journal_tables.DEAD_LETTERED if pending.to_dead_letter else journal_tables.DELIVERED
            return replace(attempt, state=state), None
        case Dropped(reason):
            return replace(attempt, state=journal_tables.DROPPED, reason=reason), None
        case Again(due):
            return replace(attempt, due=due), replace(pending, attempts=attempt.attempts, due=due)
        case DeadLetter():
            body = verdict.body[: delivery.ERROR_DATA_CHARACTERS]  # more would not fit into the extension
            told: _DeadLetter = {"to_dead_letter": True, "attempts": 0, "destination": destination, "body": body}
            return replace(attempt, **told), replace(pending, due=0.0, code=verdict.code, **told)


class Dispatcher:
    """Delivers what it is given by `add`, by the rules that `subscriptions` holds at the time of each attempt.

    subscriptions: by uid of the Trigger, kept up to date by the Broker. broker_url: of namespace and name.
    """

    def __init__(
        self,
        journal: Journal,
        subscriptions: Mapping[str, Subscription],
        route: Route,
        broker_url: Callable[[str, str], str],
    ) -> None:
        self._journal = journal
        self._subscriptions = subscriptions
        self._route = route
        self._broker_url = broker_url
        self._lanes: dict[str, _Lane] = {}
        self._waiting: list[tuple[float, int, Pending]] = []  # a heap by loop time
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the lanes are the limit
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    async def stop(self) -> None:
        """Let deliveries under way end, for a while; what is cut off stays pending."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def add(self, deliveries: Iterable[Pending]) -> None:
        """Make these deliveries, each when it is due."""
        now = time.time()
        for pending in deliveries:
            # A wall clock that was set back must not put off an attempt for longer than any delivery spec may.
            wait = min(pending.due - now, delivery.MAX_DELAY_S)
            if wait > 0:
                heapq.heappush(self._waiting, (self._loop.time() + wait, next(self._order), pending))
            else:
                self._make_ready(pending)
        self._set_timer()

    def take(self, seq: int, taken: Taken) -> None:
        """Make the deliveries of an event that has just been journaled."""
        self.add(Pending(seq, uid, event=taken) for uid, _ in taken.deliveries)

    def forget(self, trigger_uid: str) -> None:
        """Start nothing more for a Trigger; attempts under way end, and the journal ignores how."""
        self._lanes.pop(trigger_uid, None)
        self._waiting = [entry for entry in self._waiting if entry[2].trigger_uid != trigger_uid]
        heapq.heapify(self._waiting)
        self._set_timer()

    def _make_ready(self, pending: Pending) -> None:
        lane = self._lanes.setdefault(pending.trigger_uid, _Lane())
        lane.ready.append(pending if len(lane.ready) < IN_MEMORY else replace(pending, event=None))
        self._pump(pending.trigger_uid)

    def _pump(self, trigger_uid: str) -> None:
        lane = self._lanes.get(trigger_uid)
        while lane is not None and lane.ready and lane.running < CONCURRENCY_PER_TRIGGER and not self._stopping:
            lane.running += 1
            task = self._loop.create_task(self._attempt(lane.ready.popleft(), lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and not self._stopping:
            self._timer = self._loop.call_at(self._waiting[0][0], self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._make_ready(heapq.heappop(self._waiting)[2])
        self._set_timer()

    async def _attempt(self, pending: Pending, lane: _Lane) -> None:
        try:
            subscription = self._subscriptions.get(pending.trigger_uid)
            if subscription is None:
                return  # deleted while this waited; the Broker records what it dropped
            taken = pending.event or await self._journal.event(pending.seq)
            address = subscription.dead_letter if pending.to_dead_letter else subscription.subscriber
            verdict = await self._deliver(pending, taken, subscription, address)
            await self._settle(pending, taken, subscription, address, verdict)
        except Exception:
            # A fault of ours must not lose the event, nor spin on it; the attempt does not count.
            log.exception("event %s of trigger %s: the delivery failed in an unforeseen way", *_names(pending))
            self.add([replace(pending, due=time.time() + UNFORESEEN_S)])
        finally:
            lane.running -= 1
            self._pump(pending.trigger_uid)

    async def _deliver(
        self, pending: Pending, taken: Taken, subscription: Subscription, address: Address | None
    ) -> Verdict:
        if address is None:
            return Verdict(Outcome.FINAL, NOT_FOUND, reason="the dead letter sink is not set any more")
        if address.url is None:
            return Verdict(Outcome.RETRY, NOT_FOUND, address.fault.encode(), address.fault)
        event = taken.event.with_attributes(knativearrivaltime=_time(taken.received))
        if pending.to_dead_letter:
            extensions = delivery.error_extensions(pending.destination, pending.code, pending.body)
            # Knative takes its count of rounds off in front of a subscriber, and not in front of a dead letter sink.
            event = event.with_attributes(**extensions, **{TTL_ATTRIBUTE: taken.ttl})
        return await self._post(address.url, event, subscription, wants_reply=not pending.to_dead_letter)

    async def _post(self, url: str, event: StoredEvent, subscription: Subscription, *, wants_reply: bool) -> Verdict:
        """One attempt over HTTP, judged."""
        headers, body = event.structured() if subscription.delivery.structured else event.binary()
        headers |= {"Prefer": "reply", "Kn-Namespace": subscription.namespace}
        timeout = aiohttp.ClientTimeout(total=subscription.delivery.timeout_s)
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
            ) as answer:
                answered = {name.lower(): value for name, value in answer.headers.items()}
                content = await _read(answer.content)
        except TimeoutError:
            return delivery.no_answer(f"no answer within {subscription.delivery.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as e:
            return delivery.no_answer(f"no answer: {e or type(e).__name__}")
        if len(content) > MAX_EVENT_BYTES and 200 <= answer.status < 300:
            reason = f"answered {answer.status} with a body over {MAX_EVENT_BYTES} bytes"
            return Verdict(Outcome.RETRY, delivery.BAD_REPLY, reason.encode(), reason)
        return delivery.judge(answer.status, answered, content, wants_reply=wants_reply)

    async def _settle(
        self, pending: Pending, taken: Taken, subscription: Subscription, address: Address | None, verdict: Verdict
    ) -> None:
        """Decide what follows, write it down, act on it."""
        destination = "" if address is None else address.intended
        reply = self._reply(taken, verdict)
        if reply is not None and reply.ttl <= 0:
            # Knative's ingress refuses it, and the refusal makes the delivery fail for good.
            reason = "answered with a reply that has gone round too often"
            verdict = Verdict(Outcome.FINAL, HOPS_SPENT, reason.encode(), reason)
            destination, reply = self._broker_url(taken.namespace, taken.broker), None
        now = time.time()
        step = delivery.decide(
            subscription.delivery,
            verdict,
            attempts=pending.attempts + 1,
            to_dead_letter=pending.to_dead_letter,
            has_dead_letter=subscription.dead_letter is not None,
            now=now,
        )
        if isinstance(step, Dropped):
            log.warning("event %s dropped for trigger %s: %s", taken.event.id, subscription.name, step.reason)
        attempt, following = aftermath(pending, verdict, step, destination, now)
        noted, seq = await self._record(pending, attempt, reply)
        if seq is not None and reply is not None:
            self.take(seq, reply)
        if noted and following is not None:
            # A long wait is spent without the event in memory.
            self.add([following if following.due <= now + 1 else replace(following, event=None)])

    def _reply(self, taken: Taken, verdict: Verdict) -> Taken | None:
        """The reply as an event of the same Broker, with the Triggers that want it."""
        if verdict.reply is None:
            return None
        event = StoredEvent.of(verdict.reply)
        wanted = self._route(taken.namespace, taken.broker, event.attributes)
        return Taken(taken.namespace, taken.broker, event, time.time(), taken.ttl - 1, wanted)

    async def _record(self, pending: Pending, attempt: Attempt, reply: Taken | None) -> tuple[bool, int | None]:
        """Write an attempt's end down, however long the disk stays full: else the event would be delivered again."""
        while True:
            try:
                return await self._journal.record(pending, attempt, reply)
            except sqlite3.Error as e:
                log.error("event %s of trigger %s: not written down, trying again: %s", *_names(pending), e)
                await asyncio.sleep(RECORD_AGAIN_S)


def _names(pending: Pending) -> tuple[int, str]:
    return pending.seq, pending.trigger_uid


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The body, or a little more than the limit of it."""
    chunks: list[bytes] = []
    size = 0
    with contextlib.suppress(aiohttp.EofStream):
        while size <= MAX_EVENT_BYTES and (chunk := await content.readany()):
            chunks.append(chunk)
            size += len(chunk)
    return b"".join(chunks)
