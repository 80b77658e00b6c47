"""functions.optimised and .optimise: a copy is used where it was kept, is whole and is ours, and changes no answer."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from eventing.errors import Rejected
from functions import model, optimise, optimised
from functions.model import Model
from functions.optimised import Loaded
from functions.package import MODEL_FILE
from tests.functions import packages

MIB = 2**20
PLAIN, PAYS = Loaded(0.4, 65 * MIB), Loaded(0.38, 24 * MIB)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return packages.build_package(tmp_path)


@pytest.fixture
def cache(tmp_path: Path, package: Path) -> Path:
    """A cache that holds the package's copy."""
    cache = tmp_path / "cache"
    folder = optimised.folder_in(cache)
    folder.mkdir(parents=True, mode=0o700)
    key = optimised.key_of(package, model.ONNXRUNTIME_VERSION)
    assert key is not None
    made = folder / "model.ort"
    model.save_optimised(package / MODEL_FILE, made)
    assert optimised.put(PLAIN, PAYS, made, folder, key).file is not None
    return cache


def kept(cache: Path) -> Path:
    (copy,) = optimised.folder_in(cache).glob("*.ort")
    return copy


def find(package: Path, cache: Path) -> Path | None:
    return optimised.find(package, cache, model.ONNXRUNTIME_VERSION)


@pytest.mark.parametrize(
    ("copy", "pays"),
    [
        (Loaded(0.31, 65 * MIB), True),
        (Loaded(0.33, 65 * MIB), False),
        (Loaded(0.43, 40 * MIB), True),
        (Loaded(0.45, 40 * MIB), False),
        (Loaded(0.40, 50 * MIB), False),
    ],
    ids=["quicker", "hardly quicker", "smaller", "smaller, slower", "hardly smaller"],
)
def test_a_copy_is_kept_where_it_is_clearly_quicker_or_smaller(copy: Loaded, pays: bool) -> None:
    assert optimised.pays(PLAIN, copy) is pays


def test_a_millisecond_is_not_worth_a_file() -> None:
    assert not optimised.pays(Loaded(0.007, 10 * MIB), Loaded(0.004, 10 * MIB))


def test_a_model_of_its_copy_answers_the_same(package: Path, cache: Path) -> None:
    # What is no model shows that the copy alone is read.
    plain, given = Model.load(package), packages.arrays(packages.ROWS)
    (package / MODEL_FILE).write_bytes(b"not read")
    copied = Model.load(package, cache=cache)
    copied.self_test()
    assert copied.signature == plain.signature
    for name, values in plain.infer(given).items():
        np.testing.assert_array_equal(copied.infer(given)[name], values)


def test_without_a_cache_the_packages_own_graph_is_read(package: Path, cache: Path) -> None:
    (package / MODEL_FILE).write_bytes(b"read")
    with pytest.raises(Rejected, match="not a servable ONNX model"):
        Model.load(package)


def test_a_copy_that_changed_is_not_used(package: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(kept(cache).read_bytes())
    content[len(content) // 2] ^= 1
    kept(cache).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert find(package, cache) is None
    assert "is not what was kept" in caplog.text
    Model.load(package, cache=cache).self_test()


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"file": "gone.ort", "sha256": "0"}'], ids=repr)
def test_a_record_that_cannot_be_read_is_no_copy(package: Path, cache: Path, record: bytes) -> None:
    (file,) = optimised.folder_in(cache).glob("*.json")
    file.write_bytes(record)
    assert find(package, cache) is None


def test_a_folder_that_others_can_write_to_is_not_trusted(
    package: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    optimised.folder_in(cache).chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert find(package, cache) is None
    assert "can be written by others" in caplog.text


def test_a_copy_is_of_one_graph_and_one_onnxruntime(tmp_path: Path, package: Path, cache: Path) -> None:
    other = packages.build_package(tmp_path / "other", seed=7)
    assert find(package, cache) == kept(cache)
    assert find(other, cache) is None
    assert optimised.find(package, cache, "0.0.1") is None


def test_a_foreign_model_has_no_copy(tmp_path: Path, cache: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(packages.onnx_bytes())
    assert find(tmp_path, cache) is None
    with pytest.raises(Rejected, match="SHA256SUMS"):
        optimise.keep(tmp_path, cache)


def test_the_command_tells_what_it_found(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real trial, in its own processes; the record says the same as the command."""
    cache = tmp_path / "new"
    assert optimise.main([str(package), str(cache)]) == 0
    found = json.loads(capsys.readouterr().out)
    plain, copy = Loaded(**found["plain"]), Loaded(**found["optimised"])
    assert plain.seconds > 0 and copy.seconds > 0
    assert (found["file"] is not None) is optimised.pays(plain, copy)
    (record,) = optimised.folder_in(cache).glob("*.json")
    assert json.loads(record.read_text()) == found
    assert (find(package, cache) is not None) is (found["file"] is not None)
    assert not list(optimised.folder_in(cache).glob("making-*"))


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimise.main([str(tmp_path), str(tmp_path / "cache")]) == 65
    assert "SHA256SUMS" in capsys.readouterr().err


def test_two_packages_whose_weights_lie_beside_the_same_graph_have_copies_of_their_own(package: Path) -> None:
    keys = set()
    for weights in (b"one", b"other", b"one"):
        (package / "model.onnx.data").write_bytes(weights)
        model.write_sums(package)
        keys.add(optimised.key_of(package, "1"))
    assert len(keys) == 2
