"""Tables of requests as two clouds published them: what their columns mean, which no name says by itself.

Source: AzureFunctionsInvocationTrace2021.md of Azure/AzurePublicDataset (`duration` in seconds, `func` unique only
within an `app`); README_data_release_2025.md of sir-lab/data-release (the worker writes its line when a request is
done: the time of the frontend's, which contains it, is later).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.tune.readers.columns import Column, Columns


@dataclass(frozen=True, slots=True)
class Published:
    """A table that is known by its header."""

    kind: str
    columns: Columns
    function: tuple[str, ...]
    """The columns that name a function together."""


TABLES = (
    Published(
        "Azure Functions trace of 2021",
        Columns(
            start=None,
            end=Column("end_timestamp", "s"),
            service=Column("duration", "s"),
            latency=None,
            cold=None,
            pod=None,
            which=None,
        ),
        ("app", "func"),
    ),
    Published(
        "Huawei request table of 2025",
        Columns(
            start=None,
            end=Column("time_worker", "s"),
            service=Column("totalCost_worker", "s"),
            latency=None,
            cold=None,
            pod=Column("podID", None),
            which=None,
        ),
        ("funcName", "userID"),
    ),
)


def recognise(names: Sequence[str]) -> Published | None:
    """The published table with this header; None for anybody's own."""
    return next((t for t in TABLES if {*t.columns.names, *t.function} <= set(names)), None)
