"""TensorFlow Serving's Classify and Regress: examples by feature, with what all of them share, to labels or numbers.

A model classifies that has an output `probabilities`, and regresses that gives one number per row and nothing else.
Called by the V1 protocol.
Source: tensorflow.org/tfx/serving/api_rest, "Classify and Regress API"; tensorflow_serving/util/json_tensor.cc, which
answers `results` where that page says `result`, so both are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from functions import tensors
from functions.package import Signature
from functions.predictor.answers import PROBE, UNSUPPORTED, Answer, Environ, Refusal, misfit, parse
from functions.predictor.query import Prediction, Query
from functions.predictor.served import Served
from functions.predictor.wire import rows, tokens

PROBABILITIES = "probabilities"  # the output with a score for each class, one column each
# A package has one signature; clients call it by these, and by the method that they ask for.
SIGNATURES = (None, "", "serving_default")


def classifies(signature: Signature) -> bool:
    """Whether :classify is answered: there is a score for each class."""
    spec = signature.output(PROBABILITIES)
    return spec is not None and spec.datatype in tensors.FLOATS and len(spec.shape) == 2


def regresses(signature: Signature) -> bool:
    """Whether :regress is answered: a number per row is all that the model gives."""
    outputs = signature.outputs
    return len(outputs) == 1 and outputs[0].datatype in tensors.FLOATS and outputs[0].is_column


def classify(served: Served, body: bytes, environ: Environ) -> Answer:
    """For each example its classes' labels, each with its score, in the order of the signature's classes."""
    if not classifies(served.signature):
        raise _other_kind(served, "classify", f"an output {PROBABILITIES!r} with one score per class")

    def pairs(prediction: Prediction) -> list[list[tuple[str, Any]]]:
        scores = prediction.outputs[PROBABILITIES]
        labels = [str(label) for label in served.signature.classes]
        if len(labels) != scores.shape[1]:
            labels = [""] * scores.shape[1]  # as TensorFlow Serving's, where a score has no label
        return [list(zip(labels, row, strict=True)) for row in scores]

    return _answer(served, body, environ, "classify", pairs)


def regress(served: Served, body: bytes, environ: Environ) -> Answer:
    """For each example its number."""
    if not regresses(served.signature):
        raise _other_kind(served, "regress", "a single output with one number per row")
    (spec,) = served.signature.outputs

    def numbers(prediction: Prediction) -> Any:
        values = prediction.outputs[spec.name].reshape(-1)
        if len(values) != prediction.query.rows:
            # What the graph does not tell of its output is seen in the answer.
            raise _other_kind(served, "regress", "a single output with one number per row")
        return values

    return _answer(served, body, environ, "regress", numbers)


def decode(signature: Signature, request: Mapping[str, Any], verb: str) -> Query:
    """The query of `examples`, each with what `context` says of all. Raises Refusal naming every fault."""
    faults: list[str] = []
    check_signature_name(request, verb, faults)
    examples, context = request.get("examples"), request.get("context", {})
    if not isinstance(context, dict):
        faults.append(f"'context' is {tensors.seen(context)}; expected an object by input name")
        context = {}
    if not isinstance(examples, list) or not examples:
        faults.append(f"'examples' is {tensors.seen(examples)}; expected a list of objects by input name")
    elif odd := [example for example in examples if not isinstance(example, dict)]:
        faults.append(f"'examples' holds {tensors.seen(odd[0])}; expected objects by input name")
    else:
        columns = {spec.name: spec.is_column for spec in signature.inputs}
        given = set().union(*examples)
        for name in context:
            if name in given:
                faults.append(f"{name!r:.60} is in 'context' and in 'examples'; expected one of them")
            elif name not in columns:
                faults.append(f"{name!r:.60} in 'context' is no input of this model")
        # Of the context what is known alone: a thousand names beside as many examples would be a million values.
        shared = {name: context[name] for name in columns if name in context}
        merged = [
            {name: _only(value) if columns.get(name) else value for name, value in (shared | example).items()}
            for example in examples
        ]
        inputs, count = rows.from_rows(signature, merged, "examples", faults)
        if not faults:
            return Query(inputs, count)
    raise misfit(signature, faults)


def check_signature_name(request: Mapping[str, Any], verb: str, faults: list[str]) -> None:
    name = request.get("signature_name")
    if name not in (*SIGNATURES, verb, f"tensorflow/serving/{verb}"):
        faults.append(f"signature_name is {tensors.seen(name)}; expected 'serving_default'")


def _answer(served: Served, body: bytes, environ: Environ, verb: str, result_of: Callable[[Prediction], Any]) -> Answer:
    began = time.perf_counter()
    query = decode(served.signature, parse(body), verb)
    result = result_of(served.predict(query, began, told=PROBE not in environ))
    written = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in written and tokens.stand_in(body):
        written = tokens.dumps(result)
    return Answer(200, b'{"result":' + written + b',"results":' + written + b"}")


def _other_kind(served: Served, verb: str, needed: str) -> Refusal:
    outputs = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in served.signature.outputs)
    return Refusal(UNSUPPORTED, f":{verb} needs {needed}; {served.name} gives {outputs:.300}; expected :predict")


def _only(value: Any) -> Any:
    """A feature of an Example is a list; of one value it means the value."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
