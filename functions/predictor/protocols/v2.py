"""The Open Inference Protocol V2 over REST, as Triton, KServe and MLServer speak it.

    POST /v2/models/M/infer   {"inputs": [{"name", "shape", "datatype", "data"}, …]} → {"outputs": [the same, …]}

`data` is flat or nested, row-major; or a tensor follows the JSON as raw bytes (`binary`). NaN and the infinities, which
JSON cannot spell, are null in an answer's `data`; in a binary tensor they are themselves.
Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import time
from typing import Any

from functions.package import TensorSpec
from functions.predictor.answers import PROBE, UNAVAILABLE, Answer, Environ, json_answer, parse
from functions.predictor.catalog import Catalog
from functions.predictor.reply_as import EVENT_HEADER, EVENT_KEY
from functions.predictor.routes import Route
from functions.predictor.served import Served
from functions.predictor.wire import binary, infer_answer, infer_request

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")  # by Triton's names
PLATFORM = "onnxruntime_onnx"  # Triton's word for an ONNX model

_BINARY_HEADER = "HTTP_" + binary.HEADER.upper().replace("-", "_")


def infer(served: Served, body: bytes, environ: Environ) -> Answer:
    began = time.perf_counter()
    raw = None
    if (length := environ.get(_BINARY_HEADER)) is not None:
        body, raw = binary.split(body, length)
    if EVENT_HEADER in environ or EVENT_KEY in (request := parse(body)):
        # KServe takes CloudEvents here too, in its binary and its structured mode.
        from functions.predictor import cloudevents

        return cloudevents.answer(served, body, environ)
    query = infer_request.decode(served.signature, request, raw)
    return infer_answer.answer(served, served.predict(query, began, told=PROBE not in environ), request)


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
