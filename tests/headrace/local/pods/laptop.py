"""A platform without doors for tests: objects, processes and reconciler in a home of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from headrace.local.addresses import Addresses
from headrace.local.controllers.reconciler import Limits, Reconciler
from headrace.local.objects.objects import Object, Objects
from headrace.local.pods.pod import Timings
from headrace.local.pods.process import Processes

NAMESPACE = "test"
PATIENCE_S = 30.0
QUICK = Timings(crash_backoff_s=0.05, config_retry_s=0.05, fault_s=0.2, stop_s=2.0)
T = TypeVar("T")

# A server that starts in a few milliseconds and answers 200 to everything.
SERVE = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open('status').read()) if os.path.exists('status') else 200)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
"""


@dataclass
class Laptop:
    """The parts, and short words for what the tests ask."""

    objects: Objects
    processes: Processes
    reconciler: Reconciler
    home: Path

    def get(self, kind: str, name: str) -> Object:
        found = self.objects.get(kind, NAMESPACE, name)
        assert found is not None, f"{kind} {name} is not there"
        return found

    def pods(self) -> list[Object]:
        return self.objects.list("Pod", NAMESPACE)

    def condition(self, kind: str, name: str, type: str) -> tuple[str, str]:
        """(status, reason)"""
        found = self.objects.get(kind, NAMESPACE, name) or {}
        for condition in (found.get("status") or {}).get("conditions") or []:
            if condition["type"] == type:
                return condition["status"], condition.get("reason", "")
        return "Unknown", ""

    def patch(self, kind: str, name: str, **spec: Any) -> Object:
        obj = self.get(kind, name)
        obj["spec"] |= spec
        return self.objects.update(obj)

    def log(self, pod: str) -> str:
        path = self.processes.log_file(NAMESPACE, pod)
        return path.read_text() if path else ""

    def children(self) -> list[psutil.Process]:
        return marked(self.home)


@contextlib.asynccontextmanager
async def laptop(
    home: Path, timings: Timings = QUICK, limits: Limits | None = None, **processes: Any
) -> AsyncIterator[Laptop]:
    objects = Objects(home / "objects.db")
    runner = Processes(objects, home=home, timings=timings, **processes)
    reconciler = Reconciler(
        objects, runner, Addresses("http://127.0.0.1:8080"), limits=limits or Limits(job_backoff_s=0.05)
    )
    await runner.start()
    await reconciler.start()
    try:
        yield Laptop(objects, runner, reconciler, home)
    finally:
        await reconciler.stop()
        await runner.stop()
        objects.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


async def eventually(what: Callable[[], T]) -> T:
    """The first true answer; fails when there is none for a long time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        await asyncio.sleep(0.01)
    raise AssertionError(f"it never came true; last answer: {what()!r}")


def marked(home: Path) -> list[psutil.Process]:
    """The living processes that some platform of this home started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HEADRACE_POD_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


# What `headrace up` is to its Pods: a process that can be killed. It tells its watchdog's pid once all is as wished.
PLATFORM = """
import asyncio, sys
from pathlib import Path
from tests.headrace.local.pods.laptop import *
async def main():
    async with laptop(Path(sys.argv[1])) as it:
        exec(sys.argv[2])
        await eventually(lambda: eval(sys.argv[3], globals(), {"it": it}))
        print(it.processes.watchdog_pid, flush=True)
        await asyncio.sleep(1000)
asyncio.run(main())
"""


def platform(home: Path, do: str, until: str) -> tuple[subprocess.Popen[str], int]:
    """A platform in a process of its own that has done `do` and found `until` true, and its watchdog's pid."""
    argv = [sys.executable, "-c", PLATFORM, str(home), do, until]
    started = subprocess.Popen(argv, cwd=Path(__file__).parents[4], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    return started, int(started.stdout.readline())


def kill_platform(home: Path, do: str, until: str) -> None:
    """What a kill -9 of such a platform leaves in its home."""
    started, watchdog = platform(home, do, until)
    os.kill(watchdog, signal.SIGKILL)  # it would clean up: the next platform has to do without
    started.kill()
    started.communicate()


def pod(name: str, *command: str, revision: str = "", **container: Any) -> Object:
    labels = {"serving.knative.dev/revision": revision} if revision else {}
    spec = container.pop("spec", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": labels,
            "finalizers": ["headrace.dev/process"],
        },
        "spec": {"containers": [{"name": "c", "image": "example/image:1", "command": [*command], **container}], **spec},
    }


def service(name: str, *command: str, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"template": template(*command, annotations=annotations), **spec},
    }


def template(*command: str, annotations: dict[str, str] | None = None, name: str = "", **container: Any) -> Object:
    command = command or ("python", "-S", "-c", SERVE)
    meta: Object = {"annotations": annotations or {}}
    if name:
        meta["name"] = name
    return {
        "metadata": meta,
        "spec": {"containers": [{"image": "example/image:1", "command": [*command], **container}]},
    }


def job(name: str, script: str, **spec: Any) -> Object:
    """A Job that runs a shell script."""
    container = {"name": "c", "image": "example/image:1", "command": ["/bin/sh", "-c", script]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}, **spec},
    }
