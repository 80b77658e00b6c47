"""A container's command and environment, worked out as kubelet would."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from headrace.local.objects.objects import Object
from headrace.local.pods import container
from headrace.local.pods.container import Command, Images, NotRunnable

OBJECTS: dict[tuple[str, str], Object] = {
    ("ConfigMap", "settings"): {"data": {"COLOUR": "red", "SIZE": "5"}},
    ("Secret", "keys"): {"data": {"TOKEN": base64.b64encode(b"s3cret").decode()}},
    ("Secret", "mixed"): {
        "data": {
            "user": "bWU=\n",  # base64, as a tool writes it that breaks lines
            "store.jks": base64.b64encode(b"\xfe\xed\0\1").decode(),
            "latin": base64.b64encode(b"\xe9").decode(),
        }
    },
}


def command(**described: object) -> Command:
    containers = [{"name": "c", "image": "example/image:1", "command": ["/bin/true"], **described}]
    meta = {"name": "pod", "namespace": "n", "uid": "u", "labels": {"app": "web"}}
    return container.command_of(
        {"metadata": meta, "spec": {"containers": containers}},
        lambda kind, namespace, name: OBJECTS.get((kind, name)),
        Images({"example/image": "/opt/venv/bin/python"}, default="/usr/bin/python3"),
        Path("/pod"),
        {"KUBECONFIG": "/k"},
        {"PORT": "4711"},
    )


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$A ${A} $", "$A ${A} $"),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, expanded: str) -> None:
    assert container.expand(text, {"A": "1", "B": "2"}) == expanded


def test_a_variable_may_refer_to_those_before_it() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "3"}]
    assert command(env=env, args=["--b=$(B)", "$(PORT)"]).argv == ("/bin/true", "--b=1$(C)", "4711")


def test_env_wins_over_env_from_and_the_port_over_both() -> None:
    made = command(
        envFrom=[{"configMapRef": {"name": "settings"}}, {"prefix": "K_", "secretRef": {"name": "keys"}}],
        env=[{"name": "COLOUR", "value": "blue"}, {"name": "PORT", "value": "1"}],
    ).environment
    assert (made["COLOUR"], made["SIZE"], made["K_TOKEN"], made["PORT"]) == ("blue", "5", "s3cret", "4711")


def test_values_come_from_keys_and_fields() -> None:
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "SIZE"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
        {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "nowhere", "key": "x", "optional": True}}},
    ]
    made = command(env=env).environment
    assert (made["A"], made["B"], made["C"]) == ("5", "s3cret", "web")
    assert "D" not in made


def test_a_secrets_text_is_had_beside_a_key_that_holds_bytes() -> None:
    env = [
        {"name": "USER", "valueFrom": {"secretKeyRef": {"name": "mixed", "key": "user"}}},
        {"name": "LATIN", "valueFrom": {"secretKeyRef": {"name": "mixed", "key": "latin"}}},
    ]
    made = command(env=env).environment
    assert (made["USER"], os.fsencode(made["LATIN"])) == ("me", b"\xe9")


@pytest.mark.parametrize(
    ("described", "reason", "final"),
    [
        ({"command": []}, "ContainerMissing", True),
        ({"envFrom": [{"secretRef": {"name": "nowhere"}}]}, "CreateContainerConfigError", False),
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}]},
            "CreateContainerConfigError",
            False,
        ),
        ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {}}}]}, "UnsupportedEnvironment", True),
        ({"env": [{"name": "A", "value": "a\0b"}]}, "CreateContainerConfigError", False),
        ({"env": [{"name": "A=B", "value": "c"}]}, "CreateContainerConfigError", False),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "mixed", "key": "store.jks"}}}]},
            "CreateContainerConfigError",
            False,
        ),
    ],
)
def test_what_cannot_be_started_is_told_with_kubelets_reason(
    described: dict[str, object], reason: str, final: bool
) -> None:
    with pytest.raises(NotRunnable) as refused:
        command(**described)
    assert (refused.value.reason, refused.value.final) == (reason, final)


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("ghcr.io/headrace/functions:0.1.0", "ghcr.io/headrace/functions"),
        ("localhost:5000/functions", "localhost:5000/functions"),
        ("localhost:5000/functions:1@sha256:abc", "localhost:5000/functions"),
        ("functions", "functions"),
    ],
)
def test_an_image_is_known_by_its_repository(image: str, repository: str) -> None:
    assert container.repository(image) == repository


def test_python_is_the_interpreter_of_the_image_or_the_default() -> None:
    assert command(command=["python", "-m", "x"]).argv == ("/opt/venv/bin/python", "-m", "x")
    assert command(command=["python3"], image="other:1").argv == ("/usr/bin/python3",)
