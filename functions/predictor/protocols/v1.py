"""TensorFlow Serving's REST API, and what KServe adds to it under the same paths.

    POST /v1/models/M:predict   {"instances": [row, …]} → {"predictions": [row, …]}
                                {"inputs": {column: [value, …]}} → {"outputs": {column: [value, …]}}
    POST /v1/models/M:classify  {"examples": [row, …], "context": row} → {"result": [[[label, score], …], …]}
    POST /v1/models/M:regress   the same → {"result": [value, …]}

`functions.predictor.wire` reads rows and columns (`rows`) and examples (`examples`). With one output a prediction is
bare, with several it is an object by name; texts of an output whose name ends in `_bytes` are {"b64": …}. NaN and
infinities are answered in kind: as bare tokens (`tokens`) to a request that held one, as null to any other.
Source: tensorflow.org/tfx/serving/api_rest; tensorflow_serving/util/json_tensor.cc; kserve
python/kserve/kserve/protocol/rest/v1_endpoints.py.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from functions import tensors
from functions.package import Signature, TensorSpec
from functions.predictor.answers import (
    BAD_REQUEST,
    PROBE,
    UNSUPPORTED,
    Answer,
    Environ,
    Refusal,
    json_answer,
    misfit,
    parse,
)
from functions.predictor.catalog import Catalog, Entry
from functions.predictor.query import Prediction, Query
from functions.predictor.reply_as import EVENT_HEADER, EVENT_KEY
from functions.predictor.routes import Route
from functions.predictor.served import Served
from functions.predictor.wire import examples, rows, tokens
from functions.predictor.wire.plans import per_signature
from functions.tensors import Array

# Source: tensorflow/core/framework/types.proto
_TF_TYPES = {
    "BOOL": "DT_BOOL", "BYTES": "DT_STRING", "FP16": "DT_HALF", "FP32": "DT_FLOAT", "FP64": "DT_DOUBLE",
    **{f"{kind}{bits}": f"DT_{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
}  # fmt: skip

# Source: tensorflow_serving/apis/get_model_status.proto
_TF_STATES = {"LOADING": "LOADING", "READY": "AVAILABLE", "UNLOADING": "UNLOADING", "UNAVAILABLE": "END"}


def predict(served: Served, body: bytes, environ: Environ) -> Answer:
    began = time.perf_counter()
    if EVENT_HEADER in environ or EVENT_KEY in (request := parse(body)):
        # KServe takes CloudEvents here too, in its binary and its structured mode.
        from functions.predictor import cloudevents

        return cloudevents.answer(served, body, environ)
    query, columns = decode(served.signature, request)
    prediction = served.predict(query, began, told=PROBE not in environ)
    answer = encode(served, prediction, columns)
    if b"null" in answer and tokens.stand_in(body):
        answer = encode(served, prediction, columns, bare=True)
    return Answer(200, answer)


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


def unsupported(
    catalog: Catalog, model: str, verb: str, version: str | None = None, label: str | None = None
) -> Answer:
    """501 to every other verb, KServe's :explain among them; 404 where there is no such model."""
    _entry_of(catalog, model, version, label)
    why = "no explainer belongs to it" if verb == "explain" else "there is no such verb"
    raise Refusal(UNSUPPORTED, f":{verb:.40} of {model}: {why}; expected :predict, :classify or :regress")


# What is known of a model


def models(catalog: Catalog) -> Answer:
    return json_answer({"models": catalog.models()})


def status(catalog: Catalog, model: str, version: str | None = None, label: str | None = None) -> Answer:
    """TensorFlow Serving's status and KServe's readiness, which share the path."""
    named = _entry_of(catalog, model, version, label)
    told = [
        {
            "version": entry.version,
            "state": _TF_STATES[entry.state],
            "status": {"error_code": "UNAVAILABLE", "error_message": entry.reason}
            if entry.reason
            else {"error_code": "OK", "error_message": ""},
        }
        for entry in (catalog.entries(model) if version is None and label is None else [named])
    ]
    return json_answer({"name": model, "ready": named.served is not None, "model_version_status": told})


def metadata(catalog: Catalog, model: str, version: str | None = None, label: str | None = None) -> Answer:
    served = catalog.find(model, version if label is None else catalog.labelled(model, label))
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


def _entry_of(catalog: Catalog, model: str, version: str | None, label: str | None) -> Entry:
    return catalog.entry(model, version if label is None else catalog.labelled(model, label))


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dim = [{"size": str(size), "name": ""} for size in spec.shape]
    return {"dtype": _TF_TYPES[spec.datatype], "tensor_shape": {"dim": dim, "unknown_rank": False}, "name": spec.name}


_ONE = (1,)  # the first axis of one row

_PATHS = ("/v1/models/<model>", "/v1/models/<model>/versions/<version>", "/v1/models/<model>/labels/<label>")
_VERBS = {"predict": predict, "classify": examples.classify, "regress": examples.regress}

ROUTES = (
    *(Route("POST", f"{path}:{verb}", handle, predicts=True) for path in _PATHS for verb, handle in _VERBS.items()),
    *(Route("POST", f"{path}:<verb>", unsupported) for path in _PATHS),
    Route("GET", "/v1/models", models),
    *(Route("GET", path, status) for path in _PATHS),
    *(Route("GET", f"{path}/metadata", metadata) for path in _PATHS),
)
