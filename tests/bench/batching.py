"""What adaptive batching brings a network of 9 MFLOP per row at 64 connections, and that it costs a forest nothing.

    python -m tests.bench.batching [--seconds 3] [--rounds 3]

The real process on core 0, `wrk` (Debian's package) on core 1, HEADRACE_BATCHING off and auto in turn; the medians of
the rounds are compared. The network: 30-1500-1500-1500-1, random weights. The forest is the tests' own, of 20 trees.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from functions.model import Model, Signature, TensorSpec, write_sums
from functions.store import Store
from tests.functions import packages
from tests.functions.predictor import predictors

SIZES = (30, 1500, 1500, 1500, 1)
CONNECTIONS = 64
# Requests in hand at once: those of one run and those of the next. 64 threads make no better batches, and cost more.
CONCURRENCY = 32
TIMES_MORE = 2.0  # requests per second, at least

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_LUA = """local f = io.open(os.getenv("BODY")); wrk.body = f:read("*a"); f:close()
wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"
"""


@dataclass(frozen=True)
class Load:
    """What one load saw: requests per second, latencies in ms."""

    per_s: float
    p50_ms: float
    p99_ms: float


def network(sizes: tuple[int, ...] = SIZES, seed: int = 0) -> bytes:
    """ONNX of a dense network with ReLU between its layers: `x` in, `y` from 0 to 1 out."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for n, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        matrix = rng.normal(scale=fan_in**-0.5, size=(fan_in, fan_out)).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{n}"),
            numpy_helper.from_array(np.zeros(fan_out, np.float32), f"b{n}"),
        ]
        nodes += [
            helper.make_node("Gemm", [last, f"w{n}", f"b{n}"], [f"sum{n}"]),
            helper.make_node("Relu" if n < len(sizes) - 2 else "Sigmoid", [f"sum{n}"], [f"layer{n}"]),
        ]
        last = f"layer{n}"
    nodes[-1].output[0] = "y"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", sizes[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", sizes[-1]])
    graph = helper.make_graph(nodes, "network", [x], [y], weights)
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def network_package(folder: Path, sizes: tuple[int, ...] = SIZES) -> Path:
    """The network as a whole package, five sample rows in it."""
    folder.mkdir(parents=True)
    content = network(sizes)
    (folder / "model.onnx").write_bytes(content)
    signature = Signature(
        (TensorSpec("x", "FP32", "tensor(float)", (-1, sizes[0])),),
        (TensorSpec("y", "FP32", "tensor(float)", (-1, sizes[-1])),),
    )
    (folder / "model.json").write_text(json.dumps(packages.manifest("network", signature=signature).to_json()))
    rows = np.random.default_rng(1).normal(size=(5, 1, sizes[0])).astype(np.float32)
    model = Model.from_onnx(content)
    requests = [
        {"inputs": {"x": row[0].tolist()}, "outputs": {"y": model.infer({"x": row})["y"][0].tolist()}} for row in rows
    ]
    (folder / "sample.json").write_text(json.dumps({"requests": requests}))
    write_sums(folder)
    return folder


@contextmanager
def pinned(store: str, model: str, batching: str) -> Iterator[str]:
    """URL of a predictor on core 0, ready; its log says what was decided."""
    settings = {"HEADRACE_MODEL": model, "HEADRACE_BATCHING": batching, "HEADRACE_CONCURRENCY": str(CONCURRENCY)}
    with predictors.running(store, core=0, **settings) as predictor:
        predictor.until_ready()
        yield predictor.url


def load(url: str, body: Path, script: Path, seconds: float) -> Load:
    """wrk from core 1. Ends the benchmark where an answer is not 200."""
    command = [
        "taskset",
        "-c",
        "1",
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:.0f}s",
        "--latency",
        "-s",
        script,
        url,
    ]
    told = subprocess.run(
        command, env=os.environ | {"BODY": str(body)}, capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(told)
    latencies = {
        percent: float(value) * _UNITS[unit] for percent, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", told)
    }
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    return Load(float(rate[1]) if rate else 0.0, latencies["50"], latencies["99"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        print("wrk and taskset are needed (Debian's packages wrk and util-linux)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="headrace-batching-") as name:
        folder = Path(name)
        store = (folder / "store").as_uri()
        Store.open(store).publish(network_package(folder / "network"))
        Store.open(store).publish(packages.build_package(folder))
        (folder / "post.lua").write_text(_LUA)
        row = np.random.default_rng(2).normal(size=SIZES[0]).round(4).tolist()
        bodies = {"network": {"instances": [row]}, "flights": {"instances": [packages.ROWS[0]]}}
        seen: dict[tuple[str, str], list[Load]] = {}
        for model in bodies:
            body = folder / f"{model}.json"
            body.write_text(json.dumps(bodies[model]))
            for _ in range(arguments.rounds):
                for batching in ("off", "auto"):
                    with pinned(store, model, batching) as url:
                        path = f"{url}/v1/models/{model}:predict"
                        load(path, body, folder / "post.lua", 1)
                        seen.setdefault((model, batching), []).append(
                            load(path, body, folder / "post.lua", arguments.seconds)
                        )
    print(f"| model, {CONNECTIONS} connections, one core | requests/s | p50 | p99 |\n|---|---|---|---|")
    middle = {
        key: Load(*(median(getattr(one, field) for one in loads) for field in ("per_s", "p50_ms", "p99_ms")))
        for key, loads in seen.items()
    }
    for (model, batching), one in middle.items():
        print(f"| {model}, batching {batching} | {one.per_s:,.0f} | {one.p50_ms:.1f} ms | {one.p99_ms:.1f} ms |")
    for model in bodies:
        off, on = middle[model, "off"], middle[model, "auto"]
        print(
            f"| {model}, auto to off | {on.per_s / off.per_s:.2f} | {on.p50_ms / off.p50_ms:.2f} "
            f"| {on.p99_ms / off.p99_ms:.2f} |"
        )
    off, on = middle["network", "off"], middle["network", "auto"]
    return 0 if on.per_s >= TIMES_MORE * off.per_s and on.p99_ms <= off.p99_ms else 1


if __name__ == "__main__":
    sys.exit(main())
