"""A request as the model takes it, and its answer: values between what spells them and what answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functions.tensors import Array  # numpy is imported after the port is open


# Query and Prediction are values, and not frozen: making a frozen one costs a request a microsecond more.
@dataclass(slots=True)
class Query:
    """A request, decoded: every input of the signature, and how many rows they hold.

    outputs: names of the outputs asked for, None for all.
    """

    inputs: Mapping[str, Array]
    rows: int
    outputs: Sequence[str] | None = None


@dataclass(slots=True)
class Prediction:
    """A query with its answer, for whoever wants to tell of it."""

    query: Query
    outputs: Mapping[str, Array]
    latency_ms: float
    """From the request's body to the model's answer."""

    def head(self, rows: int) -> Prediction:
        """A copy of the first `rows` rows alone; `query.rows` still counts all of them."""
        query = self.query
        inputs = {name: _head(values, rows) for name, values in query.inputs.items()}
        outputs = {name: _head(values, rows) for name, values in self.outputs.items()}
        return Prediction(Query(inputs, query.rows, query.outputs), outputs, self.latency_ms)


def _head(values: Array, rows: int) -> Array:
    return (values[:rows] if values.ndim else values).copy()
