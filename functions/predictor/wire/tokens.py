"""NaN, Infinity and -Infinity as bare tokens in JSON: as TensorFlow Serving writes them, and RFC 8259 does not.

Used where a V1 request is answered in kind. Who writes a bare NaN can read one; KServe's client, JavaScript and whoever
keeps to the RFC cannot, and gets null.
Source: tensorflow.org/tfx/serving/api_rest, "JSON conformance"; tensorflow_serving/util/json_tensor.cc, `WriteDecimal`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson


def stand_in(body: bytes) -> bool:
    """Whether a body that `answers.parse` took holds such tokens: then it is no JSON by the RFC."""
    try:
        orjson.loads(body)
    except ValueError:
        return True
    return False


def dumps(value: Any) -> bytes:
    """JSON with the tokens; arrays as lists, their floats by their own digits, as orjson writes them."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
        return [_plain(part) for part in value]
    # float32's 0.1 is a longer number as Python's float; its text is short.
    return float(str(value)) if hasattr(value, "dtype") else value
