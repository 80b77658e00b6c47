"""No pickle is written or read: neither by what runs, nor in what lies in the home.

The last tests of this folder, so that what they look at is all that the other ones did.
"""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.end_to_end import pickle_watch, tables
from tests.end_to_end.conftest import MODEL
from tests.end_to_end.house import House

# Protocols 2 to 5 begin with this byte and their number, and all end with a full stop.
PROTO, STOP, HIGHEST = 0x80, ord("."), 5
# Libraries that pickle a constant in memory, for themselves; nothing of it is written or comes from outside.
INNER = (
    "/jinja2/bccache.py",  # at import, the constants that a cache of templates would begin with; there is none
    # The threads of one pool, which is how scikit-learn fits trees, wake each other with a None through a pipe.
    "/multiprocessing/queues.py",
    "/multiprocessing/reduction.py",
)
TRAINING_LIBRARIES = ("sklearn", "tensorflow", "keras", "skl2onnx", "tf2onnx", "onnx", "pyarrow")


def test_no_process_of_the_house_pickles(house: House) -> None:
    """None since the platform's start: trainings, predictions, promotions, and whatever other tests did here."""
    house.predictions(MODEL, tables.questions(1, seed=99))
    folder = house.home.parent
    started = pickle_watch.starts(folder)
    assert {"trainers.job", "functions.predictor", "functions.promoter", "eventing.source"} <= started
    assert [use for use in pickle_watch.told(folder) if not any(place in use.split(" < ")[0] for place in INNER)] == []


def test_no_file_of_the_house_is_a_pickle(house: House) -> None:
    assert len(list(_files(house.home))) > 20
    assert [str(f) for f in _files(house.home) if _is_pickle(f.read_bytes())] == []


def test_no_array_that_is_kept_needs_a_pickle_to_be_read(house: House) -> None:
    """numpy writes arrays of objects as pickles inside its own files."""
    archives = list(house.store.rglob("*.npz"))
    assert archives
    for archive in archives:
        with np.load(archive, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)
        with zipfile.ZipFile(archive) as members:
            assert not any(_is_pickle(members.read(name)) for name in members.namelist())


def test_a_predictor_could_not_train_if_it_wanted(house: House) -> None:
    """Its interpreter, the one that stands for the predictor's image, finds no training library."""
    house.predictions(MODEL, tables.questions(1, seed=98))
    interpreter = house.pods_running("functions.predictor")[0].cmdline()[0]
    code = (
        "import importlib.util as u, onnxruntime\n"
        f"print([name for name in {TRAINING_LIBRARIES!r} if u.find_spec(name) is not None])"
    )
    found = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def _files(folder: Path) -> Iterator[Path]:
    """Regular files that may vanish while we look are left out: what pods do in their own folders ends with them."""
    return (f for f in folder.rglob("*") if f.is_file() and "pods" not in f.parts and "kubectl-cache" not in f.parts)


def _is_pickle(content: bytes) -> bool:
    return len(content) > 2 and content[0] == PROTO and content[1] <= HIGHEST and content.rstrip()[-1] == STOP
