"""TensorFlow Serving's REST API, and what KServe adds to it under the same paths.

    POST /v1/models/M:predict   {"instances": [row, …]} → {"predictions": [row, …]}
                                {"inputs": {column: [value, …]}} → {"outputs": {column: [value, …]}}
    POST /v1/models/M:classify  {"examples": [row, …], "context": row} → {"result": [[[label, score], …], …]}
    POST /v1/models/M:regress   the same → {"result": [value, …]}

`functions.predictor.wire` reads and writes the bodies (`predict_body`) and reads examples (`examples`). NaN and
infinities are answered in kind: as bare tokens (`tokens`) to a request that held one, as null to any other.
Source: tensorflow.org/tfx/serving/api_rest; tensorflow_serving/util/json_tensor.cc; kserve
python/kserve/kserve/protocol/rest/v1_endpoints.py.
"""

from __future__ import annotations

import time
from typing import Any

from functions.package import TensorSpec
from functions.predictor.answers import PROBE, UNSUPPORTED, Answer, Environ, Refusal, json_answer, parse
from functions.predictor.catalog import Catalog, Entry
from functions.predictor.reply_as import EVENT_HEADER, EVENT_KEY
from functions.predictor.routes import Route
from functions.predictor.served import Served
from functions.predictor.wire import examples, predict_body, tokens

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
    query, columns = predict_body.decode(served.signature, request)
    prediction = served.predict(query, began, told=PROBE not in environ)
    answer = predict_body.encode(served, prediction, columns)
    if b"null" in answer and tokens.stand_in(body):
        answer = predict_body.encode(served, prediction, columns, bare=True)
    return Answer(200, answer)


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


_PATHS = ("/v1/models/<model>", "/v1/models/<model>/versions/<version>", "/v1/models/<model>/labels/<label>")
_VERBS = {"predict": predict, "classify": examples.classify, "regress": examples.regress}

ROUTES = (
    *(Route("POST", f"{path}:{verb}", handle, predicts=True) for path in _PATHS for verb, handle in _VERBS.items()),
    *(Route("POST", f"{path}:<verb>", unsupported) for path in _PATHS),
    Route("GET", "/v1/models", models),
    *(Route("GET", path, status) for path in _PATHS),
    *(Route("GET", f"{path}/metadata", metadata) for path in _PATHS),
)
