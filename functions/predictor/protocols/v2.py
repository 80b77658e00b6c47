"""The Open Inference Protocol V2 over REST, as Triton, KServe and MLServer speak it; tensors as JSON.

    POST /v2/models/M/infer   {"inputs": [{"name", "shape", "datatype", "data"}, …]} → {"outputs": [the same, …]}

`data` is flat or nested, row-major.
Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from functions import tensors
from functions.package import Signature, TensorSpec
from functions.predictor.answers import (
    BAD_REQUEST,
    UNAVAILABLE,
    UNSUPPORTED,
    Answer,
    Environ,
    Refusal,
    is_probe,
    json_answer,
    misfit,
    parse,
)
from functions.predictor.catalog import Catalog, Prediction, Query, Served
from functions.predictor.routes import Route
from functions.tensors import Array

EXTENSIONS: tuple[str, ...] = ()
PLATFORM = "onnxruntime_onnx"  # Triton's word for an ONNX model
BINARY_HEADER = "HTTP_INFERENCE_HEADER_CONTENT_LENGTH"


def infer(served: Served, body: bytes, environ: Environ) -> Answer:
    began = time.perf_counter()
    if BINARY_HEADER in environ:
        raise Refusal(UNSUPPORTED, "binary tensors are not supported; expected JSON with 'data' (binary_data=False)")
    request = parse(body)
    query = decode(served.signature, request)
    return json_answer(encode(served, served.predict(query, began, told=not is_probe(environ)), request))


def decode(signature: Signature, request: Mapping[str, Any]) -> Query:
    """The query of a request's object. Raises Refusal naming every fault."""
    faults: list[str] = []
    given = request.get("inputs")
    if not isinstance(given, list) or not all(isinstance(tensor, dict) for tensor in given):
        raise Refusal(BAD_REQUEST, f"'inputs' is {tensors.seen(given)}; expected a list of tensors")
    tensors_by_name = {str(tensor.get("name")): tensor for tensor in given}
    inputs: dict[str, Array] = {}
    rows: dict[str, int] = {}
    for spec in signature.inputs:
        tensor = tensors_by_name.pop(spec.name, None)
        if tensor is None:
            faults.append(f"input {spec.name!r} is missing; the signature says {spec.datatype} {list(spec.shape)}")
        elif (shape := _shape(spec, tensor, faults)) is not None:
            inputs[spec.name] = tensors.array(spec, tensor["data"], shape, faults)
            rows[spec.name] = shape[0] if shape else 1
    faults += [f"input {name!r:.60} is not in the signature" for name in tensors_by_name]
    if not faults and len(set(rows.values())) > 1:
        faults.append(f"the inputs differ in their number of rows: {rows!s:.300}")
    outputs = _outputs(signature, request.get("outputs"), faults)
    if faults:
        raise misfit(signature, faults)
    return Query(inputs, next(iter(rows.values()), 1), outputs)


def encode(served: Served, prediction: Prediction, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer's body; `data` is flat, and an array where orjson can write it."""
    outputs = []
    for name, values in prediction.outputs.items():
        spec = served.signature.output(name)
        flat = values.reshape(-1)
        outputs.append(
            {
                "name": name,
                "shape": values.shape,
                "datatype": spec.datatype if spec else "BYTES",
                "data": flat.tolist() if values.dtype.kind in "OUS" else flat,
            }
        )
    body = {"model_name": served.name, "model_version": served.version, "outputs": outputs}
    return body if request.get("id") is None else body | {"id": request["id"]}


def _shape(spec: TensorSpec, tensor: Mapping[str, Any], faults: list[str]) -> tuple[int, ...] | None:
    """The tensor's shape as the signature takes it, or None with every fault of its description."""
    before = len(faults)
    name, shape, data = spec.name, tensor.get("shape"), tensor.get("data")
    if tensor.get("datatype") != spec.datatype:
        seen = tensors.seen(tensor.get("datatype"))
        faults.append(f"input {name!r} has datatype {seen}; the signature says {spec.datatype!r}")
    if not isinstance(data, list):
        faults.append(f"input {name!r} has data {tensors.seen(data)}; expected a list")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        faults.append(f"input {name!r} has shape {tensors.seen(shape)}; expected a list of whole numbers")
        return None
    # One value per row leaves no doubt how (n) becomes (n, 1); tables are sent in both ways.
    if spec.is_column and len(spec.shape) == 2 and len(shape) == 1:
        shape = [*shape, 1]
    if len(shape) != len(spec.shape) or any(a not in (-1, b) for a, b in zip(spec.shape, shape, strict=True)):
        faults.append(f"input {name!r} has shape {tensor['shape']}; the signature says {list(spec.shape)}")
    elif math.prod(shape) == 0:
        faults.append(f"input {name!r} has shape {tensor['shape']}, which holds no value")
    return None if len(faults) > before else tuple(shape)


def _outputs(signature: Signature, asked: Any, faults: list[str]) -> list[str] | None:
    """Names of the outputs asked for; None for all, as when none is named."""
    if not asked:
        return None
    if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
        faults.append(f"'outputs' is {tensors.seen(asked)}; expected a list of objects with 'name'")
        return None
    names = [str(output.get("name")) for output in asked]
    known = ", ".join(spec.name for spec in signature.outputs)
    faults += [f"output {n!r:.60} is not in the signature; it has {known}" for n in names if not signature.output(n)]
    return list(dict.fromkeys(names))


# What is known of the server and its models


def server(catalog: Catalog) -> Answer:
    from importlib import metadata as packages  # looks through the installed files: not while a model starts

    return json_answer({"name": "headrace", "version": packages.version("headrace"), "extensions": EXTENSIONS})


def models(catalog: Catalog) -> Answer:
    return json_answer({"models": catalog.models()})


def model_metadata(catalog: Catalog, model: str, version: str | None = None) -> Answer:
    served = catalog.find(model, version)
    versions = [e.version for e in catalog.entries(model) if e.served is not None] if version is None else [version]

    def described(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]

    return json_answer(
        {
            "name": served.name,
            "versions": versions,
            "platform": PLATFORM,
            "inputs": described(served.signature.inputs),
            "outputs": described(served.signature.outputs),
        }
    )


def model_ready(catalog: Catalog, model: str, version: str | None = None) -> Answer:
    """200, or 503 with the reason: the store away, a digest that differs, a self-test that failed."""
    entry = catalog.entry(model, version)
    ready = entry.served is not None
    body = {"name": model, "ready": ready} | ({} if ready else {"error": entry.reason})
    return json_answer(body, 200 if ready else UNAVAILABLE)


ROUTES = (
    Route("POST", "/v2/models/<model>/infer", infer, predicts=True),
    Route("POST", "/v2/models/<model>/versions/<version>/infer", infer, predicts=True),
    Route("GET", "/v2", server),
    Route("GET", "/v2/models", models),
    Route("GET", "/v2/models/<model>", model_metadata),
    Route("GET", "/v2/models/<model>/versions/<version>", model_metadata),
    Route("GET", "/v2/models/<model>/ready", model_ready),
    Route("GET", "/v2/models/<model>/versions/<version>/ready", model_ready),
)
