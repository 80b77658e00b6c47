"""Whatever comes, the predictor answers it, at once, in its clients' words, and is the same afterwards.

A few thousand cases of `tests.fuzz`, which asks a hundred thousand and more; what they found is beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz import judge, target
from tests.fuzz.campaign import FAMILIES, Cases
from tests.fuzz.wire import Answer, Request

SEED = 11
CASES = 300  # of each family
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[target.Target]:
    with target.running(tmp_path_factory.mktemp("http")) as running:
        yield running
        assert running.tracebacks() == []


@pytest.fixture(scope="module")
def grpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[target.Target]:
    with target.running(tmp_path_factory.mktemp("grpc"), "functions.predictor.grpc_server") as running:
        yield running
        assert running.tracebacks() == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_malformed_input_is_refused_in_words_and_harms_nothing(
    family: object, http: target.Target, grpc: target.Target
) -> None:
    assert isinstance(family, type(FAMILIES[0]))
    asked = http if family.over == "http" else grpc
    with Cases(family, asked) as cases:
        cases.batch(SEED, 0, CASES // 3 if family.name == "openapi" else CASES)
    assert cases.result.faults == []
    assert len(cases.result.counts) > 1, "every case had the same answer: they are hardly malformed"
    if family.over == "http":
        asked.check()


@pytest.mark.parametrize(
    ("method", "status", "headers", "body", "fault"),
    [
        ("POST", 400, JSON, b'{"error": "why"}', None),
        ("POST", 501, JSON, b'{"error": "why"}', None),
        ("HEAD", 404, {}, b"", None),
        ("POST", 500, JSON, b'{"error": "why"}', "status 500"),
        ("POST", 503, JSON, b'{"error": "why"}', "status 503"),
        ("POST", 400, {"content-type": "text/html"}, b"<h1>why</h1>", "an error of content type text/html"),
        ("POST", 400, JSON, b'{"error": NaN}', "an error without the key error"),
        ("POST", 400, JSON, b'["error"]', "an error without the key error"),
        ("POST", 400, JSON, b'{"error": "%s"}' % (b"x" * 100_000), "an error of 100013 bytes"),
        ("POST", 200, JSON, b"{", "an answer that is no JSON: "),
        (
            "POST",
            200,
            {"content-type": "application/octet-stream", "inference-header-content-length": "53"},
            b'{"outputs":[{"parameters":{"binary_data_size":4}}]}  abc',
            "4 bytes told, 3 there",
        ),
    ],
)
def test_the_judge_lets_nothing_pass_that_no_answer_may_be(
    method: str, status: int, headers: dict[str, str], body: bytes, fault: str | None
) -> None:
    found = judge.fault(Request(method, "/"), Answer(status, headers, body, 0.0))
    assert found == fault or (fault is not None and found is not None and found.startswith(fault))
