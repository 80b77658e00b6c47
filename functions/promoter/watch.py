"""What a canary and its champion answer, seen from outside: probes of our own, and the counters of both revisions.

Used by the promoter. A probe asks the rows of the package's sample.json and knows the right answers. The counters are
read from the predictors' /metrics through the revision's tag; behind a tag may be several pods, of which each reading
meets one, so readings are told apart by process and added up. With few pods all of them are met within seconds.

Source: Prometheus' histogram_quantile for percentiles out of buckets; RFC 6761 section 6.3 for names under `localhost`.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from functions.model import SELF_TEST_TOLERANCE
from functions.package import SAMPLE_FILE
from knative.canary import Tally
from monitoring import predictions

PROBE_TIMEOUT_S = 15.0  # a revision that was at zero starts within this, imports and model included
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # /metrics and five predictions stay far below
# So that the predictor counts our own questions apart, and leaves them out of what the drift watch sees.
PROBE_HEADERS = {predictions.PROBE_HEADER: "promoter"}
# Knative answers these while a route is being made or a revision is starting, so they say nothing about the model.
NO_ANSWER = frozenset({404, 408, 429})
FAULTS = frozenset({predictions.FAILED, predictions.RETRY_LATER})  # a rejected request is its sender's fault

log = logging.getLogger(__name__)


class NoAnswer(Exception):
    """The revision did not answer, or said that it cannot now."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one process at one moment."""

    process: str
    """Tells processes apart: the time at which this one started."""
    version: str
    requests: float
    """Of others: probes are not among them."""
    errors: float
    """Of `requests`, those that the server failed."""
    seconds: Mapping[float, float]
    """Upper bound of each bucket to requests and probes up to it, +Inf included."""
    probes: float = 0.0

    def since(self, before: Reading) -> Reading:
        """What was counted between `before` and this."""
        seconds = {bound: count - before.seconds.get(bound, 0.0) for bound, count in self.seconds.items()}
        requests, errors = self.requests - before.requests, self.errors - before.errors
        return Reading(self.process, self.version, requests, errors, seconds, self.probes - before.probes)


def read_metrics(text: str, model: str) -> Reading | None:
    """The counters of `model` in a predictor's /metrics; None where it serves no such model."""
    process, version, requests, errors, probes = "", None, 0.0, 0.0, 0.0
    seconds: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "process_start_time_seconds":
                process = str(sample.value)
            elif sample.labels.get("model") != model:
                continue
            elif sample.name == "headrace_model_info" and sample.value == 1:
                version = sample.labels["version"]
            elif sample.name == "headrace_requests_total":
                requests += sample.value
                errors += sample.value if sample.labels["outcome"] in FAULTS else 0.0
            elif sample.name == "headrace_probes_total":
                # They are in the counter above, and told apart here: whether they fail, who probes knows already.
                probes += sample.value
                requests -= sample.value
                errors -= sample.value if sample.labels["outcome"] in FAULTS else 0.0
            elif sample.name == "headrace_request_duration_seconds_bucket":
                bound = float(sample.labels["le"])
                seconds[bound] = seconds.get(bound, 0.0) + sample.value
    return None if version is None else Reading(process, version, requests, errors, seconds, probes)


def quantile_ms(seconds: Mapping[float, float], share: float) -> float | None:
    """The latency that `share` of the requests did not exceed, straight lines drawn within buckets; None without any.

    seconds: cumulative counts by upper bound. Beyond the last finite bound that bound is the answer.
    """
    bounds = sorted(seconds)
    total = seconds[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = seconds[bound]
        if count >= share * total and count > below:
            if math.isinf(bound):
                break
            return 1000 * (lower + (bound - lower) * (share * total - below) / (count - below))
        lower, below = (lower if math.isinf(bound) else bound), count
    return 1000 * lower


class Meter:
    """What one revision has answered since the first reading, over all of its processes that were met."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._first: dict[str, Reading] = {}
        self._last: dict[str, Reading] = {}

    def add(self, reading: Reading | None) -> None:
        """Takes a reading; one of another version is passed over: the tag has not been moved everywhere yet."""
        if reading is None or reading.version != self._version:
            return
        self._first.setdefault(reading.process, reading)
        self._last[reading.process] = reading

    def tally(self) -> Tally:
        counted = [last.since(self._first[process]) for process, last in self._last.items()]
        seconds: dict[float, float] = {}
        for reading in counted:
            for bound, count in reading.seconds.items():
                seconds[bound] = seconds.get(bound, 0.0) + count
        return Tally(
            requests=int(sum(reading.requests for reading in counted)),
            errors=int(sum(reading.errors for reading in counted)),
            p50_ms=_rounded(quantile_ms(seconds, 0.50)),
            p95_ms=_rounded(quantile_ms(seconds, 0.95)),
            probes=int(sum(reading.probes for reading in counted)),
        )


class Watch:
    """One canary, watched by one thread.

    package: the folder of the challenger's package, for its sample requests.
    """

    def __init__(self, model: str, challenger: str, champion: str, package: Path) -> None:
        self._model = model
        self._samples: Sequence[Mapping[str, Any]] = json.loads((package / SAMPLE_FILE).read_bytes())["requests"]
        self._challenger, self._champion = Meter(challenger), Meter(champion)
        self.probes_ok = 0
        self.probes_failed = 0
        self.mismatch = ""

    @property
    def challenger(self) -> Tally:
        return self._challenger.tally()

    @property
    def champion(self) -> Tally:
        return self._champion.tally()

    def look(self, canary_url: str, champion_url: str) -> None:
        """Asks both revisions the sample rows and reads their counters.

        The champion is asked as often, so that both are compared in the same minutes under at least the same load.
        """
        try:
            self.mismatch = self.mismatch or self._probe(canary_url)
            self.probes_ok += not self.mismatch
        except NoAnswer as e:
            self.probes_failed += 1
            log.info("%s: a probe of the canary got no answer: %s", self._model, e)
        try:
            self._predict(champion_url)
            self._challenger.add(self._read(canary_url))
            self._champion.add(self._read(champion_url))
        except NoAnswer as e:
            log.info("%s: no counters this time: %s", self._model, e)

    def _probe(self, url: str) -> str:
        """The first sample row that is answered wrongly, in words; empty when all are right."""
        status, answer = self._predict(url)
        if status != 200:
            return f"HTTP {status} to its own sample rows: {json.dumps(answer)[:300]}"
        predictions = answer.get("predictions") if isinstance(answer, dict) else None
        if not isinstance(predictions, list) or len(predictions) != len(self._samples):
            return f"{len(self._samples)} rows were answered with {json.dumps(answer)[:300]}"
        for number, (sample, given) in enumerate(zip(self._samples, predictions, strict=True)):
            for name, expected in sample["outputs"].items():
                seen = given.get(name) if isinstance(given, dict) else given
                if not _same(seen, expected):
                    return f"sample row {number}: {name} is {seen!r:.100}; expected {expected!r:.100}"
        return ""

    def _predict(self, url: str) -> tuple[int, Any]:
        body = json.dumps({"instances": [sample["inputs"] for sample in self._samples]}).encode()
        status, text = _ask("POST", f"{url.rstrip('/')}/v1/models/{self._model}:predict", body)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors="replace")

    def _read(self, url: str) -> Reading | None:
        status, text = _ask("GET", f"{url.rstrip('/')}/metrics")
        return read_metrics(text.decode(), self._model) if status == 200 else None


def _same(seen: Any, expected: Any) -> bool:
    """Whether an answer is the expected one: text and whole numbers exactly, floats within the self-test's tolerance.

    What is no single array, such as an object, is compared as it is.
    """
    given, promised = np.asarray(seen), np.asarray(expected)
    if given.shape != promised.shape:
        return False
    if promised.dtype.kind == "f" and given.dtype.kind in "fiu":
        return np.allclose(given, promised, rtol=SELF_TEST_TOLERANCE, atol=SELF_TEST_TOLERANCE, equal_nan=True)
    return bool(given.tolist() == promised.tolist())


def _ask(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body. Raises NoAnswer where none came, or one that speaks of the way there, not of the model."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # Not every resolver knows that names under localhost are the loopback; the Host header still says which is meant.
    address = "127.0.0.1" if host.endswith(".localhost") else host
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(address, parts.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request(
            method, parts.path, body, {"Host": parts.netloc, "Content-Type": "application/json", **PROBE_HEADERS}
        )
        response = connection.getresponse()
        status, text = response.status, response.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as e:
        raise NoAnswer(f"{method} {url}: {e!r}") from e
    finally:
        connection.close()
    if status >= 500 or status in NO_ANSWER:
        raise NoAnswer(f"{method} {url}: HTTP {status} {text[:200].decode(errors='replace')}")
    return status, text


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
