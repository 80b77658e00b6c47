"""What the predictor reads from its environment."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eventing import settings
from eventing.errors import Misconfigured

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Settings:
    """One predictor process."""

    model: str
    """HEADRACE_MODEL: the model's name in the store."""
    version: str
    """HEADRACE_MODEL_VERSION: the exact version; a Revision serves one version for as long as it lives."""
    store: str
    """HEADRACE_STORE: the store's fsspec URL."""
    port: int = 8080
    """PORT: where to listen, 0 for any free port."""
    host: str = "127.0.0.1"
    """Every address inside a pod, the loopback anywhere else."""
    sink: str | None = None
    """K_SINK: where predictions over HTTP are told; None tells nobody."""
    revision: str | None = None
    """K_REVISION: the Knative Revision that this process belongs to; None outside Knative."""
    threads: int = 1
    """HEADRACE_THREADS: how many one inference may use. More pods, not more threads, is how Knative scales."""
    concurrency: int = 8
    """HEADRACE_CONCURRENCY: requests taken at once; more wait in order. Eight, so that clients that send slowly and
    long inferences, which hold no lock of Python's, keep neither a probe nor their neighbours waiting."""
    drain_s: float = 2.0
    """HEADRACE_DRAIN_S: how long requests that still arrive are answered after SIGTERM, until every router knows."""
    max_body_bytes: int = 16 * 1024 * 1024
    """HEADRACE_MAX_BODY_BYTES: the longest request; a longer one gets 413."""
    samples_per_s: float = 10.0
    """HEADRACE_PREDICTION_SAMPLES_PER_S: predictions over HTTP that are told to the sink each second; 0 for none."""
    cache: Path = Path(tempfile.gettempdir()) / "headrace"
    """HEADRACE_CACHE: folder for packages from a store that is not on this machine."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in `environ`. Raises Misconfigured naming the key of what cannot work."""
        return cls(
            model=_name(environ, "HEADRACE_MODEL", "the name of a model in the store"),
            version=_name(environ, "HEADRACE_MODEL_VERSION", "an exact version of the model"),
            store=settings.text(environ, "HEADRACE_STORE", "the store's URL, e.g. file:///var/lib/headrace"),
            port=settings.port(environ),
            host=settings.host(environ),
            sink=_sink(environ.get("K_SINK") or None),
            revision=environ.get("K_REVISION") or None,
            threads=settings.whole_number(environ, "HEADRACE_THREADS", cls.threads, 1, 256),
            concurrency=settings.whole_number(environ, "HEADRACE_CONCURRENCY", cls.concurrency, 1, 512),
            drain_s=settings.number(environ, "HEADRACE_DRAIN_S", cls.drain_s, 0, 600),
            max_body_bytes=settings.whole_number(
                environ, "HEADRACE_MAX_BODY_BYTES", cls.max_body_bytes, 1024, 2 * 1024**3
            ),
            samples_per_s=settings.number(environ, "HEADRACE_PREDICTION_SAMPLES_PER_S", cls.samples_per_s, 0, 10_000),
            cache=Path(environ["HEADRACE_CACHE"]) if environ.get("HEADRACE_CACHE") else cls.cache,
        )


def _sink(url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise Misconfigured("K_SINK", url, "an http or https URL")
    return url


def _name(environ: Mapping[str, str], key: str, expected: str) -> str:
    value = settings.text(environ, key, expected)
    if not _NAME.fullmatch(value):
        raise Misconfigured(key, value, f"{expected}: letters, digits, '.', '_' and '-'")
    return value
