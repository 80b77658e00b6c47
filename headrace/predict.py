"""Ask a served model over HTTP."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import Any

import urllib3

from eventing.errors import HeadraceError
from headrace.place import Place

ANSWER_S = 120.0  # from zero: a process, its imports, a model from the store
CHUNK = 1000  # rows a request; a request of any size has to fit into memory on both sides

Row = dict[str, Any] | list[Any]


def predict(place: Place, model: str, rows: list[Row]) -> list[dict[str, Any]]:
    """One answer per row, in their order: the model's outputs by name. Raises HeadraceError with the server's words."""
    url = f"{place.url(model)}/v1/models/{model}:predict"
    answers: list[dict[str, Any]] = []
    for begin in range(0, len(rows), CHUNK):
        body = json.dumps({"instances": rows[begin : begin + CHUNK]}).encode()
        try:
            predictions = _ask(place, url, body)["predictions"]
        except HeadraceError as e:
            if not re.search(r"\brows? \d", str(e)):
                raise
            raise HeadraceError(f"{e} (its row 0 is row {begin + 1} of what was asked)") from e
        for prediction in predictions:
            answers.append(prediction if isinstance(prediction, dict) else {"prediction": prediction})
    return answers


def inputs(place: Place, model: str) -> dict[str, str]:
    """The inputs' datatypes by name, as the model that serves tells them: who asks it need not reach the store.

    Raises HeadraceError for what answers there and is no model.
    """
    url = f"{place.url(model)}/v2/models/{model}"
    told = _ask(place, url)
    try:
        return {str(spec["name"]): str(spec["datatype"]) for spec in told["inputs"]}
    except (KeyError, TypeError) as e:
        raise HeadraceError(f"{url} does not tell the inputs of a model; it said {json.dumps(told):.200}") from e


def _ask(place: Place, url: str, body: bytes | None = None) -> dict[str, Any]:
    method, headers = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
    with closing(place.reach.open(url, method, headers, body, read_s=ANSWER_S)) as answer:
        try:
            said = answer.data
        except urllib3.exceptions.HTTPError as e:
            raise HeadraceError(f"{url}: the answer broke off: {e}") from e
    try:
        told = json.loads(said)
        if answer.status < 300:
            return dict(told)
        reason = told["error"]
    except (ValueError, KeyError, TypeError):
        reason = said[:300].decode(errors="replace")
    raise HeadraceError(f"{url} answered {answer.status}: {reason}")
