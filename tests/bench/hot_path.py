"""Where the time of one request goes, without the network: `python -m tests.bench.hot_path`.

A real process's application called in a loop, on core 0, with what the server hands it: V1 and V2 in JSON, one row of
30 numbers, and V2 binary, 64 rows. Each part is timed on its own, the best of five rounds; what is left is routing,
admission, counting and telling. Needs the model of ../shared/bench (its `peers` makes it).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from functions.predictor.answers import parse
from functions.predictor.app import App
from functions.predictor.phases import Start
from functions.predictor.process import Process
from functions.predictor.served import Served
from functions.predictor.settings import Settings
from functions.predictor.wire import binary, infer_answer, infer_request, predict_body
from functions.predictor.wire.bodies import Bodies
from tests.bench import predictor

ROUNDS, CALLS = 5, 5000


@dataclass(frozen=True)
class Body:
    """What the server gives as `wsgi.input`, as often as it is asked."""

    content: bytes

    def read(self, size: int = -1) -> bytes:
        return self.content


def best_us(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, (time.perf_counter() - began) / CALLS)
    return best * 1e6


def environ(path: str, body: bytes, **more: str) -> dict[str, Any]:
    told = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "QUERY_STRING": "", "CONTENT_LENGTH": str(len(body))}
    return {**told, "CONTENT_TYPE": "application/json", "wsgi.input": Body(body), **more}


def serving(folder: Path) -> tuple[App, Served]:
    """The application as its process makes it, and the model that it serves."""
    (row,) = json.loads((predictor.BENCH_HOME / "bodies" / "v1.json").read_text())["instances"]
    store = predictor.store_of((predictor.BENCH_HOME / "model.onnx").read_bytes(), row, folder / "package")
    served = {"HEADRACE_STORE": store, "HEADRACE_MODEL": predictor.MODEL, "HEADRACE_MODEL_VERSION": predictor.VERSION}
    settings = Settings.from_environment(served)
    process = Process(settings, Start(time.monotonic(), time.monotonic()))
    app = App(process.catalog, Bodies(settings.max_body_bytes), process.repository, process.admission.requests)
    process.listening(0)
    while not process.catalog.ready:
        time.sleep(0.01)
    return app, process.catalog.find(predictor.MODEL)


def parts(
    app: App, served: Served, request: dict[str, Any], read: Callable[[], Any], write: Any
) -> Mapping[str, float]:
    """Microseconds of each part. read: the decoded query; write: called with the prediction, gives the answer."""
    answer = app.direct(request)
    assert answer is not None and answer.status == 200, answer
    query = read()
    prediction = served.predict(query, time.perf_counter(), told=False)
    whole = best_us(lambda: app.direct(request))
    times = {
        "read the request": best_us(read),
        "onnxruntime": best_us(lambda: served.model.infer(query.inputs, query.outputs)),
        "write the answer": best_us(lambda: write(prediction)),
    }
    return {"whole": whole, **times, "the rest": whole - sum(times.values())}


def main() -> int:
    os.sched_setaffinity(0, {0})
    home = predictor.BENCH_HOME
    if not (home / "model.onnx").exists():
        print("needs the model of ../shared/bench: run its `peers` first", file=sys.stderr)
        return 1
    one, two = ((home / "bodies" / f"{name}.json").read_bytes() for name in ("v1", "v2"))
    rows = np.random.default_rng(7).uniform(0, 100, (predictor.ROWS, 30)).astype(np.float32)
    tensor = {
        "name": "X",
        "shape": list(rows.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": rows.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    many = head + rows.tobytes()
    sized = {"CONTENT_TYPE": "application/octet-stream", "HTTP_INFERENCE_HEADER_CONTENT_LENGTH": str(len(head))}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        app, served = serving(Path(name))
        signature = served.signature
        asked = {body: json.loads(body) for body in (two, head)}

        def read_binary() -> Any:
            text, raw = binary.split(many, str(len(head)))
            return infer_request.decode(signature, parse(text), raw)

        found = {
            "V1 JSON, 1 row": parts(
                app,
                served,
                environ(f"/v1/models/{predictor.MODEL}:predict", one),
                lambda: predict_body.decode(signature, parse(one))[0],
                lambda prediction: predict_body.encode(served, prediction, False),
            ),
            "V2 JSON, 1 row": parts(
                app,
                served,
                environ(f"/v2/models/{predictor.MODEL}/infer", two),
                lambda: infer_request.decode(signature, parse(two)),
                lambda prediction: infer_answer.answer(served, prediction, asked[two]),
            ),
            f"V2 binary, {predictor.ROWS} rows": parts(
                app,
                served,
                environ(f"/v2/models/{predictor.MODEL}/infer", many, **sized),
                read_binary,
                lambda prediction: infer_answer.answer(served, prediction, asked[head]),
            ),
        }
    columns = list(next(iter(found.values())))
    print(f"| µs in the process, one core | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for what, times in found.items():
        print(f"| {what} | {' | '.join(f'{times[column]:.1f}' for column in columns)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
