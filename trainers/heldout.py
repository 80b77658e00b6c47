"""The held-out rows as a file: what the promoter asks champion and challenger.

An .npz without objects: one array per input, float32 or text, each (n, 1), and TARGET_KEY, the class index, int64 (n,).
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from trainers.dataset import TARGET_KEY, Dataset


def write(held: Dataset, file: Path) -> Path:
    """Write the rows to `file`, and give it back."""
    arrays = {name: tensor.astype(str) if tensor.dtype == object else tensor for name, tensor in held.inputs().items()}
    # Not by numpy.savez, whose own arguments are called `file` and `allow_pickle`: no column could be.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {**arrays, TARGET_KEY: held.labels}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
    return file
