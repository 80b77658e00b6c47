"""gRPC: ModelInferRequests with raw and typed contents, whole and broken, and bytes that are no message."""

from __future__ import annotations

from typing import Any

import grpc
from hypothesis import strategies as st

from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.grpc_server.inference import FIELDS
from functions.predictor.grpc_server.service import NAME
from functions.predictor.wire import binary
from tests.fuzz.bodies import DATATYPES, MODELS, NASTY, WHOLE, Draw, damaged
from tests.fuzz.wire import HANG_S

# What a service may say of a request that is wrong; INTERNAL, UNKNOWN and UNAVAILABLE are faults of its own.
ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"}
METHODS = ("ModelInfer",) * 20 + ("ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics", "RepositoryIndex",
           "RepositoryModelLoad", "ServerMetadata", "ModelStreamInfer", "Nothing")  # fmt: skip
SIZES = (-1, 0, 1, 2, 5, 2**31, 2**62, -(2**63))
TEXTS = [text for text in NASTY if isinstance(text, str) and text != "\ud800"]


def _request(draw: Draw) -> v2.ModelInferRequest:
    """A request that fits, raw or typed."""
    model = draw(st.sampled_from(MODELS))
    raw = draw(st.booleans()) or model == "datatypes"  # FP16 has no typed contents
    request = v2.ModelInferRequest(model_name=model, id="7")
    for name, (datatype, values) in draw(st.sampled_from(WHOLE[model])).items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        if raw:
            request.raw_input_contents.append(binary.encoded(values))
        else:
            flat: list[Any] = values.reshape(-1).tolist()
            flat = [text.encode() for text in flat] if datatype == "BYTES" else flat
            getattr(tensor.contents, FIELDS[datatype]).extend(flat)
    return request


def _change(draw: Draw, request: v2.ModelInferRequest) -> None:
    """One change of one part."""
    kind = draw(st.integers(0, 11))
    tensor = request.inputs[draw(st.integers(0, len(request.inputs) - 1))] if request.inputs else request.inputs.add()
    if kind == 0:
        tensor.name = draw(st.sampled_from(TEXTS))
    elif kind == 1:
        tensor.datatype = draw(st.sampled_from(DATATYPES))
    elif kind == 2:
        del tensor.shape[:]
        tensor.shape.extend(draw(st.lists(st.sampled_from(SIZES), max_size=5)))
    elif kind == 3:
        field = draw(st.sampled_from(sorted(set(FIELDS.values()))))
        value: Any = {"bytes_contents": b"\xff\xfe", "bool_contents": True}.get(field, 1)
        getattr(tensor.contents, field).extend([value] * draw(st.integers(0, 3)))
    elif kind == 4:
        tensor.contents.Clear()
    elif kind == 5 and request.raw_input_contents:
        at = draw(st.integers(0, len(request.raw_input_contents) - 1))
        request.raw_input_contents[at] = draw(damaged(request.raw_input_contents[at]))
    elif kind == 6:
        request.raw_input_contents.append(draw(st.binary(max_size=40)))
    elif kind == 7:
        request.outputs.add(name=draw(st.sampled_from(("label", "value", "FP16_back", *TEXTS))))
    elif kind == 8:
        name = draw(st.sampled_from(("binary_data_output", "classification", "sequence_id", "content_type", "")))
        draw(st.sampled_from((request, tensor))).parameters[name].string_param = draw(st.sampled_from(TEXTS))
    elif kind == 9:
        request.model_name = draw(st.sampled_from(TEXTS))
    elif kind == 10:
        request.model_version = draw(st.sampled_from(TEXTS))
    else:
        request.inputs.add().CopyFrom(tensor)


@st.composite
def calls(draw: Draw) -> tuple[str, bytes]:
    """A method and the bytes of its message."""
    request = _request(draw)
    for _ in range(draw(st.integers(0, 3))):
        _change(draw, request)
    content = request.SerializeToString()
    if not draw(st.integers(0, 3)):
        content = draw(damaged(content))
    return draw(st.sampled_from(METHODS)), content


class Caller:
    """Calls of any bytes over one channel."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def ask(self, method: str, content: bytes) -> str:
        """The status's name. Raises AssertionError for one that no request may have."""
        try:
            self._channel.unary_unary(f"/{NAME}/{method}")(content, timeout=HANG_S)
        except grpc.RpcError as e:
            told: Any = e
            status = str(told.code().name)
            assert status in ALLOWED, f"{method}: {status}: {told.details()}"
            assert told.details(), f"{method}: {status} without a word"
            return status
        return "OK"

    def close(self) -> None:
        self._channel.close()
