"""The predictor's numbers under the names that KServe's and Triton's dashboards read, where an operator wants them.

HEADRACE_METRICS_NAMES says whose. Each name means what it means there; where Headrace has nothing to say, as of a cache
of answers, it says 0. Called by `functions.predictor.statistics`.
Source: kserve python/kserve/kserve/metrics.py; triton-inference-server/server docs/user_guide/metrics.md. The numbers'
names come from there, and so their microseconds; Triton's end in no `_total`, which a counter of prometheus_client
must, so they are written without a type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric

from functions.predictor.exposition import histogram
from functions.predictor.tallies import Durations, Requests, Sums
from monitoring import predictions

ByModel = Mapping[str, Sums]
ByVersion = Mapping[tuple[str, str], Sums]


def families(systems: Sequence[str], by_model: ByModel, by_version: ByVersion) -> Iterator[Metric]:
    """The families of every system of `systems`."""
    for system in systems:
        yield from SYSTEMS[system](by_model, by_version)


def _kserve(by_model: ByModel, by_version: ByVersion) -> Iterator[Metric]:
    """By model: what a request takes before the model, in it, and after it."""
    stages: tuple[tuple[str, str, Callable[[Sums], Durations | None]], ...] = (
        ("request_preprocess_seconds", "Time to decode a request.", lambda sums: sums.inferences.decodings),
        ("request_predict_seconds", "Time inside the model.", lambda sums: sums.inferences.durations),
        ("request_postprocess_seconds", "Time to encode an answer.", lambda sums: sums.all_requests.encodings),
        ("request_explain_seconds", "Time to explain an answer; none is explained here.", lambda sums: None),
    )
    for name, text, durations_of in stages:
        family = HistogramMetricFamily(name, text, labels=["model_name"])
        for model, sums in by_model.items():
            if (durations := durations_of(sums)) is not None:
                histogram(family, [model], durations)
        yield family


def _triton(by_model: ByModel, by_version: ByVersion) -> Iterator[Metric]:
    """By model and version, since the version became ready."""
    values: tuple[tuple[str, str, Callable[[Sums, Requests], float]], ...] = (
        ("request_success", "Requests answered.", lambda sums, ended: ended.outcomes[predictions.DONE]),
        ("request_failure", "Requests refused or failed.", lambda sums, ended: _failures(ended)),
        ("count", "Rows predicted.", lambda sums, ended: sums.inferences.rows),
        ("exec_count", "Runs of the model, of one request or several.", lambda sums, ended: sums.batches.count),
        ("pending_request_count", "Requests that wait for their turn.", lambda sums, ended: sums.waiting),
        ("request_duration_us", "Time of all requests answered.", lambda sums, ended: _us(_done_s(ended))),
        ("queue_duration_us", "Time that requests waited.", lambda sums, _: _us(sums.inferences.queues.total_s)),
        ("compute_input_duration_us", "Time to decode.", lambda sums, _: _us(sums.inferences.decodings.total_s)),
        ("compute_infer_duration_us", "Time in the model.", lambda sums, _: _us(sums.inferences.durations.total_s)),
        ("compute_output_duration_us", "Time to encode.", lambda sums, ended: _us(ended.encodings.total_s)),
    )
    caches = ("nv_cache_num_hits_per_model", "nv_cache_num_misses_per_model")
    for name, text, value_of in (
        *((f"nv_inference_{name}", text, value_of) for name, text, value_of in values),
        *((name, "No answers are cached here.", lambda sums, ended: 0.0) for name in caches),
    ):
        family = Metric(name, text, "gauge" if name.endswith("pending_request_count") else "unknown")
        for (model, version), sums in by_version.items():
            family.add_sample(name, {"model": model, "version": version}, value_of(sums, sums.all_requests))
        yield family


def _failures(ended: Requests) -> int:
    return sum(ended.outcomes.values()) - ended.outcomes[predictions.DONE]


def _done_s(ended: Requests) -> float:
    return ended.durations.total_s - ended.failed_s


def _us(seconds: float) -> float:
    return float(round(seconds * 1e6))


SYSTEMS: Mapping[str, Callable[[ByModel, ByVersion], Iterator[Metric]]] = {"kserve": _kserve, "triton": _triton}
