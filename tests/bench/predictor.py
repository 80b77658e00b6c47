"""The predictor beside the servers that a user would take instead: `python -m tests.bench.predictor [--quick]`.

One model for all, a forest of 100 trees on 30 numbers; each server alone on core 0, the load from core 1. Only the
ratios between the rows of one run mean anything. Needs `wrk` and the peers of ../shared/bench (its `peers` installs
them). Many rows at once are asked of the forest and of a logistic regression: what a server costs shows beside a model
that costs nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from functions import package
from functions.model import Model
from functions.package import Manifest
from functions.store import Store

HOUSE = Path(__file__).resolve().parents[2]
SHARED = HOUSE.parent / "shared" / "bench"
BENCH_HOME = Path(os.environ.get("BENCH_HOME", Path.home() / ".cache" / "headrace-bench"))
MODEL, VERSION = "m", "v20260101-000000-000001"
PORT = 9120
ROWS = 64
PEERS = ("bare", "flask_gunicorn", "flask_granian", "fastapi", "kserve", "mlserver", "bentoml", "litserve", "pickle")
LIGHT = """
import sys
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
x, y = load_breast_cancer(return_X_y=True)
x = x.astype("float32")
model = LogisticRegression(max_iter=5000).fit(x, y)
sys.stdout.buffer.write(to_onnx(model, x[:1], options={id(model): {"zipmap": False}}).SerializeToString())
"""  # run where the peers' model is made
BASE_IMPORT = "import numpy, onnxruntime"


def store_of(onnx: bytes, sample: Sequence[float], folder: Path) -> str:
    """A store with one package of a foreign graph; its URL."""
    model = Model.from_onnx(onnx)
    (spec,) = model.signature.inputs
    answers = model.infer({spec.name: np.array([sample], np.float32)})
    manifest = Manifest(
        name=MODEL,
        version=VERSION,
        trainer="bench",
        signature=model.signature,
        opset=15,
        producer="skl2onnx",
        libraries={},
        dataset={"uri": "sklearn:breast_cancer", "sha256": "0" * 64, "rows": 455},
        parameters={},
        seed=42,
        scores={},
        parity={"rows": 114, "largest_difference": 0.0, "label_flips": 0, "tolerance": 1e-5},
        baseline={},
        parent=None,
        created="2026-01-01T00:00:00+00:00",
    )
    made = folder / VERSION
    made.mkdir(parents=True)
    request = {"inputs": {spec.name: list(sample)}, "outputs": {name: a[0].tolist() for name, a in answers.items()}}
    (made / package.MODEL_FILE).write_bytes(onnx)
    (made / package.MANIFEST_FILE).write_text(json.dumps(manifest.to_json()))
    (made / package.SAMPLE_FILE).write_text(json.dumps({"requests": [request] * 5}))
    package.write_sums(made)
    url = (folder / "store").as_uri()
    Store.open(url).publish(made)
    return url


def environment(store: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "K_"))}
    served = {"HEADRACE_STORE": store, "HEADRACE_MODEL": MODEL, "HEADRACE_MODEL_VERSION": VERSION}
    return {**kept, **served, "PORT": str(PORT), "BENCH_HOME": str(BENCH_HOME), "PYTHONPATH": str(HOUSE)}


@contextlib.contextmanager
def serving(
    command: Sequence[str], environ: Mapping[str, str], url: str, body: bytes
) -> Iterator[subprocess.Popen[bytes]]:
    """A server on core 0 that has answered once."""
    # Some servers log to stdout, which is what the page shows.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["taskset", "-c", "0", *command], env=dict(environ), **quiet)
    try:
        ends = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()
                break
            if time.monotonic() > ends or process.poll() is not None:
                raise SystemExit(f"{command[-1]} does not answer at {url}")
            time.sleep(0.005)  # a longer one would count as the start's, a shorter one would keep it from starting
        yield process
    finally:
        process.terminate()
        process.wait(30)


def wrk(
    url: str, body: Path, headers: Mapping[str, str], connections: int = 16, seconds: int = 6
) -> tuple[float, float]:
    """Requests per second, and the 99th percentile in ms. Raises SystemExit where one was not answered with 2xx."""
    lines = [f'local f = io.open("{body}", "rb"); wrk.body = f:read("*a"); f:close(); wrk.method = "POST"']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script = body.with_suffix(".lua")
    script.write_text("\n".join(lines))
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if bad := re.search(r"Non-2xx.*", said):
        raise SystemExit(f"{url}: {bad[0]}")
    rate, p99 = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    assert rate and p99, said
    return float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]


def one_row(environ: Mapping[str, str], peers: Sequence[str], seconds: int) -> list[list[str]]:
    """The rows of ../shared/bench's own table: V1 and V2 in JSON, one row of 30 numbers, then the peers."""
    table: list[list[str]] = []
    command = [sys.executable, "-m", "functions.predictor"]
    for name, path, body in (
        ("headrace, V1", f"/v1/models/{MODEL}:predict", "v1"),
        ("headrace, V2", f"/v2/models/{MODEL}/infer", "v2"),
    ):
        added = ["--add", name, str(PORT), path, str(BENCH_HOME / "bodies" / f"{body}.json"), "--", *command, "--"]
        others = peers if body == "v1" else ["bare"]
        done = subprocess.run(
            [str(SHARED / "bench"), *added, *others],
            env={**environ, "SECONDS_EACH": str(seconds)},
            capture_output=True,
            text=True,
            check=False,
        )
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
        table += rows
    return table


def many_rows(folder: Path, onnx: bytes, sample: Sequence[float], seconds: int) -> dict[str, float]:
    """Rows per second of 64 x 30 numbers: ours in V2 binary and JSON, MLServer's in JSON, onnxruntime's alone."""
    folder.mkdir()
    environ = environment(store_of(onnx, sample, folder / "package"))
    rows = np.random.default_rng(7).uniform(0, 100, (ROWS, 30)).astype(np.float32)
    tensor = {"name": "X", "shape": [ROWS, 30], "datatype": "FP32"}
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": rows.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    binary, plain = folder / "binary.bin", folder / "plain.json"
    binary.write_bytes(head + rows.tobytes())
    plain.write_text(json.dumps({"inputs": [{**tensor, "data": [round(float(v), 4) for v in rows.ravel()]}]}))
    json_type = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{PORT}/v2/models/{MODEL}/infer"
    found = {}
    with serving([sys.executable, "-m", "functions.predictor"], environ, url, plain.read_bytes()):
        sized = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        wrk(url, binary, sized, seconds=1)
        found["headrace, V2 binary"] = ROWS * wrk(url, binary, sized, seconds=seconds)[0]
        found["headrace, V2 JSON"] = ROWS * wrk(url, plain, json_type, seconds=seconds)[0]
    peers = SHARED / "peers.d"
    (folder / "model.onnx").write_bytes(onnx)  # MLServer's model takes it from BENCH_HOME
    other = {**environ, "PYTHONPATH": str(peers), "BENCH_HOME": str(folder)}
    mlserver = [str(BENCH_HOME / "mlserver" / "bin" / "mlserver"), "start", str(peers / "mlserver_home")]
    url = "http://127.0.0.1:9102/v2/models/m/infer"
    with serving(mlserver, other, url, plain.read_bytes()):
        wrk(url, plain, json_type, seconds=1)
        found["mlserver, V2 JSON"] = ROWS * wrk(url, plain, json_type, seconds=seconds)[0]
    alone = [sys.executable, "-m", "tests.bench.predictor", "--alone", str(folder / "model.onnx")]
    done = subprocess.run(["taskset", "-c", "0", *alone], env=environ, capture_output=True, text=True, check=True)
    found["onnxruntime alone, no server"] = float(done.stdout)
    return found


def alone(onnx: Path) -> float:
    """Rows per second that onnxruntime answers here, in a loop: the most that any server of it could."""
    model = Model.from_onnx(onnx.read_bytes())
    inputs = {"X": np.random.default_rng(7).uniform(0, 100, (ROWS, 30)).astype(np.float32)}
    best = 0.0
    for _ in range(5):
        began, count = time.perf_counter(), 2000
        for _ in range(count):
            model.infer(inputs)
        best = max(best, ROWS * count / (time.perf_counter() - began))
    return best


def start(environ: Mapping[str, str], runs: int) -> tuple[float, float, float, float]:
    """Medians, in s: CPU and time of a process that imports numpy and onnxruntime, CPU and time to a first answer."""
    body = (BENCH_HOME / "bodies" / "v1.json").read_bytes()
    url = f"http://127.0.0.1:{PORT}/v1/models/{MODEL}:predict"
    imports: list[tuple[float, float]] = []
    answers: list[tuple[float, float]] = []
    for _ in range(runs):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(["taskset", "-c", "0", sys.executable, "-c", BASE_IMPORT], check=True, env=dict(environ))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        imports.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - began))
        began = time.monotonic()
        with serving([sys.executable, "-m", "functions.predictor"], environ, url, body) as process:
            seconds = time.monotonic() - began
            ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            answers.append((sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), seconds))
    medians = [statistics.median(run[i] for run in runs_) for runs_ in (imports, answers) for i in (0, 1)]
    return medians[0], medians[1], medians[2], medians[3]


def _bare_of(table: Sequence[Sequence[str]]) -> list[float]:
    """For each row the bare WSGI answer's rate of the same run: V1's run has the peers, V2's the bare one alone."""
    rates = [float(cells[1].split()[0]) for cells in table if cells[0] == "bare-wsgi"]
    second = next(i for i, cells in enumerate(table) if cells[0] == "headrace, V2")
    return [rates[0] if i < second else rates[-1] for i in range(len(table))]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="2 s for each server in place of 6")
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("-o", "--output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone is not None:
        print(alone(arguments.alone))
        return 0
    if shutil.which("wrk") is None or not (BENCH_HOME / "model.onnx").exists():
        print("needs wrk, and the model and peers of ../shared/bench: run its `peers` first", file=sys.stderr)
        return 1
    seconds = 2 if arguments.quick else 6
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        (row,) = json.loads((BENCH_HOME / "bodies" / "v1.json").read_text())["instances"]
        forest = (BENCH_HOME / "model.onnx").read_bytes()
        light = subprocess.run([str(BENCH_HOME / "train/bin/python"), "-c", LIGHT], capture_output=True, check=True)
        environ = environment(store_of(forest, row, folder / "package"))
        table = one_row(environ, arguments.peers, seconds)
        many = {
            "forest of 100 trees": many_rows(folder / "forest", forest, row, seconds),
            "logistic regression": many_rows(folder / "light", light.stdout, row, seconds),
        }
        import_cpu, import_s, start_cpu, start_s = start(environ, 3 if arguments.quick else 9)
    print("| server | requests/s, 16 connections | of bare WSGI | p50, 1 connection | cold start | memory |")
    print("|---|---|---|---|---|---|")
    for (name, rate, *rest), bare in zip(table, _bare_of(table), strict=True):
        print(f"| {name} | {rate} | {float(rate.split()[0]) / bare:.3f} | {' | '.join(rest)} |")
    for what, rates in many.items():
        print(f"\n| {what}, {ROWS} rows x 30, 16 connections | rows/s | of MLServer's JSON |\n|---|---|---|")
        for name, rate in rates.items():
            print(f"| {name} | {rate:,.0f} | {rate / rates['mlserver, V2 JSON']:.1f} |")
    print(f"\nimport of numpy and onnxruntime: {import_cpu:.2f} s CPU, {import_s:.2f} s")
    share = f"{start_cpu / import_cpu:.2f} and {start_s / import_s:.2f} times as much"
    print(f"start to first answer: {start_cpu:.2f} s CPU, {start_s:.2f} s: {share}")
    if arguments.output is not None:
        figures = {"one_row": table, "many_rows": many, "start": [import_cpu, import_s, start_cpu, start_s]}
        arguments.output.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
