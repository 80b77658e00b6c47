"""An inference request of V2: from its JSON object, and what follows that, to arrays that fit the signature.

Used by the protocol V2, through it by whoever gets such an object in another way, such as an event. Everything that is
wrong with a request is found before it is refused.
Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; for the parameters also
github.com/triton-inference-server/server, docs/protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from functions import tensors
from functions.package import Signature, TensorSpec
from functions.predictor.answers import BAD_REQUEST, UNSUPPORTED, Refusal, misfit
from functions.predictor.query import Query
from functions.predictor.wire import binary
from functions.predictor.wire.plans import per_signature
from functions.tensors import Array

MAX_ROWS = 1_000_000  # of one request: more is a job for a batch, and would keep everybody else waiting
# What a client would wait for in vain; every other parameter that is not known changes nothing.
UNSUPPORTED_PARAMETERS = ("shared_memory_region", "classification")
FLAGS = ("binary_data", "binary_data_output")

_CHECKED_PARAMETERS = frozenset((*UNSUPPORTED_PARAMETERS, *FLAGS))


class Plan:
    """Of the inputs what a request is compared with; of the outputs their `datatypes`, by name."""

    __slots__ = ("datatypes", "inputs")

    def __init__(self, signature: Signature) -> None:
        # With its rank and the sizes of a row, as list and as tuple; rank -1, which no shape has, where more axes than
        # the batch's are open, or where that is not.
        self.inputs: dict[str, tuple[TensorSpec, int, list[int], tuple[int, ...]]] = {}
        for spec in signature.inputs:
            row = spec.shape[1:]
            rank = len(spec.shape) if spec.shape[:1] == (-1,) and -1 not in row else -1
            self.inputs[spec.name] = (spec, rank, list(row), row)
        self.datatypes = {spec.name: spec.datatype for spec in signature.outputs}


plan_of = per_signature(Plan)


def decode(signature: Signature, request: Mapping[str, Any], raw: binary.Raw | None = None) -> Query:
    """The query of a request's object. raw: what follows the JSON. Raises Refusal naming every fault."""
    given = request.get("inputs")
    if not isinstance(given, list):
        raise Refusal(BAD_REQUEST, f"'inputs' is {tensors.seen(given)}; expected a list of tensors")
    plan = plan_of(signature)
    faults: list[str] = []
    inputs: dict[str, Array] = {}
    counts = set()
    shape: tuple[int, ...] | None
    for tensor in given:
        if not isinstance(tensor, dict):
            raise Refusal(BAD_REQUEST, f"'inputs' holds {tensors.seen(tensor)}; expected a list of tensors")
        name = tensor.get("name")
        known = plan.inputs.get(name) if type(name) is str else None
        if known is None or name in inputs:
            faults.append(f"input {name!r:.60} is {'not in the signature' if known is None else 'given twice'}")
            _values(None, tensor, None, raw, faults)
            continue
        spec, rank, row, tail = known
        given_shape = tensor.get("shape")
        if (
            type(given_shape) is list
            and len(given_shape) == rank
            and given_shape[1:] == row
            and type(rows := given_shape[0]) is int
            and 0 < rows <= MAX_ROWS
            and tensor.get("datatype") == spec.datatype
        ):
            shape = (rows, *tail)
            counts.add(rows)
        else:
            shape = shape_of(spec, tensor.get("datatype"), given_shape, faults)
            if shape and spec.shape[:1] == (-1,):
                counts.add(shape[0])
        data = tensor.get("data")
        if type(data) is list and shape is not None and "parameters" not in tensor:
            inputs[spec.name] = tensors.array(spec, data, shape, faults)
        else:
            inputs[spec.name] = _values(spec, tensor, shape, raw, faults)
    if len(inputs) != len(plan.inputs):
        for spec in signature.inputs:
            if spec.name not in inputs:
                faults.append(f"input {spec.name!r} is missing; the signature says {spec.datatype} {list(spec.shape)}")
    if raw is not None:
        raw.end(faults)
    if not faults and len(counts) > 1:
        faults += uneven(signature, inputs)
    outputs = _outputs(plan, request, faults)
    if faults:
        raise misfit(signature, faults)
    return Query(inputs, counts.pop() if len(counts) == 1 else signature.rows(sizes(inputs)), outputs)


def sizes(inputs: Mapping[str, Array]) -> dict[str, int]:
    """The first axes of what has axes."""
    return {name: len(values) for name, values in inputs.items() if values.ndim}


def uneven(signature: Signature, inputs: Mapping[str, Array]) -> list[str]:
    """The fault of inputs that should have as many rows as each other, and have not."""
    told = signature.uneven(sizes(inputs))
    return [f"the inputs differ in their number of rows: {told!s:.300}"] if told else []


def _values(
    spec: TensorSpec | None,
    tensor: Mapping[str, Any],
    shape: tuple[int, ...] | None,
    raw: binary.Raw | None,
    faults: list[str],
) -> Array:
    """The tensor's values, from its JSON or from what follows. spec, shape: None where a fault of them is told."""
    data, parameters = tensor.get("data"), tensor.get("parameters")
    if parameters is not None:
        name = tensor.get("name")
        if "binary_data_size" in _parameters(f"input {name!r:.60}", parameters, faults):
            if data is not None:
                faults.append(f"input {name!r:.60} has both data and binary_data_size; expected one of them")
            if raw is None:
                faults.append(f"input {name!r:.60} has binary_data_size, but the request no {binary.HEADER}")
            elif spec is None:
                raw.skip(name, parameters["binary_data_size"], faults)
            else:
                return raw.take(spec, parameters["binary_data_size"], shape, faults)
            return binary.NOTHING
    if spec is None:
        return binary.NOTHING
    if type(data) is not list:
        faults.append(f"input {spec.name!r} has data {tensors.seen(data)}; expected a list")
    elif shape is not None:
        return tensors.array(spec, data, shape, faults)
    return binary.NOTHING


def shape_of(spec: TensorSpec, datatype: Any, shape: Any, faults: list[str]) -> tuple[int, ...] | None:
    """A tensor's shape as the signature takes it, or None with every fault of its datatype and shape, as they came."""
    before = len(faults)
    name = spec.name
    if datatype != spec.datatype:
        seen = tensors.seen(datatype)
        faults.append(f"input {name!r} has datatype {seen}; the signature says {spec.datatype!r}")
    if isinstance(shape, list) and len(shape) > tensors.MAX_RANK:
        faults.append(
            f"input {name!r} has a shape of {len(shape)} axes; at most {tensors.MAX_RANK} are taken, "
            f"the signature says {list(spec.shape)}"
        )
        return None
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        faults.append(f"input {name!r} has shape {tensors.seen(shape)}; expected a list of whole numbers")
        return None
    if shape and min(shape) < 0:
        faults.append(f"input {name!r} has shape {shape!s:.60}; expected a list of whole numbers, none below 0")
        return None
    told = f"input {name!r} has shape {shape!s:.60}"
    # One value per row leaves no doubt how (n) becomes (n, 1); tables are sent in both ways.
    if spec.is_column and len(spec.shape) == 2 and len(shape) == 1:
        shape = [*shape, 1]
    # No axis said is a scalar, or a graph that does not tell its shape: onnxruntime takes any for both.
    if spec.shape and (
        len(shape) != len(spec.shape) or any(a not in (-1, b) for a, b in zip(spec.shape, shape, strict=True))
    ):
        faults.append(f"{told}; the signature says {list(spec.shape)}")
    elif 0 in shape:
        # Graphs differ in what they make of no rows, some end the process; there is nothing to answer anyway.
        faults.append(f"{told}, which holds no value; expected at least one row")
    elif shape and shape[0] > MAX_ROWS:
        faults.append(f"{told}; at most {MAX_ROWS} rows are taken at once")
    return None if len(faults) > before else tuple(shape)


def _outputs(plan: Plan, request: Mapping[str, Any], faults: list[str]) -> list[str] | None:
    """Names of the outputs asked for, None for all, as when none is named. What else the request has is checked too."""
    id, parameters, asked = request.get("id"), request.get("parameters"), request.get("outputs")
    if id is not None and not (isinstance(id, str) and _encodable(id)):
        faults.append(f"'id' is {tensors.seen(id)}; expected text")
    if parameters is not None:
        _parameters("the request", parameters, faults)
    if not asked:
        return None
    if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
        faults.append(f"'outputs' is {tensors.seen(asked)}; expected a list of objects with 'name'")
        return None
    names: list[str] = []
    for output in asked:
        name = output.get("name")
        if not isinstance(name, str) or name not in plan.datatypes:
            faults.append(f"output {name!r:.60} is not in the signature; it has {', '.join(plan.datatypes)}")
        elif name in names:
            faults.append(f"output {name!r} is asked for twice")
        else:
            names.append(name)
        if output.get("parameters") is not None:
            _parameters(f"output {name!r:.60}", output["parameters"], faults)
    return names


def _parameters(whose: str, parameters: Any, faults: list[str]) -> Mapping[str, Any]:
    """The parameters that `whose` object has. What is not known is ignored, as the specification says.

    Raises Refusal (501) for what a client would wait for in vain.
    """
    if not isinstance(parameters, dict):
        faults.append(f"{whose} has parameters {tensors.seen(parameters)}; expected an object")
        return {}
    if _CHECKED_PARAMETERS.isdisjoint(parameters):
        return parameters
    for name in UNSUPPORTED_PARAMETERS:
        if name in parameters:
            raise Refusal(
                UNSUPPORTED, f"{whose} has the parameter {name!r}, which is not supported; expected it without"
            )
    for name in FLAGS:
        if type(parameters.get(name, False)) is not bool:
            faults.append(f"{whose} has {name} {tensors.seen(parameters[name])}; expected true or false")
    return parameters


def _encodable(text: str) -> bool:
    """Whether UTF-8 has it: JSON can spell halves of a surrogate pair, which cannot be sent back."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
