"""The predictor's numbers as metrics: from sums to what prometheus_client writes.

Called by `functions.predictor.statistics` whenever somebody scrapes; imports the metrics library, which nothing on the
way to a first answer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from functions.predictor.tallies import Durations, Sums
from monitoring import predictions


def families(by_model: Mapping[str, Sums]) -> list[Metric]:
    """Headrace's own names, by model."""
    requests = _family(CounterMetricFamily, predictions.REQUESTS)
    durations = _family(HistogramMetricFamily, predictions.REQUEST_DURATION)
    in_progress = _family(GaugeMetricFamily, predictions.REQUESTS_IN_PROGRESS)
    waiting = _family(GaugeMetricFamily, predictions.REQUESTS_WAITING)
    probes = _family(CounterMetricFamily, predictions.PROBES)
    rows = _family(CounterMetricFamily, predictions.ROWS)
    queues = _family(HistogramMetricFamily, predictions.QUEUE_DURATION)
    inferences = _family(HistogramMetricFamily, predictions.INFERENCE_DURATION)
    batches = _family(HistogramMetricFamily, predictions.BATCHES)
    for model, sums in by_model.items():
        rows.add_metric([model], sums.inferences.rows)
        waiting.add_metric([model], sums.waiting)
        histogram(queues, [model], sums.inferences.queues)
        histogram(inferences, [model], sums.inferences.durations)
        batches.add_metric([model], *sums.batches.cumulated())
        for protocol, ended in sums.requests.items():
            histogram(durations, [model, protocol], ended.durations)
            in_progress.add_metric([model, protocol], sums.flying[protocol])
            for outcome, count in ended.outcomes.items():
                requests.add_metric([model, protocol, outcome], count)
        for outcome, count in sums.all_requests.probes.items():
            probes.add_metric([model, outcome], count)
    return [requests, durations, in_progress, waiting, probes, rows, queues, inferences, batches]


def histogram(family: HistogramMetricFamily, labels: list[str], durations: Durations) -> None:
    """Add the series of `labels`."""
    family.add_metric(labels, durations.cumulated(), durations.total_s)


def _family(kind: type[Any], of: predictions.Family) -> Any:
    return kind(of.name, of.text, labels=of.labels)
