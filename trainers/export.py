"""One graph of three parts: columns to features, the trainer's model, class index to label.

The result keeps the contract of every package: one input per column, by the column's own name, float or string [N, 1];
outputs `label` (int64 or string [N]) and `probabilities` (float [N, n_classes]).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from eventing.errors import Rejected
from functions.model import Signature, TensorSpec
from trainers.columns import Column
from trainers.dataset import Dataset
from trainers.preprocessing import FEATURES, ML_DOMAIN, PREFIX, Preprocessing
from trainers.trainer import Fitted

OPSET = 18  # where the trainer's model says nothing, or what is older than the preprocessing can be
OLDEST_OPSET = 13  # since which Squeeze takes its axes as an input
ML_OPSET = 3
IR_VERSION = 10  # what onnxruntime has read since 1.18; onnx itself would write its newest
MAX_BYTES = 2_000_000_000  # protobuf ends at 2 GiB
LIBRARIES = ("scikit-learn", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy", "pyarrow", "headrace")


def graph(
    preprocessing: Preprocessing, columns: Sequence[Column], fitted: Fitted, classes: Sequence[str | int]
) -> tuple[bytes, int]:
    """The whole graph, checked, and its opset: the trainer's own. Raises Rejected where ONNX cannot hold it."""
    inner = compose.add_prefix(fitted.to_onnx(), f"{PREFIX}model/", inplace=True)
    opsets = _opsets(inner)
    inputs, nodes, constants = preprocessing.graph(columns)
    nodes.append(helper.make_node("Identity", [FEATURES], [f"{PREFIX}model/features"]))
    nodes.extend(inner.graph.node)
    nodes += [
        helper.make_node("Gather", [f"{PREFIX}classes", f"{PREFIX}model/index"], ["label"], axis=0),
        helper.make_node("Identity", [f"{PREFIX}model/probabilities"], ["probabilities"]),
    ]
    text = isinstance(classes[0], str)
    constants += [*inner.graph.initializer, _labels(classes)]
    whole = helper.make_graph(
        nodes,
        "headrace",
        inputs,
        [
            helper.make_tensor_value_info("label", TensorProto.STRING if text else TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(classes)]),
        ],
        constants,
    )
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        functions=list(inner.functions),
        producer_name="headrace",
        producer_version=importlib.metadata.version("headrace"),
        ir_version=IR_VERSION,
    )
    if model.ByteSize() > MAX_BYTES:
        raise Rejected(f"the graph has {model.ByteSize():,} bytes; ONNX ends at 2 GB: choose a smaller model")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as e:
        raise Rejected(f"what the trainer exports is no valid ONNX: {str(e).strip()}") from e
    return bytes(model.SerializeToString()), opsets[""]


def _opsets(inner: onnx.ModelProto) -> dict[str, int]:
    """By domain. What an operator means depends on it: the preprocessing has few and old ones, the trainer has any."""
    found = {"": OPSET, ML_DOMAIN: ML_OPSET}
    for imported in inner.opset_import:
        domain = "" if imported.domain == "ai.onnx" else imported.domain  # two names for the default one
        oldest = OLDEST_OPSET if domain == "" else found.get(domain, 1)
        if imported.version >= oldest:
            found[domain] = imported.version
    return found


def signature(preprocessing: Preprocessing, learned: Dataset) -> Signature:
    """What the graph takes and gives. learned: the rows it learned from, for ranges."""
    known = dict(zip(preprocessing.texts, preprocessing.categories, strict=True))
    text = isinstance(learned.classes[0], str)
    label = ("BYTES", "tensor(string)") if text else ("INT64", "tensor(int64)")
    return Signature(
        inputs=tuple(_input(column, known.get(column.name)) for column in learned.columns),
        outputs=(
            TensorSpec("label", label[0], label[1], (-1,)),
            TensorSpec("probabilities", "FP32", "tensor(float)", (-1, len(learned.classes))),
        ),
        classes=learned.classes,
    )


def libraries() -> dict[str, str]:
    """Version of each library that may have taken part."""
    installed = {
        found.metadata["Name"].lower() for found in importlib.metadata.distributions() if found.metadata["Name"]
    }
    return {name: importlib.metadata.version(name) for name in LIBRARIES if name in installed}


def _input(column: Column, categories: tuple[str, ...] | None) -> TensorSpec:
    if column.is_text:
        return TensorSpec(column.name, "BYTES", "tensor(string)", (-1, 1), categories=categories)
    assert column.values is not None
    filled = column.values[~np.isnan(column.values)]
    span = (float(filled.min()), float(filled.max())) if len(filled) else None
    return TensorSpec(column.name, "FP32", "tensor(float)", (-1, 1), range=span)


def _labels(classes: Sequence[str | int]) -> onnx.TensorProto:
    name = f"{PREFIX}classes"
    if isinstance(classes[0], str):
        return helper.make_tensor(name, TensorProto.STRING, [len(classes)], [str(c).encode() for c in classes])
    return numpy_helper.from_array(np.array(classes, np.int64), name)
