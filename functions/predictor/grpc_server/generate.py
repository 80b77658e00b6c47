"""Makes open_inference_pb2.py of open_inference.proto: `python -m functions.predictor.grpc_server.generate`.

For whoever changes the .proto; grpcio-tools is a tool of development alone. A test holds that what is committed is what
this makes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTO = "open_inference.proto"
MODULE = "open_inference_pb2.py"
UNTOUCHED = "# ruff: noqa\n# fmt: off\n"  # or what is committed would be what ruff makes of it
HERE = Path(__file__).parent


def generate(into: Path) -> None:
    """Writes the module and its types into `into`. Raises CalledProcessError where protoc refuses the .proto."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={HERE}", f"--python_out={into}"]
    subprocess.run([*command, f"--pyi_out={into}", PROTO], check=True)
    for file in (into / MODULE, into / f"{MODULE}i"):
        text = file.read_text(encoding="utf-8")
        # A pool of its own: every client's generated code calls its messages `inference.…` as well, and protobuf's
        # common pool takes a name once, so that neither could be imported beside the other.
        text = text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
        file.write_text(f"{UNTOUCHED}{text}", encoding="utf-8")


if __name__ == "__main__":
    generate(HERE)
