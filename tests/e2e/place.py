"""A Headrace deployed in a cluster, driven as a person drives it: the command line, kubectl, HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests import waiting
from tests.answers import Answer, ask

T = TypeVar("T")

WITHIN_S = 180.0  # for anything that is waited for: generous, because the machine may be busy with other things


def until(what: str, condition: Callable[[], T | None], within_s: float = WITHIN_S) -> T:
    """What `condition` gives once that is neither None nor false. Fails naming what was waited for."""
    return waiting.until(what, condition, within_s, every_s=0.5)


@dataclass(frozen=True)
class Deployed:
    """One namespace of one cluster."""

    kubeconfig: Path
    namespace: str
    gateway: str
    """`host:port` at which the cluster's Knative gateway takes requests, by their Host."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """What a person's shell would hold besides: the store's keys, and where the store is reached from here."""
    deployment: Sequence[str] = ()
    """The words after `headrace deploy` that made this place."""

    def run(self, *words: str, given: str = "", within_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        """`headrace …` against this place, however it ends."""
        told = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KUBECONFIG", "AWS_"))}
        told |= {"HEADRACE_KUBECONFIG": str(self.kubeconfig), "HEADRACE_NAMESPACE": self.namespace, **self.environ}
        command = [sys.executable, "-m", "headrace.cli", *words]
        return subprocess.run(command, env=told, input=given, capture_output=True, text=True, timeout=within_s)

    def headrace(self, *words: str, given: str = "") -> str:
        """What `headrace …` prints; it must succeed."""
        done = self.run(*words, given=given)
        assert done.returncode == 0, f"headrace {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def try_kubectl(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """`kubectl …` in this namespace, however it ends."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=WITHIN_S)

    def kubectl(self, *words: str, given: str = "") -> str:
        """What `kubectl …` prints; it must succeed."""
        done = self.try_kubectl(*words, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", kind, name, "-o", "json")))

    def items(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        return list(json.loads(self.kubectl("get", kind, "-l", labels, "-o", "json"))["items"])

    def stop(self, deployment: str) -> None:
        """Have no pod of it; its pods may still be going."""
        self.kubectl("scale", f"deployment/{deployment}", "--replicas=0")

    def start(self, deployment: str) -> None:
        """Have a pod of it that is ready."""
        self.kubectl("scale", f"deployment/{deployment}", "--replicas=1")
        self.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=120s")

    def bring_keys(self, keys: Iterable[tuple[str, str]]) -> None:
        """The store's keys, in the Secret that the manifests know by name."""
        literals = [f"--from-literal={key}={value}" for key, value in keys]
        self.kubectl("create", "secret", "generic", "headrace-store", *literals)

    # ---- events --------------------------------------------------------------------------------------------------

    def events(self, type: str | None = None) -> list[dict[str, Any]]:
        """What the journal holds, oldest first: structured CloudEvents."""
        words = ["events", "-o", "json", *(("--type", type) if type else ())]
        return [json.loads(line)["event"] for line in self.headrace(*words).splitlines()]

    def event(self, what: str, wanted: Callable[[dict[str, Any]], bool], type: str | None = None) -> dict[str, Any]:
        """The first event that is wanted, waited for."""
        return until(what, lambda: next((e for e in self.events(type) if wanted(e)), None))

    # ---- requests ------------------------------------------------------------------------------------------------

    def ask(
        self, service: str, path: str, body: Any = None, tag: str = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A request to a Service through the cluster's gateway, whatever its answer's status."""
        host = urlsplit(self.get("ksvc", service)["status"]["url"]).hostname or ""
        said = {"Host": f"{tag}-{host}" if tag else host, "Content-Type": "application/json", **(headers or {})}
        return ask(f"http://{self.gateway}{path}", body, said, WITHIN_S)

    def v1(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """Rows by TensorFlow Serving's protocol."""
        return self.ask(model, f"/v1/models/{model}:predict", {"instances": list(rows)})

    # ---- pods ----------------------------------------------------------------------------------------------------

    def replicas(self, service: str) -> int:
        """Pods that are wanted of a Service, all revisions together."""
        found = self.items("deployments", f"serving.knative.dev/service={service}")
        return sum(int(d["spec"].get("replicas", 0)) for d in found)
