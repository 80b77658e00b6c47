"""What a training tells the broker: its progress, its result, and why there is none.

Used by `trainers.job`. Every event names the event that asked for the training as its cause, and has an id that is the
same for the same fact, so that a redelivery tells nothing new.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from datetime import UTC, datetime

from cloudevents.core.v1.event import CloudEvent

from eventing import contract, sender
from eventing.contract import DatasetRejected, TrainingProgressed
from eventing.errors import Verdict
from trainers.table import BrokenDataset
from trainers.wish import Wish

SOURCE = "/headrace/trainers/job"
SEND_ATTEMPTS = 6  # with the sender's backoff 3 to 6 s: a broker that restarts is waited for, a lost one costs a retry
LONGEST_WHAT = 2000  # characters of a sentence: classes and columns may be called anything, and an event has 64 KiB
LONGEST_NAME = 200
PROGRESS_STEP = 0.1  # of the training between two progress events: at most 15 of them, whatever the trainer reports
REASONS_BYTES = 56 * 1024  # of dataset.rejected's reasons, so that the whole stays under the contract's 64 KiB

log = logging.getLogger("trainers.job")


class Voice:
    """Says what became of the event. cause: that event; every event sent names it as its cause."""

    def __init__(self, to: sender.Sender, cause: CloudEvent, job: str) -> None:
        self._to = to
        self._cause = cause
        self._job = job
        self._told = -1.0
        self._step = ""
        self._heard = True

    def say(
        self, data: contract.Data, noun: str, *parts: str, at: datetime | None = None, attempts: int = SEND_ATTEMPTS
    ) -> None:
        """Send, under an id that is the same whenever `parts` are. Raises RetryLater or Rejected as the sink says."""
        id = contract.derived_id(noun, *parts)
        event = data.to_event(source=SOURCE, id=id, time=at or datetime.now(UTC), cause=self._cause)
        self._to.send(event, attempts=attempts)

    def progress(self, wish: Wish, version: str, step: str, done: float, what: str) -> None:
        """To the log always; as an event where it is a step further. A sink that does not listen stops no training."""
        log.info("%s %3.0f %% %s: %s", wish.model, 100 * done, step, what)
        if not self._heard or (step == self._step and done < self._told + PROGRESS_STEP):
            return
        self._told, self._step = done, step
        progressed = TrainingProgressed(wish.model, self._job, step, round(done, 3), cut(what, LONGEST_WHAT))
        try:
            self.say(progressed, "progress", version, step, f"{done:.2f}", attempts=1)
        except Verdict as e:
            self._heard = False
            log.warning("progress is no longer sent: %s", e)


def cut(text: str, longest: int) -> str:
    """`text`, or as many characters of it."""
    return text if len(text) <= longest else text[:longest] + "…"


def rejection(dataset: str, uri: str, broken: BrokenDataset) -> DatasetRejected:
    """As many reasons as an event may carry, the first ones."""
    reasons: list[contract.Reason] = []
    size = 0
    for told in broken.reasons:
        column = None if told.column is None else cut(told.column, LONGEST_NAME)
        reason = replace(told, what=cut(told.what, LONGEST_WHAT), column=column)
        size += len(json.dumps(asdict(reason))) + 2  # as the contract measures: letters beyond ASCII take 6 bytes
        if size > REASONS_BYTES and reasons:
            break
        reasons.append(reason)
    return DatasetRejected(dataset, uri, tuple(reasons), broken.broken_rows, broken.counts)
