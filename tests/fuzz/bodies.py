"""Bodies of V1 and V2 requests, whole and broken: hypothesis draws what is changed in them, and how."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from functions import tensors
from functions.predictor.wire import binary
from tests.functions import packages
from tests.fuzz.target import MODELS
from tests.fuzz.wire import Request

Draw = Callable[[st.SearchStrategy[Any]], Any]
Tensor = dict[str, Any]

# What numbers, texts and places of a JSON are replaced by. The strings hold half a surrogate pair, a null, a bomb.
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**32 - 1, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, -0.0, 0.1, 1e-320,
    3.5e38, 1e308, float("nan"), float("inf"), float("-inf"), "", "NaN", "Infinity", "1", "é", "\ud800", "\x00",
    "x" * 300, "data", "inputs", [], {}, [[]], [None], {"b64": "AA=="}, {"b64": "/w=="}, {"b64": 1}, {"": 0},
    [[[[[[[[1]]]]]]]],
    [1, [2]], list(range(100)), [0] * 2000, {str(n): n for n in range(50)},
)  # fmt: skip
KEYS = (
    "inputs", "instances", "outputs", "parameters", "signature_name", "name", "shape", "datatype", "data", "id", "b64",
    "binary_data_size", "binary_data", "binary_data_output", "classification", "sequence_id", "content_type",
    "examples", "context", "specversion", "type", "source", "subject", "time", "data_base64", "model", "",
    "\ud83d", "é",
)  # fmt: skip
DATATYPES = (*tensors.DTYPES, "BF16", "STRING", "fp32", "", "TYPE_FP32")
LENGTHS = ("", "0", "-1", "+5", "1_0", " 7", "٣", "9" * 30, "0x10", "1e2", "none", "5, 5")
ENCODINGS = (
    "gzip", "deflate", "x-gzip", "identity", "br", "zstd", "gzip, deflate", "gzip,gzip", "GZIP", "", ",", "gzip;q=1",
    "gzip, gzip, gzip, gzip",
)  # fmt: skip
ACCEPTS = (
    "gzip", "deflate", "*", "identity", "gzip;q=0", "gzip;q=nan", "deflate;q=1e9, gzip;q=inf", ";q=", "gzip;q=0.1_0",
    "*;q=0", "", "br",
)  # fmt: skip

NESTED = st.recursive(
    st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
CHANGES = st.integers(0, 3)
WHERE = st.integers(0, 2**16)
KINDS = st.integers(0, 7)


def _values(datatype: str, count: int, chance: random.Random) -> np.ndarray:
    dtype = tensors.DTYPES[datatype]
    if datatype == "BYTES":
        return np.array([chance.choice(("AA", "DL", "", "ü", "long " * 9)) for _ in range(count)], object)
    if datatype == "BOOL":
        return np.array([chance.random() < 0.5 for _ in range(count)])
    if dtype.kind == "f":
        return np.array([chance.choice((0.5, -3.0, 100.0, 0.0)) for _ in range(count)], dtype)
    limits = np.iinfo(dtype)
    return np.array([chance.choice((0, 1, int(limits.min), int(limits.max))) for _ in range(count)], dtype)


# By model: each input's name, datatype and the shape of a row.
SIGNATURES: dict[str, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    "flights": tuple((spec.name, spec.datatype, (1,)) for spec in packages.SIGNATURE.inputs),
    "grid": (("grid", "FP32", (2, 3)),),
    "datatypes": tuple((datatype, datatype, (2,)) for datatype in tensors.DTYPES),
}


def _arrays(model: str, rows: int, chance: random.Random) -> dict[str, tuple[str, np.ndarray]]:
    """By name: datatype and values of each input, which fit."""
    return {
        name: (datatype, _values(datatype, rows * int(np.prod(shape)), chance).reshape(rows, *shape))
        for name, datatype, shape in SIGNATURES[model]
    }


_CHANCE = random.Random(4)
WHOLE = {model: [_arrays(model, rows, _CHANCE) for rows in (1, 2, 1, 5, 3, 17)] for model in MODELS}
"""Requests that fit, by model, as arrays."""


# ---------------------------------------------------------------- what is changed


@st.composite
def changed(draw: Draw, value: Any) -> Any:
    """A JSON value with up to three changes anywhere in it."""
    changes = draw(CHANGES)
    if changes:
        value = copy.deepcopy(value)
    for _ in range(changes):
        value = _change(draw, value)
    return value


def _nasty(draw: Draw) -> Any:
    # A copy: the next change may be inside it.
    return copy.deepcopy(draw(st.sampled_from(NASTY)))


def _change(draw: Draw, root: Any) -> Any:
    """One change at one place, which every level is as likely to have."""
    parent, key, here = None, None, root
    while isinstance(here, dict | list) and here and (place := draw(st.integers(0, len(here)))) < len(here):
        parent, key = here, (list(here)[place] if isinstance(here, dict) else place)
        here = here[key]
    kind = draw(KINDS)
    if kind == 0 and parent is not None:
        del parent[key]
        return root
    if kind == 1 and isinstance(here, dict):
        here[draw(st.sampled_from(KEYS))] = _nasty(draw)
        return root
    if kind == 1 and isinstance(here, list):
        here.append(copy.deepcopy(here[0]) if here else None)
        return root
    if kind == 2 and isinstance(parent, dict):
        parent[draw(st.sampled_from(KEYS))] = parent.pop(key)
        return root
    if kind == 3:
        new: Any = [here]
    elif kind == 4:
        new = {draw(st.sampled_from(KEYS)): here}
    elif kind == 5:
        new = draw(st.sampled_from(DATATYPES))
    else:
        new = _nasty(draw)
    if parent is None:
        return new
    parent[key] = new
    return root


@st.composite
def damaged(draw: Draw, content: bytes, most: int = 3) -> bytes:
    """Bytes with up to `most` of them flipped, cut out, doubled or put in."""
    for _ in range(draw(st.integers(0, most))):
        kind, at = draw(KINDS), draw(WHERE) % (len(content) + 1)
        if kind <= 2 and content:
            at = min(at, len(content) - 1)
            content = content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
        elif kind == 3:
            content = content[:at]
        elif kind == 4:
            content = content[:at] + content[at + draw(st.integers(1, 9)) :]
        elif kind == 5:
            content = content[:at] + content[at : at + 40] + content[at:]
        else:
            content = content[:at] + draw(st.binary(max_size=9)) + content[at:]
    return content


def written(value: Any, damage: bytes | None = None) -> bytes:
    """JSON as Python writes it: bare NaN, half surrogates escaped."""
    return json.dumps(value).encode() if damage is None else damage


# ---------------------------------------------------------------- requests


def _place(draw: Draw, model: str) -> str:
    """How the path names the model."""
    ways = [model, f"{model}/versions/{packages.VERSION}", "flights/labels/stable", "nobody", f"{model}/versions/9"]
    return ways[min(draw(st.integers(0, 12)), len(ways) - 1) if draw(st.booleans()) else 0]


def v1_value(draw: Draw, model: str) -> Any:
    """A V1 request that fits, in one of its forms."""
    arrays = draw(st.sampled_from(WHOLE[model]))
    columns = {name: values.tolist() for name, (_, values) in arrays.items()}
    if model == "flights":
        columns = {name: list(itertools.chain.from_iterable(values)) for name, values in columns.items()}
    names, rows = list(columns), [list(row) for row in zip(*columns.values(), strict=True)]
    form = draw(st.integers(0, 4))
    if form == 0:
        return {"inputs": columns}
    if form == 1:
        return {"instances": [row[0] for row in rows] if len(names) == 1 else rows}
    if form == 2:
        return {"instances": [dict(zip(names, row, strict=True)) for row in rows], "signature_name": "serving_default"}
    if form == 3:
        return {"examples": [dict(zip(names, row, strict=True)) for row in rows]}
    shared = names[-1]
    examples = [{n: v for n, v in zip(names, row, strict=True) if n != shared} for row in rows]
    return {"examples": examples, "context": {shared: rows[0][-1]}}


@st.composite
def v1(draw: Draw) -> Request:
    model = draw(st.sampled_from(MODELS))
    value = draw(changed(v1_value(draw, model)))
    verb = draw(st.sampled_from(("predict", "predict", "predict", "classify", "regress", "explain")))
    if isinstance(value, dict) and "examples" in value and draw(st.booleans()):
        verb = "classify"
    return Request("POST", f"/v1/models/{_place(draw, model)}:{verb}", (), draw(damaged(written(value), 1)))


def v2_value(draw: Draw, model: str, raw: int = 0) -> tuple[dict[str, Any], list[bytes]]:
    """A V2 request that fits, and the bytes of its raw tensors. raw: a bit for each input that is raw."""
    arrays = draw(st.sampled_from(WHOLE[model]))
    inputs: list[Tensor] = []
    contents = []
    for number, (name, (datatype, values)) in enumerate(arrays.items()):
        tensor: Tensor = {"name": name, "shape": list(values.shape), "datatype": datatype}
        if raw >> number & 1:
            contents.append(binary.encoded(values))
            tensor["parameters"] = {"binary_data_size": len(contents[-1])}
        else:
            tensor["data"] = values.tolist() if number % 2 else values.ravel().tolist()
        inputs.append(tensor)
    request: dict[str, Any] = {"id": "7", "inputs": inputs}
    if draw(st.booleans()):
        request["parameters"] = {"binary_data_output": draw(st.booleans())}
    if draw(st.booleans()):
        names = {"flights": ["label", "probabilities"], "grid": ["value"]}.get(model, ["FP16_back", "BYTES_back"])
        request["outputs"] = [{"name": name, "parameters": {"binary_data": draw(st.booleans())}} for name in names]
    return request, contents


@st.composite
def v2_json(draw: Draw) -> Request:
    model = draw(st.sampled_from(MODELS))
    value = draw(changed(v2_value(draw, model)[0]))
    return Request("POST", f"/v2/models/{_place(draw, model)}/infer", (), draw(damaged(written(value), 1)))


@st.composite
def v2_binary(draw: Draw) -> Request:
    """Raw tensors behind the JSON; where nothing is changed, a request that is answered."""
    model = draw(st.sampled_from(MODELS))
    request, contents = v2_value(draw, model, draw(st.integers(0, 2 ** len(SIGNATURES[model]) - 1)))
    head = written(draw(changed(request)))
    if draw(st.booleans()):
        contents = [draw(damaged(content)) for content in contents]
        if draw(st.booleans()) and contents:
            contents[-1] = struct.pack("<I", draw(st.integers(0, 2**32 - 1))) + contents[-1]
    told: int | str = len(head)
    if draw(st.integers(0, 5)) == 5:
        told = draw(st.sampled_from(LENGTHS) | st.integers(-2, len(head) + 50))
    headers = (
        ("Inference-Header-Content-Length", str(told).encode()),
        ("Content-Type", b"application/octet-stream"),
    )
    return Request("POST", f"/v2/models/{_place(draw, model)}/infer", headers, head + b"".join(contents))


@st.composite
def encoded(draw: Draw) -> Request:
    """A request in an encoding that is whole, broken, wrongly named, or a bomb."""
    plain = draw(st.one_of(v1(), v2_json(), v2_binary()))
    body = plain.body
    if draw(st.integers(0, 40)) == 40:
        body = b" " * draw(st.sampled_from((300_000, 5_000_000)))
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.integers(0, 3))
        if way == 0:
            body = gzip.compress(body, 1)
        elif way == 1:
            body = zlib.compress(body, 1)
        elif way == 2:
            packer = zlib.compressobj(1, wbits=-15)
            body = packer.compress(body) + packer.flush()
    body = draw(damaged(body, 2))
    headers = (
        ("Content-Encoding", draw(st.sampled_from(ENCODINGS)).encode()),
        ("Accept-Encoding", draw(st.sampled_from(ACCEPTS)).encode()),
    )
    request = plain.with_headers(headers)
    return Request(request.method, request.path, request.headers, body, chunked=draw(st.booleans()))


@st.composite
def junk(draw: Draw) -> Request:
    """Bodies that nobody wrote as a request: JSON of any form, deep, long, in other alphabets; bytes."""
    model = draw(st.sampled_from(MODELS))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        body = draw(st.binary(max_size=200))
    elif kind == 1:
        body = b"[" * draw(st.sampled_from((10, 1000, 1025, 100_000)))
    elif kind == 2:
        depth = draw(st.sampled_from((10, 500, 1100, 20_000)))
        body = b'{"instances":' + b"[" * depth + b"1" + b"]" * depth + b"}"
    elif kind == 3:
        body = b'{"instances": [' + b"9" * draw(st.sampled_from((20, 400, 5000, 100_000))) + b"]}"
    elif kind == 4:
        body = json.dumps({"instances": [_nasty(draw)] * draw(st.sampled_from((1, 2, 500)))}).encode()
    elif kind == 5:
        text = json.dumps(v1_value(draw, model)) + draw(st.sampled_from(("", "\ud800", "NaN", "\ufeff")))
        body = text.encode(draw(st.sampled_from(("utf-16", "utf-32", "utf-8-sig", "utf-16-le"))), "surrogatepass")
    elif kind == 6:
        body = b" " * draw(st.sampled_from((1, 100_000, 262_144, 262_145, 300_000)))
    else:
        body = json.dumps(draw(NESTED)).encode()
    path = draw(st.sampled_from((f"/v1/models/{model}:predict", f"/v2/models/{model}/infer", "/")))
    return Request("POST", path, (), body, chunked=draw(st.booleans()))
