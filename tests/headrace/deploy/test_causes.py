"""Why a deployment does not come about, in terms of its cause. The sentences are the cluster's own."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.deploy import causes, deployment
from headrace.deploy.plan import BROKER_CLASS
from knative.client import Conflict, NotFound, OwnedField, Refused, Unreachable

Object = dict[str, Any]


def of(kind: str, reason: str = "", message: str = "", annotations: Object | None = None) -> Object:
    ready = [{"type": "Ready", "status": "False", "reason": reason, "message": message}] if reason or message else []
    meta = {"name": "x", "annotations": annotations or {}}
    return {"kind": kind, "metadata": meta, "status": {"conditions": ready}}


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["Service"], ["Knative Serving is absent"]),
        (["Broker", "Trigger", "JobSink", "ContainerSource"], ["Knative Eventing is absent"]),
        (["JobSink"], ["Knative Eventing is too old", "1.15"]),
        (["Service", "JobSink"], ["Knative Serving is absent", "Knative Eventing is too old"]),
        (["Role"], ["does not know Role"]),
        ([], []),
    ],
)
def test_a_missing_kind_is_told_as_the_part_of_knative_that_brings_it(missing: list[str], said: list[str]) -> None:
    found = "\n".join(map(str, causes.of_missing(missing)))
    assert all(word in found for word in said)
    assert bool(found) is bool(missing)


@pytest.mark.parametrize(
    ("obj", "told", "said", "final"),
    [
        (
            of("Service", "RevisionFailed", 'Revision "x-00001" failed with message: Unable to fetch image '
               '"reg.example:5000/f:2": failed to resolve image to digest: 404 Not Found.'),
            (), "image reg.example:5000/f:2 cannot be pulled", True,
        ),
        (of("Service"), ('ImagePullBackOff: Back-off pulling image "ghcr.io/a/b:1"',), "image ghcr.io/a/b:1", True),
        (of("Service", "RevisionFailed", "x"), ("ErrImagePull: ",), "its image cannot be pulled", True),
        (
            of("Service", "RevisionFailed", 'pods "x" is forbidden: exceeded quota: small, requested: memory=2Gi'), (),
            "quota:", True,
        ),
        (
            of("Service", "RevisionFailed", 'pods "x" is forbidden: [minimum memory usage per Container is 128Mi, but '
               "request is 96Mi, maximum cpu usage per Pod is 1, but limit is 2]"), (), "quota:", True,
        ),
        (
            of("Service", "FailedCreate", 'pods "x" is forbidden: memory max limit to request ratio per Container is '
               "2, but provided ratio is 5.3"), (), "quota:", True,
        ),
        (of("Service"), ('ErrImageNeverPull: Container image "a/b:1" is not present',), "cannot be pulled", True),
        (
            of("Service"),
            ('FailedCreate: pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot',),
            "Pod Security level restricted:latest", True,
        ),
        (
            of("ContainerSource", "Unavailable", "no"),
            ('Unschedulable: 0/1 nodes are available: persistentvolumeclaim "headrace-drop" not found.',),
            "waits for headrace-drop", True,
        ),
        (
            of("Service"), ("Unschedulable: 0/3 nodes are available: 3 Insufficient memory.",),
            "no node takes its pod", False,
        ),
        (of("Service"), ('CreateContainerConfigError: secret "keys" not found',), "waits for secret keys", True),
        (
            of("Service", "RevisionFailed", "Container failed with: HEADRACE_STORE is ''"), (),
            "its container ends", False,
        ),
        (of("Broker"), (), "no default Broker class", False),
        (of("Broker", annotations={BROKER_CLASS: "Kafka"}), (), "no controller answers for Broker class Kafka", False),
        (of("Broker", "ChannelTemplateFailed", "Error on setting it up"), (), "config-br-defaults", False),
        (of("Broker", "NoAddress", "Channel does not have an address."), (), "waits for its channel", False),
        (of("Trigger", "NoAddress", "Channel does not have an address."), (), "waits for its Broker", False),
        (of("Service"), ("ExitCode1: HEADRACE_STORE is empty", "CrashLoopBackOff: x"), "HEADRACE_STORE is", False),
        (of("Trigger", "BrokerDoesNotExist", 'Broker "default" does not exist'), (), "waits for its Broker", False),
        (of("Service"), (), "nothing has looked at it yet", False),
        (of("JobSink", "Odd", "something new"), (), "not Ready: Odd: something new", False),
    ],
)  # fmt: skip
def test_a_part_that_is_not_ready_is_told_by_its_cause(
    obj: Object, told: tuple[str, ...], said: str, final: bool
) -> None:
    cause = causes.of_part(obj, told)
    assert said in str(cause)
    assert cause.final is final


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            Conflict("PATCH /x: Apply failed", (OwnedField("spec.a", "argocd"), OwnedField("spec.b", "kubectl-edit"))),
            "spec.a is argocd's; spec.b is kubectl-edit's",
        ),
        (
            Refused("PATCH /x", 'admission webhook "validation.webhook.serving.knative.dev" denied the request: '
                    "validation failed: expected 0 <= 5000 <= 1000: spec.template.spec.containerConcurrency", 400),
            "webhook validation.webhook.serving.knative.dev said: validation failed: expected 0 <= 5000 <= 1000",
        ),
        (
            Unreachable('PATCH /x: Internal error occurred: failed calling webhook "webhook.eventing.knative.dev": '
                        "connection refused"),
            "webhook webhook.eventing.knative.dev does not answer",
        ),
        (Refused("PATCH /x", 'services is forbidden: User "dev" cannot patch', 403), "no rights"),
        (Refused("PATCH /x", 'configmaps "x" is forbidden: exceeded quota: few', 403), "quota:"),
        (
            Refused("PATCH /x", "services.serving.knative.dev \"x\" is forbidden: ValidatingAdmissionPolicy 'owners' "
                    "with binding 'all' denied request: every Service names its owner", 403),
            "ValidatingAdmissionPolicy owners said: every Service names its owner",
        ),
        (
            Refused("PATCH /x", 'configmaps "x" is forbidden: unable to create new content in namespace a because it '
                    "is being terminated", 403),
            "namespace a is being removed",
        ),
        (NotFound('PATCH /x: namespaces "a" not found'), 'namespaces "a" not found'),
        (Unreachable("PATCH /x: no answer from https://k: refused"), "no answer"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_by_its_cause(error: Any, said: str) -> None:
    assert said in str(causes.of_error(of("Service"), error))


ROOT = causes.Cause("Broker default", "x", final=True)
HEALS = causes.Cause("Service promoter", "x")
FOLLOWS = causes.of_part(of("Trigger", "BrokerDoesNotExist", "x"))


@pytest.mark.parametrize(
    ("found", "hopeless"),
    [
        ([ROOT], True),
        ([ROOT, FOLLOWS], True),
        ([ROOT, HEALS], False),
        ([HEALS], False),
        ([FOLLOWS], False),
        ([], False),
    ],
)
def test_waiting_ends_when_all_that_is_missing_comes_of_what_waiting_does_not_heal(
    found: list[causes.Cause], hopeless: bool
) -> None:
    assert deployment.is_hopeless(found) is hopeless
