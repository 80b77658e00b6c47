"""Ask a served model over HTTP, with rows as people have them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import urllib3

from eventing.errors import HeadraceError, Misconfigured, Rejected
from headrace.place import Place

ANSWER_S = 120.0  # from zero: a process, its imports, a model from the store
CHUNK = 1000  # rows a request; a request of any size has to fit into memory on both sides

Row = dict[str, Any] | list[Any]


def read_rows(where: str) -> list[Row]:
    """Rows of a CSV with a header, a JSON list, a V1 body, or JSON lines. '-': stdin.

    Raises Rejected when it is none of these.
    """
    try:
        text = sys.stdin.read() if where == "-" else Path(where).read_text(encoding="utf-8-sig")
    except OSError as e:
        raise Misconfigured("--rows", where, f"a file that can be read ({e.strerror})") from e
    except UnicodeDecodeError as e:
        raise Rejected(f"{where} is not UTF-8 text: {e}") from e
    stripped = text.lstrip()
    if not stripped:
        raise Rejected(f"{where} holds no rows; expected CSV with a header, a JSON list, or JSON lines")
    if stripped[0] not in "[{":
        return [_numbers(r) for r in csv.DictReader(text.splitlines())]
    try:
        value = json.loads(text)
    except ValueError:
        value = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(value, dict):
        value = value["instances"] if isinstance(value.get("instances"), list) else [value]
    return list(value)


def predict(place: Place, model: str, rows: list[Row]) -> list[dict[str, Any]]:
    """One answer per row, in their order: the model's outputs by name. Raises HeadraceError with the server's words."""
    url = f"{place.url(model)}/v1/models/{model}:predict"
    answers: list[dict[str, Any]] = []
    for begin in range(0, len(rows), CHUNK):
        body = json.dumps({"instances": rows[begin : begin + CHUNK]}).encode()
        for prediction in _ask(place, url, body)["predictions"]:
            answers.append(prediction if isinstance(prediction, dict) else {"prediction": prediction})
    return answers


def columns_only(rows: list[Row], inputs: Collection[str]) -> tuple[list[Row], list[str]]:
    """The rows without the columns that are no inputs, and which those were: examples hold the answer too."""
    others = sorted({name for row in rows if isinstance(row, dict) for name in row} - set(inputs))
    kept = [{k: v for k, v in row.items() if k in inputs} if isinstance(row, dict) else row for row in rows]
    return kept, others


def inputs(place: Place, model: str) -> tuple[str, ...]:
    """The names of the inputs, as the model that serves tells them: who asks it need not reach the store."""
    told = _ask(place, f"{place.url(model)}/v2/models/{model}")
    return tuple(str(spec["name"]) for spec in told.get("inputs") or ())


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


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """A CSV's cells: numbers as numbers, gaps as null, the rest as text. The predictor knows which column is which."""
    return {k: _cell(v) for k, v in row.items() if k}


def _cell(text: str | None) -> Any:
    if text is None or text.strip() in ("", "NA", "NaN", "nan", "null"):
        return None
    try:
        return float(text)
    except ValueError:
        return text
