"""trainers.training: every trainer goes from a mixed table to a package that answers as the trained model does."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import pytest

from eventing.errors import Rejected
from functions.model import Model
from tests.trainers.conftest import MIXED_HEADER, mixed_rows
from trainers import data_file, dataset, export, trainer, training
from trainers.columns import MISSING, Column
from trainers.preprocessing import Preprocessing
from trainers.training import Plan, Trained

PLAN = Plan("doors", "v20260101-000000-abcdef", "random_forest", "kind", {}, None, "file:///x", "0" * 64, ("0" * 64,))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAST: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 20},
    "neural_net": {"epochs": 15, "batch_size": 8, "first_units": 16, "second_units": 8},
}


def run(file: Path, into: Path, **changes: Any) -> Trained:
    plan = replace(PLAN, **changes)
    return training.train(plan, [file], into, NOW, lambda step, done, what: None)


@pytest.fixture(scope="module", params=["random_forest", "neural_net"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A package of each trainer, trained once for all tests of it."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "mixed.csv").write_text("\n".join([MIXED_HEADER, *mixed_rows(300)]), encoding="utf-8")
    return run(folder / "mixed.csv", folder, trainer=request.param, parameters=FAST[request.param])


def test_a_package_passes_its_own_self_test(trained: Trained) -> None:
    Model.load(trained.package).self_test()


def test_column_names_are_kept_as_input_names_whatever_letters_they_have(trained: Trained) -> None:
    model = Model.load(trained.package)
    assert [i.name for i in model.signature.inputs] == ["größe", "Farbe der Tür", "temp.c", "flag"]
    assert [i.datatype for i in model.signature.inputs] == ["FP32", "BYTES", "FP32", "BYTES"]
    assert model.signature.classes == ("no", "yes")
    assert model.signature.inputs[1].categories == ("blau", "grün", "rot")


def test_every_held_out_row_is_compared_and_none_differs(trained: Trained) -> None:
    parity = trained.manifest.parity
    assert parity["rows"] == 60 and parity["label_flips"] == 0 and parity["largest_difference"] <= 1e-6


def test_the_scores_are_better_than_guessing(trained: Trained) -> None:
    scores = trained.manifest.scores
    assert set(scores) == {"accuracy", "log_loss", "base_rate", "f1", "roc_auc"}
    assert scores["roc_auc"] > 0.7


def test_missing_and_unknown_values_are_answered(trained: Trained) -> None:
    row = {"größe": np.nan, "Farbe der Tür": "", "temp.c": np.nan, "flag": "never seen"}
    inputs = {k: np.array([[v]], object if isinstance(v, str) else np.float32) for k, v in row.items()}
    answer = Model.load(trained.package).infer(inputs)
    assert answer["label"][0] in ("no", "yes") and answer["probabilities"].sum() == pytest.approx(1)


def test_samples_are_five_requests_and_one_has_a_gap(trained: Trained) -> None:
    samples = json.loads((trained.package / "sample.json").read_text())["requests"]
    assert len(samples) == 5
    assert any(value is None for sample in samples for value in sample["inputs"].values())


def test_held_out_rows_are_written_without_objects_and_answer_the_same(trained: Trained) -> None:
    with np.load(trained.heldout, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    target = arrays.pop(dataset.TARGET_KEY)
    assert {a.dtype.kind for a in arrays.values()} == {"f", "U"} and target.dtype == np.int64
    answer = Model.load(trained.package).infer(
        {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items()}
    )
    accuracy = float(np.mean(answer["label"] == np.array(["no", "yes"], object)[target]))
    assert accuracy == pytest.approx(trained.manifest.scores["accuracy"], abs=1e-6)


def test_the_baseline_tells_shares_that_add_up(trained: Trained) -> None:
    baseline = trained.manifest.baseline
    assert baseline["rows"] == 300
    numeric, words = baseline["features"]["temp.c"], baseline["features"]["Farbe der Tür"]
    assert len(numeric["shares"]) == len(numeric["edges"]) + 1 and sum(numeric["shares"]) == pytest.approx(1, abs=1e-4)
    assert 0.1 < numeric["missing"] < 0.3 and set(words["shares"]) == {"rot", "blau", "grün"}
    assert sum(words["shares"].values()) + words["other"] == pytest.approx(1, abs=1e-4)
    assert set(baseline["outputs"]["label"]["shares"]) <= {"no", "yes"}
    assert baseline["outputs"]["score"]["kind"] == "numeric"


@dataclass
class Halves:
    """A model of two classes that says one half of each, by a graph of the opset that it is told."""

    opset: int
    nodes: list[Any]
    constants: dict[str, Any]
    parameters: Any = None

    def predict(self, features: Any) -> Any:
        raise NotImplementedError

    def to_onnx(self) -> Any:
        graph = onnx.helper.make_graph(
            self.nodes,
            "halves",
            [onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [None, 1])],
            [
                onnx.helper.make_tensor_value_info("index", onnx.TensorProto.INT64, [None]),
                onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, [None, 2]),
            ],
            [onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self.opset)])


@pytest.mark.parametrize(("opset", "kept"), [(13, 13), (17, 17), (18, 18), (21, 21), (9, 18)])
def test_a_trainers_graph_keeps_its_opset_and_so_what_its_operators_mean(opset: int, kept: int) -> None:
    """ReduceMean took its axes as an attribute until 17, and takes them as an input since."""
    nodes = [
        onnx.helper.make_node("Mul", ["features", "zeros"], ["pair"]),
        onnx.helper.make_node("Softmax", ["pair"], ["probabilities"], axis=1),
    ]
    constants = {"zeros": np.zeros((1, 2), np.float32)}
    if opset >= 18:
        constants["axes"] = np.array([1], np.int64)
        nodes.append(onnx.helper.make_node("ReduceMean", ["pair", "axes"], ["mean"], keepdims=0))
    elif opset >= 13:
        nodes.append(onnx.helper.make_node("ReduceMean", ["pair"], ["mean"], axes=[1], keepdims=0))
    else:
        constants["zero"] = np.array([0], np.int64)
        nodes.append(onnx.helper.make_node("Gather", ["pair", "zero"], ["column"], axis=1))
        nodes.append(onnx.helper.make_node("ArgMax", ["column"], ["index"], axis=1, keepdims=0))
    if opset >= 13:
        nodes.append(onnx.helper.make_node("Cast", ["mean"], ["index"], to=onnx.TensorProto.INT64))
    column = Column("x", values=np.array([1, 2, np.nan], np.float32))
    preprocessing = Preprocessing.fit([column], 50, scale=True)
    content, said = export.graph(preprocessing, [column], Halves(opset, nodes, constants), ("no", "yes"))
    assert said == kept
    answer = Model.from_onnx(content).infer({"x": column.tensor()})
    assert answer["label"].tolist() == ["no"] * 3 and (answer["probabilities"] == 0.5).all()


def test_a_trainers_graph_that_is_no_valid_onnx_is_refused_for_good() -> None:
    nodes = [onnx.helper.make_node("NoSuchOperator", ["features"], ["index"])]
    column = Column("x", values=np.array([1, 2], np.float32))
    with pytest.raises(Rejected, match=r"no valid ONNX.*NoSuchOperator"):
        export.graph(Preprocessing.fit([column], 50, scale=True), [column], Halves(18, nodes, {}), ("no", "yes"))


def test_the_preprocessing_in_the_graph_gives_the_same_features_to_the_last_bit(mixed_csv: Path) -> None:
    data = dataset.understand(data_file.read(mixed_csv), "kind")
    learned, held = training.split(data, 0.2, 42)
    preprocessing = Preprocessing.fit(learned.columns, 2, scale=True)
    inputs, nodes, constants = preprocessing.graph(data.columns)
    output = onnx.helper.make_tensor_value_info(
        "headrace/features", onnx.TensorProto.FLOAT, [None, preprocessing.width]
    )
    graph = onnx.helper.make_graph(nodes, "preprocessing", inputs, [output], constants)
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    served = Model.from_onnx(model.SerializeToString()).infer(held.inputs())["headrace/features"]
    assert served.tolist() == preprocessing.transform(held.columns).tolist()


@pytest.mark.parametrize("size", [1e-42, 1e-39, 3.3e38])
def test_numbers_at_either_end_of_float32_make_finite_features(size: float) -> None:
    column = Column("x", values=np.array([size, 0, size, size, np.nan, size], np.float32))
    preprocessing = Preprocessing.fit([column], 50, scale=True)
    assert preprocessing.medians.tolist() == [np.float32(size)]
    assert np.isfinite(preprocessing.transform([column])).all()


@pytest.mark.parametrize("name", ["random_forest", "neural_net"])
def test_three_classes_of_whole_numbers_keep_their_type(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(200, 2))
    rows = [f"{a:.4f},{b:.4f},{10 if a > 0.5 else 20 if b > 0 else 30}" for a, b in x]
    (tmp_path / "f.csv").write_text("\n".join(["a,b,target", *rows]))
    done = run(tmp_path / "f.csv", tmp_path, trainer=name, target=None, parameters=FAST[name])
    model = Model.load(done.package)
    assert model.signature.classes == (10, 20, 30)
    answer = model.infer({"a": np.array([[2.0]], np.float32), "b": np.array([[0.0]], np.float32)})
    assert answer["label"].dtype == np.int64 and answer["probabilities"].shape == (1, 3)


def test_rows_where_the_forest_is_undecided_keep_their_label(tmp_path: Path) -> None:
    # Ties in every second row: two trees that see noise, integer votes, both classes exactly one half.
    random = np.random.default_rng(2)
    rows = [f"{random.integers(0, 5)},{random.integers(0, 5)},{random.integers(0, 2)}" for _ in range(4000)]
    (tmp_path / "f.csv").write_text("\n".join(["a,b,target", *rows]))
    for leaf, trees in ((1, 2), (1, 10), (50, 4), (3, 100)):
        parameters = {"n_estimators": trees, "min_samples_leaf": leaf, "test_share": 0.5}
        done = run(tmp_path / "f.csv", tmp_path / f"{leaf}-{trees}", target=None, parameters=parameters)
        assert (done.manifest.parity["rows"], done.manifest.parity["label_flips"]) == (2000, 0)


def test_a_graph_that_answers_otherwise_makes_no_package(mixed_csv: Path, tmp_path: Path) -> None:
    # No float32 graph equals float64 votes to the last bit: a tolerance of zero must refuse it and name the rows.
    with pytest.raises(Rejected, match=r"largest difference .*row \d+: trained 'yes' with|row \d+: trained 'no' with"):
        run(mixed_csv, tmp_path / "out", parameters={"tolerance": 0.0, "n_estimators": 7, "min_samples_leaf": 3})
    assert not (tmp_path / "out" / "package").exists()


def test_a_forest_too_large_to_serve_is_refused_with_advice(
    mixed_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.random_forest.MAX_MODEL_BYTES", 10_000)
    with pytest.raises(Rejected, match="set min_samples_leaf"):
        run(mixed_csv, tmp_path / "out")


def test_features_that_no_memory_holds_are_refused_with_advice(
    mixed_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.training.MAX_FEATURE_BYTES", 8000)
    with pytest.raises(Rejected, match=r"240 rows of 9 features .* set top_categories lower"):
        run(mixed_csv, tmp_path / "out", parameters={**FAST["random_forest"], "top_categories": 50})
    run(mixed_csv, tmp_path / "narrow", parameters={**FAST["random_forest"], "top_categories": 2})


def test_the_same_seed_gives_the_same_graph(mixed_csv: Path, tmp_path: Path) -> None:
    graphs = [
        (run(mixed_csv, tmp_path / n, parameters={"n_estimators": 5}).package / "model.onnx").read_bytes() for n in "ab"
    ]
    assert graphs[0] == graphs[1]


def test_parameters_are_checked_and_every_fault_is_named() -> None:
    kind = trainer.find("random_forest").Parameters
    with pytest.raises(Rejected, match="leaves; expected some of") as caught:
        trainer.parameters(kind, {"leaves": 3, "n_estimators": "many", "seed": 1.5, "max_depth": True})
    assert len(caught.value.faults) == 4
    for impossible in ({"tolerance": "nan"}, {"tolerance": "inf"}, {"n_estimators": float("inf")}):
        with pytest.raises(Rejected, match=next(iter(impossible))):
            trainer.parameters(kind, impossible)
    common, own = trainer.parameters(kind, {"seed": "7", "max_depth": "none", "n_estimators": 30.0})
    assert (common.seed, own.max_depth, own.n_estimators) == (7, None, 30)


def test_a_trainer_is_found_by_its_module_and_by_nothing_else() -> None:
    assert set(trainer.available()) == {"neural_net", "random_forest"}
    for name in ("job", "os", "../x", "dataset"):
        with pytest.raises(Rejected, match="expected one of neural_net, random_forest"):
            trainer.find(name)


NEW_TRAINER = '''
from dataclasses import dataclass
import numpy as np
from onnx import TensorProto, helper, numpy_helper

SCALED = True

@dataclass(frozen=True)
class Parameters:
    strength: float = 1.0

class Fitted:
    """The class shares, whatever is asked."""

    def __init__(self, width, shares, parameters):
        self.width, self.shares, self.parameters = width, shares, parameters

    def predict(self, features):
        rows = np.tile(self.shares, (len(features), 1))
        return rows.argmax(axis=1), rows

    def to_onnx(self):
        weights = np.zeros((self.width, len(self.shares)), np.float32)
        nodes = [
            helper.make_node("Gemm", ["features", "weights", "shares"], ["probabilities"]),
            helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
        ]
        graph = helper.make_graph(
            nodes, "shares",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, self.width])],
            [helper.make_tensor_value_info("index", TensorProto.INT64, [None]),
             helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(self.shares)])],
            [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(self.shares, "shares")])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

def fit(features, labels, classes, parameters, seed, report):
    report(1.0, f"strength {parameters.strength}")
    counts = np.bincount(labels, minlength=classes)
    return Fitted(features.shape[1], (counts / counts.sum()).astype(np.float32), parameters)
'''


def test_a_new_trainer_is_one_file_found_by_its_entry_point(mixed_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "site" / "shares-1.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "shares_trainer.py").write_text(NEW_TRAINER)
    (tmp_path / "site" / "shares-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shares\nVersion: 1\n"
    )
    (tmp_path / "site" / "shares-1.dist-info" / "entry_points.txt").write_text(
        "[headrace.trainers]\nshares = shares_trainer\n"
    )
    command = [
        sys.executable,
        "-m",
        "trainers.job",
        "--file",
        str(mixed_csv),
        "--trainer",
        "shares",
        "--target",
        "kind",
    ]
    done = subprocess.run(
        [*command, "--parameter", "strength=2", "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["parity"]["label_flips"] == 0 and "strength 2.0" in done.stderr
    Model.load(Path(result["package"])).self_test()


def test_of_several_files_those_that_cannot_stand_beside_the_newest_are_left_out_with_a_note(tmp_path: Path) -> None:
    files = []
    for name, content in (
        ("old.csv", ["a,target", *(f"{i},{i % 2}" for i in range(30))]),
        ("broken.csv", ["a,b,target", "1"]),
        ("words.csv", ["a,b,target", *(f"w{i % 3},{-i},{i % 2}" for i in range(30))]),
        ("gaps.csv", ["a,b,target", *(f",{-i},{i % 2}" for i in range(30))]),
        ("new.csv", ["a,b,target", *(f"{i},{-i},{i % 2}" for i in range(30))]),
        ("newest.csv", ["b,target,a", *(f"{-i},{i % 2},{i}" for i in range(40))]),
    ):
        (tmp_path / name).write_text("\n".join(content))
        files.append(tmp_path / name)
    data, notes = training.read(files, None, 0.0)
    assert (data.rows, data.files) == (100, ("gaps.csv", "new.csv", "newest.csv"))
    assert notes == [
        "old.csv was left out: it lacks 'b', compared with newest.csv, the newest file",
        "broken.csv was left out: the file has 1 row; expected at least 20",
        "words.csv was left out: its 'a' holds text, in newest.csv, the newest file, numbers",
    ]
    assert (data.place(30), data.place(99)) == ("row 2 of new.csv", "row 41 of newest.csv")


def test_text_of_several_files_is_one_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join(["x,letter,target", *(f"{i},k{i % 2},{i % 2}" for i in range(30))]))
    (tmp_path / "b.csv").write_text("\n".join(["x,letter,target", *(f"{i}.5,m,{i % 2}" for i in range(25))]))
    columns = {"x": range(20), "letter": ["k0", None] * 10, "target": [0, 1] * 10}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "c.parquet")
    data, _ = training.read([tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.parquet"], None, 0.0)
    assert data.rows == 75
    assert data.inputs()["letter"][[0, 1, 30, 55, 56], 0].tolist() == ["k0", "k1", "m", "k0", ""]
    assert data.inputs()["x"][[30, 57], 0].tolist() == [0.5, 2.0]


ODD_NAMES = ("file", "allow_pickle", "a/b", "x.npy", "..", "日本 語", "new\nline", " lead", "{}", "'q'")


def test_any_column_name_can_be_an_input(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    columns = {name: random.normal(size=60) for name in ODD_NAMES}
    target = np.where(columns["file"] + columns["a/b"] > 0, "very late", " on time")
    pyarrow.parquet.write_table(pa.table({**columns, "kind": target}), tmp_path / "f.parquet")
    done = run(tmp_path / "f.parquet", tmp_path, parameters=FAST["random_forest"])
    model = Model.load(done.package)
    assert tuple(spec.name for spec in model.signature.inputs) == ODD_NAMES
    assert model.signature.classes == ("on time", "very late")
    with np.load(done.heldout, allow_pickle=False) as held:
        assert set(held.files) == {*ODD_NAMES, dataset.TARGET_KEY}


def test_a_cell_means_the_same_in_a_request_as_in_the_file(tmp_path: Path) -> None:
    """What a row of the file says, sent as it stands or as JSON, answers as the trained model does for that row."""
    random = np.random.default_rng(4)
    words = ["rot", " rot", "rot ", "NA", "None", "", "z\nz"]
    rows = [(str(random.choice(words)), str(random.choice(["TRUE", "FALSE"]))) for _ in range(300)]
    target = [int((word == " rot") ^ (flag == "TRUE")) for word, flag in rows]
    with (tmp_path / "f.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("word", "flag", "kind"), *((*row, t) for row, t in zip(rows, target, strict=True))])
    model = Model.load(run(tmp_path / "f.csv", tmp_path, parameters=FAST["random_forest"]).package)
    assert model.signature.inputs[0].categories == (" rot", "rot", "rot ", "z\nz")
    data = dataset.understand(data_file.read(tmp_path / "f.csv"), "kind")
    expected = model.infer(data.inputs())["probabilities"].tolist()
    sent = {"word": [word for word, _ in rows], "flag": [flag for _, flag in rows]}
    assert model.infer({n: np.array(v, object)[:, None] for n, v in sent.items()})["probabilities"].tolist() == expected
    as_json = {"word": [w if w not in MISSING else "" for w in sent["word"]], "flag": [f.title() for f in sent["flag"]]}
    answer = model.infer({n: np.array(v, object)[:, None] for n, v in as_json.items()})
    assert answer["probabilities"].tolist() == expected


def test_a_wide_short_table_is_learned_from(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = [",".join(f"{v:.3f}" for v in random.normal(size=200)) for _ in range(60)]
    table_rows = [f"{row},{('1', '2', '5')[i % 3]}" for i, row in enumerate(rows)]
    (tmp_path / "f.csv").write_text("\n".join([",".join([*(f"c{i}" for i in range(200)), "kind"]), *table_rows]))
    manifest = run(tmp_path / "f.csv", tmp_path, parameters=FAST["random_forest"]).manifest
    assert (len(manifest.signature.inputs), manifest.signature.classes, manifest.parity["rows"]) == (200, (1, 2, 5), 12)
