"""The held-out rows as a file: what the promoter asks champion and challenger.

An .npz without objects: one array per input, float32 or text, each (n, 1), and TARGET_KEY, the class index, int64 (n,).
numpy keeps text in cells as wide as the longest, 4 bytes a character: one long cell among many rows would take
gigabytes here and in the promoter. Where a column would be wider than MAX_TEXT_BYTES, its array holds int32 instead,
places in the JSON list `<name>.words` beside it. Read by `functions.promoter.held_out`.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from trainers.columns import Column
from trainers.dataset import TARGET_KEY, Dataset

MAX_TEXT_BYTES = 32 << 20


def write(held: Dataset, file: Path) -> Path:
    """Write the rows to `file`, and give it back."""
    arrays = {column.name: column.tensor() for column in held.columns if not column.is_text}
    # Not by numpy.savez, whose own arguments are called `file` and `allow_pickle`: no column could be.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for column in (column for column in held.columns if column.is_text):
            if _width(column) * held.rows * 4 <= MAX_TEXT_BYTES:
                arrays[column.name] = column.tensor().astype(str)
                continue
            assert column.codes is not None
            used, places = np.unique(column.codes, return_inverse=True)
            words = ["" if code < 0 else column.words[code] for code in used]
            archive.writestr(f"{column.name}.words", json.dumps(words))
            arrays[column.name] = places.astype(np.int32)[:, None]
        for name, array in {**arrays, TARGET_KEY: held.labels}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
    return file


def _width(column: Column) -> int:
    """Characters of the longest cell."""
    assert column.codes is not None
    return max((len(column.words[code]) for code in np.unique(column.codes[column.codes >= 0])), default=1)
