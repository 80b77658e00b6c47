"""functions.promoter.deployment: the manifest of a model, under the model's name."""

from __future__ import annotations

import pytest

from eventing.errors import Misconfigured
from functions.promoter import deployment
from functions.promoter.function import Settings
from knative import json_patch, rollout
from knative.canary import Canary

FIRST = Canary("v1", None, None, since=1.0, phase="starting", phase_since=1.0, event="e-1")


def test_a_first_service_is_the_manifests_with_model_version_and_rollout() -> None:
    made = deployment.service("flights", FIRST)
    assert (made["apiVersion"], made["metadata"]["name"]) == ("serving.knative.dev/v1", "flights")
    assert (rollout.model_of(made), rollout.version_of(made["spec"]["template"])) == ("flights", "v1")
    assert rollout.canary_of(made) == FIRST


def test_a_models_trigger_takes_its_own_predictions_alone() -> None:
    made = deployment.trigger("flights")
    assert made["metadata"]["name"] == "flights-predictions"
    assert made["spec"]["subscriber"]["ref"]["name"] == "flights"
    assert made["spec"]["filter"]["attributes"]["subject"] == "flights"


def test_both_belong_to_the_namespace_of_who_makes_them() -> None:
    assert "namespace" not in deployment.service("flights", FIRST)["metadata"]
    assert "namespace" not in deployment.trigger("flights")["metadata"]
    assert "namespace" not in deployment.trigger("flights")["spec"]["delivery"]["deadLetterSink"]["ref"]


IMAGE = '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "reg/f:2"}]'


def test_what_the_place_wants_otherwise_is_put_into_both_manifests() -> None:
    patch = json_patch.parse(IMAGE)
    for made in (deployment.service("flights", FIRST, patch), deployment.grpc_service(patch)):
        (container,) = made["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "reg/f:2"
    assert rollout.canary_of(deployment.service("flights", FIRST, patch)) == FIRST


@pytest.mark.parametrize("patch", ["no json", "{}", IMAGE.replace("containers", "container")])
def test_a_patch_that_does_not_fit_is_refused_at_the_start(patch: str) -> None:
    environ = {"HEADRACE_STORE": "memory://x", "HEADRACE_PREDICTOR_PATCH": patch}
    with pytest.raises(Misconfigured, match="HEADRACE_PREDICTOR_PATCH"):
        Settings.from_environment(environ)
    assert Settings.from_environment({**environ, "HEADRACE_PREDICTOR_PATCH": IMAGE}).predictor_patch
