"""What the processes of the house read from their environment: found out by watching them read."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from eventing.errors import Misconfigured

ROOMS = ("eventing", "functions", "trainers", "monitoring", "knative", "headrace")
# One plausible value for each variable that has no default.
SAMPLES = {
    "HEADRACE_STORE": "memory://store",
    "HEADRACE_MODEL": "flights",
    "HEADRACE_MODEL_VERSION": "v20261123-224512-1a2b3c",
    "K_SINK": "http://broker.test",
    "K_EVENT_PATH": "/event",
}


class Settings(Protocol):
    """A frozen dataclass with the configuration of one process."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Any: ...


class Watched(dict[str, str]):
    """An environment that remembers which variables were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


def known_settings() -> dict[str, type[Settings]]:
    """Every class with `from_environment` in the house, by module and name."""
    found = {}
    for room in ROOMS:
        for name in modules(room):
            module = importlib.import_module(name)
            for item in vars(module).values():
                if isinstance(item, type) and item.__module__ == name and "from_environment" in vars(item):
                    found[f"{name}.{item.__name__}"] = item
    return found


def modules(room: str) -> Iterator[str]:
    """The modules of a room, without those that run when they are imported."""
    package = importlib.import_module(room)
    for found in pkgutil.walk_packages(package.__path__, f"{room}."):
        if not found.name.endswith("__main__"):
            yield found.name


def required(settings: type[Settings]) -> set[str]:
    """The variables without which the process refuses to start."""
    environ: dict[str, str] = {}
    while True:
        try:
            settings.from_environment(environ)
        except Misconfigured as e:
            assert e.key not in environ, f"{settings} refuses {e.key}={environ[e.key]}"
            environ[e.key] = SAMPLES[e.key]
        else:
            return set(environ)


def asked(settings: type[Settings]) -> set[str]:
    """Every variable that the process reads."""
    environ = Watched({key: SAMPLES[key] for key in required(settings)})
    settings.from_environment(environ)
    return environ.asked
