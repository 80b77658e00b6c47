"""The page for people without kubectl: what is served, how good it is, what it cost, what changed and why.

Reads what the other stand-ins keep and changes nothing, and reads only while somebody looks: the page asks every few
seconds, and all pages share one answer. `/console` is the page, `/console/data` its figures as JSON, `/console/why/ID`
one chain, `/metrics` the platform's series for Prometheus.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.resources
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote

import orjson
import prometheus_client
from aiohttp import web

from eventing import contract, settings
from eventing.errors import HeadraceError
from functions.package import Manifest
from functions.store import Store
from headrace import config, journal, why
from headrace.local import costs
from headrace.local.objects.objects import Objects
from monitoring import drift

log = logging.getLogger(__name__)

LINES_SHOWN = 60
REASONS_SHOWN = 5  # of a rejection, in the timeline; its chain shows all that the event carries
EVENTS_READ = 100  # at each look; more only where more has happened since the last one
EVENTS_READ_AT_MOST = 6_400
EVENTS_KEPT = 10_000  # in memory while the page is in use, digested, about 1 KiB each
EVENTS_SEARCHED = 20_000  # for a chain; a prediction's causes are far back, its training is not
EMPTY: Mapping[str, Any] = {"serving": None, "versions": [], "drift": None, "faults": []}  # not yet in the store
FRESH_S = 1.0  # pages that ask within it share an answer
STORE_FRESH_S = 5.0  # packages change with a training, the page asks every few seconds
STORE_WAIT_S = 1.0  # a slow store's answer is shown when it comes; the page does not wait for it
VERSIONS_SHOWN = 20
SCORES = ("roc_auc", "accuracy", "log_loss")
ENDINGS = (contract.ModelTrained.TYPE, contract.TrainingFailed.TYPE, contract.DatasetRejected.TYPE)

Read = Callable[[int], Awaitable[list[dict[str, Any]]]]
Row = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """What the timeline needs of one event; the event itself, with its rows, is let go."""

    seq: int
    id: str
    type: str
    at: str
    noun: str
    says: str
    subject: str
    cause: str | None
    version: str | None
    rows: int
    done: float | None
    file: tuple[str, str] | None
    """The name in the store and the name that the person who dropped the file knows."""
    reasons: tuple[Row, ...]
    undelivered: tuple[str, ...]

    @classmethod
    def of(cls, entry: journal.Entry) -> Event:
        """Anybody may post an event: its data may be anything."""
        data = entry.data
        reasons = data.get("reasons") if entry.type == contract.DatasetRejected.TYPE else None
        rows, done = data.get("rows"), data.get("done")
        stored = str(data.get("uri") or "").rsplit("/", 1)[-1]
        return cls(
            seq=entry.seq,
            id=entry.id,
            type=entry.type,
            at=entry.received.isoformat(),
            noun=why.noun(entry),
            says=_sentence(entry),
            subject=entry.subject,
            cause=entry.cause,
            version=str(data["version"]) if data.get("version") else None,
            rows=rows if isinstance(rows, int) else 1,
            done=float(done) if isinstance(done, int | float) else None,
            file=(stored, str(data["name"])) if stored and data.get("name") else None,
            reasons=tuple(r for r in reasons if isinstance(r, dict)) if isinstance(reasons, list) else (),
            undelivered=tuple(d["trigger"] for d in entry.deliveries if d["state"] not in ("delivered", "pending")),
        )


def timeline(events: Sequence[Event], whole: bool = True) -> list[Row]:
    """What changed, for a reader: newest first, a training's steps behind its end, a run of predictions as one line.

    events: oldest first. whole: nothing came before them; else the oldest run of predictions is "at least" so long.
    """
    ended = {e.cause for e in events if e.type in ENDINGS}
    answered = {e.cause for e in events if e.type == contract.PredictionMade.TYPE}
    names = dict(e.file for e in events if e.file)
    rows: list[Row] = []
    runs: dict[tuple[str, ...], list[Event]] = {}  # of predictions since the last event of another type
    steps: dict[str | None, Row] = {}
    for event in events:
        if event.type == contract.PredictionRequested.TYPE and event.id in answered:
            continue  # the answer tells of it
        if event.type in why.PREDICTIONS:
            runs.setdefault((event.noun, event.subject, event.version or ""), []).append(event)
            continue
        if event.type == contract.TrainingProgressed.TYPE:
            if event.cause in ended:
                continue
            if event.cause in steps:
                rows.remove(steps[event.cause])
        rows += [_run(run, whole or bool(rows)) for run in runs.values()]
        runs.clear()
        rows.append(_line(event, names))
        if event.type == contract.TrainingProgressed.TYPE:
            steps[event.cause] = rows[-1]
    rows += [_run(run, whole or bool(rows)) for run in runs.values()]
    return rows[: -LINES_SHOWN - 1 : -1]


def _line(event: Event, names: Mapping[str, str]) -> Row:
    says = event.says
    for stored, name in names.items():
        says = says.replace(stored, name)
    line: Row = {"key": event.id, "why": event.id, "at": event.at, "noun": event.noun, "says": says}
    if event.done is not None:
        line |= {"done": event.done, "says": f"{event.subject}: {says}"}
    if event.reasons:
        line |= {"reasons": event.reasons[:REASONS_SHOWN], "more_reasons": len(event.reasons[REASONS_SHOWN:])}
    return line | {"undelivered": event.undelivered}


def _run(run: Sequence[Event], whole: bool) -> Row:
    """Predictions in a row as one line, told by the newest; its key is the oldest's, which stays while it grows."""
    first, last = run[0], run[-1]
    count, rows = len(run), sum(e.rows for e in run)
    says = last.says
    if count > 1 and last.type == contract.PredictionMade.TYPE:
        told = f"{count:,} predictions" + (f" ({rows:,} rows)" if rows != count else "")
        says = f"{'' if whole else 'at least '}{told} by {first.subject} {first.version}"
    elif count > 1:
        says = f"{count:,} predictions by {first.subject} were asked for and are not answered"
    undelivered = sorted({u for e in run for u in e.undelivered})
    line = {"key": first.id, "why": last.id, "at": last.at, "noun": last.noun, "says": says, "undelivered": undelivered}
    return line | ({"from": first.at, "count": count} if count > 1 else {})


@dataclass(slots=True)
class _Seen:
    """The events since somebody first looked, digested."""

    events: dict[int, Event] = field(default_factory=dict)
    whole: bool = False

    @property
    def newest(self) -> int:
        return max(self.events, default=0)

    def take(self, lines: Sequence[dict[str, Any]], asked: int) -> None:
        events = {line["seq"]: Event.of(journal.entry(line)) for line in lines}
        if len(lines) < asked:
            self.whole = True
        elif self.newest + 1 < min(events):
            self.events.clear()  # more has come than was read: a line counts all or says that it does not
            self.whole = False
        self.events |= events
        surplus = len(self.events) - EVENTS_KEPT
        if surplus > 0:
            # A flood of predictions must not wash away what changed.
            spare = [s for s in sorted(self.events) if self.events[s].type in why.PREDICTIONS]
            for seq in (spare or sorted(self.events))[:surplus]:
                del self.events[seq]
            self.whole = False

    def lines(self) -> list[Row]:
        return timeline([self.events[s] for s in sorted(self.events)], self.whole)


class Console:
    """The page and its figures.

    read: the newest n entries of the journal, oldest first, as `GET /journal` writes them.
    """

    def __init__(
        self, objects: Objects, read: Read, store_url: str, registry: prometheus_client.CollectorRegistry
    ) -> None:
        self._objects = objects
        self._read = read
        self._registry = registry
        self._costs = costs.Costs(objects)
        self._page = importlib.resources.files("headrace.local").joinpath("console.html").read_bytes()
        self._headers = {
            "Content-Security-Policy": policy(self._page.decode()),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        self._shelf = _Shelf(store_url)
        self._seen = _Seen()
        self._turn = asyncio.Lock()
        self._answer: tuple[float, Row] = (-math.inf, {})

    async def start(self) -> None:
        self._costs.start()

    async def stop(self) -> None:
        self._costs.stop()
        self._shelf.forget()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if request.method not in ("GET", "HEAD"):
            return _json({"error": f"{request.method} does nothing here; this page only shows"}, 405)
        if not path:
            raise web.HTTPFound("/console")
        if path == "/console":
            return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=self._headers)
        if path == "/console/data":
            return _json(await self.data())
        if path.startswith("/console/why/"):
            chain = await self._why(unquote(path.removeprefix("/console/why/")))
            return _json(chain) if chain else _json({"error": "no event of the journal is or names this"}, 404)
        if path == "/metrics":
            body = prometheus_client.generate_latest(self._registry)
            return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
        return _json({"error": f"nothing is shown at {path}; try /console or /metrics"}, 404)

    async def data(self) -> Row:
        """Everything the page shows, as of now."""
        async with self._turn:
            at, answer = self._answer
            if time.monotonic() - at >= FRESH_S:
                answer = await self._look()
                self._answer = (time.monotonic(), answer)
            return answer

    async def _look(self) -> Row:
        await self._catch_up()
        values = self._objects.get("ConfigMap", config.NAMESPACE, config.CONFIG_MAP) or {}
        models, fault = await self._shelf.models(values.get("data") or {})
        services = costs.services(self._objects, self._costs, self._registry.collect())
        names = sorted({name for name, s in services.items() if s["is_model"]} | models.keys())
        return {
            "models": [{"name": n, "service": services.get(n), **models.get(n, EMPTY)} for n in names],
            "store_fault": fault,
            "timeline": await asyncio.to_thread(self._seen.lines),
            "trainings": costs.trainings(self._objects, self._costs),
            "parts": costs.parts(self._objects, services),
            "since": self._costs.since,
        }

    async def _catch_up(self) -> None:
        count = EVENTS_READ
        lines = await self._read(count)
        while len(lines) == count < EVENTS_READ_AT_MOST and lines[0]["seq"] > self._seen.newest + 1:
            count *= 4
            lines = await self._read(count)
        # Off the loop: the first look digests thousands of events, and requests go through this process.
        await asyncio.to_thread(self._seen.take, lines, count)

    async def _why(self, id: str) -> list[Row]:
        lines = await self._read(EVENTS_SEARCHED)
        return await asyncio.to_thread(_chain, lines, id)


class _Shelf:
    """What the store says of models, read off the loop, and at most every few seconds. A package never changes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._models: dict[str, Row] = {}
        self._fault = ""
        self._manifests: dict[tuple[str, str], Manifest] = {}

    async def models(self, limits: Mapping[str, str]) -> tuple[dict[str, Row], str]:
        """By name, and why they are not of now, where they are not. limits: values of the ConfigMap `headrace`."""
        if self._reading is None and time.monotonic() - self._read_at >= STORE_FRESH_S:
            self._reading = asyncio.create_task(self._refresh(limits))
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=STORE_WAIT_S)
        return self._models, self._fault

    def forget(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    async def _refresh(self, limits: Mapping[str, str]) -> None:
        try:
            self._models = await asyncio.to_thread(self._look, limits)
            self._fault = ""
        except Exception as e:  # whatever it is, the page says so instead of looking empty
            log.warning("the console cannot read the store", exc_info=True)
            self._fault = f"The store cannot be read; what stands here of models is from before. {e}"
        finally:
            self._read_at, self._reading = time.monotonic(), None

    def _look(self, limits: Mapping[str, str]) -> dict[str, Row]:
        store = Store.open(self._url)
        models = {}
        for name in store.models():
            faults: list[str] = []
            serving = _or_fault(faults, store.serving, name)
            rows = [self._version(store, name, v) for v in store.versions(name)[-VERSIONS_SHOWN:]]
            models[name] = {
                "serving": asdict(serving) if serving else None,
                "versions": [row | {"serves": bool(serving and serving.version == row["version"])} for row in rows],
                "drift": _or_fault(faults, self._drift, store, name, limits),
                "faults": faults,
            }
        return models

    def _manifest(self, store: Store, model: str, version: str) -> Manifest:
        if (model, version) not in self._manifests:
            self._manifests[model, version] = store.manifest(model, version)
        return self._manifests[model, version]

    def _version(self, store: Store, model: str, version: str) -> Row:
        try:
            manifest = self._manifest(store, model, version)
        except HeadraceError as e:
            return {"version": version, "fault": str(e)}  # one broken package must not blind the page to the others
        return {
            "version": version,
            "trainer": manifest.trainer,
            "rows": manifest.dataset.get("rows"),
            "created": manifest.created,
            "scores": {s: manifest.scores[s] for s in SCORES if s in manifest.scores},
            "parity": {k: manifest.parity.get(k) for k in ("rows", "label_flips", "largest_difference")},
        }

    def _drift(self, store: Store, model: str, limits: Mapping[str, str]) -> Row | None:
        """The drift watch's window, measured as it does; None before the first prediction it counted."""
        kept = store.read_json(f"drift/{model}.json")
        if kept is None or not kept.get("rows"):
            return None
        usual = drift.Limits()
        threshold = settings.number(limits, "HEADRACE_DRIFT_THRESHOLD", usual.threshold, 0.001, 100)
        needed = settings.whole_number(limits, "HEADRACE_DRIFT_MIN_ROWS", usual.min_rows, 1, 100_000)
        baseline = drift.Baseline.from_json(self._manifest(store, model, str(kept.get("version"))).baseline)
        rows = [tuple(map(int, row)) for row in kept["rows"]]
        window = drift.Window.empty(baseline, len(rows)).add(rows)
        measures = drift.measure(window, baseline, threshold) if len(rows) >= needed else ()
        shown = [{**asdict(m), "over": m.excess > 1} for m in measures]
        return {"rows": len(rows), "needed": needed, "drifting": bool(kept.get("drifting")), "measures": shown}


def policy(page: str) -> str:
    """The page's Content-Security-Policy: its own script and style, by digest, its own origin, and nothing else."""
    own = []
    for tag in ("script", "style"):
        texts = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        own.append(f"{tag}-src " + " ".join(f"'sha256-{digest}'" for digest in digests))
    others = "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; {'; '.join(own)}; connect-src 'self'; {others}"


def _sentence(entry: journal.Entry) -> str:
    try:
        return why.describe(entry)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return f"{entry.type} about {entry.subject}, with data that breaks its contract"  # anybody may post anything


def _chain(lines: Iterable[dict[str, Any]], id: str) -> list[Row]:
    chain = why.explain([journal.entry(line) for line in lines], id)
    links = chain.links if chain else ()
    events = [Event.of(link.entry) for link in links]
    names = dict(e.file for e in events if e.file)
    told = [_line(e, names) | {"reasons": e.reasons} for e in events]
    return [line | {"asked": link.asked} for line, link in zip(told, links, strict=True)]


def _or_fault(faults: list[str], read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What `read` gives; None, and why among the faults, where a file of the store is broken."""
    try:
        return read(*args, **kwargs)
    except (HeadraceError, ArithmeticError, LookupError, TypeError, ValueError) as e:
        faults.append(str(e))
        return None


def _json(value: Any, code: int = 200) -> web.Response:
    body = orjson.dumps(value, default=str)
    return web.Response(body=body, status=code, content_type="application/json", headers={"Cache-Control": "no-store"})
