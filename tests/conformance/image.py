"""The image of the suite's containers in a cluster: any with a `python`; where none is named, one made here.

Made of this machine's own interpreter by the program `image` of a cluster kit, which puts it into the containerd of the
node on this machine: no registry is asked. CLUSTER_KIT names the kit's folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

NAME = "dev.local/headrace/conformance:1"
KIT = Path(__file__).parents[3] / "shared" / "cluster"
# The program needs the standard library alone, and of that neither tests nor toys.
LEFT_OUT = (
    r"^/usr/local/lib/python3\.\d+/(test|idlelib|lib2to3|tkinter|turtledemo|ensurepip|config-.*|site-packages)/",
    r"^/usr/local/lib/(pkgconfig|.*\.a$)",
    r"/__pycache__/.*\.opt-\d\.pyc$",
    r"/_tkinter\.",
)


def name() -> str:
    """What CONFORMANCE_IMAGE says, else the image made here."""
    given = os.environ.get("CONFORMANCE_IMAGE")
    if given:
        return given
    program = Path(os.environ.get("CLUSTER_KIT", KIT)) / "image"
    assert program.is_file(), f"CONFORMANCE_IMAGE names no image, and {program} is not there to make one"
    subprocess.run([str(program), NAME, *_layers()], check=True, capture_output=True, text=True, timeout=300)
    return NAME


def _layers() -> list[str]:
    python = Path(sys.executable).resolve()
    base = Path(sys.base_prefix)
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    words = ["--add", f"{python}:/usr/local/bin/python", "--add", f"{base / 'lib'}:/usr/local/lib"]
    words += ["--libs-of", str(python), "--libs-of", str(library / "lib-dynload")]
    for pattern in LEFT_OUT:
        words += ["--exclude", pattern]
    words += ["--env", "LD_LIBRARY_PATH=/usr/local/lib", "--env", "PYTHONUNBUFFERED=1", "--workdir", "/tmp"]
    return [*words, "--entrypoint", '["python"]']
