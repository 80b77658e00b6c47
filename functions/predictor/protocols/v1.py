"""TensorFlow Serving's REST API, and what KServe adds to it under the same paths.

    POST /v1/models/M:predict   {"instances": [row, …]} → {"predictions": [row, …]}
                                {"inputs": {column: [value, …]}} → {"outputs": {column: [value, …]}}

A row is an object by column name or, bare, the values in the signature's order; of a model with one input, its value.
With one output a prediction is bare, with several it is an object by name.
Source: tensorflow.org/tfx/serving/api_rest; kserve python/kserve/kserve/protocol/rest/v1_endpoints.py.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import orjson

from functions import tensors
from functions.package import Signature, TensorSpec
from functions.predictor.answers import (
    BAD_REQUEST,
    UNSUPPORTED,
    Answer,
    Environ,
    Refusal,
    is_probe,
    json_answer,
    misfit,
    parse,
    ranges,
)
from functions.predictor.catalog import Catalog, Prediction, Query, Served
from functions.predictor.routes import Route
from functions.tensors import Array

SIGNATURES = (None, "", "serving_default", "predict")  # a package has one signature; clients call it by these
# Source: tensorflow/core/framework/types.proto
_TF_TYPES = {
    "BOOL": "DT_BOOL", "BYTES": "DT_STRING", "FP16": "DT_HALF", "FP32": "DT_FLOAT", "FP64": "DT_DOUBLE",
    **{f"{kind}{bits}": f"DT_{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
}  # fmt: skip

# Source: tensorflow_serving/apis/get_model_status.proto
_TF_STATES = {"LOADING": "LOADING", "READY": "AVAILABLE", "UNLOADING": "UNLOADING", "UNAVAILABLE": "END"}


def predict(served: Served, body: bytes, environ: Environ) -> Answer:
    began = time.perf_counter()
    query, columns = decode(served.signature, parse(body))
    return Answer(200, encode(served, served.predict(query, began, told=not is_probe(environ)), columns))


def decode(signature: Signature, request: Mapping[str, Any]) -> tuple[Query, bool]:
    """The query of a request's object, and whether it came in columns. Raises Refusal naming every fault."""
    faults = []
    if request.get("signature_name") not in SIGNATURES:
        faults.append(f"signature_name is {tensors.seen(request['signature_name'])}; expected 'serving_default'")
    if ("instances" in request) == ("inputs" in request):
        faults.append("expected exactly one of 'instances' (rows) and 'inputs' (columns)")
        raise Refusal(BAD_REQUEST, "the request cannot be answered", faults)
    columns = "inputs" in request
    inputs, rows = (_from_columns if columns else _from_rows)(signature, request, faults)
    if faults:
        raise misfit(signature, faults)
    return Query(inputs, rows), columns


def encode(served: Served, prediction: Prediction, columns: bool) -> bytes:
    """The answer's body, in columns or in rows as it was asked."""
    outputs = {name: _jsonable(values) for name, values in prediction.outputs.items()}
    body: dict[str, Any]
    if len(outputs) == 1:
        (only,) = outputs.values()
        body = {"outputs" if columns else "predictions": only}
    elif columns:
        body = {"outputs": outputs}
    else:
        names = tuple(outputs)
        rows = zip(*outputs.values(), strict=True)
        body = {"predictions": [dict(zip(names, row, strict=True)) for row in rows]}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _from_rows(signature: Signature, request: Mapping[str, Any], faults: list[str]) -> tuple[dict[str, Array], int]:
    rows = request["instances"]
    if not isinstance(rows, list) or not rows:
        faults.append(f"'instances' is {tensors.seen(rows)}; expected a list of rows")
        return {}, 0
    specs = signature.inputs
    if len(specs) == 1 and not any(isinstance(row, dict) and row.keys() != {"b64"} for row in rows):
        return {specs[0].name: tensors.array(specs[0], rows, _shape(specs[0], rows), faults)}, len(rows)
    columns: dict[str, list[Any]] = {spec.name: [] for spec in specs}
    misfits: dict[str, list[int]] = {}  # a table's fault is in every row of it: told once, with the rows
    for number, row in enumerate(rows):
        if isinstance(row, dict):
            if row.keys() != columns.keys():
                for fault in dict.fromkeys(_misfits(row, columns)):  # two long names may read alike
                    misfits.setdefault(fault, []).append(number)
            for name, column in columns.items():
                column.append(row.get(name))
        elif isinstance(row, list) and len(row) == len(specs):
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        else:
            fault = f"a row is {tensors.seen(row)}, not an object or a list of {len(specs)}"
            misfits.setdefault(fault, []).append(number)
    if misfits:
        faults += [f"{fault} ({ranges(numbers)})" for fault, numbers in misfits.items()]
        return {}, 0
    return _arrays(specs, columns, len(rows), faults), len(rows)


def _misfits(given: Mapping[str, Any], names: Collection[str]) -> Iterator[str]:
    """What is wrong with the names that are given: one sentence for each."""
    yield from (f"{name!r} is missing; null says that a value is" for name in names if name not in given)
    yield from (f"{name!r:.60} is no input of this model" for name in given if name not in names)


def _from_columns(signature: Signature, request: Mapping[str, Any], faults: list[str]) -> tuple[dict[str, Array], int]:
    columns = request["inputs"]
    specs = signature.inputs
    if len(specs) == 1 and not isinstance(columns, dict):
        columns = {specs[0].name: columns}
    if not isinstance(columns, dict):
        faults.append(f"'inputs' is {tensors.seen(columns)}; expected an object with a list for each input")
        return {}, 0
    names = [spec.name for spec in specs]
    if columns.keys() != set(names):
        faults += _misfits(columns, names)
    for name in names:
        if name in columns and not (isinstance(columns[name], list) and columns[name]):
            faults.append(f"input {name!r} is {tensors.seen(columns[name])}; expected a list with a value for each row")
    if faults:
        return {}, 0
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        faults.append(f"the inputs differ in their number of rows: {lengths!s:.300}")
        return {}, 0
    rows = next(iter(lengths.values()))
    return _arrays(specs, columns, rows, faults), rows


def _arrays(
    specs: tuple[TensorSpec, ...], columns: Mapping[str, list[Any]], rows: int, faults: list[str]
) -> dict[str, Array]:
    return {
        spec.name: tensors.array(spec, columns[spec.name], _shape(spec, columns[spec.name]), faults) for spec in specs
    }


def _shape(spec: TensorSpec, values: list[Any]) -> tuple[int, ...]:
    """The shape that `values`, one per row, should have: the signature's, its open axes filled from the first row."""
    shape = [len(values)]
    first = values[0]
    for size in spec.shape[1:]:
        length = len(first) if isinstance(first, list) else 1
        shape.append(length if size == -1 else size)
        first = first[0] if isinstance(first, list) and first else None
    return tuple(shape)


def _jsonable(values: Array) -> Any:
    """What orjson writes: floats as they are, in their own digits, all else as lists.

    Taken row by row, an int64 of onnxruntime's is numpy's longlong, which orjson does not know.
    """
    return values if values.dtype.kind == "f" else values.tolist()


# What is known of a model


def models(catalog: Catalog) -> Answer:
    return json_answer({"models": catalog.models()})


def status(catalog: Catalog, model: str, version: str | None = None) -> Answer:
    """TensorFlow Serving's status and KServe's readiness, which share the path."""
    entries = catalog.entries(model) if version is None else [catalog.entry(model, version)]
    told = [
        {
            "version": entry.version,
            "state": _TF_STATES[entry.state],
            "status": {"error_code": "UNAVAILABLE", "error_message": entry.reason}
            if entry.reason
            else {"error_code": "OK", "error_message": ""},
        }
        for entry in entries
    ]
    ready = catalog.entry(model, version).served is not None
    return json_answer({"name": model, "ready": ready, "model_version_status": told})


def metadata(catalog: Catalog, model: str, version: str | None = None) -> Answer:
    served = catalog.find(model, version)
    signature = {
        "inputs": {spec.name: _tensor_info(spec) for spec in served.signature.inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in served.signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return json_answer(
        {
            "model_spec": {"name": model, "signature_name": "", "version": served.version},
            "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
        }
    )


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dim = [{"size": str(size), "name": ""} for size in spec.shape]
    return {"dtype": _TF_TYPES[spec.datatype], "tensor_shape": {"dim": dim, "unknown_rank": False}, "name": spec.name}


def unsupported(catalog: Catalog, model: str, verb: str, **_: str) -> Answer:
    catalog.entries(model)
    raise Refusal(UNSUPPORTED, f":{verb:.40} is not supported by {model}; expected :predict")


ROUTES = (
    Route("POST", "/v1/models/<model>:predict", predict, predicts=True),
    Route("POST", "/v1/models/<model>/versions/<version>:predict", predict, predicts=True),
    Route("POST", "/v1/models/<model>:<verb>", unsupported),
    Route("POST", "/v1/models/<model>/versions/<version>:<verb>", unsupported),
    Route("GET", "/v1/models", models),
    Route("GET", "/v1/models/<model>", status),
    Route("GET", "/v1/models/<model>/versions/<version>", status),
    Route("GET", "/v1/models/<model>/metadata", metadata),
    Route("GET", "/v1/models/<model>/versions/<version>/metadata", metadata),
)
