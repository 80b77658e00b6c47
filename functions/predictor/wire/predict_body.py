"""The bodies of TensorFlow Serving's :predict: rows or columns to a query, a prediction to the same.

With one output a prediction is bare, with several it is an object by name; texts of an output whose name ends in
`_bytes` are {"b64": …}. Used by V1 and by the CloudEvents, whose data is such a body.
Source: tensorflow.org/tfx/serving/api_rest; tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from functions import tensors
from functions.package import Signature
from functions.predictor.answers import BAD_REQUEST, Refusal, misfit
from functions.predictor.query import Prediction, Query
from functions.predictor.served import Served
from functions.predictor.wire import examples, rows, tokens
from functions.predictor.wire.plans import per_signature
from functions.tensors import Array

_ONE = (1,)  # the first axis of one row


def decode(signature: Signature, request: Mapping[str, Any]) -> tuple[Query, bool]:
    """The query of a request's object, and whether it came in columns. Raises Refusal naming every fault."""
    faults: list[str] = []
    if "signature_name" in request:
        examples.check_signature_name(request, "predict", faults)
    columns = "inputs" in request
    if columns == ("instances" in request):
        faults.append("expected exactly one of 'instances' (rows) and 'inputs' (columns)")
        raise Refusal(BAD_REQUEST, "the request cannot be answered", faults)
    if columns:
        inputs, count = rows.from_columns(signature, request["inputs"], faults)
    else:
        inputs, count = rows.from_rows(signature, request["instances"], "instances", faults)
    if faults:
        raise misfit(signature, faults)
    return Query(inputs, count), columns


def encode(served: Served, prediction: Prediction, columns: bool, bare: bool = False) -> bytes:
    """The answer's body, in columns or in rows as it was asked.

    bare: whether NaN and infinities stand there as tokens; else they are null. Raises Refusal (400) when outputs that
    differ in their number of rows are asked for in rows.
    """
    # A request of V2 chooses its outputs, and is told to the Broker as V1 would answer it: not all of them are there.
    if not (columns or bare) and prediction.query.outputs is None:
        row = _one_row(_writers_of(served.signature), prediction.outputs)
        if row is not None:
            return row
    outputs = {name: _jsonable(name, values) for name, values in prediction.outputs.items()}
    body: Any
    if len(outputs) == 1:
        (body,) = outputs.values()
    elif columns:
        body = outputs
    else:
        counts = {v.shape[:1] for v in prediction.outputs.values()}
        if len(counts) == 1 and () not in counts:
            body = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        else:
            shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in prediction.outputs.items())
            raise Refusal(BAD_REQUEST, f"the outputs do not share their rows ({shapes}); ask in columns, by 'inputs'")
    body = {"outputs" if columns else "predictions": body}
    return tokens.dumps(body) if bare else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


@per_signature
def _writers_of(signature: Signature) -> list[tuple[str, bytes, bool]]:
    """Each output's name, what stands before its value in an answer of one row, and whether it goes as it is.

    Empty where that is not an object: of a signature with a single output.
    """
    specs = signature.outputs if len(signature.outputs) > 1 else ()
    begin = b'{"predictions":[{'
    writers = []
    for spec in specs:
        writers.append((spec.name, begin + orjson.dumps(spec.name) + b":", spec.datatype in tensors.FLOATS))
        begin = b","
    return writers


def _one_row(writers: Sequence[tuple[str, bytes, bool]], outputs: Mapping[str, Array]) -> bytes | None:
    """The body where every output has one row, else None. The hot path: what it needs and nothing more.

    Each output is written whole and taken out of its list, which costs half of taking its row first.
    """
    body = b""
    for name, before, floats in writers:
        values = outputs[name]
        if values.shape[:1] != _ONE:
            return None
        value = values if floats else _jsonable(name, values)
        body += before + orjson.dumps(value, None, orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    return body + b"}]}" if body else None


def _jsonable(name: str, values: Array) -> Any:
    """What orjson writes: floats from their array, in their own digits, all else as lists.

    Taken row by row, an int64 of onnxruntime's is numpy's longlong, which orjson does not know.
    """
    kind = values.dtype.kind
    if kind == "f":
        # A number without an axis by its own digits, too, which are not those of Python's float.
        return values if values.ndim else float(str(values))
    return _base64(values.tolist()) if kind == "O" and name.endswith("_bytes") else values.tolist()


def _base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_base64(part) for part in value]
    content = value if isinstance(value, bytes) else str(value).encode()
    return {"b64": base64.b64encode(content).decode()}
