"""The contract: what is committed is what the .proto gives, and says on the wire what other people's clients say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from functions.predictor.grpc_server import generate
from functions.predictor.grpc_server import open_inference_pb2 as v2
from tests.functions.predictor.grpc_server import doors

# Every field of every message in the generated file `sys.argv[1]`, as "message.field": [number, type, label].
FIELDS = """
import importlib.util, json, sys
from google.protobuf import descriptor_pb2

package, _, file = sys.argv[1].partition("/")
# By its file: importing KServe whole takes ten seconds.
folder = importlib.util.find_spec(package).submodule_search_locations[0]
spec = importlib.util.spec_from_file_location("theirs", f"{folder}/{file}")
theirs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(theirs)
file = descriptor_pb2.FileDescriptorProto()
theirs.DESCRIPTOR.CopyToProto(file)
found = {}

def read(message, prefix):
    for field in message.field:
        found[f"{prefix}{message.name}.{field.name}"] = [field.number, field.type, field.label]
    for inner in message.nested_type:
        read(inner, f"{prefix}{message.name}.")

for message in file.message_type:
    read(message, "")
print(json.dumps(found))
"""


def _ours() -> dict[str, list[int]]:
    found = {}

    def read(message: descriptor_pb2.DescriptorProto, prefix: str) -> None:
        for field in message.field:
            found[f"{prefix}{message.name}.{field.name}"] = [field.number, field.type, field.label]
        for inner in message.nested_type:
            read(inner, f"{prefix}{message.name}.")

    file = descriptor_pb2.FileDescriptorProto()
    v2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        read(message, "")
    return found


@pytest.mark.parametrize("name", ["open_inference_pb2.py", "open_inference_pb2.pyi"])
def test_what_is_committed_is_what_the_proto_gives(tmp_path: Path, name: str) -> None:
    generate.generate(tmp_path)
    assert (tmp_path / name).read_text() == (generate.HERE / name).read_text(), "run the module `generate`"


# Each with what only the other ones' clients call so, and where.
@pytest.mark.parametrize(
    ("module", "apart"),
    [
        # KServe's answers to load and unload, whose fields Triton's empty ones leave free.
        ("tritonclient/grpc/service_pb2.py", {"model_name", "isLoaded", "isUnloaded"}),
        # KServe's one field of these is Triton's other: both are filled by either, see `Service`.
        ("kserve/protocol/grpc/grpc_predict_v2_pb2.py", {"model_name"}),
    ],
)
def test_each_field_is_what_the_clients_have(module: str, apart: set[str]) -> None:
    ours, theirs = _ours(), doors.client(FIELDS, module)
    compared = 0
    for name, field in ours.items():
        message, _, short = name.rpartition(".")
        if short in apart and message.startswith("Repository"):
            continue
        if name in theirs:
            assert field == theirs[name], name
            compared += 1
        elif "tritonclient" in module:
            # The configuration's lie in a file of their own.
            assert message.startswith(("ModelConfig", "ModelInput", "ModelOutput")), name
    assert compared > 60 if "tritonclient" in module else compared > 40


def test_the_configuration_is_tritons() -> None:
    ours, theirs = _ours(), doors.client(FIELDS, "tritonclient/grpc/model_config_pb2.py")
    config = {
        name: field
        for name, field in ours.items()
        if name.split(".")[0] in ("ModelConfig", "ModelInput", "ModelOutput")
    }
    assert len(config) == 12
    for name, field in config.items():
        assert field == theirs[name], name


def test_it_goes_into_a_process_that_has_messages_of_the_same_names_already() -> None:
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
from pathlib import Path
import sys

theirs = descriptor_pb2.FileDescriptorProto(name="service.proto", package="inference", syntax="proto3")
theirs.message_type.add(name="ModelInferRequest").field.add(name="other", number=1, type=9, label=1)
descriptor_pool.Default().Add(theirs)
from functions.predictor.grpc_server import open_inference_pb2 as ours
again = ours.ModelInferRequest.FromString(ours.ModelInferRequest(model_name="m").SerializeToString())
assert again.model_name == "m"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
