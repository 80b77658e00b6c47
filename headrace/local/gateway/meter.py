"""What Knative's autoscaler would have heard of a revision's traffic, second by second. Pure.

In a cluster two tell it: the activator, of the requests that go through it, and the pods' queue-proxies, of theirs less
those that the activator has told already. Here the gateway is both and counts each request once; what is left of the
two is *when* they speak, and that the activator tells of a silent revision's first request ahead of time. Called by
`headrace.local.gateway.scaler`.

Source: knative/serving pkg/activator/handler/concurrency_reporter.go (the first request),
pkg/autoscaler/metrics/stats_scraper.go (no pod, no scrape), pkg/reconciler/autoscaling/kpa/kpa.go
(resolveScrapeTarget).
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.local.gateway.revision_queue import Traffic
from knative.autoscaler import Scrape


@dataclass(slots=True)
class Meter:
    """The reports of one revision.

    heard: the activator has its traffic on the books, which it has until a whole second passes without. ahead:
    requests told before their second was over, to be taken off its report.
    """

    heard: bool = False
    ahead: float = 0.0

    def first_request(self, now_s: float) -> Scrape | None:
        """The activator's word, at once, that somebody asks for a silent revision; None where it is no news.

        Always of one request, however many came with it: the others are in the report of their second.
        """
        if self.heard:
            return None
        self.heard, self.ahead = True, 1.0
        return Scrape(now_s, 1.0, 1.0)

    def report(self, traffic: Traffic, now_s: float, *, ready: int, proxied: bool, scraped: bool) -> Scrape | None:
        """The reports of the second that ends now, as one; None where nobody reports.

        ready: pods ready, each of which reports, zeros too. proxied: the activator is in the path. scraped: pods are
        asked, as they are unless target-burst-capacity is -1.
        """
        pods_report = scraped and ready > 0
        if not proxied:
            self.heard, self.ahead = False, 0.0
            return Scrape(now_s, traffic.concurrency, traffic.requests_per_s) if pods_report else None
        spoke = self.heard
        if not self.heard and traffic.concurrency_since_first > 0:
            # Told ahead and taken off within this very second: never less than the whole request that was told.
            spoke, concurrency, requests = True, max(1.0, traffic.concurrency_since_first), float(traffic.arrived)
        else:
            concurrency = max(0.0, traffic.concurrency_since_first - self.ahead)
            requests = traffic.arrived - self.ahead
        self.heard, self.ahead = traffic.concurrency_since_first > 0, 0.0
        return Scrape(now_s, concurrency, requests) if spoke or pods_report else None
