"""Traffic as people have it: files of requests, rates or counts, recognised by their content. `formats` lists them."""

from __future__ import annotations

from pathlib import Path

from eventing.errors import Misconfigured
from headrace.tune.readers.options import UNTOLD, Options
from headrace.tune.traffic import Traffic


def read(path: Path | str, options: Options = UNTOLD) -> Traffic:
    """The traffic in a file, gzip or not, or in the folder of the gateway's journal.

    Raises BadTraffic for what cannot be read as traffic, and Misconfigured where what reads it is not installed.
    """
    try:
        import pyarrow  # noqa: F401  # an extra: who runs a predictor needs none of it
    except ImportError as e:
        raise Misconfigured("pyarrow", "missing", "it where recordings are read: pip install 'headrace[tune]'") from e
    from headrace.tune.readers import formats

    return formats.read(Path(path), options)
