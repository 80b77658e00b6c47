"""Whole, valid model packages for tests: a small scikit-learn pipeline, exported as the trainers' graphs are.

Two numeric columns (`distance`, `delay`) with gaps, one of text (`carrier`); `label` and `probabilities` come out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from functions import tensors
from functions.model import Manifest, Model, Signature, TensorSpec, write_sums

CARRIERS = ("AA", "DL", "UA")
VERSION = "v20260101-000000-000001"
OTHER_VERSION = "v20260201-000000-000002"
CLASSES = (0, 1)
SIGNATURE = Signature(
    inputs=(
        TensorSpec("distance", "FP32", "tensor(float)", (-1, 1), range=(100.0, 2500.0)),
        TensorSpec("delay", "FP32", "tensor(float)", (-1, 1), range=(-20.0, 60.0)),
        TensorSpec("carrier", "BYTES", "tensor(string)", (-1, 1), categories=CARRIERS),
    ),
    outputs=(
        TensorSpec("label", "INT64", "tensor(int64)", (-1,)),
        TensorSpec("probabilities", "FP32", "tensor(float)", (-1, 2)),
    ),
    classes=CLASSES,
)
ROWS: tuple[dict[str, Any], ...] = (
    {"distance": 300.0, "delay": 45.0, "carrier": "AA"},
    {"distance": 2200.0, "delay": -5.0, "carrier": "DL"},
    {"distance": None, "delay": 12.0, "carrier": "UA"},
    {"distance": 900.0, "delay": None, "carrier": "AA"},
    {"distance": 900.0, "delay": 20.5, "carrier": None},
)


@functools.cache
def frame(rows: int = 300, seed: int = 7) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows as a trainer sees them, and their labels: late after a long delay, less so over a distance."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "distance": rng.uniform(100, 2500, rows).astype(np.float32),
            "delay": rng.uniform(-20, 60, rows).astype(np.float32),
            "carrier": rng.choice(CARRIERS, rows),
        }
    )
    target = (data["delay"] - data["distance"] / 200 + (data["carrier"] == "AA") * 8 > 10).to_numpy().astype(np.int64)
    data.loc[::17, "distance"] = np.nan
    return data, target


@functools.cache
def pipeline(trees: int = 20, seed: int = 42) -> Pipeline:
    """A fitted pipeline: gaps filled, carriers one-hot, a small forest."""
    data, target = frame()
    columns = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="median"), ["distance", "delay"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
        ]
    )
    forest = RandomForestClassifier(n_estimators=trees, max_depth=6, random_state=seed)
    return Pipeline([("columns", columns), ("forest", forest)]).fit(data, target)


@functools.cache
def onnx_bytes(trees: int = 20, seed: int = 42) -> bytes:
    """The pipeline as ONNX: one input per column, `label` and `probabilities` out, no ZipMap."""
    model = pipeline(trees, seed)
    types = [
        ("distance", FloatTensorType([None, 1])),
        ("delay", FloatTensorType([None, 1])),
        ("carrier", StringTensorType([None, 1])),
    ]
    graph = to_onnx(model, initial_types=types, options={id(model): {"zipmap": False}})
    renamed = {"output_label": "label", "output_probability": "probabilities"}
    for node in graph.graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for output in graph.graph.output:
        output.name = renamed.get(output.name, output.name)
    return bytes(graph.SerializeToString())


def arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as the model's inputs; None is missing."""
    numbers = {
        name: np.array([[np.nan if row[name] is None else row[name]] for row in rows], np.float32)
        for name in ("distance", "delay")
    }
    return numbers | {"carrier": np.array([[row["carrier"] or ""] for row in rows], object)}


def sample(model: Model, rows: Sequence[Mapping[str, Any]] = ROWS) -> dict[str, Any]:
    """sample.json: each row with the model's answer."""
    answers = model.infer(arrays(rows))
    return {
        "requests": [
            {"inputs": dict(row), "outputs": {name: answer[i].tolist() for name, answer in answers.items()}}
            for i, row in enumerate(rows)
        ]
    }


def baseline() -> dict[str, Any]:
    """What the training rows look like, column by column."""
    data, target = frame()
    return {
        "rows": len(data),
        "features": {
            "distance": _numeric(data["distance"].to_numpy()),
            "delay": _numeric(data["delay"].to_numpy()),
            "carrier": _categorical(data["carrier"].to_numpy()),
        },
        "outputs": {
            "label": _categorical(target.astype(str)),
            "score": _numeric(pipeline().predict_proba(data)[:, -1]),
        },
    }


def manifest(name: str = "flights", version: str = VERSION, **changes: Any) -> Manifest:
    """A whole manifest; `changes` replaces fields."""
    fields: dict[str, Any] = {
        "name": name,
        "version": version,
        "trainer": "random_forest",
        "signature": SIGNATURE,
        "opset": 18,
        "producer": "skl2onnx",
        "libraries": {"scikit-learn": "1.9.1"},
        "dataset": {"uri": "file:///datasets/flights.csv", "sha256": "0" * 64, "rows": 300},
        "parameters": {"n_estimators": 20},
        "seed": 42,
        "scores": {"accuracy": 0.95, "roc_auc": 0.98},
        "parity": {"rows": 60, "largest_difference": 1e-7, "label_flips": 0, "tolerance": 1e-5},
        "baseline": baseline(),
        "parent": None,
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Manifest(**{**fields, **changes})


def build_package(
    folder: Path, name: str = "flights", version: str = VERSION, *, seed: int = 42, trees: int = 20, **changes: Any
) -> Path:
    """A full valid package as `folder/version`; another seed is another forest, `changes` go to model.json."""
    package = folder / version
    package.mkdir(parents=True)
    content = onnx_bytes(trees, seed)
    (package / "model.onnx").write_bytes(content)
    (package / "model.json").write_text(json.dumps(manifest(name, version, **changes).to_json()))
    (package / "sample.json").write_text(json.dumps(sample(Model.from_onnx(content))))
    write_sums(package)
    return package


def _numeric(values: np.ndarray) -> dict[str, Any]:
    present = values[~np.isnan(values)]
    edges = np.unique(np.quantile(present, np.linspace(0.1, 0.9, 9)))
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return {
        "kind": "numeric",
        "edges": edges.tolist(),
        "shares": (counts / len(values)).tolist(),
        "missing": float(np.isnan(values).mean()),
    }


def _categorical(values: np.ndarray) -> dict[str, Any]:
    names, counts = np.unique(values, return_counts=True)
    shares = dict(zip(map(str, names), (counts / len(values)).tolist(), strict=True))
    return {"kind": "categorical", "shares": shares, "other": 0.0, "missing": 0.0}


def large_forest(trees: int = 32, depth: int = 12) -> bytes:
    """ONNX of whole binary trees over one input `x`, 8,191 nodes each: what a real forest's size is, made at once."""
    inner, nodes = 2**depth - 1, 2 ** (depth + 1) - 1
    ids = np.arange(nodes)
    branch = ids < inner
    leaves = np.tile(ids[~branch], trees)
    per_tree = {
        "nodes_nodeids": ids,
        "nodes_featureids": 0 * ids,
        "nodes_values": np.where(branch, np.random.default_rng(0).normal(size=nodes), 0.0),
        "nodes_truenodeids": np.where(branch, 2 * ids + 1, 0),
        "nodes_falsenodeids": np.where(branch, 2 * ids + 2, 0),
    }
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=np.repeat(np.arange(trees), nodes).tolist(),
        nodes_modes=np.tile(np.where(branch, "BRANCH_LEQ", "LEAF"), trees).tolist(),
        target_treeids=np.repeat(np.arange(trees), nodes - inner).tolist(),
        target_nodeids=leaves.tolist(),
        target_ids=(0 * leaves).tolist(),
        target_weights=(leaves / 1.0).tolist(),
        **{name: np.tile(values, trees).tolist() for name, values in per_tree.items()},
    )
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def build_large(folder: Path, name: str = "flights", version: str = VERSION) -> Path:
    """A package of `large_forest`, 9 MB, without a sample to answer, as `folder/version`."""
    return build_of(large_forest(), folder, name, version)


def build_of(content: bytes, folder: Path, name: str, version: str = VERSION) -> Path:
    """A package of any graph, its signature the graph's own, without a sample to answer, as `folder/version`."""
    package = folder / version
    package.mkdir(parents=True)
    (package / "model.onnx").write_bytes(content)
    signature = Model.from_onnx(content).signature
    (package / "model.json").write_text(json.dumps(manifest(name, version, signature=signature).to_json()))
    (package / "sample.json").write_text('{"requests": []}')
    write_sums(package)
    return package


def datatypes(names: Sequence[str] = tuple(tensors.DTYPES)) -> bytes:
    """ONNX that gives each of its inputs back as `…_back`: one of each datatype, of shape [-1, 2]."""
    kinds = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
    infos = {name: getattr(TensorProto, kinds.get(name, name)) for name in names}
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_back"]) for name in infos],
        "datatypes",
        [helper.make_tensor_value_info(name, info, ["n", 2]) for name, info in infos.items()],
        [helper.make_tensor_value_info(f"{name}_back", info, ["n", 2]) for name, info in infos.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def build_foreign(folder: Path) -> Path:
    """A foreign model without model.json: how many of six zeros to a row in, the rows' sums out; 4 fails inside."""
    constants = [
        helper.make_tensor("zeros", TensorProto.FLOAT, [6], [0.0] * 6),
        helper.make_tensor("rest", TensorProto.INT64, [1], [-1]),
    ]
    nodes = [
        helper.make_node("Concat", ["rest", "size"], ["shape"], axis=0),
        helper.make_node("Reshape", ["zeros", "shape"], ["rows"]),
        helper.make_node("ReduceSum", ["rows"], ["sums"], keepdims=0),
        helper.make_node("Cast", ["size"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["sums", "sizes"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("size", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def build_grid(folder: Path) -> Path:
    """A foreign regression of one tensor: rows of 2 x 3 numbers in, the sum of each row out, as one column."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["grid", "axes"], ["sums"], keepdims=0),
            helper.make_node("Unsqueeze", ["sums", "last"], ["value"]),
        ],
        "grid",
        [helper.make_tensor_value_info("grid", TensorProto.FLOAT, ["n", 2, 3])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 1])],
        [axes, helper.make_tensor("last", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def build_echo(folder: Path) -> Path:
    """A foreign model that answers what it is asked: a number, and a text under two names, one of them for bytes."""
    pairs = (("number", "same_number"), ("text", "same_text"), ("text", "text_bytes"))
    kinds = {"number": TensorProto.FLOAT, "text": TensorProto.STRING}
    graph = helper.make_graph(
        [helper.make_node("Identity", [given], [told]) for given, told in pairs],
        "echo",
        [helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(told, kinds[given], ["n"]) for given, told in pairs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder
