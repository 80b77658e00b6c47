"""What scikit-learn or Keras itself answers: `python -m tests.end_to_end.originals FILE TRAINER PARAMETER=VALUE OUT`.

The same recipe as the platform's Job: the trainers' own reading, split, preprocessing and seeded `fit`. No ONNX is
involved. A process of its own, because TensorFlow changes the process that it is imported into.

OUT: an .npz of the held-out rows' labels (class indices) and probabilities, and beside it OUT.json with those rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from trainers import trainer, training
from trainers.preprocessing import Preprocessing


def answer(file: Path, name: str, parameter: str, out: Path) -> None:
    kind = trainer.find(name)
    common, own = trainer.parameters(kind.Parameters, dict([parameter.split("=", 1)]))
    data, _ = training.read([file], None, common.max_broken_share)
    learned, held = training.split(data, common.test_share, common.seed)
    preprocessing = Preprocessing.fit(learned.columns, common.top_categories, kind.SCALED)
    fitted = kind.fit(
        preprocessing.transform(learned.columns),
        learned.labels,
        len(data.classes),
        own,
        common.seed,
        lambda done, what: None,
    )
    labels, probabilities = fitted.predict(preprocessing.transform(held.columns))
    np.savez(out, labels=np.asarray(data.classes)[labels], probabilities=probabilities)
    inputs = {name: tensor[:, 0].tolist() for name, tensor in held.inputs().items()}
    rows = [dict(zip(inputs, map(_json, row), strict=True)) for row in zip(*inputs.values(), strict=True)]
    out.with_suffix(".json").write_text(json.dumps(rows))


def _json(value: Any) -> Any:
    """A cell as a request spells it: what is missing is null."""
    return None if value == "" or value != value else value


if __name__ == "__main__":
    answer(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
