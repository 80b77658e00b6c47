"""The whole loop on real flights, told so that a person understands each line.

Every step is a command that the reader could type; the demo types it, shows it, and shows what it said. Nothing is
prepared but the months' files: training, gate, canary, drift and retraining happen because events happen.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from eventing import contract
from eventing.errors import HeadraceError
from headrace import config, daemon, flights, follow, journal, screen, why
from headrace import drop as dropping
from headrace.place import Place
from headrace.screen import Output

MODEL = "flights"
CANARY_S = 20  # seconds; a minute is the default, a demo has less patience
REQUEST_ROWS = 25  # rows a request: small enough for all their features to travel in one event
TRAFFIC_PER_S = 8.0
DRIFT_REQUESTS = 60
WAIT_S = 120.0


class Demo:
    """One run: a home of its own, the months' files, and the narrator."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port
        self.files = home / "months"
        self.environ = {**os.environ, "HEADRACE_HOME": str(home)}
        for elsewhere in ("HEADRACE_KUBECONFIG", "HEADRACE_CONTEXT", "HEADRACE_NAMESPACE", "HEADRACE_GATEWAY"):
            self.environ.pop(elsewhere, None)
        self.step = 0

    def run(self) -> None:
        self._start()
        place = self._place()
        self._january()
        self._predictions(place)
        self._february(place)
        self._july(place)
        self._timeline(place)

    # ---- the steps, in order -------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._say("Start the platform: the manifests of a cluster, run as processes of this machine")
        self._type("up", "--detach", "--port", str(self.port), "--set", f"HEADRACE_CANARY_S={CANARY_S}")
        self.files.mkdir()
        for month, name in ((1, "january"), (2, "february"), (7, "july")):
            rows = flights.write_month(month, self._month(name))
            size = self._month(name).stat().st_size
            screen.say(
                f"  {name}.csv: {rows:,} flights that arrived, {len(flights.COLUMNS)} columns, {size / 1e6:.1f} MB"
            )

    def _january(self) -> None:
        self._say("Drop January: will a flight arrive more than 15 minutes late? An event starts the training Job")
        self._type("drop", str(self._month("january")), "--dataset", MODEL, "--target", flights.TARGET, "--wait")
        self._type("models")

    def _predictions(self, place: Place) -> None:
        self._say(
            "Ask the model: TensorFlow Serving's protocol (V1), Open Inference (V2), and a CloudEvent by the Broker"
        )
        rows = self._rows("january", 5)
        few = self.files / "five.csv"
        _write_rows(few, rows)
        self._type("predict", MODEL, "--rows", str(few))
        screen.say(f"  what became of these five: late = {', '.join(r[flights.TARGET] for r in rows)}")
        self._v2(place, rows)
        self._by_event(place, rows)

    def _february(self, place: Place) -> None:
        self._say(
            "Drop February while people go on asking: challenger against champion, then a canary with 20 % of requests"
        )
        with self._traffic(place, "january") as counts:  # as before: the drift comes with July
            self._type("drop", str(self._month("february")), "--dataset", MODEL, "--target", flights.TARGET, "--wait")
        answered = ", ".join(f"{count} by {version}" for version, count in sorted(counts.items()))
        screen.say(f"  meanwhile {sum(counts.values())} requests were answered: {answered or 'none'}")

    def _july(self, place: Place) -> None:
        self._say("Ask about July with a model that knows only winter. Nobody starts a training; the drift does")
        after = dropping.last_seq(place)
        rows = self._rows("july", DRIFT_REQUESTS * REQUEST_ROWS)
        url = place.url(MODEL)
        with screen.progress() as bar:
            task = bar.add_task("asking about July", total=DRIFT_REQUESTS)
            for begin in range(0, len(rows), REQUEST_ROWS):
                _ask(url, rows[begin : begin + REQUEST_ROWS])
                bar.advance(task)
                time.sleep(1 / TRAFFIC_PER_S)
        screen.say(f"  {len(rows):,} flights of July asked for in {DRIFT_REQUESTS} requests")
        drift = self._await(place, contract.DriftDetected.TYPE, after)
        screen.say(f"  {why.describe(drift)}")
        self._show_feature(drift.data)
        screen.say("  a training starts by itself, on everything dropped so far:")
        follow.follow(place, drift.id, drift.seq, Output.text)
        self._type("models")

    def _timeline(self, place: Place) -> None:
        self._say("What happened, in order")
        entries = list(place.journal.read())
        for type, run in groupby(
            entries, key=lambda e: (e.type, e.subject) if e.type in contract.PREDICTIONS else (e.id, "")
        ):
            group = list(run)
            first, more = group[0], f"  … and {len(group) - 1} more" if len(group) > 1 else ""
            screen.say(f"  {screen.clock(first.received)}  {why.noun(first):9}  {why.describe(first)}{more}")
            del type
        self._say("Why was this prediction made? Its whole chain, back to the file")
        self._type("why", self.prediction)

    # ---- what the steps are made of ------------------------------------------------------------------------------

    def _v2(self, place: Place, rows: list[dict[str, str]]) -> None:
        """The same five rows as columns: what tritonclient and KServe's clients send."""
        url = f"{place.url(MODEL)}/v2/models/{MODEL}/infer"
        inputs = _columns(rows)
        answer = _post(url, {"inputs": inputs})
        screen.say(f"  $ curl {url} -d '{{\"inputs\": [… {len(inputs)} columns of {len(rows)} rows …]}}'")
        for output in answer["outputs"]:
            data = [round(x, 4) if isinstance(x, float) else x for x in output["data"]]
            screen.say(f"    {output['name']} {output['datatype']} {output['shape']}: {json.dumps(data)}")

    def _by_event(self, place: Place, rows: list[dict[str, str]]) -> None:
        """A prediction nobody waits for: an event in, the answer an event too."""
        request = {
            "specversion": "1.0",
            "id": f"ask-{datetime.now(UTC):%H%M%S}",
            "source": "/demo",
            "type": contract.PredictionRequested.TYPE,
            "subject": MODEL,
            "datacontenttype": "application/json",
            "data": {"model": MODEL, "inputs": {"inputs": _columns(rows[:1])}},
        }
        file = self.files / "prediction.json"
        file.write_text(json.dumps(request, indent=2), encoding="utf-8")
        after = dropping.last_seq(place)
        self._type("send", str(file))
        made = self._await(place, contract.PredictionMade.TYPE, after, cause=str(request["id"]))
        screen.say(f"  answer, as an event: {why.describe(made)}")
        self.prediction = made.id

    def _show_feature(self, data: Any) -> None:
        """Which feature, how far: its values in winter and in July."""
        feature = data.get("feature")
        if feature not in flights.WEATHER:
            return
        means = {m: _mean(self._rows(m, 2000), feature) for m in ("january", "february", "july")}
        shown = ", ".join(f"{m.capitalize()} {v:.1f}" for m, v in means.items())
        screen.say(f"  {feature}, mean by month: {shown}")

    def _await(self, place: Place, type: str, after: int, cause: str | None = None) -> journal.Entry:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for entry in place.journal.read(after=after, type=type):
                if cause is None or entry.cause == cause:
                    return entry
            time.sleep(0.2)
        raise HeadraceError(f"no {type} came within {WAIT_S:.0f} s; see `headrace events` and `headrace status`")

    @contextmanager
    def _traffic(self, place: Place, month: str) -> Iterator[dict[str, int]]:
        """People who ask all the while, counted by the version that answered."""
        rows = self._rows(month, 2000)
        url = place.url(MODEL)
        counts: dict[str, int] = {}
        done = threading.Event()

        def ask() -> None:
            n = 0
            while not done.wait(1 / TRAFFIC_PER_S):
                begin = n * 5 % (len(rows) - 5)
                version = _ask(url, rows[begin : begin + 5])
                counts[version] = counts.get(version, 0) + 1
                n += 1

        people = threading.Thread(target=ask, daemon=True)
        people.start()
        try:
            yield counts
        finally:
            done.set()
            people.join()

    def _month(self, name: str) -> Path:
        return self.files / f"{name}.csv"

    def _rows(self, month: str, count: int) -> list[dict[str, str]]:
        return flights.sample(self._month(month), count)

    def _place(self) -> Place:
        return Place.of(config.Config.from_environment(self.environ))

    def _say(self, what: str) -> None:
        self.step += 1
        screen.say("")
        screen.out.print(f"{self.step}. {what}", style="bold", markup=False)

    def _type(self, *words: str) -> None:
        """Show a command, run it, show what it says. Raises HeadraceError when the demo cannot go on."""
        shown = " ".join(w.replace(str(self.files) + "/", "") for w in words)
        screen.say(f"  $ headrace {shown}")
        command = [sys.executable, "-m", "headrace.cli", *words]
        with subprocess.Popen(
            command, env=self.environ, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                screen.say("    " + line.rstrip())
        # `drop --wait` says 1 when a challenger does not serve in the end, which is a verdict, not a fault of the loop.
        if process.returncode != 0 and words[0] != "drop":
            raise HeadraceError(f"`headrace {shown}` ended with {process.returncode}")


def run(keep: bool, port: int) -> int:
    """The exit status: 0 when the loop was walked to its end. Without `keep` nothing is left, running or on disk."""
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    demo = Demo(home, daemon.free_port(port))
    try:
        demo.run()
        if keep:
            _urls(demo)
        screen.say("")
        screen.say(f"The whole loop took {time.monotonic() - began:.0f} s.")
        return 0
    finally:
        if not keep:
            daemon.stop(home)
            shutil.rmtree(home)


def _urls(demo: Demo) -> None:
    screen.say("")
    screen.out.print("What runs, until `headrace down`:", style="bold")
    place = demo._place()
    names = {
        "model, V1": place.url(MODEL) + f"/v1/models/{MODEL}:predict",
        "model, V2": place.url(MODEL) + f"/v2/models/{MODEL}/infer",
        "broker": place.url("broker"),
        "page": place.url("console"),
        "kubectl": f"export KUBECONFIG={demo.home / 'kubeconfig'}",
        "commands": f"export HEADRACE_HOME={demo.home}",
    }
    for name, value in names.items():
        screen.say(f"  {name:10} {value}")


def _ask(url: str, rows: list[dict[str, str]]) -> str:
    """Ask over HTTP, V2; the version that answered."""
    answer = _post(f"{url}/v2/models/{MODEL}/infer", {"inputs": _columns(rows)})
    return str(answer["model_version"])


def _columns(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Rows as V2 tensors, one a column."""
    return [
        {
            "name": name,
            "shape": [len(rows), 1],
            "datatype": "BYTES" if name in flights.WORDS else "FP32",
            "data": [flights.value(name, r[name]) for r in rows],
        }
        for name in flights.COLUMNS
        if name != flights.TARGET
    ]


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return dict(json.load(answer))


def _mean(rows: list[dict[str, str]], feature: str) -> float:
    values = [float(r[feature]) for r in rows if r[feature]]
    return sum(values) / len(values)


def _write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, [c for c in flights.COLUMNS if c != flights.TARGET], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
