"""The answer to an inference of V2: JSON, and behind it the tensors that are wanted as raw bytes.

Used by V2 and by the CloudEvents, whose reply's data is such an answer.
Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from functions.predictor.answers import Answer, json_answer
from functions.predictor.query import Prediction
from functions.predictor.served import Served
from functions.predictor.wire import binary, infer_request

_NONE: Mapping[str, Any] = {}


def answer(served: Served, prediction: Prediction, request: Mapping[str, Any]) -> Answer:
    """The answer: JSON, and behind it the tensors that the request wants as raw bytes."""
    always = (request.get("parameters") or _NONE).get("binary_data_output", False)
    asked = request.get("outputs") or ()
    if not always and not asked:
        return json_answer(encode(served, prediction, request))
    own = {output["name"]: output["parameters"] for output in asked if output.get("parameters")}
    raw = {
        name: binary.encoded(values)
        for name, values in prediction.outputs.items()
        if own.get(name, _NONE).get("binary_data", always)
    }
    body = encode(served, prediction, request, raw)
    if not raw:
        return json_answer(body)
    head = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(200, b"".join((head, *raw.values())), binary.CONTENT_TYPE, ((binary.HEADER, str(len(head))),))


def encode(
    served: Served, prediction: Prediction, request: Mapping[str, Any], raw: Mapping[str, bytes] = _NONE
) -> dict[str, Any]:
    """The answer's JSON; `data` is flat, and an array where orjson can write it.

    raw: the outputs that follow the JSON, by name.
    """
    datatypes = infer_request.plan_of(served.signature).datatypes
    outputs = []
    for name, values in prediction.outputs.items():
        datatype = datatypes[name]
        output: dict[str, Any] = {"name": name, "shape": values.shape, "datatype": datatype}
        if name in raw:
            output["parameters"] = {"binary_data_size": len(raw[name])}
        else:
            flat = values if values.ndim == 1 else values.reshape(-1)
            output["data"] = flat.tolist() if datatype == "BYTES" else flat
        outputs.append(output)
    body: dict[str, Any] = {"model_name": served.name, "model_version": served.version, "outputs": outputs}
    if (id := request.get("id")) is not None:
        body["id"] = id
    return body
