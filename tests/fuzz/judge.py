"""What an answer to anything may be: the promise that every malformed request is judged by. Pure."""

from __future__ import annotations

import json
from typing import Any

from tests.fuzz.wire import Answer, Request

MAX_ERROR_BYTES = 64 * 1024  # an error is read by a person


def fault(request: Request, answer: Answer) -> str | None:
    """What is wrong with the answer; None for nothing.

    501 is honest: what was asked for is not done here. 503 is not: nothing else is asked meanwhile, every model is
    ready. A request that is no HTTP may be refused without a word.
    """
    status = answer.status
    if status >= 500 and status != 501:
        return f"status {status}"
    if status >= 400:
        if request.method == "HEAD" or (request.malformed and not answer.body):
            return None
        return _error_fault(answer)
    if status == 200 and request.method != "HEAD":
        return _success_fault(answer)
    return None


def _error_fault(answer: Answer) -> str | None:
    kind = answer.headers.get("content-type", "none")
    if kind != "application/json":
        return f"an error of content type {kind}"
    if len(answer.body) > MAX_ERROR_BYTES:
        return f"an error of {len(answer.body)} bytes"
    told = _strict(answer.body)
    if not isinstance(told, dict) or not isinstance(told.get("error"), str) or not told["error"]:
        return "an error without the key error"
    return None


def _success_fault(answer: Answer) -> str | None:
    if answer.headers.get("content-encoding"):
        return None  # nobody here asks for it but those that look at it themselves
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/octet-stream"):
        length = int(answer.headers.get("inference-header-content-length", "-1"))
        if not 0 < length <= len(answer.body):
            return f"a header length of {length} in {len(answer.body)} bytes"
        outputs = json.loads(answer.body[:length])["outputs"]
        raw = sum(output.get("parameters", {}).get("binary_data_size", 0) for output in outputs)
        return None if length + raw == len(answer.body) else f"{raw} bytes told, {len(answer.body) - length} there"
    if "json" in kind:
        try:
            json.loads(answer.body)  # V1 answers NaN in kind
        except ValueError as e:
            return f"an answer that is no JSON: {e}"
    return None


def _strict(body: bytes) -> Any:
    """JSON by the RFC; None for what is none."""

    def token(name: str) -> Any:
        raise ValueError(name)

    try:
        return json.loads(body.decode(), parse_constant=token)
    except ValueError:
        return None
