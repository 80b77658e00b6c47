"""One version of a model that answers: in its turn, counted, and told of.

Made by `functions.predictor.repository` once the version has proved itself; found by requests in the catalog.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from functions.predictor.admission import Gone, Turns
from functions.predictor.query import Prediction, Query
from functions.predictor.reply_as import ReplyAs
from functions.predictor.statistics import PREDICTIONS

if TYPE_CHECKING:
    # numpy and onnxruntime are imported by `start`, after the port is open.
    from functions.model import Model
    from functions.predictor.batcher import Batcher
    from functions.tensors import Array


class Served:
    """A model that answers: ready, self-tested.

    tell: takes each prediction made over HTTP; must neither block nor raise. None: nobody listens. inferences: the
    places for inferences of this process; None: as many as come. batcher: joins requests that come together; it bounds
    its runs itself.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: Model,
        revision: str | None = None,
        tell: Callable[[Served, Prediction], object] | None = None,
        inferences: Turns | None = None,
        batcher: Batcher | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.model = model
        self.signature = model.signature
        self.revision = revision
        self.statistics = PREDICTIONS.of(name, version)
        self.reply_as = ReplyAs()
        self._tell = tell
        self._inferences = inferences
        self._batcher = batcher
        self._quick = inferences is None and batcher is None
        queued = self._queued = list[None]()
        if batcher is None:
            self.statistics.waiting = lambda: len(queued)  # of nothing that holds the model: these numbers outlive it
        else:
            self.statistics.follow(batcher)
        self.answered_once: Callable[[], object] | None = None
        """Called after the first prediction, once."""

    def predict(
        self, query: Query, began: float, *, told: bool = True, wanted: Callable[[], bool] | None = None
    ) -> Prediction:
        """The model's answer to `query`.

        began: `time.perf_counter()` when the request was taken. told: whether it is one of those that are sampled.
        wanted: whether somebody still waits for the answer, asked when the turn has come; None: nobody knows. Raises
        RetryLater when the turn does not come in time, or nobody waits.
        """
        start = time.perf_counter()
        outputs: Mapping[str, Array]
        if wanted is None and self._quick:
            outputs, queue_s = self.model.infer(query.inputs, query.outputs), 0.0
        else:
            outputs, queue_s = self._in_turn(query, start, wanted)
        end = time.perf_counter()
        self.statistics.executed(query.rows, began, queue_s, start, end)
        prediction = Prediction(query, outputs, (end - began) * 1000)
        if told and self._tell is not None:
            self._tell(self, prediction)
        if self.answered_once is not None:
            announce, self.answered_once = self.answered_once, None
            if announce is not None:
                announce()
        return prediction

    def _in_turn(
        self, query: Query, start: float, wanted: Callable[[], bool] | None
    ) -> tuple[Mapping[str, Array], float]:
        """The model's answer, and the seconds that `query` waited for its turn."""
        if self._batcher is not None:
            _check(wanted)
            return self._batcher.infer(query, wanted=wanted)
        if self._inferences is None:
            _check(wanted)
            return self.model.infer(query.inputs, query.outputs), 0.0
        self._queued.append(None)
        try:
            self._inferences.take()
        finally:
            self._queued.pop()
        try:
            _check(wanted)
            queue_s = time.perf_counter() - start
            return self.model.infer(query.inputs, query.outputs), queue_s
        finally:
            self._inferences.leave()


def _check(wanted: Callable[[], bool] | None) -> None:
    if wanted is not None and not wanted():
        raise Gone
