"""The model package: a folder that says what a model is, what it learned from, and what proves it.

`model.onnx`, `model.json` (the Manifest), `sample.json` (five requests with their answers) and `SHA256SUMS`. The digest
of a package is the digest of its SHA256SUMS. Written by the trainers, read by all who serve, judge or explain a model.
Standard library alone, so that reading a manifest costs no numpy and no onnxruntime.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

from eventing.errors import Rejected

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "model.json"
SAMPLE_FILE = "sample.json"
SUMS_FILE = "SHA256SUMS"
PACKAGE_FILES = (MODEL_FILE, MANIFEST_FILE, SAMPLE_FILE)

_CHUNK_BYTES = 1 << 20  # read size while digesting: large enough for the disk, small beside a model


class DatasetReference(TypedDict):
    """What a model learned from."""

    uri: str
    sha256: str
    rows: int


class Parity(TypedDict):
    """How far onnxruntime's answers are from the trained model's, over every held-out row."""

    rows: int
    largest_difference: float
    label_flips: int
    tolerance: float


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    datatype: str
    """Open Inference V2's name: FP32, INT64, BYTES, BOOL…"""
    onnx_type: str
    """ONNX's name, e.g. `tensor(float)`."""
    shape: tuple[int, ...]
    """-1 stands for any size; the first axis is the batch."""
    categories: tuple[str, ...] | None = None
    """The values seen in training, of a column of text; any other is answered as an unknown one."""
    range: tuple[float, float] | None = None
    """Smallest and largest value seen in training, of a column of numbers."""

    @property
    def is_text(self) -> bool:
        return self.datatype == "BYTES"

    @property
    def is_column(self) -> bool:
        """Whether one row holds exactly one value: shape (batch,) or (batch, 1)."""
        return len(self.shape) < 2 or self.shape[1:] == (1,)

    def to_json(self) -> dict[str, Any]:
        """The JSON object; fields that are None are left out."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: list(v) if isinstance(v, tuple) else v for name, v in pairs if v is not None}


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str | int, ...] = ()
    """Class labels in the order of the columns of `probabilities`; empty for a regression or a foreign graph."""
    batches: tuple[frozenset[str], ...] = ()
    """Where the graph names open first axes of inputs differently, the inputs by that name: only these have as many
    rows as each other. Empty where it does not. Known of a graph alone, and no part of the JSON."""

    def uneven(self, rows: Mapping[str, int]) -> dict[str, int]:
        """Of `rows`, sizes of the inputs' first axes by name, those that should be the same and are not."""
        if len(set(rows.values())) < 2:
            return {}  # as of most requests
        open_axes = frozenset(spec.name for spec in self.inputs if spec.shape[:1] == (-1,))
        for batch in self.batches or (open_axes,):
            told = {name: size for name, size in rows.items() if name in batch}
            if len(set(told.values())) > 1:
                return told
        return {}

    def rows(self, sizes: Mapping[str, int]) -> int:
        """How many rows a request has whose inputs' first axes have these sizes: those of the first input with an open
        one, else of the first that has an axis; 1 where none has."""
        open_axes = (spec.name for spec in self.inputs if spec.shape[:1] == (-1,))
        name = next((name for name in open_axes if name in sizes), None)
        return next(iter(sizes.values()), 1) if name is None else sizes[name]

    def input(self, name: str) -> TensorSpec | None:
        return next((spec for spec in self.inputs if spec.name == name), None)

    def output(self, name: str) -> TensorSpec | None:
        return next((spec for spec in self.outputs if spec.name == name), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "classes": list(self.classes),
        }

    @classmethod
    def from_json(cls, value: object) -> Signature:
        """The signature that `value` spells. Raises Rejected naming every fault."""
        faults: list[str] = []
        signature = _signature(value, "signature", faults)
        if faults or signature is None:
            raise Rejected("the signature cannot be read", faults)
        return signature

    def differences(self, graph: Signature) -> list[str]:
        """What this signature promises and `graph` does not hold, each a sentence; empty when they agree.

        Order, names, types and shapes count; categories, ranges and classes are no part of a graph.
        """
        faults = []
        for side in ("inputs", "outputs"):
            ours = {spec.name: spec for spec in getattr(self, side)}
            theirs = {spec.name: spec for spec in getattr(graph, side)}
            faults += [f"{side[:-1]} {n!r} is not in the graph" for n in ours if n not in theirs]
            faults += [f"the graph's {side[:-1]} {n!r} is not in the signature" for n in theirs if n not in ours]
            for name in (n for n in ours if n in theirs):
                a, b = ours[name], theirs[name]
                if (a.datatype, a.onnx_type) != (b.datatype, b.onnx_type):
                    seen = f"{a.datatype}, {a.onnx_type}"
                    faults.append(f"{side[:-1]} {name!r} is {seen}; the graph says {b.datatype}, {b.onnx_type}")
                if not _same_shape(a.shape, b.shape):
                    faults.append(f"{side[:-1]} {name!r} has shape {list(a.shape)}; the graph says {list(b.shape)}")
            if set(ours) == set(theirs) and list(ours) != list(theirs):
                faults.append(f"the {side} are in the order {list(ours)}; the graph's is {list(theirs)}")
        return faults


@dataclass(frozen=True, slots=True)
class Manifest:
    """model.json: what a model is, where it comes from, and what proves it."""

    name: str
    version: str
    """`v<YYYYMMDD>-<HHMMSS>-<6 hex>`: later versions sort after earlier ones."""
    trainer: str
    signature: Signature
    opset: int
    producer: str
    libraries: Mapping[str, str]
    """Version of each library that took part in making the graph."""
    dataset: DatasetReference
    parameters: Mapping[str, Any]
    seed: int
    scores: Mapping[str, float]
    """On the held-out split, by name, e.g. `accuracy`, `roc_auc`."""
    parity: Parity
    baseline: Mapping[str, Any]
    """What inputs and outputs looked like in training, for the drift watch: `rows`, `features`, `outputs`."""
    parent: str | None
    """The version that served when this one was trained; None for a first model."""
    created: str
    """When, ISO 8601 in UTC."""

    def to_json(self) -> dict[str, Any]:
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {n: v.to_json() if isinstance(v, Signature) else v for n, v in pairs}

    @classmethod
    def from_json(cls, value: object) -> Manifest:
        """The manifest that `value`, the parsed model.json, spells. Raises Rejected naming every fault."""
        faults: list[str] = []
        taken = {
            "name": _take(value, "name", str, faults),
            "version": _take(value, "version", str, faults),
            "trainer": _take(value, "trainer", str, faults),
            "signature": _signature(_take(value, "signature", dict, faults), "signature", faults),
            "opset": _take(value, "opset", int, faults),
            "producer": _take(value, "producer", str, faults),
            "libraries": _take(value, "libraries", dict, faults),
            "dataset": _record(_take(value, "dataset", dict, faults), DatasetReference, "dataset.", faults),
            "parameters": _take(value, "parameters", dict, faults),
            "seed": _take(value, "seed", int, faults),
            "scores": _take(value, "scores", dict, faults),
            "parity": _record(_take(value, "parity", dict, faults), Parity, "parity.", faults),
            "baseline": _take(value, "baseline", dict, faults),
            "parent": _take(value, "parent", str, faults, optional=True),
            "created": _take(value, "created", str, faults),
        }
        if isinstance(taken["scores"], dict):
            faults += [f"scores.{n} is {v!r}; expected a number" for n, v in taken["scores"].items() if not _number(v)]
        if isinstance(taken["created"], str):
            try:
                datetime.fromisoformat(taken["created"])
            except ValueError:
                faults.append(f"created is {taken['created']!r}; expected a time in ISO 8601")
        if faults:
            raise Rejected("model.json cannot be read", faults)
        return cls(**taken)

    @classmethod
    def read(cls, package: Path) -> Manifest:
        """The manifest of the package in the folder `package`. Raises Rejected, also when it is no JSON."""
        return cls.from_json(parse_json((package / MANIFEST_FILE).read_bytes(), MANIFEST_FILE))


def parse_json(text: bytes, name: str) -> Any:
    """What the file called `name` holds. Raises Rejected when it is no JSON."""
    try:
        return json.loads(text)
    except ValueError as e:
        raise Rejected(f"{name} is not JSON: {e}") from e


def sha256_of(file: Path) -> str:
    """The digest of a file's bytes, in lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_sums(folder: Path) -> str:
    """Write SHA256SUMS for every file in `folder`, as `sha256sum` would, and give the package's digest."""
    names = sorted(p.name for p in folder.iterdir() if p.name != SUMS_FILE)
    text = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names).encode()
    (folder / SUMS_FILE).write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def read_sums(text: bytes) -> dict[str, str]:
    """File name to digest, as SHA256SUMS says. Raises Rejected for a line of another form or a name with a folder."""
    sums: dict[str, str] = {}
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef") or not name or "/" in name or name[0] == ".":
            raise Rejected(f"{SUMS_FILE} line {number} is {line!r:.100}; expected '<sha256>  <file name>'")
        sums[name] = digest
    return sums


def verify(folder: Path, sha256: str | None = None) -> str:
    """Prove that `folder` holds exactly what its SHA256SUMS says, and give the package's digest.

    sha256: the digest that the package must have; None takes it as it is.
    Raises FileNotFoundError for what is missing, and Rejected naming every file that differs or should not be there.
    """
    text = (folder / SUMS_FILE).read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    faults = []
    if sha256 is not None and digest != sha256:
        faults.append(f"{SUMS_FILE} has digest {digest}; expected {sha256}")
    sums = read_sums(text)
    faults += [f"{name} is not listed in {SUMS_FILE}" for name in PACKAGE_FILES if name not in sums]
    seen = (p.name for p in folder.iterdir() if p.name != SUMS_FILE and not p.name.startswith("."))
    faults += [f"{name} is not listed in {SUMS_FILE}" for name in sorted(seen) if name not in (*sums, *PACKAGE_FILES)]
    for name, expected in sums.items():
        if (found := sha256_of(folder / name)) != expected:
            faults.append(f"{name} has digest {found}; {SUMS_FILE} says {expected}")
    if faults:
        raise Rejected(f"the package in {folder.name} is not what it was", faults)
    return digest


def _same_shape(a: Iterable[int], b: Iterable[int]) -> bool:
    """Whether two shapes can be the same: -1 agrees with any size."""
    a, b = tuple(a), tuple(b)
    return len(a) == len(b) and all(x == y or -1 in (x, y) for x, y in zip(a, b, strict=True))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _take(value: object, name: str, kind: type, faults: list[str], *, path: str = "", optional: bool = False) -> Any:
    """The field `name` of the JSON object `value`, or None with a sentence added to `faults`."""
    names = {str: "a string", int: "a whole number", float: "a number", dict: "an object", list: "a list"}
    if not isinstance(value, Mapping):
        if f"{path or 'model.json'} is no object" not in faults:
            faults.append(f"{path or 'model.json'} is no object")
        return None
    seen = value.get(name)
    if seen is None:
        if not optional:
            faults.append(f"{path}{name} is missing; expected {names[kind]}")
        return None
    fits = _number(seen) if kind is float else isinstance(seen, kind) and not isinstance(seen, bool)
    if not fits:
        faults.append(f"{path}{name} is {seen!r:.60}; expected {names[kind]}")
        return None
    return seen


def _record(value: Any, kind: type, path: str, faults: list[str]) -> dict[str, Any]:
    """The JSON object `value` with every field that the TypedDict `kind` names, and whatever else it holds."""
    if value is None:
        return {}
    kinds: dict[str, type] = {"str": str, "int": int, "float": float}
    for name, annotation in kind.__annotations__.items():
        spelt = annotation.__forward_arg__ if hasattr(annotation, "__forward_arg__") else annotation.__name__
        _take(value, name, kinds[spelt], faults, path=path)
    return dict(value)


def _signature(value: object, path: str, faults: list[str]) -> Signature | None:
    if value is None:
        return None
    sides = [
        tuple(_spec(v, f"{path}.{side}[{i}].", faults) for i, v in enumerate(_take(value, side, list, faults) or ()))
        for side in ("inputs", "outputs")
    ]
    classes = _take(value, "classes", list, faults, optional=True) or ()
    return Signature(sides[0], sides[1], tuple(classes))


def _spec(value: object, path: str, faults: list[str]) -> TensorSpec:
    """The TensorSpec that `value` spells; a broken one is of no use, and `faults` says why."""
    name = _take(value, "name", str, faults, path=path)
    datatype = _take(value, "datatype", str, faults, path=path)
    onnx_type = _take(value, "onnx_type", str, faults, path=path)
    shape = _take(value, "shape", list, faults, path=path) or ()
    if any(not isinstance(size, int) for size in shape):
        faults.append(f"{path}shape is {shape!r:.60}; expected whole numbers, -1 for any")
    categories = _take(value, "categories", list, faults, path=path, optional=True)
    span = _take(value, "range", list, faults, path=path, optional=True)
    if span is not None and (len(span) != 2 or not all(map(_number, span))):
        faults.append(f"{path}range is {span!r:.60}; expected two numbers")
    return TensorSpec(
        str(name),
        str(datatype),
        str(onnx_type),
        tuple(shape),
        None if categories is None else tuple(map(str, categories)),
        None if span is None else tuple(span),
    )
