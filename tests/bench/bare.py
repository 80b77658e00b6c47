"""A training without a loop: `python -m tests.bench.bare FILE TRAINER TARGET FOLDER`, one process from start to end."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from trainers import training


def main(file: Path, trainer: str, target: str, into: Path) -> None:
    now = datetime.now(UTC)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    version = training.new_version(now)
    plan = training.Plan("bare", version, trainer, target, {}, None, file.as_uri(), digest, (digest,))
    training.train(plan, [file], into, now, lambda step, share, what: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
