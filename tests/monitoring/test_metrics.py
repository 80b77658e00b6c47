"""Every metric says what it means, under one prefix."""

from __future__ import annotations

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from eventing import contract
from monitoring import metrics

ALL = [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]


def test_every_metric_has_the_prefix_and_a_sentence() -> None:
    assert len(ALL) > 10
    for family in (f for m in ALL for f in m.describe()):
        assert family.name.startswith("headrace_"), family.name
        assert family.documentation.endswith("."), family.name


def test_names_end_with_their_unit() -> None:
    for metric in ALL:
        name = next(iter(metric.describe())).name
        if "duration" in name:
            assert name.endswith("_seconds"), name


def test_an_unknown_event_type_is_other() -> None:
    assert metrics.type_label("made.up") == metrics.OTHER
    assert metrics.type_label(contract.ModelTrained.TYPE) == contract.ModelTrained.TYPE


def test_the_metrics_are_registered_once() -> None:
    assert REGISTRY.get_sample_value("headrace_drifts_total", {"model": "no-such-model"}) is None
