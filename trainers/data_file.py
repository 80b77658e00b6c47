"""A file of data, whichever form it has, as a `Table`. Used by trainings and by whoever asks a model about a file."""

from __future__ import annotations

from pathlib import Path

from trainers import csv_file, parquet
from trainers.table import Table


def read(file: Path, name: str | None = None) -> Table:
    """The table in `file`, a .csv or .parquet. name: what a person calls it; None: as it is called where it lies.

    Raises BrokenDataset when it has no form to read rows from.
    """
    read_it = parquet.read if file.suffix.lower() == ".parquet" else csv_file.read
    return read_it(file, name or file.name)
