"""A real S3 server in the cluster, SeaweedFS, in a namespace of its own: the store that all pods share."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMESPACE = time.strftime("headrace-e2e-s3-%H%M%S")
PORT = 8333
BUCKET = "headrace"
READY_S = 60.0
KEYS = {"AWS_ACCESS_KEY_ID": "e2e", "AWS_SECRET_ACCESS_KEY": "e2e-secret", "AWS_DEFAULT_REGION": "us-east-1"}
# What only this machine's own cluster has; another one pulls the project's.
IMAGE = "docker.io/chrislusf/seaweedfs:latest"
SERVER = (
    *("server", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.ip.bind=0.0.0.0", f"-s3.port={PORT}"),
    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=200"),
    "-master.telemetry=false",
)


@dataclass(frozen=True)
class S3:
    """The server, as pods and as this machine see it."""

    inside: str
    outside: Mapping[str, str]
    """The environment of a person here: keys and address."""
    bucket: str = BUCKET
    keys: tuple[tuple[str, str], ...] = tuple(KEYS.items())


@contextmanager
def running(kubeconfig: Path) -> Iterator[S3]:
    """The server with an empty bucket; gone afterwards. Once in a session: its namespace takes minutes to go."""
    kubectl = ["kubectl", "--kubeconfig", str(kubeconfig), "-n", NAMESPACE]
    subprocess.run([*kubectl, "apply", "-f", "-"], input=json.dumps(_objects()), text=True, check=True)
    try:
        subprocess.run([*kubectl, "rollout", "status", "deploy/s3", "--timeout=120s"], check=True)
        with _forwarded(kubectl) as port:
            outside = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
            _make_bucket(outside)
            yield S3(f"http://s3.{NAMESPACE}.svc.cluster.local:{PORT}", outside)
    finally:
        subprocess.run([*kubectl, "delete", "namespace", NAMESPACE, "--wait=false"], check=False)


@contextmanager
def _forwarded(kubectl: list[str]) -> Iterator[int]:
    """The port of this machine at which the server answers: what a kubeconfig alone can do anywhere.

    It ends with the API server or the kubelet that it goes through, and is begun anew when they are back.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*kubectl, "port-forward", "service/s3", f"{port}:{PORT}"]
    over = threading.Event()

    def keep() -> None:
        while not over.is_set():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and not over.wait(0.2):
                    pass
                process.terminate()
            over.wait(0.5)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        _until_it_answers(port)
        yield port
    finally:
        over.set()
        keeper.join()


def _until_it_answers(port: int) -> None:
    ends = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                return
        except OSError:
            assert time.monotonic() < ends, f"the store did not answer through the API server within {READY_S:.0f} s"
            time.sleep(0.2)


def _make_bucket(environ: Mapping[str, str]) -> None:
    import s3fs

    keys = {"key": environ["AWS_ACCESS_KEY_ID"], "secret": environ["AWS_SECRET_ACCESS_KEY"]}
    files = s3fs.S3FileSystem(**keys, endpoint_url=environ["AWS_ENDPOINT_URL"], skip_instance_cache=True)
    files.mkdir(BUCKET)


def _objects() -> dict[str, object]:
    labels = {"app": "s3"}
    container = {
        "name": "s3",
        "image": os.environ.get("E2E_STORE_IMAGE") or IMAGE,
        "args": list(SERVER),
        "env": [{"name": key, "value": value} for key, value in KEYS.items()],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
        "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}},
    }
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes}}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "s3", "namespace": NAMESPACE},
                "spec": {"selector": {"matchLabels": labels}, "template": pod},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "s3", "namespace": NAMESPACE},
                "spec": {"selector": labels, "ports": [{"port": PORT}]},
            },
        ],
    }
