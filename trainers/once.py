"""One training here and now: `python -m trainers.job --file FILE --trainer T --out DIR`, without event, store and sink.

For `headrace train`, which starts it as a process. Progress goes to stderr, the result as one JSON object to stdout;
exit status 0 done, 65 the file or the parameters cannot work, 73 the folder cannot be written to, 2 misused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from eventing.errors import Rejected
from trainers import training
from trainers.table import BrokenDataset
from trainers.wish import DEFAULT_TRAINER, MAX_DATASET_BYTES, too_large

REASONS_SHOWN = 20  # of a file that cannot be learned from, to a person


def main(arguments: Sequence[str]) -> int:
    """The exit status. stdout: {"model", "version", "package", "scores", …} or {"error", "reasons", "counts", …}."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    log = logging.getLogger("trainers.once")
    try:
        result = _train(options, lambda step, done, what: log.info("%3.0f %%  %-8s %s", 100 * done, step, what))
        status = os.EX_OK
    except BrokenDataset as e:
        result = {
            "error": e.reason,
            "reasons": [asdict(reason) for reason in e.reasons],
            "counts": e.counts,
            "broken_rows": e.broken_rows,
        }
        status = e.exit_status
        for reason in e.reasons[:REASONS_SHOWN]:
            log.error("%s%s", f"line {reason.row}: " if reason.row else "", reason.what)
        if len(e.reasons) > REASONS_SHOWN:
            log.error("and more: all that are kept stand in the result")
    except Rejected as e:
        result, status = {"error": str(e)}, e.exit_status
        log.error("%s", e)
    except OSError as e:
        if e.filename is None or not Path(os.fsdecode(e.filename)).is_relative_to(options.out):
            raise
        result, status = {"error": f"{options.out} cannot be written to: {e.strerror}"}, os.EX_CANTCREAT
        log.error("%s", result["error"])
    json.dump(result, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")
    return status


def _train(options: argparse.Namespace, report: training.Report) -> dict[str, Any]:
    file: Path = options.file
    if (size := file.stat().st_size) > options.max_bytes:
        raise too_large(size, options.max_bytes)
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    now = datetime.now(UTC)
    version = training.new_version(now)
    plan = training.Plan(
        model=options.model or file.stem,
        version=version,
        trainer=options.trainer,
        target=options.target,
        parameters=dict(options.parameter),
        parent=None,
        uri=file.resolve().as_uri(),
        sha256=sha256,
        datasets=(sha256,),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that the package appears there whole: a rename stays within one file system.
    scratch = Path(tempfile.mkdtemp(prefix=".training-", dir=options.out))

    def terminated(signum: int, _: object) -> NoReturn:
        # At once, also inside a library's loop; nothing half is left.
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(128 + signum)

    signal.signal(signal.SIGTERM, terminated)
    try:
        trained = training.train(plan, [file], scratch, now, report)
        package = options.out / version
        trained.package.rename(package)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    manifest = trained.manifest
    return {
        "model": manifest.name,
        "version": version,
        "trainer": manifest.trainer,
        "package": str(package.resolve()),
        "rows": manifest.dataset["rows"],
        "scores": dict(manifest.scores),
        "parity": dict(manifest.parity),
        "notes": list(manifest.parameters["notes"]),
        "broken_rows": trained.rejected.broken_rows if trained.rejected else 0,
        "seconds": manifest.parameters["seconds"],
    }


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainers.job",
        description="Train a model from a file, here and now.",
        epilog="example: python -m trainers.job --file january.csv --trainer random_forest --target late --out models",
    )
    parser.add_argument("--file", type=_file, required=True, help="a .csv or .parquet file")
    parser.add_argument("--trainer", default=DEFAULT_TRAINER, help="default: %(default)s")
    parser.add_argument("--target", help="the column to predict; default: the column called target")
    parser.add_argument("--model", help="the model's name; default: the file's")
    parser.add_argument("--out", type=Path, required=True, help="folder in which the package appears, as OUT/<version>")
    parser.add_argument(
        "--parameter", type=_pair, action="append", default=[], metavar="NAME=VALUE", help="may be given several times"
    )
    parser.add_argument("--max-bytes", type=int, default=MAX_DATASET_BYTES, help="default: %(default)s")
    return parser.parse_args(arguments)


def _file(text: str) -> Path:
    if not (file := Path(text)).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return file


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value
