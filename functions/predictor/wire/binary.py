"""Tensors as raw bytes behind a request's or an answer's JSON: the binary tensor data extension of V2.

Little-endian, row-major, without padding; BOOL is one byte, a BYTES element its length as uint32 and its text. Used by
the protocol V2, where every fault found goes into the list of the request's others.
Source: github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import math
import struct
import sys
from typing import Any

import numpy as np

from functions import tensors
from functions.package import TensorSpec
from functions.predictor.answers import BAD_REQUEST, Refusal
from functions.tensors import MAX_NAMED_VALUES, Array

HEADER = "Inference-Header-Content-Length"
CONTENT_TYPE = "application/octet-stream"

_LENGTH = struct.Struct("<I")  # of a BYTES element
_SWAPPED = sys.byteorder == "big"
# As they lie in a body; BOOL as its byte, which is looked at before it is called a truth.
_DTYPES = {name: dtype.newbyteorder("<") for name, dtype in tensors.DTYPES.items() if dtype.kind in "iuf"} | {
    "BOOL": np.dtype(np.uint8)
}

NOTHING: Array = np.empty(0)
"""What stands for a tensor that cannot be read."""


class Raw:
    """The bytes behind the JSON of one body, taken tensor by tensor in the order of the JSON.

    begin: where in `body` they start.
    """

    __slots__ = ("_body", "_position", "_readable")

    def __init__(self, body: bytes, begin: int = 0) -> None:
        self._body = body
        self._position = begin
        self._readable = True

    def take(self, spec: TensorSpec, size: Any, shape: tuple[int, ...] | None, faults: list[str]) -> Array:
        """The next tensor, of `size` bytes; read-only, and no copy of numbers that lie where a processor reads them.

        shape: None where it is not known, its fault told already. Each fault is a sentence in `faults`; the array is
        then of no use.
        """
        begin = self.skip(spec.name, size, faults)
        if begin is None or shape is None:
            return NOTHING
        dtype = _DTYPES.get(spec.datatype)
        if dtype is None:
            return _texts(spec, self._body[begin : begin + size], shape, faults)
        fitting = math.prod(shape) * dtype.itemsize
        if size != fitting:
            faults.append(
                f"input {spec.name!r} has binary_data_size {size}; {spec.datatype} {list(shape)} takes {fitting}"
            )
            return NOTHING
        values: Array = np.ndarray(shape, dtype, self._body, begin)
        if spec.datatype == "BOOL":
            if size and values.max() > 1:
                faults.append(f"input {spec.name!r} has a byte {values.max()}; expected 0 or 1 (BOOL)")
            return values.view(np.bool_)
        if _SWAPPED:
            return values.astype(dtype.newbyteorder("="))
        # Kernels may use instructions that stop the process at an address which is no multiple of the value's size.
        return values if values.flags.aligned else values.copy()

    def skip(self, name: Any, size: Any, faults: list[str]) -> int | None:
        """Pass over the next `size` bytes; where they begin, None with a fault where that cannot be."""
        if type(size) is not int or size < 0:
            faults.append(f"input {name!r:.60} has binary_data_size {tensors.seen(size)}; expected a number of bytes")
            self._readable = False  # nobody knows where the next one begins
        if not self._readable:
            return None
        begin, left = self._position, len(self._body) - self._position
        if size > left:
            faults.append(f"input {name!r:.60} has binary_data_size {size}, but {left} bytes are left for it")
            self._readable = False
            return None
        self._position += size
        return begin

    def end(self, faults: list[str]) -> None:
        """Every tensor is taken: nothing may be left."""
        if self._readable and (left := len(self._body) - self._position):
            faults.append(f"{left} bytes follow the last binary tensor; expected none")


def split(body: bytes, header: str) -> tuple[bytes, Raw]:
    """The JSON of a request's body, and what follows it. header: the value of Inference-Header-Content-Length.

    Raises Refusal (400) where it is no length of a JSON in this body.
    """
    # Not int(header) alone, which takes "+5", "1_0" and digits of every script.
    length = int(header) if header.isascii() and header.isdecimal() and len(header) < 20 else -1
    if not 0 < length <= len(body):
        raise Refusal(
            BAD_REQUEST, f"{HEADER} is {header!r:.40}; expected the JSON's length, 1 to the body's {len(body)} bytes"
        )
    return body[:length], Raw(body, length)


def encoded(values: Array) -> bytes:
    """A tensor as it lies in a body."""
    if values.dtype.kind not in "OUS":
        return (values.astype(values.dtype.newbyteorder("<")) if _SWAPPED else values).tobytes()
    parts: list[bytes] = []
    for text in values.reshape(-1).tolist():
        content = text.encode()
        parts += (_LENGTH.pack(len(content)), content)
    return b"".join(parts)


def _texts(spec: TensorSpec, content: bytes, shape: tuple[int, ...], faults: list[str]) -> Array:
    """The elements of a BYTES tensor as an object array of str."""
    count, size = math.prod(shape), len(content)
    values: list[str] = []
    position = broken = 0
    while position < size and len(values) <= count:
        begin = position + _LENGTH.size
        length = _LENGTH.unpack_from(content, position)[0] if begin <= size else 0
        position = begin + length
        if position > size:
            what = f"{length} bytes long" if begin <= size else "without a length of 4 bytes"
            faults.append(f"input {spec.name!r} element {len(values)} is {what}; {max(0, size - begin)} bytes are left")
            return NOTHING
        try:
            values.append(content[begin:position].decode())
        except UnicodeDecodeError as e:
            values.append("")
            broken += 1
            if broken <= MAX_NAMED_VALUES:
                faults.append(f"input {spec.name!r} element {len(values) - 1} is no UTF-8 text: {e.reason}")
    if broken > MAX_NAMED_VALUES:
        faults.append(f"input {spec.name!r}: {broken - MAX_NAMED_VALUES} more elements are no UTF-8 text")
    if len(values) != count:
        found = f"more than {count}" if len(values) > count else str(len(values))
        faults.append(f"input {spec.name!r} has {found} elements; expected {count} for shape {list(shape)}")
        return NOTHING
    return np.array(values, object).reshape(shape)
