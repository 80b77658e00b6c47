"""functions.predictor.wire.bodies: what a body may weigh, and what it may be packed in."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.predictor.answers import Answer, Refusal
from functions.predictor.wire.bodies import MAX_ENCODINGS, MAX_MEMBERS, Bodies

LIMIT = 10_000
BODIES = Bodies(LIMIT)
TEXT = b'{"inputs": []}' * 100


def _bare(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


def _read(body: bytes, encoding: str | None = None) -> bytes:
    environ: dict[str, Any] = {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    return BODIES.read(environ if encoding is None else environ | {"HTTP_CONTENT_ENCODING": encoding})


def _refused(body: bytes, encoding: str | None = None) -> tuple[int, str]:
    with pytest.raises(Refusal) as refusal:
        _read(body, encoding)
    return refusal.value.status, str(refusal.value)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (None, TEXT),
        ("identity", TEXT),
        ("", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        (" GZip ", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", _bare(TEXT)),
        ("gzip, deflate", zlib.compress(gzip.compress(TEXT))),
        ("deflate, identity, gzip", gzip.compress(zlib.compress(TEXT))),
    ],
    ids=str,
)
def test_a_body_is_read_in_every_encoding_that_it_may_have(encoding: str | None, body: bytes) -> None:
    assert _read(body, encoding) == TEXT


def test_a_body_that_ends_before_its_length_is_refused() -> None:
    """As the web server gives it when the client has gone: what came may be whole JSON, and is not what was sent."""
    with pytest.raises(Refusal, match=r"ended after 14 of 20 bytes") as refusal:
        BODIES.read({"CONTENT_LENGTH": "20", "wsgi.input": io.BytesIO(b'{"inputs": []}')})
    assert refusal.value.status == 400


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "gzip;q=1"])
def test_another_encoding_is_415_and_says_which_are_taken(encoding: str) -> None:
    status, reason = _refused(TEXT, encoding)
    assert status == 415
    assert "expected gzip, deflate or none" in reason


def test_more_encodings_than_anybody_needs_are_415() -> None:
    status, reason = _refused(TEXT, ", ".join(["gzip"] * (MAX_ENCODINGS + 1)))
    assert (status, f"at most {MAX_ENCODINGS}" in reason) == (415, True)


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("gzip", gzip.compress(TEXT)[:-1], "ends before its end"),
        ("gzip", gzip.compress(TEXT)[:5], "ends before its end"),
        ("gzip", b"", "ends before its end"),
        ("deflate", b"", "ends before its end"),
        ("deflate", zlib.compress(TEXT)[:-4], "ends before its end"),
        ("gzip", TEXT, "is no gzip stream"),
        ("deflate", TEXT, "is no deflate stream"),
        ("gzip", zlib.compress(TEXT), "is no gzip stream"),
        ("gzip", gzip.compress(TEXT)[:-8] + bytes(8), "incorrect data check"),
        ("deflate", zlib.compress(TEXT)[:-4] + bytes(4), "incorrect data check"),
        ("gzip", gzip.compress(TEXT) + b"{}", "is no gzip stream"),
        ("deflate", zlib.compress(TEXT) + b"{}", "2 bytes follow the end"),
        ("gzip", gzip.compress(b"") * (MAX_MEMBERS + 1), f"more than {MAX_MEMBERS} members"),
    ],
    ids=str,
)
def test_a_broken_stream_is_400_and_says_how(encoding: str, body: bytes, said: str) -> None:
    status, reason = _refused(body, encoding)
    assert status == 400
    assert said in reason


def test_the_limit_holds_for_the_body_as_sent_and_as_it_is_meant() -> None:
    assert len(_read(bytes(LIMIT))) == len(_read(gzip.compress(bytes(LIMIT)), "gzip")) == LIMIT
    for body, encoding in (
        (bytes(LIMIT + 1), None),
        (gzip.compress(bytes(LIMIT + 1)), "gzip"),
        (zlib.compress(bytes(LIMIT + 1)), "deflate"),
        (_bare(bytes(LIMIT + 1)), "deflate"),
        (gzip.compress(bytes(LIMIT)) + gzip.compress(b"1"), "gzip"),
        (gzip.compress(gzip.compress(bytes(10 * LIMIT))), "gzip, gzip"),
    ):
        status, reason = _refused(body, encoding)
        assert status == 413
        assert str(LIMIT) in reason


def test_a_bomb_is_stopped_while_it_is_inflated() -> None:
    """100 MB of zeros in 100 kB: never more of them in memory than a few times the limit."""
    bomb = gzip.compress(bytes(100_000_000), 9)
    bodies = Bodies(1_000_000)
    assert len(bomb) < bodies.max_bytes
    environ = {"CONTENT_LENGTH": str(len(bomb)), "HTTP_CONTENT_ENCODING": "gzip", "wsgi.input": io.BytesIO(bomb)}
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="1000000 bytes"):
            bodies.read(environ)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * bodies.max_bytes


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "gzip, deflate"]))
def test_any_bytes_are_a_body_or_400(body: bytes, encoding: str) -> None:
    try:
        _read(body, encoding)
    except Refusal as refusal:
        assert refusal.status == 400


def _answered(accept: str | None, body: bytes = TEXT) -> tuple[bytes, dict[str, str]]:
    answer = BODIES.encode(Answer(200, body, headers=(("X", "y"),)), {} if accept is None else _accepting(accept))
    assert (answer.status, answer.headers[0]) == (200, ("X", "y"))
    return answer.body, dict(answer.headers)


def _accepting(accept: str) -> dict[str, str]:
    return {"HTTP_ACCEPT_ENCODING": accept}


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip; q=0.5 , deflate ;q=0.4, br", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=0.1", "gzip"),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        (None, None),
        ("", None),
        ("identity", None),
        ("br, zstd", None),
        ("gzip;q=0", None),
        ("gzip;q=0, deflate;q=0.000", None),
        ("*;q=0", None),
        ("gzip;q=0.5, identity;q=0.9", None),
        ("gzip;q=lots", None),
        (";;=,,q=1", None),
    ],
)
def test_an_answer_is_packed_as_the_client_likes_it_best(accept: str | None, encoding: str | None) -> None:
    body, headers = _answered(accept)
    assert headers.get("Content-Encoding") == encoding
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[encoding]
    assert unpack(body) == TEXT
    assert ("Vary" in headers) == (accept is not None)


def test_an_answer_of_one_packet_is_not_packed() -> None:
    body, headers = _answered("gzip", b"x" * 1000)
    assert (body, headers) == (b"x" * 1000, {"X": "y"})
