"""Interpreters that tell of every pickle: what stands for an image here is a script that starts Python with a hook.

The platform gives its processes a clean environment, so the hook cannot come from outside; but which interpreter stands
for an image is an option of `headrace up`, and the script sets PYTHONPATH before it becomes that interpreter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from headrace import daemon

RECORD = "pickles.log"
HOOK = '''
"""Writes down each use of pickle in this process, and who asked for it."""
import os, sys, traceback

RECORD = {record!r}

def _tell(what):
    frames = [f for f in traceback.extract_stack() if "sitecustomize" not in f.filename]
    stack = [f"{{f.filename}}:{{f.lineno}}" for f in frames]
    with open(RECORD, "a") as f:
        f.write(f"{{what}} in {{' '.join(sys.orig_argv)}} by {{' < '.join(reversed(stack[-12:]))}}\\n")

def _audit(event, arguments):
    if event == "pickle.find_class":
        _tell(f"{{event}} {{arguments}}")

sys.addaudithook(_audit)

import pickle

def _watched(name):
    original = getattr(pickle, name)
    if isinstance(original, type):
        class Watched(original):
            def __init__(self, *args, **kwargs):
                _tell(name)
                super().__init__(*args, **kwargs)
        Watched.__name__ = Watched.__qualname__ = name
        return Watched
    def watched(*args, **kwargs):
        _tell(name)
        return original(*args, **kwargs)
    return watched

# The audit hook hears of classes that are looked up; plain values are pickled without one.
for _name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler"):
    setattr(pickle, _name, _watched(_name))

with open(RECORD + ".starts", "a") as f:
    f.write(' '.join(sys.orig_argv) + "\\n")
'''


def interpreters(folder: Path, images: Mapping[str, str]) -> dict[str, str]:
    """An interpreter for every image of ours, `images`' own where one is named. `told(folder)` is what they tell."""
    hooks = folder / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK.format(record=str(record(folder))))
    made = {}
    for image in (*daemon.FUNCTIONS_IMAGES, "ghcr.io/headrace/trainers"):
        script = folder / image.rpartition("/")[2]
        python = images.get(image, sys.executable)
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{hooks}" exec "{python}" "$@"\n')
        script.chmod(0o755)
        made[image] = str(script)
    return made


def record(folder: Path) -> Path:
    return folder / RECORD


def told(folder: Path) -> list[str]:
    """Each use of pickle, by whom."""
    return record(folder).read_text().splitlines() if record(folder).exists() else []


def starts(folder: Path) -> set[str]:
    """The modules of the processes that were watched."""
    lines = Path(f"{record(folder)}.starts").read_text().splitlines()
    return {words[2] for line in lines if (words := line.split())[1:2] == ["-m"]}
