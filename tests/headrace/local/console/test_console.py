"""The page in a real browser, over real objects, a real journal and a real store; only who fills them is the test."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import prometheus_client
import pytest
from aiohttp import web
from cloudevents.core.v1.event import CloudEvent
from playwright.sync_api import Browser, Page, expect, sync_playwright

from eventing import contract
from functions.store import Serving, Store
from headrace import config, journal
from headrace.local.console.console import Console
from headrace.local.console.timeline import Event, timeline
from headrace.local.events.journal import Journal, Query, Taken
from headrace.local.events.stored_event import StoredEvent
from headrace.local.gateway.request_metrics import RequestMetrics
from headrace.local.objects.objects import Objects
from monitoring import drift
from tests.functions import packages

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
V1, V2 = packages.VERSION, packages.OTHER_VERSION
DIGEST = "ab" * 32
MARKUP = "<script>document.title='hacked'</script><img src=x onerror=alert(1)>"
T = TypeVar("T")


class House:
    """A Console behind a port of its own, and short words for what happens in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.store = Store.open((home / "store").as_uri())
        self.store_url = self.store.url
        self.requests = RequestMetrics()
        self.port = 0
        self.call(self._open())

    async def _open(self) -> None:
        self.objects = Objects(self.home / "objects.db")
        self.journal = Journal(self.home / "events.db")
        await self.journal.open()
        await self._serve()

    async def _serve(self) -> None:
        registry = prometheus_client.CollectorRegistry()
        registry.register(self.requests)
        self.console = Console(self.objects, self._newest, self.store_url, registry)
        await self.console.start()
        self.runner = web.ServerRunner(web.Server(self.console.handle), shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def _newest(self, count: int) -> list[dict[str, Any]]:
        return await self.journal.entries(Query(config.NAMESPACE, config.BROKER, tail=count, limit=count))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def on_loop(self, work: Callable[[], T]) -> T:
        async def run() -> T:
            return work()

        return self.call(run())

    def go(self) -> None:
        """The platform is gone; `come_back` starts it at the same port."""

        async def go() -> None:
            await self.console.stop()
            await self.runner.cleanup()

        self.call(go())

    def come_back(self) -> None:
        self.call(self._serve())

    def close(self) -> None:
        self.go()
        self.call(self.journal.close())
        self.on_loop(self.objects.close)
        self.loop.call_soon_threadsafe(self.loop.stop)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/console"

    def data(self) -> dict[str, Any]:
        with urlopen(f"{self.url}/data", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def happens(self, data: contract.Data, id: str, cause: str | None = None) -> None:
        causing = CloudEvent({"id": cause, "source": "/t", "type": "t"}, None) if cause else None
        event = data.to_event(source="/headrace/test", id=id, time=datetime.now(UTC), cause=causing)
        taken = Taken(config.NAMESPACE, config.BROKER, StoredEvent.of(event), time.time(), 255)
        self.call(self.journal.accept(taken))

    def arrives(self, name: str = "january.csv", id: str = "d1") -> None:
        uri = f"file:///store/datasets/flights/{DIGEST}.csv"
        self.happens(contract.DatasetArrived("flights", uri, DIGEST, 1_900_000, name), id)

    def trains(self, version: str = V1, cause: str = "d1") -> None:
        trained = contract.ModelTrained(
            "flights", version, "file:///m", DIGEST, {"roc_auc": 0.9}, {}, 100, 2.0, DIGEST, job="random-forest-1"
        )
        self.happens(trained, f"trained-{version}", cause)

    def answers(self, id: str, version: str = V1) -> None:
        self.happens(contract.PredictionMade("flights", version, {}, 1.5, rows=1, answers={"label": (1,)}), id)

    def serves(self, **shares: int) -> None:
        """The Service flights with these percents by Revision; flights_00002 carries the second version."""

        def change() -> None:
            versions = {"flights_00001": V1, "flights_00002": V2}
            for revision in shares:
                spec = {"containers": [{"image": "i", "env": _environment(versions[revision])}]}
                if self.objects.get("Revision", config.NAMESPACE, revision.replace("_", "-")) is None:
                    self.objects.create(_object("Revision", revision.replace("_", "-"), spec))
            service = self.objects.get("Service", config.NAMESPACE, "flights")
            if service is None:
                template = {"spec": {"containers": [{"image": "i", "env": _environment(V1)}]}}
                service = self.objects.create(_object("Service", "flights", {"template": template}))
            traffic = [{"revisionName": r.replace("_", "-"), "percent": p} for r, p in shares.items()]
            status = {"conditions": [{"type": "Ready", "status": "True"}], "traffic": traffic}
            self.objects.update({**service, "status": status}, subresource="status")

        self.on_loop(change)

    def publishes(self, version: str = V1, **changes: Any) -> None:
        self.store.publish(packages.build_package(self.home / "packages", version=version, **changes))


def _environment(version: str) -> list[dict[str, str]]:
    return [{"name": "HEADRACE_MODEL", "value": "flights"}, {"name": "HEADRACE_MODEL_VERSION", "value": version}]


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": config.NAMESPACE, "labels": {"serving.knative.dev/service": "flights"}}
    return {"apiVersion": "serving.knative.dev/v1", "kind": kind, "metadata": meta, "spec": spec}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail("install Debian's chromium")
        pytest.skip("install Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        yield browser
        browser.close()


@pytest.fixture
def said() -> list[str]:
    """What the browser's console was told; a test that makes an error takes it out."""
    return []


@pytest.fixture
def page(browser: Browser, house: House, said: list[str]) -> Iterator[Page]:
    """A page that was opened after the test told it to; no test may leave an error or a request elsewhere behind."""
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    origin = house.url.removesuffix("/console")
    assert [url for url in asked if not url.startswith((f"{origin}/", "data:"))] == []
    assert said == []


def opened(page: Page, house: House) -> Page:
    page.goto(house.url)
    expect(page.locator("#state")).to_contain_text("live")
    return page


# In a browser


def test_without_a_model_the_page_says_how_to_make_one(page: Page, house: House) -> None:
    opened(page, house)
    expect(page.locator("#models")).to_contain_text("headrace drop january.csv")
    expect(page.locator("#timeline")).to_contain_text("Nothing happened yet.")
    expect(page.locator("#trainings")).to_contain_text("No training yet.")


def test_the_serving_version_is_shown_with_its_share_its_quality_and_its_requests(page: Page, house: House) -> None:
    house.publishes(V1, scores={"roc_auc": 0.8765, "accuracy": 0.9})
    house.store.set_serving("flights", Serving(V1, None, "2026-01-01T00:00:00+00:00", "nothing served before"))
    house.serves(flights_00001=100)
    requests = house.requests.of(config.NAMESPACE, "flights-00001", {"serving.knative.dev/service": "flights"})
    for code in (200, 200, 503):
        requests.count(code, 0.02)
    card = opened(page, house).get_by_role("article")
    expect(card).to_contain_text("0.8765 ROC AUC")
    expect(card.get_by_role("row").nth(1)).to_contain_text(f"{V1}100 %31")
    expect(card).to_contain_text("nothing served before")


def test_a_canary_is_shown_as_two_shares(page: Page, house: House) -> None:
    house.serves(flights_00001=80, flights_00002=20)
    card = opened(page, house).get_by_role("article")
    expect(card.get_by_role("row", name=f"{V1} 80 %")).to_be_visible()
    expect(card.get_by_role("row", name=f"{V2} 20 %")).to_be_visible()
    widths = card.locator(".bar i").evaluate_all("parts => parts.map(p => Math.round(p.offsetWidth / 10))")
    assert len(widths) == 2
    assert widths[0] > 3 * widths[1] > 0


def test_a_rejection_is_shown_with_its_reasons_and_the_files_own_name(page: Page, house: House) -> None:
    house.arrives("my january.csv")
    reasons = (contract.Reason("'maybe' is no number", 3, "delay"), contract.Reason("the target is missing", 7))
    uri = f"file:///store/datasets/flights/{DIGEST}.csv"
    house.happens(contract.DatasetRejected("flights", uri, reasons, 2), "r1", "d1")
    first = opened(page, house).locator("#timeline > li").first
    expect(first).to_contain_text("my january.csv rejected, 2 broken rows")
    expect(first.get_by_role("listitem").first).to_have_text("row 3, column delay: 'maybe' is no number")


def test_markup_in_a_name_and_a_reason_stays_text(page: Page, house: House) -> None:
    house.arrives(f"{MARKUP}.csv")
    house.happens(
        contract.DatasetRejected("flights", "file:///x.csv", (contract.Reason(MARKUP, 1, MARKUP),)), "r1", "d1"
    )
    opened(page, house)
    page.locator("#timeline button").first.click()
    expect(page.locator(".why")).to_contain_text(MARKUP)
    assert page.locator("main script, main img").count() == 0
    assert page.title() == "Headrace"


def test_choosing_a_line_shows_the_chain_back_to_the_file_and_a_refresh_keeps_it(page: Page, house: House) -> None:
    house.arrives()
    house.trains()
    house.happens(
        contract.ModelPromoted("flights", V1, "nothing served before", revision="flights-00001"), "m1", f"trained-{V1}"
    )
    house.answers("a1")
    opened(page, house)
    page.get_by_role("button", name="answered in").press("Enter")
    chain = page.locator(".why .link")
    expect(chain).to_have_count(4)
    expect(chain.first).to_contain_text("january.csv arrived")
    house.arrives("later.csv", "d2")
    expect(page.locator("#timeline")).to_contain_text("later.csv", timeout=15_000)
    expect(chain).to_have_count(4)
    expect(page.get_by_role("button", expanded=True)).to_contain_text("answered in")
    expect(page.get_by_role("button", expanded=True)).to_be_focused()


def test_selected_text_stays_selected_while_new_lines_come(page: Page, house: House) -> None:
    house.arrives("first.csv")
    opened(page, house)
    page.locator("#timeline .says").first.select_text()
    house.arrives("second.csv", "d2")
    expect(page.locator("#timeline")).to_contain_text("second.csv", timeout=15_000)
    assert "first.csv arrived" in page.evaluate("String(getSelection())")


def test_the_page_says_when_the_platform_is_gone_and_recovers_by_itself(
    page: Page, house: House, said: list[str]
) -> None:
    house.arrives()
    opened(page, house)
    house.go()
    expect(page.get_by_role("alert")).to_contain_text("The platform does not answer", timeout=15_000)
    expect(page.locator("#timeline")).to_contain_text("january.csv")
    house.come_back()
    expect(page.get_by_role("alert")).to_be_empty(timeout=15_000)
    expect(page.locator("#state")).to_contain_text("live")
    assert all("ERR_" in text for text in said), said  # the browser's own words for a refused connection
    said.clear()


def test_a_phone_scrolls_down_and_never_sideways(page: Page, house: House) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    house.publishes(V1)
    house.serves(flights_00001=80, flights_00002=20)
    house.arrives("a-very-long-name-without-any-space-" * 6 + ".csv")
    opened(page, house)
    page.locator("#timeline button").first.click()
    expect(page.locator(".why .link")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page: Page, house: House, scheme: Any) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1, for the colours that the page is made of."""
    page.emulate_media(color_scheme=scheme)
    opened(page, house)
    ratios = page.evaluate(CONTRAST)
    assert min(ratios.values()) >= 4.5, ratios


# Of the page's own variables, each text colour on each ground.
CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement), light = name => {
    const hex = style.getPropertyValue(name).trim().slice(1), full = hex.length === 3 ? [...hex].map(c => c + c).join("") : hex;
    const [r, g, b] = [0, 2, 4].map(i => parseInt(full.slice(i, i + 2), 16) / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const pairs = ["--ink", "--faint", "--good", "--bad", "--new"].flatMap(t => ["--page", "--card", "--soft"].map(g => [t, g]));
  return Object.fromEntries(pairs.map(([t, g]) => { const [a, b] = [light(t), light(g)].sort((x, y) => y - x); return [t + g, (a + .05) / (b + .05)]; }));
}"""  # noqa: E501


# Behind the page


def test_a_broken_package_and_a_broken_drift_state_hide_nothing_else(house: House) -> None:
    house.publishes(V1)
    house.publishes(V2)
    (house.home / "store/models/flights" / V2 / "model.json").write_text("{")
    house.store.write_json("drift/flights.json", {"version": V1, "rows": [[0]]})
    (model,) = house.data()["models"]
    good, broken = model["versions"]
    assert good["version"] == V1
    assert "fault" not in good
    assert "model.json" in broken["fault"]
    assert model["drift"] is None
    assert len(model["faults"]) == 1


def test_a_store_that_cannot_be_read_is_said_on_the_page(page: Page, house: House) -> None:
    house.go()
    house.store_url = "nowhere://store"
    house.come_back()
    opened(page, house)
    expect(page.get_by_role("alert")).to_contain_text("The store cannot be read")


def test_drift_is_told_per_column_against_its_threshold(page: Page, house: House) -> None:
    house.publishes(V1)
    columns = len(drift.Baseline.from_json(house.store.manifest("flights", V1).baseline).columns)
    rows = [[0] * columns] * 400  # all that is asked is missing
    house.store.write_json("drift/flights.json", {"version": V1, "drifting": True, "rows": rows})
    told = house.data()["models"][0]["drift"]
    assert told["drifting"]
    assert told["measures"][0]["over"]
    assert told["measures"][0]["value"] > told["measures"][0]["threshold"]
    opened(page, house)
    expect(page.get_by_role("article")).to_contain_text(f"{columns} of {columns} columns drift")
    expect(page.get_by_role("listitem", name=f"{told['measures'][0]['name']}: PSI")).to_be_visible()


def test_the_policy_allows_the_pages_own_script_and_nothing_inline_besides(house: House) -> None:
    with urlopen(house.url, timeout=30) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


Told = tuple[str, type[contract.Data], str | None, dict[str, Any]]


def _events(*told: Told) -> list[Event]:
    events = []
    for seq, (id, cls, cause, data) in enumerate(told, 1):
        event = {"id": id, "type": cls.TYPE, "source": "/t", "subject": "flights", "data": data}
        line = {"seq": seq, "received": "2026-01-01T00:00:00+00:00", "event": event, "deliveries": []}
        events.append(Event.of(journal.entry({**line, "event": event | ({"causationid": cause} if cause else {})})))
    return events


def test_a_run_of_predictions_is_one_line_per_version() -> None:
    asked: Told = ("q", contract.PredictionRequested, None, {})
    made = [(f"a{i}", contract.PredictionMade, "q" if i == 0 else None, {"version": f"v{i % 2}"}) for i in range(6)]
    arrived = ("d", contract.DatasetArrived, None, {"name": "x.csv"})
    lines = timeline(_events(asked, *made, arrived))
    assert [line["says"][:27] for line in lines[1:]] == ["3 predictions by flights v1", "3 predictions by flights v0"]
    assert lines[0]["noun"] == "file"


def test_the_steps_of_a_training_stand_behind_its_end() -> None:
    steps = [
        ("p1", contract.TrainingProgressed, "d", {"done": 0.1}),
        ("p2", contract.TrainingProgressed, "d", {"done": 0.5}),
    ]
    assert [line["key"] for line in timeline(_events(*steps))] == ["p2"]
    ended = _events(*steps, ("t", contract.ModelTrained, "d", {"version": "v1"}))
    assert [line["key"] for line in timeline(ended)] == ["t"]


def test_a_run_whose_beginning_was_not_read_says_at_least() -> None:
    made = [(f"a{i}", contract.PredictionMade, None, {"version": "v1"}) for i in range(2)]
    assert timeline(_events(*made), whole=False)[0]["says"].startswith("at least 2 predictions")


@pytest.mark.parametrize("data", [None, [], "text", {"reasons": 5, "scores": 7, "value": "x"}])
def test_an_event_that_breaks_its_contract_is_still_a_line(data: Any) -> None:
    for type in contract.TYPES:
        event = {"id": "e", "type": type, "source": "/t", "data": data}
        line = {"seq": 1, "received": "2026-01-01T00:00:00+00:00", "event": event, "deliveries": []}
        assert Event.of(journal.entry(line)).says
