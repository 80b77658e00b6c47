"""The store: packages, who serves, datasets and held-out rows, at one URL. The only place that knows its layout.

    models/<name>/<version>/…       the package; models/<name>/<version>.json, written last, says that it is whole
    models/<name>/serving.json      which version serves, and why
    claims/<name>/<version>.json    who is putting a package there; gone once it is whole
    datasets/<dataset>/<sha256>.…   a dropped file; its sidecar <sha256>.json, written last, says that it is whole

Used by trainers, promoter, predictor, drift watch and the CLI. The store away is RetryLater, a broken thing in it
Rejected. Two writers of the same thing at the same moment end as one of them alone would.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from eventing import files, local_files
from eventing.errors import Misconfigured, Rejected, RetryLater
from eventing.files import Files
from eventing.storage import AWAY_S
from functions import package
from functions.package import MANIFEST_FILE, SUMS_FILE, Manifest, parse_json

__all__ = ["DatasetRecord", "Published", "Serving", "Store"]

# One segment of a path: no slash, no dot first, so that no name leaves its folder or hides in it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_SERVING = "serving"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A package that is whole in the store."""

    model: str
    version: str
    uri: str
    sha256: str
    """The package's digest: of its SHA256SUMS."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Which version of a model answers."""

    version: str
    previous: str | None
    at: str
    """When it was decided, ISO 8601 in UTC."""
    reason: str


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A file dropped for a dataset, whole in the store."""

    uri: str
    sha256: str
    bytes: int
    at: str
    """When it was dropped, ISO 8601 in UTC."""


class Store:
    """Everything Headrace keeps, at one URL."""

    def __init__(self, url: str, files: Files) -> None:
        self.url = url.rstrip("/") if not url.endswith("://") else url
        self._files = files

    @classmethod
    def open(cls, url: str) -> Store:
        """The store at `url`, an fsspec URL. Touches nothing there. Raises Misconfigured."""
        return cls(url, files.open_files(url))

    # Packages

    def publish(self, folder: Path) -> Published:
        """Put the package in `folder` into the store, whole or not at all; the same package twice is one.

        Raises Rejected when the package is not what its SHA256SUMS says, or its version is taken by another one;
        RetryLater while the store is away or full.
        """
        try:
            digest = package.verify(folder)
        except FileNotFoundError as e:
            raise Rejected(f"the package in {folder} is not whole: {Path(e.filename).name} is missing") from e
        manifest = Manifest.read(folder)
        model, version = manifest.name, manifest.version
        home = _package_path(model, version)
        published = Published(model, version, self.uri(home), digest)
        pointer = self.read_json(f"{home}.json")
        if pointer is not None:
            return self._same(published, pointer)
        self._sweep(model)
        # The claim comes first: of two writers under one version, one alone goes on to write files.
        claim = f"{_claims(model)}/{version}.json"
        while not self._files.create(claim, json.dumps(_now(sha256=digest)).encode()):
            if (held := self.read_json(claim)) is not None:
                self._same(published, held)
                break
        # Looked up again: a claim is free once more as soon as the pointer of whoever had it is there.
        pointer = self.read_json(f"{home}.json")
        if pointer is None:
            for name in (*package.read_sums((folder / SUMS_FILE).read_bytes()), SUMS_FILE):
                self.write_json(claim, _now(sha256=digest))  # still being written to: no leftover
                self._files.put(f"{home}/{name}", folder / name)
            pointer = _now(sha256=digest)
            self.write_json(f"{home}.json", pointer)
        self.delete(claim)
        return self._same(published, pointer)

    def fetch(self, model: str, version: str, into: Path) -> Path:
        """A folder of this machine with the package, every digest checked; to be read only.

        into: a folder that may be made and filled; a store on this machine is read where it lies. Raises RetryLater
        while the package is absent, half copied or the store away; Rejected when it is not what was published.
        """
        home = _package_path(model, version)
        pointer = self.read_json(f"{home}.json")
        if pointer is None:
            raise RetryLater(f"{model} {version} is not in the store {self.url} yet", after_s=AWAY_S)
        digest = str(pointer.get("sha256"))
        folder = self._files.local(home)
        try:
            if folder is None:
                folder = self._download(home, digest, into / f"{model}-{version}-{digest[:12]}")
            package.verify(folder, digest)
        except FileNotFoundError as e:
            missing = Path(str(e.filename or e)).name
            raise RetryLater(f"{model} {version} is not whole in the store: {missing} is missing", AWAY_S) from e
        except OSError as e:
            raise RetryLater(f"{model} {version} cannot be read ({e.strerror or e})", AWAY_S) from e
        return folder

    def manifest(self, model: str, version: str) -> Manifest:
        """What model.json says. Raises RetryLater while the package is absent, Rejected when it cannot be read."""
        home = _package_path(model, version)
        text = self._files.read(f"{home}/{MANIFEST_FILE}") if self.read_json(f"{home}.json") is not None else None
        if text is None:
            raise RetryLater(f"{model} {version} is not in the store {self.url} yet", after_s=AWAY_S)
        return Manifest.from_json(parse_json(text, MANIFEST_FILE))

    def models(self) -> tuple[str, ...]:
        """Every model with a whole package, sorted."""
        return tuple(self.packages())

    def packages(self) -> dict[str, tuple[str, ...]]:
        """The versions of every model with a whole package, models and versions sorted."""
        return {model: versions for model in self._files.children("models") if (versions := self.versions(model))}

    def versions(self, model: str) -> tuple[str, ...]:
        """The whole packages of a model, oldest first; empty for an unknown one."""
        names = self._files.children(f"models/{_checked(model, 'model')}")
        found = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return tuple(version for version in found if version != _SERVING)

    def serving(self, model: str) -> Serving | None:
        """Which version serves; None before the first promotion."""
        value = self.read_json(f"models/{_checked(model, 'model')}/{_SERVING}.json")
        if value is None:
            return None
        previous = value.get("previous")
        return Serving(
            version=str(value.get("version")),
            previous=None if previous is None else str(previous),
            at=str(value.get("at", "")),
            reason=str(value.get("reason", "")),
        )

    def set_serving(self, model: str, serving: Serving) -> None:
        self.write_json(f"models/{_checked(model, 'model')}/{_SERVING}.json", asdict(serving))

    # Datasets

    def datasets(self, name: str) -> tuple[DatasetRecord, ...]:
        """Every whole file dropped for a dataset, in the order they came; empty for an unknown one."""
        folder = f"datasets/{_checked(name, 'dataset')}"
        records = []
        for child in self._files.children(folder):
            if child.endswith(".json") and (value := self.read_json(f"{folder}/{child}")) is not None:
                sha256, uri, at = child.removesuffix(".json"), str(value.get("uri", "")), str(value.get("at", ""))
                # Where it lay when it came; a store that was moved, or put back in another place, has it still.
                beside = f"{folder}/{sha256}{PurePosixPath(uri).suffix}"
                uri = self.uri(beside) if uri.endswith(f"/{beside}") else uri
                records.append(DatasetRecord(uri, sha256, int(value.get("bytes", 0)), at))
        return tuple(sorted(records, key=lambda record: (record.at, record.sha256)))

    def removed(self, name: str) -> frozenset[str]:
        """Digests of the files dropped for a dataset that are gone from the store, but for their sidecars."""
        folder = f"datasets/{_checked(name, 'dataset')}"
        lying = {PurePosixPath(child).stem for child in self._files.children(folder) if not child.endswith(".json")}
        own = (record for record in self.datasets(name) if record.uri.startswith(self.uri(f"{folder}/")))
        return frozenset(record.sha256 for record in own) - lying

    def download(self, uri: str, into: Path, sha256: str) -> Path:
        """A file of this machine with what lies at `uri`, its digest checked; to be read only.

        uri: any fsspec URL, in this store or not. into: a folder that may be made and filled; a file on this machine is
        read where it lies. Raises Rejected on another digest, RetryLater while it is absent or away.
        """
        folder, _, name = uri.rpartition("/")
        try:
            place = files.open_files(f"{folder}/")
        except Misconfigured as e:
            raise Rejected(f"{uri!r:.200} names no file: {e}") from e
        name = unquote(name) if uri.startswith("file:") else name
        file = place.local(name)
        if file is None:
            into.mkdir(parents=True, exist_ok=True)
            file = into / name
        try:
            if place.local(name) is None:
                place.get(name, file)
            found = package.sha256_of(file)
        except FileNotFoundError as e:
            raise RetryLater(f"{uri} is not there yet", after_s=AWAY_S) from e
        except OSError as e:
            raise RetryLater(f"{uri} cannot be read ({e.strerror or e})", after_s=AWAY_S) from e
        if found != sha256:
            raise Rejected(f"{uri} has digest {found}; expected {sha256}: it was changed after it was dropped")
        return file

    # Small things by path, relative to the store

    def uri(self, path: str) -> str:
        """The URL of a path in the store."""
        return files.uri(self.url, path)

    def read_json(self, path: str) -> dict[str, Any] | None:
        """The JSON object at `path`; None where there is none. Raises Rejected when it is no JSON object."""
        return files.read_json(self._files, _inside(path))

    def write_json(self, path: str, value: dict[str, Any]) -> None:
        """Replace the JSON object at `path`; a reader sees the old one or the new one."""
        files.write_json(self._files, _inside(path), value)

    def list(self, prefix: str) -> tuple[str, ...]:
        """Paths of all files in the folder `prefix`, at any depth, sorted; empty where there is none."""
        return self._files.walk(_inside(prefix.rstrip("/")))

    def delete(self, path: str) -> None:
        """Remove the file or folder at `path`; nothing where there is none."""
        self._files.delete(_inside(path))

    def put_file(self, path: str, file: Path) -> None:
        """Copy a local file to `path`, whole or not at all."""
        self._files.put(_inside(path), file)

    def get_file(self, path: str, into: Path) -> None:
        """Copy the file at `path` to the local file `into`. Raises RetryLater while it is absent or the store away."""
        try:
            self._files.get(_inside(path), into)
        except FileNotFoundError as e:
            raise RetryLater(f"{path} is not in the store {self.url} yet", after_s=AWAY_S) from e

    def _same(self, published: Published, pointer: dict[str, Any]) -> Published:
        """`published`, where the store holds the very same; Rejected where the version is another package's."""
        if pointer.get("sha256") == published.sha256:
            return published
        raise Rejected(
            f"{published.model} {published.version} is in the store with digest {pointer.get('sha256')}; "
            f"this package has {published.sha256}: a version is given once"
        )

    def _sweep(self, model: str) -> None:
        """Remove the half packages of writers that died, told by their claims."""
        before = datetime.now(UTC) - timedelta(seconds=local_files.LEFTOVER_S)
        for name in self._files.children(_claims(model)):
            claim = f"{_claims(model)}/{name}"
            held = self.read_json(claim)
            if held is None or datetime.fromisoformat(held["at"]) > before:
                continue
            home = _package_path(model, name.removesuffix(".json"))
            if self.read_json(f"{home}.json") is None:
                self.delete(home)
            self.delete(claim)  # last: until then, whoever dies here leaves it to the next one
            log.info("removed what a writer that died has left of %s", home)

    def _download(self, home: str, digest: str, target: Path) -> Path:
        """`target` holding a copy of the package at `home`, which appears there whole; one already there is kept."""
        if target.is_dir():
            try:
                package.verify(target, digest)
                return target
            except (FileNotFoundError, Rejected):
                local_files.remove_tree(target)  # damaged on this machine: the store's copy decides
        target.parent.mkdir(parents=True, exist_ok=True)
        local_files.sweep(target.parent)
        partial = local_files.partial_folder(target)
        try:
            for path in self._files.walk(home):
                self._files.get(path, partial / PurePosixPath(path).name)
            if not target.is_dir():
                partial.replace(target)
        finally:
            local_files.remove_tree(partial, ignore_errors=True)
        return target


def _now(**value: str) -> dict[str, Any]:
    """`value` with the time."""
    return {**value, "at": datetime.now(UTC).isoformat()}


def _claims(model: str) -> str:
    return f"claims/{_checked(model, 'model')}"


def _package_path(model: str, version: str) -> str:
    if version == _SERVING:
        raise Rejected(f"a version cannot be called {version!r}")
    return f"models/{_checked(model, 'model')}/{_checked(version, 'version')}"


def _checked(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise Rejected(f"{name!r:.80} cannot name a {what}; expected letters, digits, '.', '_' and '-', at most 253")
    return name


def _inside(path: str) -> str:
    """`path`, which must not climb out of the store; a caller's fault, so ValueError."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no path inside the store")
    return path
