"""functions.predictor.settings: one version, or many models."""

from __future__ import annotations

import pytest

from eventing.errors import Misconfigured
from functions.predictor.settings import Settings, Wanted

ONE = {"HEADRACE_MODEL": "flights", "HEADRACE_MODEL_VERSION": "v1"}
MANY = {"HEADRACE_MODELS": "flights, delays@v2,flights@v1"}


def _settings(environ: dict[str, str]) -> Settings:
    return Settings.from_environment({"HEADRACE_STORE": "memory://store", **environ})


def test_one_version_as_a_revision_serves_it_takes_no_orders() -> None:
    settings = _settings(ONE)
    assert settings.models == (Wanted("flights", "v1"),)
    assert (settings.model_control, settings.instance) == (False, "flights")
    assert _settings(ONE | {"HEADRACE_MODEL_CONTROL": "on"}).model_control
    assert _settings(ONE | {"K_REVISION": "flights-00001"}).instance == "flights-00001"


def test_many_models_in_the_order_given_take_orders() -> None:
    settings = _settings(MANY | {"HEADRACE_MODEL": "", "HEADRACE_MODEL_VERSION": ""})
    assert settings.models == (Wanted("flights"), Wanted("delays", "v2"), Wanted("flights", "v1"))
    assert (settings.model_control, settings.instance) == (True, "predictor")
    assert not _settings(MANY | {"HEADRACE_MODEL_CONTROL": "off"}).model_control


def test_labels_by_model() -> None:
    settings = _settings(MANY | {"HEADRACE_MODEL_LABELS": "flights:stable=v1,flights:canary=v2, delays:stable=v2,"})
    assert settings.labels == {"flights": {"stable": "v1", "canary": "v2"}, "delays": {"stable": "v2"}}
    assert _settings(ONE).labels == {}


@pytest.mark.parametrize(
    ("environ", "key", "said"),
    [
        ({}, "HEADRACE_MODEL", "or HEADRACE_MODELS for several"),
        ({"HEADRACE_MODEL": "flights"}, "HEADRACE_MODEL_VERSION", "an exact version"),
        (ONE | MANY, "HEADRACE_MODEL", "nothing beside HEADRACE_MODELS"),
        (MANY | {"HEADRACE_MODEL_VERSION": "v1"}, "HEADRACE_MODEL_VERSION", "nothing beside HEADRACE_MODELS"),
        ({"HEADRACE_MODELS": ","}, "HEADRACE_MODELS", "NAME or NAME@VERSION"),
        ({"HEADRACE_MODELS": "flights@"}, "HEADRACE_MODELS", "'flights@'"),
        ({"HEADRACE_MODELS": "a,../b"}, "HEADRACE_MODELS", "'../b'"),
        ({"HEADRACE_MODELS": "a b"}, "HEADRACE_MODELS", "several by commas"),
        ({"HEADRACE_MODELS": "a@v1,b,a@v1"}, "HEADRACE_MODELS", "a@v1 stands there twice"),
        (ONE | {"HEADRACE_MODEL_LABELS": "stable=v1"}, "HEADRACE_MODEL_LABELS", "MODEL:LABEL=VERSION"),
        (ONE | {"HEADRACE_MODEL_LABELS": "trains:stable=v1"}, "HEADRACE_MODEL_LABELS", "served here: flights"),
        (ONE | {"HEADRACE_MODEL_LABELS": "flights:a=v1,flights:a=v2"}, "HEADRACE_MODEL_LABELS", "flights:a is v1"),
        (ONE | {"HEADRACE_MODEL_CONTROL": "yes"}, "HEADRACE_MODEL_CONTROL", "on or off"),
    ],
)
def test_what_cannot_work_is_refused_with_its_key(environ: dict[str, str], key: str, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        _settings(environ)
    assert refused.value.key == key
    assert said in str(refused.value)
