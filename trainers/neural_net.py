"""A small neural network: two hidden layers, for tables where smooth functions beat trees. Keras fits it.

TensorFlow is imported by `fit` alone: it takes 5 to 12 s and 400 MB, which no other trainer should pay for.
Source: tf2onnx.convert.from_function; its from_keras fails with Keras 3 (KeyError on the output tensor).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eventing.errors import Rejected
from trainers.trainer import Floats, Labels, Report

SCALED = True
OPSET = 18
MAX_THREADS = 4


@dataclass(frozen=True, slots=True)
class Parameters:
    """Units of the two hidden layers, and how they are fitted."""

    first_units: int = 128
    second_units: int = 64
    dropout: float = 0.3
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.001

    def __post_init__(self) -> None:
        names = ("first_units", "second_units", "epochs", "batch_size")
        faults = [
            f"{n} is {getattr(self, n)}; expected 1 to 65536" for n in names if not 1 <= getattr(self, n) <= 65536
        ]
        if not 0 <= self.dropout < 1:
            faults.append(f"dropout is {self.dropout}; expected 0 up to, not including, 1")
        if not 0 < self.learning_rate <= 1:
            faults.append(f"learning_rate is {self.learning_rate}; expected above 0, up to 1")
        if faults:
            raise Rejected("the training's parameters cannot work", faults)


class FittedNet:
    """A network that Keras fitted. One sigmoid unit for two classes, else one softmax unit per class."""

    def __init__(self, network: Any, width: int, classes: int, parameters: Parameters) -> None:
        self.parameters = parameters
        self._network = network
        self._width = width
        self._classes = classes

    def predict(self, features: npt.NDArray[np.float32]) -> tuple[Labels, Floats]:
        """As Keras answers. Of two classes the second one, where its probability is above one half."""
        answers: npt.NDArray[np.float32] = self._network.predict(features, batch_size=4096, verbose=0)
        if self._classes == 2:
            return (answers[:, 0] > 0.5).astype(np.int64), np.hstack([1 - answers, answers])
        return answers.argmax(axis=1).astype(np.int64), answers

    def to_onnx(self) -> Any:
        """The network as ONNX, one graph without training's dropout."""
        import tensorflow as tf
        import tf2onnx
        from onnx import TensorProto, compose, helper, numpy_helper

        signature = [tf.TensorSpec([None, self._width], tf.float32, name="features")]
        function = tf.function(lambda features: self._network(features, training=False), input_signature=signature)
        network, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
        answer = network.graph.output[0].name
        constants = {}
        if self._classes == 2:
            body = [
                helper.make_node("Sub", ["one", "answer"], ["other"]),
                helper.make_node("Concat", ["other", "answer"], ["probabilities"], axis=1),
                helper.make_node("Greater", ["answer", "half"], ["above"]),
                helper.make_node("Cast", ["above"], ["column"], to=TensorProto.INT64),
                helper.make_node("Squeeze", ["column", "axis"], ["index"]),
            ]
            constants = {"one": np.float32(1), "half": np.float32(0.5), "axis": np.array([1], np.int64)}
        else:
            body = [
                helper.make_node("Identity", ["answer"], ["probabilities"]),
                helper.make_node("ArgMax", ["answer"], ["index"], axis=1, keepdims=0),
            ]
        tail = helper.make_graph(
            body,
            "answer",
            [
                helper.make_tensor_value_info(
                    "answer", TensorProto.FLOAT, [None, 1 if self._classes == 2 else self._classes]
                )
            ],
            [
                helper.make_tensor_value_info("index", TensorProto.INT64, [None]),
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, self._classes]),
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        judged = helper.make_model(tail, opset_imports=list(network.opset_import), ir_version=network.ir_version)
        return compose.merge_models(network, judged, io_map=[(answer, "answer")])


def fit(
    features: npt.NDArray[np.float32],
    labels: Labels,
    classes: int,
    parameters: Parameters,
    seed: int,
    report: Report,
) -> FittedNet:
    """Fit a network. The same seed on the same machine gives the same network."""
    report(0.0, "starting TensorFlow")
    import keras
    import tensorflow as tf

    for name in ("tensorflow", "tf2onnx", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not tf.executing_eagerly():
        raise RuntimeError("TensorFlow runs in graph mode; a trainer is a process of its own")
    # The layers are small: beyond a few threads the hand-over costs more than the work.
    tf.config.threading.set_intra_op_parallelism_threads(MAX_THREADS)
    keras.utils.set_random_seed(seed)  # Python's, numpy's and TensorFlow's
    two = classes == 2
    network = keras.Sequential(
        [
            keras.Input((features.shape[1],)),
            keras.layers.Dense(parameters.first_units, activation="relu"),
            keras.layers.Dropout(parameters.dropout),
            keras.layers.Dense(parameters.second_units, activation="relu"),
            keras.layers.Dropout(parameters.dropout),
            keras.layers.Dense(1 if two else classes, activation="sigmoid" if two else "softmax"),
        ]
    )
    network.compile(
        optimizer=keras.optimizers.Adam(parameters.learning_rate),
        loss="binary_crossentropy" if two else "sparse_categorical_crossentropy",
    )

    def epoch_ended(epoch: int, logs: dict[str, float]) -> None:
        report((epoch + 1) / parameters.epochs, f"epoch {epoch + 1} of {parameters.epochs}, loss {logs['loss']:.4f}")

    network.fit(
        features,
        labels.astype(np.float32) if two else labels,
        epochs=parameters.epochs,
        batch_size=parameters.batch_size,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=epoch_ended)],
    )
    return FittedNet(network, features.shape[1], classes, parameters)
