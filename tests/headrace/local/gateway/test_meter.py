"""What the autoscaler hears of a revision's seconds, told by activator and pods."""

from __future__ import annotations

import pytest

from headrace.local.gateway.meter import Meter
from headrace.local.gateway.revision_queue import NO_TRAFFIC, RevisionQueue, Traffic
from knative.autoscaler import Scrape

NOW = 100.5


def traffic(concurrency: float, arrived: int = 0, since_first: float | None = None) -> Traffic:
    over = concurrency if since_first is None else since_first
    return Traffic(concurrency, over, arrived, float(arrived), round(concurrency), 0)


@pytest.mark.parametrize(
    ("seen", "ready", "proxied", "scraped", "told"),
    [
        (traffic(0.3, 3), 1, False, True, Scrape(NOW, 0.3, 3.0)),  # the pods' own report
        (NO_TRAFFIC, 1, False, True, Scrape(NOW, 0.0, 0.0)),  # zeros are data
        (NO_TRAFFIC, 0, True, True, None),  # nobody is there to say so
        (NO_TRAFFIC, 2, True, True, Scrape(NOW, 0.0, 0.0)),
        (NO_TRAFFIC, 2, True, False, None),  # pods that nobody scrapes
        (traffic(4.0, 4), 0, True, True, Scrape(NOW, 4.0, 4.0)),  # the activator's
        (traffic(0.3, 3), 1, True, True, Scrape(NOW, 1.0, 3.0)),  # a whole request was told ahead
        (traffic(1.0, 5, since_first=5.0), 1, True, True, Scrape(NOW, 5.0, 5.0)),  # over the time since the first
    ],
)
def test_the_first_second_of_traffic(
    seen: Traffic, ready: int, proxied: bool, scraped: bool, told: Scrape | None
) -> None:
    assert Meter().report(seen, NOW, ready=ready, proxied=proxied, scraped=scraped) == told


def test_a_request_told_ahead_is_taken_off_its_second_and_no_other() -> None:
    meter = Meter()
    assert meter.first_request(NOW - 0.3) == Scrape(NOW - 0.3, 1.0, 1.0)
    assert meter.first_request(NOW - 0.2) is None
    assert meter.report(traffic(35.0, 35), NOW, ready=0, proxied=True, scraped=True) == Scrape(NOW, 34.0, 34.0)
    assert meter.report(traffic(35.0), NOW + 1, ready=0, proxied=True, scraped=True) == Scrape(NOW + 1, 35.0, 0.0)


def test_the_activator_tells_once_that_nobody_asks_any_more() -> None:
    meter = Meter()
    meter.report(traffic(2.0, 2), NOW, ready=0, proxied=True, scraped=True)
    assert meter.report(NO_TRAFFIC, NOW + 1, ready=0, proxied=True, scraped=True) == Scrape(NOW + 1, 0.0, 0.0)
    assert meter.report(NO_TRAFFIC, NOW + 2, ready=0, proxied=True, scraped=True) is None
    assert meter.first_request(NOW + 3) is not None


def test_concurrency_counts_from_the_first_request_after_silence() -> None:
    now = 0.0
    queue = RevisionQueue(clock=lambda: now)
    now = 0.9
    for _ in range(5):
        queue.enter()
    now = 1.0
    first = queue.look()
    now = 2.0
    second = queue.look()
    assert (first.concurrency, first.concurrency_since_first) == pytest.approx((0.5, 5.0))
    assert (first.arrived, second.arrived) == (5, 0)
    assert (second.concurrency, second.concurrency_since_first) == pytest.approx((5.0, 5.0))
