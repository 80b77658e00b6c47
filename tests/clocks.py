"""Programs whose clock is off, on this machine or in an image."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def library(folder: Path) -> Path | None:
    """What is preloaded into them, compiled into `folder`; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    made = folder / "clocks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(SOURCE)], check=True)
    return made


def environ(library: str, offset_s: int) -> Mapping[str, str]:
    """The variables of a program whose clock is `offset_s` ahead; `library` as it finds it."""
    return {"LD_PRELOAD": library, "CLOCK_OFFSET_S": str(offset_s)}
