"""Which cluster a kubeconfig means, and as whom: kubectl's own rules, where the Kubernetes client has others or none.

Called by `knative.client`. Of the Kubernetes client's own reading of a kubeconfig certificates, tokens and plugins are
taken. Source: kubernetes/client-go
tools/clientcmd (loader.go: of several files the first that sets a value wins; client_config.go: a token file goes
before a token; merged_client_builder.go: a kubeconfig goes before a pod's own account), rest/transport.go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from eventing.errors import Misconfigured

VARIABLE = "KUBECONFIG"
DEFAULT = "~/.kube/config"

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Document = Mapping[str, Any]
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One context of a kubeconfig."""

    context: str
    namespace: str | None
    """None where the context names none."""
    token_file: Path | None = None
    """Read before each request: who keeps it up to date renews it there."""
    plugin: str | None = None
    """The command that gives the credentials; None: they stand in the kubeconfig."""
    hint: str = ""
    """What the kubeconfig says to somebody who has not installed the plugin."""
    headers: Headers = ()
    """As whom its user wants to be taken, for every request."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What one context leads to."""

    api: Any
    """A kubernetes.client.ApiClient, which brings credentials (and renews them), certificates and connections."""
    namespace: str | None
    headers: Headers = ()


def opened(named: str | None, context: str | None, environ: Mapping[str, str]) -> Opened:
    """The cluster that is meant; no call to it is made yet.

    named: see `files`. context: None takes the current one. Raises Misconfigured.
    """
    # Here, not above: it takes over a second, which a command that talks to no cluster should not pay.
    from kubernetes import client, config

    configuration = client.Configuration()
    # What may be tried again is the caller's to say: a library that repeats a POST makes a second object.
    configuration.retries = False
    try:
        found = files(named, environ)
        if is_pods_own(named, context, found, SERVICE_ACCOUNT / "token"):
            config.load_incluster_config(configuration)
            return Opened(client.ApiClient(configuration), (SERVICE_ACCOUNT / "namespace").read_text().strip())
        documents = read(found)
        chosen = choose(documents, context)
        _load(configuration, [path for path, _ in documents], chosen)
        if not configuration.verify_ssl:
            # Somebody has said insecure-skip-tls-verify: a warning at each request tells them nothing.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return Opened(client.ApiClient(configuration), chosen.namespace, chosen.headers)
    except (config.ConfigException, OSError, ValueError, ImportError) as e:
        wanted = f"context {context!r}" if context else "a current context"
        raise Misconfigured(
            VARIABLE, named or environ.get(VARIABLE) or DEFAULT, f"a kubeconfig with {wanted} that works: {e}"
        ) from e


def files(named: str | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The kubeconfigs that are there, the one that counts most first. Raises OSError for one that may not be seen.

    named: one path, or several separated by `:`; None: as kubectl finds them.
    """
    text = named or environ.get(VARIABLE) or DEFAULT
    return tuple(path for path in (_at_home(part) for part in text.split(":") if part) if path.is_file())


def _at_home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # a pod's user has no home
        return Path(text)


def is_pods_own(named: str | None, context: str | None, found: Sequence[Path], token: Path) -> bool:
    """Whether the cluster around this pod is meant, whose token for it is at `token`: where nothing names another."""
    return named is None and context is None and not found and token.is_file()


def read(found: Iterable[Path]) -> tuple[tuple[Path, Document], ...]:
    """What stands in each file. Raises ValueError for one that is no kubeconfig, OSError."""
    import yaml  # not above: a command that talks to no cluster needs none

    documents = []
    for path in found:
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as e:
            raise ValueError(f"{path} is no YAML: {e}") from e
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ValueError(f"{path} holds no kubeconfig, but {str(document)[:40]!r}")
        documents.append((path, document))
    return tuple(documents)


def choose(documents: Sequence[tuple[Path, Document]], context: str | None) -> Choice:
    """The context of that name, None: the current one. Raises ValueError with what is missing."""
    if not documents:
        raise ValueError("there is no such file, or nothing in it")
    contexts = _named(documents, "contexts", "context")
    wanted = context or next((str(d["current-context"]) for _, d in documents if d.get("current-context")), None)
    there = f"it has {', '.join(contexts) or 'no context'}"
    if wanted is None:
        raise ValueError(f"{there} and no current one: name it with --context")
    if wanted not in contexts:
        raise ValueError(there if context else f"its current one, {wanted!r}, is not there; {there}")
    _, chosen = contexts[wanted]
    path, user = _named(documents, "users", "user").get(str(chosen.get("user")), (documents[0][0], {}))
    plugin = user.get("exec") or {}
    token_file = user.get("tokenFile")
    return Choice(
        wanted,
        str(chosen.get("namespace") or "") or None,
        path.parent.absolute() / token_file if token_file else None,
        str(plugin["command"]) if plugin.get("command") else None,
        str(plugin.get("installHint") or "").strip(),
        tuple(_impersonation(user)),
    )


def _named(
    documents: Sequence[tuple[Path, Document]], list_key: str, key: str
) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """The items of one list by name, each with the file it stands in; of one name the first counts."""
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for path, document in documents:
        items = document.get(list_key) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) and "name" in item for item in items):
            raise ValueError(f"{path}: {list_key} is no list of objects with names")
        for item in items:
            value = item.get(key) or {}
            if not isinstance(value, dict):
                raise ValueError(f"{path}: {key} of {item['name']} is no object")
            found.setdefault(str(item["name"]), (path, value))
    return found


def _impersonation(user: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if user.get("as"):
        yield "Impersonate-User", str(user["as"])
    if user.get("as-uid"):
        yield "Impersonate-Uid", str(user["as-uid"])
    for group in user.get("as-groups") or ():
        yield "Impersonate-Group", str(group)
    for key, values in (user.get("as-user-extra") or {}).items():
        for value in values or ():
            yield f"Impersonate-Extra-{quote(str(key), safe='')}", str(value)


def _load(configuration: Any, found: Sequence[Path], chosen: Choice) -> None:
    """Puts a context's cluster and credentials into `configuration`. Raises ValueError where its plugin gives none."""
    from kubernetes import config

    said: list[str] = []
    # The Kubernetes client tells its log alone why a plugin failed, and goes on as nobody.
    heard = logging.Handler()
    heard.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(heard)
    try:
        config.load_kube_config(":".join(map(str, found)), chosen.context, configuration, persist_config=False)
    finally:
        root.removeHandler(heard)
    if chosen.token_file is not None:
        file = chosen.token_file

        def renew(configuration: Any) -> None:
            with suppress(OSError):  # while it is written anew the last one counts
                configuration.api_key["BearerToken"] = f"Bearer {file.read_text(encoding='utf-8').strip()}"

        configuration.refresh_api_key_hook = renew
        renew(configuration)
    elif chosen.plugin is not None and not (configuration.api_key or configuration.cert_file):
        why = "; ".join(filter(None, (*said, chosen.hint)))
        raise ValueError(f"its credentials are given by {chosen.plugin!r}, which failed: {why}")
