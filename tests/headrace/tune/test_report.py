"""The page: looked at in a real browser without a network, by people who see it and by those who do not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from headrace.tune import shapes, summary, tuning
from headrace.tune.aims import Aim
from headrace.tune.present import Present
from headrace.tune.report import page, scale
from headrace.tune.traffic import Traffic
from headrace.tune.tuning import Tuned, Wish
from headrace.tune.world import Setting

CHROMIUM = Path("/usr/bin/chromium")
GROUP = "autoscaling.knative.dev"
PRICE = 0.04


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    present = Present(Setting.of({f"{GROUP}/window": "30s"}, 2), name="flights", namespace="ns")
    wish = Wish(present, aim=Aim(p95_s=0.5), cold_starts_s=(1.0, 2.0), settings=60)
    return tuning.tune(shapes.shape("burst", 900, 40, 0.1), wish)


@pytest.fixture(scope="module")
def file(tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("report") / "tuned.html"
    written.write_text(page.html(tuned, PRICE), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail("install Debian's chromium")
        pytest.skip("install Debian's chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def shown(browser: Browser, file: Path) -> Iterator[Page]:
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900})
    opened = context.new_page()
    opened.goto(file.as_uri())
    yield opened
    context.close()


class _Outline(HTMLParser):
    """Every attribute that could fetch something, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(v) for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "xlink:href")]


def test_it_names_nothing_that_would_be_fetched(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    outline = _Outline()
    outline.feed(text)
    assert outline.fetched == []
    assert {"script", "link", "img", "iframe", "object", "embed"} & set(outline.tags) == set()
    assert re.findall(r"url\(|@import|https?://", text) == []


def test_it_opens_in_a_browser_without_a_network_and_asks_for_none(browser: Browser, file: Path) -> None:
    context = browser.new_context(offline=True)
    opened = context.new_page()
    asked: list[str] = []
    faults: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    opened.on("request", note)
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.goto(file.as_uri())
    expect(opened.locator("h1")).to_have_text("What to set for flights, and why")
    assert asked == [file.as_uri()]
    assert faults == []
    context.close()


def test_it_says_what_the_command_line_says(shown: Page, tuned: Tuned) -> None:
    text = shown.locator("main").inner_text()
    assert summary.verdict(tuned) in text
    assert "kubectl patch ksvc flights -n ns --type merge" in text
    for reason in tuned.advice.reasons:
        assert reason.otherwise in text
    for assumption in tuned.assumptions:
        assert assumption.error in text
    for cell in summary.row("recommended", tuned.advice.recommended.outcome, PRICE):
        assert cell in text


def test_who_does_not_see_it_hears_what_each_plot_shows(shown: Page) -> None:
    plots = shown.get_by_role("img")
    assert plots.count() == 2
    for at in range(2):
        plot = plots.nth(at)
        assert plot.get_attribute("aria-label")
        assert "from" in plot.locator("> desc").inner_html() or "at most" in plot.locator("> desc").inner_html()
    assert shown.locator("table th[scope=col]").count() > 5
    assert shown.locator("html").get_attribute("lang") == "en"
    assert shown.locator("h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_in_dark(shown: Page, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for text of this size."""
    shown.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    poor: list[str] = shown.evaluate(
        """() => {
          const rgb = c => c.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92
            : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
          const poor = [];
          for (const e of document.querySelectorAll('main *')) {
            const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
            if (!own || ['title', 'desc'].includes(e.tagName)) continue;
            const style = getComputedStyle(e);
            const front = light(rgb(e instanceof SVGElement ? style.fill : style.color)), back = light(behind(e));
            const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
            if (contrast < 4.5) poor.push(`${e.tagName} ${e.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
          }
          return poor;
        }"""
    )
    assert poor == []


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_a_phone_and_a_desk(shown: Page, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 900})
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_no_mark_of_a_plot_stands_outside_it_or_on_another(shown: Page) -> None:
    outside: list[str] = shown.evaluate(
        """() => [...document.querySelectorAll('figure svg[role=img]')].flatMap(svg => {
          const frame = svg.getBoundingClientRect();
          const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
          const wrong = texts.filter(([, b]) => b.left < frame.left - 1 || b.right > frame.right + 1 ||
            b.top < frame.top - 1 || b.bottom > frame.bottom + 1).map(([t]) => `outside: ${t}`);
          for (const [i, [t, a]] of texts.entries()) for (const [u, b] of texts.slice(i + 1))
            if (a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
              wrong.push(`${t} on ${u}`);
          return wrong;
        })"""
    )
    assert outside == []


def test_it_prints_on_paper(shown: Page, tmp_path: Path) -> None:
    printed = tmp_path / "tuned.pdf"
    shown.pdf(path=printed)
    assert printed.read_bytes()[:5] == b"%PDF-"


def test_what_a_recording_says_of_itself_is_shown_and_never_run(tmp_path: Path) -> None:
    starts = np.linspace(0, 100, 500)
    hostile = '<script>alert(1)</script> & "quotes"'
    traffic = Traffic(starts, np.full(500, 0.05), None, hostile, np.empty(0), (hostile,))
    found = tuning.tune(traffic, Wish(Present(Setting.of({}, 2), name=hostile), settings=10))
    text = page.html(found, None)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize("span_s", [5, 59, 600, 7200, 86_400, 40 * 86_400, 4e8])
def test_a_time_axis_has_some_round_marks_whatever_the_span(span_s: float) -> None:
    axis = scale.time(span_s, (0, 1000), None)
    assert 2 <= len(axis.ticks) <= 14
    places = [axis.place(value) for value, _ in axis.ticks]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1000


@pytest.mark.parametrize(("low", "high"), [(1, 1.0001), (0.2, 0.21), (0.1, 3), (1, 9e5), (1e-9, 1e9)])
def test_a_logarithmic_axis_has_marks_within_it(low: float, high: float) -> None:
    axis = scale.logarithmic(low, high, (0, 1000), str)
    assert 2 <= len(axis.ticks) <= 30
    assert all(axis.low <= value <= axis.high for value, _ in axis.ticks)
