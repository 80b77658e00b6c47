"""What is served answers as what was trained: a thousand held-out rows through the gateway, both protocols."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from eventing.contract import ModelPromoted
from tests.end_to_end import tables
from tests.end_to_end.house import House, post

ROWS, HELD_OUT = 2000, 1000
SHARE = "test_share=0.5"
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Original:
    """The trained model, in its own library. model: the name under which the platform serves its own training."""

    model: str
    rows: list[dict[str, Any]]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


@pytest.fixture(scope="module", params=["random_forest", "neural_net"])
def original(request: pytest.FixtureRequest, house: House, tmp_path_factory: pytest.TempPathFactory) -> Original:
    folder = tmp_path_factory.mktemp("originals")
    model = "same-" + request.param.replace("_", "-")
    file = tables.table(folder / "rows.csv", seed=5, count=ROWS)
    dropped = house.drop(file, model, "--trainer", request.param, "--parameter", SHARE)
    words = [str(file), request.param, SHARE, str(folder / "out.npz")]
    subprocess.run([sys.executable, "-m", "tests.end_to_end.originals", *words], check=True, timeout=300)
    verdict = house.verdict_on(dropped)
    assert verdict.type == ModelPromoted.TYPE, verdict.data
    with np.load(folder / "out.npz", allow_pickle=False) as answers:
        labels, probabilities = answers["labels"], answers["probabilities"]
    return Original(model, json.loads((folder / "out.json").read_text()), labels, probabilities)


def test_a_thousand_rows_are_held_out_by_both_alike(house: House, original: Original) -> None:
    """The rows that are compared are those that the platform's Job held out, too."""
    (version,) = house.versions(original.model)
    with np.load(house.store / "heldout" / original.model / f"{version}.npz", allow_pickle=False) as held:
        assert len(held["Länge"]) == len(original.rows) == HELD_OUT
        lengths = np.array([[r["Länge"]] for r in original.rows], dtype=np.float32)
        np.testing.assert_array_equal(held["Länge"], lengths)


def test_v1_answers_as_the_original_model(house: House, original: Original) -> None:
    answers = house.predictions(original.model, original.rows)
    _agree(original, [a["label"] for a in answers], [a["probabilities"] for a in answers])


def test_v2_answers_as_the_original_model(house: House, original: Original) -> None:
    inputs = [
        {
            "name": name,
            "shape": [HELD_OUT, 1],
            "datatype": "BYTES" if name in ("城市", "offen") else "FP32",
            "data": [row[name] for row in original.rows],
        }
        for name in original.rows[0]
    ]
    url = f"{house.url}/svc/headrace/{original.model}/v2/models/{original.model}/infer"
    answer = post(url, {"inputs": inputs})
    assert answer.status == 200, answer.body
    outputs = {o["name"]: np.reshape(o["data"], o["shape"]) for o in answer.json()["outputs"]}
    _agree(original, outputs["label"], outputs["probabilities"])


def _agree(original: Original, labels: Any, probabilities: Any) -> None:
    np.testing.assert_array_equal(np.asarray(labels), original.labels)
    np.testing.assert_allclose(np.asarray(probabilities), original.probabilities, rtol=0, atol=TOLERANCE)
