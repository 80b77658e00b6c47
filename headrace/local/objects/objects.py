"""The laptop's etcd: every Kubernetes object of `headrace up`, on disk and in memory, with what changed and when.

`headrace.local.api.api` puts the Kubernetes REST API over it; the reconciler, gateway, broker and scaler use it
in-process. All calls are synchronous and belong on the event loop: a read is a look-up and a parse, a write one SQLite
commit.

What a caller may rely on:
- Every dict that goes in is copied, every dict that comes out is the caller's own to change. (The copy in memory is
  JSON text, so the safe read is also the cheap one: one parse, no deepcopy.)
- A write is on disk before it returns and before any watcher hears of it. A crash in between is harmless because every
  controller reads all its objects at start, as in a cluster. A kill -9 takes nothing; a power failure no more than the
  last statuses, which their controllers work out again (see `update`).
- Watchers hear changes in the order of their resourceVersion, also when a watcher writes in its turn.

Rules as in Kubernetes: those of ObjectMeta (`headrace.local.objects.objectmeta`), of the generic registry's store
(kubernetes' apiserver, pkg/registry/generic/registry/store.go) and the garbage collector's background propagation.
Difference: what an owner takes with it goes in the same transaction, not soon after.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import orjson

from headrace.local.objects import defaults, kinds, objectmeta
from headrace.local.objects.object_errors import (
    AlreadyExists,
    Conflict,
    Expired,
    Invalid,
    NotFound,
    ObjectError,
)
from headrace.local.objects.object_file import ObjectFile
from headrace.local.objects.objectmeta import Object, set_condition, timestamp

__all__ = [
    "ADDED",
    "DELETED",
    "MODIFIED",
    "AlreadyExists",
    "Change",
    "Conflict",
    "Expired",
    "Invalid",
    "NotFound",
    "Object",
    "ObjectError",
    "Objects",
    "set_condition",
    "timestamp",
]

log = logging.getLogger(__name__)

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"

# Changes kept for watches that resume: 8 MiB at 2 KiB each. Older ones get 410, as after etcd's compaction.
HISTORY = 4096
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # generateName's letters in apimachinery: no vowels, so no words
GENERATE_ATTEMPTS = 8

Victims = list[Object]
Writes = list[tuple[str, Object, bytes | None]]  # type of change, object after it, body before it (None: look it up)
Key = tuple[str, str]  # namespace ("" for cluster-scoped kinds), name


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change.

    body: the object after it as JSON (a deleted object: as it last was, with the deletion's resourceVersion).
    previous: the object before it, None when it was created.
    """

    type: str
    kind: str
    namespace: str
    name: str
    resource_version: int
    body: bytes
    previous: bytes | None

    def object(self) -> Object:
        return _parse(self.body)


@dataclass(frozen=True, slots=True)
class _Stored:
    """An object in memory: its text, and what is asked of every object without a parse."""

    body: bytes
    uid: str
    labels: Mapping[str, str]
    owners: tuple[str, ...]


class Objects:
    """The objects of one platform.

    path: the SQLite file, made when absent. One process at a time: the file is locked while this is open.
    Raises Misconfigured where another process holds the file.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._stored: dict[str, dict[Key, _Stored]] = {}
        self._watchers: dict[int, Callable[[Change], None]] = {}
        self._next_watcher = 0
        self._undelivered: deque[Change] = deque()
        self._delivering = False
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._file = ObjectFile(path)
        self._resource_version = self._load()
        self._oldest = self._resource_version

    def close(self) -> None:
        """Let go of the file, for whoever opens it next."""
        self._file.close()

    @property
    def resource_version(self) -> int:
        """The latest change's number; grows over restarts too."""
        return self._resource_version

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        stored = self._find(kind, namespace, name)
        return None if stored is None else _parse(stored.body)

    def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Object]:
        """The kind's objects by namespace and name.

        namespace: None for all. labels: those that an object must carry, with these values.
        """
        wanted = (labels or {}).items()
        return [
            _parse(stored.body)
            for (of, _), stored in sorted(self._stored.get(kind, {}).items(), key=lambda item: item[0])
            if (namespace is None or of == namespace) and wanted <= stored.labels.items()
        ]

    def create(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """The object as stored. Raises AlreadyExists; Invalid without a kind or a name.

        A name is made from generateName where metadata has only that. dry_run: all but the storing.
        """
        new = _copy(obj)
        meta: Object = new.setdefault("metadata", {})
        kind = objectmeta.kind(new)
        namespace = objectmeta.namespace(kind, meta)
        if not meta.get("name"):
            meta["name"] = self._generate_name(kind, namespace, meta)
        if self._find(kind, namespace, meta["name"]) is not None:
            raise AlreadyExists(f'{kinds.qualified(kind)} "{meta["name"]}" already exists')
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = timestamp(self._clock())
        for server_set in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
            meta.pop(server_set, None)
        defaults.apply(new)
        if "spec" in new:
            meta["generation"] = 1
        if dry_run:
            return new
        return self._commit([(ADDED, new, None)], durable=True)[0].object()

    def update(self, obj: Mapping[str, Any], subresource: str | None = None, *, dry_run: bool = False) -> Object:
        """The object as stored; nothing is written, and resourceVersion stays, where nothing differs.

        subresource: None keeps the stored status and takes all else; "status" takes the status and keeps all else.
        An object on its way out is removed once its last finalizer is. dry_run: all but the storing.
        Raises NotFound; Conflict when metadata.resourceVersion or uid is given and not the stored one.
        """
        new = _copy(obj)
        meta: Object = new.setdefault("metadata", {})
        kind = objectmeta.kind(new)
        namespace, name = objectmeta.namespace(kind, meta), meta.get("name", "")
        stored = self._find(kind, namespace, name)
        if stored is None:
            raise objectmeta.not_found(kind, name)
        old = _parse(stored.body)
        objectmeta.check_preconditions(kind, old, meta.get("uid"), meta.get("resourceVersion"))
        new = objectmeta.with_status(old, new) if subresource == "status" else objectmeta.with_spec(old, new)
        if new == old:
            return old
        if dry_run:
            return new
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._remove(new, "Background")
        # A lost status is worked out again by its controller; a lost spec was somebody's wish.
        return self._commit([(MODIFIED, new, stored.body)], durable=subresource != "status")[0].object()

    def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        propagation: str = "Background",
        uid: str | None = None,
        resource_version: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """The object as it last was. What it owns goes with it, and a Namespace takes all that is in it.

        An object with finalizers stays, with a deletionTimestamp, until `update` removes the last one.
        propagation: "Background" and "Foreground" (the same here) or "Orphan": what it owns stays.
        uid, resource_version: preconditions. Raises NotFound; Conflict when a precondition fails.
        """
        stored = self._find(kind, namespace, name)
        if stored is None:
            raise objectmeta.not_found(kind, name)
        obj = _parse(stored.body)
        objectmeta.check_preconditions(kind, obj, uid, resource_version)
        if dry_run:
            return obj
        if not obj["metadata"].get("finalizers"):
            return self._remove(obj, propagation)
        if "deletionTimestamp" in obj["metadata"]:
            return obj
        obj["metadata"] |= {"deletionTimestamp": timestamp(self._clock()), "deletionGracePeriodSeconds": 0}
        return self._commit([(MODIFIED, obj, stored.body)], durable=True)[0].object()

    def watch(self, callback: Callable[[str, Object], None]) -> Callable[[], None]:
        """Call `callback(type, object)` after every commit, with ADDED, MODIFIED or DELETED; all kinds.

        Returns what ends it. A callback that raises is logged, and the others still hear the change.
        """
        return self.watch_changes(lambda change: callback(change.type, change.object()))

    def watch_changes(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """`watch` for those who also need the object's previous state, or not its parsed one."""
        number, self._next_watcher = self._next_watcher, self._next_watcher + 1
        self._watchers[number] = callback

        def unsubscribe() -> None:
            self._watchers.pop(number, None)

        return unsubscribe

    def changes_since(self, resource_version: int) -> Sequence[Change]:
        """The changes after `resource_version`, in order. Raises Expired when they are not all kept."""
        if resource_version < self._oldest or resource_version > self._resource_version:
            raise Expired(f"too old resource version: {resource_version} ({self._oldest})")
        newer = takewhile(lambda change: change.resource_version > resource_version, reversed(self._history))
        return list(newer)[::-1]

    def _find(self, kind: str, namespace: str, name: str) -> _Stored | None:
        return self._stored.get(kind, {}).get((namespace if kinds.is_namespaced(kind) else "", name))

    def _load(self) -> int:
        for kind, namespace, name, body in self._file.rows():
            self._stored.setdefault(kind, {})[namespace, name] = _stored(_parse(body), body)
        return self._file.resource_version()

    def _generate_name(self, kind: str, namespace: str, meta: Object) -> str:
        prefix = meta.get("generateName")
        if not prefix:
            raise Invalid(f'{kind} "" is invalid: metadata.name: Required value: name or generateName is required')
        for _ in range(GENERATE_ATTEMPTS):
            name = str(prefix)[:58] + "".join(random.choices(NAME_ALPHABET, k=5))
            if self._find(kind, namespace, name) is None:
                return name
        raise AlreadyExists(f'{kinds.qualified(kind)} "{prefix}": no free name was found; please try again')

    def _remove(self, obj: Object, propagation: str) -> Object:
        """Delete the object and, unless told to leave them as orphans, its dependents, in one transaction."""
        removed: Victims = [obj]
        released: dict[str, Object] = {}
        gone = {obj["metadata"]["uid"]}
        for victim in removed:  # grows while it runs: dependents of dependents
            for dependent in self._dependents(victim):
                meta = dependent["metadata"]
                if meta["uid"] in gone:
                    continue
                references = meta.get("ownerReferences", [])
                others = [r for r in references if r["uid"] not in gone and self._lives(r["uid"])]
                inside = victim["kind"] == "Namespace"
                if not inside and (others or (propagation == "Orphan" and victim is obj)):
                    meta["ownerReferences"] = others
                    released[meta["uid"]] = dependent
                elif not inside and meta.get("finalizers"):
                    meta.setdefault("deletionTimestamp", timestamp(self._clock()))
                    released[meta["uid"]] = dependent
                else:
                    gone.add(meta["uid"])
                    removed.append(dependent)
        writes: Writes = [(DELETED, victim, None) for victim in removed]
        # Released by one owner, yet removed with another: removed.
        writes += [(MODIFIED, dependent, None) for uid, dependent in released.items() if uid not in gone]
        return self._commit(writes, durable=True)[0].object()

    def _dependents(self, owner: Object) -> Iterator[Object]:
        uid, name = owner["metadata"]["uid"], owner["metadata"]["name"]
        everything = owner["kind"] == "Namespace"
        for stored in self._stored.values():
            for (namespace, _), candidate in list(stored.items()):
                if uid in candidate.owners or (everything and namespace == name):
                    yield _parse(candidate.body)

    def _lives(self, uid: str) -> bool:
        return any(candidate.uid == uid for stored in self._stored.values() for candidate in stored.values())

    def _commit(self, writes: Writes, durable: bool) -> Sequence[Change]:
        """Write as one transaction, remember it, and tell the watchers. durable: see `ObjectFile.write`."""
        numbered = enumerate(writes, self._resource_version + 1)
        committed = [self._change(*write, resource_version) for resource_version, write in numbered]
        rows = [(c.kind, c.namespace, c.name, None if c.type == DELETED else c.body) for c in committed]
        self._file.write(rows, committed[-1].resource_version, durable)
        self._resource_version = committed[-1].resource_version
        for change in committed:
            self._remember(change)
        self._deliver(committed)
        return committed

    def _change(self, type: str, obj: Object, previous: bytes | None, resource_version: int) -> Change:
        meta = obj["metadata"]
        meta["resourceVersion"] = str(resource_version)
        kind, namespace, name = obj["kind"], meta.get("namespace", ""), meta["name"]
        if type != ADDED and previous is None:
            previous = self._stored[kind][namespace, name].body
        return Change(type, kind, namespace, name, resource_version, orjson.dumps(obj), previous)

    def _remember(self, change: Change) -> None:
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].resource_version
        self._history.append(change)
        of_kind = self._stored.setdefault(change.kind, {})
        if change.type == DELETED:
            del of_kind[change.namespace, change.name]
        else:
            of_kind[change.namespace, change.name] = _stored(change.object(), change.body)

    def _deliver(self, changes: Sequence[Change]) -> None:
        self._undelivered.extend(changes)
        if self._delivering:  # a watcher wrote: the loop below, further up the stack, tells everyone in order
            return
        self._delivering = True
        try:
            while self._undelivered:
                change = self._undelivered.popleft()
                for callback in list(self._watchers.values()):
                    try:
                        callback(change)
                    except Exception:
                        # The change is committed; whoever wrote it must not hear of a watcher's fault.
                        log.exception("a watcher failed on %s %s %s", change.type, change.kind, change.name)
        finally:
            self._delivering = False


def _parse(body: bytes) -> Object:
    value: Object = orjson.loads(body)
    return value


def _copy(obj: Mapping[str, Any]) -> Object:
    return _parse(orjson.dumps(obj))


def _stored(obj: Object, body: bytes) -> _Stored:
    meta = obj["metadata"]
    owners = tuple(reference["uid"] for reference in meta.get("ownerReferences") or ())
    return _Stored(body, meta["uid"], meta.get("labels") or {}, owners)
