"""CloudEvents in every mode, whole and broken, at each door that takes them."""

from __future__ import annotations

import base64
import encodings.aliases
import json
from typing import Any

from hypothesis import strategies as st

from eventing import contract
from tests.fuzz.bodies import MODELS, Draw, changed, damaged, v1_value, v2_value
from tests.fuzz.wire import Headers, Request

DOORS = (
    "/", "/v1/models/flights:predict", "/v2/models/flights/infer", "/v1/models/grid:predict",
    "/v2/models/datatypes/infer", "/v1/models/flights:classify", "/v1/models/nobody:predict",
)  # fmt: skip
TYPES = (contract.PredictionRequested.TYPE, "com.acme.asked", "org.kubeflow.serving.inference.request")
# Values of headers: escapes that are none, halves of texts, times on no calendar, quotes that never close.
VALUES = (
    b"", b" ", b"1.0", b"0.3", b"%", b"%zz", b"%ff%fe", b"%00", b"%0d%0aX-Evil: 1", b'"', b'"half', b'"\\"',
    b"\xff\xfe", b"\xc3\xa9", b"%F0%9F%98%80", b"2013-01-31T17:31:00Z", b"2013-02-31T17:31:00Z",
    b"0000-00-00T00:00:00Z", b"9999-12-31T23:59:59.999999999+23:59", b"0001-01-01T00:00:00+23:59", b"now", b"x" * 3000,
    b"null", b"true", b"2147483648", b"flights", b"nobody", b"\t", b"a,b", b"%ed%a0%80",
)  # fmt: skip
NAMES = (
    "ce-id", "ce-source", "ce-type", "ce-specversion", "ce-subject", "ce-time", "ce-dataschema", "ce-datacontenttype",
    "ce-data", "ce-data_base64", "ce-", "ce-x", "CE-ID", "Ce-Causationid", "ce-traceparent", "ce-a-b", "ce-UPPER",
    "ce-toolong" + "x" * 200, "Prefer", "Headrace-Probe", "traceparent", "Ce-Inferenceservicename", "Ce-Endpoint",
)  # fmt: skip
CHARSETS = (*sorted(set(encodings.aliases.aliases.values())), "utf-8", "nothing", "idna", "punycode", "undefined")
MEDIA_TYPES = (
    "application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "text/json", "text/plain",
    "application/octet-stream", "application/cloudevents+xml", "application/cloudevents", "APPLICATION/JSON",
    "application/json, application/json", "", ";", "application/x+json", "*/*",
)  # fmt: skip


def _data(draw: Draw) -> Any:
    """What an event asks: a V1 or V2 body, or Headrace's own question with one inside."""
    model = draw(st.sampled_from(MODELS))
    body = v1_value(draw, model) if draw(st.booleans()) else v2_value(draw, model)[0]
    return {"model": model, "inputs": body} if draw(st.booleans()) else body


def _attributes(draw: Draw) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "fuzz-1",
        "source": "/fuzz",
        "type": draw(st.sampled_from(TYPES)),
        "subject": draw(st.sampled_from(MODELS)),
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
    }


def _content_type(draw: Draw, usual: str) -> bytes:
    if draw(st.integers(0, 2)):
        return usual.encode()
    charset = draw(st.sampled_from(CHARSETS))
    return draw(st.sampled_from((f"{usual}; charset={charset}", f'{usual};charset="{charset}"', *MEDIA_TYPES))).encode()


@st.composite
def by_headers(draw: Draw) -> Request:
    """The binary mode."""
    attributes = _attributes(draw)
    del attributes["datacontenttype"]
    headers = [(f"ce-{name}", str(value).encode()) for name, value in attributes.items()]
    for _ in range(draw(st.integers(0, 4))):
        kind, at = draw(st.integers(0, 4)), draw(st.integers(0, len(headers)))
        if kind == 0 and at < len(headers):
            del headers[at]
        elif kind == 1:
            headers.insert(at, (draw(st.sampled_from(NAMES)), draw(st.sampled_from(VALUES))))
        elif kind == 2 and at < len(headers):
            headers.append(headers[at])
        elif at < len(headers):
            headers[at] = (headers[at][0], draw(st.sampled_from(VALUES) | _values()))
    headers.append(("Content-Type", _content_type(draw, "application/json")))
    body = draw(damaged(json.dumps(draw(changed(_data(draw)))).encode(), 1))
    return Request("POST", draw(st.sampled_from(DOORS)), tuple(headers), body)


def _values() -> st.SearchStrategy[bytes]:
    """Any bytes that HTTP allows in a header's value."""
    allowed = bytes(n for n in range(32, 256) if n != 127)
    return st.lists(st.sampled_from(allowed), max_size=30).map(lambda some: bytes(some).strip())


def _structured(draw: Draw) -> Any:
    event = _attributes(draw)
    data = _data(draw)
    if draw(st.integers(0, 3)):
        event["data"] = data
    else:
        event["data_base64"] = base64.b64encode(json.dumps(data).encode()).decode()
    return draw(changed(event))


def _extended(draw: Draw) -> Headers:
    """A header or two of the binary mode, beside the other modes."""
    if draw(st.integers(0, 4)):
        return ()
    return ((draw(st.sampled_from(NAMES)), draw(st.sampled_from(VALUES))),)


@st.composite
def in_json(draw: Draw) -> Request:
    """The structured mode."""
    body = draw(damaged(json.dumps(_structured(draw)).encode(), 1))
    headers = (("Content-Type", _content_type(draw, "application/cloudevents+json")), *_extended(draw))
    return Request("POST", draw(st.sampled_from(DOORS)), headers, body)


@st.composite
def in_batches(draw: Draw) -> Request:
    """The batched mode."""
    batch: Any = [_structured(draw) for _ in range(draw(st.integers(0, 3)))]
    if not draw(st.integers(0, 4)):
        batch = draw(changed(batch))
    body = draw(damaged(json.dumps(batch).encode(), 1))
    headers = (("Content-Type", _content_type(draw, "application/cloudevents-batch+json")), *_extended(draw))
    return Request("POST", draw(st.sampled_from(DOORS)), headers, body)
