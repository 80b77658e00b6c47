"""A signature as JSON Schema, and a request that fits it: what the OpenAPI documents say of a model's inputs. Pure.

Categories and ranges are what training saw, no limit to what may be asked: they are examples and words, not `enum` and
`maximum`. Source: OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from functions import tensors
from functions.package import Signature, TensorSpec

Schema = dict[str, Any]

MAX_EXAMPLES = 5  # categories shown of one input; the rest is counted
MAX_SAMPLES = 2  # rows in an example: enough to see that there may be several
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_FORMATS = {"FP32": "float", "FP64": "double", "INT32": "int32", "INT64": "int64"}
_MADE_UP = {"BOOL": True, "BYTES": "text"}  # of a model without samples; of numbers 1, which few graphs stumble over


def value(spec: TensorSpec) -> Schema:
    """One value as `tensors.value_of` takes it."""
    told = f"{spec.datatype}{_seen(spec)}"
    if spec.datatype == "BOOL":
        return {"type": "boolean", "description": told}
    if spec.is_text:
        text: Schema = {"type": ["string", "null"], "description": f"{told} null is a missing value.".strip()}
        if spec.categories:
            text["examples"] = list(spec.categories[:MAX_EXAMPLES])
        encoded = {"type": "string", "contentEncoding": "base64", "pattern": _BASE64, "description": "UTF-8 as base64"}
        base64 = {"type": "object", "properties": {"b64": encoded}, "required": ["b64"], "additionalProperties": False}
        return {"anyOf": [text, base64]}
    if spec.datatype in tensors.FLOATS:
        limits = np.finfo(tensors.DTYPES[spec.datatype])
        number: Schema = {"type": ["number", "null"], "description": f"{told} null is a missing value."}
        # JSON's numbers end nowhere, FP16's at 65504; FP64's are those of every reader.
        bounds = {} if spec.datatype == "FP64" else {"minimum": float(limits.min), "maximum": float(limits.max)}
        return number | bounds | _format(spec)
    whole = np.iinfo(tensors.DTYPES[spec.datatype])
    return {"type": "integer", "description": told, "minimum": int(whole.min), "maximum": int(whole.max)} | _format(
        spec
    )


def row(spec: TensorSpec) -> Schema:
    """What one row holds of `spec`: a value, or lists of the signature's sizes."""
    return value(spec) if spec.is_column else _nested(spec.shape[1:], value(spec))


def column(spec: TensorSpec) -> Schema:
    """A list with what each row holds."""
    return {"type": "array", "items": row(spec), "minItems": 1}


def output(spec: TensorSpec, name: str = "") -> Schema:
    """What one row of an answer holds of `spec`; name: of the output, whose `_bytes` come as base64."""
    kind: Schema = {"type": "integer"}
    if spec.datatype in tensors.FLOATS:
        kind = {"type": ["number", "null"], "description": "null is NaN or an infinity"}
    elif spec.datatype == "BOOL":
        kind = {"type": "boolean"}
    elif spec.is_text:
        kind = {"type": "string"}
        if name.endswith("_bytes"):
            kind = {"type": "object", "properties": {"b64": {"type": "string"}}, "required": ["b64"]}
    return _nested(spec.shape[1:], kind)


def tensor(spec: TensorSpec, *, asked: bool) -> Schema:
    """A V2 tensor with its data as JSON. asked: in a request; else in an answer."""
    flat = value(spec) if asked else output(TensorSpec(spec.name, spec.datatype, spec.onnx_type, (-1,)))
    # A request may nest its data as the shape says; said loosely, for JSON Schema cannot compare the two.
    data: Schema = {"type": "array", "items": flat}
    if asked:
        data = {"type": "array", "minItems": 1, "description": "flat, row by row; or nested as `shape` says"}
        data |= {"items": flat if len(spec.shape) < 2 else {"anyOf": [flat, {"type": "array", "items": flat}]}}
    axes: list[Schema] = [{"type": "integer", "minimum": 1}] * len(spec.shape)
    sizes: Schema = {"type": "array", "minItems": len(axes), "maxItems": len(axes)}
    if axes:
        sizes["prefixItems"] = [
            axis if size == -1 else {"const": size} for axis, size in zip(axes, spec.shape, strict=True)
        ]
    return {
        "type": "object",
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": spec.datatype},
            "shape": sizes,
            "data": data,
            "parameters": {"type": "object"},
        },
        "required": ["name", "datatype", "shape", "data"],
    }


def rows_of(signature: Signature, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows by input name that the model answers: its package's first samples, else one that is made up."""
    found = [
        {spec.name: _shaped(spec, sample["inputs"][spec.name]) for spec in signature.inputs}
        for sample in samples[:MAX_SAMPLES]
    ] or [{spec.name: _shaped(spec, _made_up(spec)) for spec in signature.inputs}]
    # Rows of one request have one shape; those of texts, say, differ from sample to sample.
    found = [row for row in found if all(tensors.nesting(row[n]) == tensors.nesting(v) for n, v in found[0].items())]
    batch = max((spec.shape[0] for spec in signature.inputs if spec.shape), default=-1)
    # A graph whose batch is of one size takes no other.
    return found if batch < 1 else [found[i % len(found)] for i in range(batch)]


def tensors_of(signature: Signature, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows as V2 tensors."""
    return [
        {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": [len(rows), *tensors.row_shape(spec, rows[0][spec.name])] if spec.shape else [],
            "data": [value for row in rows for value in _flat(row[spec.name])],
        }
        for spec in signature.inputs
    ]


def _seen(spec: TensorSpec) -> str:
    """What training saw, in words."""
    if spec.categories:
        more = len(spec.categories) - MAX_EXAMPLES
        shown = ", ".join(spec.categories[:MAX_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
        return f". Seen in training: {shown}; any other is answered as an unknown one."
    if spec.range:
        return f". Seen in training: {spec.range[0]:g} to {spec.range[1]:g}."
    return "."


def _format(spec: TensorSpec) -> Schema:
    return {"format": _FORMATS[spec.datatype]} if spec.datatype in _FORMATS else {}


def _nested(sizes: Sequence[int], inner: Schema) -> Schema:
    for size in reversed(sizes):
        bounds: Schema = {"minItems": 1} if size == -1 else {"minItems": size, "maxItems": size}
        inner = {"type": "array", "items": inner, **bounds}
    return inner


def _made_up(spec: TensorSpec) -> Any:
    if spec.categories:
        return spec.categories[0]
    if spec.range:
        middle = sum(spec.range) / 2
        return round(middle, 3) if spec.datatype in tensors.FLOATS else int(middle)
    return _MADE_UP.get(spec.datatype, 1)


def _shaped(spec: TensorSpec, given: Any) -> Any:
    """A sample's value as a row of a request has it: bare where the row is one value, else nested; of what is made up,
    open axes are 1.
    """
    values = _flat(given)
    if spec.is_column:
        return values[0]
    sizes = tensors.row_shape(spec, given[0] if len(tensors.nesting(given)) == len(spec.shape) else given)
    count = int(np.prod(sizes))
    filled = np.empty(count, object)
    # A whole tensor, of an input that has no rows, is no row: its first value stands for all of one.
    filled[:] = values if len(values) == count else values[:1] * count
    return filled.reshape(sizes).tolist()


def _flat(value: Any) -> list[Any]:
    return [part for inner in value for part in _flat(inner)] if isinstance(value, list) else [value]
