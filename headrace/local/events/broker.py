"""The laptop's Broker: takes events, keeps them, and has each delivered to every Trigger that wants it.

Stands for Knative's MTChannelBasedBroker, with the same URLs, statuses and delivery rules, and more durable than its
in-memory channel: 202 is answered only once the event and its pending deliveries are on disk, and after a kill -9
everything acknowledged is delivered. Which Triggers want an event is settled when it is taken, so a Trigger that comes
later gets nothing of the past.
Source: knative/eventing pkg/broker/ingress/ingress_handler.go, pkg/broker/ttl.go; wire-formats of the data plane.

    POST, OPTIONS  /broker/NAMESPACE/NAME     also /NAMESPACE/NAME, the path of a cluster's broker-ingress
    GET            /journal/NAMESPACE/NAME    ?after=SEQ&type=&id=&subject=&causationid=&loop=&limit=&follow=true
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from headrace.local.addresses import Addresses
from headrace.local.events import ingress, subscription
from headrace.local.events.dispatch import TTL_ATTRIBUTE, Dispatcher
from headrace.local.events.ingress import Refused
from headrace.local.events.journal import Journal, JournalFull, Limits, Query, Taken
from headrace.local.events.stored_event import StoredEvent
from headrace.local.events.subscription import Subscription
from headrace.local.objects import objects

log = logging.getLogger(__name__)

MAX_TTL = 255  # MAX_TTL of Knative's ingress: how often a reply may follow on a reply
RETRY_AFTER_S = "5"
PAGE = 500  # journal entries read at once, so that the longest answer stays small in memory
FOLLOW_IDLE_S = 10.0  # an empty line this often tells a quiet follower from a dead one, both ways
SUBSCRIBERS = ("Service", "JobSink")


class Broker:
    """All Brokers of one platform.

    db: the journal's file. start and stop bracket its work; `handle` and `handle_journal` answer in between.
    """

    def __init__(self, store: objects.Objects, db: Path, addresses: Addresses, limits: Limits | None = None) -> None:
        self._objects = store
        self._addresses = addresses
        self.journal = Journal(db, limits)
        self._subscriptions: dict[str, Subscription] = {}
        self._by_broker: dict[tuple[str, str], list[Subscription]] = {}
        self._dispatcher = Dispatcher(self.journal, self._subscriptions, self._route, addresses.broker)
        self._refresh_planned = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Go on where the last run ended. Raises Misconfigured when the journal cannot be opened."""
        await self.journal.open()
        await self._dispatcher.start()
        self._unwatch = self._objects.watch(self._changed)
        self._refresh()
        pending = await self.journal.pending()
        for uid in {p.trigger_uid for p in pending} - set(self._subscriptions):
            await self.journal.drop(uid, "the Trigger was deleted", time.time())
        self._dispatcher.add(p for p in pending if p.trigger_uid in self._subscriptions)

    async def stop(self) -> None:
        self._stopping = True
        self.journal.wake_followers()
        self._unwatch()
        await self._dispatcher.stop()
        await asyncio.gather(*self._tasks)
        await self.journal.close()

    async def handle(self, request: web.BaseRequest, prefix: str = "/broker") -> web.StreamResponse:
        """A request below `prefix`: an event for the Broker that the path names."""
        parts = request.path.removeprefix(prefix).strip("/").split("/")
        if len(parts) != 2 or not all(parts):
            return Refused(400, f"{request.path} names no Broker; expected {prefix}/NAMESPACE/NAME").response()
        return await self.ingress(request, *parts)

    async def ingress(self, request: web.BaseRequest, namespace: str, name: str) -> web.StreamResponse:
        """Take an event for one Broker: 202 when it is on disk.

        400 with every fault, 404 unknown Broker, 405, 413 over 1 MiB; 503 when the disk does not take it.
        """
        if request.method == "OPTIONS":  # the CloudEvents webhook handshake, open as Knative's is
            allow = {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*", "Allow": "POST, OPTIONS"}
            return web.Response(headers=allow)
        try:
            if request.method != "POST":
                raise Refused(405, f"{request.method} is not for Brokers; post an event", Allow="POST, OPTIONS")
            event = StoredEvent.of(await ingress.read_event(request))
            if self._objects.get("Broker", namespace, name) is None:
                raise Refused(404, f'there is no Broker "{name}" in namespace "{namespace}"')
            await self._take(event, namespace, name)
        except Refused as e:
            return e.response()
        return web.Response(status=202)

    async def handle_journal(self, request: web.BaseRequest) -> web.StreamResponse:
        """Events and their deliveries as NDJSON, oldest first; with `follow=true` on and on."""
        try:
            query, follow = self._journal_query(request)
        except Refused as e:
            return e.response()
        # Settled before the answer begins: what comes after its first byte is not missed.
        query = await self.journal.from_tail(query)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        with self.journal.follow() as news:
            try:
                await self._write_journal(response, query, follow, news)
            except ConnectionError:
                log.debug("a reader of the journal has left")
        return response

    async def newest(self, namespace: str, name: str, count: int) -> list[dict[str, Any]]:
        """The newest `count` events of a Broker, oldest first, as `GET /journal` writes them."""
        return await self.journal.entries(Query(namespace, name, tail=count, limit=count))

    async def _take(self, event: StoredEvent, namespace: str, name: str) -> None:
        attributes = dict(event.attributes)
        ttl = _ttl(attributes.pop(TTL_ATTRIBUTE, None))
        if ttl <= 0:
            raise Refused(400, f"{TTL_ATTRIBUTE} is spent: this event went round too often")
        event = StoredEvent(attributes, event.data)
        if self._stopping:
            raise Refused(503, "the platform is stopping; try again", Retry_After=RETRY_AFTER_S)
        taken = Taken(namespace, name, event, time.time(), ttl, self._route(namespace, name, attributes))
        try:
            seq = await self.journal.accept(taken)
        except (sqlite3.Error, JournalFull) as e:
            log.error("event %s not taken: %s", event.id, e)
            raise Refused(503, f"the event was not kept: {e}; try again", Retry_After=RETRY_AFTER_S) from e
        self._dispatcher.take(seq, taken)

    def _route(self, namespace: str, name: str, attributes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        candidates = self._by_broker.get((namespace, name), ())
        return tuple((s.uid, s.name) for s in candidates if s.matches is not None and s.matches(attributes))

    def _journal_query(self, request: web.BaseRequest) -> tuple[Query, bool]:
        parts = request.path.strip("/").split("/")
        if request.method != "GET" or len(parts) != 3:
            raise Refused(400, "the journal is read by GET /journal/NAMESPACE/BROKER")
        _, namespace, name = parts
        if self._objects.get("Broker", namespace, name) is None:
            raise Refused(404, f'there is no Broker "{name}" in namespace "{namespace}"')
        wanted = request.query
        faults = [f"{key} is not known" for key in wanted if key not in _QUERY]
        numbers = {key: wanted[key] for key in ("after", "limit", "tail") if key in wanted}
        faults += [f"{key} is {text!r}; expected a whole number" for key, text in numbers.items() if not _is_int(text)]
        flags = {key: wanted[key] for key in ("loop", "follow") if key in wanted}
        faults += [f"{key} is {text!r}; expected true or false" for key, text in flags.items() if text not in _FLAGS]
        if faults:
            raise Refused(400, f"the query is wrong; it may have {', '.join(_QUERY)}", tuple(faults))
        texts = {key: tuple(wanted.getall(key)) for key in _TEXTS if key in wanted}
        query = Query(
            namespace,
            name,
            after=int(numbers.get("after", 0)),
            limit=int(numbers.get("limit", 2**62)),
            tail=int(numbers["tail"]) if "tail" in numbers else None,
            loop=_FLAGS[flags["loop"]] if "loop" in flags else None,
            **texts,
        )
        return query, flags.get("follow") == "true"

    async def _write_journal(
        self, response: web.StreamResponse, query: Query, follow: bool, news: asyncio.Event
    ) -> None:
        left = query.limit
        while left > 0 and not self._stopping:
            news.clear()
            page, newest = await self.journal.page(query.page(min(left, PAGE)))
            if page:
                await response.write(b"".join(orjson.dumps(entry) + b"\n" for entry in page))
                query, left = query.from_after(page[-1]["seq"]), left - len(page)
            elif not follow:
                return
            else:
                query = query.from_after(max(query.after, newest))  # what was not wanted is not looked at again
                try:
                    async with asyncio.timeout(FOLLOW_IDLE_S):
                        await news.wait()
                except TimeoutError:
                    await response.write(b"\n")

    def _changed(self, change: str, obj: Mapping[str, Any]) -> None:
        """Objects tell what came, changed or went; one look at all of them follows, however many did."""
        kind = obj["kind"]
        # A Service's status changes often; what a Trigger needs of it is that it is there.
        if kind not in ("Broker", "Trigger") and not (kind in SUBSCRIBERS and change != objects.MODIFIED):
            return
        if not self._refresh_planned:
            self._refresh_planned = True
            asyncio.get_running_loop().call_soon(self._refresh)

    def _refresh(self) -> None:
        """Make the subscriptions and every status again from the objects, and drop what nobody wants any more."""
        self._refresh_planned = False
        now = datetime.now(UTC)
        brokers = {(b["metadata"]["namespace"], b["metadata"]["name"]): b for b in self._objects.list("Broker")}
        before, current = dict(self._subscriptions), {}
        for trigger in self._objects.list("Trigger"):
            of = (trigger["metadata"]["namespace"], subscription.broker_name(trigger))
            made = subscription.subscription(trigger, brokers.get(of), self._addresses, self._exists)
            current[made.uid] = made
            self._write_status(trigger, subscription.trigger_status(trigger, made, now))
        self._subscriptions.clear()
        self._subscriptions.update(current)
        self._by_broker.clear()
        for made in current.values():
            self._by_broker.setdefault((made.namespace, made.broker), []).append(made)
        for uid, old in before.items():
            if uid not in current:
                self._drop(uid, "the Trigger was deleted")
            elif old.broker_exists and not current[uid].broker_exists:
                self._drop(uid, "the Broker was deleted")
        for broker in brokers.values():
            self._write_status(broker, subscription.broker_status(broker, self._addresses, self._exists, now))

    def _exists(self, kind: str, namespace: str, name: str) -> bool:
        return self._objects.get(kind, namespace, name) is not None

    def _write_status(self, obj: dict[str, Any], status: dict[str, Any]) -> None:
        annotations = obj["metadata"].get("annotations", {})
        if obj["kind"] == "Broker" and subscription.BROKER_CLASS_KEY not in annotations:
            annotated = {**annotations, subscription.BROKER_CLASS_KEY: subscription.BROKER_CLASS}
            obj["metadata"]["annotations"] = annotated
            obj = self._objects.update(obj)
        if obj.get("status") != status:
            self._objects.update({**obj, "status": status}, subresource="status")

    def _drop(self, uid: str, reason: str) -> None:
        self._dispatcher.forget(uid)
        self._spawn(self._record_dropped(uid, reason))

    async def _record_dropped(self, uid: str, reason: str) -> None:
        try:
            dropped = await self.journal.drop(uid, reason, time.time())
        except sqlite3.Error:
            log.exception("dropped deliveries of trigger %s are not written down; the next start does it", uid)
        else:
            if dropped:
                log.warning("%d pending deliveries dropped: %s", dropped, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_TEXTS = ("id", "type", "subject", "causationid")  # each may be there several times: one of these
_FLAGS = {"true": True, "false": False}
_QUERY = ("after", "tail", "limit", "loop", "follow", *_TEXTS)


def _is_int(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _ttl(given: Any) -> int:
    """The hops left to an event that comes in. Source: knative/eventing pkg/broker/ttl.go, TTLDefaulter."""
    try:
        return MAX_TTL if given is None else max(int(given) - 1, 0)
    except ValueError:
        return MAX_TTL
