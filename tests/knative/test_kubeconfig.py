"""Which cluster a kubeconfig means, and as whom it is asked: by kubectl's rules, seen at a server's end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventing.errors import Misconfigured
from knative import kubeconfig
from knative.client import Cluster

Object = dict[str, Any]


class Asked(ThreadingHTTPServer):
    """A server that remembers the headers it was asked with. busy: how many requests it takes none of."""

    def __init__(self) -> None:
        self.busy = 0
        self.headers: list[list[tuple[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def last(self, name: str) -> list[str]:
        return [value for key, value in self.headers[-1] if key.lower() == name.lower()]


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Asked)
        self.server.headers.append(list(self.headers.items()))
        if self.server.busy:
            self.server.busy -= 1
            self.send_response(429)
            self.send_header("Retry-After", "1")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"kind": "ConfigMap", "metadata": {"name": "a"}}')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Asked]:
    with Asked() as asked:
        thread = threading.Thread(target=asked.serve_forever)
        thread.start()
        yield asked
        asked.shutdown()
        thread.join()


def config(url: str, user: Object | None = None, current: str | None = "here", **context: str) -> Object:
    """A kubeconfig with one context, called `here` unless `current` names another."""
    name = current or "here"
    found = {
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}}],
    }
    return found | ({"current-context": current} if current else {})


def written(path: Path, whole: object) -> str:
    path.write_text(whole if isinstance(whole, str) else yaml.safe_dump(whole))
    return str(path)


def test_of_several_files_the_first_that_names_a_current_context_decides(tmp_path: Path) -> None:
    """As kubectl has it; the Kubernetes client lets the last one win, which is another cluster."""
    nothing = written(tmp_path / "nothing", "")
    silent = written(tmp_path / "silent", config("http://silent", current=None) | {"current-context": ""})
    first = written(tmp_path / "first", config("http://first", current="one", namespace="shop"))
    last = written(tmp_path / "last", config("http://last", current="two"))
    stopped = written(tmp_path / "stopped", {"current-context": ""})
    cluster = Cluster.connect(":".join((nothing, silent, first, last, stopped, str(tmp_path / "absent"))))
    assert (cluster.server, cluster.namespace) == ("http://first", "shop")
    assert Cluster.connect(f"{first}:{last}", context="two").server == "http://last"


def test_a_kubeconfig_goes_before_the_account_of_the_pod_that_a_command_runs_in(tmp_path: Path) -> None:
    """A build's pod has a token for the cluster around it, and is told by KUBECONFIG which one to deploy to."""
    token, file = tmp_path / "token", Path(written(tmp_path / "config", config("http://there")))
    token.touch()
    assert not kubeconfig.is_pods_own(None, None, kubeconfig.files(None, {"KUBECONFIG": str(file)}), token)
    assert kubeconfig.is_pods_own(None, None, kubeconfig.files(None, {"KUBECONFIG": str(tmp_path / "none")}), token)
    assert not kubeconfig.is_pods_own(None, "there", (), token)
    assert not kubeconfig.is_pods_own(None, None, (), tmp_path / "no-token")


def test_where_a_user_has_no_home_there_is_no_kubeconfig() -> None:
    """As in a pod, whose user is a number."""
    assert kubeconfig.files("~nobody-of-this-name/config", {}) == ()


def test_a_token_file_is_read_anew_without_its_line_end_and_goes_before_a_token(tmp_path: Path, server: Asked) -> None:
    (tmp_path / "token").write_text("first\n")
    user = {"tokenFile": "token", "token": "old"}
    cluster = Cluster.connect(written(tmp_path / "config", config(server.url, user)))
    cluster.get("ConfigMap", "a")
    assert server.last("Authorization") == ["Bearer first"]
    (tmp_path / "token").write_text("second\n")
    cluster.get("ConfigMap", "a")
    assert server.last("Authorization") == ["Bearer second"]
    (tmp_path / "token").unlink()
    cluster.get("ConfigMap", "a")
    assert server.last("Authorization") == ["Bearer second"]


def test_a_token_with_its_line_end_is_a_token(tmp_path: Path, server: Asked) -> None:
    Cluster.connect(written(tmp_path / "config", config(server.url, {"token": "pasted\n"}))).get("ConfigMap", "a")
    assert server.last("Authorization") == ["Bearer pasted"]


def plugin(script: str, **more: str) -> Object:
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": "sh", "args": ["-c", script], "interactiveMode": "Never", **more}}


def test_a_plugin_gives_the_credentials(tmp_path: Path, server: Asked) -> None:
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "given"}}
    user = plugin(f"echo '{json.dumps(said)}'")
    Cluster.connect(written(tmp_path / "config", config(server.url, user))).get("ConfigMap", "a")
    assert server.last("Authorization") == ["Bearer given"]


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (plugin("echo log in first >&2; exit 3"), "returned 3. log in first"),
        (plugin("echo no JSON"), "failed to decode"),
        (plugin("", command="no-such-plugin", installHint="get it from the cloud"), "get it from the cloud"),
    ],
)
def test_a_plugin_that_fails_is_told_and_nobody_is_asked_without_credentials(
    tmp_path: Path, server: Asked, user: Object, said: str
) -> None:
    with pytest.raises(Misconfigured, match=said):
        Cluster.connect(written(tmp_path / "config", config(server.url, user)))
    assert server.headers == []


def test_who_is_to_act_as_somebody_else_does(tmp_path: Path, server: Asked) -> None:
    """Without these headers a command would have the rights of whoever asks, mostly more."""
    user = {"token": "mine", "as": "bob", "as-groups": ["dev", "ops"], "as-user-extra": {"a/b": ["c"]}}
    Cluster.connect(written(tmp_path / "config", config(server.url, user))).get("ConfigMap", "a")
    assert server.last("Authorization") == ["Bearer mine"]
    assert server.last("Impersonate-User") == ["bob"]
    assert server.last("Impersonate-Group") == ["dev", "ops"]
    assert server.last("Impersonate-Extra-a%2Fb") == ["c"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "holds no kubeconfig"),
        ("a word", "holds no kubeconfig"),
        ("contexts: {here: there}", "contexts is no list"),
        ("contexts: [{context: {}}]\ncurrent-context: here", "contexts is no list of objects with names"),
        ("contexts: [{name: here, context: none}]\ncurrent-context: here", "context of here is no object"),
        ("contexts: [{name: here, context: {cluster: c}}]", "it has here and no current one: name it with --context"),
        ("contexts: [{name: here}]\ncurrent-context: gone", "its current one, 'gone', is not there; it has here"),
    ],
)
def test_what_is_no_kubeconfig_is_refused_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        Cluster.connect(written(tmp_path / "config", text))


def test_a_proxy_of_the_kind_socks_is_taken(tmp_path: Path) -> None:
    """`ssh -D`, as Kubernetes' own documentation has it. Nothing listens there, and that is what is told."""
    whole = config("https://192.0.2.1:6443")
    whole["clusters"][0]["cluster"]["proxy-url"] = "socks5://127.0.0.1:9"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KUBECONFIG"))}
    command = [sys.executable, "-m", "headrace.cli", "status", "--kubeconfig", written(tmp_path / "config", whole)]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no answer from https://192.0.2.1:6443" in done.stderr and "Traceback" not in done.stderr


def test_a_server_that_is_busy_for_a_moment_is_asked_again(tmp_path: Path, server: Asked) -> None:
    """As kubectl does: a 429 was not looked at."""
    cluster = Cluster.connect(written(tmp_path / "config", config(server.url)))
    server.busy = 1
    assert cluster.get("ConfigMap", "a") is not None
    assert len(server.headers) == 2
