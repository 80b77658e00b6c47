"""A real etcd and kube-apiserver for tests: on loopback, in a temporary folder, with RBAC and nothing behind them.

There is no controller, no kubelet and no webhook: what an object becomes, a test plays (`tests.apiserver.controllers`).
The programs are built by `make apiserver` into CLUSTER_BIN.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from knative.client import Cluster

Object = dict[str, Any]

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
# Users by token, with their groups: whoever has all rights, and somebody who has those that a test binds.
TOKENS = {"admin": ("of-the-admin", "system:masters"), "ops": ("of-ops", "")}
START_S = 90.0  # a few seconds on an idle machine
SERVICES = "10.96.0.0/16"  # never routed: there is no proxy


def folder() -> Path:
    """Where the built programs are."""
    return Path(os.environ.get("CLUSTER_BIN") or Path.home() / ".cache" / "headrace" / "cluster-bin")


def absent() -> str:
    """Why no API server can be started here; "" where one can."""
    here = folder()
    missing = [name for name in PROGRAMS if not os.access(here / name, os.X_OK)]
    if missing:
        return f"no {', '.join(missing)} in {here}; `make apiserver` builds them where Go and their modules can be had"
    return "" if shutil.which("openssl") else "its keys are made by openssl, and there is no `openssl` here"


@dataclass(frozen=True)
class ControlPlane:
    """A running API server."""

    home: Path
    url: str

    def kubeconfig(self, namespace: str = "default", user: str = "admin", token: str | None = None) -> Path:
        """A kubeconfig for one of TOKENS, or with the token of a service account; its namespace is `namespace`."""
        file = self.home / f"{namespace}-{user}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.home / "ca.crt")}
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token or TOKENS[user][0]}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": user, "namespace": namespace}}],
            "current-context": "x",
        }
        file.write_text(yaml.safe_dump(whole), encoding="utf-8")
        return file

    def connect(self, namespace: str, user: str = "admin", token: str | None = None) -> Cluster:
        return Cluster.connect(str(self.kubeconfig(namespace, user, token)))

    def kubectl(self, *words: str, input: str | None = None, namespace: str = "default") -> str:
        """What `kubectl WORDS` prints; it must succeed."""
        done = self.call_kubectl(*words, input=input, namespace=namespace)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def call_kubectl(
        self, *words: str, input: str | None = None, namespace: str = "default"
    ) -> subprocess.CompletedProcess[str]:
        kubeconfig = str(self.kubeconfig(namespace))
        return subprocess.run(
            [str(folder() / "kubectl"), "--kubeconfig", kubeconfig, *words],
            input=input, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def rights(self, namespace: str, account: str) -> dict[str, set[str]]:
        """What a service account may do in its namespace beyond what every account may: verbs by resource."""
        everybodys = self._rights(namespace, "nobody-in-particular")
        return {k: verbs for k, verbs in self._rights(namespace, account).items() if everybodys.get(k) != verbs}

    def _rights(self, namespace: str, account: str) -> dict[str, set[str]]:
        who = f"--as=system:serviceaccount:{namespace}:{account}"
        lines = self.kubectl("auth", "can-i", "--list", "--no-headers", who, "-n", namespace).splitlines()
        found = (re.fullmatch(r"([a-z.]\S*) +\[[^]]*\] +\[[^]]*\] +\[([^]]*)\]", line) for line in lines)
        return {row[1]: set(row[2].split()) for row in found if row}

    def install(self, definitions: Sequence[Object]) -> None:
        """Make the CustomResourceDefinitions known, and wait until each is served."""
        text = yaml.safe_dump_all(map(_bare, definitions))
        self.kubectl("apply", "--server-side", "-f", "-", input=text)
        names = [d["metadata"]["name"] for d in definitions]
        self.kubectl("wait", "--for", "condition=Established", "--timeout=60s", *(f"crd/{name}" for name in names))
        # Established, and yet for a moment some are answered "storage is (re)initializing".
        ends = time.monotonic() + START_S
        while (asked := self.call_kubectl("get", ",".join(names), "--all-namespaces")).returncode:
            assert time.monotonic() < ends, asked.stderr
            time.sleep(0.2)


@contextmanager
def running(home: Path) -> Iterator[ControlPlane]:
    """A control plane of its own in the folder `home`; both processes have ended afterwards."""
    _keys(home)
    etcd_port, peer_port, port = _free_ports(3)
    etcd = f"http://127.0.0.1:{etcd_port}"
    with _process(home, "etcd", _etcd(home, etcd, f"http://127.0.0.1:{peer_port}")) as first:
        _until(lambda: _answers(f"{etcd}/health"), home, "etcd", first)
        with _process(home, "kube-apiserver", _api_server(home, etcd, port)) as second:
            plane = ControlPlane(home, f"https://127.0.0.1:{port}")
            _until(lambda: _answers(f"{plane.url}/readyz", home / "ca.crt"), home, "kube-apiserver", second)
            yield plane


def _etcd(home: Path, url: str, peers: str) -> list[str]:
    return [
        "--data-dir", str(home / "etcd"), "--unsafe-no-fsync",
        "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peers,
        "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
    ]  # fmt: skip


def _api_server(home: Path, etcd: str, port: int) -> list[str]:
    return [
        "--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", str(port),
        "--cert-dir", str(home / "run"), "--service-cluster-ip-range", SERVICES,
        "--authorization-mode", "RBAC", "--token-auth-file", str(home / "tokens.csv"),
        "--tls-cert-file", str(home / "server.crt"), "--tls-private-key-file", str(home / "server.key"),
        "--service-account-issuer", "https://kubernetes.default.svc",
        "--service-account-key-file", str(home / "sa.pub"), "--service-account-signing-key-file", str(home / "sa.key"),
        # It waits for nobody who would make the account `default` of a namespace, and with it no token is mounted.
        "--disable-admission-plugins", "ServiceAccount",
    ]  # fmt: skip


def _keys(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    rows = (f"{token},{user},{user}{f',{group}' if group else ''}" for user, (token, group) in TOKENS.items())
    (home / "tokens.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (home / "extensions").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n", encoding="utf-8")
    openssl = functools.partial(_openssl, home)
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=tests")
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=kube-apiserver")
    signed = "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2"
    openssl(f"{signed} -extfile extensions")
    openssl("genrsa -out sa.key 2048")
    openssl("rsa -in sa.key -pubout -out sa.pub")


def _openssl(home: Path, words: str) -> None:
    done = subprocess.run(["openssl", *words.split()], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def _process(home: Path, name: str, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([str(folder() / name), *words], stdout=log, stderr=log, cwd=home, env=_environ(home))
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environ(home: Path) -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(home)}


def _until(there: Any, home: Path, name: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_S
    while not there():
        said = (home / f"{name}.log").read_text(errors="replace")[-2000:]
        assert process.poll() is None, f"{name} ended: {said}"
        assert time.monotonic() < ends, f"{name} did not come up: {said}"
        time.sleep(0.1)


def _answers(url: str, ca: Path | None = None) -> bool:
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKENS['admin'][0]}"})
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; all held until the last is found, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _bare(definition: Object) -> Object:
    """Without a conversion webhook, which is not there: each version is read as it was written."""
    spec = {key: value for key, value in definition["spec"].items() if key != "conversion"}
    return {**definition, "spec": spec}
