"""Try whether an optimised copy of a package's graph loads quicker here, and keep it in the cache where it does.

    python -m functions.optimise PACKAGE CACHE

The package's graph and the optimised one are loaded in turn, in processes of their own, and the second is kept where it
is clearly quicker or smaller; prints what was found. To be run where a cache outlives the predictors that use it: on a
laptop, on a node, when an image is built. Most models gain nothing, and a pod whose cache dies with it never would:
`python -m tests.bench.sessions`.
Source: onnxruntime, "ORT model format" and "Graph optimizations: offline mode".
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from eventing.errors import Rejected
from functions import model, optimised
from functions.optimised import Loaded, Record
from functions.package import MODEL_FILE, SUMS_FILE

ROUNDS = 3


def keep(package: Path, cache: Path) -> Record:
    """Make the optimised copy, try it, keep it where it pays; what was found out, either way.

    Raises Rejected for a package whose digest is not known or whose graph cannot be served.
    """
    key = optimised.key_of(package, model.ONNXRUNTIME_VERSION)
    if key is None:
        raise Rejected(f"{package.name} has no {SUMS_FILE} that names {MODEL_FILE}")
    folder = optimised.folder_in(cache)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    plain = package / MODEL_FILE
    with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as making:
        copy = Path(making) / "model.ort"
        model.save_optimised(plain, copy)
        tries = [(_try_apart(plain), _try_apart(copy)) for _ in range(ROUNDS)]
        return optimised.put(_best([t[0] for t in tries]), _best([t[1] for t in tries]), copy, folder, key)


def _best(tries: Sequence[Loaded]) -> Loaded:
    return Loaded(min(t.seconds for t in tries), min(t.bytes for t in tries))


def _try_apart(file: Path) -> Loaded:
    """Load `file` in a process of its own: what an earlier load left behind would make the next one quicker."""
    command = [sys.executable, "-m", "functions.optimise", "--load", str(file)]
    return Loaded(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def _try_here(file: Path) -> Loaded:
    is_copy = file.suffix == ".ort"
    before, began = resident_bytes(), time.perf_counter()
    if is_copy:
        optimised.sha256_of(file)  # as each load does
    session = model.open_session(file, optimised=is_copy)
    loaded = Loaded(time.perf_counter() - began, resident_bytes() - before)
    del session
    return loaded


def resident_bytes() -> int:
    """0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m functions.optimise", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("package", type=Path, nargs="?", help="A package's folder.")
    parser.add_argument("cache", type=Path, nargs="?", help="HEADRACE_CACHE of the predictor.")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.load is not None:
        found: Loaded | Record = _try_here(asked.load)
    elif asked.package is None or asked.cache is None:
        parser.error("expected PACKAGE and CACHE")
    else:
        try:
            found = keep(asked.package, asked.cache)
        except Rejected as e:
            sys.stderr.write(f"{e}\n")
            return e.exit_status
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
