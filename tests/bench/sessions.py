"""What onnxruntime's settings bring: time to load, one row's time, resident memory, by model and setting.

    python -m tests.bench.sessions [PACKAGE_OR_ONNX…] [--rounds 2]

Every figure is from a process of its own on core 0, the best of the rounds, settings in turn; then the ways to call a
session, for one row. Without arguments: a large forest as it is made for the tests (262,112 nodes), a dense network of
9 MFLOP per row and one of 1,000 layers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from functions import model, optimised
from functions.model import PROVIDERS, Model, give_back, graph_signature, session_options
from functions.optimise import resident_bytes
from functions.tensors import DTYPES, Array

CALLS = 1000
LEVELS = onnxruntime.GraphOptimizationLevel
PLAIN, WAYS = "as served", "ways"


def no_arena(options: onnxruntime.SessionOptions) -> None:
    options.enable_cpu_mem_arena = False


def no_pattern(options: onnxruntime.SessionOptions) -> None:
    options.enable_mem_pattern = False


def entry(key: str, value: str) -> Callable[[onnxruntime.SessionOptions], None]:
    return lambda options: options.add_session_config_entry(key, value)


def level(value: Any) -> Callable[[onnxruntime.SessionOptions], None]:
    def change(options: onnxruntime.SessionOptions) -> None:
        options.graph_optimization_level = value

    return change


def threads(count: int) -> Callable[[onnxruntime.SessionOptions], None]:
    def change(options: onnxruntime.SessionOptions) -> None:
        options.intra_op_num_threads = count

    return change


SETTINGS: dict[str, Callable[[onnxruntime.SessionOptions], None]] = {
    PLAIN: lambda options: None,
    "optimised copy, ORT format": level(LEVELS.ORT_DISABLE_ALL),
    "optimised copy, ONNX": level(LEVELS.ORT_DISABLE_ALL),
    "no graph optimization": level(LEVELS.ORT_DISABLE_ALL),
    "basic graph optimization": level(LEVELS.ORT_ENABLE_BASIC),
    "no arena": no_arena,
    "no memory pattern": no_pattern,
    "no prepacking": entry("session.disable_prepacking", "1"),
    "denormals as zero": entry("session.set_denormal_as_zero", "1"),
    "2 threads, on 2 cores": threads(2),
}


def child(file: Path, setting: str) -> dict[str, float]:
    """Load and ask, here."""
    options = session_options()
    SETTINGS[setting](options)
    before, began = resident_bytes(), time.perf_counter()
    if "copy" in setting:
        optimised.sha256_of(file)
    session = onnxruntime.InferenceSession(str(file), sess_options=options, providers=list(PROVIDERS))
    give_back()
    load_s, loaded = time.perf_counter() - began, resident_bytes()
    served = Model(session, graph_signature(session), None)
    inputs = one_row(served)
    row_us = median_us(lambda: served.infer(inputs))
    mib = 2**20
    return {
        "load_ms": load_s * 1e3,
        "row_us": row_us,
        "mib": (loaded - before) / mib,
        "asked_mib": (resident_bytes() - before) / mib,
    }


def one_row(served: Model) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        spec.name: np.full((1, *(abs(n) for n in spec.shape[1:])), "AA", object)
        if spec.datatype == "BYTES"
        else rng.normal(size=(1, *(abs(n) for n in spec.shape[1:]))).astype(DTYPES[spec.datatype])
        for spec in served.signature.inputs
    }


def median_us(call: Callable[[], object], calls: int = CALLS) -> float:
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return median(took) * 1e6


def ways(file: Path) -> dict[str, float]:
    """Microseconds of one row by each way to call a session, all in this process, in turn."""
    session = model.open_session(file)
    served = Model(session, graph_signature(session), None)
    inputs, names = one_row(served), [spec.name for spec in served.signature.outputs]

    def by_binding() -> object:
        binding = session.io_binding()
        for name, values in inputs.items():
            binding.bind_cpu_input(name, values)
        for name in names:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    def by_values() -> object:
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        return [value.numpy() for value in session.run_with_ort_values(names, values)]

    calls: dict[str, Callable[[], object]] = {
        "session.run": lambda: session.run(names, inputs),
        "Model.infer": lambda: served.infer(inputs),
        "Model.infer, the last output alone": lambda: served.infer(inputs, names[-1:]),
    }
    if all(spec.datatype != "BYTES" for spec in (*served.signature.inputs, *served.signature.outputs)):
        calls |= {"io_binding": by_binding, "OrtValues": by_values}  # neither takes text
    took: dict[str, list[float]] = {way: [] for way in calls}
    for _ in range(10):
        for way, call in calls.items():
            took[way].append(median_us(call, CALLS // 10))
    return {way: min(each) for way, each in took.items()}


def measure(file: Path, setting: str) -> dict[str, float]:
    cores = "0,1" if "2 cores" in setting else "0"  # elsewhere the machine's second core is the load's
    command = ["taskset", "-c", cores, sys.executable, "-m", "tests.bench.sessions", "--child", setting, str(file)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def table(name: str, file: Path, rounds: int, folder: Path) -> None:
    ort, onnx = folder / f"{name}.ort", folder / f"{name}.onnx"
    model.save_optimised(file, ort)
    options = session_options()
    options.optimized_model_filepath = str(onnx)
    onnxruntime.InferenceSession(str(file), sess_options=options, providers=list(PROVIDERS))
    files = {"optimised copy, ORT format": ort, "optimised copy, ONNX": onnx}
    seen: dict[str, list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    for _ in range(rounds):
        for setting, figures in seen.items():
            figures.append(measure(files.get(setting, file), setting))
    print(
        f"\n| {name} | load | ratio | one row | ratio | memory | after {CALLS:,} rows |\n|---|---|---|---|---|---|---|"
    )
    best = {s: {key: min(one[key] for one in figures) for key in figures[0]} for s, figures in seen.items()}
    base = best[PLAIN]
    for setting, at in best.items():
        print(
            f"| {setting} | {at['load_ms']:.1f} ms | {at['load_ms'] / base['load_ms']:.2f} | {at['row_us']:.1f} µs "
            f"| {at['row_us'] / base['row_us']:.2f} | {at['mib']:.1f} MiB | {at['asked_mib']:.1f} MiB |"
        )
    print(f"\n| {name}, one row | time | ratio |\n|---|---|---|")
    took = measure(file, WAYS)
    for way, us in took.items():
        print(f"| {way} | {us:.1f} µs | {us / took['session.run']:.2f} |")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child")
    asked = parser.parse_args(arguments)
    if asked.child:
        found = ways(asked.files[0]) if asked.child == WAYS else child(asked.files[0], asked.child)
        print(json.dumps(found))
        return 0
    with tempfile.TemporaryDirectory(prefix="headrace-sessions-") as name:
        folder = Path(name)
        files = {f.name: f / "model.onnx" if f.is_dir() else f for f in asked.files}
        if not files:
            # Not above: what makes models would be most of each measured process.
            from tests.bench.batching import network
            from tests.functions import packages

            made = {"forest": packages.large_forest(), "network": network(), "layers": network((30, *[32] * 1000, 1))}
            for kind, content in made.items():
                files[kind] = folder / kind
                files[kind].write_bytes(content)
        for kind, file in files.items():
            table(kind, file, asked.rounds, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
