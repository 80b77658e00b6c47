"""Requests that schemathesis makes of the OpenAPI document that the predictor serves: those that fit it, and others.

Answers are compared with the document by jsonschema: schemathesis 4.32 rewrites `prefixItems` to what older drafts
call `items`, and then refuses it as no schema of OpenAPI 3.1.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from tests.fuzz import judge
from tests.fuzz.wire import HANG_S, Answer, Request

DOCUMENT = "/openapi.json"


class Documented:
    """The document of the predictor at `url`, and what answers to its cases must be."""

    def __init__(self, url: str) -> None:
        self._session = requests.Session()
        self._schema = schemathesis.openapi.from_url(url + DOCUMENT)
        self._document: Mapping[str, Any] = self._session.get(url + DOCUMENT, timeout=HANG_S).json()

    def strategies(self) -> Sequence[st.SearchStrategy[Any]]:
        """For each operation cases that fit it, and of those with a body cases that do not."""
        found: list[st.SearchStrategy[Any]] = []
        for result in self._schema.get_all_operations():
            operation = result.ok()
            found.append(operation.as_strategy(GenerationMode.POSITIVE))
            if operation.body:
                found.append(operation.as_strategy(GenerationMode.NEGATIVE))
        return found

    def ask(self, case: Any) -> str:
        """The status of the answer. Raises AssertionError where it is another than the document says.

        Not whether what does not fit is refused: a number is taken for a text, and a schema says nothing of lengths.
        """
        told = case.call(session=self._session, timeout=HANG_S)
        headers = {name.lower(): ", ".join(values) for name, values in told.headers.items()}
        fault = judge.fault(Request(case.method, case.path), Answer(told.status_code, headers, told.content, 0.0))
        assert fault is None, f"{fault}: {told.content[:300]!r}"
        status, kind = str(told.status_code), headers.get("content-type", "")
        if case.operation.method.upper() == case.method.upper():
            validator = self._validator(case.operation.path, case.method.lower(), status, kind)
            for error in validator.iter_errors(json.loads(told.content)):
                raise AssertionError(f"{status} is not as documented: {error.json_path}: {error.message[:500]}")
        return status

    def close(self) -> None:
        self._session.close()

    @functools.cache  # noqa: B019 - lives as long as the campaign
    def _validator(self, path: str, method: str, status: str, kind: str) -> Any:
        """Of the answers with one status. Raises AssertionError where the document has none such."""
        responses = self._document["paths"][path][method]["responses"]
        assert status in responses, f"{method} {path} answers {status}; documented are {', '.join(responses)}"
        response = responses[status]
        if "$ref" in response:
            response = self._document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        content = response["content"]
        assert kind in content, f"{method} {path} {status} is {kind!r}; documented are {', '.join(content)}"
        return Draft202012Validator({**content[kind]["schema"], "components": self._document["components"]})
