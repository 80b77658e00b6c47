"""What is no recording at all is refused with what was seen, what is expected and what to do."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.tune import readers
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic
from tests.headrace.tune.readers import test_access_log, test_journal, test_json_log, test_prometheus, test_table

RNG = np.random.default_rng(1)
PLAIN = b"start,duration_ms\n" + b"".join(b"%.6f,12.5\n" % (1767225600 + at) for at in RNG.random(20_000))


SAMPLES = (
    test_access_log.ENVOY,
    test_access_log.ISTIO,
    test_access_log.NGINX,
    "\n".join(f"{test_json_log.AT[0]} {test_json_log.queue_proxy(s)}" for s in ("0.5s", "1e-05s")),
    json.dumps(test_json_log.ISTIO),
    "\n".join(test_journal.request(i, 0.2, 0.1, cold=i % 3 == 0) for i in range(6)),
    test_prometheus.matrix(({"a": "1"}, [1, 2, 3]), ({"a": "2"}, [1, None, 3])),
    test_prometheus.matrix(({"__name__": "x_total"}, [1, 2, None, 3])),
    test_prometheus.PROMTOOL,
    test_table.AZURE_2021,
    test_table.HUAWEI_2025,
    "day,time,28,33\n0,0,1,2\n0,60,,3\n0,120,4,5\n",
    "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,1,2,3\no,a,g,http,0,,3\n",
    "start,duration_ms,cold,pod\n"
    + "".join(f"2026-01-01T00:00:{i:02d}Z,{i},{i % 5 == 0},p{i % 2}\n" for i in range(20)),
    "start,end,cold_start_ms\n" + "".join(f"{1767225600 + i},{1767225601 + i},{i}\n" for i in range(20)),
)
DAMAGES = (
    *("", "-", "-1", "NaN", "inf", "1e308", "0", "9" * 30, "null", "{", "}", "]", '"', ",", "\n", "\0", "é", " ", "\\"),
    *("2026-13-45T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "+Inf", "1767225600000", "start", "1e9"),
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected a recording"),
        (b" \n\n\t\n", "is empty; expected a recording"),
        (gzip.compress(b""), "is empty; expected a recording"),
        (gzip.compress(PLAIN)[:-2000], "is gzip that ends early: it was cut off; copy it again"),
        (gzip.compress(PLAIN)[:12], "is gzip that ends early"),
        (gzip.compress(PLAIN)[:40] + b"\0" * 500, "is broken gzip|is gzip that ends early"),
        (bytes(range(256)) * 40, "is binary and no Parquet; expected one of: Prometheus range"),
        (b"PAR1" + b"\0" * 400, "begins like Parquet and is not"),
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
        (b"\xfd7zXZ\x00rest", "is packed with xz; unpack it"),
        ("start,duration_ms\n".encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
        (b"SQLite format 3\0" + b"\0" * 90, "is an SQLite database"),
        (b"Dear all,\nthe trace is attached.\n", "no column says when|which is no known recording"),
        (b"hello\n", "begins with 'hello', which is no known recording; expected one of"),
        (b"caf\xe9,start\n1,2\n", "which is no known recording"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(BadTraffic, match=said):
        readers.read(path, Options(service_s=0.1))


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match="there is no file"):
        readers.read(tmp_path / "none.csv")
    with pytest.raises(BadTraffic, match="is a folder without a gateway's journal"):
        readers.read(tmp_path)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(PLAIN)
    assert readers.read(str(tmp_path / "a.csv")).count == 20_000


def test_every_refusal_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("start,duration\n0,250\n")
    with pytest.raises(BadTraffic, match=r"trace\.csv, read as CSV or Parquet: column 'duration'"):
        readers.read(path)


@given(content=st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_content_is_read_or_refused_and_nothing_else(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "trace"
    path.write_bytes(content)
    with pytest.raises(BadTraffic):
        readers.read(path, Options(service_s=0.1, duration_unit="ms"))
        raise BadTraffic("read")


@given(
    whole=st.sampled_from(SAMPLES),
    damages=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(DAMAGES)), max_size=4),
    cut=st.floats(0.2, 1.5),
    options=st.sampled_from(
        [Options(), Options(service_s=0.1), Options(only="a"), Options(duration_unit="ms", container_concurrency=1)]
    ),
)
@settings(max_examples=400, deadline=None)
def test_any_damaged_recording_is_read_or_refused_and_nothing_else(
    whole: str,
    damages: list[tuple[float, int, str]],
    cut: float,
    options: Options,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = whole
    for place, length, instead in damages:
        at = int(place * len(text))
        text = text[:at] + instead + text[at + length :]
    path = tmp_path_factory.mktemp("damaged") / "trace"
    path.write_text(text[: int(cut * len(text))])
    with contextlib.suppress(BadTraffic):
        of = readers.read(path, options)
        assert (np.diff(of.starts_s) >= 0).all() and of.repairs


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(PLAIN)
    program = (
        "import sys, importlib.util\n"
        "class Nothing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'pyarrow': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Nothing())\n"
        "from eventing.errors import Misconfigured\n"
        "from headrace.tune import readers\n"
        "try: readers.read(sys.argv[1])\n"
        "except Misconfigured as e: print(e)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.csv")], capture_output=True, text=True, check=True
    ).stdout
    assert "pip install 'headrace[tune]'" in said
