"""CloudEvents on HTTP: headers and bytes to events and back, in the binary, structured and batched modes. Pure.

Called by the sender and the receiver, and by whoever keeps an event as a file. It closes the SDK's open edges once:
data declared JSON must be JSON, a bad `time` is a fault and no ValueError, a missing attribute is named and never made
up, and every fault is told at once.

Source: cloudevents/spec v1.0.2, bindings/http-protocol-binding.md and formats/json-format.md; edges seen in sdk 2.2.0.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote, unquote_to_bytes

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing.errors import Rejected

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
REQUIRED = ("specversion", "id", "source", "type")
TEXTS = ("id", "source", "type", "subject", "dataschema", "datacontenttype")
MAX_FAULTS = 20  # told of one message; the rest is counted
MAX_INTEGER = 2**31  # the type system's Integer is 32 bits, signed

_PREFIX = "ce-"
_NAME = re.compile(r"[a-z0-9]+")
_JSON = re.compile(r"(?:application|text)/(?:[a-z0-9.\-]+\+)?json")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")
# All printable ASCII but space, double quote and percent stays as it is (section 3.1.3.2).
_SAFE = "".join(c for c in map(chr, range(0x21, 0x7F)) if c not in '"%')


@dataclass(frozen=True, slots=True)
class HTTPMessage:
    """What any client or framework can send. The SDK has the same; to import it costs a start 18 ms (dateutil)."""

    headers: dict[str, str]
    body: bytes


class NotAnEvent(Rejected):
    """The request holds no CloudEvent in any of the modes."""


class UnknownFormat(NotAnEvent):
    """The request says that it holds a CloudEvent, in a format that is not JSON."""


def receive(headers: Mapping[str, str], body: bytes, *, parse_data: bool = True) -> tuple[CloudEvent, ...]:
    """The events of an HTTP message: one, or as many as its batch holds.

    headers: names in any case. parse_data: whether data declared JSON becomes a JSON value, and is refused where it is
    none; without it data stays the bytes that came, for whoever must keep an event that is broken. An event without a
    time has none here either. Raises Rejected with every fault, NotAnEvent for a message of another kind.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    declared = lower.get("content-type", "")
    media_type = _media_type(declared)
    if media_type.startswith("application/cloudevents"):
        if media_type == BATCHED:
            return _read_batch(_json(body, "the batch"), parse_data)
        if media_type == STRUCTURED:
            return (_read_structured(_json(body, "the event"), "", parse_data),)
        raise UnknownFormat(f"the format {declared!r} is not known here; expected {STRUCTURED} or {BATCHED}")
    if not any(name.startswith(_PREFIX) for name in lower):
        raise NotAnEvent(
            f"no CloudEvent: content-type is {declared!r} and there are no ce- headers; "
            f"expected ce-specversion, ce-id, ce-source and ce-type, or content-type {STRUCTURED}"
        )
    return (_read_binary(lower, body, parse_data),)


def mode(headers: Mapping[str, str]) -> str:
    """The media type of the mode that a message came in: STRUCTURED, BATCHED, or "" for binary."""
    declared = next((v for k, v in headers.items() if k.lower() == "content-type"), "")
    media_type = _media_type(declared)
    return media_type if media_type in (STRUCTURED, BATCHED) else ""


def to_binary(event: CloudEvent) -> HTTPMessage:
    """The event with its attributes as headers and its data as the body."""
    headers: dict[str, str] = {}
    for name, value in event.get_attributes().items():
        if name == "datacontenttype":
            headers["content-type"] = str(value)
        elif value is not None:
            headers[_PREFIX + name] = quote(_canonical(value), safe=_SAFE)
    data = event.get_data()
    if data is None:
        return HTTPMessage(headers, b"")
    if isinstance(data, bytes):
        return HTTPMessage(headers, data)
    if isinstance(data, str) and not is_json(event.get_datacontenttype()):
        return HTTPMessage(headers, data.encode())
    headers.setdefault("content-type", "application/json")
    return HTTPMessage(headers, orjson.dumps(data))


def to_json(event: CloudEvent) -> dict[str, Any]:
    """The event as the object of the JSON format: attributes, and `data` or `data_base64`."""
    attributes = event.get_attributes().items()
    value = {k: _canonical(v) if isinstance(v, datetime) else v for k, v in attributes if v is not None}
    data = event.get_data()
    if isinstance(data, bytes):
        value["data_base64"] = base64.b64encode(data).decode()
    elif data is not None:
        value["data"] = data
    return value


def from_json(value: Any) -> CloudEvent:
    """The event of one JSON object, as `to_json` makes it. Raises Rejected with every fault."""
    return _read_structured(value, "", parse_data=True)


def to_structured(event: CloudEvent) -> HTTPMessage:
    """The whole event as one JSON object."""
    return HTTPMessage({"content-type": STRUCTURED}, orjson.dumps(to_json(event)))


def to_batch(events: Iterable[CloudEvent]) -> HTTPMessage:
    """All events as one JSON list."""
    return HTTPMessage({"content-type": BATCHED}, orjson.dumps([to_json(e) for e in events]))


def _read_binary(headers: Mapping[str, str], body: bytes, parse_data: bool) -> CloudEvent:
    faults: list[str] = []
    attributes: dict[str, Any] = {}
    for header, value in headers.items():
        if header.startswith(_PREFIX):
            try:
                attributes[header[len(_PREFIX) :]] = _decode_header(value)
            except UnicodeError:  # raw bytes that are no UTF-8 come as lone surrogates
                faults.append(f"header {header} is {value!r:.80}; expected percent-encoded UTF-8")
    # The body's own header is the truth; a proxy may have added ce-datacontenttype beside it.
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    for reserved in ("data", "data_base64"):
        if attributes.pop(reserved, None) is not None:
            faults.append(f"header {_PREFIX}{reserved} is not allowed; expected the data as the body")
    data: Any = body or None
    if data is not None and parse_data:
        data = _read_data(body, attributes.get("datacontenttype"), faults)
    return _build(attributes, data, "", faults)


def _read_structured(value: Any, where: str, parse_data: bool) -> CloudEvent:
    if not isinstance(value, dict):
        raise Rejected(f"{where or 'the event'} is {value!r:.60}; expected a JSON object")
    faults: list[str] = []
    # null says "not set", as leaving it out does (JSON format, section 2.2).
    attributes = {k: v for k, v in value.items() if v is not None}
    data, encoded = attributes.pop("data", None), attributes.pop("data_base64", None)
    if encoded is not None:
        if data is not None:
            faults.append("both data and data_base64 are there; expected one of them")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, TypeError, ValueError):
            faults.append(f"data_base64 is {encoded!r:.40}; expected base64 text")
        declared = attributes.get("datacontenttype")
        if parse_data and isinstance(data, bytes) and isinstance(declared, str):
            data = _read_data(data, declared, faults)
    return _build(attributes, data, where, faults)


def _read_batch(values: Any, parse_data: bool) -> tuple[CloudEvent, ...]:
    if not isinstance(values, list):
        raise Rejected(f"the batch is {values!r:.60}; expected a JSON list of events")
    events: list[CloudEvent] = []
    faults: list[str] = []
    for i, value in enumerate(values):
        try:
            events.append(_read_structured(value, f"event [{i}]", parse_data))
        except Rejected as e:
            faults.append(str(e))
    if faults:
        raise Rejected("the batch holds broken events; none was handled", _cut(faults))
    return tuple(events)


def _build(attributes: dict[str, Any], data: Any, where: str, faults: list[str]) -> CloudEvent:
    """The event, once nothing is wrong with it. where: how a fault names the event."""
    for name in REQUIRED:
        if attributes.get(name) in (None, ""):
            faults.append(f"{name} is missing (header {_PREFIX}{name} in the binary mode)")
    if attributes.get("specversion") not in (None, "", "1.0"):
        faults.append(f"specversion is {attributes['specversion']!r:.40}; expected '1.0'")
    for name, value in attributes.items():
        if name in TEXTS:
            if not isinstance(value, str) or (not value and name not in REQUIRED):
                faults.append(f"{name} is {value!r:.60}; expected a text that is not empty")
        elif name not in ("specversion", "time"):
            _check_extension(name, value, faults)
    if "time" in attributes:
        attributes["time"] = _time(attributes["time"], faults)
    if faults:
        name = where or f"event {attributes.get('id', '')!s:.80}".rstrip()
        raise Rejected(f"{name} is no valid CloudEvent", _cut(faults))
    timed = "time" in attributes
    event = CloudEvent(attributes, cast("dict[str, Any] | str | bytes | None", data))
    if not timed:
        # The SDK writes the present into an event without a time: a redelivery would then be another event.
        del event.get_attributes()["time"]
    return event


def _cut(faults: list[str]) -> list[str]:
    """As many as mend a sender: a batch of thousands of numbers is as many faults, and one mistake."""
    if len(faults) <= MAX_FAULTS:
        return faults
    return [*faults[:MAX_FAULTS], f"and {len(faults) - MAX_FAULTS} more"]


def _check_extension(name: str, value: object, faults: list[str]) -> None:
    if not _NAME.fullmatch(name) or name == "data":
        faults.append(f"attribute {name!r:.60} has a name that is not allowed; expected lower-case letters and digits")
    if isinstance(value, int) and not isinstance(value, bool) and not -MAX_INTEGER <= value < MAX_INTEGER:
        faults.append(f"{name} is {value}; expected a whole number of 32 bits")
    if not isinstance(value, str | int):
        faults.append(f"{name} is {value!r:.60}; expected a text, a whole number, or true or false")


def _time(value: object, faults: list[str]) -> datetime | None:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            found = datetime.fromisoformat(value.upper())
            found.astimezone(UTC)  # as it is written again: of the first and last day not every hour can be
            return found
        except (ValueError, OverflowError):
            pass  # well written, and still no day in any calendar: told below with the rest
    faults.append(f"time is {value!r:.60}; expected RFC 3339, such as 2013-01-31T17:31:00Z")
    return None


def _read_data(body: bytes, declared: str | None, faults: list[str]) -> Any:
    """The data as its content type says; undeclared data is JSON where it can be, else text, else bytes."""
    if is_json(declared) or not declared:
        charset = re.search(r"charset=\"?([\w\-]+)", declared or "", re.IGNORECASE)
        try:
            if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
                return orjson.loads(body.decode(charset[1]))
            return orjson.loads(body)
        except (ValueError, LookupError) as e:
            if declared:
                faults.append(f"data is declared {declared} and is not JSON: {e}")
                return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _json(body: bytes, what: str) -> Any:
    try:
        return orjson.loads(body)
    except ValueError as e:
        raise Rejected(f"{what} is not JSON: {e}") from e


def _media_type(declared: str) -> str:
    """`application/json; charset=utf-8, application/json` is `application/json`: proxies do join repeated headers."""
    return re.split("[;,]", declared, maxsplit=1)[0].strip().lower()


def is_json(declared: str | None) -> bool:
    return bool(declared and _JSON.fullmatch(_media_type(declared)))


def _decode_header(value: str) -> str:
    """A header's value, out of its quotes and its percent-encoding (section 3.1.3.2)."""
    value = value.strip()
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote_to_bytes(value).decode()


def _canonical(value: Any) -> str:
    """An attribute's text as the CloudEvents type system writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        whole, point, fraction = value.astimezone(UTC).isoformat().removesuffix("+00:00").partition(".")
        return f"{whole}{point}{fraction.rstrip('0')}Z"  # as Go writes it, so that a time looks the same after any hop
    return str(value)
