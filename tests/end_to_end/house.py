"""A whole Headrace in a temporary home, driven as a person drives it: the command line, HTTP and kubectl."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from eventing.contract import (
    DatasetRejected,
    ModelPromoted,
    ModelRejected,
    ModelRolledBack,
    ModelTrained,
    PredictionRequested,
    TrainingFailed,
)
from headrace import journal, reach
from headrace.journal import Entry
from tests import waiting
from tests.answers import Answer, ask

T = TypeVar("T")

WITHIN_S = 120.0  # for anything that is waited for: generous, because the machine may be busy with other things
VERDICTS = frozenset(t.TYPE for t in (ModelPromoted, ModelRejected, ModelRolledBack))
ENDS = VERDICTS | {DatasetRejected.TYPE, TrainingFailed.TYPE}
# What a process of a platform carries in its environment: the platform and its watchdog the first, its pods the second.
MARKS = ("HEADRACE_HOME", "HEADRACE_POD_HOME")


def until(what: str, condition: Callable[[], T | None], within_s: float = WITHIN_S) -> T:
    """What `condition` gives once that is neither None nor false. Fails naming what was waited for."""
    return waiting.until(what, condition, within_s, every_s=0.1)


def post(url: str, body: Any, headers: Mapping[str, str] | None = None, timeout_s: float = WITHIN_S) -> Answer:
    """The answer, whatever its status. Raises OSError when there is none."""
    return ask(url, body, headers, timeout_s)


@dataclass
class House:
    """One home, with or without its platform. values: keys of the ConfigMap. images: repository to interpreter."""

    home: Path
    values: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    pid: int = 0

    # ---- the platform's process ----------------------------------------------------------------------------------

    def up(self) -> None:
        """Start the platform; a second time at the address of the first, as a restart after a crash is."""
        words = ["up", "--detach", "--port", self.url.rpartition(":")[2] or "0"]
        for key, value in self.values.items():
            words += ["--set", f"{key}={value}"]
        for repository, interpreter in self.images.items():
            words += ["--image", f"{repository}={interpreter}"]
        self.headrace(*words)
        running = json.loads((self.home / "platform.json").read_text())
        self.url, self.pid = running["url"], running["pid"]

    def kill(self) -> None:
        """kill -9 of the platform's process alone."""
        os.kill(self.pid, signal.SIGKILL)
        until("the end of the platform's process", lambda: not _lives(self.pid))

    def down(self) -> None:
        self.headrace("down")

    def processes(self) -> list[psutil.Process]:
        """Every living process of this home: the platform, its watchdog, its pods, and all that those started."""
        return [p for p in psutil.process_iter() if any(_environment(p).get(m) == str(self.home) for m in MARKS)]

    def pods_running(self, module: str) -> list[psutil.Process]:
        """The processes that run `python -m <module>`."""
        return [p for p in self.processes() if ["-m", module] == _command(p)[1:3]]

    def wipe(self) -> None:
        """End whatever is left, however the test ended."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(self.processes(), timeout=10)

    # ---- commands ------------------------------------------------------------------------------------------------

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """`headrace …`, however it ends."""
        return subprocess.run(
            [sys.executable, "-m", "headrace.cli", *words],
            env=self._environ(),
            input=given,
            capture_output=True,
            text=True,
            timeout=10 * 60,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`headrace …`, not waited for."""
        command = [sys.executable, "-m", "headrace.cli", *words]
        return subprocess.Popen(
            command, env=self._environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def headrace(self, *words: str) -> str:
        """What `headrace …` prints; it must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, f"headrace {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def kubectl(self, *words: str, given: str = "") -> str:
        """What `kubectl …` prints; it must succeed."""
        done = self.run_kubectl(*words, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_kubectl(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._kubectl(words), input=given, capture_output=True, text=True, timeout=WITHIN_S)

    def start_kubectl(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self._kubectl(words), stdout=subprocess.PIPE, text=True)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", kind, name, "-o", "json")))

    def items(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        return list(json.loads(self.kubectl("get", kind, "-l", labels, "-o", "json"))["items"])

    # ---- events --------------------------------------------------------------------------------------------------

    @property
    def broker(self) -> str:
        return f"{self.url}/broker/headrace/default"

    def entries(
        self, type: str | None = None, subject: str | None = None, id: str | None = None, causationid: str | None = None
    ) -> list[Entry]:
        """The journal's entries, oldest first."""
        wanted = {"type": type, "subject": subject, "id": id, "causationid": causationid}
        return [*journal.Journal(f"{self.url}/journal/headrace/default", reach.direct).read(**wanted)]

    def follows(self, event_id: str) -> list[Entry]:
        """Everything that follows from an event, oldest first."""
        chain, found = {event_id}, []
        for entry in self.entries():
            if entry.cause in chain:
                chain.add(entry.id)
                found.append(entry)
        return found

    def verdict_on(self, event_id: str) -> Entry:
        """How a dropped file ends: a verdict on its model, or why there is none. Waits for it."""
        return until(f"an end of {event_id}", lambda: next((e for e in self.follows(event_id) if e.type in ENDS), None))

    def send(self, event: Mapping[str, Any]) -> int:
        """The Broker's answer to a structured event."""
        return post(self.broker, event, {"Content-Type": "application/cloudevents+json"}).status

    def all_settled(self) -> list[Entry]:
        """The journal once every delivery of it has ended, well or not."""

        def settled() -> list[Entry] | None:
            entries = self.entries()
            pending = [d for e in entries for d in e.deliveries if d["state"] == "pending"]
            return None if pending else entries

        return until("the end of all deliveries", settled, 5 * WITHIN_S)

    # ---- data and models -----------------------------------------------------------------------------------------

    @property
    def store(self) -> Path:
        return self.home / "store"

    def drop(self, file: Path, dataset: str, *words: str) -> str:
        """`headrace drop`; the event's id."""
        printed = self.headrace("drop", str(file), "--dataset", dataset, "-o", "json", *words)
        return str(json.loads(printed.splitlines()[0])["event"])

    def learn(self, file: Path, dataset: str, *words: str) -> Entry:
        """Drop and wait; the verdict on what was trained."""
        return self.verdict_on(self.drop(file, dataset, *words))

    def versions(self, model: str) -> list[str]:
        """The versions whose package is whole in the store."""
        return sorted(f.stem for f in (self.store / "models" / model).glob("v*.json") if f.with_suffix("").is_dir())

    def ask(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """Rows through the gateway, by TensorFlow Serving's protocol."""
        return post(f"{self.url}/svc/headrace/{model}/v1/models/{model}:predict", {"instances": list(rows)})

    def predictions(self, model: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        answer = self.ask(model, rows)
        assert answer.status == 200, answer.body
        return list(answer.json()["predictions"])

    def _environ(self) -> dict[str, str]:
        """A person's shell, told nothing but where the home is."""
        told = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_") and k != "KUBECONFIG"}
        return {**told, "HEADRACE_HOME": str(self.home)}

    def _kubectl(self, words: Sequence[str]) -> list[str]:
        if shutil.which("kubectl") is None:
            pytest.skip("kubectl is not installed")
        config, cache = self.home / "kubeconfig", self.home / "kubectl-cache"
        return ["kubectl", "--kubeconfig", str(config), "--cache-dir", str(cache), *words]


@contextmanager
def open_house(
    home: Path, values: Mapping[str, str] | None = None, images: Mapping[str, str] | None = None
) -> Iterator[House]:
    """A platform that runs, and that is gone afterwards however the test ended."""
    house = House(home.resolve(), values or {}, images or {})
    try:
        house.up()
        yield house
        house.down()
        assert not house.processes(), "processes were left behind"
    finally:
        house.wipe()


def prediction_requested(id: str, model: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A structured event that asks for one row's prediction."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/tests/end-to-end",
        "type": PredictionRequested.TYPE,
        "subject": model,
        "datacontenttype": "application/json",
        "data": {"model": model, "inputs": {"instances": [dict(row)]}},
    }


def trained(entries: Sequence[Entry], model: str) -> dict[str, Entry]:
    """model.trained by id: told twice is one fact."""
    return {e.id: e for e in entries if e.type == ModelTrained.TYPE and e.subject == model}


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except (psutil.Error, OSError):
        return {}


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.Error, OSError):
        return []
