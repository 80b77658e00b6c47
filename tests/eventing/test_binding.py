"""Bytes to events and back, in the three modes, with every edge closed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from eventing import binding
from eventing.errors import Rejected

WHOLE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
OBJECT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def structured(**changes: Any) -> tuple[dict[str, str], bytes]:
    value = {k: v for k, v in (OBJECT | changes).items() if v is not ...}
    return {"Content-Type": "application/cloudevents+json; charset=utf-8"}, json.dumps(value).encode()


def refused(headers: dict[str, str], body: bytes) -> Rejected:
    with pytest.raises(Rejected) as seen:
        binding.receive(headers, body)
    return seen.value


def test_a_binary_message_is_read_whatever_the_case_of_its_headers() -> None:
    headers = {
        "CE-Id": "1",
        "Ce-SpecVersion": "1.0",
        "ce-SOURCE": "/s",
        "CE-TYPE": "t",
        "Content-TYPE": "application/json",
    }
    (event,) = binding.receive(headers, b'{"a": 1}')
    assert (event.get_id(), event.get_source(), event.get_data()) == ("1", "/s", {"a": 1})


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ("Euro%20%E2%82%AC", "Euro €"),
        ('"quoted \\" text"', 'quoted " text'),
        ("100%25", "100%"),
        ("a/b?c=1", "a/b?c=1"),
    ],
)
def test_headers_come_out_of_quotes_and_percent_encoding(header: str, read: str) -> None:
    (event,) = binding.receive({**WHOLE, "ce-subject": header}, b"")
    assert event.get_subject() == read


def test_a_header_that_is_no_percent_encoded_utf8_is_a_fault() -> None:
    assert "ce-subject" in str(refused({**WHOLE, "ce-subject": "%FF"}, b""))


def test_every_missing_attribute_is_named_and_none_is_made_up() -> None:
    faults = refused({"ce-subject": "x"}, b"").faults
    assert [f.split()[0] for f in faults] == ["specversion", "id", "source", "type"]
    faults = refused(*structured(id=..., type=None, source="")).faults
    assert [f.split()[0] for f in faults] == ["id", "source", "type"]


def test_an_event_without_a_time_has_none_here_either() -> None:
    (event,) = binding.receive(WHOLE, b"")
    assert event.get_time() is None
    assert "ce-time" not in binding.to_binary(event).headers


NO_TIMES = ["yesterday", "2013-02-30T00:00:00Z", "2013-01-31T17:31:00", "20130131", "", 5]
OUTSIDE_UTC = ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"]  # a time there, and none in UTC


@pytest.mark.parametrize("time", [*NO_TIMES, *OUTSIDE_UTC])
def test_a_bad_time_is_rejected_and_no_value_error(time: object) -> None:
    assert any(f.startswith("time is") for f in refused(*structured(time=time)).faults)
    if isinstance(time, str):
        assert any(f.startswith("time is") for f in refused({**WHOLE, "ce-time": time}, b"").faults)


@pytest.mark.parametrize("time", ["2013-01-31T17:31:00Z", "2013-01-31t17:31:00.123456789+01:00"])
def test_a_time_of_another_language_is_understood(time: str) -> None:
    (event,) = binding.receive({**WHOLE, "ce-time": time}, b"")
    seen = event.get_time()
    assert isinstance(seen, datetime) and seen.tzinfo is not None


@pytest.mark.parametrize("version", ["0.3", "1.1", "one"])
def test_an_unknown_specversion_is_rejected(version: str) -> None:
    assert "specversion" in refused({**WHOLE, "ce-specversion": version}, b"").faults[0]
    assert "specversion" in refused(*structured(specversion=version)).faults[0]


@pytest.mark.parametrize(
    "declared", ["application/json", "application/json; charset=UTF-8", "text/x+json", "Application/JSON"]
)
def test_data_declared_json_that_does_not_parse_is_rejected(declared: str) -> None:
    assert "is not JSON" in str(refused({**WHOLE, "content-type": declared}, b"{broken"))


def test_data_that_declares_nothing_is_json_where_it_can_be() -> None:
    assert binding.receive(WHOLE, b'{"a": 1}')[0].get_data() == {"a": 1}
    assert binding.receive(WHOLE, b"hello")[0].get_data() == "hello"
    assert binding.receive(WHOLE, b"\xff\xfe")[0].get_data() == b"\xff\xfe"


@pytest.mark.parametrize(
    "declared", ["application/json, application/json", "application/json; charset=utf-8, application/json"]
)
def test_a_content_type_that_a_proxy_repeated_still_says_json(declared: str) -> None:
    assert binding.receive({**WHOLE, "content-type": declared}, b'{"a": 1}')[0].get_data() == {"a": 1}


def test_a_charset_is_obeyed() -> None:
    body = '{"a": "é"}'.encode("latin-1")
    (event,) = binding.receive({**WHOLE, "content-type": "application/json; charset=iso-8859-1"}, body)
    assert event.get_data() == {"a": "é"}
    assert "not JSON" in str(refused({**WHOLE, "content-type": "application/json; charset=klingon"}, body))


def test_broken_data_can_be_kept_as_the_bytes_that_came() -> None:
    (event,) = binding.receive({**WHOLE, "content-type": "application/json"}, b"{broken", parse_data=False)
    assert event.get_data() == b"{broken"


def test_base64_data_is_decoded_and_parsed_as_declared() -> None:
    assert binding.receive(*structured(data_base64="AP8="))[0].get_data() == b"\0\xff"
    value = structured(data_base64="eyJhIjogMX0=", datacontenttype="application/json")
    assert binding.receive(*value)[0].get_data() == {"a": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": 1, "data_base64": "AA=="}, "both data and data_base64"),
        ({"data_base64": "***"}, "expected base64"),
        ({"Upper": "x"}, "not allowed"),
        ({"some_name": "x"}, "not allowed"),
        ({"ext": {"a": 1}}, "expected a text"),
        ({"ext": 1.5}, "expected a text"),
        ({"ext": 2**31}, "32 bits"),
        ({"id": 7}, "id is 7"),
        ({"subject": ""}, "subject is ''"),
    ],
)
def test_what_the_json_format_forbids_is_named(changes: dict[str, Any], said: str) -> None:
    assert said in str(refused(*structured(**changes)))


def test_null_says_not_set() -> None:
    (event,) = binding.receive(*structured(subject=None, ext=None, time=None))
    assert set(event.get_attributes()) == {"specversion", "id", "source", "type"}


@pytest.mark.parametrize(
    ("mode", "body"),
    [
        (binding.BATCHED, [0] * 2000),
        (binding.STRUCTURED, {f"bad-name-{n}": 1 for n in range(2000)}),
    ],
    ids=["batch", "event"],
)
def test_a_refusal_stays_short_however_much_is_wrong(mode: str, body: object) -> None:
    faults = refused({"content-type": mode}, json.dumps(body).encode()).faults
    assert len(faults) == binding.MAX_FAULTS + 1
    assert re.fullmatch(r"and (1980|1984) more", faults[-1])


def test_a_batch_gives_all_its_events_or_names_the_broken_ones() -> None:
    headers = {"content-type": binding.BATCHED}
    assert binding.receive(headers, b"[]") == ()
    assert len(binding.receive(headers, json.dumps([OBJECT, OBJECT | {"id": "2"}]).encode())) == 2
    faults = refused(headers, json.dumps([OBJECT, {}, OBJECT | {"time": "x"}, 5]).encode()).faults
    assert [f.split()[1] for f in faults] == ["[1]", "[2]", "[3]"]
    assert "expected a JSON list" in str(refused(headers, b"{}"))


def test_another_kind_of_message_is_no_event() -> None:
    with pytest.raises(binding.NotAnEvent, match="no CloudEvent"):
        binding.receive({"content-type": "application/json"}, b"{}")
    with pytest.raises(binding.UnknownFormat, match="avro"):
        binding.receive({"content-type": "application/cloudevents+avro"}, b"")


def test_the_reader_keeps_its_hands_off_the_headers_it_is_given() -> None:
    headers = dict(WHOLE)
    binding.receive(headers, b"")
    assert headers == WHOLE


def test_extensions_are_written_as_the_type_system_says() -> None:
    event = CloudEvent({**OBJECT, "flag": True, "n": 3, "time": datetime(2013, 1, 31, tzinfo=UTC)})
    headers = binding.to_binary(event).headers
    assert (headers["ce-flag"], headers["ce-n"], headers["ce-time"]) == ("true", "3", "2013-01-31T00:00:00Z")


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(TEXT, TEXT, TEXT, JSON, st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1)))
def test_an_event_survives_every_mode(id: str, source: str, extension: str, data: Any, time: datetime) -> None:
    attributes = {
        **OBJECT,
        "id": id,
        "source": source,
        "ext": extension,
        "time": time,
        "datacontenttype": "application/json",
    }
    event = CloudEvent(attributes, data)
    for message in (binding.to_binary(event), binding.to_structured(event), binding.to_batch([event])):
        (seen,) = binding.receive(message.headers, message.body)
        assert seen.get_attributes() == attributes
        assert seen.get_data() == data
