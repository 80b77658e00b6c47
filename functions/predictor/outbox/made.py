"""The event prediction.made of an answer: what was asked and answered, as far as 64 KiB hold it.

Used by the CloudEvents protocol for its reply, and by the sampler, whose thread tells predictions over HTTP by it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from eventing import contract, sender
from eventing.errors import Rejected
from functions.predictor.answers import Refusal
from functions.predictor.query import Prediction
from functions.predictor.served import Served
from functions.predictor.wire import examples, predict_body
from functions.tensors import Array

# Room for everything else in the data: names, version, revision, latency.
_ENVELOPE_BYTES = 2048
ATTEMPTS = 3  # to tell a sink of one prediction over HTTP
SCORES = examples.PROBABILITIES  # the output whose last column is told as `score`, as in a package's baseline


def source(instance: str) -> str:
    """The source of this process's events; instance: its Revision, or the model's name outside Knative."""
    return f"/headrace/functions/{instance}"


def prediction_made(served: Served, prediction: Prediction, outputs: Any) -> contract.PredictionMade:
    """The event's data; the features and answers of as many leading rows as fit beside `outputs`.

    outputs: the answer's body, plain JSON. Raises Rejected when it alone is more than an event may carry.
    """
    rows = prediction.query.rows
    room = contract.MAX_DATA_BYTES - _ENVELOPE_BYTES - len(json.dumps(outputs))
    if room < 0:
        raise Rejected(
            f"the answer to {rows} rows does not fit into an event of {contract.MAX_DATA_BYTES} bytes; "
            "ask for fewer rows at once, or over HTTP"
        )
    kept = rows
    features, answers = features_of(served, prediction, kept), answers_of(prediction, kept)
    while kept and len(json.dumps([features, answers])) > room:
        kept //= 2
        features, answers = features_of(served, prediction, kept), answers_of(prediction, kept)
    return contract.PredictionMade(
        model=served.name,
        version=served.version,
        outputs=outputs,
        latency_ms=round(prediction.latency_ms, 3),
        rows=rows,
        features=features if kept and features else None,
        answers=answers if kept and answers else None,
        revision=served.revision,
    )


def features_of(served: Served, prediction: Prediction, rows: int) -> dict[str, tuple[Any, ...]]:
    """Per input with one value per row, the first `rows` values; what is missing is None, as number and as text."""
    inputs = prediction.query.inputs
    return {
        spec.name: tuple(_plain(inputs[spec.name], rows))
        for spec in served.signature.inputs
        if spec.is_column and spec.name in inputs
    }


def answers_of(prediction: Prediction, rows: int) -> dict[str, tuple[Any, ...]]:
    """Per output with one value per row its first `rows` values, and `score`, the probability of the last class."""
    answers = {}
    for name, values in prediction.outputs.items():
        if values.ndim == 1 or values.shape[1:] == (1,):
            answers[name] = tuple(_plain(values, rows))
        elif name == SCORES and values.ndim == 2:
            answers["score"] = tuple(_plain(values[:, -1], rows))
    return answers


def _plain(values: Array, rows: int) -> Sequence[Any]:
    """The first values as JSON knows them: float32 by its own digits, NaN and "" as None."""
    flat = values.reshape(-1)[:rows]
    if flat.dtype.kind == "f":
        return [None if value != value else float(str(value)) for value in flat]
    return [None if value == "" else value for value in flat.tolist()]


class Teller:
    """Tells a sink of predictions over HTTP. instance: as in `source`."""

    def __init__(self, sink: str, instance: str) -> None:
        self._sender = sender.Sender(sink)
        self._source = source(instance)

    def __call__(self, served: Served, prediction: Prediction) -> None:
        """Raises RetryLater while the sink is away, Rejected when it does not take the event."""
        try:
            body = predict_body.encode(served, prediction, columns=False)
        except Refusal:  # outputs that have no rows in common
            body = predict_body.encode(served, prediction, columns=True)
        outputs = orjson.loads(body)
        data = prediction_made(served, prediction, outputs)
        self._sender.send(sender.stamp(data, self._source), attempts=ATTEMPTS)
