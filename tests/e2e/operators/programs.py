"""Programs out of Go modules, built once per machine and kept where the next run finds them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

BUILD_S = 7200.0


def built(build: Path, name: str, made_of: Sequence[Path]) -> Path:
    """The folder `build FOLDER` fills, which leaves what is there. made_of: files; others make another folder."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in made_of)).hexdigest()[:12]
    folder = Path.home() / ".cache/headrace/operators" / f"{name}-{digest}"
    done = subprocess.run([build, folder], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, f"{build} ended with {done.returncode}\n{done.stderr[-4000:]}"
    return folder
