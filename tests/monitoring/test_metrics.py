"""Every metric says what it means, under one prefix."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from eventing import contract
from functions.predictor.statistics import PREDICTIONS
from monitoring import metrics, predictions


def families() -> list[Metric]:
    """Every family that a process of ours may show."""
    registry = CollectorRegistry()
    predictions.expose(PREDICTIONS.metrics, registry)
    ours = [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]
    return [*registry.collect(), *(family for m in ours for family in m.describe())]


def test_every_metric_has_the_prefix_and_a_sentence() -> None:
    assert len(families()) > 15
    for family in families():
        assert family.name.startswith("headrace_"), family.name
        assert family.documentation.endswith("."), family.name


def test_names_end_with_their_unit() -> None:
    for family in families():
        if "duration" in family.name:
            assert family.name.endswith("_seconds"), family.name


def test_an_unknown_event_type_is_other() -> None:
    assert metrics.type_label("made.up") == metrics.OTHER
    assert metrics.type_label(contract.ModelTrained.TYPE) == contract.ModelTrained.TYPE


def test_the_metrics_are_registered_once() -> None:
    assert REGISTRY.get_sample_value("headrace_drifts_total", {"model": "no-such-model"}) is None
