"""A training Job: an event in, a package out, the verdict as the exit status.

Started by Knative's JobSink, which puts the event into the file `event` under `$K_EVENT_PATH`, or by
`functions.trainings`, which puts it into `$HEADRACE_EVENT`. Either has told the sender that all is well: so what became
of it is told by events to `$K_SINK` and by the exit status, which the Job's podFailurePolicy reads.

    0   a package is in the store and model.trained was sent      75  the same event may yet succeed (RetryLater)
    65  it never will (Rejected); an event said why               1   nobody foresaw this; the Job tries again

It may die on any line. The ledger (see `trainers.ledger`) is written before the training: the version that each try's
package would have, and the Job that makes it. A package is whole or absent, so the next delivery finds either a
package, and tells of it again, or none, and trains. Of two Jobs at once for the same training, of events with different
ids, one trains, and both tell of its package, with one event id. `--file` trains here and now, without event and store
(see `trainers.once`).

Source: knative/eventing docs on JobSink; Kubernetes' podFailurePolicy; sysexits.h.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypeVar

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, files, sender, settings
from eventing.contract import DatasetArrived, DriftDetected, ModelTrained, TrainingFailed
from eventing.errors import Rejected, RetryLater, Verdict
from functions import store as functions_store
from trainers import once, training
from trainers import wish as wishes
from trainers.ledger import Claimant, Ledger, TakenOver, Try, Turn
from trainers.table import BrokenDataset
from trainers.voice import Voice, cut, rejection
from trainers.wish import Wish

# Pods of a Job are called <job>-<5 characters>. Source: kubernetes/kubernetes pkg/controller, SimpleNameGenerator.
_POD_SUFFIX = re.compile(r"-[a-z0-9]{5}$")

# For a store or a Broker that is away: a Job's tries are used up within two minutes, its deadline is 1,800 s or more.
PATIENCE_S, PAUSE_S = 600.0, 5.0
# A Broker on an in-memory channel answers for model.trained when the promoter has, which holds it for 240 s at most.
ANSWER_S = 300.0
LONGEST_REASON = 4000  # characters

T = TypeVar("T")

log = logging.getLogger("trainers.job")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is told by its environment."""

    store: str
    """HEADRACE_STORE: where packages and datasets are, an fsspec URL."""
    sink: str
    """K_SINK: where events go, the broker."""
    event: str | Path
    """HEADRACE_EVENT: the event itself, structured JSON; without it K_EVENT_PATH: the folder with the file `event`."""
    pod: str
    """HOSTNAME: the pod, whose log tells of this training."""
    namespace: str
    """POD_NAMESPACE: where that pod is."""
    max_dataset_bytes: int
    """HEADRACE_MAX_DATASET_BYTES: a larger file is refused before it is read."""
    patience_s: float = PATIENCE_S
    """HEADRACE_PATIENCE_S: how long a store or a Broker that is away is waited for."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's URL, such as s3://bucket/headrace"),
            sink=settings.text(environ, "K_SINK", "the broker's URL"),
            event=_event(environ),
            pod=settings.text(environ, "HOSTNAME", "the pod's name", default="trainer"),
            namespace=settings.text(environ, "POD_NAMESPACE", "the pod's namespace", default="headrace"),
            max_dataset_bytes=settings.whole_number(
                environ, "HEADRACE_MAX_DATASET_BYTES", wishes.MAX_DATASET_BYTES, 1, 1 << 40
            ),
            patience_s=settings.number(environ, "HEADRACE_PATIENCE_S", PATIENCE_S, 0, 86400),
        )

    def read_event(self) -> bytes:
        return self.event.encode() if isinstance(self.event, str) else self.event.read_bytes()

    @property
    def job(self) -> str:
        return _POD_SUFFIX.sub("", self.pod)

    @property
    def log_uri(self) -> str:
        """Where the Kubernetes API gives this pod's log."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.pod}/log"


def _event(environ: Mapping[str, str]) -> str | Path:
    if said := environ.get("HEADRACE_EVENT", "").strip():
        return said
    folder = settings.text(
        environ, "K_EVENT_PATH", "the folder with the event, as JobSink sets it, or the event itself in HEADRACE_EVENT"
    )
    return Path(folder) / "event"


def train(cause: CloudEvent, store: functions_store.Store, voice: Voice, to: Settings, scratch: Path) -> ModelTrained:
    """The package that the event asks for, in the store, and told of. Raises BrokenDataset, Rejected or RetryLater."""
    wish = patiently(lambda: _wish(cause, store, to), to.patience_s)
    key = wish.key()
    tries = Ledger(files.open_files(to.store), key)

    def whole() -> Try | None:
        """The first try whose package is whole in the store."""
        there = set(store.versions(wish.model))
        return next((one for one in tries.tries() if one.version in there), None)

    def tell(made: Try) -> ModelTrained:
        return patiently(lambda: _tell(store, voice, wish.model, made, key), to.patience_s)

    found = patiently(whole, to.patience_s)
    if found is not None and (wish.known is None or found.event == cause.get_id()):
        log.info("%s was trained before as %s; telling of it again", wish.model, found.version)
        return tell(found)
    if wish.known is not None:
        raise Rejected(wish.known)
    me = Claimant(to.job, to.pod, str(cause.get_id()))

    def version() -> str:
        return training.new_version(datetime.now(UTC), store.versions(wish.model))

    with tries.turn(me, version, lambda: whole() is not None) as turn:
        if turn is not None:
            _train(wish, key, turn, store, voice, to, scratch, whole)
    found = patiently(whole, to.patience_s)
    if found is None:  # a package is there, or an error was raised: else somebody has deleted it
        raise RetryLater(f"the package of {wish.model} that was just published is no longer in the store")
    if turn is None or found.version != turn.entry.version:
        log.info("%s was trained meanwhile as %s; no second package is made", wish.model, found.version)
    return tell(found)


def patiently(attempt: Callable[[], T], patience_s: float, pause_s: float = PAUSE_S) -> T:
    """What `attempt` gives, tried again while store or Broker are away.

    Raises TakenOver at once, and RetryLater after `patience_s`.
    """
    ends = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except TakenOver:
            raise
        except RetryLater as e:
            if time.monotonic() > ends:
                raise
            log.warning("%s; tried again in %.0f s", e, pause_s)
            time.sleep(pause_s)


def _train(
    wish: Wish,
    key: str,
    turn: Turn,
    store: functions_store.Store,
    voice: Voice,
    to: Settings,
    scratch: Path,
    whole: Callable[[], Try | None],
) -> None:
    """Train, and publish unless another package came first. Raises what `train` raises."""
    version = turn.entry.version
    fetched = [store.download(file.uri, scratch / "datasets", file.sha256) for file in wish.files]
    _check_sizes(fetched, to.max_dataset_bytes)
    plan = training.Plan(
        model=wish.model,
        version=version,
        trainer=wish.trainer,
        target=wish.target,
        parameters=wish.parameters,
        parent=wish.parent,
        uri=wish.uri,
        sha256=wish.sha256,
        datasets=tuple(file.sha256 for file in wish.files),
        names=tuple(file.name for file in wish.files),
        form=wish.form,
        notes=wish.notes,
    )
    trained = training.train(
        plan, fetched, scratch, datetime.now(UTC), lambda *step: voice.progress(wish, version, *step)
    )
    if trained.rejected is not None:
        rejected = rejection(wish.model, wish.uri, trained.rejected)
        patiently(lambda: voice.say(rejected, "rejected", key), to.patience_s)
    heldout = f"heldout/{wish.model}/{version}.npz"
    publish(store, turn, heldout, trained, lambda: whole() is not None, to.patience_s)


def publish(
    store: functions_store.Store,
    turn: Turn,
    heldout: str,
    trained: training.Trained,
    is_done: Callable[[], bool],
    patience_s: float = PATIENCE_S,
    pause_s: float = PAUSE_S,
) -> None:
    """The package into the store, unless another one came first; a store that is away is waited for.

    Half an hour's work is not thrown away for a minute's 503. Raises TakenOver; RetryLater after `patience_s`.
    """

    def put() -> None:
        # Each time anew: this process may have stood still for longer than its lease, and another one have gone on.
        turn.hold()
        if not is_done():
            # The promoter needs the held-out rows as soon as it sees the package.
            store.put_file(heldout, trained.heldout)
            store.publish(trained.package)

    patiently(put, patience_s, pause_s)


def _wish(cause: CloudEvent, store: functions_store.Store, to: Settings) -> Wish:
    data = contract.parse(cause)
    if isinstance(data, DatasetArrived):
        extension = cause.get_extension("trainer")
        arrived = data if data.trainer or not extension else replace(data, trainer=str(extension))
        return wishes.of_arrival(arrived, store, to.max_dataset_bytes)
    if isinstance(data, DriftDetected):
        return wishes.of_drift(data, cause.get_time(), store, to.max_dataset_bytes)
    raise Rejected(
        f"event {cause.get_id()} has type {cause.get_type()}; trainers learn from dataset.arrived, drift.detected"
    )


def _check_sizes(fetched: list[Path], max_bytes: int) -> None:
    """An event's `bytes` is a claim; the files are the truth."""
    for file in fetched:
        if (size := file.stat().st_size) > max_bytes:
            raise wishes.too_large(size, max_bytes)


def _tell(store: functions_store.Store, voice: Voice, model: str, found: Try, key: str) -> ModelTrained:
    """Tell of a package in the store: the same event whoever tells it, because all of it is read from there."""
    version = found.version
    manifest = store.manifest(model, version)
    pointer = store.read_json(f"models/{model}/{version}.json") or {}
    trained = ModelTrained(
        model=model,
        version=version,
        uri=store.uri(f"models/{model}/{version}"),
        sha256=str(pointer["sha256"]),
        scores=dict(manifest.scores),
        parity=dict(manifest.parity),
        rows=manifest.dataset["rows"],
        seconds=float(manifest.parameters["seconds"]),
        dataset_sha256=manifest.dataset["sha256"],
        trainer=manifest.trainer,
        job=found.job,
    )
    voice.say(trained, "trained", key, at=datetime.fromisoformat(str(pointer["at"])))
    log.info("%s %s is in the store: %s", model, version, trained.uri)
    return trained


def conclude(cause: CloudEvent, voice: Voice, to: Settings, error: Exception) -> int:
    """Say why there is no package, and give the exit status. Raises RetryLater when nobody listens."""
    subject = cause.get_subject() or "unknown"
    if isinstance(error, RetryLater):
        log.warning("later: %s", error)
        return error.exit_status
    if isinstance(error, BrokenDataset) and cause.get_type() == DatasetArrived.TYPE:
        arrived = DatasetArrived.from_event(cause)
        for reason in error.reasons[:20]:
            where = f"line {reason.row}: " if reason.row else ""
            log.error("%s%s", where, reason.what)
        rejected = rejection(arrived.dataset, arrived.uri, error)
        patiently(lambda: voice.say(rejected, "rejected", cause.get_id()), to.patience_s)
        return error.exit_status
    foreseen = isinstance(error, Rejected)
    failed = TrainingFailed(
        subject, to.job, cut(str(error) or type(error).__name__, LONGEST_REASON), to.log_uri, retryable=not foreseen
    )
    if foreseen:
        log.error("%s", error)
        patiently(lambda: voice.say(failed, "failed", cause.get_id()), to.patience_s)
        return os.EX_DATAERR
    log.error("the training broke down", exc_info=error)
    try:
        voice.say(failed, "failed", cause.get_id(), to.pod, attempts=1)
    except Verdict as e:
        log.warning("training.failed was not sent: %s", e)
    return 1


def run(environ: Mapping[str, str]) -> NoReturn:
    """One event to its exit status. Raises Misconfigured."""
    to = Settings.from_environment(environ)
    store = functions_store.Store.open(to.store)
    events = sender.Sender(to.sink, answer_s=ANSWER_S)
    scratch = Path(tempfile.mkdtemp(prefix="headrace-training-"))

    def terminated(signum: int, _: object) -> NoReturn:
        # At once, also inside a library's loop: the store holds nothing half, and the next delivery finds the ledger.
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(128 + signum)

    signal.signal(signal.SIGTERM, terminated)
    status, why, started = os.EX_OK, "", time.monotonic()
    try:
        cause = binding.from_json(orjson.loads(to.read_event()))
        log.info("event %s, %s of %s", cause.get_id(), cause.get_type(), cause.get_subject())
        voice = Voice(events, cause, to.job)
        try:
            train(cause, store, voice, to, scratch)
        except Exception as e:  # noqa: BLE001 - every end of a training is told, also the unforeseen one
            status, why = conclude(cause, voice, to, e), f": {e or type(e).__name__}"
    except Verdict as e:
        log.error("%s", e)
        status, why = e.exit_status, f": {e}"
    except orjson.JSONDecodeError as e:
        log.error("the event is not JSON: %s: %.200s", e, to.event)
        status = os.EX_DATAERR
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    # The last line, which is told with a Job that gives up.
    log.info("exit status %d after %.1f s%s", status, time.monotonic() - started, " ".join(why.split("\n")))
    sys.exit(status)


def main() -> NoReturn:
    """The process: `python -m trainers.job`, as JobSink starts it, or with `--file` as `headrace train` does."""
    # Read by TensorFlow when it is imported, by whichever trainer needs it: notes about the processor are noise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    if len(sys.argv) > 1:
        sys.exit(once.main(sys.argv[1:]))
    settings.run(run, os.environ)


if __name__ == "__main__":
    main()
