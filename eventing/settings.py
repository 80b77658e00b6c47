"""How a process of Headrace reads its environment, and how it ends when that cannot work.

Used by the `Settings.from_environment` of each process and by its `main()`. Nothing here reads `os.environ`: the
mapping is handed in, so that a test says what is in it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from eventing.errors import Misconfigured

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def text(environ: Mapping[str, str], key: str, expected: str, default: str | None = None) -> str:
    """The value of `key`, or `default`. expected: what it should say, for the person who left it out."""
    value = environ.get(key, "").strip() or default
    if value is None:
        raise Misconfigured(key, environ.get(key), expected)
    return value


def number(environ: Mapping[str, str], key: str, default: float, at_least: float, at_most: float) -> float:
    """The number under `key`, within its bounds."""
    seen = environ.get(key, "").strip()
    try:
        value = float(seen) if seen else default
    except ValueError:
        raise Misconfigured(key, seen, f"a number from {at_least:g} to {at_most:g}") from None
    if not at_least <= value <= at_most:
        raise Misconfigured(key, seen, f"a number from {at_least:g} to {at_most:g}")
    return value


def whole_number(environ: Mapping[str, str], key: str, default: int, at_least: int, at_most: int) -> int:
    """The whole number under `key`, within its bounds."""
    seen = environ.get(key, "").strip()
    try:
        value = int(seen) if seen else default
    except ValueError:
        raise Misconfigured(key, seen, f"a whole number from {at_least} to {at_most}") from None
    if not at_least <= value <= at_most:
        raise Misconfigured(key, seen, f"a whole number from {at_least} to {at_most}")
    return value


def switch(environ: Mapping[str, str], key: str, *, default: bool) -> bool:
    """Whether `key` says `on`."""
    seen = environ.get(key, "").strip() or ("on" if default else "off")
    if seen not in ("on", "off"):
        raise Misconfigured(key, seen, "on or off")
    return seen == "on"


def port(environ: Mapping[str, str]) -> int:
    """The port to listen on, as Knative says it. Source: Knative's runtime contract, Inbound network connectivity."""
    return whole_number(environ, "PORT", 8080, 0, 65535)


def host(environ: Mapping[str, str]) -> str:
    """The address to listen on: every one inside a pod, which has its own network, the loopback anywhere else.

    The kubelet puts KUBERNETES_SERVICE_HOST into each container. There, probes and Prometheus come to the pod's
    address; on a laptop the same would open an unguarded port to the neighbours.
    """
    return "0.0.0.0" if environ.get("KUBERNETES_SERVICE_HOST") else "127.0.0.1"


def run(main: Callable[[Mapping[str, str]], None], environ: Mapping[str, str]) -> NoReturn:
    """Runs a process to its end: logs to stderr; a setting that cannot work ends it with EX_CONFIG (78) and its key."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        main(environ)
    except Misconfigured as e:
        sys.stderr.write(f"{e}\n")
        sys.exit(os.EX_CONFIG)
    sys.exit(os.EX_OK)
