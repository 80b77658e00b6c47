"""What tests of several rooms share: a terminal's signals, a real S3 server."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import fsspec
import pytest

from tests import s3_server
from tests.s3_server import S3


def pytest_configure() -> None:
    """As at a terminal: where the suite runs in the background Ctrl-C is ignored, by all that it starts too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_service() -> Iterator[S3]:
    """The server; its clients in this process find it by the environment, as they do in production."""
    with s3_server.running() as its:
        before = {key: os.environ.get(key) for key in its.environ}
        os.environ.update(its.environ)
        yield its
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


@pytest.fixture
def s3(s3_service: S3) -> S3:
    """The server, open and with nothing counted."""
    s3_service.shut, s3_service.lose_answers = False, 0
    s3_service.requests.clear()
    return s3_service


@pytest.fixture
def s3_url(s3: S3) -> Iterator[str]:
    """A new bucket with a prefix, as a store's URL."""
    bucket = f"headrace-{uuid.uuid4().hex[:12]}"
    system = fsspec.filesystem(
        "s3",
        endpoint_url=s3.endpoint,
        key=s3_server.KEYS["AWS_ACCESS_KEY_ID"],
        secret=s3_server.KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    system.mkdir(bucket)
    s3.requests.clear()
    yield f"s3://{bucket}/store"
    s3.shut = False
    system.rm(bucket, recursive=True)
