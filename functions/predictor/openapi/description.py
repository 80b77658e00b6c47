"""The OpenAPI 3.1 document of a server or of one model: every path with its schemas, made from the signature.

Each request has an example that works when it is pasted: the rows of the package's own samples. Pure; called by the
`openapi` protocol whenever somebody asks.
Source: spec.openapis.org/oas/v3.1.1; the paths under /v2 are MLServer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eventing import contract
from functions.package import Signature
from functions.predictor.openapi import schemas
from functions.predictor.openapi.schemas import Schema
from functions.predictor.served import Served
from functions.predictor.wire import examples

JSON = "application/json"
_STRUCTURED = "application/cloudevents+json"
_REASONS = {
    "400": "The request does not fit: every fault is named",
    "404": "No such model or version here",
    "413": "The body is too long",
    "415": "An encoding that is not known here",
    "422": "An event that can never succeed",
    "500": "The inference failed",
    "501": "Something that this model or server does not do",
    "503": "Not ready, or too much at once; try again after the seconds in Retry-After",
}
_OF_PREDICTIONS = ("400", "404", "413", "415", "500", "501", "503")


def document(models: Iterable[Served], title: str, version: str, root: str, *, by_version: bool = False) -> Schema:
    """The document of `models`, all of them ready.

    root: from the document's own path to the server's, relative, so that a gateway may put a prefix before both.
    by_version: whether paths name the version, not only the model.
    """
    models = list(models)
    paths: dict[str, Any] = {}
    components: dict[str, Any] = {"Error": _object({"error": {"type": "string"}}, ["error"])}
    for served in models:
        paths |= _model_paths(served, components, by_version=by_version)
    if not by_version:
        paths |= _server_paths(models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": "Predictions over TensorFlow Serving's V1, the Open Inference Protocol V2 and CloudEvents. "
            "Whatever is no 2xx is JSON with the key `error`, which names every fault.",
        },
        "servers": [{"url": root}],
        "paths": paths,
        "components": {"schemas": components, "responses": {code: _refusal(text) for code, text in _REASONS.items()}},
    }


def _model_paths(served: Served, components: dict[str, Any], *, by_version: bool) -> dict[str, Any]:
    name, signature = served.name, served.signature
    rows = schemas.rows_of(signature, served.model.samples)
    part = f"{name}/versions/{served.version}" if by_version else name
    components |= {f"{name}.{kind}": schema for kind, schema in _schemas(signature).items()}

    def ref(kind: str) -> Schema:
        return {"$ref": f"#/components/schemas/{name}.{kind}"}

    def asks(summary: str, request: str, answer: str, shown: Mapping[str, Any]) -> Schema:
        return {
            "post": {
                "tags": [name],
                "summary": summary,
                "operationId": f"{request}.{part}".replace("/", "."),
                "requestBody": _body(ref(request), shown),
                "responses": _responses(ref(answer), _OF_PREDICTIONS),
            }
        }

    columns = {spec.name: [row[spec.name] for row in rows] for spec in signature.inputs}
    only = len(signature.inputs) == 1
    bare = [row[signature.inputs[0].name] if only else list(row.values()) for row in rows]
    v1_examples: dict[str, Any] = {"columns": {"inputs": columns}}
    if _has_rows(signature):
        v1_examples = {"rows": {"instances": bare}} | v1_examples
        if not only:
            v1_examples = {"rows by name": {"instances": rows}} | v1_examples
    v2_examples = {"tensors": {"id": "example", "inputs": schemas.tensors_of(signature, rows)}}
    paths = {
        f"/v1/models/{part}:predict": asks("Predict rows or columns (V1)", "predict", "predictions", v1_examples),
        f"/v2/models/{part}/infer": asks("Predict tensors (V2)", "infer", "inferred", v2_examples),
    }
    by_example = {"examples": {"examples": rows}}
    if examples.classifies(signature):
        paths[f"/v1/models/{part}:classify"] = asks(
            "Labels with their scores (V1)", "classify", "classified", by_example
        )
    if examples.regresses(signature):
        paths[f"/v1/models/{part}:regress"] = asks("One number per row (V1)", "regress", "regressed", by_example)
    told = {
        f"/v1/models/{part}": "State of the model, as TensorFlow Serving and KServe tell it",
        f"/v1/models/{part}/metadata": "Signature, as TensorFlow Serving tells it",
        f"/v2/models/{part}": "Inputs and outputs, as V2 tells them",
    }
    paths |= {path: _shown(summary, name) for path, summary in told.items()}
    paths[f"/v2/models/{part}/ready"] = _shown("Whether the model answers", name, ("404", "503"))
    return paths


def _server_paths(models: list[Served]) -> dict[str, Any]:
    paths: dict[str, Any] = {
        "/v2": _shown("The server and its extensions"),
        "/v2/health/live": _shown("Whether the process answers"),
        "/v2/health/ready": _shown("Whether every model answers", codes=("503",)),
        "/v1/models": _shown("Names of the models (V1)"),
        "/v2/models": _shown("Names of the models (V2)"),
    }
    if models:
        paths["/"] = {"post": _event(models[0])}
    return paths


def _event(served: Served) -> Schema:
    """A question by event, in the structured mode."""
    rows = schemas.rows_of(served.signature, served.model.samples)
    columns = {spec.name: [row[spec.name] for row in rows] for spec in served.signature.inputs}
    asked = {"instances": rows} if _has_rows(served.signature) else {"inputs": columns}
    data = {"model": served.name, "inputs": asked}
    example = {
        "specversion": "1.0", "id": "example-1", "source": "/docs", "type": contract.PredictionRequested.TYPE,
        "subject": served.name, "datacontenttype": JSON, "data": data,
    }  # fmt: skip
    text = {"type": "string", "minLength": 1}
    schema = _object(
        {"specversion": {"const": "1.0"}, "id": text, "source": text, "type": text, "data": {"type": "object"}},
        ["specversion", "id", "source", "type", "data"],
    )
    return {
        "tags": ["events"],
        "summary": "Ask by CloudEvent; the answer is one too",
        "operationId": "event",
        "requestBody": _body(schema, {"prediction.requested": example}, _STRUCTURED),
        "responses": {
            "200": {"description": "prediction.made", "content": {_STRUCTURED: {"schema": schema}}},
            **{code: {"$ref": f"#/components/responses/{code}"} for code in ("400", "413", "415", "422", "500", "503")},
        },
    }


def _has_rows(signature: Signature) -> bool:
    """Whether an answer can be told in rows: of one output as it is, of several where they share their first axis."""
    firsts = {spec.shape[:1] for spec in signature.outputs}
    return len(signature.outputs) == 1 or (len(firsts) == 1 and () not in firsts)


def _schemas(signature: Signature) -> dict[str, Schema]:
    """Bodies of requests and answers of one model, by name."""
    inputs, outputs = signature.inputs, signature.outputs
    names = [spec.name for spec in inputs]
    named = _object({spec.name: schemas.row(spec) for spec in inputs}, names) | {"additionalProperties": False}
    count = {"minItems": len(inputs), "maxItems": len(inputs)}
    bare = {"type": "array", "prefixItems": [schemas.row(spec) for spec in inputs], **count}
    row = {"anyOf": [named, schemas.row(inputs[0]) if len(inputs) == 1 else bare]}
    rows = {"type": "array", "items": row, "minItems": 1}
    columns = _object({spec.name: schemas.column(spec) for spec in inputs}, names) | {"additionalProperties": False}
    signature_name = {"type": "string", "const": "serving_default"}
    answer = {spec.name: schemas.output(spec, spec.name) for spec in outputs}
    lists = {name: {"type": "array", "items": schema} for name, schema in answer.items()}
    one = len(outputs) == 1
    asked = [schemas.tensor(spec, asked=True) for spec in inputs]
    result = {"type": "array", "items": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}}}
    found = {
        "predict": {
            "oneOf": [
                _object({"instances": rows, "signature_name": signature_name}, ["instances"]),
                _object({"inputs": columns, "signature_name": signature_name}, ["inputs"]),
            ]
        },
        "predictions": {
            "oneOf": [
                _object(
                    {
                        "predictions": {
                            "type": "array",
                            "items": next(iter(answer.values())) if one else _object(answer),
                        }
                    },
                    ["predictions"],
                ),
                _object({"outputs": next(iter(lists.values())) if one else _object(lists)}, ["outputs"]),
            ]
        },
        "infer": _object(
            {
                "id": {"type": "string"},
                "inputs": {"type": "array", "prefixItems": asked, "description": "in any order", **count},
                "outputs": {
                    "type": "array",
                    "description": "those to answer; without it, all",
                    "items": _object({"name": {"enum": [spec.name for spec in outputs]}}, ["name"]),
                    "uniqueItems": True,
                },
            },
            ["inputs"],
        ),
        "inferred": _object(
            {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {
                    "type": "array",
                    "items": {"anyOf": [schemas.tensor(spec, asked=False) for spec in outputs]},
                },
            },
            ["model_name", "outputs"],
        ),
    }
    by_example = _object({"examples": {"type": "array", "items": named, "minItems": 1}}, ["examples"])
    if examples.classifies(signature):
        found |= {"classify": by_example, "classified": _object({"result": result, "results": result}, ["result"])}
    if examples.regresses(signature):
        values = {"type": "array", "items": {"type": ["number", "null"]}}
        found |= {"regress": by_example, "regressed": _object({"result": values, "results": values}, ["result"])}
    return found


def _object(properties: Mapping[str, Any], required: Iterable[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
    }


def _body(schema: Schema, shown: Mapping[str, Any], media_type: str = JSON) -> Schema:
    named = {name: {"summary": name, "value": value} for name, value in shown.items()}
    return {"required": True, "content": {media_type: {"schema": schema, "examples": named}}}


def _shown(summary: str, tag: str = "server", codes: Iterable[str] = ()) -> Schema:
    return {"get": {"tags": [tag], "summary": summary, "responses": _responses({"type": "object"}, codes)}}


def _responses(schema: Schema, codes: Iterable[str]) -> Schema:
    done = {"description": "The answer", "content": {JSON: {"schema": schema}}}
    return {"200": done} | {code: {"$ref": f"#/components/responses/{code}"} for code in codes}


def _refusal(text: str) -> Schema:
    return {"description": text, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
