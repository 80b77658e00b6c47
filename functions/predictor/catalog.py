"""What this process serves, and, while it does not, why: every version of every model, with its state.

Protocols look a model up here; `start` puts a version in once it has proved itself; the drain marks the process as
leaving. A request that names no version gets the newest one that is ready, so a new version swaps in by being put here:
requests that hold the one before answer from it to their end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from functions.predictor.answers import NOT_FOUND, UNAVAILABLE, Refusal
from functions.predictor.served import Served

STARTING_RETRY_S = 2.0  # what a client is told to wait for a model that is still loading

STARTING, LOADING = "starting", "loading"  # the reasons of what was not tried yet, and of what somebody asked for
UNLOADED = "unloaded"  # the reason, Triton's word, of what was taken out on purpose
UNLOADED_KEPT = 8  # per model: enough to see in an index what went, and no more with each version that comes

State = Literal["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]
"""As Triton's repository index names them; UNAVAILABLE is unloaded or can never serve, the reason says which."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one model. served: only while it is READY. reason: why it is not; empty when it is.

    required: whether the process is not ready without it. version: empty while the store has not said which one serves.
    """

    name: str
    version: str
    state: State = "LOADING"
    reason: str = STARTING
    served: Served | None = None
    required: bool = False


class Catalog:
    """The versions of this process's models. Any thread may ask and change it.

    on_change: called, in the thread of the change, when `paths` has changed: before a version is seen to be ready, and
    after one ceased to be.
    """

    def __init__(
        self,
        expected: Iterable[tuple[str, str]],
        labels: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """expected: name and version of what will be served, from the first moment on; an empty version stands for one
        that is `resolved` later. labels: version by label, by model, as TensorFlow Serving's clients name versions.
        """
        self._entries = {(name, version): Entry(name, version, required=True) for name, version in expected}
        self._coming: dict[tuple[str, str], Served] = {}
        self._labels = labels or {}
        self._lock = threading.Lock()
        self.on_change: Callable[[], object] | None = None
        self.draining = False

    # ------------------------------------------------------------------ what is asked

    @property
    def ready(self) -> bool:
        return not self.draining and not self.waiting

    @property
    def reason(self) -> str:
        """Why it is not ready; empty when it is."""
        if self.draining:
            return "draining: this process ends soon"
        return self.waiting

    @property
    def waiting(self) -> str:
        """Which of the models that must answer do not yet, and why; empty when all of them do."""
        waiting = [e for e in list(self._entries.values()) if e.required and e.served is None]
        names = [e.name for e in waiting]
        return "; ".join(f"{e.name}{f' {e.version}' if names.count(e.name) > 1 else ''}: {e.reason}" for e in waiting)

    @property
    def starting(self) -> str:
        """Which of the models that must answer were not tried yet; empty once each was, whatever came of it."""
        untried = [e for e in list(self._entries.values()) if e.required and e.served is None and e.reason == STARTING]
        return "; ".join(dict.fromkeys(f"{e.name}: {e.reason}" for e in untried))

    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in list(self._entries)))

    def entries(self, model: str | None = None) -> list[Entry]:
        """Every version, oldest first; of one model where it is named. Raises Refusal (404) for an unknown model."""
        found = [e for e in list(self._entries.values()) if model is None or e.name == model]
        if model is not None and not found:
            raise self._unknown(model)
        return sorted(found, key=lambda e: (e.name, age(e.version)))

    def entry(self, model: str, version: str | None = None) -> Entry:
        """One version: the one named; else the newest that answers, else the newest on its way or broken.

        Raises Refusal (404) for what is not known here.
        """
        entries = self.entries(model)
        if version is None:
            return max(entries, key=lambda e: (e.served is not None, e.reason != UNLOADED, age(e.version)))
        for entry in entries:
            if entry.version == version:
                return entry
        here = ", ".join(e.version for e in entries)
        raise Refusal(NOT_FOUND, f"{model} {version!r:.100} is not served here; this server has {here}")

    def expects(self, name: str, version: str) -> bool:
        """Whether the process is not ready for want of this version."""
        entry = self._entries.get((name, version))
        return entry is not None and entry.required and entry.served is None

    def answers(self, name: str, version: str) -> bool:
        """Whether this version is ready."""
        entry = self._entries.get((name, version))
        return entry is not None and entry.served is not None

    def labelled(self, model: str, label: str) -> str:
        """The version of `model` that `label` names. Raises Refusal (404)."""
        self.entries(model)
        labels = self._labels.get(model, {})
        if label not in labels:
            here = ", ".join(labels) or "none"
            raise Refusal(NOT_FOUND, f"{model} has no label {label!r:.100}; its labels are: {here}")
        return labels[label]

    def labels(self, model: str) -> Mapping[str, str]:
        """Version by label."""
        return self._labels.get(model, {})

    def find(self, model: str, version: str | None = None) -> Served:
        """The version, ready to answer. Raises Refusal: 404 for what is not served here, 503 while it is not ready.

        What was unloaded is 404, as in Triton: to ask again helps nobody, before somebody loads it again.
        """
        entry = self.entry(model, version)
        if entry.served is None:
            if entry.reason == UNLOADED:
                here = ", ".join(e.version for e in self.entries(model) if e.served is not None) or "no version of it"
                raise Refusal(NOT_FOUND, f"{model} {entry.version} was unloaded; this server has {here}")
            raise Refusal(UNAVAILABLE, f"{model} is not ready: {entry.reason}", retry_after_s=STARTING_RETRY_S)
        return entry.served

    def paths(self) -> Iterator[tuple[Served, str | None, str | None]]:
        """Every way to name what is ready, or is about to be: served, version or None, label or None."""
        with self._lock:
            found = [e.served for e in self._entries.values() if e.served is not None]
            by_key = {(served.name, served.version): served for served in found} | self._coming
        for model in dict.fromkeys(name for name, _ in by_key):
            versions = sorted((version for name, version in by_key if name == model), key=age)
            ready = {version: by_key[model, version] for version in versions}
            for version, served in ready.items():
                yield served, version, None
            yield ready[versions[-1]], None, None
            for label, version in self.labels(model).items():
                if version in ready:
                    yield ready[version], None, label

    # ------------------------------------------------------------------ what changes

    def loads(self, name: str, version: str) -> None:
        """`version` is on its way; the process is ready without it."""
        with self._lock:
            before = self._entries.get((name, version))
            if before is None or before.served is None:
                required = before.required if before else False
                self._entries[name, version] = Entry(name, version, reason=LOADING, required=required)

    def resolved(self, name: str, version: str) -> None:
        """The store has said which version of `name` is expected."""
        with self._lock:
            before = self._entries.get((name, version), Entry(name, version))
            # First the one, then not the other: a model that is asked for has an entry at every moment.
            self._entries[name, version] = replace(before, required=True)
            self._entries.pop((name, ""), None)

    def put(self, served: Served) -> None:
        """It answers from now on.

        Its paths come first: who sees it ready and asks must not be the one for whom what they need is imported.
        """
        key = (served.name, served.version)
        with self._lock:
            self._coming[key] = served
        try:
            if self.on_change is not None:
                self.on_change()
        except BaseException:
            with self._lock:
                del self._coming[key]
            raise
        with self._lock:
            before = self._entries.get(key, Entry(*key))
            self._entries[key] = replace(before, state="READY", reason="", served=served)
            del self._coming[key]

    def waits(self, name: str, version: str, reason: str) -> None:
        """It is still on its way, and what for."""
        self._change(name, version, "LOADING", reason)

    def fails(self, name: str, version: str, reason: str) -> None:
        """It will never answer as it is."""
        self._change(name, version, "UNAVAILABLE", reason)

    def unload(self, name: str, version: str) -> Served | None:
        """It takes no request from now on, and nobody waits for it; what it was, None where it did not answer."""
        served = self._entries[name, version].served
        self._change(name, version, "UNLOADING" if served else "UNAVAILABLE", UNLOADED, required=False)
        return served

    def gone(self, name: str, version: str) -> None:
        """Its last request is answered; nothing where it was loaded again meanwhile."""
        with self._lock:
            entry = self._entries[name, version]
            if entry.state == "UNLOADING":
                self._entries[name, version] = replace(entry, state="UNAVAILABLE")
            unloaded = [e for e in self._entries.values() if e.name == name and e.state == "UNAVAILABLE"]
            unloaded = sorted((e for e in unloaded if e.reason == UNLOADED), key=lambda e: age(e.version))
            for entry in unloaded[:-UNLOADED_KEPT]:
                del self._entries[name, entry.version]

    def _change(self, name: str, version: str, state: State, reason: str, required: bool | None = None) -> None:
        """It does not answer, or ceases to. required: None leaves it as it is."""
        with self._lock:
            before = self._entries.get((name, version), Entry(name, version))
            after = replace(before, state=state, reason=reason, served=None)
            self._entries[name, version] = after if required is None else replace(after, required=required)
        if self.on_change is not None and before.served is not None:
            self.on_change()

    def _unknown(self, model: str) -> Refusal:
        here = ", ".join(self.models()) or "none"
        return Refusal(NOT_FOUND, f"model {model!r:.100} is not served here; this server has {here}")


def age(version: str) -> tuple[int, int, str]:
    """What versions are sorted by, oldest first: whole numbers by value, as TensorFlow Serving numbers them, then all
    others by their text, as Headrace's begin with the time.
    """
    return (0, int(version), "") if version.isdecimal() else (1, 0, version)
