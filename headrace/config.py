"""What the commands need to know before they start: read once, from options and their `HEADRACE_` twins."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from eventing.errors import Misconfigured
from headrace.local.gateway import request_files

NAMESPACE = "headrace"
BROKER = "default"
CONFIG_MAP = "headrace"  # the one object whose values differ from place to place
DEFAULT_PORT = 8080

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Config:
    """Where the platform of this laptop keeps its things, and which cluster the commands talk to."""

    home: Path
    """`--home`, HEADRACE_HOME: objects, journal, store, logs, drop folder and kubeconfig of the laptop's platform."""
    kubeconfig: Path | None
    """`--kubeconfig`, HEADRACE_KUBECONFIG: talk to this cluster instead of the platform in `home`."""
    context: str | None = None
    """`--context`, HEADRACE_CONTEXT: of that kubeconfig, or of kubectl's own, and then that cluster is talked to."""
    namespace: str | None = None
    """`--namespace`, HEADRACE_NAMESPACE; None: the context's, and `headrace` where it names none."""
    gateway: str | None = None
    """`--gateway`, HEADRACE_GATEWAY: where a cluster's Knative Services answer by their Host."""

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        home: Path | None = None,
        kubeconfig: Path | None = None,
        context: str | None = None,
        namespace: str | None = None,
        gateway: str | None = None,
    ) -> Config:
        """Options win over the environment, the environment over the default `~/.headrace`.

        Raises Misconfigured when the home is a file, a kubeconfig was named that is not there, a namespace that cannot
        be one, or a gateway that is no address.
        """
        chosen = home or Path(environ.get("HEADRACE_HOME") or "~/.headrace")
        chosen = _seen("HEADRACE_HOME", chosen).absolute()
        if chosen.exists() and not chosen.is_dir():
            raise Misconfigured("HEADRACE_HOME", str(chosen), "a folder, or a path where one can be made")
        named = kubeconfig or (Path(k) if (k := environ.get("HEADRACE_KUBECONFIG")) else None)
        if named is not None and not _seen("HEADRACE_KUBECONFIG", named).is_file():
            raise Misconfigured("HEADRACE_KUBECONFIG", str(named), "a kubeconfig file")
        space = namespace or environ.get("HEADRACE_NAMESPACE") or None
        if space is not None and not _LABEL.fullmatch(space):
            raise Misconfigured("HEADRACE_NAMESPACE", space, "a namespace: at most 63 of a-z, 0-9 and hyphens")
        return cls(
            home=chosen,
            kubeconfig=named.expanduser().absolute() if named else None,
            context=context or environ.get("HEADRACE_CONTEXT") or None,
            namespace=space,
            gateway=_gateway(gateway or environ.get("HEADRACE_GATEWAY")),
        )

    @property
    def names_a_cluster(self) -> bool:
        """Whether another place than the platform in `home` is meant."""
        return self.kubeconfig is not None or self.context is not None

    @property
    def drop_folder(self) -> Path:
        """A file copied to `<drop_folder>/<dataset>/` is learned from."""
        return self.home / "drop"

    @property
    def request_files(self) -> tuple[Path, ...]:
        """The gateway's journal of requests, the oldest first; it is there whether the platform runs or not."""
        return request_files.requests(self.home)

    @property
    def pod_files(self) -> tuple[Path, ...]:
        """The journal of pods beside it: what each start took."""
        return request_files.pods(self.home)


def _seen(key: str, path: Path) -> Path:
    """The path, `~` made out. Raises Misconfigured where one may not even look at it, or `~` is nobody's."""
    try:
        whole = path.expanduser()
        whole.exists()
    except (OSError, RuntimeError) as e:
        raise Misconfigured(key, str(path), f"a path that can be looked at ({e})") from e
    return whole


def _gateway(text: str | None) -> str | None:
    """HEADRACE_GATEWAY as a URL without a path. Raises Misconfigured."""
    if not text:
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise Misconfigured("HEADRACE_GATEWAY", text, "the address of the cluster's gateway, e.g. http://192.0.2.10:80")
    return f"{parts.scheme}://{parts.netloc}"


def current() -> Config:
    """The configuration of this command, from its environment."""
    return Config.from_environment(os.environ)
