"""functions.promoter.deployment: the manifest of a model, under the model's name."""

from __future__ import annotations

from functions.promoter import deployment
from knative import rollout
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
