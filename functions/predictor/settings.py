"""What the predictor reads from its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from eventing import settings
from eventing.errors import Misconfigured
from functions.predictor import admission
from functions.predictor.reply_as import ReplyAs
from monitoring.predictions import OTHER_NAMES

MODEL, VERSION, MODELS = "HEADRACE_MODEL", "HEADRACE_MODEL_VERSION", "HEADRACE_MODELS"
LABELS, CONTROL = "HEADRACE_MODEL_LABELS", "HEADRACE_MODEL_CONTROL"
METRICS_NAMES = "HEADRACE_METRICS_NAMES"
UNPROMOTED = "HEADRACE_UNPROMOTED"
Mode = Literal["auto", "off", "on"]  # of batching
MODELS_FORM = "NAME or NAME@VERSION, several by commas, e.g. flights,delays@v20261123-224512-1a2b3c"
LABELS_FORM = "MODEL:LABEL=VERSION, several by commas, e.g. flights:stable=v1,flights:canary=v2"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WANTED = re.compile(rf"({_NAME.pattern})(?:@({_NAME.pattern}))?")
_LABEL = re.compile(rf"({_NAME.pattern}):({_NAME.pattern})=({_NAME.pattern})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to serve from the start."""

    name: str
    version: str | None = None
    """None: the one that the store says is serving, else its newest; which that is, is asked at the start."""


@dataclass(frozen=True)
class Settings:
    """One predictor process."""

    models: tuple[Wanted, ...]
    """HEADRACE_MODEL with HEADRACE_MODEL_VERSION: one exact version, as a Revision serves it for as long as it lives.
    Or HEADRACE_MODELS: many, each as NAME or NAME@VERSION, loaded in this order."""
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
    concurrency: int = admission.CONCURRENCY
    """HEADRACE_CONCURRENCY: inferences at once. Eight, because long ones, which hold no lock of Python's, need not keep
    their neighbours waiting."""
    waiting: int = admission.WAITING
    """HEADRACE_WAITING: requests that wait behind them; more get 503 with Retry-After."""
    wait_s: float = admission.WAIT_S
    """HEADRACE_WAIT_S: how long a request waits for its inference before it gets 503."""
    batching: Mode = "auto"
    """HEADRACE_BATCHING: whether requests that come together are answered by one run of the model: auto, where it pays
    and is right; on, wherever it is right; off."""
    batch_rows: int = 64
    """HEADRACE_BATCH_ROWS: rows of one such run."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """HEADRACE_PROVIDERS: onnxruntime's execution providers, the preferred one first."""
    drain_s: float = 2.0
    """HEADRACE_DRAIN_S: how long requests that still arrive are answered after SIGTERM, until every router knows."""
    max_body_bytes: int = 16 * 1024 * 1024
    """HEADRACE_MAX_BODY_BYTES: the longest request; a longer one gets 413."""
    samples_per_s: float = 10.0
    """HEADRACE_PREDICTION_SAMPLES_PER_S: predictions over HTTP that are told to the sink each second; 0 for none."""
    cache: Path = Path("/tmp/headrace")
    """HEADRACE_CACHE: folder for packages from a store that is not on this machine; `headrace` under TMPDIR, where that
    is set."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """HEADRACE_MODEL_LABELS: by model, which version a label names, for TensorFlow Serving's clients."""
    model_control: bool = False
    """HEADRACE_MODEL_CONTROL: whether who reaches the port may load and unload models; on with HEADRACE_MODELS, off
    with HEADRACE_MODEL, where the Revision says what is served."""

    unpromoted: bool = True
    """HEADRACE_UNPROMOTED: whether a model of HEADRACE_MODELS without a version, of which none was promoted yet, is
    served by its newest; off waits for the first that is."""
    metrics_names: tuple[str, ...] = ()
    """HEADRACE_METRICS_NAMES: whose names for the metrics are shown beside Headrace's: kserve, triton."""
    reply_as: ReplyAs = field(default_factory=ReplyAs)
    """CE_TYPE, CE_SOURCE, CE_MERGE: how replies to events introduce themselves, as KServe's model server is told."""

    @property
    def instance(self) -> str:
        """What this process's events come from: its Revision, outside Knative its one model, else the predictor."""
        names = {wanted.name for wanted in self.models}
        return self.revision or (names.pop() if len(names) == 1 else "predictor")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in `environ`. Raises Misconfigured naming the key of what cannot work."""
        models = _models(environ)
        return cls(
            models=models,
            reply_as=ReplyAs.from_environment(environ),
            store=settings.text(environ, "HEADRACE_STORE", "the store's URL, e.g. file:///var/lib/headrace"),
            port=settings.port(environ),
            host=settings.host(environ),
            sink=_sink(environ.get("K_SINK") or None),
            revision=environ.get("K_REVISION") or None,
            threads=settings.whole_number(environ, "HEADRACE_THREADS", cls.threads, 1, 256),
            concurrency=settings.whole_number(environ, "HEADRACE_CONCURRENCY", cls.concurrency, 1, 512),
            waiting=settings.whole_number(environ, "HEADRACE_WAITING", cls.waiting, 0, 10_000),
            wait_s=settings.number(environ, "HEADRACE_WAIT_S", cls.wait_s, 0, 600),
            batching=_batching(environ),
            batch_rows=settings.whole_number(environ, "HEADRACE_BATCH_ROWS", cls.batch_rows, 2, 65_536),
            providers=_providers(environ),
            drain_s=settings.number(environ, "HEADRACE_DRAIN_S", cls.drain_s, 0, 600),
            max_body_bytes=settings.whole_number(
                environ, "HEADRACE_MAX_BODY_BYTES", cls.max_body_bytes, 1024, 2 * 1024**3
            ),
            metrics_names=_metrics_names(environ),
            samples_per_s=settings.number(environ, "HEADRACE_PREDICTION_SAMPLES_PER_S", cls.samples_per_s, 0, 10_000),
            cache=_cache(environ),
            labels=_labels(environ, models),
            unpromoted=settings.switch(environ, UNPROMOTED, default=cls.unpromoted),
            model_control=settings.switch(environ, CONTROL, default=bool(environ.get(MODELS, "").strip())),
        )


def _cache(environ: Mapping[str, str]) -> Path:
    if said := environ.get("HEADRACE_CACHE"):
        return Path(said)
    return Path(environ["TMPDIR"], "headrace") if environ.get("TMPDIR") else Settings.cache


def _batching(environ: Mapping[str, str]) -> Mode:
    said = environ.get("HEADRACE_BATCHING", "").strip() or "auto"
    for mode in get_args(Mode):
        if said == mode:
            return cast(Mode, mode)
    raise Misconfigured("HEADRACE_BATCHING", said, "auto, on or off")


def _providers(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Whether they are here is seen where onnxruntime is opened."""
    said = [name.strip() for name in environ.get("HEADRACE_PROVIDERS", "").split(",")]
    return tuple(filter(None, said)) or Settings.providers


def _models(environ: Mapping[str, str]) -> tuple[Wanted, ...]:
    listed = environ.get(MODELS, "").strip()
    if not listed:
        model = _name(environ, MODEL, f"the name of a model in the store, or {MODELS} for several")
        return (Wanted(model, _name(environ, VERSION, "an exact version of the model")),)
    for key in (MODEL, VERSION):
        if environ.get(key, "").strip():
            raise Misconfigured(key, environ[key], f"nothing beside {MODELS}, which names models and their versions")
    models: list[Wanted] = []
    for item in listed.split(","):
        if (found := _WANTED.fullmatch(item.strip())) is None:
            raise Misconfigured(MODELS, item.strip(), MODELS_FORM)
        if (wanted := Wanted(found[1], found[2])) in models:
            raise Misconfigured(MODELS, listed, f"each once; {item.strip()} stands there twice")
        models.append(wanted)
    return tuple(models)


def _labels(environ: Mapping[str, str], models: tuple[Wanted, ...]) -> dict[str, dict[str, str]]:
    """Version by label, by model."""
    labels: dict[str, dict[str, str]] = {}
    names = {wanted.name for wanted in models}
    for item in filter(None, (item.strip() for item in environ.get(LABELS, "").split(","))):
        if (found := _LABEL.fullmatch(item)) is None:
            raise Misconfigured(LABELS, item, LABELS_FORM)
        model, label, version = found.groups()
        if model not in names:
            raise Misconfigured(LABELS, item, f"a model that is served here: {', '.join(sorted(names))}")
        if label in labels.setdefault(model, {}):
            raise Misconfigured(LABELS, item, f"each label once; {model}:{label} is {labels[model][label]} already")
        labels[model][label] = version
    return labels


def _metrics_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    given = environ.get(METRICS_NAMES, "")
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in given.split(",")))))
    if not set(names) <= set(OTHER_NAMES):
        raise Misconfigured(METRICS_NAMES, given, f"some of {', '.join(OTHER_NAMES)}, by commas")
    return names


def _sink(url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise Misconfigured("K_SINK", url, "an http or https URL")
    return url


def _name(environ: Mapping[str, str], key: str, expected: str) -> str:
    value = settings.text(environ, key, expected)
    if not _NAME.fullmatch(value):
        raise Misconfigured(key, value, f"{expected}: letters, digits, '.', '_' and '-'")
    return value
