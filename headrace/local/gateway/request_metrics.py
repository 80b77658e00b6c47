"""What the gateway counts of each revision's requests, under the names that Knative's dashboards know, old and new.

Called by `headrace.local.gateway.gateway` for each request; read by /metrics through a prometheus_client registry.
Plain integers, made into samples only when somebody scrapes: a request pays one bisection and three additions.

Source: knative/serving queue-proxy (`revision_request_count`, `revision_request_latencies` in ms,
`response_code_class`) and its OpenTelemetry successor (`kn_serving_invocation_duration_seconds`,
`kn_serving_queue_depth`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

# queue-proxy's boundaries of request latencies, in milliseconds.
LATENCY_MS = (5, 10, 20, 40, 60, 80, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 2000, 5000,
10000, 20000, 50000, 100000)  # fmt: skip


@dataclass(slots=True)
class _Latencies:
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_MS) + 1))
    total_ms: float = 0.0
    count: int = 0


@dataclass(slots=True)
class RevisionRequests:
    """One revision's counters. depth: requests in flight or waiting now."""

    namespace: str
    service: str
    configuration: str
    revision: str
    by_code: dict[int, _Latencies] = field(default_factory=dict)
    depth: int = 0

    def count(self, code: int, seconds: float) -> None:
        """One request was answered with `code` after so many seconds."""
        latencies = self.by_code.get(code)
        if latencies is None:
            latencies = self.by_code[code] = _Latencies()
        milliseconds = seconds * 1000
        latencies.buckets[bisect_left(LATENCY_MS, milliseconds)] += 1
        latencies.total_ms += milliseconds
        latencies.count += 1


class RequestMetrics(Collector):
    """The counters of all revisions, as a collector."""

    def __init__(self) -> None:
        self._revisions: dict[tuple[str, str], RevisionRequests] = {}

    def of(self, namespace: str, revision: str, labels: Mapping[str, str]) -> RevisionRequests:
        """The counters of a revision, made at its first request. labels: the Revision object's."""
        key = (namespace, revision)
        if key not in self._revisions:
            self._revisions[key] = RevisionRequests(
                namespace,
                labels.get("serving.knative.dev/service", ""),
                labels.get("serving.knative.dev/configuration", ""),
                revision,
            )
        return self._revisions[key]

    def forget(self, namespace: str, revision: str) -> None:
        """The revision is gone, and its series with it."""
        self._revisions.pop((namespace, revision), None)

    def collect(self) -> Iterable[Metric]:
        count = Metric("revision_request_count", "Requests answered.", "unknown")
        latency = Metric("revision_request_latencies", "Time to answer, in milliseconds.", "histogram")
        duration = Metric("kn_serving_invocation_duration_seconds", "Time to answer, in seconds.", "histogram")
        depth = Metric("kn_serving_queue_depth", "Requests in flight or waiting.", "gauge")
        for requests in self._revisions.values():
            old = {
                "namespace_name": requests.namespace,
                "service_name": requests.service,
                "configuration_name": requests.configuration,
                "revision_name": requests.revision,
            }
            new = {
                "k8s_namespace_name": requests.namespace,
                "kn_service_name": requests.service,
                "kn_configuration_name": requests.configuration,
                "kn_revision_name": requests.revision,
            }
            depth.add_sample("kn_serving_queue_depth", new, requests.depth)
            for code, latencies in requests.by_code.items():
                answered = {**old, "response_code": str(code), "response_code_class": f"{code // 100}xx"}
                count.add_sample("revision_request_count", answered, latencies.count)
                _histogram(latency, answered, latencies, 1.0)
                _histogram(duration, {**new, "http_response_status_code": str(code)}, latencies, 1000.0)
        return count, latency, duration, depth


def _histogram(metric: Metric, labels: Mapping[str, str], latencies: _Latencies, divisor: float) -> None:
    """The samples of one histogram, its bounds and sum divided by `divisor`."""
    below = 0
    for bound, inside in zip(LATENCY_MS, latencies.buckets, strict=False):
        below += inside
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": f"{bound / divisor:g}"}, below)
    metric.add_sample(f"{metric.name}_bucket", {**labels, "le": "+Inf"}, latencies.count)
    metric.add_sample(f"{metric.name}_sum", dict(labels), latencies.total_ms / divisor)
    metric.add_sample(f"{metric.name}_count", dict(labels), latencies.count)
