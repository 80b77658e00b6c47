"""What a trainer is, and how one is found: by name, so that a new trainer is one file.

A trainer is a module with a frozen dataclass `Parameters` and a function `fit`: `trainers/<name>.py`, or anywhere else
under the entry-point group `headrace.trainers`. Called by `trainers.training`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

import trainers
from eventing.errors import Rejected

ENTRY_POINTS = "headrace.trainers"

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]
Report = Callable[[float, str], None]
"""Called with the share of the fitting that is done, 0 to 1, and a sentence with its figures."""


class Fitted(Protocol):
    """A trained model, still in the library that trained it: the truth that the exported graph must equal."""

    parameters: Any
    """The trainer's Parameters as they were used, nothing left to be decided."""

    def predict(self, features: npt.NDArray[np.float32]) -> tuple[Labels, Floats]:
        """Class index (n,) and probabilities (n, n_classes) for features (n, width), as the library itself answers."""

    def to_onnx(self) -> Any:
        """An onnx.ModelProto: `features` float (N, width) in; `index` int64 (N,), `probabilities` float (N, n_classes)
        out. Raises Rejected when it would be too large."""


class Trainer(Protocol):
    """The module of a trainer."""

    Parameters: ClassVar[type[Any]]
    """A frozen dataclass; each field's default is the parameter's."""

    SCALED: ClassVar[bool]
    """Whether numbers must come with mean 0 and deviation 1."""

    def fit(
        self,
        features: npt.NDArray[np.float32],
        labels: Labels,
        classes: int,
        parameters: Any,
        seed: int,
        report: Report,
    ) -> Fitted:
        """Learn. features: (n, width). labels: (n,), each below `classes`. parameters: an instance of Parameters."""


@dataclass(frozen=True, slots=True)
class Common:
    """Parameters that every trainer takes."""

    seed: int = 42
    test_share: float = 0.2
    """Share of each file's rows that is held out, for scores and parity (see `trainers.split`)."""
    max_broken_share: float = 0.0
    """Share of the rows that may be broken and left out; 0 refuses the whole file for one."""
    top_categories: int = 50
    """Categories kept per text column, the most frequent; each is a feature, and the rest is answered as unknown."""
    tolerance: float = 1e-5
    """Largest difference of a probability, original against ONNX, in any held-out row."""
    max_label_flips: int = 0
    """Held-out rows whose label may differ, original against ONNX."""

    def __post_init__(self) -> None:
        faults = []
        if not 0.01 <= self.test_share <= 0.9:
            faults.append(f"test_share is {self.test_share}; expected 0.01 to 0.9")
        if not 0 <= self.max_broken_share < 1:
            faults.append(f"max_broken_share is {self.max_broken_share}; expected 0 up to, not including, 1")
        if not 1 <= self.top_categories <= 1000:
            faults.append(f"top_categories is {self.top_categories}; expected 1 to 1000")
        if not 0 <= self.seed < 1 << 32:
            faults.append(f"seed is {self.seed}; expected 0 to {(1 << 32) - 1}")
        if not 0 <= self.tolerance <= 1:
            faults.append(f"tolerance is {self.tolerance}; expected 0 to 1")
        if self.max_label_flips < 0:
            faults.append(f"max_label_flips is {self.max_label_flips}; expected 0 or more")
        if faults:
            raise Rejected("the training's parameters cannot work", faults)


def find(name: str) -> Trainer:
    """The trainer called `name`. Raises Rejected naming those there are."""
    known = available()
    if name not in known:
        raise Rejected(f"there is no trainer {name!r}; expected one of {', '.join(sorted(known))}")
    return typing.cast(Trainer, importlib.import_module(known[name]))


def available() -> dict[str, str]:
    """Trainer name to module. A module of this package is a trainer when it has `Parameters` and `fit`."""
    known = {entry.name: entry.module for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    for found in pkgutil.iter_modules(trainers.__path__):
        # What is known to be none is not imported: `job` may be running as __main__ already.
        if found.name not in _MACHINERY:
            module = importlib.import_module(f"trainers.{found.name}")
            if hasattr(module, "Parameters") and hasattr(module, "fit"):
                known[found.name] = module.__name__
    return known


_MACHINERY = frozenset(
    (
        "baseline",
        "columns",
        "csv_file",
        "data_file",
        "dataset",
        "export",
        "gate",
        "heldout",
        "job",
        "ledger",
        "once",
        "parquet",
        "preprocessing",
        "split",
        "table",
        "trainer",
        "training",
        "voice",
        "wish",
    )
)


def parameters(kind: type[Any], given: Mapping[str, Any]) -> tuple[Common, Any]:
    """The common parameters and those of `kind`, defaults filled in. Raises Rejected naming every fault."""
    faults: list[str] = []
    own = _fields(kind)
    common = _fields(Common)
    unknown = [name for name in given if name not in own and name not in common]
    if unknown:
        faults.append(f"unknown: {', '.join(unknown)}; expected some of {', '.join((*own, *common))}")
    values = [{n: _value(n, h, given[n], faults) for n, h in hints.items() if n in given} for hints in (common, own)]
    if faults:
        raise Rejected("the training's parameters cannot work", faults)
    return Common(**values[0]), kind(**values[1])


def _fields(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _value(name: str, hint: Any, value: Any, faults: list[str]) -> Any:
    """`value` as `hint` says. Whole numbers serve as floats; text that spells a number does too, as from a command."""
    kinds = typing.get_args(hint) or (hint,)
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, str) and value.lower() in ("none", "null") and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is type(None) or isinstance(value, bool) is not (kind is bool):
            continue
        try:
            converted = kind(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if isinstance(value, str) or converted == value:
            return converted
    expected = " or ".join("none" if kind is type(None) else kind.__name__ for kind in kinds)
    faults.append(f"{name} is {value!r:.60}; expected {expected}")
    return None
