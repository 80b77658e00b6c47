"""What the commands need to know before they start: read once, from options and their `HEADRACE_` twins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eventing.errors import Misconfigured
from headrace.local.gateway import request_files

NAMESPACE = "headrace"
BROKER = "default"
CONFIG_MAP = "headrace"  # the one object whose values differ from place to place
DEFAULT_PORT = 8080


@dataclass(frozen=True, slots=True)
class Config:
    """Where the platform of this laptop keeps its things, and which cluster the commands talk to."""

    home: Path
    """`--home`, HEADRACE_HOME: objects, journal, store, logs, drop folder and kubeconfig of the laptop's platform."""
    kubeconfig: Path | None
    """`--kubeconfig`, HEADRACE_KUBECONFIG: talk to this cluster instead of the platform in `home`."""

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], home: Path | None = None, kubeconfig: Path | None = None
    ) -> Config:
        """Options win over the environment, the environment over the default `~/.headrace`.

        Raises Misconfigured when the home is a file, or a kubeconfig was named that is not there.
        """
        chosen = home or Path(environ.get("HEADRACE_HOME") or "~/.headrace")
        chosen = chosen.expanduser().absolute()
        if chosen.exists() and not chosen.is_dir():
            raise Misconfigured("HEADRACE_HOME", str(chosen), "a folder, or a path where one can be made")
        named = kubeconfig or (Path(k) if (k := environ.get("HEADRACE_KUBECONFIG")) else None)
        if named is not None and not named.expanduser().is_file():
            raise Misconfigured("HEADRACE_KUBECONFIG", str(named), "a kubeconfig file")
        return cls(home=chosen, kubeconfig=named.expanduser().absolute() if named else None)

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


def current() -> Config:
    """The configuration of this command, from its environment."""
    return Config.from_environment(os.environ)
