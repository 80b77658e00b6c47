"""Make the packages of an image lean and ready: remove what nothing there reads, byte-compile the rest.

Run by the Dockerfile with the folder of packages. Each package's RECORD loses the lines of what is gone, so that a
scanner that compares them finds an environment that is whole.
"""

from __future__ import annotations

import argparse
import compileall
import csv
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

# Patterns below the folder of packages, each with its reason.
UNREAD = (
    # Other packages' own tests, and what compilers read, which an image has not: 430 MB of TensorFlow are headers.
    "**/tests",
    "**/include",
    "**/*.[ach]",
    "**/*.hpp",
    # The library for programs in C; the Python module, which has all of it inside, never opens this one: 35 MB.
    "onnxruntime/capi/libonnxruntime.so*",
    # Tools that make models of other models.
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    # Descriptions of 400 services of AWS: 25 MB. A bucket's is read, and those that give out its keys.
    "botocore/data/*/",
)
READ = ("botocore/data/s3", "botocore/data/sts", "botocore/data/sso", "botocore/data/sso-oidc", "botocore/data/signin")


def unread(site: Path) -> Iterator[Path]:
    """Files and folders that may go."""
    kept = {site / name for name in READ}
    for pattern in UNREAD:
        for found in sorted(site.glob(pattern)):
            if found.exists() and found not in kept:
                yield found


def remove(found: Path) -> None:
    if found.is_dir():
        shutil.rmtree(found)
    else:
        found.unlink()


def amend_records(site: Path) -> None:
    """Take the lines of files that are gone out of every RECORD; a script's line leads out of `site` and stays."""
    for record in site.glob("*.dist-info/RECORD"):
        with record.open(newline="", encoding="utf-8") as f:
            rows = list(csv.reader(f))
        with record.open("w", newline="", encoding="utf-8") as f:
            csv.writer(f, lineterminator="\n").writerows(row for row in rows if (site / row[0]).exists())


def compile_all(site: Path) -> bool:
    """Byte code beside each source. It is never compared with its source again: nothing changes in an image."""
    return bool(compileall.compile_dir(site, quiet=1, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="the folder of packages")
    site: Path = parser.parse_args().site
    for found in unread(site):
        remove(found)
    amend_records(site)
    return 0 if compile_all(site) else 1


if __name__ == "__main__":
    sys.exit(main())
