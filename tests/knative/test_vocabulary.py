"""What an annotation takes, and what a misspelt one was meant to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative import settings, vocabulary

GROUP = "autoscaling.knative.dev"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        (f"{GROUP}/min_scale", "min-scale"),
        (f"{GROUP}/MinScale", "min-scale"),
        (f"{GROUP}/minscale", "min-scale"),
        (f"{GROUP}/tagret", "target"),
        (f"{GROUP}/windows", "window"),
        (f"{GROUP}/activationScale", "activation-scale"),
        (f"{GROUP}/max-replicas", "max-scale"),
        (f"{GROUP}/targetUtilization", "target-utilization-percentage"),
        (f"{GROUP}/panicWindow", "panic-window-percentage"),
        (f"{GROUP}/scale-to-zero-pod-retention", "scale-to-zero-pod-retention-period"),
        ("autoscaling.knative.com/min-scale", "min-scale"),
        ("autoscaling.knatve.dev/window", "window"),
        ("serving.knative.dev/minScale", "min-scale"),
        ("minScale", "min-scale"),
        ("target", None),  # may be anybody's
        ("example.com/min-scale", None),
        (f"{GROUP}/bogus", None),
        (f"{GROUP}/min-scale", None),
        (f"{GROUP}/minScale", None),  # an older spelling, which Knative reads
        ("app.kubernetes.io/name", None),
    ],
)
def test_a_misspelt_key_is_understood(key: str, meant: str | None) -> None:
    assert vocabulary.intended(key) == (f"{GROUP}/{meant}" if meant else None)


@given(st.sampled_from([name for keys in settings.ALL_KEYS for name in keys.names]))
def test_every_annotation_has_its_words_and_is_never_called_misspelt(key: str) -> None:
    assert vocabulary.allowed(key)
    assert vocabulary.is_known(key)
    assert vocabulary.preferred(key) in {keys.name for keys in settings.ALL_KEYS}
    assert vocabulary.intended(key) is None


@given(st.text(max_size=60) | st.text(max_size=20).map(lambda name: f"{GROUP}/{name}"))
def test_any_key_is_known_or_meant_or_nobodys(key: str) -> None:
    meant = vocabulary.intended(key)
    assert meant is None or vocabulary.is_known(meant)


def test_closest_is_within_a_third_of_the_letters() -> None:
    assert vocabulary.closest("imagee", ["image", "name"]) == "image"
    assert vocabulary.closest("iamge", ["image", "name"]) == "image"  # two letters that changed places are one slip
    assert vocabulary.closest("abc", ["xyz"]) is None
    assert vocabulary.closest("abc", []) is None
