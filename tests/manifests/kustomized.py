"""deploy/kustomize as `kubectl kustomize` renders it, for every test that looks at an overlay."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "deploy" / "kustomize"
OVERLAYS = ["base", *sorted(f"overlays/{each.name}" for each in (FOLDER / "overlays").iterdir())]


@functools.cache
def rendered(overlay: str) -> str:
    """The YAML of an overlay, named relative to deploy/kustomize."""
    return build(FOLDER / overlay)


def build(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = _kubectl()
    if kubectl is None:
        pytest.skip("kustomize is part of kubectl, and there is no `kubectl` here")
    # As users call it: no --load-restrictor.
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def objects(overlay: str) -> dict[str, Object]:
    """The objects of an overlay by kind and name."""
    return by_label(yaml.safe_load_all(rendered(overlay)))


def by_label(found: Any) -> dict[str, Object]:
    return {f"{o['kind']} {o['metadata']['name']}": o for o in found}


def _kubectl() -> str | None:
    built = Path(os.environ.get("CLUSTER_BIN") or Path.home() / ".cache" / "headrace" / "cluster-bin")
    return shutil.which("kubectl") or shutil.which("kubectl", path=str(built))
