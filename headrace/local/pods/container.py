"""What a container runs on the laptop: its command, environment and folder, worked out as kubelet would.

A container image has no meaning here but one: it names the Python interpreter that stands for it. Used by
`headrace.local.pods.pod` before each start of a container, so that a changed ConfigMap counts from the next start on.
"""

from __future__ import annotations

import base64
import binascii
import os
import pwd
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventing.errors import HeadraceError
from headrace.local.objects.objects import Object

PYTHONS = frozenset({"python", "python3"})
CONTAINER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # PATH of an image that sets none
REFERENCE = re.compile(r"\$(\$|\(([-._a-zA-Z0-9]+)\))")
FIELDS = re.compile(r"metadata\.(?P<map>labels|annotations)\['(?P<key>[^']+)'\]")

Lookup = Callable[[str, str, str], Object | None]  # kind, namespace, name


class NotRunnable(HeadraceError):
    """The container cannot be started as it is described.

    reason: kubelet's word for it, for `state.waiting.reason`. final: only another description can help; otherwise
    something is missing that may yet come.
    """

    def __init__(self, reason: str, message: str, final: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.final = final


@dataclass(frozen=True, slots=True)
class Command:
    """A process to start. environment: all of it, nothing is inherited."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Images:
    """Image repositories (without tag or digest) and the interpreters that stand for them; others get `default`."""

    interpreters: Mapping[str, str]
    default: str = sys.executable

    def interpreter(self, image: str) -> str:
        return self.interpreters.get(repository(image), self.default)


def repository(image: str) -> str:
    """`ghcr.io/headrace/functions:0.1.0@sha256:…` without its tag and digest; a registry's port is no tag."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def container_of(pod: Object) -> Object:
    """The Pod's one container. Raises NotRunnable for more: between processes of one laptop there is no Pod network."""
    spec = pod["spec"]
    containers: list[Object] = spec.get("containers") or []
    if len(containers) != 1 or spec.get("initContainers"):
        raise NotRunnable(
            "UnsupportedPod",
            f"the laptop runs Pods of one container and no initContainers; this one has {len(containers)} and "
            f"{len(spec.get('initContainers') or [])}",
            final=True,
        )
    return containers[0]


def command_of(
    pod: Object, lookup: Lookup, images: Images, folder: Path, base: Mapping[str, str], injected: Mapping[str, str]
) -> Command:
    """The process that stands for the Pod's container. Raises NotRunnable.

    lookup: finds ConfigMaps and Secrets. folder: the Pod's own, for its working and temporary files.
    base: variables that the container may override; injected: those that it may not (PORT and marks).
    """
    container = container_of(pod)
    interpreter = images.interpreter(container.get("image", ""))
    environment = {
        **_clean(interpreter, folder),
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
        **base,
        **injected,
    }
    environment |= _from_sources(container, pod, lookup)
    for variable in container.get("env") or []:
        value = _value(variable, pod, lookup, environment)
        if value is not None:
            environment[variable["name"]] = value
    environment |= injected
    for name, value in environment.items():
        if "\0" in value or "=" in name or not name:
            raise _config_error(f"{name!r} cannot be an environment variable: its name has '=', or its value a NUL")
    argv = [expand(word, environment) for word in (container.get("command") or [])]
    argv += [expand(word, environment) for word in (container.get("args") or [])]
    if not container.get("command"):
        raise NotRunnable(
            "ContainerMissing",
            f"container {container.get('name')!r} of image {container.get('image')!r} has no command; the laptop "
            "cannot look into an image, so the command must be in the manifest",
            final=True,
        )
    if argv[0] in PYTHONS:
        argv[0] = interpreter
    working = container.get("workingDir")
    return Command(tuple(argv), environment, Path(working) if working else folder)


def unsupported_volumes(pod: Object) -> tuple[str, ...]:
    """The mounts that a process without a container cannot see, as `name at path`; an emptyDir at /tmp is TMPDIR."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    return tuple(
        f"{mount['name']} at {mount.get('mountPath')}"
        for container in pod["spec"].get("containers") or []
        for mount in container.get("volumeMounts") or []
        if not (mount.get("mountPath") == "/tmp" and "emptyDir" in volumes.get(mount["name"], {}))
    )


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where NAME is known; `$$` is `$`. Source: kubernetes third_party/forked/golang/expansion."""

    def one(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return environment.get(match[2], match[0])

    return REFERENCE.sub(one, text)


def _clean(interpreter: str, folder: Path) -> dict[str, str]:
    """What a container's image would set, and nothing of the shell that started the platform: no secrets leak in."""
    clean = {
        "PATH": f"{Path(interpreter).parent}:{CONTAINER_PATH}",
        "HOME": pwd.getpwuid(os.getuid()).pw_dir,
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder / "tmp"),
        "PYTHONUNBUFFERED": "1",  # a line is in the log when it was written, not when a buffer is full
    }
    home = Path(interpreter).parent.parent
    if (home / "pyvenv.cfg").exists():
        clean["VIRTUAL_ENV"] = str(home)
    return clean


def _from_sources(container: Object, pod: Object, lookup: Lookup) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if reference := source.get(field):
                values = _values(kind, reference, pod, lookup) or {}
                found |= {source.get("prefix", "") + key: value for key, value in values.items()}
    return found


def _value(variable: Object, pod: Object, lookup: Lookup, known: Mapping[str, str]) -> str | None:
    """The value of one `env` entry; None leaves it unset (an optional key that is not there)."""
    source = variable.get("valueFrom")
    if not source:
        return expand(str(variable.get("value") or ""), known)
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if reference := source.get(field):
            values = _values(kind, reference, pod, lookup)
            if values is not None and reference["key"] in values:
                return values[reference["key"]]
            if reference.get("optional"):
                return None
            raise _config_error(f"{kind} {reference['name']!r} has no key {reference['key']!r}")
    if reference := source.get("fieldRef"):
        return _field(reference["fieldPath"], pod)
    raise NotRunnable(
        "UnsupportedEnvironment",
        f"env {variable['name']}: valueFrom has {', '.join(source)}; the laptop knows configMapKeyRef, secretKeyRef "
        "and fieldRef",
        final=True,
    )


def _values(kind: str, reference: Object, pod: Object, lookup: Lookup) -> dict[str, str] | None:
    """The data of a ConfigMap or Secret as text; None when it is optional and not there."""
    namespace = pod["metadata"]["namespace"]
    obj = lookup(kind, namespace, reference["name"])
    if obj is None:
        if reference.get("optional"):
            return None
        raise _config_error(f"{kind} {reference['name']!r} is not in namespace {namespace!r}")
    data: dict[str, Any] = obj.get("data") or {}
    if kind == "ConfigMap":
        return {key: str(value) for key, value in data.items()}
    # An environment is of bytes: what is no text stays what it is, and stands in nobody's way who asks for another key.
    try:
        decoded = {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in data.items()}
    except binascii.Error as e:
        raise _config_error(f"Secret {reference['name']!r} cannot be read: {e}") from e
    return {**decoded, **(obj.get("stringData") or {})}


def _config_error(message: str) -> NotRunnable:
    return NotRunnable("CreateContainerConfigError", message, final=False)


def _field(path: str, pod: Object) -> str:
    """The downward API, as far as a process on a laptop has such fields."""
    meta = pod["metadata"]
    plain = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": "localhost",
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
    }
    if path in plain:
        return str(plain[path])
    if match := FIELDS.fullmatch(path):
        return str((meta.get(match["map"]) or {}).get(match["key"], ""))
    raise NotRunnable("UnsupportedEnvironment", f"fieldRef {path!r} has no meaning on the laptop", final=True)
