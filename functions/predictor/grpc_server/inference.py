"""ModelInfer's messages: a request to a query, a prediction to an answer. Knows no server and no model that runs.

Tensors come and go raw or as typed contents; an answer is of the request's kind, as KServe's is, unless the parameter
`binary_data_output` says otherwise.
Source: Open Inference Protocol V2, gRPC: ModelInferRequest, ModelInferResponse, InferTensorContents.
"""

from __future__ import annotations

from collections.abc import Mapping

from functions import tensors
from functions.package import Signature, TensorSpec
from functions.predictor.answers import UNSUPPORTED, Refusal, misfit
from functions.predictor.grpc_server.open_inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from functions.predictor.query import Prediction, Query
from functions.predictor.served import Served
from functions.predictor.wire import binary, infer_request
from functions.tensors import Array

# The field of InferTensorContents that holds a datatype's values; FP16 has none.
FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
AS_BYTES = "binary_data_output"  # the name that V2 over HTTP has for the same wish


def decode(signature: Signature, request: ModelInferRequest) -> Query:
    """The query of a request. Raises Refusal: 400 naming every fault, 501 for what a client would wait for in vain."""
    faults: list[str] = []
    contents = request.raw_input_contents
    if contents and len(contents) != len(request.inputs):
        seen = f"raw_input_contents has {len(contents)} tensors"
        faults.append(f"{seen}; expected {len(request.inputs)}, one for each input in their order")
    inputs: dict[str, Array] = {}
    for number, tensor in enumerate(request.inputs):
        name = tensor.name
        spec = signature.input(name)
        if tensor.parameters:
            _check(f"input {name!r:.60}", tensor.parameters)
        if spec is None or name in inputs:
            faults.append(f"input {name!r:.60} is {'not in the signature' if spec is None else 'given twice'}")
            continue
        inputs[name] = binary.NOTHING
        shape = infer_request.shape_of(spec, tensor.datatype, list(tensor.shape), faults)
        if contents and tensor.HasField("contents"):
            faults.append(f"input {name!r} has contents beside raw_input_contents; expected one of them")
        elif shape is not None and number < len(contents):
            content = contents[number]
            inputs[name] = binary.Raw(content).take(spec, len(content), shape, faults)
        elif shape is not None and not contents:
            inputs[name] = _typed(spec, tensor.contents, shape, faults)
    for spec in signature.inputs:
        if spec.name not in inputs:
            faults.append(f"input {spec.name!r} is missing; the signature says {spec.datatype} {list(spec.shape)}")
    if not faults:
        faults += infer_request.uneven(signature, inputs)
    outputs = _outputs(signature, request, faults)
    if faults:
        raise misfit(signature, faults)
    return Query(inputs, signature.rows(infer_request.sizes(inputs)), outputs)


def encode(served: Served, prediction: Prediction, request: ModelInferRequest) -> ModelInferResponse:
    """The answer, raw or typed."""
    response = ModelInferResponse(model_name=served.name, model_version=served.version, id=request.id)
    datatypes = {spec.name: spec.datatype for spec in served.signature.outputs}
    as_bytes = bool(request.raw_input_contents)
    if AS_BYTES in request.parameters:
        as_bytes = request.parameters[AS_BYTES].bool_param
    # All of them or none: an answer with a tensor that can only travel raw has every tensor so.
    as_bytes = as_bytes or any(datatypes[name] not in FIELDS for name in prediction.outputs)
    for name, values in prediction.outputs.items():
        datatype = datatypes[name]
        output = response.outputs.add(name=name, datatype=datatype, shape=values.shape)
        if as_bytes:
            response.raw_output_contents.append(binary.encoded(values))
        else:
            flat = values.reshape(-1).tolist()
            if datatype == "BYTES":
                flat = [value if isinstance(value, bytes) else str(value).encode() for value in flat]
            getattr(output.contents, FIELDS[datatype]).extend(flat)
    return response


def _typed(spec: TensorSpec, contents: InferTensorContents, shape: tuple[int, ...], faults: list[str]) -> Array:
    """The values in `contents` as an array; of no use where there is a fault."""
    field = FIELDS.get(spec.datatype)
    filled = [descriptor.name for descriptor, _ in contents.ListFields()]
    if field is None:
        faults.append(f"input {spec.name!r} is {spec.datatype}, which travels in raw_input_contents alone")
        return binary.NOTHING
    if filled != [field]:
        seen = " and ".join(filled) or "no contents"
        faults.append(f"input {spec.name!r} has {seen}; expected {spec.datatype} in {field}, or raw_input_contents")
        return binary.NOTHING
    values = list(getattr(contents, field))
    if field == FIELDS["BYTES"]:
        values = _texts(spec, values, faults)
    return tensors.array(spec, values, shape, faults)


def _texts(spec: TensorSpec, encoded: list[bytes], faults: list[str]) -> list[str]:
    texts, broken = [], 0
    for position, value in enumerate(encoded):
        try:
            texts.append(value.decode())
        except UnicodeDecodeError as e:
            texts.append("")  # its place, so that the count stays that of the values
            broken += 1
            if broken <= tensors.MAX_NAMED_VALUES:
                faults.append(f"input {spec.name!r} element {position} is no UTF-8 text: {e.reason}")
    if broken > tensors.MAX_NAMED_VALUES:
        faults.append(f"input {spec.name!r}: {broken - tensors.MAX_NAMED_VALUES} more elements are no UTF-8 text")
    return texts


def _outputs(signature: Signature, request: ModelInferRequest, faults: list[str]) -> list[str] | None:
    """Names of the outputs asked for; None for all, as when none is named."""
    if not request.outputs:
        return None
    names: list[str] = []
    for output in request.outputs:
        if signature.output(output.name) is None:
            known = ", ".join(spec.name for spec in signature.outputs)
            faults.append(f"output {output.name!r:.60} is not in the signature; it has {known}")
        elif output.name in names:
            faults.append(f"output {output.name!r} is asked for twice")
        else:
            names.append(output.name)
        if output.parameters:
            _check(f"output {output.name!r:.60}", output.parameters)
    return names


def _check(whose: str, parameters: Mapping[str, InferParameter]) -> None:
    """What is not known is ignored, as the specification says; Refusal (501) for what would change the answer."""
    for name in infer_request.UNSUPPORTED_PARAMETERS:
        if name in parameters:
            raise Refusal(
                UNSUPPORTED, f"{whose} has the parameter {name!r}, which is not supported; expected it without"
            )
